//! The head as a clean stop leaves it: written so that the next start replays nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::foundation::durable::{remove_file, rename_durably, sync_dir};
use crate::head::HeadError;
use crate::head::core::{Head, Inner};
use crate::head::frames::{FrameKind, FrameWriter, Frames};
use crate::head::saved::{FILE_NAME, LogEnd, Position, SNAPSHOT};
use crate::model::{Exemplar, Labels, MetricType};

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SavedStats {
    /// Series.
    pub n_series: u64,
    /// Bytes of the file.
    pub n_bytes: u64,
}

pub(crate) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_uvarint(out, labels.len() as u64);
    for (name, value) in labels {
        put_uvarint_bytes(out, name.as_bytes());
        put_uvarint_bytes(out, value.as_bytes());
    }
}

impl Head {
    /// Writes everything in memory to `head-snapshot`, with how far the log is: whoever opens the head next takes it from
    /// there, and reads only what was logged later. The log stays as it is.
    ///
    /// Commits wait meanwhile. `None` where the log does not have everything, as after a failure.
    pub fn save(&self) -> Result<Option<SavedStats>, HeadError> {
        let inner = self.inner();
        let Some(dir) = inner.wal_dir.parent() else {
            return Ok(None);
        };
        let committer = inner.committer.lock();
        if committer.wal.poisoned().is_some() || committer.owed.is_some() {
            return Ok(None);
        }
        inner.map_closed_chunks();
        let path = dir.join(FILE_NAME);
        let tmp = tmp_path(dir);
        let written = inner.write_snapshot(&tmp);
        let placed = written.and_then(|stats| {
            rename_durably(&tmp, &path).map_err(HeadError::io("rename", &tmp))?;
            Ok(stats)
        });
        if placed.is_err() {
            remove_file(&tmp).ok();
        }
        drop(committer);
        let stats = placed?;
        // It is older; the next start would look at it for nothing, and that is all it does where it stays.
        inner.remove_redo_point(dir).ok();
        Ok(Some(stats))
    }
}

fn tmp_path(dir: &Path) -> PathBuf {
    dir.join(format!("{FILE_NAME}.tmp"))
}

/// Removes what a process that was interrupted left of a snapshot.
pub(crate) fn remove_unfinished_snapshot(dir: &Path) -> Result<(), HeadError> {
    remove(&tmp_path(dir))
}

/// Removes the snapshot: the head has less than it.
pub(crate) fn remove_snapshot(dir: &Path) -> Result<(), HeadError> {
    remove(&dir.join(FILE_NAME))
}

/// Removes a file that need not be there, for good.
pub(crate) fn remove(path: &Path) -> Result<(), HeadError> {
    match remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HeadError::io("remove", path)(error))
        }
        Err(_) => Ok(()),
        Ok(()) => {
            let dir = path.parent().unwrap_or(path);
            sync_dir(dir).map_err(HeadError::io("sync", dir))
        }
    }
}

impl Inner {
    fn write_snapshot(&self, path: &Path) -> Result<SavedStats, HeadError> {
        let failed = |error| HeadError::io("write", path)(error);
        let position = Position {
            chunk_range_ms: self.settings.chunk_range_ms,
            series_max: self.next_series.load(Ordering::SeqCst),
            span: self.bounds.get(),
            wal: LogEnd::of(&self.wal_dir)?,
            wbl: LogEnd::of(&self.late.dir)?,
            has_left: self.retired.lock().has_left,
        };
        let mut file = FrameWriter::create(path, SNAPSHOT).map_err(failed)?;
        let position = position.encode();
        file.frame(FrameKind::Position, &position).map_err(failed)?;
        let n_series = self.write_series(&mut file)?;
        self.write_numbers(&mut file).map_err(failed)?;
        self.write_facts(&mut file).map_err(failed)?;
        let n_bytes = file.finish(true).map_err(failed)?;
        Ok(SavedStats { n_series, n_bytes })
    }

    fn write_series(&self, file: &mut FrameWriter) -> Result<u64, HeadError> {
        let mut frames = Frames::new(file, FrameKind::Series);
        let mut n_series = 0;
        let mut result = Ok(());
        let mut body = Vec::new();
        self.series.for_each(|series| {
            let state = series.lock();
            if result.is_err() || !state.is_logged || state.is_dead {
                return;
            }
            body.clear();
            let saved = state.save(&mut body).map_err(HeadError::Snapshot);
            drop(state);
            n_series += 1;
            result = saved.and_then(|()| {
                let written = frames.entry(|out| {
                    put_uvarint(out, series.series);
                    put_labels(out, &series.labels);
                    put_uvarint_bytes(out, &body);
                });
                written.map_err(HeadError::io("write", Path::new(FILE_NAME)))
            });
        });
        result?;
        let finished = frames.finish();
        finished.map_err(HeadError::io("write", Path::new(FILE_NAME)))?;
        Ok(n_series)
    }

    /// Numbers that the log mentions beside those of the series.
    fn write_numbers(&self, file: &mut FrameWriter) -> io::Result<()> {
        let retired = self.retired.lock();
        let mut aliases: Vec<_> = retired.aliases.iter().collect();
        aliases.sort_unstable();
        let mut frames = Frames::new(file, FrameKind::Aliases);
        for (alias, series) in aliases {
            frames.entry(|out| {
                put_uvarint(out, *alias);
                put_uvarint(out, *series);
            })?;
        }
        frames.finish()?;
        let mut removed: Vec<_> = retired.removed.iter().collect();
        removed.sort_unstable();
        let mut frames = Frames::new(file, FrameKind::Removed);
        for (series, segment) in removed {
            frames.entry(|out| {
                put_uvarint(out, *series);
                put_uvarint(out, u64::from(*segment));
            })?;
        }
        frames.finish()
    }

    fn write_facts(&self, file: &mut FrameWriter) -> io::Result<()> {
        let mut frames = Frames::new(file, FrameKind::Tombstones);
        for tombstone in self.deleted.all() {
            frames.entry(|out| {
                put_uvarint(out, tombstone.series);
                put_varint(out, tombstone.interval.min);
                put_varint(out, tombstone.interval.max);
            })?;
        }
        frames.finish()?;
        let mut frames = Frames::new(file, FrameKind::Metadata);
        for (name, metadata) in &*self.metadata.read() {
            frames.entry(|out| {
                put_uvarint_bytes(out, name.as_bytes());
                out.push(metric_type_byte(metadata.metric_type));
                put_uvarint_bytes(out, metadata.unit.as_bytes());
                put_uvarint_bytes(out, metadata.help.as_bytes());
            })?;
        }
        frames.finish()?;
        let mut frames = Frames::new(file, FrameKind::Exemplars);
        let mut result = Ok(());
        self.exemplars.for_each(|series, exemplar| {
            if result.is_ok() {
                result = frames.entry(|out| put_exemplar(out, series, exemplar));
            }
        });
        result?;
        frames.finish()
    }
}

fn put_exemplar(out: &mut Vec<u8>, series: &Labels, exemplar: &Exemplar) {
    put_labels(out, series);
    put_labels(out, &exemplar.labels);
    put_varint(out, exemplar.t);
    out.push(u8::from(exemplar.has_own_time));
    out.extend_from_slice(&exemplar.v.to_bits().to_be_bytes());
}

/// As in records of the log.
pub(crate) const METRIC_TYPES: [MetricType; 8] = [
    MetricType::Unknown,
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
];

fn metric_type_byte(metric_type: MetricType) -> u8 {
    let place = METRIC_TYPES.iter().position(|one| *one == metric_type);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(0)
}
