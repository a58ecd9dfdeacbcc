//! Snappy's block format, read. Logs and remote writes are in it, and most of reading them is this.

use std::fmt;

/// Bytes behind the end, so that short elements are copied whole words at a time and no end is near.
const SLOP: usize = 64;

/// What is left of the input is read carefully when it is shorter than this.
const INPUT_AHEAD: usize = 32;

/// Elements up to this length are copied at once.
const SHORT: usize = 16;

/// No element makes more bytes than this of each of its own: the best are 64 of 3.
const GAIN_MAX: usize = 22;

/// Of the six bits of a literal's length those above are the number of bytes that have it.
const LITERAL_MAX: usize = 60;

/// Why bytes are not Snappy's block format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSnappy(&'static str);

impl fmt::Display for BadSnappy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadSnappy {}

const CUT: BadSnappy = BadSnappy("an element is cut off");
const TOO_LONG: BadSnappy = BadSnappy("an element goes beyond the length in the header");
const LIE: BadSnappy = BadSnappy("the header promises more than so many bytes can hold");
const NOWHERE: BadSnappy = BadSnappy("a copy begins before the first byte");

/// The length that `stored` says it has once it is decompressed. Nothing else of it is looked at.
pub fn decompressed_len(stored: &[u8]) -> Result<usize, BadSnappy> {
    header(stored).map(|(len, _)| len)
}

/// The same, and where the elements begin.
fn header(stored: &[u8]) -> Result<(usize, &[u8]), BadSnappy> {
    let mut len = 0u32;
    for (at, byte) in stored.iter().enumerate().take(5) {
        if at == 4 && *byte > 0xf {
            break;
        }
        len |= u32::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            let elements = stored.get(at + 1..).unwrap_or_default();
            return Ok((len as usize, elements));
        }
    }
    Err(BadSnappy("the header is no length"))
}

/// The first byte that `stored` becomes, if it says so with a literal as it must.
pub fn first_byte(stored: &[u8]) -> Option<u8> {
    let (len, elements) = header(stored).ok()?;
    let (tag, rest) = elements.split_first()?;
    let literal = usize::from(tag >> 2);
    let n_length_bytes = (literal + 1).saturating_sub(LITERAL_MAX);
    (0 < len && tag & 3 == 0).then(|| rest.get(n_length_bytes).copied())?
}

/// Decompresses `stored` into `out`, whose memory is used again. The caller has seen to it that
/// [`decompressed_len`] is not more than it is ready for.
pub fn decompress(stored: &[u8], out: &mut Vec<u8>) -> Result<(), BadSnappy> {
    let decompressed = decompress_at(stored, out, 0);
    out.truncate(*decompressed.as_ref().unwrap_or(&0));
    decompressed.map(|_| ())
}

/// Decompresses `stored` behind the first `at` bytes of `out`, which is made longer when it has to be, and never shorter;
/// where it ends there.
pub fn decompress_at(stored: &[u8], out: &mut Vec<u8>, at: usize) -> Result<usize, BadSnappy> {
    let (len, elements) = header(stored)?;
    if elements.len().saturating_mul(GAIN_MAX) < len {
        return Err(LIE);
    }
    let end = at + len;
    if out.len() < end + SLOP {
        out.resize(end + SLOP, 0);
    }
    let here = out.get_mut(at..end + SLOP).ok_or(TOO_LONG)?;
    fast_elements(elements, here, len)?;
    Ok(end)
}

/// `out` has [`SLOP`] bytes more than `len`. What kind an element is of is asked in branches, not looked up: guessed
/// right, as mostly, the next element begins before this one is done.
fn fast_elements(mut input: &[u8], out: &mut [u8], len: usize) -> Result<(), BadSnappy> {
    let mut n_out = 0;
    while let Some(ahead) = input.first_chunk::<INPUT_AHEAD>()
        && n_out < len
    {
        let tag = ahead[0];
        let word = u32::from_le_bytes([ahead[1], ahead[2], ahead[3], ahead[4]]);
        if tag & 3 == 0 {
            let n = usize::from(tag >> 2) + 1;
            if n <= SHORT {
                let from = ahead.get(1..).and_then(<[u8]>::first_chunk::<SHORT>);
                *word_at(out, n_out)? = *from.ok_or(CUT)?;
                n_out += n;
                input = input.get(1 + n..).unwrap_or_default();
                continue;
            }
            let (n, n_more) = match n.saturating_sub(LITERAL_MAX) {
                0 => (n, 0),
                1 => (1 + (word & 0xff) as usize, 1),
                2 => (1 + (word & 0xffff) as usize, 2),
                3 => (1 + (word & 0xff_ffff) as usize, 3),
                _ => (1 + word as usize, 4),
            };
            let from = input.get(1 + n_more..).and_then(|from| from.get(..n));
            copy_literal(from.ok_or(CUT)?, out, n_out, len)?;
            n_out += n;
            input = input.get(1 + n_more + n..).unwrap_or_default();
            continue;
        }
        let n = usize::from(tag >> 2) + 1;
        let (n, offset, n_read) = match tag & 3 {
            1 => {
                let low = (word & 0xff) as usize;
                (4 + (n - 1) % 8, usize::from(tag >> 5) << 8 | low, 2)
            }
            2 => (n, (word & 0xffff) as usize, 3),
            _ => (n, word as usize, 5),
        };
        input = input.get(n_read..).unwrap_or_default();
        let from = n_out.checked_sub(offset).ok_or(NOWHERE)?;
        if SHORT <= offset && n <= SHORT {
            *word_at(out, n_out)? = *word_at::<SHORT>(out, from)?;
        } else if 8 <= offset {
            let mut at = 0;
            while at < n {
                *word_at(out, n_out + at)? = *word_at::<8>(out, from + at)?;
                at += 8;
            }
        } else {
            copy_again(out, from, n_out, n, len)?;
        }
        n_out += n;
    }
    careful_elements(input, out, n_out, len)
}

