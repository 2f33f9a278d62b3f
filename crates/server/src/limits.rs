//! Every bound of the server, by name. Hitting one is counted, logged and visible.

use std::time::Duration;

use crate::access::Pace;

// MQTT
/// The longest MQTT packet that is read: the longest message, and room for topic and header.
pub const MQTT_PACKET_LEN_MAX: usize = stonechat_core::limits::MESSAGE_LEN_MAX + 1024;
/// The longest CONNECT packet that is read: identity, token and a last will.
pub const MQTT_CONNECT_LEN_MAX: usize = 4_096;
/// The most MQTT connections at one time.
pub const MQTT_CONNECTIONS_MAX: usize = 20_000;
/// The connections that wait in the operating system's queue.
pub const MQTT_BACKLOG: u32 = 1_024;
/// The most MQTT handshakes under way at one time; further ones wait.
pub const MQTT_HANDSHAKES_MAX: usize = 1_000;
/// How long a client may take for its TLS handshake, and again to say who it is.
pub const MQTT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The sources whose connecting is counted one by one.
pub const MQTT_SOURCES_MAX: usize = 16_384;
/// The most handshakes of one source (an IPv4 address, or an IPv6 network of 64 bits) at one time.
pub const MQTT_SOURCE_HANDSHAKES_MAX: usize = 250;
/// The connections that one source may open in a second, in the long run.
pub const MQTT_SOURCE_CONNECTS_PER_S: f64 = 1_000.0;
/// The connections that one source may open at once.
pub const MQTT_SOURCE_CONNECTS_BURST: f64 = 4_000.0;
/// The bytes that are read at once.
pub const MQTT_READ_LEN: usize = 16 * 1024;
/// The most messages of one connection that are stored in one go.
pub const MQTT_BATCH_MAX: usize = 64;
/// The most messages of quality 1 and 2 that an MQTT 5 client has in flight at one time.
pub const MQTT_IN_FLIGHT_MAX: u16 = 64;
/// The most messages of quality 2 that a client has not released; 3.1.1 cannot announce fewer.
pub const MQTT_RELEASES_MAX: usize = 1_024;
/// The most subscriptions of one client.
pub const MQTT_SUBSCRIPTIONS_MAX: usize = 8;
/// The longest topic, in bytes.
pub const MQTT_TOPIC_LEN_MAX: usize = 256;
/// The most levels of a topic.
pub const MQTT_TOPIC_LEVELS_MAX: usize = 8;
/// The most messages that wait to be sent to one device.
pub const MQTT_QUEUE_LEN_MAX: usize = 100;
/// The most messages that are sent to one device without its acknowledgement.
pub const MQTT_DOWNLINK_IN_FLIGHT_MAX: usize = 8;
/// How long a device may take to acknowledge a message.
pub const MQTT_DOWNLINK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to accept what it is sent.
pub const MQTT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that is cut waits for messages that are just being stored.
pub const MQTT_CUT_GRACE: Duration = Duration::from_millis(300);
/// How long a connection that ends waits for the client's end.
pub const MQTT_LINGER: Duration = Duration::from_millis(500);
/// How long connections may take to end at a stop.
pub const MQTT_STOP_GRACE: Duration = Duration::from_secs(5);

/// The longest token that is compared; a real one has 43 characters.
pub const TOKEN_LEN_MAX: usize = 128;
/// The random bytes in a device's token.
pub const TOKEN_BYTES: usize = 32;

/// The longest unit that is stored, in bytes.
pub const UNIT_LEN_MAX: usize = 32;
/// The longest channel name that is stored, in bytes.
pub const CHANNEL_NAME_LEN_MAX: usize = 96;
/// The most channels of one device; readings of further ones are rejected.
pub const CHANNELS_PER_DEVICE_MAX: usize = 256;
/// A device whose clock is ahead by more than this is taken to have none.
pub const CLOCK_AHEAD_MAX_MS: i64 = 60 * 60 * 1000;
/// A device whose clock is before 2000-01-01 is taken to have none.
pub const CLOCK_EARLIEST_MS: i64 = 946_684_800_000;
/// How long no sample may be rejected until a sensor fault is over.
pub const SENSOR_FAULT_QUIET_MS: i64 = 10_000;

