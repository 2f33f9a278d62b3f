//! Collects, stores, shows and alarms.
//!
//! A message comes in through [`mqtt`], walks the steps of [`ingest`], which read it by its
//! [`codec`], into the [`store`], which moves the [`alarm`]s in the same transaction, and goes out
//! to those who watch through [`live`]. Users and the dashboard read through the [`api`]. [`server`] puts it all together.

pub mod access;
pub mod alarm;
pub mod api;
pub mod clock;
pub mod codec;
mod dashboard;
pub mod device;
pub mod identity;
pub mod ingest;
pub mod legacy;
pub mod limits;
pub mod live;
pub mod mqtt;
pub mod presence;
pub mod sealed;
pub mod server;
pub mod settings;
pub mod store;
pub mod topic;

pub use device::{DeviceId, Token};
pub use identity::Registry;
pub use server::{Running, Server, StartError};
pub use settings::Settings;
pub use store::StoreError;
