//! `head-redo`: how far chunk files and itself have what the log says, so that a replay need not take it from the log. See
//! `FORMAT.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::foundation::durable::{remove_file, rename_durably};
use crate::foundation::file_system::free_bytes;
use crate::foundation::mmap::map_file;
use crate::foundation::{Cancel, Cursor, ShortRead};
use crate::head::HeadError;
use crate::head::chunk_files::{ChunkFiles, ChunksEnd, FoundChunks};
use crate::head::core::{Head, HeadDirs, Inner};
use crate::head::frames::{FileKind, FrameKind, FrameWriter, Frames, read_frames};
use crate::head::save::remove;
use crate::head::saved::LogEnd;
use crate::head::series::MemSeries;
use crate::head::stats::count;
use crate::model::TimestampMs;
use crate::wal::{self, SegmentNumber};

/// In the data directory; Prometheus looks at no file of that name.
const FILE_NAME: &str = "head-redo";
/// What it begins with.
pub(crate) const REDO_POINT: FileKind = FileKind {
    magic: b"headredo",
    version: 2,
    what: "redo point",
};

/// The file takes no more than this part of what is free.
const PART_OF_FREE: u64 = 4;

/// When the redo point was noted last.
#[derive(Debug, Default)]
pub(crate) struct LastRedo {
    /// Bytes that the log had got in this life.
    n_log_bytes: u64,
    /// Bytes of the file.
    n_bytes: u64,
}

/// A place of the log; floats of records before it are in chunk files or here, or need not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedoPoint {
    from: wal::LogEnd,
    /// Everything that is here was in the log when it ended there.
    log: LogEnd,
    /// None where there was no chunk file.
    chunks: Option<ChunksEnd>,
}

/// Chunks that no file has, by the numbers of their series.
#[derive(Debug, Default)]
pub(crate) struct NewestChunks {
    /// Ascending.
    of_series: Vec<Newest>,
    frames: Vec<Bytes>,
    /// Behind the series that was asked for last: mostly the next one follows.
    next: usize,
}

/// Those of one series.
#[derive(Debug)]
struct Newest {
    series: u64,
    max_t: TimestampMs,
    frame: u32,
    start: u32,
    n_bytes: u32,
}

impl NewestChunks {
    /// The time of the newest sample of the series, and its chunks as [`SeriesState::save_newest`] wrote them.
    ///
    /// [`SeriesState::save_newest`]: crate::head::series::SeriesState::save_newest
    pub(crate) fn of(&mut self, series: u64) -> Option<(TimestampMs, Bytes)> {
        let at = match self.of_series.get(self.next) {
            Some(next) if next.series == series => self.next,
            _ => {
                let found = self.of_series.binary_search_by_key(&series, |it| it.series);
                found.ok()?
            }
        };
        self.next = at + 1;
        let newest = self.of_series.get(at)?;
        let start = newest.start as usize;
        let body = start..start + newest.n_bytes as usize;
        let frame = self.frames.get(newest.frame as usize)?;
        Some((newest.max_t, frame.slice(body)))
    }

    fn read(&mut self, frame: Bytes) -> Result<(), String> {
        let short = |error: ShortRead| error.to_string();
        let number = u32::try_from(self.frames.len()).map_err(|error| error.to_string())?;
        let mut cursor = Cursor::new(&frame);
        while !cursor.is_empty() {
            let series = cursor.uvarint("series").map_err(short)?;
            let max_t = cursor.varint("newest time").map_err(short)?;
            let body = cursor.uvarint_bytes("chunks").map_err(short)?;
            let start = cursor.offset() - body.len();
            let place = (u32::try_from(start), u32::try_from(body.len()));
            let (Ok(start), Ok(n_bytes)) = place else {
                return Err("a frame is too long".to_owned());
            };
            if self
                .of_series
                .last()
                .is_some_and(|last| series <= last.series)
            {
                return Err("series are not in order".to_owned());
            }
            self.of_series.push(Newest {
                series,
                max_t,
                frame: number,
                start,
                n_bytes,
            });
        }
        self.frames.push(frame);
        Ok(())
    }
}

