//! Appending a few bytes without a call.

/// Appends `text`. Up to 32 bytes are moved by two copies of equal, known length that may overlap: what a call to copy
/// costs is more than what it copies then.
#[inline]
pub fn append_short(out: &mut Vec<u8>, text: &[u8]) {
    let end = out.len() + text.len();
    if text.len() > 32 {
        out.extend_from_slice(text);
    } else if let (Some(first), Some(last)) = (text.first_chunk::<16>(), text.last_chunk::<16>()) {
        out.extend_from_slice(first);
        out.truncate(end - 16);
        out.extend_from_slice(last);
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        out.extend_from_slice(first);
        out.truncate(end - 8);
        out.extend_from_slice(last);
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        out.extend_from_slice(first);
        out.truncate(end - 4);
        out.extend_from_slice(last);
    } else {
        for byte in text {
            out.push(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_are_appended() {
        let text: Vec<u8> = (0..100).collect();
        for len in 0..=text.len() {
            let mut out = b"before".to_vec();
            append_short(&mut out, &text[..len]);
            assert_eq!(out, [b"before", &text[..len]].concat());
        }
    }
}