/// The most commands that wait for the writer.
pub const WRITER_QUEUE_LEN: usize = 4_096;
/// The most messages that wait for the writer.
pub const WRITER_MESSAGES_MAX: usize = 32_768;
/// The messages with which a transaction is full.
pub const BATCH_MESSAGES_MAX: usize = 8_192;
/// The length from which packed messages are one row of the tail, in bytes.
pub const TAIL_ROW_LEN: usize = 32 * 1024;
/// The messages that are shown to the readers in one go.
pub const EFFECTS_PER_LOCK: usize = 256;
/// How long a reader waits for the writer to show what it has just committed.
pub const SNAPSHOT_RETRY: Duration = Duration::from_micros(50);
/// How many sequence numbers below the highest one are remembered one by one.
pub const SEQUENCE_WINDOW: u32 = 64;
/// The most sessions of one device whose sequence numbers are remembered.
pub const SESSIONS_PER_DEVICE_MAX: usize = 8;
/// The newest digests of one device's messages that are remembered.
pub const DIGESTS_PER_DEVICE_MAX: usize = 1_024;
/// The longest key of a record, in bytes.
pub const RECORD_KEY_LEN_MAX: usize = 255;
/// The longest text of a record, in bytes.
pub const RECORD_BODY_LEN_MAX: usize = 64 * 1024;
/// The changes of records for which a deleted record stays visible to who asks what changed.
pub const RECORD_DELETIONS_KEPT: u64 = 65_536;
/// The points of a full chunk.
pub const CHUNK_POINTS: usize = 360;
/// The longest chunk that is decoded, in points.
pub const CHUNK_POINTS_MAX: usize = 4_096;
/// The fewest readings in the tail that start a compaction.
pub const COMPACT_READINGS_MIN: usize = 65_536;
/// The readings for each channel that start a compaction, if that is more.
pub const COMPACT_READINGS_PER_CHANNEL: usize = 128;
/// The most readings that the tail holds before a compaction starts.
pub const COMPACT_READINGS_MAX: usize = 1_000_000;
/// The most messages that the tail holds before a compaction starts.
pub const COMPACT_MESSAGES_MAX: usize = 262_144;
/// The age of the tail at which a compaction starts.
pub const COMPACT_AGE: Duration = Duration::from_secs(15 * 60);
/// The readings that one step of a compaction takes at least.
pub const COMPACT_READINGS_PER_STEP: usize = 8_192;
/// The rows that one step of a compaction deletes from the tail.
pub const COMPACT_DELETES_PER_STEP: i64 = 128;
/// The minutes whose summaries are kept in one row.
pub const MINUTES_PER_BLOCK: i64 = 60;
/// The hours whose summaries are kept in one row.
pub const HOURS_PER_BLOCK: i64 = 48;
/// The chunks, and the rows of each other class, that one step of the retention deletes.
pub const RETENTION_DELETES_PER_STEP: i64 = 256;
/// How often the writer looks whether something is due.
pub const WRITER_TICK: Duration = Duration::from_secs(1);
/// How long the writer rests after a transaction that failed.
pub const WRITER_FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// The connections that read the database at one time.
pub const READERS_MAX: usize = 4;
/// How long a connection waits for a lock that another process holds.
pub const DATABASE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pages of the database cache of the writer, in KiB.
pub const WRITER_CACHE_KIB: i64 = 8_192;
/// The pages of the database cache of each reader, in KiB.
pub const READER_CACHE_KIB: i64 = 2_048;
/// The transactions after which the write-ahead log is merged into the database.
pub const CHECKPOINT_TRANSACTIONS: u32 = 4_000;
/// The pages in the write-ahead log at which SQLite merges it while messages wait.
pub const CHECKPOINT_PAGES: i64 = 32_768;

// MySQL and the spool.

