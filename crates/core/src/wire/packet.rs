//! The 32-byte packet of older tank sensors; byte order is big-endian.
//!
//! | offset | field | accepted |
//! |---|---|---|
//! | 0 | start, 0x24 | |
//! | 1-2 | device number, u16 | any |
//! | 3-5 | length, u24 | 32; some senders write 25 or 23 |
//! | 6-7 | air temperature, tenths of a °C, i16 | -40.0 to 125.0 °C |
//! | 8-9 | dissolved oxygen, hundredths of a mg/L, u16 | 0 to 60 mg/L |
//! | 10-11 | water temperature, tenths of a °C, u16 | 0 to 100 °C |
//! | 12-21 | position, a geohash of 10 characters | its alphabet |
//! | 22-23 | year, u16 | 2000 to 2099 |
//! | 24-28 | month, day, hour, minute, second, u8 each, the sender's local time | the calendar |
//! | 29-30 | the sum of the bytes 1 to 28, u16 | must match |
//! | 31 | end, 0x5c | |
//!
//! The checksum finds faults of a line, not forgers: nothing in the packet tells who made it.

use core::fmt;

/// The length of a packet in bytes.
pub const PACKET_LEN: usize = 32;
/// The characters of a position.
pub const GEOHASH_LEN: usize = 10;

const START: u8 = 0x24;
const END: u8 = 0x5c;
/// What senders write into the length field; the first is what it should be.
const LENGTHS: [u32; 3] = [32, 25, 23];
const AIR_TENTHS: core::ops::RangeInclusive<i16> = -400..=1_250;
const OXYGEN_HUNDREDTHS_MAX: u16 = 6_000;
const WATER_TENTHS_MAX: u16 = 1_000;
const GEOHASH_ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
const SECONDS_PER_DAY: i64 = 86_400;

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Packet {
    /// The device number that it claims.
    pub number: u16,
    /// In °C, to a tenth.
    pub air_temperature_c: f64,
    /// In mg/L, to a hundredth.
    pub dissolved_oxygen_mg_per_l: f64,
    /// In °C, to a tenth.
    pub water_temperature_c: f64,
    /// Where it was sent.
    pub position: Position,
    /// When it was sent, by the sender's clock.
    pub time: LocalTime,
}

/// A place on the Earth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Degrees north, -90 to 90.
    pub latitude_deg: f64,
    /// Degrees east, -180 to 180.
    pub longitude_deg: f64,
}

/// A date and time without a time zone; always in the calendar, from 2000 to 2099.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

/// Why bytes are no packet, or values do not fit into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// Not [`PACKET_LEN`] bytes.
    Length,
    /// The first or last byte is not what it must be.
    Frame,
    /// The checksum does not match.
    Checksum,
    /// The length field has an unknown value.
    LengthField,
    /// A measurement is outside its range.
    Range,
    /// The position is no geohash, or outside the globe.
    Position,
    /// The date is not in the calendar, or not from 2000 to 2099.
    Time,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a packet has 32 bytes",
            Self::Frame => "a packet begins with 0x24 and ends with 0x5c",
            Self::Checksum => "the packet's checksum does not match",
            Self::LengthField => "the packet's length field is none of 32, 25 and 23",
            Self::Range => "a measurement in the packet is outside its range",
            Self::Position => "the packet's position is no geohash",
            Self::Time => "the packet's time is no date of the years 2000 to 2099",
        })
    }
}

impl core::error::Error for PacketError {}

