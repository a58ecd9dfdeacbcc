//! Which texts stand in JSON as they are: nearly all names and values of labels do.

/// Has nothing of `text` to be escaped? Eight bytes are looked at in one go, some of them twice.
#[inline]
pub(super) fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        let plain = |byte: &u8| (*byte >= 0x20) & (*byte != b'"') & (*byte != b'\\');
        return text.iter().fold(true, |all, byte| all & plain(byte));
    };
    let (words, _) = text.as_chunks::<8>();
    let special = |word: &[u8; 8]| specials(u64::from_le_bytes(*word));
    let all = words.iter().fold(0, |all, word| all | special(word));
    all | special(last) == 0
}

/// The highest bits of those of eight bytes that are below a blank, quotes or backslashes; none where there are none.
#[inline]
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Each byte below `n`, and perhaps some above one that is.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    (below(word, 0x20) | quote | backslash) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_has_to_be_escaped_is_found_wherever_it_stands() {
        for len in 1..=20 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b' '; len];
                    text[at] = byte;
                    let is_special = byte < 0x20 || matches!(byte, b'"' | b'\\');
                    assert_eq!(is_plain(&text), !is_special, "{byte} at {at} of {len}");
                }
            }
        }
        assert!(is_plain(b""));
    }
}
