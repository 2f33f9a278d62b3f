//! From recordings to a detector.
//!
//! Data pass through the modules in this order: a [`dataset`] (or [`synth`]) gives a recording, a
//! [`recipe`] says what to make of it, [`train`] follows the recipe ([`fit`], [`quantise`],
//! [`threshold`], [`compile`]), [`replay`] runs the detector over recordings through the core,
//! [`evaluate`] and [`plot`] say how good it is, and [`export`] hands the network to other tools.

pub mod dataset;
pub mod synth;
pub mod recipe;
pub mod train;
pub mod network;
pub mod rows;
pub mod fit;
pub mod quantise;
pub mod threshold;
pub mod compile;
pub mod decompile;
pub mod replay;
pub mod evaluate;
pub mod plot;
pub mod export;
pub mod random;
pub mod limits;