impl Packet {
    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        let bytes: &[u8; PACKET_LEN] = bytes.try_into().map_err(|_| PacketError::Length)?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        if bytes[0] != START || bytes[PACKET_LEN - 1] != END {
            return Err(PacketError::Frame);
        }
        if checksum(bytes) != word(29) {
            return Err(PacketError::Checksum);
        }
        if !LENGTHS.contains(&u32::from_be_bytes([0, bytes[3], bytes[4], bytes[5]])) {
            return Err(PacketError::LengthField);
        }
        let air_tenths = i16::from_be_bytes([bytes[6], bytes[7]]);
        let (oxygen_hundredths, water_tenths) = (word(8), word(10));
        let in_range = AIR_TENTHS.contains(&air_tenths)
            && oxygen_hundredths <= OXYGEN_HUNDREDTHS_MAX
            && water_tenths <= WATER_TENTHS_MAX;
        if !in_range {
            return Err(PacketError::Range);
        }
        let mut geohash = [0; GEOHASH_LEN];
        geohash.copy_from_slice(&bytes[12..22]);
        Ok(Self {
            number: word(1),
            air_temperature_c: f64::from(air_tenths) / 10.0,
            dissolved_oxygen_mg_per_l: f64::from(oxygen_hundredths) / 100.0,
            water_temperature_c: f64::from(water_tenths) / 10.0,
            position: Position::from_geohash(&geohash).ok_or(PacketError::Position)?,
            time: LocalTime::new(word(22), [bytes[24], bytes[25], bytes[26], bytes[27], bytes[28]])
                .ok_or(PacketError::Time)?,
        })
    }

    /// Writes a packet; measurements are rounded to what it can hold.
    ///
    /// # Errors
    /// [`PacketError::Range`] or [`PacketError::Position`] where a value does not fit.
    pub fn write(&self) -> Result<[u8; PACKET_LEN], PacketError> {
        let scaled = |value: f64, factor: f64, range: (f64, f64)| {
            let rounded = libm::round(value * factor);
            // A comparison with NaN is false.
            if rounded >= range.0 && rounded <= range.1 {
                Ok(rounded)
            } else {
                Err(PacketError::Range)
            }
        };
        let air_range = (f64::from(*AIR_TENTHS.start()), f64::from(*AIR_TENTHS.end()));
        let air = scaled(self.air_temperature_c, 10.0, air_range)? as i16;
        let oxygen_range = (0.0, f64::from(OXYGEN_HUNDREDTHS_MAX));
        let oxygen = scaled(self.dissolved_oxygen_mg_per_l, 100.0, oxygen_range)? as u16;
        let water_range = (0.0, f64::from(WATER_TENTHS_MAX));
        let water = scaled(self.water_temperature_c, 10.0, water_range)? as u16;
        let mut bytes = [0; PACKET_LEN];
        bytes[0] = START;
        bytes[1..3].copy_from_slice(&self.number.to_be_bytes());
        bytes[3..6].copy_from_slice(&LENGTHS[0].to_be_bytes()[1..]);
        bytes[6..8].copy_from_slice(&air.to_be_bytes());
        bytes[8..10].copy_from_slice(&oxygen.to_be_bytes());
        bytes[10..12].copy_from_slice(&water.to_be_bytes());
        bytes[12..22].copy_from_slice(&self.position.geohash().ok_or(PacketError::Position)?);
        let LocalTime { year, month, day, hour, minute, second } = self.time;
        bytes[22..24].copy_from_slice(&year.to_be_bytes());
        bytes[24..29].copy_from_slice(&[month, day, hour, minute, second]);
        let sum = checksum(&bytes);
        bytes[29..31].copy_from_slice(&sum.to_be_bytes());
        bytes[PACKET_LEN - 1] = END;
        Ok(bytes)
    }
}

/// A plain sum: 28 bytes cannot overflow it.
fn checksum(bytes: &[u8; PACKET_LEN]) -> u16 {
    bytes[1..=28].iter().map(|&byte| u16::from(byte)).sum()
}

impl Position {
    /// Returns the middle of a geohash's cell; none if a character is not in the alphabet.
    #[must_use]
    pub fn from_geohash(geohash: &[u8; GEOHASH_LEN]) -> Option<Self> {
        let (mut longitude, mut latitude) = ((-180.0, 180.0), (-90.0, 90.0));
        let mut is_longitude = true;
        for character in geohash {
            let value = GEOHASH_ALPHABET.iter().position(|known| known == character)?;
            for bit in (0..5).rev() {
                let range = if is_longitude { &mut longitude } else { &mut latitude };
                let middle = f64::midpoint(range.0, range.1);
                *(if value >> bit & 1 == 1 { &mut range.0 } else { &mut range.1 }) = middle;
                is_longitude = !is_longitude;
            }
        }
        Some(Self {
            latitude_deg: f64::midpoint(latitude.0, latitude.1),
            longitude_deg: f64::midpoint(longitude.0, longitude.1),
        })
    }

