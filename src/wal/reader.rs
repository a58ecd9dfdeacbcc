//! Segments to records.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::foundation::checksum::crc32c;
use crate::foundation::{Cursor, ShortRead, snappy};
use crate::wal::WalError;
use crate::wal::page::{
    FIRST, FRAGMENT_HEADER_BYTES, FULL, LAST, MIDDLE, PAGE_BYTES, PAGE_END, POSITION_MASK,
    RECORD_BYTES_MAX, SNAPPY, ZSTD,
};

/// Bytes that are no record, and where the record they belong to starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Everything before this offset is whole records.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at offset {}: {}",
            self.path.display(),
            self.offset,
            self.reason
        )
    }
}

/// Reads one segment page by page; memory is one page and one record.
pub struct SegmentReader {
    path: PathBuf,
    file: Box<dyn Read + Send>,
    page: Box<[u8]>,
    /// Bytes of `page` that came from the file.
    page_len: usize,
    /// Offset of the page in the file.
    page_offset: u64,
    /// Next byte of `page` to look at.
    position: usize,
    /// The stored bytes of the record so far.
    stored: Vec<u8>,
    /// The record after decompression.
    record: Vec<u8>,
    /// The record is what was stored.
    is_stored_plain: bool,
}

impl fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentReader")
            .field("path", &self.path)
            .field("offset", &self.offset())
            .finish_non_exhaustive()
    }
}

/// What a page holds at the reader's position.
enum Fragment {
    /// `len` bytes at `start` of the page.
    Here {
        position: u8,
        flags: u8,
        start: usize,
        len: usize,
    },
    /// The file ends here.
    End,
}

impl SegmentReader {
    /// Opens a segment at its start.
    pub fn open(path: &Path) -> Result<Self, WalError> {
        let file = File::open(path).map_err(WalError::io("open", path))?;
        Ok(Self::new(path, Box::new(file)))
    }

    fn new(path: &Path, file: Box<dyn Read + Send>) -> Self {
        Self {
            path: path.to_owned(),
            file,
            page: vec![0; PAGE_BYTES].into_boxed_slice(),
            page_len: 0,
            page_offset: 0,
            position: 0,
            stored: Vec::new(),
            record: Vec::new(),
            is_stored_plain: true,
        }
    }

    /// Offset of the next byte to be read.
    pub fn offset(&self) -> u64 {
        self.page_offset + self.position as u64
    }

