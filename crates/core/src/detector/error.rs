use core::fmt;

/// Why a detector file is refused; the numbers are sent to the server and never reassigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LoadError {
    /// It is shorter than a header.
    TooShort = 1,
    /// Its bytes do not start at a multiple of four.
    Misaligned = 2,
    /// It does not begin as a detector file does.
    NotADetector = 3,
    /// It is of another version.
    Version = 4,
    /// Its length is not the one it names.
    Length = 5,
    /// Its checksum does not match: it was damaged.
    Checksum = 6,
    /// A part lies outside the file, is misaligned or has the wrong size.
    Part = 7,
    /// A name or text is not UTF-8, is empty, or holds a character that a message cannot carry.
    Text = 8,
    /// Rate, window or stride is out of bounds.
    Window = 9,
    /// A channel is out of bounds.
    Channel = 10,
    /// A feature is unknown or does not fit the window.
    Feature = 11,
    /// A scaler entry is not finite, or zero.
    Scaler = 12,
    /// The score rule is unknown.
    ScoreRule = 13,
    /// The decision rule cannot be followed.
    Decision = 14,
    /// A trace is out of bounds.
    Trace = 15,
    /// The engine is unknown: it may need newer firmware.
    Engine = 16,
    /// The model is out of bounds.
    Model = 17,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "too short to be a detector file",
            Self::Misaligned => "the detector must start at a multiple of four bytes",
            Self::NotADetector => "not a detector file",
            Self::Version => {
                "a detector file of another version; train it again, or update this program"
            }
            Self::Length => "the file's length is not the one it names: it was cut or extended",
            Self::Checksum => "the checksum does not match: the file was damaged",
            Self::Part => "a part of the detector lies outside the file or has the wrong size",
            Self::Text => "a text in the detector is malformed",
            Self::Window => "rate, window or stride of the detector is out of bounds",
            Self::Channel => "a channel of the detector is out of bounds",
            Self::Feature => "a feature of the detector is unknown or does not fit its window",
            Self::Scaler => "the detector's scaler is out of bounds",
            Self::ScoreRule => "the detector's score rule is unknown",
            Self::Decision => "the detector's decision rule cannot be followed",
            Self::Trace => "a trace of the detector is out of bounds",
            Self::Engine => "the detector needs an engine that this build does not have",
            Self::Model => "the detector's model is out of bounds",
        })
    }
}

impl core::error::Error for LoadError {}
