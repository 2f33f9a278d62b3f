//! The clients of others against this server. They need programs and packages of others, which
//! `cargo xtask test --only interop` installs; it also sets STONECHAT_PYTHON.
#![allow(missing_docs, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
mod mqtt;