/// The longest message in the spool, in bytes.
pub const SPOOL_FRAME_LEN_MAX: usize = 4 * 1024 * 1024;
/// The length at which the spool begins another file.
pub const SPOOL_SEGMENT_LEN: u64 = 16 * 1024 * 1024;
/// The most bytes of messages that wait on disk while the database is away; more are not taken.
pub const SPOOL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The messages of the spool that go to the database in one transaction. A crash can bring one such
/// batch twice, so that it is no longer than the digests that are remembered of a device.
pub const SPOOL_DRAIN_MESSAGES: usize = 1_024;
/// The most readings in one transaction, unless a single message has more.
pub const MYSQL_BATCH_READINGS_MAX: usize = 32_768;
/// The most rows in one statement.
pub const MYSQL_ROWS_PER_STATEMENT: usize = 1_024;
/// The connections that read at one time.
pub const MYSQL_READERS_MAX: u32 = 8;
/// A connection that reads is asked whether it lives once it was idle for longer than this.
pub const MYSQL_IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// How long connecting may take, and waiting for a connection that reads.
pub const MYSQL_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a transaction may take before the database counts as away.
pub const MYSQL_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is tried whether a database that was away is back.
pub const MYSQL_PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How often a transaction is tried again that met another gateway's.
pub const MYSQL_CONFLICT_TRIES: u32 = 5;
/// How old the picture of the devices may be that other gateways write to.
pub const MYSQL_FLEET_REFRESH: Duration = Duration::from_secs(1);
/// The devices that one statement reads.
pub const MYSQL_DEVICES_PER_STATEMENT: usize = 256;
/// The runs of sequence numbers of one session that are remembered; beyond, the oldest gaps count
/// as filled.
pub const SEQUENCE_RUNS_MAX: usize = 64;
/// How often it is looked for what is older than is kept.
pub const MYSQL_RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// The channels that one step of this looks at.
pub const MYSQL_RETENTION_CHANNELS: u32 = 64;
/// The readings that one step of this moves into summaries.
pub const MYSQL_RETENTION_READINGS: u32 = 10_000;
/// The readings that are summarised at once when a long time is asked for.
pub const MYSQL_SUMMARISE_READINGS: usize = 65_536;
/// The messages at which a transaction takes no more.
pub const MYSQL_BATCH_MESSAGES_MAX: usize = 4_096;

/// The newest scores that a device's summary shows.
pub const RECENT_SCORES: usize = 60;
/// The most devices in one answer.
pub const DEVICES_PAGE_MAX: usize = 500;
/// The devices in one answer, unless asked otherwise.
pub const DEVICES_PAGE: usize = 100;
/// The most alarms in one answer.
pub const ALARMS_PAGE_MAX: usize = 500;
/// The alarms in one answer, unless asked otherwise.
pub const ALARMS_PAGE: usize = 100;
/// The most points of one channel in one answer.
pub const POINTS_MAX: usize = 10_000;
/// The points of one channel in one answer, unless asked otherwise.
pub const POINTS: usize = 1_000;
/// The most channels in one answer.
pub const QUERY_CHANNELS_MAX: usize = 64;
/// The time span that is shown, unless asked otherwise.
pub const READINGS_SPAN_MS: i64 = 10 * 60 * 1000;
/// The longest note to an alarm, in characters.
pub const NOTE_LEN_MAX: usize = 500;
/// The longest search text, in bytes.
pub const SEARCH_LEN_MAX: usize = 64;
/// The longest body of a request, in bytes.
pub const REQUEST_BODY_LEN_MAX: usize = 16 * 1024;
/// How long a request may take, live streams excepted.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The events that wait for a slow live client before it is told that it missed some.
pub const LIVE_QUEUE_LEN: usize = 1_024;
/// The most live clients at one time.
pub const LIVE_CLIENTS_MAX: usize = 256;
/// The most devices that one live client names.
pub const LIVE_DEVICES_MAX: usize = 64;
/// How often changed devices are published to live clients.
pub const LIVE_DEVICE_INTERVAL: Duration = Duration::from_millis(500);
/// The most devices that are published to live clients each time; further ones wait their turn.
pub const LIVE_DEVICES_PER_INTERVAL: usize = 256;
/// How often the server looks which devices fell silent, in milliseconds.
pub const LIVE_SILENCE_CHECK_MS: i64 = 2_000;
/// How often a live stream without events sends a comment, so that proxies keep it.
pub const LIVE_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long requests under way may take at shutdown.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

// Codecs and old packets.

