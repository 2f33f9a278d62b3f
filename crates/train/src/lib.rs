//! From recordings to a detector.
//!
//! Data pass through the modules in this order: a [`dataset`] (or [`synth`]) gives a recording, a
//! [`recipe`] says what to make of it, [`train`] follows the recipe ([`fit`], [`quantise`],
//! [`threshold`], [`compile`]), [`replay`] runs the detector over recordings through the core,
//! [`evaluate`] and [`plot`] say how good it is, [`compare`] weighs several against each other and
//! against a chip's budget ([`cost`]), and [`export`] hands the network to other tools.

pub mod benchmark;
pub mod compare;
pub mod compile;
pub mod cost;
pub mod dataset;
pub mod decompile;
pub mod evaluate;
pub mod export;
pub mod fit;
pub mod latent;
pub mod limits;
pub mod network;
pub mod plot;
pub mod power;
pub mod quantise;
pub mod random;
pub mod recipe;
pub mod replay;
pub mod rows;
pub mod synth;
pub mod table;
pub mod threshold;
pub mod train;
