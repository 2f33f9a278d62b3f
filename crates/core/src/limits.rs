//! Every bound of the core, by name.

/// The most channels that one device samples.
pub const CHANNELS_MAX: usize = 16;
/// The longest channel name in bytes.
pub const CHANNEL_NAME_LEN: usize = 24;
/// The longest unit in bytes (SenML or UCUM spelling, such as `Cel` or `m/s2`).
pub const UNIT_LEN: usize = 8;
/// The longest name of a trace in bytes: a channel's, a slash and a feature's.
pub const TRACE_NAME_LEN: usize = 48;
/// The longest detector name in bytes.
pub const DETECTOR_NAME_LEN: usize = 32;
/// The longest window in samples.
pub const WINDOW_LEN_MAX: usize = 65_536;
/// The most feature entries that a detector file names.
pub const FEATURES_MAX: usize = 256;
/// The longest feature vector.
pub const FEATURE_VECTOR_LEN_MAX: usize = 4_096;
/// The most layers of a network.
pub const LAYERS_MAX: usize = 32;
/// The widest layer of a network.
pub const LAYER_WIDTH_MAX: usize = 4_096;
/// The most vectors that a nearest-neighbour model stores.
pub const NEIGHBOURS_MAX: usize = 4_096;
/// The most recurrent layers of an encoder or a decoder.
pub const RECURRENT_LAYERS_MAX: usize = 8;
/// The most vectors in a window of a recurrent network.
pub const RECURRENT_STEPS_MAX: usize = 4_096;
/// The most windows that a recurrent network has under way at once.
pub const RECURRENT_LANES_MAX: usize = 64;
/// The greatest magnitude of a weight or bias of a recurrent network, so that its sums stay finite.
pub const RECURRENT_WEIGHT_ABS_MAX: f32 = 1.0e6;
/// The most numbers between two layers of a convolution network.
pub const CONVOLUTION_NUMBERS_MAX: usize = 65_536;
/// The longest step of a convolution, and the most often that it repeats its input.
pub const CONVOLUTION_STEP_MAX: u16 = 16;
/// The largest detector file in bytes.
pub const DETECTOR_FILE_LEN_MAX: usize = 16 * 1024 * 1024;
/// The longest provenance text in bytes.
pub const PROVENANCE_LEN_MAX: usize = 4_096;
/// The most traces (signal and reconstruction) that a detector reports.
pub const TRACES_MAX: usize = 16;
/// The most windows over which the decision counts.
pub const DECISION_WINDOWS_MAX: usize = 32;
/// The most windows over which scores are smoothed.
pub const SMOOTHING_WINDOWS_MAX: usize = 65_536;
/// The most experts of an online learner that watch one number.
pub const LEARNER_EXPERTS_MAX: usize = 16;
/// The most vectors in a block of an online learner.
pub const LEARNER_BLOCK_LEN_MAX: u32 = 65_536;
/// The longest mean, wait or hold of an online learner; single precision counts it exactly.
pub const LEARNER_LEN_MAX: u32 = 1 << 23;
/// The highest order of an online learner's prediction.
pub const LEARNER_ORDER_MAX: usize = 64;
/// The most blocks that an expert of an online learner remembers.
pub const LEARNER_HISTORY_LEN_MAX: usize = 65_536;
/// The most words of memory of an online learner.
pub const LEARNER_MEMORY_WORDS_MAX: usize = 1 << 22;
/// The magnitude to which a scaled feature is clamped, so that later arithmetic stays finite.
pub const SCALED_FEATURE_ABS_MAX: f32 = 1.0e6;

/// The longest uplink message in bytes that a server accepts.
pub const MESSAGE_LEN_MAX: usize = 16 * 1024;
/// The most records in one uplink message.
pub const MESSAGE_RECORDS_MAX: usize = 2_048;
/// The longest SenML name in bytes, base name included.
pub const SENML_NAME_LEN_MAX: usize = 128;
/// The longest SenML text value in bytes.
pub const SENML_TEXT_LEN_MAX: usize = 512;
/// The longest device identity in bytes.
pub const DEVICE_ID_LEN_MAX: usize = 64;