    /// The next record, `None` at the end. After damage, [`SegmentReader::resync`] goes on behind it.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, Damage> {
        let record_start = self.offset();
        self.stored.clear();
        let mut flags_of_record = None;
        loop {
            let Fragment::Here {
                position,
                flags,
                start,
                len,
            } = self
                .next_fragment()
                .map_err(|reason| self.damage(record_start, reason))?
            else {
                if flags_of_record.is_some() {
                    return Err(self.damage(record_start, "the last record is torn".to_owned()));
                }
                return Ok(None);
            };
            let is_start = position == FULL || position == FIRST;
            if is_start == flags_of_record.is_some()
                || flags_of_record.is_some_and(|first| first != flags)
            {
                let reason = format!("unexpected fragment of kind {position}");
                return Err(self.damage(record_start, reason));
            }
            flags_of_record = Some(flags);
            if self.stored.len() + len > RECORD_BYTES_MAX {
                let reason = format!("record is longer than {RECORD_BYTES_MAX} bytes");
                return Err(self.damage(record_start, reason));
            }
            let here = self.page.get(start..start + len).unwrap_or_default();
            let is_whole = position == FULL && flags != 0;
            if !is_whole {
                self.stored.extend_from_slice(here);
            }
            if position == FULL || position == LAST {
                self.is_stored_plain = flags == 0;
                let stored = if is_whole { here } else { &self.stored };
                let decompressed = decompress(flags, stored, &mut self.record);
                return match decompressed {
                    Ok(()) => Ok(Some(self.record())),
                    Err(reason) => Err(self.damage(record_start, reason)),
                };
            }
        }
    }

    /// The record that was read last.
    pub fn record(&self) -> &[u8] {
        if self.is_stored_plain {
            &self.stored
        } else {
            &self.record
        }
    }

    /// Skips to the next page, where the next whole record can be looked for; false at the end of the file.
    pub fn resync(&mut self) -> Result<bool, WalError> {
        self.position = self.page_len;
        loop {
            let is_more = self.fill().map_err(WalError::io("read", &self.path))?;
            if !is_more {
                return Ok(false);
            }
            // A page in which a record starts: its first fragments may belong to the damaged one.
            loop {
                let before = self.position;
                match self.next_fragment_here() {
                    Ok(Some(Fragment::Here { position, .. })) => {
                        if position == FULL || position == FIRST {
                            self.position = before;
                            return Ok(true);
                        }
                    }
                    Ok(Some(Fragment::End) | None) | Err(_) => break,
                }
            }
            self.position = self.page_len;
        }
    }

    fn damage(&self, offset: u64, reason: String) -> Damage {
        Damage {
            path: self.path.clone(),
            offset,
            reason,
        }
    }

    /// Reads the next page; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        let is_first = self.page_offset == 0 && self.page_len == 0;
        if !is_first {
            self.page_offset += self.page_len as u64;
        }
        self.position = 0;
        self.page_len = 0;
        while let Some(rest) = self.page.get_mut(self.page_len..)
            && !rest.is_empty()
        {
            match self.file.read(rest) {
                Ok(0) => break,
                Ok(n) => self.page_len += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(self.page_len > 0)
    }

    fn next_fragment(&mut self) -> Result<Fragment, String> {
        loop {
            if self.position >= self.page_len && !self.fill().map_err(|error| error.to_string())? {
                return Ok(Fragment::End);
            }
            if let Some(fragment) = self.next_fragment_here()? {
                return Ok(fragment);
            }
        }
    }

    /// The next fragment of this page; `None` when the rest of the page is filling.
    fn next_fragment_here(&mut self) -> Result<Option<Fragment>, String> {
        let here = self
            .page
            .get(self.position..self.page_len)
            .unwrap_or_default();
        let Some(&kind) = here.first() else {
            return Ok(None);
        };
        if kind == PAGE_END {
            if here.iter().any(|byte| *byte != 0) {
                return Err("unexpected non-zero byte after the end of a page".to_owned());
            }
            self.position = self.page_len;
            return Ok(None);
        }
        let (position, flags) = (kind & POSITION_MASK, kind & !POSITION_MASK);
        if !(FULL..=LAST).contains(&position) || ![0, SNAPPY, ZSTD].contains(&flags) {
            return Err(format!("unknown fragment type {kind:#04x}"));
        }
        debug_assert!(matches!(position, FULL | FIRST | MIDDLE | LAST));
        let mut cursor = Cursor::at(here, self.position);
        let body = read_body(&mut cursor).map_err(|error| error.to_string())?;
        let (len, crc) = (body.bytes.len(), body.crc);
        let actual = crc32c(body.bytes);
        if actual != crc {
            return Err(format!(
                "checksum is {actual:08x}, the fragment says {crc:08x}"
            ));
        }
        let start = self.position + FRAGMENT_HEADER_BYTES;
        self.position = start + len;
        Ok(Some(Fragment::Here {
            position,
            flags,
            start,
            len,
        }))
    }
}

fn decompress(flags: u8, stored: &[u8], record: &mut Vec<u8>) -> Result<(), String> {
    match flags {
        SNAPPY => {
            let bad = |error: snappy::BadSnappy| format!("bad snappy: {error}");
            let len = snappy::decompressed_len(stored).map_err(bad)?;
            if len > RECORD_BYTES_MAX {
                return Err(format!("a snappy record claims {len} bytes"));
            }
            snappy::decompress(stored, record).map_err(bad)?;
        }
        ZSTD => {
            record.clear();
            zstd::Decoder::new(stored)
                .and_then(|decoder| {
                    decoder
                        .take(RECORD_BYTES_MAX as u64 + 1)
                        .read_to_end(record)
                })
                .map_err(|error| error.to_string())?;
            if record.len() > RECORD_BYTES_MAX {
                return Err(format!(
                    "a zstd record is longer than {RECORD_BYTES_MAX} bytes"
                ));
            }
        }
        _ => (),
    }
    Ok(())
}

struct Body<'a> {
    crc: u32,
    bytes: &'a [u8],
}

fn read_body<'a>(cursor: &mut Cursor<'a>) -> Result<Body<'a>, ShortRead> {
    cursor.u8("fragment type")?;
    let len = usize::from(cursor.u16_be("fragment length")?);
    let crc = cursor.u32_be("fragment checksum")?;
    let bytes = cursor.bytes("fragment", len)?;
    Ok(Body { crc, bytes })
}
