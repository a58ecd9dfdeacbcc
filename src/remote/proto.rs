//! Protobuf fields, read in place.

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
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(Slice<'a>),
}

/// Bytes and where they stand in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: usize,
}

/// Walks the fields of one message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    end: usize,
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(slice: Slice<'a>, what: &'static str) -> Self {
        Self {
            rest: slice.bytes,
            end: slice.offset + slice.bytes.len(),
            what,
        }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> Slice<'a> {
        Slice {
            bytes: self.rest,
            offset: self.offset(),
        }
    }

    /// The next field's number and content.
    #[inline]
    pub(super) fn next_field(&mut self) -> Result<Option<(u64, Value<'a>)>, ProtoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => match self.rest.split_first_chunk::<8>() {
                Some((bytes, rest)) => {
                    self.rest = rest;
                    Value::Fixed64(u64::from_le_bytes(*bytes))
                }
                None => return Err(self.error("unexpected end")),
            },
            2 => {
                let len = self.varint()?;
                let split = usize::try_from(len)
                    .ok()
                    .and_then(|len| self.rest.split_at_checked(len));
                let Some((bytes, rest)) = split else {
                    return Err(self.error("length beyond the end"));
                };
                let offset = self.offset();
                self.rest = rest;
                Value::Bytes(Slice { bytes, offset })
            }
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

    pub(super) fn error(&self, message: &'static str) -> ProtoError {
        ProtoError {
            message,
            what: self.what,
            offset: self.offset(),
        }
    }

    fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, ProtoError> {
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
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
