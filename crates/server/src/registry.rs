//! Devices and their tokens, for who administers them: beside the running server, or within it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::device::{DeviceId, Token};
use crate::store::sqlite::{devices_beside, put_device_beside};
use crate::store::{Store, StoreError};

/// The registered devices.
#[derive(Clone)]
pub struct Registry {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Running(Arc<dyn Store>),
    Folder(PathBuf),
}

impl Registry {
    /// Takes the registry of a running server's store.
    #[must_use]
    pub fn of(store: Arc<dyn Store>) -> Self {
        Self { place: Place::Running(store) }
    }

    /// Takes the registry in a data folder; a server may be running there.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { place: Place::Folder(folder.to_owned()) }
    }

    /// Registers a device and returns its token, which can not be read again.
    ///
    /// # Errors
    /// [`StoreError::DeviceExists`], or when the store fails.
    pub async fn add(&self, id: &DeviceId) -> Result<Token, StoreError> {
        self.put(id, false).await
    }

    /// Gives a device a new token, registering it if it is not; the old token is worth nothing
    /// from its next connection on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate(&self, id: &DeviceId) -> Result<Token, StoreError> {
        self.put(id, true).await
    }

    /// Lists the identities of the registered devices.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<String>, StoreError> {
        match &self.place {
            Place::Running(store) => {
                let devices = store.devices().await?;
                Ok(devices.into_iter().map(|device| device.id).collect())
            }
            Place::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || devices_beside(&folder)).await
            }
        }
    }

    async fn put(&self, id: &DeviceId, replace: bool) -> Result<Token, StoreError> {
        let token = Token::draw().map_err(StoreError::Random)?;
        let hash = token.hash();
        match &self.place {
            Place::Running(store) => store.put_device(id.clone(), hash, replace).await?,
            Place::Folder(folder) => {
                let (folder, id) = (folder.clone(), id.clone());
                blocking(move || put_device_beside(&folder, &id, hash, replace)).await?;
            }
        }
        Ok(token)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}