/// The most readings in one message, whatever it is written in.
pub const READINGS_PER_MESSAGE_MAX: usize = 8_192;
/// The most decoders of latent vectors that are held in memory.
pub const DECODERS_MAX: usize = 64;
/// The longest command to a device, in bytes.
pub const COMMAND_LEN_MAX: usize = 4_096;
/// The most connections of old packets at one time.
pub const LEGACY_CONNECTIONS_MAX: usize = 1_024;
/// The most of them from one source: an IPv4 address, or an IPv6 network of 64 bits.
pub const LEGACY_CONNECTIONS_PER_SOURCE_MAX: usize = 64;
/// The most sources that are remembered.
pub const LEGACY_SOURCES_MAX: usize = 4_096;
/// The ciphertexts that a source may have under way before any of them proves good.
pub const LEGACY_CREDITS_MAX: f64 = 256.0;
/// The ciphertexts that a source of nothing but garbage may send each second.
pub const LEGACY_CREDITS_PER_S: f64 = 4.0;
/// How long a connection without credit waits before it asks again.
pub const LEGACY_CREDIT_PAUSE: Duration = Duration::from_millis(20);
/// The ciphertexts that wait for the decrypting threads.
pub const LEGACY_POOL_QUEUE_LEN: usize = 256;
/// The bytes that are read at once: sixteen ciphertexts.
pub const LEGACY_READ_LEN: usize = 4_096;
/// How long a sender may be silent; senders were seen to send every few seconds to minutes.
pub const LEGACY_IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long the rest of a ciphertext may take.
pub const LEGACY_ITEM_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a sender may take to accept the public key.
pub const LEGACY_WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a packet is tried while the store fails.
pub const LEGACY_STORE_TRIES_MAX: usize = 60;
/// How long it waits in between.
pub const LEGACY_STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long accepting pauses when the operating system has no room for a connection.
pub const LEGACY_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the connections may take to store what they have read at a stop.
pub const LEGACY_STOP_GRACE: Duration = Duration::from_secs(5);
// Identity.
/// How often the directory of devices looks whether another process changed it.
pub const DIRECTORY_POLL: Duration = Duration::from_millis(250);
/// A device that is not known makes the directory look at once, but not more often than this.
pub const DIRECTORY_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The most records that the directory reads at one time.
pub const DIRECTORY_PAGE: usize = 1_000;
/// The most credentials of one kind that a device has at one time.
pub const CREDENTIALS_PER_DEVICE_MAX: usize = 16;
/// The most groups, and the most tags, of one device.
pub const LABELS_PER_DEVICE_MAX: usize = 32;
/// The longest group or tag, in bytes.
pub const LABEL_LEN_MAX: usize = 64;
/// How often a change is tried again that another process's change got in the way of.
pub const CHANGE_TRIES_MAX: u32 = 16;
/// The bytes of a certificate's serial number.
pub const CERTIFICATE_SERIAL_BYTES: usize = 16;
/// By how much a certificate's validity starts early, for clocks that are behind.
pub const CERTIFICATE_BACKDATE: Duration = Duration::from_secs(60 * 60);
/// How long the authority's certificate is valid: devices pin it for their lives.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// How long the server's certificate is valid.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(397 * 24 * 60 * 60);
/// How long before its end the server's certificate is renewed.
pub const SERVER_RENEWAL: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// How long a device's certificate is valid, unless asked otherwise.
pub const DEVICE_VALIDITY: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// The most TLS handshakes of HTTPS clients at one time.
pub const TLS_HANDSHAKES_MAX: usize = 256;
/// How long a TLS handshake of an HTTPS client may take.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting pauses when the operating system has no room for a connection.
pub const TLS_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a device's request to be enrolled may take.
pub const ENROL_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer to an enrolment that a device reads, in bytes.
pub const ENROL_ANSWER_LEN_MAX: u64 = 64 * 1024;

// Sealed sessions.