/// The bytes of one outbox slot, and so the longest message that a device sends.
pub const OUTBOX_SLOT_LEN: usize = 1_024;
/// The most messages that a device holds until they are acknowledged.
pub const OUTBOX_SLOTS_MAX: usize = 16;
/// The largest magnitude that a sensor's range may name, so that sums of squares stay finite.
pub const SENSOR_RANGE_ABS_MAX: f32 = 1.0e9;
/// The most trees of a forest.
pub const TREES_MAX: usize = 4_096;
/// The most classes between which a random forest tells.
pub const FOREST_CLASSES_MAX: usize = 16;
/// The most random features of a one-class SVM.
pub const ONE_CLASS_FEATURES_MAX: usize = 4_096;

// The sealed session.

/// The longest sealed frame in bytes: the longest uplink message, its kind, and what seals it.
pub const SEALED_FRAME_LEN_MAX: usize = MESSAGE_LEN_MAX + 31;
/// The newest counters that a replay window remembers one by one.
pub const SEALED_WINDOW_LEN: u64 = 2_048;
/// The frames of one direction after which a device renews its session.
pub const SEALED_REKEY_FRAMES: u64 = 1 << 20;
/// The age at which a device renews its session.
pub const SEALED_REKEY_TIME_MS: u64 = 60 * 60 * 1_000;
/// The frames of one direction that a session carries at most; then it is dead.
pub const SEALED_SESSION_FRAMES_MAX: u64 = 2 * SEALED_REKEY_FRAMES;
/// The age at which a session is dead.
pub const SEALED_SESSION_TIME_MAX_MS: u64 = 2 * SEALED_REKEY_TIME_MS;
/// The wait after a handshake without an answer; it doubles ...
pub const SEALED_HANDSHAKE_WAIT_MS: u64 = 2_000;
/// ... up to this.
pub const SEALED_HANDSHAKE_WAIT_MAX_MS: u64 = 60_000;
/// The most runs of counters in one acknowledgement.
pub const SEALED_ACKNOWLEDGED_RUNS_MAX: usize = 64;
/// The longest text in a provisioning image, in bytes.
pub const PROVISION_TEXT_LEN_MAX: usize = 255;
/// The longest certificate or key in a provisioning image, in bytes.
pub const PROVISION_VALUE_LEN_MAX: usize = 2_048;

// Updates.

/// The bytes of a release's chunk, all but the last.
pub const RELEASE_CHUNK_LEN: usize = 1_024;
/// The most hashes in the proof of a chunk.
pub const RELEASE_PROOF_LEN_MAX: usize = 14;
/// The largest image of a release in bytes: as many chunks as their proofs can tell apart.
pub const RELEASE_IMAGE_LEN_MAX: u32 = (RELEASE_CHUNK_LEN as u32) << RELEASE_PROOF_LEN_MAX;
/// The longest manifest or key document with its signatures, in bytes.
pub const RELEASE_DOCUMENT_LEN_MAX: usize = 1_024;
/// The longest hardware class or version in a manifest, in bytes.
pub const RELEASE_TEXT_LEN_MAX: usize = 32;
/// The most root keys of a key document, and the most signatures.
pub const ROOT_KEYS_MAX: usize = 5;
/// The most release keys of a key document.
pub const RELEASE_KEYS_MAX: usize = 5;
/// The most revoked keys that a key document names.
pub const REVOKED_KEYS_MAX: usize = 16;
/// Flash is read and written in units of so many bytes; a flash's own units divide it.
pub const UPDATE_FLASH_UNIT_LEN: usize = 32;
/// The most records in one block of an updater's journal.
pub const UPDATE_JOURNAL_RECORDS_MAX: u32 = 64;
/// The time without a new chunk after which a release is given up.
pub const UPDATE_RECEIVING_TIME_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// The time that hashing an image may take.
pub const UPDATE_VERIFYING_TIME_MAX_MS: u64 = 10 * 60 * 1_000;
/// The time that a device may wait before it switches to a release.
pub const UPDATE_STAGED_TIME_MAX_MS: u64 = 60 * 60 * 1_000;
/// The time in which a release on trial has to be found healthy, from each start on.
pub const UPDATE_TRIAL_TIME_MAX_MS: u64 = 10 * 60 * 1_000;
/// The most starts of a device whose release is on trial.
pub const UPDATE_TRIAL_BOOTS_MAX: u8 = 3;
/// The most chunks that a server sends after a status before it waits for the next.
pub const UPDATE_WINDOW_LEN: u8 = 16;
/// The new chunks after which a device sends its status.
pub const UPDATE_STATUS_CHUNKS: u8 = 8;
/// The time after which a device that receives sends its status again.
pub const UPDATE_STATUS_TIME_MS: u64 = 30 * 1_000;
