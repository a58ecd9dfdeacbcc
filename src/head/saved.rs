//! `head-snapshot`: the file a clean stop leaves, and whether it still fits the log. See `FORMAT.md`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;

use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::{put_uvarint, put_varint};
use crate::foundation::mmap::map_file;
use crate::foundation::{Cursor, ShortRead};
use crate::head::HeadError;
use crate::head::frames::{FileKind, FrameKind, read_frames};
use crate::model::Interval;
use crate::wal::{self, SegmentNumber, last_checkpoint, list_segments};

/// In the data directory; Prometheus looks at no file of that name.
pub(crate) const FILE_NAME: &str = "head-snapshot";
/// What it begins with.
pub(crate) const SNAPSHOT: FileKind = FileKind {
    magic: b"headsnap",
    version: 2,
    what: "head snapshot",
};
/// So many bytes before the end of a log are compared.
const TAIL_BYTES: u64 = 32 << 10;

/// How far a log was when the snapshot was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogEnd {
    checkpoint: Option<SegmentNumber>,
    /// Numbers and lengths, ascending.
    segments: Vec<(SegmentNumber, u64)>,
    /// Of the last bytes of the last segment that has any.
    tail_crc: u32,
}

impl LogEnd {
    pub(crate) fn of(dir: &Path) -> Result<Self, HeadError> {
        let checkpoint = last_checkpoint(dir)?.map(|checkpoint| checkpoint.number);
        let segments: Vec<_> = list_segments(dir)?
            .iter()
            .map(|segment| (segment.number, segment.n_bytes))
            .collect();
        let mut end = Self {
            checkpoint,
            segments,
            tail_crc: 0,
        };
        end.tail_crc = end.tail(dir)?;
        Ok(end)
    }

    /// The same of a log that ends at `end`, where more of it may follow.
    pub(crate) fn until(dir: &Path, end: wal::LogEnd) -> Result<Self, HeadError> {
        let mut log = Self::of(dir)?;
        log.segments.retain(|(number, _)| *number <= end.segment);
        if let Some((number, n_bytes)) = log.segments.last_mut()
            && *number == end.segment
        {
            *n_bytes = end.n_bytes.min(*n_bytes);
        }
        log.tail_crc = log.tail(dir)?;
        Ok(log)
    }

    fn tail(&self, dir: &Path) -> Result<u32, HeadError> {
        let last = self.segments.iter().rfind(|(_, n_bytes)| 0 < *n_bytes);
        let Some((number, n_bytes)) = last else {
            return Ok(0);
        };
        let path = dir.join(wal::segment_name(*number));
        let n_tail = (*n_bytes).min(TAIL_BYTES);
        let read = || -> io::Result<u32> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(n_bytes - n_tail))?;
            let mut tail = Vec::new();
            file.take(n_tail).read_to_end(&mut tail)?;
            Ok(crc32c(&tail))
        };
        read().map_err(HeadError::io("read", &path))
    }

    /// Does it end before this place?
    pub(crate) fn is_before(&self, place: wal::LogEnd) -> bool {
        let end = self.segments.last().copied();
        end.is_none_or(|end| end < (place.segment, place.n_bytes))
    }

    /// What is wrong if the log is not this one, or this one and more.
    pub(crate) fn mismatch(&self, dir: &Path) -> Result<Option<&'static str>, HeadError> {
        if !dir.is_dir() {
            return Ok((!self.segments.is_empty()).then_some("the log is gone"));
        }
        let now = Self::of(dir)?;
        if now.checkpoint != self.checkpoint {
            return Ok(Some("the log has another checkpoint"));
        }
        if now.segments.first().map(|first| first.0) != self.segments.first().map(|first| first.0)
            && !self.segments.is_empty()
        {
            return Ok(Some("the log begins elsewhere"));
        }
        for (at, (number, n_bytes)) in self.segments.iter().enumerate() {
            let is_last = at + 1 == self.segments.len();
            let fits = now.segments.get(at).is_some_and(|(there, n_there)| {
                there == number && (n_there == n_bytes || is_last && n_bytes <= n_there)
            });
            if !fits {
                return Ok(Some("the log is not as long as it was"));
            }
        }
        Ok((self.tail(dir)? != self.tail_crc).then_some("the log holds something else"))
    }

    /// From which byte on a segment was written later; `None` when all of it was there.
    pub(crate) fn later_from(&self, segment: SegmentNumber) -> Option<u64> {
        match self.segments.last() {
            Some((last, _)) if segment < *last => None,
            Some((last, n_bytes)) if segment == *last => Some(*n_bytes),
            Some(_) | None => Some(0),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.checkpoint.map_or(0, |n| u64::from(n) + 1));
        put_uvarint(out, self.segments.len() as u64);
        for (number, n_bytes) in &self.segments {
            put_uvarint(out, u64::from(*number));
            put_uvarint(out, *n_bytes);
        }
        put_uvarint(out, u64::from(self.tail_crc));
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, ShortRead> {
        let checkpoint = cursor.uvarint32("checkpoint")?.checked_sub(1);
        let mut segments = Vec::new();
        for _ in 0..cursor.uvarint("segment count")? {
            let number = cursor.uvarint32("segment")?;
            segments.push((number, cursor.uvarint("segment length")?));
        }
        let tail_crc = cursor.uvarint32("checksum of the tail")?;
        Ok(Self {
            checkpoint,
            segments,
            tail_crc,
        })
    }
}

