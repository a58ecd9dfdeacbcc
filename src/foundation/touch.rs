//! Memory that is asked for before it is needed.

/// Bytes that come from memory at once.
const CACHE_LINE_BYTES: usize = 64;

/// Reads a little of all of `bytes`; what it returns has no meaning. Whoever is about to read what lies in many places
/// touches some of them first: their memory then comes at the same time, rather than one place after the other.
#[inline]
#[must_use = "what is not used is not read"]
pub fn touch(bytes: &[u8]) -> u8 {
    let lines = bytes.chunks(CACHE_LINE_BYTES);
    lines.fold(0, |sum, line| sum ^ line.first().copied().unwrap_or(0))
}
