//! Reads sizes from a 32-bit little-endian ELF file (System V ABI, chapter 4).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

const ALLOCATED: u32 = 2;
const NO_BITS: u32 = 8;

/// Bytes of flash that a program takes: every section that is loaded, which is
/// code, constants and the initial values of variables.
///
/// # Errors
/// Fails for files that cannot be read or are no 32-bit little-endian ELF file.
pub(super) fn flash_bytes(program: &Path) -> Result<u64> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    loaded(&bytes).with_context(|| format!("cannot read sizes from {}", program.display()))
}

fn loaded(bytes: &[u8]) -> Result<u64> {
    if !bytes.starts_with(b"\x7fELF\x01\x01") {
        bail!("not a 32-bit little-endian ELF file");
    }
    let start = word(bytes, 0x20)? as usize;
    let entry_len = half(bytes, 0x2e)? as usize;
    let entries = half(bytes, 0x30)? as usize;
    let mut sum = 0;
    for index in 0..entries {
        let header = start + index * entry_len;
        let kind = word(bytes, header + 4)?;
        let flags = word(bytes, header + 8)?;
        if flags & ALLOCATED != 0 && kind != NO_BITS {
            sum += u64::from(word(bytes, header + 20)?);
        }
    }
    Ok(sum)
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    Ok(u32::from_le_bytes(*bytes.context("the file is cut short")?))
}

fn half(bytes: &[u8], at: usize) -> Result<u16> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    Ok(u16::from_le_bytes(*bytes.context("the file is cut short")?))
}
