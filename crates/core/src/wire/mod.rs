//! Messages between device and server: parsed once, into types that can only hold legal values.

pub mod packet;
pub mod senml;
pub mod uplink;
