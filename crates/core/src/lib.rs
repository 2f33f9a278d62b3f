//! What both ends of Stonechat must agree on.
//!
//! Samples come in at the top and messages leave at the bottom; the modules stand in that order:
//! [`sample`], [`window`], [`features`], [`detector`], [`decision`] make up the [`pipeline`],
//! which training, server, simulator and firmware all run; [`device`] wraps it into the whole
//! application of a microcontroller; [`wire`] is what it says to the server, and [`link`] seals it
//! on its way where there is no TLS. [`provision`] is what a device is told before it first connects,
//! and [`update`] is how its detector and its firmware are replaced from afar.
//!
//! Nothing here allocates, blocks, reads a clock, prints or panics on input.
#![no_std]

pub mod limits;

pub mod decision;
pub mod detector;
pub mod device;
pub mod features;
pub mod link;
pub mod pipeline;
pub mod provision;
pub mod sample;
pub mod update;
pub mod window;
pub mod wire;
