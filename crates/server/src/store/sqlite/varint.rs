//! Whole numbers in few bytes: seven bits a byte, lowest first, the top bit on all but the last.

/// Appends a number.
pub(super) fn push(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Appends a signed number, so that small magnitudes are short.
pub(super) fn push_signed(bytes: &mut Vec<u8>, value: i64) {
    push(bytes, ((value << 1) ^ (value >> 63)) as u64);
}

/// Takes a number off the front; `None` if the bytes end early or the number is too long.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes a signed number off the front.
pub(super) fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = take(bytes)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_come_back() {
        let mut bytes = Vec::new();
        let numbers = [0, 1, 127, 128, u64::MAX];
        let signed = [0, -1, 63, -64, 64, i64::MIN, i64::MAX];
        numbers.iter().for_each(|&number| push(&mut bytes, number));
        signed.iter().for_each(|&number| push_signed(&mut bytes, number));
        let mut rest = bytes.as_slice();
        for number in numbers {
            assert_eq!(take(&mut rest), Some(number));
        }
        for number in signed {
            assert_eq!(take_signed(&mut rest), Some(number));
        }
        assert!(rest.is_empty());
        assert_eq!(take(&mut [0x80_u8; 12].as_slice()), None);
        assert_eq!(take(&mut [0x80_u8].as_slice()), None);
    }
}
