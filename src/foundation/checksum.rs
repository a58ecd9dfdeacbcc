//! CRC-32C (Castagnoli), the checksum of every Prometheus file.

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

/// From so many bytes on the wide instructions of a processor pay.
const WIDE_BYTES_MIN: usize = 256;

/// Between these lengths the narrow ones do, too: what is shorter has little to fold, and what is longer is cut into three,
/// whose sums take longer to join than the crate for one checksum takes for all.
const NARROW_BYTES: std::ops::RangeInclusive<usize> = 64..=256;

/// Has this processor instructions that fold more than 16 bytes at once? Where it is not known, it has.
#[inline]
fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    sum(bytes, is_wide())
}

#[inline]
fn sum(bytes: &[u8], is_wide: bool) -> u32 {
    let is_folded = if is_wide {
        WIDE_BYTES_MIN <= bytes.len()
    } else {
        NARROW_BYTES.contains(&bytes.len())
    };
    if is_folded {
        crc32_iscsi(bytes)
    } else {
        crc32c::crc32c(bytes)
    }
}

/// Continues `crc` over `bytes`: `crc32c_append(crc32c(a), b)` is the checksum of `a` followed by `b`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    append(crc, bytes, is_wide())
}

#[inline]
fn append(crc: u32, bytes: &[u8], is_wide: bool) -> u32 {
    if !is_wide || bytes.len() < WIDE_BYTES_MIN {
        return crc32c::crc32c_append(crc, bytes);
    }
    // What it keeps between two pieces is the checksum without its last step, which inverts it.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    // Its upper half is zero.
    u32::try_from(digest.finalize()).unwrap_or(0)
}

/// The checksum of `a` followed by `b`, of which only `crc32c(a)`, `crc32c(b)` and the length of `b` are known.
pub fn crc32c_combine(of_a: u32, of_b: u32, n_bytes_b: usize) -> u32 {
    crc32c::crc32c_combine(of_a, of_b, n_bytes_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_check_value() {
        // RFC 3720 appendix B.4 and the usual "check" input.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), 0xE306_9283);
        let (a, b) = (crc32c(b"1234"), crc32c(b"56789"));
        assert_eq!(crc32c_combine(a, b, 5), 0xE306_9283);
        // RFC 3720 appendix B.4, as often as makes it long: 32 zeros are 8A9136AA.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    }
    #[test]
    fn short_and_long_pieces_from_any_address_have_the_checksum_of_the_bits() {
        let bytes: Vec<u8> = (0u32..5_000)
            .flat_map(|n| (n * n / 7).to_le_bytes())
            .collect();
        let bit_by_bit = |bytes: &[u8]| {
            !bytes.iter().fold(u32::MAX, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())
                })
            })
        };
        for len in [0, 1, 63, 64, 65, 255, 256, 257, 400, 1_023, 4_097, 16_384] {
            for start in [0, 1, 7, 64] {
                let bytes = &bytes[start..start + len];
                let expect = bit_by_bit(bytes);
                for is_wide in [false, true] {
                    assert_eq!(sum(bytes, is_wide), expect, "{len} from {start}");
                    for cut in [0, 1, len / 3, len] {
                        let cut = cut.min(len);
                        let before = sum(&bytes[..cut], is_wide);
                        let appended = append(before, &bytes[cut..], is_wide);
                        assert_eq!(appended, expect, "{len} from {start}, cut at {cut}");
                    }
                }
            }
        }
    }
}
