//! Segments to records.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::foundation::checksum::crc32c;
use crate::foundation::{Cursor, ShortRead, snappy};
use crate::wal::page::{
    FIRST, FRAGMENT_HEADER_BYTES, FULL, LAST, MIDDLE, PAGE_BYTES, PAGE_END, POSITION_MASK,
    RECORD_BYTES_MAX, SNAPPY, ZSTD,
};
use crate::wal::{RecordKind, WalError};

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
    /// The record after decompression: its first `n_bytes`.
    record: Vec<u8>,
    n_bytes: usize,
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

/// A record whose fragments were put together.
struct Fragments {
    /// Where the page has it, if it is there as a whole.
    whole: Option<Range<usize>>,
    flags: u8,
    /// Where reading it began.
    start: u64,
    /// Where its first fragment begins.
    first: u64,
}

/// A record as it lies in its segment: checked, and compressed still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    start: u64,
    first: u64,
    end: u64,
    resync_at: u64,
    flags: u8,
    bytes: Range<usize>,
}

impl StoredRecord {
    /// Where its first fragment begins.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Where its last fragment ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Where [`SegmentReader::resync`] looks for whole records when this one does not decompress: those that begin before are
    /// passed over.
    pub fn resync_at(&self) -> u64 {
        self.resync_at
    }

    /// Decompresses it behind the first `at` bytes of `bodies`, which grow when they have to and are not made shorter; of
    /// `stored` it takes what [`SegmentReader::next_stored`] put there. Where it ends, if it was compressed at all: else it is
    /// [`StoredRecord::plain`].
    pub fn decompress(
        &self,
        path: &Path,
        stored: &[u8],
        (bodies, at): (&mut Vec<u8>, usize),
    ) -> Result<usize, Damage> {
        let stored = stored.get(self.bytes.clone()).unwrap_or_default();
        decompress(self.flags, stored, (bodies, at)).map_err(|reason| Damage {
            path: path.to_owned(),
            offset: self.start,
            reason,
        })
    }

    /// What the record is about, as far as that is seen without decompressing it.
    pub fn kind(&self, stored: &[u8]) -> Option<RecordKind> {
        let stored = stored.get(self.bytes.clone()).unwrap_or_default();
        match self.flags {
            0 => Some(RecordKind::of(stored)),
            SNAPPY => snappy::first_byte(stored).map(|byte| RecordKind::of(&[byte])),
            _ => None,
        }
    }

    /// The record, if it is not compressed.
    pub fn plain<'s>(&self, stored: &'s [u8]) -> Option<&'s [u8]> {
        let stored = stored.get(self.bytes.clone()).unwrap_or_default();
        (self.flags == 0).then_some(stored)
    }
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
            n_bytes: 0,
            is_stored_plain: true,
        }
    }

    /// Offset of the next byte to be read.
    pub fn offset(&self) -> u64 {
        self.page_offset + self.position as u64
    }

    /// The next record, `None` at the end. After damage, [`SegmentReader::resync`] goes on behind it.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, Damage> {
        let mut stored = std::mem::take(&mut self.stored);
        stored.clear();
        let next = self.next_fragments(&mut stored, true);
        self.stored = stored;
        let Some(Fragments {
            whole,
            flags,
            start,
            ..
        }) = next?
        else {
            return Ok(None);
        };
        self.is_stored_plain = flags == 0;
        let stored = match whole {
            Some(here) => self.page.get(here).unwrap_or_default(),
            None => &self.stored,
        };
        match decompress(flags, stored, (&mut self.record, 0)) {
            Ok(n_bytes) => {
                self.n_bytes = n_bytes;
                Ok(Some(self.record()))
            }
            Err(reason) => Err(self.damage(start, reason)),
        }
    }

    /// Puts the bytes of the next record behind those of `stored`, as they lie there; `None` at the end.
    pub fn next_stored(&mut self, stored: &mut Vec<u8>) -> Result<Option<StoredRecord>, Damage> {
        let from = stored.len();
        let next = self.next_fragments(stored, false)?;
        Ok(next.map(
            |Fragments {
                 flags,
                 start,
                 first,
                 ..
             }| StoredRecord {
                start,
                first,
                end: self.offset(),
                resync_at: self.page_offset + self.page_len as u64,
                flags,
                bytes: from..stored.len(),
            },
        ))
    }

    /// Puts the fragments of a record together behind `stored`; a compressed one that is whole stays where it is, if it may.
    fn next_fragments(
        &mut self,
        stored: &mut Vec<u8>,
        may_stay: bool,
    ) -> Result<Option<Fragments>, Damage> {
        let record_start = self.offset();
        let stored_before = stored.len();
        let mut of_record = None;
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
                if of_record.is_some() {
                    return Err(self.damage(record_start, "the last record is torn".to_owned()));
                }
                return Ok(None);
            };
            let is_start = position == FULL || position == FIRST;
            if is_start == of_record.is_some() || of_record.is_some_and(|(first, _)| first != flags)
            {
                let reason = format!("unexpected fragment of kind {position}");
                return Err(self.damage(record_start, reason));
            }
            let here = self.page_offset + (start - FRAGMENT_HEADER_BYTES) as u64;
            let (_, first) = *of_record.get_or_insert((flags, here));
            if stored.len() - stored_before + len > RECORD_BYTES_MAX {
                let reason = format!("record is longer than {RECORD_BYTES_MAX} bytes");
                return Err(self.damage(record_start, reason));
            }
            let here = start..start + len;
            let is_whole = may_stay && position == FULL && flags != 0;
            if !is_whole {
                let here = self.page.get(here.clone()).unwrap_or_default();
                stored.extend_from_slice(here);
            }
            if position == FULL || position == LAST {
                return Ok(Some(Fragments {
                    whole: is_whole.then_some(here),
                    flags,
                    start: record_start,
                    first,
                }));
            }
        }
    }

    /// The record that was read last.
    pub fn record(&self) -> &[u8] {
        if self.is_stored_plain {
            &self.stored
        } else {
            self.record.get(..self.n_bytes).unwrap_or_default()
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

/// Decompresses behind the first `at` bytes of `out`; where the record ends there.
fn decompress(flags: u8, stored: &[u8], (out, at): (&mut Vec<u8>, usize)) -> Result<usize, String> {
    match flags {
        SNAPPY => {
            let bad = |error: snappy::BadSnappy| format!("bad snappy: {error}");
            let len = snappy::decompressed_len(stored).map_err(bad)?;
            if len > RECORD_BYTES_MAX {
                return Err(format!("a snappy record claims {len} bytes"));
            }
            snappy::decompress_at(stored, out, at).map_err(bad)
        }
        ZSTD => {
            out.truncate(at);
            zstd::Decoder::new(stored)
                .and_then(|decoder| decoder.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(out))
                .map_err(|error| error.to_string())?;
            if out.len() - at > RECORD_BYTES_MAX {
                return Err(format!(
                    "a zstd record is longer than {RECORD_BYTES_MAX} bytes"
                ));
            }
            Ok(out.len())
        }
        _ => Ok(at),
    }
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
