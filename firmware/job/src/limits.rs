//! Every bound of a job, by name.

/// Longest job in bytes, header included: what `-M virt` leaves above the load address.
pub const JOB_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Most values that one sample may have, one per channel.
pub const CHANNELS_MAX: usize = stonechat_core::limits::CHANNELS_MAX;

/// Inputs on which a network alone is measured.
pub const ENGINE_RUNS: u8 = 100;
