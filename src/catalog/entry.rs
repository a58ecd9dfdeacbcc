//! One value in the catalog: a checksum, then what it is about.

use crate::foundation::checksum::crc32c;

/// CRC32-Castagnoli of key and payload, big-endian.
const CHECKSUM_BYTES: usize = size_of::<u32>();

/// The key is part of the checksum, so a value that ended up under another key does not pass.
pub(crate) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(CHECKSUM_BYTES + payload.len());
    value.extend_from_slice(&checksum(key, payload).to_be_bytes());
    value.extend_from_slice(payload);
    value
}

/// Mirror of [`seal`]; `None` for a damaged value.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, payload) = value.split_first_chunk::<CHECKSUM_BYTES>()?;
    (u32::from_be_bytes(*sum) == checksum(key, payload)).then_some(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut text = Vec::with_capacity(key.len() + payload.len());
    text.extend_from_slice(key);
    text.extend_from_slice(payload);
    crc32c(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = &[0x8f, 0x37, 0x8a, 0x10, b'v'];

    #[test]
    fn a_value_is_its_checksum_and_its_payload() {
        assert_eq!(seal(b"k", b"v"), GOLDEN);
        assert_eq!(unseal(b"k", GOLDEN), Some(&b"v"[..]));
        assert_eq!(unseal(b"other", GOLDEN), None);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        for len in 0..GOLDEN.len() {
            assert_eq!(unseal(b"k", &GOLDEN[..len]), None, "{len}");
        }
        for bit in 0..GOLDEN.len() * 8 {
            let mut value = GOLDEN.to_vec();
            value[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(b"k", &value), None, "bit {bit}");
        }
    }
}
