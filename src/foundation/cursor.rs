//! The one way to read bytes that somebody else wrote.

use thiserror::Error;

/// What was wanted, where, and what was there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShortRead {
    /// The input ended too early.
    #[error("{what} at offset {offset}: need {need} bytes, have {have}")]
    Short {
        /// The field that was being read.
        what: &'static str,
        /// Offset of the field from the start of the input.
        offset: usize,
        /// Bytes the field needs.
        need: usize,
        /// Bytes left.
        have: usize,
    },
    /// A variable-length integer does not end within its width.
    #[error("{what} at offset {offset}: variable-length integer is longer than {bits} bits")]
    Overlong {
        /// The field that was being read.
        what: &'static str,
        /// Offset of the field from the start of the input.
        offset: usize,
        /// Width of the integer that was asked for.
        bits: u32,
    },
    /// Text that is not UTF-8.
    #[error("{what} at offset {offset}: not valid UTF-8")]
    NotUtf8 {
        /// The field that was being read.
        what: &'static str,
        /// Offset of the field from the start of the input.
        offset: usize,
    },
}

/// Reads forward over foreign bytes; every read checks the length first and names the field when it fails.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at offset 0 of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            offset: 0,
        }
    }

    /// Starts in the middle of a larger input: errors name `offset` as the position of the first byte.
    pub fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self {
            rest: bytes,
            offset,
        }
    }

    /// Offset of the next byte.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Nothing left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `N` bytes or says exactly what was missing.
    pub fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ShortRead> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.short(what, N));
        };
        self.rest = rest;
        self.offset += N;
        Ok(*head)
    }

    /// Takes `len` bytes without copying.
    pub fn bytes(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], ShortRead> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.short(what, len));
        };
        self.rest = rest;
        self.offset += len;
        Ok(head)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ShortRead> {
        let [byte] = self.take::<1>(what)?;
        Ok(byte)
    }

    /// Big-endian, two bytes.
    pub fn u16_be(&mut self, what: &'static str) -> Result<u16, ShortRead> {
        Ok(u16::from_be_bytes(self.take(what)?))
    }

    /// Big-endian, four bytes.
    pub fn u32_be(&mut self, what: &'static str) -> Result<u32, ShortRead> {
        Ok(u32::from_be_bytes(self.take(what)?))
    }

    /// Big-endian, eight bytes.
    pub fn u64_be(&mut self, what: &'static str) -> Result<u64, ShortRead> {
        Ok(u64::from_be_bytes(self.take(what)?))
    }

    /// Big-endian, eight bytes, two's complement.
    pub fn i64_be(&mut self, what: &'static str) -> Result<i64, ShortRead> {
        Ok(i64::from_be_bytes(self.take(what)?))
    }

    /// IEEE 754 bits, big-endian.
    pub fn f64_be(&mut self, what: &'static str) -> Result<f64, ShortRead> {
        Ok(f64::from_bits(self.u64_be(what)?))
    }

    /// LEB128 as Go's `binary.Uvarint`, at most 64 bits.
    #[inline]
    pub fn uvarint(&mut self, what: &'static str) -> Result<u64, ShortRead> {
        // Most integers in a file are below 128.
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                self.offset += 1;
                Ok(u64::from(byte))
            }
            _ => self.several_bytes(what),
        }
    }

    /// As [`Self::uvarint`], where eight bytes are there and hold it; otherwise `None`, and nothing is read. It is meant to
    /// be part of the loop that calls it: short ones, whose length the processor guesses, cost a comparison each.
    #[inline]
    pub fn quick_uvarint(&mut self) -> Option<u64> {
        let word = u64::from_le_bytes(*self.rest.first_chunk::<8>()?);
        let (value, n) = if word & 0x80 == 0 {
            (word & 0x7f, 1)
        } else if word & 0x8000 == 0 {
            (word & 0x7f | word >> 1 & 0x3f80, 2)
        } else if word & 0x0080_0000 == 0 {
            (word & 0x7f | word >> 1 & 0x3f80 | word >> 2 & 0x1f_c000, 3)
        } else {
            uvarint_of_word(word)?
        };
        self.rest = self.rest.get(n..)?;
        self.offset += n;
        Some(value)
    }

    /// All at once, where eight bytes are there and hold it.
    #[inline]
    fn several_bytes(&mut self, what: &'static str) -> Result<u64, ShortRead> {
        if let Some(bytes) = self.rest.first_chunk::<8>()
            && let Some((value, n)) = uvarint_of_word(u64::from_le_bytes(*bytes))
            && let Some(rest) = self.rest.get(n..)
        {
            self.rest = rest;
            self.offset += n;
            return Ok(value);
        }
        self.long_uvarint(what)
    }

    fn long_uvarint(&mut self, what: &'static str) -> Result<u64, ShortRead> {
        let start = self.offset;
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.u8(what)?;
            if shift == 63 && byte > 1 {
                return Err(ShortRead::Overlong {
                    what,
                    offset: start,
                    bits: 64,
                });
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// LEB128 that must fit 32 bits.
    pub fn uvarint32(&mut self, what: &'static str) -> Result<u32, ShortRead> {
        let offset = self.offset;
        u32::try_from(self.uvarint(what)?).map_err(|_too_wide| ShortRead::Overlong {
            what,
            offset,
            bits: 32,
        })
    }

    /// LEB128 that must fit a length on this machine.
    pub fn uvarint_len(&mut self, what: &'static str) -> Result<usize, ShortRead> {
        let offset = self.offset;
        usize::try_from(self.uvarint(what)?).map_err(|_too_wide| ShortRead::Overlong {
            what,
            offset,
            bits: usize::BITS,
        })
    }

    /// Zig-zag LEB128 as Go's `binary.Varint`.
    pub fn varint(&mut self, what: &'static str) -> Result<i64, ShortRead> {
        let raw = self.uvarint(what)?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// A length as uvarint, then that many bytes.
    pub fn uvarint_bytes(&mut self, what: &'static str) -> Result<&'a [u8], ShortRead> {
        let len = self.uvarint_len(what)?;
        self.bytes(what, len)
    }

    /// A length as uvarint, then that many bytes of UTF-8.
    pub fn uvarint_str(&mut self, what: &'static str) -> Result<&'a str, ShortRead> {
        let offset = self.offset;
        let bytes = self.uvarint_bytes(what)?;
        str::from_utf8(bytes).map_err(|_not_utf8| ShortRead::NotUtf8 { what, offset })
    }

    fn short(&self, what: &'static str, need: usize) -> ShortRead {
        ShortRead::Short {
            what,
            offset: self.offset,
            need,
            have: self.rest.len(),
        }
    }
}

/// The integer that eight bytes, the first one lowest, begin with, and how many of them it takes.
#[inline]
fn uvarint_of_word(word: u64) -> Option<(u64, usize)> {
    const ENDS: u64 = 0x8080_8080_8080_8080;
    let ends = !word & ENDS;
    if ends == 0 {
        return None;
    }
    let n = (ends.trailing_zeros() / 8 + 1) as usize;
    // Nothing behind the last byte, then seven bits of each byte beside those of its neighbour, twice and again.
    let own = word & (ends ^ ends.wrapping_sub(1)) & !ENDS;
    let pairs = (own & 0x007f_007f_007f_007f) | ((own & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    Some((
        (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4),
        n,
    ))
}

/// Appends LEB128 as Go's `binary.PutUvarint`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "seven bits are masked off before the cast"
)]
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends zig-zag LEB128 as Go's `binary.PutVarint`.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(
        out,
        (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned(),
    );
}

/// Appends the length as uvarint, then the bytes.
pub fn put_uvarint_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_come_back_whatever_lies_behind_them() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1 << bits) - 1, 0x5555_5555_5555_5555 >> bits] {
                for behind in [0x00, 0x7f, 0x80, 0xff] {
                    let mut out = Vec::new();
                    put_uvarint(&mut out, value);
                    let len = out.len();
                    out.extend([behind; 12]);
                    let mut cursor = Cursor::new(&out);
                    assert_eq!(cursor.uvarint("value"), Ok(value));
                    assert_eq!((cursor.offset(), cursor.remaining()), (len, 12));
                    let mut cursor = Cursor::new(&out);
                    let quick = cursor.quick_uvarint();
                    assert_eq!(quick, (len <= 8).then_some(value), "{value:#x}");
                    let n_read = if quick.is_some() { len } else { 0 };
                    assert_eq!((cursor.offset(), cursor.rest()), (n_read, &out[n_read..]));
                    let mut cursor = Cursor::new(out.get(..7).unwrap());
                    assert_eq!((cursor.quick_uvarint(), cursor.offset()), (None, 0));
                }
            }
        }
    }

    #[test]
    fn integers_come_back_as_they_were_put() {
        for value in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_uvarint(&mut out, value.cast_unsigned());
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.varint("value"), Ok(value));
            assert_eq!(cursor.uvarint("value"), Ok(value.cast_unsigned()));
            assert!(cursor.is_empty());
            for len in 0..out.len() {
                let mut short = Cursor::new(&out[..len]);
                let result = short.varint("value").and_then(|_| short.uvarint("value"));
                assert!(
                    matches!(result, Err(ShortRead::Short { .. })),
                    "len {len}: {result:?}"
                );
            }
        }
    }

    #[test]
    fn an_integer_of_more_than_64_bits_is_refused() {
        let result = Cursor::new(&[0xff; 11]).uvarint("value");
        assert_eq!(
            result,
            Err(ShortRead::Overlong {
                what: "value",
                offset: 0,
                bits: 64
            })
        );
        let result = Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint32("value");
        assert_eq!(
            result,
            Err(ShortRead::Overlong {
                what: "value",
                offset: 0,
                bits: 32
            })
        );
    }

    #[test]
    fn a_length_beyond_the_input_allocates_nothing_and_names_the_place() {
        let mut out = vec![7];
        put_uvarint(&mut out, u64::MAX >> 1);
        let mut cursor = Cursor::new(&out);
        assert_eq!(cursor.u8("kind"), Ok(7));
        let result = cursor.uvarint_bytes("label");
        assert!(
            matches!(
                result,
                Err(ShortRead::Short {
                    what: "label",
                    offset: 10,
                    have: 0,
                    ..
                })
            ),
            "{result:?}"
        );
    }
}