/// What a snapshot belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) chunk_range_ms: i64,
    /// The largest series number that was given.
    pub(crate) series_max: u64,
    /// From the oldest to the newest sample in order.
    pub(crate) span: Option<Interval>,
    pub(crate) wal: LogEnd,
    pub(crate) wbl: LogEnd,
    /// The log says of some series that it left the head early.
    pub(crate) has_left: bool,
}

impl Position {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.chunk_range_ms);
        put_uvarint(&mut out, self.series_max);
        out.push(u8::from(self.span.is_some()));
        let span = self.span.unwrap_or(Interval { min: 0, max: 0 });
        put_varint(&mut out, span.min);
        put_varint(&mut out, span.max);
        self.wal.encode(&mut out);
        self.wbl.encode(&mut out);
        out.push(u8::from(self.has_left));
        out
    }

    fn decode(body: &[u8]) -> Result<Self, ShortRead> {
        let mut cursor = Cursor::new(body);
        let chunk_range_ms = cursor.varint("chunk range")?;
        let series_max = cursor.uvarint("largest series")?;
        let has_span = cursor.u8("has a span")? == 1;
        let span = Interval {
            min: cursor.varint("first time")?,
            max: cursor.varint("last time")?,
        };
        Ok(Self {
            chunk_range_ms,
            series_max,
            span: has_span.then_some(span),
            wal: LogEnd::decode(&mut cursor)?,
            wbl: LogEnd::decode(&mut cursor)?,
            has_left: cursor.u8("series left early")? == 1,
        })
    }

    /// Why this snapshot is not to be used, if so.
    pub(crate) fn mismatch(
        &self,
        chunk_range_ms: i64,
        (wal, wbl): (&Path, &Path),
    ) -> Result<Option<&'static str>, HeadError> {
        if chunk_range_ms != self.chunk_range_ms {
            return Ok(Some("blocks have another length now"));
        }
        if let Some(reason) = self.wal.mismatch(wal)? {
            return Ok(Some(reason));
        }
        self.wbl.mismatch(wbl)
    }
}

/// A snapshot of which every byte was looked at.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) position: Position,
    /// All but the first and the last, in the order in which they were written.
    pub(crate) frames: Vec<(FrameKind, Bytes)>,
}

impl Saved {
    /// `None` where there is no file.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, String> {
        match map_file(path) {
            Ok(bytes) => Self::read(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn read(bytes: &Bytes) -> Result<Self, String> {
        let mut frames = read_frames(bytes, SNAPSHOT)?;
        let Some((FrameKind::Position, first)) = frames.first() else {
            return Err("it does not say where it belongs".to_owned());
        };
        let position = Position::decode(first).map_err(|error| error.to_string())?;
        frames.remove(0);
        Ok(Self { position, frames })
    }
}