#[inline(always)]
fn word_at<const N: usize>(bytes: &mut [u8], at: usize) -> Result<&mut [u8; N], BadSnappy> {
    let here = bytes.get_mut(at..);
    here.and_then(<[u8]>::first_chunk_mut).ok_or(TOO_LONG)
}

fn copy_literal(from: &[u8], out: &mut [u8], n_out: usize, len: usize) -> Result<(), BadSnappy> {
    let room = out.get_mut(n_out..len).ok_or(TOO_LONG)?;
    let to = room.get_mut(..from.len()).ok_or(TOO_LONG)?;
    to.copy_from_slice(from);
    Ok(())
}

/// Copies what may overlap with where it goes: then the bytes between the two are repeated.
fn copy_again(
    out: &mut [u8],
    from: usize,
    n_out: usize,
    n: usize,
    len: usize,
) -> Result<(), BadSnappy> {
    if n_out <= from {
        return Err(NOWHERE);
    }
    if len < n_out || len - n_out < n {
        return Err(TOO_LONG);
    }
    for at in 0..n {
        *word_at(out, n_out + at)? = *word_at::<1>(out, from + at)?;
    }
    Ok(())
}

/// The last elements, byte by byte.
fn careful_elements(
    mut input: &[u8],
    out: &mut [u8],
    mut n_out: usize,
    len: usize,
) -> Result<(), BadSnappy> {
    while let Some((tag, rest)) = input.split_first() {
        let n = usize::from(tag >> 2) + 1;
        let n_more = match tag & 3 {
            0 => n.saturating_sub(LITERAL_MAX),
            1 => 1,
            2 => 2,
            _ => 4,
        };
        let (more, rest) = rest.split_at_checked(n_more).ok_or(CUT)?;
        let number = more.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
        if tag & 3 == 0 {
            let n = if 0 < n_more { number + 1 } else { n };
            let (literal, rest) = rest.split_at_checked(n).ok_or(CUT)?;
            copy_literal(literal, out, n_out, len)?;
            n_out += n;
            input = rest;
            continue;
        }
        let (n, offset) = match tag & 3 {
            1 => (4 + (n - 1) % 8, usize::from(tag >> 5) << 8 | number),
            _ => (n, number),
        };
        let from = n_out.checked_sub(offset).ok_or(NOWHERE)?;
        copy_again(out, from, n_out, n, len)?;
        n_out += n;
        input = rest;
    }
    if n_out == len {
        Ok(())
    } else {
        Err(BadSnappy(
            "the length in the header is not that of the elements",
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decompressed(stored: &[u8]) -> Result<Vec<u8>, BadSnappy> {
        let mut out = b"what was there before".to_vec();
        decompress(stored, &mut out).map(|()| out)
    }

    #[test]
    fn the_first_byte_is_seen_without_the_others() {
        for n in [1usize, 2, 59, 60, 61, 256, 257, 70_000, 20_000_000] {
            let text: Vec<u8> = (0..n).map(|n| (n % 251 + 3).to_le_bytes()[0]).collect();
            let stored = snap::raw::Encoder::new().compress_vec(&text).unwrap();
            assert_eq!(first_byte(&stored), Some(3), "{n}");
        }
        let literals: [&[u8]; 5] = [
            &[1, 0, 7],
            &[1, 60 << 2, 0, 7],
            &[1, 61 << 2, 0, 0, 7],
            &[1, 62 << 2, 0, 0, 0, 7],
            &[1, 63 << 2, 0, 0, 0, 0, 7],
        ];
        for literal in literals {
            assert_eq!(first_byte(literal), Some(7));
            for n in 0..literal.len() {
                assert_eq!(first_byte(&literal[..n]), None, "{n} of {literal:?}");
            }
        }
        // Nothing at all, and a copy of nothing.
        assert_eq!(first_byte(&[0, 0, 7]), None);
        assert_eq!(first_byte(&[4, 1, 1]), None);
    }

    #[test]
    fn every_kind_of_element_is_read_at_the_end_and_far_from_it() {
        let literal = |n: u32| match n {
            1..=60 => vec![(u8::try_from(n).unwrap() - 1) << 2],
            61..=256 => vec![60 << 2, u8::try_from(n - 1).unwrap()],
            _ => [vec![62 << 2], (n - 1).to_le_bytes()[..3].to_vec()].concat(),
        };
        for n in [1, 2, 15, 16, 17, 59, 60, 61, 255, 256, 257, 70_000u32] {
            let text: Vec<u8> = (0..n).map(|n| (n % 251).to_le_bytes()[0]).collect();
            let copies: &[(&[u8], usize, usize)] = &[
                (&[1, 1], 1, 4),
                (&[1 | 7 << 2, 1], 1, 11),
                (&[2 | 63 << 2, 2, 0], 2, 64),
                (&[2 | 12 << 2, 9, 0], 9, 13),
                (&[2 | 40 << 2, 17, 0], 17, 41),
                (&[3 | 20 << 2, 60, 0, 0, 0], 60, 21),
                (&[1 | 1 << 5 | 2 << 2, 0], 256, 6),
            ];
            for (copy, offset, n_copied) in copies {
                for n_behind in [0, 100] {
                    let mut expect = text.clone();
                    let mut elements = [literal(n), text.clone(), copy.to_vec()].concat();
                    for _ in 0..*n_copied {
                        let from = expect.len().checked_sub(*offset);
                        expect.push(from.map_or(0, |from| expect[from]));
                    }
                    elements.extend([0, b'x'].repeat(n_behind));
                    expect.extend(vec![b'x'; n_behind]);
                    let mut stored = Vec::new();
                    crate::foundation::cursor::put_uvarint(&mut stored, expect.len() as u64);
                    stored.extend(elements);
                    assert_eq!(decompressed_len(&stored), Ok(expect.len()));
                    if n as usize >= *offset {
                        assert_eq!(decompressed(&stored), Ok(expect), "{n} {copy:?}");
                    } else {
                        assert_eq!(decompressed(&stored), Err(NOWHERE), "{n} {copy:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_header_that_is_no_length_is_refused() {
        for header in [
            &[][..],
            &[0x80],
            &[0xff; 9],
            &[0xff, 0xff, 0xff, 0xff, 0x10],
        ] {
            assert!(decompressed_len(header).is_err(), "{header:?}");
            assert!(decompressed(header).is_err(), "{header:?}");
        }
    }

    #[test]
    fn a_length_that_no_elements_of_that_size_make_is_refused_before_anything_is_allocated() {
        let longest = [0xff, 0xff, 0xff, 0xff, 0xf];
        assert_eq!(decompressed_len(&longest), Ok(u32::MAX as usize));
        assert_eq!(decompressed(&longest), Err(LIE));
        // The best there is: copies of 64 bytes, of three bytes each.
        let mut stored = Vec::new();
        crate::foundation::cursor::put_uvarint(&mut stored, 1 + 64 * 1000);
        stored.extend([0, b'x']);
        stored.extend([2 | 63 << 2, 1, 0].repeat(1000));
        assert_eq!(decompressed(&stored), Ok(vec![b'x'; 1 + 64 * 1000]));
    }

    /// Bytes that repeat themselves near and far, as samples do.
    fn repetitive() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((0usize..40, 1usize..80, any::<u8>()), 0..200).prop_map(|parts| {
            let mut bytes: Vec<u8> = Vec::new();
            for (back, n, byte) in parts {
                for at in 0..n {
                    let from = bytes.len().checked_sub(back);
                    let before = from.and_then(|from| bytes.get(from)).copied();
                    let new = byte.wrapping_add(at.to_le_bytes()[0].wrapping_mul(37));
                    bytes.push(before.unwrap_or(new));
                }
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_another_encoder_wrote_is_read(bytes in repetitive()) {
            let stored = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
            prop_assert_eq!(decompressed(&stored), Ok(bytes));
        }

        #[test]
        fn of_damaged_bytes_another_decoder_says_the_same(
            bytes in repetitive(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
        ) {
            let mut stored = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
            for (at, byte) in damage {
                let at = at.index(stored.len());
                stored[at] = byte;
            }
            if let Some(cut) = cut {
                stored.truncate(cut.index(stored.len()));
            }
            prop_assume!(decompressed_len(&stored).unwrap_or(0) < 1 << 22);
            let theirs = snap::raw::Decoder::new().decompress_vec(&stored).ok();
            let ours = decompressed(&stored).ok();
            // Nothing at all is an empty text to nobody here.
            prop_assume!(!stored.is_empty());
            prop_assert_eq!(ours, theirs);
        }
    }
}
