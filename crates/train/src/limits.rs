//! Every bound of the trainer, with its name.

/// Most layers a network may have.
pub const NETWORK_LAYERS_MAX: usize = 64;
/// Most inputs or outputs of one layer.
pub const NETWORK_WIDTH_MAX: usize = 65_536;
/// Most rows one fit takes; the order of rows is held in u32.
pub const FIT_ROWS_MAX: usize = 100_000_000;
/// Most rows of a minibatch.
pub const FIT_BATCH_MAX: usize = 65_536;
