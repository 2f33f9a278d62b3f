//! What a device is told before it first connects, as an image of one flash partition: who it is,
//! where its server is, by what it knows the server, and by what it proves itself.
//!
//! The image has [`PROVISION_LEN`] bytes, one page of flash. Byte order is little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic, `SCPV` |
//! | 4 | 2 | version, 1 |
//! | 6 | 2 | reserved, 0 |
//! | 8 | 4 | length of the fields in bytes, n |
//! | 12 | 4 | CRC-32 (ISO-HDLC) of the bytes 0 to 11 and of the fields |
//! | 16 | n | the fields |
//! | 16 + n | | 0xff up to the end, as erased flash |
//!
//! Each field is a tag (1 byte), a length (2 bytes) and so many bytes of value. A tag stands at
//! most once, in any order. Whoever does not know a tag below 128 must refuse the image; unknown
//! tags from 128 on are passed over.
//!
//! | tag | field | value |
//! |---|---|---|
//! | 1 | device | its identity, 1 to 64 of `A-Z a-z 0-9 - _` |
//! | 2 | mqtts | MQTT over TLS 1.3: `HOST:PORT` |
//! | 3 | https | `https://HOST:PORT` |
//! | 4 | sealed | the sealed session over TCP: `HOST:PORT` |
//! | 5 | authority | the certificate (DER) that TLS has to end at |
//! | 6 | server link key | the X25519 key that the server has to prove, 32 bytes |
//! | 7 | token | the MQTT password and HTTP bearer token |
//! | 8 | certificate | the device's own certificate (DER) |
//! | 9 | private key | that certificate's key (PKCS #8, DER) |
//! | 10 | link key | the device's secret X25519 key, 32 bytes |
//!
//! The image holds secrets: it belongs into a partition that is encrypted where the chip can.

use core::fmt;

use crate::limits::{PROVISION_TEXT_LEN_MAX, PROVISION_VALUE_LEN_MAX};
use crate::wire::uplink::is_device_id;

/// The length of an image: one page of flash.
pub const PROVISION_LEN: usize = 4_096;

const MAGIC: [u8; 4] = *b"SCPV";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 16;
/// The bytes of the header that the checksum covers.
const CHECKED_LEN: usize = 12;
/// From here on, tags are optional.
const OPTIONAL_TAG: u8 = 128;
const CRC: crc::Crc<u32, crc::Table<1>> =
    crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);

/// What an image says; it borrows from the image.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Provision<'a> {
    /// Who the device is.
    pub device: &'a str,
    /// Where it speaks MQTT over TLS.
    pub mqtts: Option<&'a str>,
    /// Where it speaks HTTPS.
    pub https: Option<&'a str>,
    /// Where it speaks the sealed session over TCP.
    pub sealed: Option<&'a str>,
    /// The certificate (DER) that TLS has to end at.
    pub authority: Option<&'a [u8]>,
    /// The X25519 key of the server.
    pub server_link_key: Option<&'a [u8; 32]>,
    /// The token.
    pub token: Option<&'a str>,
    /// The device's certificate (DER).
    pub certificate: Option<&'a [u8]>,
    /// The certificate's key (PKCS #8, DER).
    pub private_key: Option<&'a [u8]>,
    /// The device's secret X25519 key.
    pub link_key: Option<&'a [u8; 32]>,
}

impl fmt::Debug for Provision<'_> {
    /// Writes no secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provision").field("device", &self.device).finish_non_exhaustive()
    }
}

/// Why an image cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisionError {
    /// The image ends before its fields do.
    TooShort,
    /// There is no image: another magic, as in erased flash.
    NoImage,
    /// The image is of a version that is not known here.
    Version,
    /// The checksum does not fit: a byte was changed.
    Checksum,
    /// A field reaches beyond the fields, stands twice, or has an impossible value.
    Field(u8),
    /// A field that has to be understood is not known here.
    UnknownField(u8),
    /// No device is named.
    NoDevice,
    /// The fields do not fit into an image.
    TooLong,
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("the image is cut off"),
            Self::NoImage => f.write_str("there is no provisioning image"),
            Self::Version => f.write_str("the image is of a version that is not known here"),
            Self::Checksum => f.write_str("the image is damaged"),
            Self::Field(tag) => write!(f, "the image's field {tag} is malformed"),
            Self::UnknownField(tag) => write!(f, "the image's field {tag} is not known here"),
            Self::NoDevice => f.write_str("the image names no device"),
            Self::TooLong => write!(f, "the fields need more than {PROVISION_LEN} bytes"),
        }
    }
}

impl core::error::Error for ProvisionError {}