/// The most sealed TCP connections at one time.
pub const SEALED_CONNECTIONS_MAX: usize = 20_000;
/// The most sealed TCP connections from one source.
pub const SEALED_CONNECTIONS_PER_SOURCE_MAX: usize = 4_096;
/// The most sealed TCP connections that have not proved yet who they are.
pub const SEALED_UNCONFIRMED_MAX: usize = 1_024;
/// How long a peer may take to prove who it is.
pub const SEALED_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The handshakes that are answered in a second; each takes a third of a millisecond.
pub const SEALED_HANDSHAKES_PER_S: f64 = 500.0;
/// The handshakes that are answered at once after a rest.
pub const SEALED_HANDSHAKES_AT_ONCE: f64 = 1_000.0;
/// The handshakes over TCP that are answered to one source in a second.
pub const SEALED_HANDSHAKES_PER_SOURCE_PER_S: f64 = 100.0;
/// The handshakes over TCP that are answered to one source at once after a rest.
pub const SEALED_HANDSHAKES_PER_SOURCE_AT_ONCE: f64 = 500.0;
/// The handshakes on topics that are answered to one device in a second.
pub const SEALED_HANDSHAKES_PER_DEVICE_PER_S: f64 = 1.0;
/// The handshakes on topics that are answered to one device at once after a rest.
pub const SEALED_HANDSHAKES_PER_DEVICE_AT_ONCE: f64 = 16.0;
/// The rejections on topics that one device gets in a second for frames of unknown sessions.
pub const SEALED_REJECTIONS_PER_DEVICE_PER_S: f64 = 2.0;
/// The most sources whose rates are remembered.
pub const SEALED_SOURCES_MAX: usize = 16_384;
/// The most sessions of one device on topics that are not confirmed.
pub const SEALED_PENDING_PER_DEVICE_MAX: usize = 4;
/// How often sessions on topics that are over are looked for.
pub const SEALED_PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// How long a sealed TCP connection may be silent; devices send keep-alives.
pub const SEALED_IDLE_MAX: Duration = Duration::from_secs(90);
/// How long a peer may take to read what it is sent.
pub const SEALED_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The bytes that a sealed TCP connection reads at one time.
pub const SEALED_READ_LEN: usize = 16 * 1024;
/// The most bytes of a sealed TCP connection that are stored together.
pub const SEALED_READ_LEN_MAX: usize = 128 * 1024;
/// The most messages of a sealed TCP connection that are stored together.
pub const SEALED_BATCH_MESSAGES_MAX: usize = 2_048;
/// The most batches of a sealed TCP connection that wait for the store.
pub const SEALED_BATCHES_WAITING_MAX: usize = 2;
/// The wait after a connection could not be accepted.
pub const SEALED_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest topic of a foreign broker that is read, in bytes, with the packet's header.
pub const FOREIGN_TOPIC_LEN_MAX: usize = 256;
/// The most packets that wait between us and a foreign broker, each way.
pub const FOREIGN_QUEUE_LEN: usize = 1_024;
/// The most frames of a foreign broker that are stored together.
pub const FOREIGN_BATCH_FRAMES_MAX: usize = 512;
/// How often a foreign broker hears of us at least.
pub const FOREIGN_KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The first wait after a foreign broker was lost ...
pub const FOREIGN_RETRY_MIN: Duration = Duration::from_millis(200);
/// ... which doubles up to this.
pub const FOREIGN_RETRY_MAX: Duration = Duration::from_secs(10);

// Accounts, sessions, tokens, the audit log and rate limits (access).

