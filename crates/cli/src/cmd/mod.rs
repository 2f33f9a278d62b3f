//! One file a command: its arguments and what it does.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod detectors;
pub(crate) mod device;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod latent;
pub(crate) mod legacy;
pub(crate) mod plot;
pub(crate) mod readings;
pub(crate) mod release;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod token;
pub(crate) mod train;
