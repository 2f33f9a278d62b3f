//! Devices and their tokens, for who administers them: beside the running server, or within it.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::now_ms;
use crate::device::{DeviceId, Token, TokenHash};
use crate::store::sqlite::RecordsBeside;
use crate::store::{Expected, Record, RecordChange, RecordClass, Records, Store, StoreError};

/// The devices in one question to the store.
const PAGE: usize = 1_000;

/// The registered devices.
#[derive(Clone)]
pub struct Registry {
    records: Arc<dyn Records>,
}

/// What a device's record holds, as far as it is read here.
#[derive(Serialize, Deserialize)]
struct Body {
    id: String,
    #[serde(default)]
    tokens: Vec<Credential>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Credential {
    /// SHA-256 of the token in hexadecimal.
    hash: String,
    created_ms: i64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Registry {
    /// Takes the registry of a running server's store.
    #[must_use]
    pub fn of(store: Arc<dyn Store>) -> Self {
        Self { records: store }
    }

    /// Takes the registry in a data folder; a server may be running there.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { records: Arc::new(RecordsBeside::in_folder(folder)) }
    }

    /// Registers a device and returns its token, which can not be read again.
    ///
    /// # Errors
    /// [`StoreError::DeviceExists`], or when the store fails.
    pub async fn add(&self, id: &DeviceId) -> Result<Token, StoreError> {
        let added = self.put(id, Expected::Absent, None).await;
        added.map_err(|error| match error {
            StoreError::Conflict { .. } => StoreError::DeviceExists(id.clone()),
            error => error,
        })
    }

    /// Gives a device a new token, registering it if it is not; the old token is worth nothing
    /// from its next connection on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate(&self, id: &DeviceId) -> Result<Token, StoreError> {
        let found = self.records.record(RecordClass::Device, id.as_str()).await?;
        let expected = found.as_ref().map_or(Expected::Absent, |f| Expected::Revision(f.revision));
        self.put(id, expected, found.as_ref().and_then(parse)).await
    }

    /// Lists the identities of the registered devices.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<String>, StoreError> {
        let mut ids: Vec<String> = Vec::new();
        loop {
            let after = ids.last().map_or("", String::as_str);
            let page = self.records.records(RecordClass::Device, after, PAGE).await?;
            let last = page.len() < PAGE;
            ids.extend(page.into_iter().map(|record| record.key));
            if last {
                return Ok(ids);
            }
        }
    }

    async fn put(
        &self,
        id: &DeviceId,
        expected: Expected,
        before: Option<Body>,
    ) -> Result<Token, StoreError> {
        let token = Token::draw().map_err(StoreError::Random)?;
        let credential =
            Credential { hash: hex(&token.hash()), created_ms: now_ms(), rest: Map::new() };
        let rest = before.map(|body| body.rest).unwrap_or_default();
        let body = Body { id: id.as_str().to_owned(), tokens: vec![credential], rest };
        let text = serde_json::to_string(&body).expect("texts and numbers only");
        let change = RecordChange::put(RecordClass::Device, id.as_str(), expected, text);
        self.records.change_records(vec![change]).await?;
        Ok(token)
    }
}

/// Tells whether a password is one of the device's tokens; `None` if there is no such device.
///
/// # Errors
/// When the store fails.
pub(crate) async fn token_matches(
    records: &(impl Records + ?Sized),
    id: &DeviceId,
    password: &[u8],
) -> Result<Option<bool>, StoreError> {
    let found = records.record(RecordClass::Device, id.as_str()).await?;
    let matches = |credential: &Credential| {
        unhex(&credential.hash).is_some_and(|hash| hash.matches(password))
    };
    Ok(found.map(|record| parse(&record).is_some_and(|body| body.tokens.iter().any(matches))))
}

fn parse(record: &Record) -> Option<Body> {
    serde_json::from_str(record.body.as_deref()?).ok()
}

fn hex(hash: &TokenHash) -> String {
    hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<TokenHash> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16)).map(|d| d.map(|d| d as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    rest.is_empty().then(|| bytes.try_into().ok()).flatten().map(TokenHash::from_bytes)
}