impl<'a> Provision<'a> {
    /// Reads an image; what stands behind it is not looked at.
    ///
    /// # Errors
    /// [`ProvisionError`] says what is wrong.
    pub fn parse(image: &'a [u8]) -> Result<Self, ProvisionError> {
        let header: &[u8; HEADER_LEN] = image.first_chunk().ok_or(ProvisionError::TooShort)?;
        let [m0, m1, m2, m3, v0, v1, r0, r1, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(ProvisionError::NoImage);
        }
        if u16::from_le_bytes([v0, v1]) != VERSION || [r0, r1] != [0, 0] {
            return Err(ProvisionError::Version);
        }
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3]))
            .ok()
            .filter(|&len| len <= PROVISION_LEN - HEADER_LEN)
            .ok_or(ProvisionError::TooShort)?;
        let fields = image.get(HEADER_LEN..HEADER_LEN + len).ok_or(ProvisionError::TooShort)?;
        if checksum(header, fields) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(ProvisionError::Checksum);
        }
        Self::parse_fields(fields)
    }

    fn parse_fields(mut fields: &'a [u8]) -> Result<Self, ProvisionError> {
        let mut provision = Self::default();
        let mut seen = 0_u128;
        while let Some((&tag, rest)) = fields.split_first() {
            let (value, rest) = split_value(rest).ok_or(ProvisionError::Field(tag))?;
            fields = rest;
            if tag >= OPTIONAL_TAG {
                continue;
            }
            let bit = 1_u128 << tag;
            if seen & bit != 0 {
                return Err(ProvisionError::Field(tag));
            }
            seen |= bit;
            provision.take(tag, value)?;
        }
        if provision.device.is_empty() { Err(ProvisionError::NoDevice) } else { Ok(provision) }
    }

    fn take(&mut self, tag: u8, value: &'a [u8]) -> Result<(), ProvisionError> {
        let wrong = ProvisionError::Field(tag);
        match tag {
            1 => {
                let device = text(value).filter(|device| is_device_id(device));
                self.device = device.ok_or(wrong)?;
            }
            2 => self.mqtts = Some(text(value).ok_or(wrong)?),
            3 => self.https = Some(text(value).ok_or(wrong)?),
            4 => self.sealed = Some(text(value).ok_or(wrong)?),
            5 => self.authority = Some(bytes(value).ok_or(wrong)?),
            6 => self.server_link_key = Some(value.try_into().map_err(|_| wrong)?),
            7 => self.token = Some(text(value).ok_or(wrong)?),
            8 => self.certificate = Some(bytes(value).ok_or(wrong)?),
            9 => self.private_key = Some(bytes(value).ok_or(wrong)?),
            10 => self.link_key = Some(value.try_into().map_err(|_| wrong)?),
            _ => return Err(ProvisionError::UnknownField(tag)),
        }
        Ok(())
    }

    /// Writes a whole image.
    ///
    /// # Errors
    /// [`ProvisionError::TooLong`], or [`ProvisionError::Field`] for a value that no image may hold.
    pub fn write(&self, image: &mut [u8; PROVISION_LEN]) -> Result<(), ProvisionError> {
        let fields: [Option<&[u8]>; 10] = [
            Some(self.device.as_bytes()),
            self.mqtts.map(str::as_bytes),
            self.https.map(str::as_bytes),
            self.sealed.map(str::as_bytes),
            self.authority,
            self.server_link_key.map(<[u8; 32]>::as_slice),
            self.token.map(str::as_bytes),
            self.certificate,
            self.private_key,
            self.link_key.map(<[u8; 32]>::as_slice),
        ];
        image.fill(0xff);
        let (header, body) =
            image.split_first_chunk_mut::<HEADER_LEN>().ok_or(ProvisionError::TooLong)?;
        let mut len = 0;
        for (tag, value) in (1_u8..).zip(fields) {
            let Some(value) = value else {
                continue;
            };
            Provision::default().take(tag, value)?;
            let value_len = u16::try_from(value.len()).map_err(|_| ProvisionError::TooLong)?;
            let end = len + 3 + value.len();
            let place = body.get_mut(len..end).ok_or(ProvisionError::TooLong)?;
            let (head, rest) = place.split_at_mut(3);
            let [low, high] = value_len.to_le_bytes();
            head.copy_from_slice(&[tag, low, high]);
            rest.copy_from_slice(value);
            len = end;
        }
        let fields = body.get(..len).ok_or(ProvisionError::TooLong)?;
        header[..4].copy_from_slice(&MAGIC);
        header[4..6].copy_from_slice(&VERSION.to_le_bytes());
        header[6..8].fill(0);
        let len = u32::try_from(len).map_err(|_| ProvisionError::TooLong)?;
        header[8..12].copy_from_slice(&len.to_le_bytes());
        let crc = checksum(header, fields);
        header[12..].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }
}

