//! The key document that a device trusts now, in two blocks of flash: the newer of both, or the one
//! of its provisioning where that is newer.

use embedded_storage::nor_flash::MultiwriteNorFlash;

use super::slots::{Region, are_legal, read_document, write_document};
use super::{KeyDocument, Reason};
use crate::limits::RELEASE_DOCUMENT_LEN_MAX;

/// Where key documents are kept, each in one block as `slots` has the table of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStore {
    /// The two blocks.
    pub blocks: [Region; 2],
}

impl KeyStore {
    /// Tells whether a flash can hold it.
    #[must_use]
    pub fn fits<F: MultiwriteNorFlash>(&self, flash: &F) -> bool {
        are_legal(flash, &self.blocks)
            && self.blocks.iter().all(|block| block.len >= 2 * RELEASE_DOCUMENT_LEN_MAX as u32)
    }

    /// Reads the document that counts: the newest of both blocks and of what provisioning says.
    ///
    /// # Errors
    /// [`Reason::Flash`]; [`Reason::Malformed`] if there is none at all.
    pub fn load<'b, F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        provisioned: &[u8],
        buffer: &'b mut [u8; RELEASE_DOCUMENT_LEN_MAX],
    ) -> Result<KeyDocument<'b>, Reason> {
        let newest = self.newest(flash, buffer)?;
        let given = KeyDocument::parse(provisioned).ok();
        let given_version = given.map_or(0, |document| document.version);
        let len = match newest {
            Some((block, version)) if version >= given_version => {
                let at = self.blocks[block].start;
                read_document(flash, at, buffer)?.ok_or(Reason::Flash)?.len()
            }
            _ => {
                let place = buffer.get_mut(..provisioned.len()).ok_or(Reason::Malformed)?;
                place.copy_from_slice(provisioned);
                provisioned.len()
            }
        };
        KeyDocument::parse(&buffer[..len])
    }

    /// Takes a document that the root keys of the present one have signed. Returns its version.
    ///
    /// # Errors
    /// As [`KeyStore::load`] and [`KeyDocument::successor`]; then the present one stays.
    pub fn replace<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        provisioned: &[u8],
        document: &[u8],
    ) -> Result<u64, Reason> {
        let mut buffer = [0; RELEASE_DOCUMENT_LEN_MAX];
        let version = self.load(flash, provisioned, &mut buffer)?.successor(document)?.version;
        // The newest stays until this one is whole.
        let block = self.newest(flash, &mut buffer)?.map_or(0, |(block, _)| 1 - block);
        let block = self.blocks[block];
        block.erase(flash)?;
        write_document(flash, block.start, document)?;
        match read_document(flash, block.start, &mut buffer)? {
            Some(written) if written == document => Ok(version),
            _ => Err(Reason::Flash),
        }
    }

    /// Finds the block with the newest document, and that document's version.
    fn newest<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        buffer: &mut [u8; RELEASE_DOCUMENT_LEN_MAX],
    ) -> Result<Option<(usize, u64)>, Reason> {
        let mut newest: Option<(usize, u64)> = None;
        for (index, block) in self.blocks.iter().enumerate() {
            let Some(document) = read_document(flash, block.start, buffer)? else {
                continue;
            };
            let version = KeyDocument::parse(document).map_or(0, |document| document.version);
            if version > newest.map_or(0, |newest| newest.1) {
                newest = Some((index, version));
            }
        }
        Ok(newest)
    }
}
