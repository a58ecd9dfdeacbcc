//! CRC-32C (Castagnoli), the checksum of every Prometheus file.

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Continues `crc` over `bytes`: `crc32c_append(crc32c(a), b)` is the checksum of `a` followed by `b`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
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
    }
}