fn checksum(header: &[u8; HEADER_LEN], fields: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&header[..CHECKED_LEN]);
    digest.update(fields);
    digest.finalize()
}

/// Splits off a length of two bytes and so many bytes.
fn split_value(fields: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = fields.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
}

fn text(value: &[u8]) -> Option<&str> {
    let text = core::str::from_utf8(value).ok()?;
    let legal = text.bytes().all(|byte| byte.is_ascii_graphic());
    (legal && (1..=PROVISION_TEXT_LEN_MAX).contains(&text.len())).then_some(text)
}

fn bytes(value: &[u8]) -> Option<&[u8]> {
    (1..=PROVISION_VALUE_LEN_MAX).contains(&value.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;
    use std::vec::Vec;

    use super::*;

    fn provision() -> Provision<'static> {
        Provision {
            device: "pump-7",
            mqtts: Some("plant.example:8883"),
            https: Some("https://plant.example:8443"),
            authority: Some(&[0x30, 0x82, 1, 2]),
            server_link_key: Some(&[7; 32]),
            token: Some("secret-token"),
            link_key: Some(&[9; 32]),
            ..Provision::default()
        }
    }

    fn image(provision: &Provision<'_>) -> [u8; PROVISION_LEN] {
        let mut image = [0; PROVISION_LEN];
        provision.write(&mut image).expect("room");
        image
    }

    /// Packs fields by hand; the checksum is computed bit by bit as CRC-32 is defined.
    fn packed(fields: &[u8]) -> Vec<u8> {
        let mut head = Vec::from(*b"SCPV\x01\0\0\0");
        head.extend((fields.len() as u32).to_le_bytes());
        let mut crc = u32::MAX;
        for byte in head.iter().chain(fields) {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            }
        }
        head.extend((!crc).to_le_bytes());
        head.extend(fields);
        head
    }

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let least = Provision { device: "a-1", token: Some("xy"), ..Provision::default() };
        let image = image(&least);
        let fields = b"\x01\x03\0a-1\x07\x02\0xy";
        assert_eq!(image[..16 + fields.len()], packed(fields));
        assert!(image[16 + fields.len()..].iter().all(|&byte| byte == 0xff));
        assert_eq!(Provision::parse(&packed(fields)), Ok(least));
    }

    #[test]
    fn everything_comes_back() {
        let (certificate, key) = ([1; 600], [2; 138]);
        let mut all = provision();
        all.sealed = Some("plant.example:12352");
        all.certificate = Some(&certificate);
        all.private_key = Some(&key);
        let image = image(&all);
        assert_eq!(Provision::parse(&image), Ok(all));
        assert!(!format!("{all:?}").contains("secret"));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = image(&provision());
        let used = 16 + u32::from_le_bytes([whole[8], whole[9], whole[10], whole[11]]) as usize;
        for len in 0..used {
            assert_eq!(Provision::parse(&whole[..len]), Err(ProvisionError::TooShort), "{len}");
        }
        for bit in 0..used * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Provision::parse(&flipped).is_err(), "bit {bit}");
        }
        assert_eq!(Provision::parse(&[0xff; PROVISION_LEN]), Err(ProvisionError::NoImage));
    }

    #[test]
    fn fields_that_no_device_can_use_are_refused() {
        let parse = |fields: &[u8]| Provision::parse(&packed(fields)).map(|_| ()).unwrap_err();
        assert_eq!(parse(b""), ProvisionError::NoDevice);
        assert_eq!(parse(b"\x01\x01\0/"), ProvisionError::Field(1));
        assert_eq!(parse(b"\x01\x01\0a\x01\x01\0b"), ProvisionError::Field(1));
        assert_eq!(parse(b"\x01\x02\0a"), ProvisionError::Field(1));
        assert_eq!(parse(b"\x01\x01"), ProvisionError::Field(1));
        assert_eq!(parse(b"\x01\x01\0a\x06\x01\0k"), ProvisionError::Field(6));
        assert_eq!(parse(b"\x01\x01\0a\x07\0\0"), ProvisionError::Field(7));
        assert_eq!(parse(b"\x01\x01\0a\x0b\0\0"), ProvisionError::UnknownField(11));
        // Optional fields of later versions are passed over, as often as they stand.
        assert!(Provision::parse(&packed(b"\x80\0\0\x01\x01\0a\x80\x01\0?")).is_ok());
        let long = [0; PROVISION_VALUE_LEN_MAX];
        let mut full = provision();
        full.certificate = Some(&long);
        full.private_key = Some(&long);
        full.authority = Some(&long);
        assert_eq!(full.write(&mut [0; PROVISION_LEN]), Err(ProvisionError::TooLong));
    }
}