    /// Returns the geohash of the cell around it; none if it is outside the globe.
    #[must_use]
    pub fn geohash(&self) -> Option<[u8; GEOHASH_LEN]> {
        let on_globe = (-180.0..=180.0).contains(&self.longitude_deg)
            && (-90.0..=90.0).contains(&self.latitude_deg);
        if !on_globe {
            return None;
        }
        let (mut longitude, mut latitude) = ((-180.0, 180.0), (-90.0, 90.0));
        let mut is_longitude = true;
        let mut geohash = [0; GEOHASH_LEN];
        for character in &mut geohash {
            let mut value = 0;
            for _ in 0..5 {
                let (range, at) = if is_longitude {
                    (&mut longitude, self.longitude_deg)
                } else {
                    (&mut latitude, self.latitude_deg)
                };
                let middle = f64::midpoint(range.0, range.1);
                let is_above = at >= middle;
                *(if is_above { &mut range.0 } else { &mut range.1 }) = middle;
                value = value << 1 | usize::from(is_above);
                is_longitude = !is_longitude;
            }
            *character = GEOHASH_ALPHABET[value & 31];
        }
        Some(geohash)
    }
}

impl LocalTime {
    /// Takes a year, and month, day, hour, minute, second; none if that is no date from 2000 to 2099.
    #[must_use]
    pub fn new(year: u16, rest: [u8; 5]) -> Option<Self> {
        let [month, day, hour, minute, second] = rest;
        let is_date = (2_000..=2_099).contains(&year)
            && (1..=12).contains(&month)
            && (1..=month_len(year, month)).contains(&day);
        let is_time = hour < 24 && minute < 60 && second < 60;
        (is_date && is_time).then_some(Self { year, month, day, hour, minute, second })
    }

    /// Returns the unix time where local time is so many seconds ahead of UTC.
    #[must_use]
    pub fn unix_s(&self, utc_offset_s: i32) -> i64 {
        let years = i64::from(self.year) - 2_000;
        // 2000 is a leap year, and so is each fourth one up to 2099.
        let mut days = 10_957 + years * 365 + (years + 3) / 4;
        days += (1..self.month).map(|month| i64::from(month_len(self.year, month))).sum::<i64>();
        days += i64::from(self.day) - 1;
        let minutes = i64::from(self.hour) * 60 + i64::from(self.minute);
        days * SECONDS_PER_DAY + minutes * 60 + i64::from(self.second) - i64::from(utc_offset_s)
    }

    /// Returns the local time of a unix time; none outside the years 2000 to 2099.
    #[must_use]
    pub fn from_unix_s(unix_s: i64, utc_offset_s: i32) -> Option<Self> {
        let local_s = unix_s.checked_add(i64::from(utc_offset_s))?;
        let mut days = local_s.div_euclid(SECONDS_PER_DAY) - 10_957;
        let rest_s = local_s.rem_euclid(SECONDS_PER_DAY);
        if days < 0 {
            return None;
        }
        let year = (2_000..=2_099_u16).find(|&year| {
            let year_len = if is_leap(year) { 366 } else { 365 };
            let is_it = days < year_len;
            days -= if is_it { 0 } else { year_len };
            is_it
        })?;
        let month = (1..=12).find(|&month| {
            let month_len = i64::from(month_len(year, month));
            let is_it = days < month_len;
            days -= if is_it { 0 } else { month_len };
            is_it
        })?;
        let (hour, minute, second) = (rest_s / 3_600, rest_s / 60 % 60, rest_s % 60);
        Self::new(year, [month, days as u8 + 1, hour as u8, minute as u8, second as u8])
    }
}

/// Right for the years 2000 to 2099.
fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4)
}

