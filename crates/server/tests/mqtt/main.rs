//! The MQTT front end over loopback: with a client that puts its packets together by hand, and
//! with the clients of others.
#![allow(missing_docs, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
mod flows;
mod raw;
mod rights;
mod tls;
mod with_client;