/// The memory of one argon2id hash, in KiB; with the two below the least that OWASP advises.
pub const ARGON2_MEMORY_KIB: u32 = 19_456;
/// The passes of one argon2id hash over its memory.
pub const ARGON2_PASSES: u32 = 2;
/// The lanes of one argon2id hash.
pub const ARGON2_LANES: u32 = 1;
/// The passwords that are hashed at one time.
pub const PASSWORD_CHECKS_AT_ONCE: usize = 1;
/// The passwords that wait to be hashed; further ones are turned away.
pub const PASSWORD_QUEUE_LEN: usize = 32;
/// The shortest new password, in characters.
pub const PASSWORD_LEN_MIN: usize = 12;
/// The longest password, in bytes.
pub const PASSWORD_LEN_MAX: usize = 256;
/// The longest name of an account or an API token, in bytes.
pub const ACCOUNT_NAME_LEN_MAX: usize = 64;
/// The most accounts.
pub const ACCOUNTS_MAX: usize = 1_000;
/// The random bytes by which a session or token is found.
pub const CREDENTIAL_ID_BYTES: usize = 8;
/// The random bytes that are its secret.
pub const CREDENTIAL_SECRET_BYTES: usize = 32;
/// The most sessions of one account; a new one ends the one used longest ago.
pub const SESSIONS_PER_ACCOUNT_MAX: usize = 16;
/// A session that was not used for this long is over.
pub const SESSION_IDLE_MS: i64 = 12 * 60 * 60 * 1000;
/// A session is over this long after signing in, however it was used.
pub const SESSION_LIFE_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// How old the note of the last use of a session or token may get.
pub const LAST_USE_AGE_MS: i64 = 60 * 1000;
/// How often a live stream looks whether its session or token still holds.
pub const LIVE_ACCESS_CHECK: Duration = Duration::from_secs(1);
/// How often sessions that are over are removed.
pub const ACCESS_SWEEP_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The longest description of a browser that is kept with its session, in characters.
pub const AGENT_LEN_MAX: usize = 160;
/// How long a set-up link holds.
pub const SET_UP_LINK_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// How long the link of a demo holds.
pub const DEMO_LINK_LIFE_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// The most API tokens.
pub const API_TOKENS_MAX: usize = 1_000;
/// The days for which an API token holds, unless asked otherwise.
pub const API_TOKEN_LIFE_DAYS: u32 = 90;
/// The most days for which an API token holds.
pub const API_TOKEN_LIFE_DAYS_MAX: u32 = 3_650;
/// The records that are read at a time.
pub const ACCESS_PAGE: usize = 256;
/// How often a change is tried again when another one came between.
pub const ACCESS_RETRIES_MAX: usize = 16;
/// The longest field of an audit entry, in characters; the rest is cut.
pub const AUDIT_FIELD_LEN_MAX: usize = 200;
/// The audit entries in one answer, unless asked otherwise.
pub const AUDIT_PAGE: usize = 100;
/// The most audit entries in one answer.
pub const AUDIT_PAGE_MAX: usize = 500;
/// The most faults of an audit log that are named.
pub const AUDIT_FAULTS_MAX: usize = 100;
/// The most keys whose rate is remembered for each kind of limit.
pub const RATE_KEYS_MAX: usize = 16_384;
/// The failed sign-ins from one source to one account after which the back-off begins.
pub const SIGN_IN_FAILURES_FREE: u32 = 5;
/// The failed sign-ins to one account, from anywhere, after which the back-off begins for sources
/// from which it was not signed in to before.
pub const SIGN_IN_FAILURES_FREE_ANYWHERE: u32 = 20;
/// The first wait of the back-off, in milliseconds; each further failure doubles it.
pub const SIGN_IN_BACKOFF_FIRST_MS: i64 = 1_000;
/// The longest wait of the back-off.
pub const SIGN_IN_BACKOFF_MAX_MS: i64 = 5 * 60 * 1000;
/// Failed sign-ins are forgotten after this long without another.
pub const SIGN_IN_FAILURES_KEPT_MS: i64 = 60 * 60 * 1000;
/// How often one session or token may ask.
pub const PACE_OF_ONE: Pace = Pace::per_second(50, 300);
/// How often may be asked from one source, whoever asks.
pub const PACE_OF_SOURCE: Pace = Pace::per_second(200, 1_000);
/// How often one session may come with passwords.
pub const PACE_OF_SECRETS_OF_ONE: Pace = Pace::every_seconds(6, 20);
/// How often a source may come with passwords, links and one-time tokens.
pub const PACE_OF_SECRETS_OF_SOURCE: Pace = Pace::every_seconds(3, 30);
/// How often one gateway may send readings.
pub const PACE_OF_READINGS_OF_ONE: Pace = Pace::per_second(500, 2_000);
/// How often readings may be sent from one source.
pub const PACE_OF_READINGS_OF_SOURCE: Pace = Pace::per_second(1_000, 4_000);
/// How often a source may come without the credentials that are needed.
pub const PACE_OF_STRANGERS: Pace = Pace::per_second(2, 60);
/// How often somebody's refused and failed acts are noted in the audit log.
pub const PACE_OF_NOTES_IN_VAIN: Pace = Pace::every_seconds(60, 30);
/// How often everybody's refused and failed acts together are noted.
pub const PACE_OF_ALL_NOTES_IN_VAIN: Pace = Pace::every_seconds(10, 1_000);