fn month_len(year: u16, month: u8) -> u8 {
    match month {
        2 => 28 + u8::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    /// Device 1234, 25.5 °C, 20.00 mg/L, 21.3 °C, 35.1796 N 129.0756 E, 2025-08-07 18:09:50: the
    /// golden packet of the protocol's description.
    const GOLDEN: [u8; PACKET_LEN] = [
        0x24, 0x04, 0xd2, 0x00, 0x00, 0x20, 0x00, 0xff, 0x07, 0xd0, 0x00, 0xd5, 0x77, 0x79, 0x37,
        0x62, 0x31, 0x68, 0x6d, 0x62, 0x70, 0x32, 0x07, 0xe9, 0x08, 0x07, 0x12, 0x09, 0x32, 0x08,
        0x80, 0x5c,
    ];

    fn golden() -> Packet {
        Packet::parse(&GOLDEN).expect("legal")
    }

    /// Changes bytes and makes the checksum right again.
    fn changed(changes: &[(usize, u8)]) -> [u8; PACKET_LEN] {
        let mut bytes = GOLDEN;
        for &(at, byte) in changes {
            bytes[at] = byte;
        }
        let sum: u16 = bytes[1..=28].iter().map(|&byte| u16::from(byte)).sum();
        bytes[29..31].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    #[test]
    fn the_golden_packet_is_read_and_written() {
        let packet = golden();
        assert_eq!(packet.number, 1_234);
        assert_eq!(packet.air_temperature_c, 25.5);
        assert_eq!(packet.dissolved_oxygen_mg_per_l, 20.0);
        assert_eq!(packet.water_temperature_c, 21.3);
        assert!((packet.position.latitude_deg - 35.179_6).abs() < 1e-5);
        assert!((packet.position.longitude_deg - 129.075_6).abs() < 1e-5);
        // `date -u -d '2025-08-07 18:09:50' +%s`, and nine hours less for Korea.
        assert_eq!(packet.time.unix_s(0), 1_754_590_190);
        assert_eq!(packet.time.unix_s(9 * 3_600), 1_754_557_790);
        assert_eq!(packet.write(), Ok(GOLDEN));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        for len in 0..PACKET_LEN {
            assert_eq!(Packet::parse(&GOLDEN[..len]), Err(PacketError::Length));
        }
        assert_eq!(Packet::parse(&[0x24; PACKET_LEN + 1]), Err(PacketError::Length));
        for bit in 0..PACKET_LEN * 8 {
            let mut bytes = GOLDEN;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0 | 31 => PacketError::Frame,
                _ => PacketError::Checksum,
            };
            assert_eq!(Packet::parse(&bytes), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn each_field_has_its_range() {
        let parse = |changes: &[(usize, u8)]| Packet::parse(&changed(changes));
        for (changes, expected) in [
            (&[(5, 25)][..], Ok(())),
            (&[(5, 23)], Ok(())),
            (&[(5, 31)], Err(PacketError::LengthField)),
            (&[(3, 1)], Err(PacketError::LengthField)),
            // -40.0 and -40.1, 125.0 and 125.1.
            (&[(6, 0xfe), (7, 0x70)], Ok(())),
            (&[(6, 0xfe), (7, 0x6f)], Err(PacketError::Range)),
            (&[(6, 0x04), (7, 0xe2)], Ok(())),
            (&[(6, 0x04), (7, 0xe3)], Err(PacketError::Range)),
            // 60.00 and 60.01.
            (&[(8, 0x17), (9, 0x70)], Ok(())),
            (&[(8, 0x17), (9, 0x71)], Err(PacketError::Range)),
            // 100.0 and 100.1.
            (&[(10, 0x03), (11, 0xe8)], Ok(())),
            (&[(10, 0x03), (11, 0xe9)], Err(PacketError::Range)),
            (&[(12, b'a')], Err(PacketError::Position)),
            (&[(12, b'W')], Err(PacketError::Position)),
            (&[(21, 0)], Err(PacketError::Position)),
            // 1999 and 2100.
            (&[(22, 0x07), (23, 0xcf)], Err(PacketError::Time)),
            (&[(22, 0x08), (23, 0x34)], Err(PacketError::Time)),
            (&[(24, 0)], Err(PacketError::Time)),
            (&[(24, 13)], Err(PacketError::Time)),
            (&[(25, 0)], Err(PacketError::Time)),
            (&[(25, 31)], Ok(())),
            (&[(24, 9), (25, 31)], Err(PacketError::Time)),
            // The 29th of February of 2025 and of 2024.
            (&[(24, 2), (25, 29)], Err(PacketError::Time)),
            (&[(23, 0xe8), (24, 2), (25, 29)], Ok(())),
            (&[(26, 24)], Err(PacketError::Time)),
            (&[(27, 60)], Err(PacketError::Time)),
            (&[(28, 60)], Err(PacketError::Time)),
        ] {
            assert_eq!(parse(changes).map(|_| ()), expected, "{changes:?}");
        }
        let cold = parse(&[(6, 0xfe), (7, 0x70)]).expect("legal");
        assert_eq!(cold.air_temperature_c, -40.0);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let with = |change: fn(&mut Packet)| {
            let mut packet = golden();
            change(&mut packet);
            packet.write()
        };
        assert_eq!(with(|p| p.air_temperature_c = f64::NAN), Err(PacketError::Range));
        assert_eq!(with(|p| p.air_temperature_c = 125.1), Err(PacketError::Range));
        assert_eq!(with(|p| p.dissolved_oxygen_mg_per_l = -0.01), Err(PacketError::Range));
        assert_eq!(with(|p| p.water_temperature_c = f64::INFINITY), Err(PacketError::Range));
        assert_eq!(with(|p| p.position.latitude_deg = 90.1), Err(PacketError::Position));
        assert_eq!(with(|p| p.position.longitude_deg = f64::NAN), Err(PacketError::Position));
    }

    #[test]
    fn geohashes_equal_known_ones() {
        // The places and hashes of the geohash article of Wikipedia, and the corners of the globe.
        for (latitude_deg, longitude_deg, start) in [
            (57.649_11, 10.407_44, "u4pruydqqv"),
            (42.605, -5.603, "ezs42"),
            (-25.382_708, -49.265_506, "6gkzwgjzn8"),
            (-90.0, -180.0, "0000000000"),
            (90.0, 180.0, "zzzzzzzzzz"),
        ] {
            let geohash = Position { latitude_deg, longitude_deg }.geohash().expect("on the globe");
            let text = String::from_utf8(geohash.to_vec()).expect("ASCII");
            assert!(text.starts_with(start), "{text} instead of {start}");
        }
    }

    /// Numbers that look random, from a seed (Marsaglia, Xorshift RNGs, 2003).
    struct Xorshift(u64);

    impl Xorshift {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, end: u64) -> f64 {
            (self.next() % end) as f64
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut random = Xorshift(0x5eed);
        for _ in 0..20_000 {
            let unix_s = 946_684_800 + random.below(3_155_760_000) as i64;
            let offset_s = (random.below(26 * 4) as i32 - 48) * 900;
            let Some(time) = LocalTime::from_unix_s(unix_s, offset_s) else { continue };
            assert_eq!(time.unix_s(offset_s), unix_s);
            let packet = Packet {
                number: random.next() as u16,
                air_temperature_c: (random.below(1_651) - 400.0) / 10.0,
                dissolved_oxygen_mg_per_l: random.below(6_001) / 100.0,
                water_temperature_c: random.below(1_001) / 10.0,
                position: Position {
                    latitude_deg: random.below(180_000_001) / 1e6 - 90.0,
                    longitude_deg: random.below(360_000_001) / 1e6 - 180.0,
                },
                time,
            };
            let bytes = packet.write().expect("in range");
            let read = Packet::parse(&bytes).expect("as written");
            // A cell has 360/2^25 by 180/2^25 degrees.
            let (seen, meant) = (read.position, packet.position);
            assert!((seen.latitude_deg - meant.latitude_deg).abs() <= 2.7e-6);
            assert!((seen.longitude_deg - meant.longitude_deg).abs() <= 5.4e-6);
            assert_eq!(Packet { position: meant, ..read }, packet);
            assert_eq!(read.write(), Ok(bytes));
        }
    }

    #[test]
    fn dates_outside_the_century_have_no_local_time() {
        assert_eq!(LocalTime::from_unix_s(946_684_799, 0), None);
        assert!(LocalTime::from_unix_s(946_684_799, 1).is_some());
        assert!(LocalTime::from_unix_s(4_102_444_799, 0).is_some());
        assert_eq!(LocalTime::from_unix_s(4_102_444_800, 0), None);
        assert_eq!(LocalTime::from_unix_s(i64::MAX, 1), None);
        assert_eq!(LocalTime::from_unix_s(i64::MIN, -1), None);
    }

    #[test]
    fn garbage_does_no_harm() {
        let mut random = Xorshift(0xbad);
        for _ in 0..100_000 {
            let mut bytes = GOLDEN;
            for _ in 0..1 + random.next() % 8 {
                bytes[1 + (random.next() % 28) as usize] = random.next() as u8;
            }
            let sum: u16 = bytes[1..=28].iter().map(|&byte| u16::from(byte)).sum();
            bytes[29..31].copy_from_slice(&sum.to_be_bytes());
            if let Ok(packet) = Packet::parse(&bytes) {
                assert!(packet.write().is_ok(), "what was read can be written: {bytes:?}");
            }
        }
    }
}
