//! `head-redo`: how far the chunk files have what the log says, so that a replay need not take it from the log. See
//! `FORMAT.md`.

use std::fs;
use std::io;
use std::path::Path;

use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::put_uvarint;
use crate::foundation::durable::replace_file;
use crate::foundation::{Cursor, ShortRead};
use crate::head::HeadError;
use crate::head::chunk_files::{ChunkFiles, ChunksEnd, FoundChunks};
use crate::head::core::{Head, HeadDirs, Inner};
use crate::head::save::remove;
use crate::head::saved::LogEnd;
use crate::model::TimestampMs;
use crate::wal::{self, SegmentNumber};

/// In the data directory; Prometheus looks at no file of that name.
const FILE_NAME: &str = "head-redo";
const MAGIC: &[u8; 8] = b"headredo";
const VERSION: u8 = 1;
/// It names every segment there is; a file that is longer than this is none.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// So many places of the log are known at most.
const MARKS_MAX: usize = 512;

/// A place of the log.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: wal::LogEnd,
    /// Bytes written to the log before it in this life.
    n_bytes: u64,
    /// The newest time of any sample before it.
    max_t: TimestampMs,
}

/// Places of the log, ascending and about as far from each other.
#[derive(Debug, Default)]
pub(crate) struct LogMarks {
    marks: Vec<Mark>,
    /// Bytes from one to the next, at least.
    n_bytes_apart: u64,
    /// Bytes written when it was last looked how far chunk files are.
    n_bytes_before: u64,
}

impl LogMarks {
    /// The log ends at `end` now, after so many bytes, and has nothing newer than `max_t`, which never falls.
    pub(crate) fn add(&mut self, end: wal::LogEnd, n_bytes: u64, max_t: TimestampMs) {
        let last = self.marks.last();
        if last.is_some_and(|last| n_bytes < last.n_bytes.saturating_add(self.n_bytes_apart)) {
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            let mut n = 0;
            self.marks.retain(|_| {
                n += 1;
                n % 2 == 0
            });
            self.space();
        }
        self.marks.push(Mark {
            end,
            n_bytes,
            max_t,
        });
    }

    /// The next ones are as far from each other as these.
    fn space(&mut self) {
        let span = self.marks.first().zip(self.marks.last());
        let span = span.map_or(0, |(first, last)| {
            last.n_bytes.saturating_sub(first.n_bytes)
        });
        self.n_bytes_apart = span / (MARKS_MAX as u64 / 2);
    }

    /// The last place before which everything is older than `t`.
    pub(crate) fn all_before(&self, t: TimestampMs) -> Option<wal::LogEnd> {
        let n = self.marks.partition_point(|mark| mark.max_t < t);
        self.marks.get(n.checked_sub(1)?).map(|mark| mark.end)
    }

    /// Those up to `end` are not asked for again.
    pub(crate) fn forget(&mut self, end: wal::LogEnd) {
        let is_behind = |mark: &Mark| place(end) < place(mark.end);
        self.marks.retain(is_behind);
        self.space();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }
}

fn place(end: wal::LogEnd) -> (SegmentNumber, u64) {
    (end.segment, end.n_bytes)
}

/// A place of the log; floats of records before it are in chunk files, or need not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedoPoint {
    log: LogEnd,
    chunks: ChunksEnd,
}

impl RedoPoint {
    /// The one of the data directory, if it fits the log that is there. The chunk files are asked later.
    pub(crate) fn open(data: &Path, dirs: &HeadDirs) -> Option<Self> {
        let path = data.join(FILE_NAME);
        let read = match read(&path) {
            Ok(None) => return None,
            Ok(Some(point)) => Ok(point),
            Err(reason) => Err(reason),
        };
        let fits = read.and_then(|point| match point.log.mismatch(&dirs.wal) {
            Ok(None) => Ok(point),
            Ok(Some(reason)) => Err(reason.to_owned()),
            Err(error) => Err(error.to_string()),
        });
        fits.map_err(|reason| tell_unusable(&path, &reason)).ok()
    }

    /// Floats of records of the segment that end at or before this byte need not be read.
    pub(crate) fn chunked_to(&self, segment: SegmentNumber) -> u64 {
        self.log.later_from(segment).unwrap_or(u64::MAX)
    }

