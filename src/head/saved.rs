//! `head-snapshot`: the file a clean stop leaves, and whether it still fits the log. See `FORMAT.md`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;

use crate::foundation::checksum::{crc32c, crc32c_append};
use crate::foundation::cursor::{put_uvarint, put_varint};
use crate::foundation::durable::DurableFile;
use crate::foundation::mmap::map_file;
use crate::foundation::{Cursor, ShortRead};
use crate::head::HeadError;
use crate::model::Interval;
use crate::wal::{self, SegmentNumber, last_checkpoint, list_segments};

/// In the data directory; Prometheus looks at no file of that name.
pub(crate) const FILE_NAME: &str = "head-snapshot";
const MAGIC: &[u8; 8] = b"headsnap";
const VERSION: u8 = 2;
/// Kind, length and checksum.
const FRAME_OVERHEAD_BYTES: usize = 1 + 4 + 4;
/// So many bytes before the end of a log are compared.
const TAIL_BYTES: u64 = 32 << 10;

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The first one: [`Position`].
    Position = 1,
    Series = 2,
    Aliases = 3,
    Removed = 4,
    Tombstones = 5,
    Metadata = 6,
    Exemplars = 7,
    /// The last one, with the number of frames before it.
    End = 8,
}

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Position,
            Self::Series,
            Self::Aliases,
            Self::Removed,
            Self::Tombstones,
            Self::Metadata,
            Self::Exemplars,
            Self::End,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

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

/// Writes frames to a file; nobody reads it before it has its name.
pub(crate) struct FrameWriter {
    file: io::BufWriter<DurableFile>,
    n_frames: u64,
    n_bytes: u64,
}

impl FrameWriter {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = io::BufWriter::with_capacity(1 << 18, DurableFile::create(path)?);
        file.write_all(MAGIC)?;
        file.write_all(&[VERSION])?;
        Ok(Self {
            file,
            n_frames: 0,
            n_bytes: (MAGIC.len() + 1) as u64,
        })
    }

    pub(crate) fn frame(&mut self, kind: FrameKind, body: &[u8]) -> io::Result<()> {
        let n_bytes = u32::try_from(body.len()).map_err(io::Error::other)?;
        let [a, b, c, d] = n_bytes.to_be_bytes();
        let head = [kind as u8, a, b, c, d];
        self.file.write_all(&head)?;
        self.file.write_all(body)?;
        let crc = crc32c_append(crc32c(&head), body);
        self.file.write_all(&crc.to_be_bytes())?;
        self.n_frames += 1;
        self.n_bytes += (body.len() + FRAME_OVERHEAD_BYTES) as u64;
        Ok(())
    }

    /// Everything is there, and on the disk; how many bytes that is.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        let mut body = Vec::new();
        put_uvarint(&mut body, self.n_frames);
        self.frame(FrameKind::End, &body)?;
        let file = self.file.into_inner().map_err(io::Error::from)?;
        file.sync_all()?;
        Ok(self.n_bytes)
    }
}

/// A snapshot of which every byte was looked at.
#[derive(Debug)]
pub(crate) struct Saved {
    bytes: Bytes,
    pub(crate) position: Position,
    /// Where each frame but the first and the last lies.
    frames: Vec<(FrameKind, usize, usize)>,
}

impl Saved {
    /// `None` where there is no file.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, String> {
        match map_file(path) {
            Ok(bytes) => Self::read(bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn read(bytes: Bytes) -> Result<Self, String> {
        let short = |error: ShortRead| error.to_string();
        let mut cursor = Cursor::new(&bytes);
        if cursor.take("magic number").map_err(short)? != *MAGIC {
            return Err("no head snapshot".to_owned());
        }
        let version = cursor.u8("version").map_err(short)?;
        if version != VERSION {
            return Err(format!("version {version} is not known"));
        }
        let mut frames = Vec::new();
        let mut n_frames = 0u64;
        let mut position = None;
        loop {
            let (kind, start, body) = read_frame(&bytes, &mut cursor)?;
            match (kind, n_frames) {
                (FrameKind::Position, 0) => position = Some(Position::decode(body).map_err(short)?),
                (FrameKind::Position, _) | (_, 0) => {
                    return Err("frames are not in order".to_owned());
                }
                (FrameKind::End, _) => {
                    let said = Cursor::new(body).uvarint("frame count").map_err(short)?;
                    if said != n_frames || !cursor.is_empty() {
                        return Err("frames are missing, or too many".to_owned());
                    }
                    break;
                }
                (kind, _) => frames.push((kind, start, start + body.len())),
            }
            n_frames += 1;
        }
        let position = position.ok_or("it does not say where it belongs")?;
        Ok(Self {
            bytes,
            position,
            frames,
        })
    }

    /// In the order in which they were written.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (FrameKind, Bytes)> {
        let frames = self.frames.iter();
        frames.map(|(kind, start, end)| (*kind, self.bytes.slice(*start..*end)))
    }
}

fn read_frame<'a>(
    bytes: &'a [u8],
    cursor: &mut Cursor<'a>,
) -> Result<(FrameKind, usize, &'a [u8]), String> {
    let short = |error: ShortRead| error.to_string();
    let at = cursor.offset();
    let kind = cursor.u8("frame kind").map_err(short)?;
    let n_bytes = cursor.u32_be("frame length").map_err(short)?;
    let n_bytes = usize::try_from(n_bytes).map_err(|error| error.to_string())?;
    let start = cursor.offset();
    let body = cursor.bytes("frame", n_bytes).map_err(short)?;
    let crc = cursor.u32_be("frame checksum").map_err(short)?;
    let checked = bytes.get(at..start + n_bytes).unwrap_or_default();
    if crc32c(checked) != crc {
        return Err(format!("the frame at offset {at} has a wrong checksum"));
    }
    let kind = FrameKind::of(kind).ok_or_else(|| format!("unknown frame at offset {at}"))?;
    Ok((kind, start, body))
}
