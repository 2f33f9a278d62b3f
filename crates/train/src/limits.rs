//! Every bound of the trainer, with its name.

/// Most layers a network may have.
pub const NETWORK_LAYERS_MAX: usize = 64;
/// Most inputs or outputs of one layer: so many int8 products and a bias fit into an i32.
pub const NETWORK_WIDTH_MAX: usize = 32_768;
/// Most rows one fit takes; the order of rows is held in u32.
pub const FIT_ROWS_MAX: usize = 100_000_000;
/// Most rows of a minibatch.
pub const FIT_BATCH_MAX: usize = 65_536;
/// Parts that a recurrent network's batch is shared out in; part of the result, as sums are rounded.
pub const RECURRENT_SHARDS: usize = 4;
/// Fewest chunks of a stream that a forecaster is trained on, behind its warm-up.
pub const RECURRENT_STREAM_CHUNKS_MIN: usize = 8;
/// Greatest share of a network's weights that pruning takes out.
pub const PRUNE_SHARE_MAX: f64 = 0.95;
/// Loss of AUC by quantisation above which a network learns to live with rounding.
pub const INT8_AUC_LOSS_MAX: f64 = 0.01;
/// Most held-out rows, and most training rows, of a trial of quantised models.
pub const TRIAL_ROWS_MAX: usize = 512;
/// Most rows that ranges are taken from in each epoch of training with rounding.
pub const AWARE_CALIBRATION_ROWS_MAX: usize = 1_024;
/// Greatest magnitude of a quantised bias, which leaves room for the sum of the products.
pub const BIAS_STEPS_MAX: i32 = 1 << 30;
/// Longest feature vector whose covariance is fitted: its decomposition takes the cube of this.
pub const COVARIANCE_WIDTH_MAX: usize = 1_024;
/// Most values of one layer that calibration keeps to find a percentile.
pub const CALIBRATION_VALUES_MAX: usize = 1_000_000;
/// Fewest normal scores that a quantile threshold rests on.
pub const THRESHOLD_SCORES_MIN: usize = 20;
/// Fewest scores above the initial quantile that a tail is fitted to.
pub const POT_EXCESSES_MIN: usize = 20;
/// Largest `.tflite` file written, in bytes; its offsets are signed 32-bit.
pub const TFLITE_LEN_MAX: usize = 1 << 30;

/// Largest file of a recording, in bytes; it is read as a whole.
pub const RECORDING_BYTES_MAX: u64 = 4 << 30;
/// A text is cut for reading side by side into parts of no fewer bytes.
pub const RECORDING_PART_BYTES_MIN: usize = 1 << 20;
/// Most columns of a file.
pub const RECORDING_COLUMNS_MAX: usize = 16_384;
/// Most columns that may become channels.
pub const RECORDING_CHANNELS_MAX: usize = 4_096;
/// Rows by which the meaning of columns is recognised.
pub const RECORDING_SAMPLE_ROWS: usize = 64;
/// A step of the clock longer than this many periods starts a segment, unless told otherwise: one lost sample does not.
pub const GAP_FACTOR_DEFAULT: f64 = 2.5;
/// Longest buffer of the volumes under the surface, in rows.
pub const VOLUME_WINDOW_MAX: usize = 1_000;
/// Most points that a curve is drawn with; longer ones are thinned to minima and maxima.
pub const PLOT_POINTS_MAX: usize = 4_000;
/// Most rows of one synthetic recording.
pub const SYNTH_ROWS_MAX: usize = 100_000_000;

/// Longest message of a power meter, in bytes.
pub const METER_MESSAGE_LEN_MAX: usize = 65_536;
/// Most readings that a capture keeps.
pub const CAPTURE_READINGS_MAX: usize = 10_000_000;
/// Largest file of captured messages, in bytes; it is read as a whole.
pub const METER_FILE_BYTES_MAX: u64 = 1 << 30;
/// Most samples of the waveform in a meter's row.
pub const METER_WAVEFORM_LEN_MAX: usize = 100_000;
/// Most rows that a one-class SVM is fitted to; of more, so many are drawn.
pub const ONE_CLASS_ROWS_MAX: usize = 10_000;
/// Most entries of its kernel matrix that are kept.
pub const ONE_CLASS_CACHE_LEN_MAX: usize = 1 << 26;
/// Rows over which its form for the device is found.
pub const ONE_CLASS_PROJECTION_ROWS: usize = 2_000;
