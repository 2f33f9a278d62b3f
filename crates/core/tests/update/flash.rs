//! A NOR flash in memory that is as strict as real ones: writes only clear bits, sizes and places
//! fit its units, and the power can go in the middle of a write or an erasure.

use embedded_storage::nor_flash::{
    ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind, ReadNorFlash,
};

/// What a write or an erasure has done when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torn {
    /// Nothing yet.
    Nothing,
    /// The first half, and some bits of the byte behind it.
    Half,
    /// Of each byte, some bits.
    Bits,
    /// Everything; only the answer is missing.
    All,
}

impl Torn {
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::Half, Self::Bits, Self::All];
}

/// Marsaglia's xorshift with 64 bits.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The flash: WRITE and ERASE are its units in bytes.
#[derive(Clone)]
pub(crate) struct Flash<const WRITE: usize, const ERASE: usize> {
    pub(crate) bytes: Vec<u8>,
    /// Writes and erasures that were begun.
    pub(crate) changes: u64,
    /// The power goes during this change, counted as `changes` is.
    pub(crate) cut: Option<(u64, Torn)>,
    random: Random,
    is_off: bool,
}

impl<const WRITE: usize, const ERASE: usize> Flash<WRITE, ERASE> {
    pub(crate) fn new(blocks: usize) -> Self {
        let bytes = vec![0xff; blocks * ERASE];
        Self { bytes, changes: 0, cut: None, random: Random(0x5EED), is_off: false }
    }

    pub(crate) fn power_on(&mut self) {
        self.is_off = false;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.is_off
    }

    /// Changes bytes as far as the power lasts.
    fn change(&mut self, at: usize, to: &[u8]) -> Result<(), NorFlashErrorKind> {
        if self.is_off {
            return Err(NorFlashErrorKind::Other);
        }
        let index = self.changes;
        self.changes += 1;
        let torn = self.cut.take_if(|(cut, _)| *cut == index).map(|(_, torn)| torn);
        let half = to.len() / 2;
        for (offset, (byte, to)) in self.bytes[at..].iter_mut().zip(to).enumerate() {
            // The bits that change before the power goes.
            let mask = match torn {
                None | Some(Torn::All) => 0xff,
                Some(Torn::Nothing) => 0,
                Some(Torn::Half) if offset < half => 0xff,
                Some(Torn::Half) if offset == half => self.random.next() as u8,
                Some(Torn::Half) => 0,
                Some(Torn::Bits) => self.random.next() as u8,
            };
            *byte = (*byte & !mask) | (to & mask);
        }
        self.is_off = torn.is_some();
        if self.is_off { Err(NorFlashErrorKind::Other) } else { Ok(()) }
    }

    fn check(&self, at: u32, len: usize, unit: usize) -> Result<usize, NorFlashErrorKind> {
        let at = at as usize;
        assert!(at.is_multiple_of(unit) && len.is_multiple_of(unit), "not aligned: {at}, {len}");
        assert!(at + len <= self.bytes.len(), "beyond the flash: {at}, {len}");
        if self.is_off { Err(NorFlashErrorKind::Other) } else { Ok(at) }
    }
}

impl<const WRITE: usize, const ERASE: usize> ErrorType for Flash<WRITE, ERASE> {
    type Error = NorFlashErrorKind;
}

impl<const WRITE: usize, const ERASE: usize> ReadNorFlash for Flash<WRITE, ERASE> {
    const READ_SIZE: usize = WRITE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let at = self.check(offset, bytes.len(), WRITE)?;
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WRITE: usize, const ERASE: usize> NorFlash for Flash<WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        let len = (to - from) as usize;
        let at = self.check(from, len, ERASE)?;
        self.change(at, &vec![0xff; len])
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let at = self.check(offset, bytes.len(), WRITE)?;
        let old = &self.bytes[at..at + bytes.len()];
        let clears = old.iter().zip(bytes).all(|(old, new)| new & !old == 0);
        assert!(clears, "a write at {offset} would set bits");
        self.change(at, bytes)
    }
}

impl<const WRITE: usize, const ERASE: usize> MultiwriteNorFlash for Flash<WRITE, ERASE> {}

#[test]
#[should_panic(expected = "would set bits")]
fn a_write_that_sets_bits_is_noticed() {
    let mut flash = Flash::<4, 4096>::new(1);
    flash.write(0, &[0xf0; 4]).expect("power");
    let _ = flash.write(0, &[0x0f; 4]);
}

#[test]
fn the_power_goes_when_it_is_told_to() {
    for torn in Torn::ALL {
        let mut flash = Flash::<4, 4096>::new(1);
        flash.cut = Some((1, torn));
        assert_eq!(flash.write(0, &[0xaa; 64]), Ok(()));
        assert!(flash.write(64, &[0; 64]).is_err(), "cut");
        assert!(flash.read(0, &mut [0; 4]).is_err(), "off");
        flash.power_on();
        assert!(flash.bytes[..64].iter().all(|&byte| byte == 0xaa));
        let cleared: u32 = flash.bytes[64..128].iter().map(|byte| byte.count_zeros()).sum();
        match torn {
            Torn::Nothing => assert_eq!(cleared, 0),
            Torn::Half => assert!((256..264).contains(&cleared)),
            Torn::Bits => assert!((150..360).contains(&cleared)),
            Torn::All => assert_eq!(cleared, 512),
        }
        assert_eq!(flash.write(64, &[0; 64]), Ok(()), "again, which only clears bits");
    }
}