impl RedoPoint {
    /// The one of the data directory, if it fits the log that is there. The chunk files are asked later.
    pub(crate) fn open(data: &Path, dirs: &HeadDirs) -> Option<(Self, NewestChunks)> {
        let path = data.join(FILE_NAME);
        let read = match map_file(&path) {
            Ok(bytes) => Self::read(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
        };
        let fits = read.and_then(|read| match read.0.log.mismatch(&dirs.wal) {
            Ok(None) => Ok(read),
            Ok(Some(reason)) => Err(reason.to_owned()),
            Err(error) => Err(error.to_string()),
        });
        fits.map_err(|reason| tell_unusable(data, &reason)).ok()
    }

    fn read(bytes: &Bytes) -> Result<(Self, NewestChunks), String> {
        let mut frames = read_frames(bytes, REDO_POINT)?;
        let Some((FrameKind::Redo, last)) = frames.pop() else {
            return Err("it does not say where it belongs".to_owned());
        };
        let mut cursor = Cursor::new(&last);
        let point = Self::decode(&mut cursor).map_err(|error| error.to_string())?;
        if !cursor.is_empty() {
            return Err("bytes behind where it belongs".to_owned());
        }
        let mut newest = NewestChunks::default();
        for (kind, frame) in frames {
            if kind != FrameKind::Chunks {
                return Err(format!("a frame of kind {kind:?}"));
            }
            newest.read(frame)?;
        }
        Ok((point, newest))
    }

    /// Does it lie behind the end of that log?
    pub(crate) fn is_beyond(&self, log: &LogEnd) -> bool {
        log.is_before(self.from)
    }

    /// Floats of records of the segment that end at or before this byte need not be read.
    pub(crate) fn redone_to(&self, segment: SegmentNumber) -> u64 {
        match segment.cmp(&self.from.segment) {
            std::cmp::Ordering::Less => u64::MAX,
            std::cmp::Ordering::Equal => self.from.n_bytes,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// Do the chunk files hold all that they held?
    pub(crate) fn holds(&self, data: &Path, files: &ChunkFiles, found: &FoundChunks) -> bool {
        let chunks = self.chunks.as_ref();
        let holds = chunks.is_none_or(|chunks| files.has_all(chunks, found));
        if !holds {
            tell_unusable(data, "the chunk files are not what they were");
        }
        holds
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uvarint(&mut out, u64::from(self.from.segment));
        put_uvarint(&mut out, self.from.n_bytes);
        self.log.encode(&mut out);
        out.push(u8::from(self.chunks.is_some()));
        if let Some(chunks) = self.chunks {
            let ChunksEnd {
                last,
                n_bytes,
                n_chunks,
                tail_crc,
            } = chunks;
            for number in [u64::from(last), n_bytes, n_chunks, u64::from(tail_crc)] {
                put_uvarint(&mut out, number);
            }
        }
        out
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, ShortRead> {
        let from = wal::LogEnd {
            segment: cursor.uvarint32("segment")?,
            n_bytes: cursor.uvarint("place in the segment")?,
        };
        let log = LogEnd::decode(cursor)?;
        let chunks = match cursor.u8("has chunk files")? {
            0 => None,
            _ => Some(ChunksEnd {
                last: cursor.uvarint32("last chunk file")?,
                n_bytes: cursor.uvarint("length of the last chunk file")?,
                n_chunks: cursor.uvarint("number of chunks")?,
                tail_crc: cursor.uvarint32("checksum of the tail")?,
            }),
        };
        Ok(Self { from, log, chunks })
    }
}

/// One line says why it is not used.
pub(crate) fn tell_unusable(data: &Path, reason: &str) {
    let path = data.join(FILE_NAME);
    tracing::info!(path = %path.display(), reason, "the redo point is not used: more of the log is replayed");
}

fn tmp_path(data: &Path) -> PathBuf {
    data.join(format!("{FILE_NAME}.tmp"))
}

/// Removes what a process that was interrupted left of a redo point.
pub(crate) fn remove_unfinished_redo_point(data: &Path) -> Result<(), HeadError> {
    remove(&tmp_path(data))
}

impl Head {
    /// Writes the chunks that no file has, and how far the log is: a replay takes floats from the log only from there on.
    /// Whether that was done.
    ///
    /// Nothing is noted while the log says of a series that it left early: what a replay lets go of then is in the log only.
    /// Nor is anything done before the log has `after_bytes` more than the last time, or as many as the file had then: so it
    /// costs no more writing than the log itself. What would fill the disk is given up.
    pub fn note_redo_point(&self, after_bytes: u64) -> Result<bool, HeadError> {
        self.note_redo_point_with(after_bytes, &Cancel::new())
    }

    /// The same, given up once `cancel` is raised.
    pub fn note_redo_point_with(
        &self,
        after_bytes: u64,
        cancel: &Cancel,
    ) -> Result<bool, HeadError> {
        let inner = self.inner();
        let Some(data) = inner.wal_dir.parent() else {
            return Ok(false);
        };
        let Some(from) = inner.place_to_note(after_bytes) else {
            return Ok(false);
        };
        let tmp = tmp_path(data);
        let free = free_bytes(data).map_err(HeadError::io("inspect", data))?;
        let is_over = |n_bytes| cancel.reason().is_some() || free / PART_OF_FREE < n_bytes;
        let written = inner.write_redo_point(&tmp, from, &is_over);
        let is_placed = match written {
            Ok(Some(n_bytes)) => {
                inner.committer.lock().last_redo.n_bytes = n_bytes;
                count(&inner.counters.redo_points, 1);
                let path = data.join(FILE_NAME);
                let renamed = rename_durably(&tmp, &path);
                renamed
                    .map_err(HeadError::io("rename", &tmp))
                    .map(|()| true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        if !matches!(is_placed, Ok(true)) {
            remove_file(&tmp).ok();
        }
        is_placed
    }
}

impl Inner {
    /// Where the log ends, if enough came since the last time. Commits put samples into memory before the log has them, under
    /// this lock: all that the log has before that place is in memory by now.
    fn place_to_note(&self, after_bytes: u64) -> Option<wal::LogEnd> {
        let mut committer = self.committer.lock();
        let n_bytes = committer.wal.n_bytes_written();
        let n_new = n_bytes.saturating_sub(committer.last_redo.n_log_bytes);
        let enough = after_bytes.max(committer.last_redo.n_bytes).max(1);
        if n_new < enough || self.retired.lock().has_left || self.room.is_short() {
            return None;
        }
        committer.last_redo.n_log_bytes = n_bytes;
        Some(committer.wal.end())
    }

    /// The length of the file; `None` where what is in memory does not get into the log, or `is_over` says so of the length
    /// so far. It is not synced: one of which not all survives the end of the machine is not used.
    fn write_redo_point(
        &self,
        path: &Path,
        from: wal::LogEnd,
        is_over: &dyn Fn(u64) -> bool,
    ) -> Result<Option<u64>, HeadError> {
        let failed = |error| HeadError::io("write", path)(error);
        self.map_closed_chunks();
        let mut file = FrameWriter::create(path, REDO_POINT).map_err(failed)?;
        if !self.write_newest(&mut file, is_over).map_err(failed)? {
            return Ok(None);
        }
        // What was found in memory has got into the log by now, and what was in no file is in one or above.
        let end = {
            let committer = self.committer.lock();
            let is_whole = committer.wal.poisoned().is_none() && committer.owed.is_none();
            is_whole.then(|| committer.wal.end())
        };
        let (Some(end), false) = (end, self.retired.lock().has_left) else {
            return Ok(None);
        };
        let point = RedoPoint {
            from,
            log: LogEnd::until(&self.wal_dir, end)?,
            chunks: self.files.end(),
        };
        let point = point.encode();
        file.frame(FrameKind::Redo, &point).map_err(failed)?;
        file.finish(false).map(Some).map_err(failed)
    }

    /// The chunks that no file has, in the order in which a replay meets their series; false where `is_over` says so.
    fn write_newest(
        &self,
        file: &mut FrameWriter,
        is_over: &dyn Fn(u64) -> bool,
    ) -> io::Result<bool> {
        let mut all: Vec<Arc<MemSeries>> = Vec::new();
        self.series.for_each(|series| all.push(Arc::clone(series)));
        all.sort_unstable_by_key(|series| series.series);
        let mut frames = Frames::new(file, FrameKind::Chunks);
        let mut body = Vec::new();
        for series in all {
            let state = series.lock();
            let Some(max_t) = state.newest_max_t() else {
                continue;
            };
            body.clear();
            state.save_newest(&mut body);
            drop(state);
            if is_over(frames.n_bytes() + body.len() as u64) {
                return Ok(false);
            }
            frames.entry(|out| {
                put_uvarint(out, series.series);
                put_varint(out, max_t);
                put_uvarint_bytes(out, &body);
            })?;
        }
        frames.finish()?;
        Ok(true)
    }

    /// Removes the redo point: the log or the chunk files become shorter, or a snapshot is newer. The next one is noted
    /// without waiting for the log to grow.
    pub(crate) fn remove_redo_point(&self, data: &Path) -> Result<(), HeadError> {
        remove(&data.join(FILE_NAME))?;
        self.committer.lock().last_redo = LastRedo::default();
        Ok(())
    }

    /// Bytes of the redo point on disk.
    pub(crate) fn redo_point_bytes(&self) -> u64 {
        let path = self.wal_dir.parent().map(|data| data.join(FILE_NAME));
        let metadata = path.and_then(|path| std::fs::metadata(path).ok());
        metadata.map_or(0, |metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(series: u64, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_uvarint(&mut out, series);
        put_varint(&mut out, 70);
        put_uvarint_bytes(&mut out, body);
        out
    }

    /// A file of these frames, read.
    fn read(frames: &[(FrameKind, Vec<u8>)]) -> Result<(RedoPoint, NewestChunks), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let mut file = FrameWriter::create(&path, REDO_POINT).unwrap();
        for (kind, body) in frames {
            file.frame(*kind, body).unwrap();
        }
        file.finish(false).unwrap();
        RedoPoint::read(&std::fs::read(&path).unwrap().into())
    }

    fn point(chunks: Option<ChunksEnd>) -> RedoPoint {
        RedoPoint {
            from: wal::LogEnd {
                segment: 3,
                n_bytes: 500,
            },
            log: LogEnd::default(),
            chunks,
        }
    }

    #[test]
    fn a_redo_point_comes_back_with_the_chunks_of_each_series() {
        let end = ChunksEnd {
            last: 7,
            n_bytes: 1 << 40,
            n_chunks: 300,
            tail_crc: u32::MAX,
        };
        for end in [None, Some(end)] {
            let frames = [
                (
                    FrameKind::Chunks,
                    [entry(2, b"two"), entry(5, b"")].concat(),
                ),
                (FrameKind::Chunks, entry(1 << 50, b"many")),
                (FrameKind::Redo, point(end).encode()),
            ];
            let (found, mut newest) = read(&frames).unwrap();
            assert_eq!(found, point(end));
            let ends = [2, 3, 4].map(|segment| found.redone_to(segment));
            assert_eq!(ends, [u64::MAX, 500, 0]);
            for (series, expect) in [
                (2, Some("two")),
                (5, Some("")),
                (3, None),
                (1 << 50, Some("many")),
                (u64::MAX, None),
                (2, Some("two")),
            ] {
                let expect = expect.map(|body| (70, Bytes::from(body)));
                assert_eq!(newest.of(series), expect, "{series}");
            }
        }
    }

    #[test]
    fn frames_that_no_redo_point_has_are_refused() {
        let last = (FrameKind::Redo, point(None).encode());
        let chunks = |body: Vec<u8>| (FrameKind::Chunks, body);
        for (frames, reason) in [
            (vec![], "it does not say where it belongs"),
            (
                vec![chunks(entry(1, b"x"))],
                "it does not say where it belongs",
            ),
            (vec![last.clone(), last.clone()], "a frame of kind Redo"),
            (
                vec![(FrameKind::Series, vec![]), last.clone()],
                "a frame of kind Series",
            ),
            (
                vec![
                    chunks([entry(2, b"x"), entry(2, b"x")].concat()),
                    last.clone(),
                ],
                "series are not in order",
            ),
            (
                vec![chunks(entry(2, b"x")), chunks(entry(1, b"x")), last.clone()],
                "series are not in order",
            ),
        ] {
            assert_eq!(read(&frames).unwrap_err(), reason);
        }
        let whole = entry(3, b"chunks");
        for len in 1..whole.len() {
            assert!(
                read(&[chunks(whole[..len].to_vec()), last.clone()]).is_err(),
                "{len}"
            );
        }
        for len in 0..last.1.len() {
            let cut = (FrameKind::Redo, last.1[..len].to_vec());
            assert!(read(&[cut]).is_err(), "{len}");
        }
        let longer = (FrameKind::Redo, [&last.1[..], &[0]].concat());
        let reason = read(&[longer]).unwrap_err();
        assert_eq!(reason, "bytes behind where it belongs");
    }
}
