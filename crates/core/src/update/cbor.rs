//! CBOR (RFC 8949) in its deterministic encoding (section 4.2.1) and no other: what is signed has
//! one spelling. Each reader returns `None` for anything else.

const UINT: u8 = 0;
const NINT: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// From here on, keys of a map are optional: who does not know them passes over them.
const OPTIONAL_KEY: u64 = 128;

/// Reads items one after the other.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads a head: the major type and its number, in the fewest bytes.
    fn head(&mut self) -> Option<(u8, u64)> {
        let (&first, rest) = self.rest.split_first()?;
        let (len, least) = match first & 31 {
            short @ 0..=23 => {
                self.rest = rest;
                return Some((first >> 5, u64::from(short)));
            }
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return None,
        };
        let (number, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        let number = number.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        (number >= least).then_some((first >> 5, number))
    }

    fn expect(&mut self, major: u8) -> Option<u64> {
        self.head().filter(|head| head.0 == major).map(|head| head.1)
    }

    fn string(&mut self, major: u8) -> Option<&'a [u8]> {
        let len = usize::try_from(self.expect(major)?).ok()?;
        let (string, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(string)
    }

    pub(super) fn uint(&mut self) -> Option<u64> {
        self.expect(UINT)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.string(BYTES)
    }

    pub(super) fn array_of_bytes<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.bytes()?.try_into().ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.string(TEXT)?).ok()
    }

    pub(super) fn array(&mut self) -> Option<u64> {
        self.expect(ARRAY)
    }

    /// Reads the given tag.
    pub(super) fn tag(&mut self, tag: u64) -> Option<()> {
        (self.expect(TAG)? == tag).then_some(())
    }

    /// Reads a map whose keys are small numbers in ascending order. `take` reads the value of a key
    /// that it knows, and returns `Some(false)` for one that it does not; such a key must be
    /// optional, and its value a number or a string.
    pub(super) fn map(
        &mut self,
        mut take: impl FnMut(u64, &mut Self) -> Option<bool>,
    ) -> Option<()> {
        let mut least = 0;
        for _ in 0..self.expect(MAP)? {
            let key = self.uint().filter(|&key| key >= least)?;
            least = key.checked_add(1)?;
            if !take(key, self)? {
                if key < OPTIONAL_KEY {
                    return None;
                }
                self.skip()?;
            }
        }
        Some(())
    }

    pub(super) fn empty_map(&mut self) -> Option<()> {
        (self.expect(MAP)? == 0).then_some(())
    }

    fn skip(&mut self) -> Option<()> {
        let start = *self;
        match self.head()?.0 {
            UINT | NINT => Some(()),
            major @ (BYTES | TEXT) => {
                *self = start;
                self.string(major).map(|_| ())
            }
            _ => None,
        }
    }

    /// Holds if everything was read.
    pub(super) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

/// Writes items one after the other; [`Writer::finish`] tells whether there was room.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: Option<usize>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: Some(0) }
    }

    /// Returns the length of what was written, or `None` if there was no room for it.
    pub(super) fn finish(self) -> Option<usize> {
        self.len
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.len = self.len.and_then(|len| {
            let end = len.checked_add(bytes.len())?;
            self.out.get_mut(len..end)?.copy_from_slice(bytes);
            Some(end)
        });
        self
    }

    fn head(&mut self, major: u8, number: u64) -> &mut Self {
        let bytes = number.to_be_bytes();
        let (short, len) = match number {
            0..24 => return self.put(&[major << 5 | bytes[7]]),
            24..0x100 => (24, 1),
            0x100..0x1_0000 => (25, 2),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 8),
        };
        self.put(&[major << 5 | short]).put(&bytes[8 - len..])
    }

    pub(super) fn uint(&mut self, number: u64) -> &mut Self {
        self.head(UINT, number)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64).put(bytes)
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64).put(text.as_bytes())
    }

    pub(super) fn array(&mut self, count: usize) -> &mut Self {
        self.head(ARRAY, count as u64)
    }

    pub(super) fn map(&mut self, count: usize) -> &mut Self {
        self.head(MAP, count as u64)
    }

    pub(super) fn tag(&mut self, tag: u64) -> &mut Self {
        self.head(TAG, tag)
    }

    /// Writes what is already encoded.
    pub(super) fn encoded(&mut self, bytes: &[u8]) -> &mut Self {
        self.put(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        // RFC 8949, appendix A.
        let cases: [(u64, &[u8]); 9] = [
            (0, &[0x00]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (100, &[0x18, 0x64]),
            (1_000, &[0x19, 0x03, 0xe8]),
            (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (1_000_000_000_000, &[0x1b, 0, 0, 0, 0xe8, 0xd4, 0xa5, 0x10, 0]),
            (u64::MAX, &[0x1b, 255, 255, 255, 255, 255, 255, 255, 255]),
            (255, &[0x18, 0xff]),
        ];
        for (number, bytes) in cases {
            assert_eq!(Reader::new(bytes).uint(), Some(number));
            let mut out = [0; 9];
            let mut writer = Writer::new(&mut out);
            writer.uint(number);
            let len = writer.finish().expect("room");
            assert_eq!(&out[..len], bytes);
        }
        for long in [&[0x18, 0x17][..], &[0x19, 0, 0xff], &[0x1a, 0, 0, 0xff, 0xff], &[0x1f]] {
            assert_eq!(Reader::new(long).uint(), None, "{long:?}");
        }
        assert_eq!(Reader::new(&[0x1b, 0, 0, 0, 0, 1, 0, 0, 0]).uint(), None);
    }

    #[test]
    fn a_map_has_its_keys_once_and_in_order() {
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            reader.map(
                |key, reader| if key < 3 { reader.uint().map(|_| true) } else { Some(false) },
            )?;
            reader.end()
        };
        assert_eq!(read(&[0xa2, 1, 5, 2, 6]), Some(()));
        assert_eq!(read(&[0xa2, 1, 5, 1, 6]), None, "twice");
        assert_eq!(read(&[0xa2, 2, 5, 1, 6]), None, "out of order");
        assert_eq!(read(&[0xa1, 3, 5]), None, "unknown");
        assert_eq!(read(&[0xa2, 1, 5, 0x18, 128, 0x61, b'x']), Some(()), "optional");
        assert_eq!(read(&[0xa2, 1, 5, 0x18, 128, 0x80]), None, "an optional array");
        assert_eq!(read(&[0xa1, 1, 5, 0]), None, "something behind");
        assert_eq!(read(&[0xbf, 1, 5, 0xff]), None, "no length");
        assert_eq!(read(&[0xa2, 1, 5]), None, "cut off");
    }

    #[test]
    fn no_room_is_told() {
        let mut out = [0; 4];
        let mut writer = Writer::new(&mut out);
        writer.bytes(&[1, 2, 3, 4]).uint(1);
        assert_eq!(writer.finish(), None);
    }
}
