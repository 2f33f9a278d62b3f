//! Who a device is, and by what it proves it.
//!
//! Each device has one record with its [`entry`]: groups, tags, and credentials (tokens,
//! certificates, keys of the sealed link). The [`registry`] changes entries; the [`directory`]
//! holds them in memory for the front ends, which ask it who is there.
//! The server's own [`keys`] are made once; its [`authority`] makes the certificates, and [`tls`]
//! puts them to use. A device gets all it needs as a [`bundle`], or makes its own keys and shows
//! them once: it [enrols](enrol).

pub mod authority;
pub mod bundle;
pub mod client;
pub mod directory;
pub mod enrol;
pub mod entry;
pub mod hex;
pub mod keys;
pub mod listener;
pub mod provision;
pub mod registry;
pub mod tls;

#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError};
pub use bundle::{Addresses, Bundle, BundleCredentials, BundleError, BundleServer, Ports};
pub use directory::{Admission, Directory, Refusal};
pub use enrol::{EnrolError, EnrolRequest, Enrolled, Enroller, Ticket};
pub use entry::{
    BadEntry, CertificateCredential, Credential, CredentialKind, DeviceEntry, LinkCredential,
    TokenCredential,
};
pub use keys::{KeyError, ServerKeys};
pub use provision::{Wanted, provision};
pub use registry::{Filter, IdentityError, Registry};
