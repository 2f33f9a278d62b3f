//! Who a device is, and by what it proves it.
//!
//! Each device has one record with its [`entry`]: groups, tags, and credentials (tokens,
//! certificates, keys of the sealed link). The [`registry`] changes entries; the [`directory`]
//! holds them in memory for the front ends, which ask it who is there.
//! The server's own [`keys`] are made once; its [`authority`] makes the certificates, and [`tls`]
//! puts them to use.

pub mod authority;
pub mod directory;
pub mod entry;
pub mod hex;
pub mod keys;
pub mod listener;
pub mod registry;
pub mod tls;

#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError};
pub use directory::{Admission, Directory, Refusal};
pub use entry::{
    BadEntry, CertificateCredential, Credential, CredentialKind, DeviceEntry, LinkCredential,
    TokenCredential,
};
pub use keys::{KeyError, ServerKeys};
pub use registry::{Filter, IdentityError, Registry};
