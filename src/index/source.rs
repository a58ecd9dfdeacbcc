//! Bytes of an index file, whole or in part, with the name that errors give them.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::foundation::checksum::crc32c;
use crate::foundation::{Cursor, ShortRead};

/// Why an index could not be read or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The bytes are not what the format says.
    #[error("{file}: offset {offset}: {problem}")]
    Damaged {
        /// Where the bytes came from.
        file: Arc<str>,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The writer was asked for something the format cannot hold.
    #[error("write index: {0}")]
    Unwritable(String),
    /// The file cannot be opened, read or written.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: Arc<str>,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A run of bytes that starts at `base` of an index file.
#[derive(Debug, Clone)]
pub struct Source {
    file: Arc<str>,
    bytes: Bytes,
    base: u64,
}

impl Source {
    /// A whole file.
    pub fn new(file: &str, bytes: Bytes) -> Self {
        Self::part(file, bytes, 0)
    }

    /// The bytes from `base` on, as a range read returns them.
    pub fn part(file: &str, bytes: Bytes, base: u64) -> Self {
        Self {
            file: Arc::from(file),
            bytes,
            base,
        }
    }

    /// What errors call it.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// The bytes themselves.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// An error at `offset`.
    pub(super) fn damaged(&self, offset: u64, problem: impl Into<String>) -> IndexError {
        IndexError::Damaged {
            file: Arc::clone(&self.file),
            offset,
            problem: problem.into(),
        }
    }

    /// A read past the end, counted from `offset`.
    pub(super) fn short(&self, offset: u64, short: &ShortRead) -> IndexError {
        self.damaged(offset, short.to_string())
    }

    /// Everything from `offset` on.
    pub(super) fn from(&self, offset: u64) -> Result<&[u8], IndexError> {
        offset
            .checked_sub(self.base)
            .and_then(|start| usize::try_from(start).ok())
            .and_then(|start| self.bytes.get(start..))
            .ok_or_else(|| {
                let problem = format!("outside of bytes {} to {}", self.base, self.end());
                self.damaged(offset, problem)
            })
    }

    /// The body of a section: a four-byte length, the body, its checksum, which is verified.
    pub(super) fn section(&self, offset: u64, what: &'static str) -> Result<&[u8], IndexError> {
        let mut cursor = Cursor::new(self.from(offset)?);
        let frame = |cursor: &mut Cursor<'_>| {
            let len = cursor.u32_be(what)? as usize;
            let body = cursor.bytes(what, len)?.len();
            Ok::<_, ShortRead>((body, cursor.u32_be(what)?))
        };
        let (len, stored) = frame(&mut cursor).map_err(|short| self.short(offset, &short))?;
        let body = self.from(offset + 4)?.get(..len).unwrap_or_default();
        self.check(offset, what, body, stored)?;
        Ok(body)
    }

    /// The checksum rule.
    pub(super) fn check(
        &self,
        offset: u64,
        what: &'static str,
        body: &[u8],
        stored: u32,
    ) -> Result<(), IndexError> {
        let computed = crc32c(body);
        if stored == computed {
            return Ok(());
        }
        let problem = format!("{what}: checksum is {computed:08x} but {stored:08x} was stored");
        Err(self.damaged(offset, problem))
    }
}
