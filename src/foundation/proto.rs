//! Protobuf fields, read in place.
//!
//! Nothing is copied and no length is believed: a field that would reach beyond its message is an error that names the
//! place.

use thiserror::Error;

/// Where a message stops being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("protobuf: {message} in {what} at offset {offset}")]
pub struct ProtoError {
    /// What is wrong.
    pub message: &'static str,
    /// The message that was being read.
    pub what: &'static str,
    /// Bytes from the start of the request.
    pub offset: usize,
}

/// One field's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer of any kind, a boolean, an enumeration.
    Varint(u64),
    /// A double or an integer of eight bytes, as bits.
    Fixed64(u64),
    /// Four bytes, which nothing here means.
    Fixed32,
    /// Text, bytes, a message or packed numbers.
    Bytes(Slice<'a>),
}

/// Bytes and where they stand in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Where the first of them stands.
    pub offset: usize,
}

/// Walks the fields of one message.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
    end: usize,
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// Starts at the first field of a message; `what` is its name in errors.
    pub fn new(slice: Slice<'a>, what: &'static str) -> Self {
        Self {
            rest: slice.bytes,
            end: slice.offset + slice.bytes.len(),
            what,
        }
    }

    /// What was not read yet.
    pub fn rest(&self) -> Slice<'a> {
        Slice {
            bytes: self.rest,
            offset: self.offset(),
        }
    }

    /// The next field's number and content.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u64, Value<'a>)>, ProtoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.delimited()?),
            5 => match self.rest.split_first_chunk::<4>() {
                Some((_, rest)) => {
                    self.rest = rest;
                    Value::Fixed32
                }
                None => return Err(self.error("unexpected end")),
            },
            _ => return Err(self.error("unknown wire type")),
        };
        match tag >> 3 {
            0 => Err(self.error("field number 0")),
            number => Ok(Some((number, value))),
        }
    }

    /// An error at the next byte.
    pub fn error(&self, message: &'static str) -> ProtoError {
        ProtoError {
            message,
            what: self.what,
            offset: self.offset(),
        }
    }

    /// Where the next byte stands.
    pub fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    /// An integer without a field around it: an element of a packed list.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, ProtoError> {
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    /// Bytes behind their length, without a field around them: a message of a stream.
    pub fn delimited(&mut self) -> Result<Slice<'a>, ProtoError> {
        let len = self.varint()?;
        let split = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len));
        let Some((bytes, rest)) = split else {
            return Err(self.error("length beyond the end"));
        };
        let offset = self.offset();
        self.rest = rest;
        Ok(Slice { bytes, offset })
    }

    /// Eight bytes without a field around them: an element of a packed list.
    pub fn fixed64(&mut self) -> Result<u64, ProtoError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<8>() else {
            return Err(self.error("unexpected end"));
        };
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Was everything read?
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn long_varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0u64;
        for (position, byte) in self.rest.iter().take(10).enumerate() {
            if position == 9 && *byte > 1 {
                return Err(self.error("integer of more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * position);
            if *byte < 0x80 {
                self.rest = self.rest.get(position + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(self.error("unexpected end"))
    }
}

/// What a field of 32 bits holds of a wider varint: the rest is lost, as in every decoder.
#[expect(clippy::cast_possible_truncation, reason = "cutting is the format")]
pub fn low_32_bits(raw: u64) -> u32 {
    raw as u32
}

/// A `sint32`.
pub fn sint32(raw: u64) -> i32 {
    let raw = low_32_bits(raw);
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

/// The signed integer behind a `sint32` or `sint64`.
pub fn zigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}
