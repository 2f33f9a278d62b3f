//! Latent vectors: a device sends the short code of a dense autoencoder, and the server decodes it.
//!
//! That is compression, never encryption: the code is close to linear in what was measured, and
//! whoever sees it can read the measurements.
//!
//! The decoder is the second half of a detector, `DATA/decoders/NAME.detector`, and the device's entry
//! names it.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use stonechat_core::detector::{Detector, Latent, LoadError};
use stonechat_core::limits::DETECTOR_FILE_LEN_MAX;
use stonechat_core::wire::uplink::is_device_id;

use crate::limits::DECODERS_MAX;

/// The folder of the decoders within the data folder.
pub const DECODERS_FOLDER: &str = "decoders";
/// What a detector file must be aligned to in memory.
const ALIGNMENT: usize = 16;

/// Why there is no decoder.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The name could lead out of the folder.
    #[error("`{0}` is no decoder's name: these have 1 to 64 of A-Z, a-z, 0-9, - and _")]
    BadName(String),
    /// The file cannot be read.
    #[error("cannot read the decoder {path}: {source}; copy the detector there")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no detector.
    #[error("the decoder {path} is no detector: {source}")]
    Detector {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The detector has no code.
    #[error("the detector {path} has no code: train one with --detector dense")]
    NoCode {
        /// The file.
        path: PathBuf,
    },
}

/// A detector whose second half decodes.
pub struct Decoder {
    /// The file behind some bytes, so that it is aligned.
    bytes: Vec<u8>,
    start: usize,
    code_len: usize,
}

impl Decoder {
    /// Reads a detector file.
    ///
    /// # Errors
    /// [`DecoderError`] says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, DecoderError> {
        let file = |source| DecoderError::File { path: path.to_owned(), source };
        let mut content = Vec::new();
        let most = DETECTOR_FILE_LEN_MAX as u64 + 1;
        let opened = std::fs::File::open(path).map_err(file)?;
        opened.take(most).read_to_end(&mut content).map_err(file)?;
        let mut bytes = vec![0; content.len() + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        bytes[start..start + content.len()].copy_from_slice(&content);
        bytes.truncate(start + content.len());
        let loaded = Detector::load(&bytes[start..]);
        let detector =
            loaded.map_err(|source| DecoderError::Detector { path: path.to_owned(), source })?;
        let latent =
            Latent::of(&detector).ok_or_else(|| DecoderError::NoCode { path: path.to_owned() })?;
        let code_len = latent.code_len();
        Ok(Self { bytes, start, code_len })
    }

    /// Returns how many numbers a code has.
    #[must_use]
    pub fn code_len(&self) -> usize {
        self.code_len
    }

    /// Decodes a code into features in their own units; none if it has another length, or if it or
    /// what comes of it is not finite.
    #[must_use]
    pub fn decode(&self, code: &[f32]) -> Option<Vec<f32>> {
        let detector = Detector::load(&self.bytes[self.start..]).ok()?;
        let latent = Latent::of(&detector)?;
        let mut vector = vec![0.0; detector.vector_len()];
        let mut memory = vec![0.0; latent.memory_words()];
        let is_decoded = code.iter().all(|number| number.is_finite())
            && latent.decode(code, &mut vector, &mut memory);
        let values =
            vector.iter().zip(detector.scaler()).map(|(scaled, entry)| entry.unscale(*scaled));
        let values: Vec<f32> = values.collect();
        (is_decoded && values.iter().all(|value| value.is_finite())).then_some(values)
    }
}

/// The decoders that were read, each until its file changes.
#[derive(Default)]
pub struct Decoders {
    folder: PathBuf,
    read: Mutex<HashMap<String, (SystemTime, Arc<Decoder>)>>,
}

impl Decoders {
    /// Takes the decoders of a data folder.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join(DECODERS_FOLDER), read: Mutex::default() }
    }

    /// Finds a decoder by its name; reads its file if need be.
    ///
    /// # Errors
    /// [`DecoderError`] says why there is none.
    pub fn find(&self, name: &str) -> Result<Arc<Decoder>, DecoderError> {
        // A name is a file's, and must not lead elsewhere.
        if !is_device_id(name) {
            return Err(DecoderError::BadName(name.to_owned()));
        }
        let path = self.folder.join(format!("{name}.detector"));
        let changed = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
        let changed =
            changed.map_err(|source| DecoderError::File { path: path.clone(), source })?;
        if let Some((read, decoder)) = self.read.lock().get(name)
            && *read == changed
        {
            return Ok(decoder.clone());
        }
        let decoder = Arc::new(Decoder::read(&path)?);
        let mut read = self.read.lock();
        if read.len() >= DECODERS_MAX {
            read.clear();
        }
        read.insert(name.to_owned(), (changed, decoder.clone()));
        Ok(decoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lead_out_of_the_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let decoders = Decoders::of(folder.path());
        for name in ["", "../x", "a/b", "a\\b", "..", "a.b", "ä", &"x".repeat(200)] {
            assert!(matches!(decoders.find(name), Err(DecoderError::BadName(_))), "{name:?}");
        }
        assert!(matches!(decoders.find("room"), Err(DecoderError::File { .. })));
        std::fs::create_dir(folder.path().join(DECODERS_FOLDER)).expect("own folder");
        let path = folder.path().join(DECODERS_FOLDER).join("room.detector");
        std::fs::write(&path, b"no detector").expect("own folder");
        assert!(matches!(decoders.find("room"), Err(DecoderError::Detector { .. })));
    }
}
