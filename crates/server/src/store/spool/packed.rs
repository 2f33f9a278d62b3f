//! Bytes that this server writes for itself: numbers are little-endian, texts carry their length
//! in front (u16).

/// Writes.
#[derive(Debug, Default)]
pub(in crate::store) struct Packer(pub(in crate::store) Vec<u8>);

/// Reads; every method gives `None` when the bytes end too early.
#[derive(Debug)]
pub(in crate::store) struct Unpacker<'a>(pub(in crate::store) &'a [u8]);

impl Packer {
    pub(in crate::store) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(in crate::store) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(in crate::store) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(in crate::store) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(in crate::store) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(in crate::store) fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    /// Writes a text; the limits of names keep all of them far below 64 KiB, and what is longer
    /// is cut at a character.
    pub(in crate::store) fn text(&mut self, text: &str) {
        let mut len = text.len().min(usize::from(u16::MAX));
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.u16(u16::try_from(len).unwrap_or(u16::MAX));
        self.0.extend_from_slice(&text.as_bytes()[..len]);
    }

    /// Writes a count.
    pub(in crate::store) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Writes whether there is a value, and the value.
    pub(in crate::store) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
}

impl<'a> Unpacker<'a> {
    pub(in crate::store) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(in crate::store) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(in crate::store) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(in crate::store) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(in crate::store) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::store) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(in crate::store) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(in crate::store) fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }

    pub(in crate::store) fn text(&mut self) -> Option<&'a str> {
        let len = usize::from(self.u16()?);
        std::str::from_utf8(self.bytes(len)?).ok()
    }

    /// Reads a count of things that take at least `each` bytes, so that a damaged count cannot
    /// make anybody reserve more memory than there are bytes.
    pub(in crate::store) fn count(&mut self, each: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        (count.checked_mul(each)? <= self.0.len()).then_some(count)
    }

    pub(in crate::store) fn option<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => take(self).map(Some),
            _ => None,
        }
    }
}
