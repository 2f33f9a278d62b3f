//! Decoders of recordings.

use stonechat_train::dataset::{ReadOptions, read_csv_bytes};
use stonechat_train::power::capture;

/// A CSV file: samples are as many as rows and channels say.
pub(crate) fn csv(bytes: &[u8]) {
    let options = ReadOptions { rate_hz: Some(1.0), ..ReadOptions::default() };
    if let Ok((recording, report)) = read_csv_bytes("fuzz.csv", bytes, &options) {
        assert_eq!(recording.samples.len(), recording.rows() * recording.channels.len());
        assert_eq!(report.rows, recording.rows());
    }
}

/// A captured message of a power meter, malformed or not.
pub(crate) fn meter_text(bytes: &[u8]) {
    let (pairs, _) = capture::parse(bytes);
    // Each pair needs its two names in the text.
    assert!(pairs.len() * "Start register".len() <= bytes.len());
}
