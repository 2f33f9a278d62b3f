//! Fuzz targets: every decoder that sees outside bytes. `cargo xtask fuzz` builds and runs them.
//!
//! One program holds them all, as linking takes longer than fuzzing: the environment variable
//! STONECHAT_FUZZ names the target. A target must return whatever the bytes are; what it reads, it
//! also uses, and it holds what must be true of it.
#![no_main]

mod core;
mod server;
mod train;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

type Target = fn(&[u8]);

/// The targets by their names; `cargo xtask fuzz --list` reads the names here.
const TARGETS: &[(&str, Target)] = &[
    // The one that takes longest is first.
    ("csv", train::csv),
    ("uplink", core::uplink),
    ("detector", core::detector),
    ("packet", core::packet),
    ("frames", core::frames),
    ("link", core::link),
    ("provision", core::provision),
    ("manifest", core::manifest),
    ("keys", core::keys),
    ("update", core::update),
    ("legacy_stream", server::legacy_stream),
    ("mqtt", server::mqtt),
    ("senml_cbor", |bytes| server::decode("senml-cbor", bytes)),
    ("senml_json", |bytes| server::decode("senml-json", bytes)),
    ("flat_json", |bytes| server::decode("flat-json", bytes)),
    ("thingsboard", |bytes| server::decode("thingsboard", bytes)),
    ("thingsboard_attributes", |bytes| server::decode("thingsboard-attributes", bytes)),
    ("power_meter", |bytes| server::decode("power-meter", bytes)),
    ("raw", |bytes| server::decode("raw", bytes)),
    ("meter_text", train::meter_text),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("STONECHAT_FUZZ").unwrap_or_default();
    let names = TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("set STONECHAT_FUZZ to one of {names}, not `{name}`")).1
});

fuzz_target!(|bytes: &[u8]| (*TARGET)(bytes));