    /// Do the chunk files hold all that they held?
    pub(crate) fn holds(&self, data: &Path, files: &ChunkFiles, found: &FoundChunks) -> bool {
        let holds = files.has_all(&self.chunks, found);
        if !holds {
            let reason = "the chunk files are not what they were";
            tell_unusable(&data.join(FILE_NAME), reason);
        }
        holds
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        self.log.encode(&mut out);
        let ChunksEnd {
            last,
            n_bytes,
            n_chunks,
            tail_crc,
        } = self.chunks;
        for number in [u64::from(last), n_bytes, n_chunks] {
            put_uvarint(&mut out, number);
        }
        put_uvarint(&mut out, u64::from(tail_crc));
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let short = |error: ShortRead| error.to_string();
        let (body, crc) = bytes.split_last_chunk().ok_or("it is cut off")?;
        if crc32c(body) != u32::from_be_bytes(*crc) {
            return Err("its checksum differs".to_owned());
        }
        let mut cursor = Cursor::new(body);
        if cursor.take("magic number").map_err(short)? != *MAGIC {
            return Err("no redo point".to_owned());
        }
        let version = cursor.u8("version").map_err(short)?;
        if version != VERSION {
            return Err(format!("version {version} is not known"));
        }
        let mut read = || -> Result<Self, ShortRead> {
            Ok(Self {
                log: LogEnd::decode(&mut cursor)?,
                chunks: ChunksEnd {
                    last: cursor.uvarint32("last chunk file")?,
                    n_bytes: cursor.uvarint("length of the last chunk file")?,
                    n_chunks: cursor.uvarint("number of chunks")?,
                    tail_crc: cursor.uvarint32("checksum of the tail")?,
                },
            })
        };
        let point = read().map_err(short)?;
        if !cursor.is_empty() {
            return Err("something follows it".to_owned());
        }
        Ok(point)
    }
}

fn read(path: &Path) -> Result<Option<RedoPoint>, String> {
    let bytes = fs::metadata(path).and_then(|metadata| {
        if FILE_BYTES_MAX < metadata.len() {
            let n_bytes = metadata.len();
            return Err(io::Error::other(format!(
                "{n_bytes} bytes are more than the {FILE_BYTES_MAX} it can have"
            )));
        }
        fs::read(path)
    });
    match bytes {
        Ok(bytes) => RedoPoint::decode(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn tell_unusable(path: &Path, reason: &str) {
    tracing::info!(path = %path.display(), reason, "the redo point is not used: the whole log is replayed");
}

/// Removes the redo point: the log or the chunk files become shorter.
pub(crate) fn remove_redo_point(data: &Path) -> Result<(), HeadError> {
    remove(&data.join(FILE_NAME))
}

impl Head {
    /// Notes how far chunk files have what the log says: a replay takes floats from the log only from there on. Whether
    /// that is farther than it was noted before.
    ///
    /// Nothing is noted while the log says of a series that it left early: what a replay lets go of then is in the log only.
    /// Nor is anything done before the log has `after_bytes` more than the last time, for every series is looked at.
    pub fn note_redo_point(&self, after_bytes: u64) -> Result<bool, HeadError> {
        let inner = self.inner();
        let Some(data) = inner.wal_dir.parent() else {
            return Ok(false);
        };
        // Commits put samples into memory before the log has them, under this lock: who is in the log before a mark is
        // found below. What comes later lies behind all marks that are there now.
        let newest = {
            let mut committer = inner.committer.lock();
            let n_bytes = committer.wal.n_bytes_written();
            let is_whole = committer.wal.poisoned().is_none() && committer.owed.is_none();
            if !is_whole || n_bytes.saturating_sub(committer.marks.n_bytes_before) < after_bytes {
                return Ok(false);
            }
            committer.marks.n_bytes_before = n_bytes;
            committer.marks.marks.last().map(|mark| mark.end)
        };
        let (Some(newest), false) = (newest, inner.retired.lock().has_left) else {
            return Ok(false);
        };
        inner.map_closed_chunks();
        let oldest = inner.oldest_in_memory();
        let end = inner.committer.lock().marks.all_before(oldest);
        // What came meanwhile may lie before the oldest that was found.
        let end = end.map(|end| std::cmp::min_by_key(end, newest, |end| place(*end)));
        // What was not in memory above had been written before.
        let (Some(end), Some(chunks)) = (end, inner.files.end()) else {
            return Ok(false);
        };
        let log = LogEnd::until(&inner.wal_dir, end)?;
        let path = data.join(FILE_NAME);
        let point = RedoPoint { log, chunks }.encode();
        replace_file(&path, &point).map_err(HeadError::io("write", &path))?;
        inner.committer.lock().marks.forget(end);
        Ok(true)
    }
}

impl Inner {
    /// The time of the oldest sample in order that is in no chunk file yet; the end of time when all are.
    fn oldest_in_memory(&self) -> TimestampMs {
        let mut oldest = TimestampMs::MAX;
        self.series.for_each(|series| {
            let state = series.lock();
            let closed = state.closed().first().map(|chunk| chunk.min_t);
            let in_memory = closed.or_else(|| state.open.as_ref().map(|open| open.min_t));
            oldest = oldest.min(in_memory.unwrap_or(TimestampMs::MAX));
        });
        oldest
    }
}
