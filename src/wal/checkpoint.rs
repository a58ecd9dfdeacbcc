//! A prefix of the log, condensed so that its segments can go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::foundation::Cancel;
use crate::foundation::durable::{
    create_dirs, remove_dir_all, remove_file, rename_durably, sync_dir,
};
use crate::model::{Counts, Metadata, SampleTime, TimestampMs};
use crate::wal::{
    ExemplarsEncoder, HistogramsEncoder, MetadataEncoder, RecordKind, RefSample, SamplesEncoder,
    SegmentNumber, SegmentReader, SeriesEncoder, StartedSamplesEncoder, Wal, WalError, WalSettings,
    decode_exemplars, decode_histograms, decode_metadata, decode_samples, decode_series,
    decode_tombstones, encode_tombstones, list_segments,
};

/// A directory `checkpoint.NNNNNNNN`: stands for every segment up to and including `number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last segment that is folded in.
    pub number: SegmentNumber,
    /// Where its own segments lie.
    pub path: PathBuf,
}

/// What a checkpoint kept and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckpointStats {
    /// Series read.
    pub n_series: u64,
    /// Series not copied.
    pub n_series_dropped: u64,
    /// Samples read.
    pub n_samples: u64,
    /// Samples not copied.
    pub n_samples_dropped: u64,
    /// Places that did not decode and were skipped.
    pub n_damages: u64,
}

/// The checkpoints of `dir` by number.
fn list_checkpoints(dir: &Path) -> Result<Vec<Checkpoint>, WalError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(WalError::io("list", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(WalError::io("list", dir))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("checkpoint."))
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        let path = entry.path();
        if let Some(number) = number
            && path.is_dir()
        {
            found.push(Checkpoint { number, path });
        }
    }
    found.sort_by_key(|checkpoint| checkpoint.number);
    Ok(found)
}

/// The newest checkpoint of a log directory.
pub fn last_checkpoint(dir: &Path) -> Result<Option<Checkpoint>, WalError> {
    Ok(list_checkpoints(dir)?.pop())
}

/// Removes checkpoints that were never finished.
pub fn remove_unfinished(dir: &Path) -> Result<(), WalError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(WalError::io("list", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(WalError::io("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("checkpoint.") && name.ends_with(".tmp") {
            let path = entry.path();
            remove_dir_all(&path).map_err(WalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Up to which segment a checkpoint pays: two thirds of what is closed. `active` is being written.
pub fn checkpoint_range(first: SegmentNumber, active: SegmentNumber) -> Option<SegmentNumber> {
    let last = active.checked_sub(1)?;
    let upto = u64::from(first) + u64::from(last.checked_sub(first)?) * 2 / 3;
    u32::try_from(upto).ok().filter(|upto| first < *upto)
}

/// What goes into a checkpoint.
#[expect(missing_debug_implementations, reason = "a function cannot be shown")]
pub struct CheckpointWanted<'a> {
    /// Of everything but series, what is not older than this.
    pub mint: TimestampMs,
    /// The series that stay.
    pub keeps: &'a dyn Fn(u64) -> bool,
    /// Raised when nobody waits for it any more: reading what it is made of may take long.
    pub cancel: &'a Cancel,
}

/// Writes `checkpoint.upto` from the previous checkpoint and the segments up to `upto`.
///
/// The old checkpoint and the segments stay: [`remove_before`] removes them once this has returned. `None` when it was
/// given up: the log is as it was, and what was written is removed by whoever opens it next.
pub fn write_checkpoint(
    dir: &Path,
    upto: SegmentNumber,
    settings: WalSettings,
    wanted: &CheckpointWanted<'_>,
) -> Result<Option<CheckpointStats>, WalError> {
    let previous = last_checkpoint(dir)?.filter(|previous| previous.number < upto);
    let mut sources = Vec::new();
    if let Some(previous) = &previous {
        sources.extend(list_segments(&previous.path)?);
    }
    sources.extend(list_segments(dir)?.into_iter().filter(|segment| {
        segment.number <= upto && previous.as_ref().is_none_or(|p| p.number < segment.number)
    }));
    let name = format!("checkpoint.{upto:08}");
    let tmp = dir.join(format!("{name}.tmp"));
    if tmp.is_dir() {
        remove_dir_all(&tmp).map_err(WalError::io("remove", &tmp))?;
    }
    create_dirs(&tmp).map_err(WalError::io("create", &tmp))?;
    let mut condenser = Condenser {
        out: Wal::create(&tmp, 0, settings)?,
        wanted,
        stats: CheckpointStats::default(),
        metadata: BTreeMap::new(),
        samples: Vec::new(),
        series_out: SeriesEncoder::default(),
        samples_out: SamplesEncoder::default(),
        started_out: StartedSamplesEncoder::default(),
    };
    for source in &sources {
        condenser.fold(&source.path)?;
    }
    if wanted.cancel.reason().is_some() {
        return Ok(None);
    }
    condenser.finish()?;
    let stats = condenser.stats;
    for file in condenser.out.unsynced() {
        file.sync_all().map_err(WalError::io("sync", &tmp))?;
    }
    drop(condenser);
    sync_dir(&tmp).map_err(WalError::io("sync", &tmp))?;
    let path = dir.join(name);
    if path.is_dir() {
        remove_dir_all(&path).map_err(WalError::io("remove", &path))?;
    }
    rename_durably(&tmp, &path).map_err(WalError::io("rename", &tmp))?;
    Ok(Some(stats))
}

/// Removes the segments a checkpoint stands for, and older checkpoints.
pub fn remove_before(dir: &Path, checkpoint: SegmentNumber) -> Result<(), WalError> {
    for segment in list_segments(dir)? {
        if segment.number <= checkpoint {
            remove_file(&segment.path).map_err(WalError::io("remove", &segment.path))?;
        }
    }
    for old in list_checkpoints(dir)? {
        if old.number < checkpoint {
            remove_dir_all(&old.path).map_err(WalError::io("remove", &old.path))?;
        }
    }
    sync_dir(dir).map_err(WalError::io("sync", dir))
}

struct Condenser<'a> {
    out: Wal,
    wanted: &'a CheckpointWanted<'a>,
    stats: CheckpointStats,
    metadata: BTreeMap<u64, Metadata>,
    samples: Vec<RefSample>,
    series_out: SeriesEncoder,
    samples_out: SamplesEncoder,
    started_out: StartedSamplesEncoder,
}

impl Condenser<'_> {
    fn fold(&mut self, path: &Path) -> Result<(), WalError> {
        let mut reader = SegmentReader::open(path)?;
        while self.wanted.cancel.reason().is_none() {
            match reader.next_record() {
                Ok(Some(body)) => match self.record(body) {
                    Ok(()) => (),
                    Err(error @ (WalError::Record(_) | WalError::Value { .. })) => {
                        tracing::warn!(path = %path.display(), %error, "a record is left out of the checkpoint");
                        self.stats.n_damages += 1;
                    }
                    Err(error) => return Err(error),
                },
                Ok(None) => return Ok(()),
                Err(damage) => {
                    tracing::warn!(%damage, "damaged bytes are left out of the checkpoint");
                    self.stats.n_damages += 1;
                    if !reader.resync()? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, body: &[u8]) -> Result<(), WalError> {
        match RecordKind::of(body) {
            RecordKind::Series => self.series(body),
            RecordKind::Samples | RecordKind::SamplesV2 => self.samples(body),
            RecordKind::Tombstones => {
                let mut tombstones = decode_tombstones(body)?;
                tombstones.retain(|tombstone| tombstone.interval.max >= self.wanted.mint);
                if tombstones.is_empty() {
                    return Ok(());
                }
                self.out.append(&[&encode_tombstones(&tombstones)])
            }
            RecordKind::Metadata => {
                for entry in decode_metadata(body)? {
                    if (self.wanted.keeps)(entry.series) {
                        self.metadata.insert(entry.series, entry.metadata);
                    }
                }
                Ok(())
            }
            RecordKind::Exemplars => {
                let mut out = ExemplarsEncoder::default();
                let entries = decode_exemplars(body)?;
                let kept = entries.iter().filter(|e| self.wanted.mint <= e.exemplar.t);
                kept.for_each(|entry| out.push(entry.series, &entry.exemplar));
                self.write(out.record())
            }
            RecordKind::Histograms => {
                self.histograms(body, HistogramsEncoder::new(Counts::Whole, false))
            }
            RecordKind::FloatHistograms => {
                self.histograms(body, HistogramsEncoder::new(Counts::Float, false))
            }
            RecordKind::CustomHistograms => {
                self.histograms(body, HistogramsEncoder::new(Counts::Whole, true))
            }
            RecordKind::CustomFloatHistograms => {
                self.histograms(body, HistogramsEncoder::new(Counts::Float, true))
            }
            RecordKind::HistogramsV2 => {
                self.histograms(body, HistogramsEncoder::with_starts(Counts::Whole))
            }
            RecordKind::FloatHistogramsV2 => {
                self.histograms(body, HistogramsEncoder::with_starts(Counts::Float))
            }
            RecordKind::MmapMarkers | RecordKind::Unknown(_) => Ok(()),
        }
    }

    fn write(&mut self, record: Option<&[u8]>) -> Result<(), WalError> {
        match record {
            Some(record) => self.out.append(&[record]),
            None => Ok(()),
        }
    }

    fn histograms(&mut self, body: &[u8], mut out: HistogramsEncoder) -> Result<(), WalError> {
        for entry in decode_histograms(body)? {
            self.stats.n_samples += 1;
            if self.wanted.mint <= entry.at.t {
                out.push(entry.series, entry.at, &entry.histogram);
            } else {
                self.stats.n_samples_dropped += 1;
            }
        }
        self.write(out.record())
    }

    fn series(&mut self, body: &[u8]) -> Result<(), WalError> {
        let Self {
            wanted,
            stats,
            series_out,
            ..
        } = self;
        series_out.clear();
        decode_series(body, |series, labels| {
            stats.n_series += 1;
            match labels {
                Ok(labels) if (wanted.keeps)(series) => series_out.push(series, &labels),
                Ok(_) | Err(_) => stats.n_series_dropped += 1,
            }
        })?;
        match self.series_out.record() {
            Some(record) => self.out.append(&[record]),
            None => Ok(()),
        }
    }

    fn samples(&mut self, body: &[u8]) -> Result<(), WalError> {
        self.samples.clear();
        self.samples_out.clear();
        self.started_out.clear();
        decode_samples(body, &mut self.samples)?;
        let has_starts = RecordKind::of(body) == RecordKind::SamplesV2;
        for sample in &self.samples {
            self.stats.n_samples += 1;
            let RefSample {
                series,
                t,
                start_t,
                v,
            } = *sample;
            if t < self.wanted.mint {
                self.stats.n_samples_dropped += 1;
            } else if has_starts {
                self.started_out.push(series, SampleTime { t, start_t }, v);
            } else {
                self.samples_out.push(series, t, v);
            }
        }
        let records = [self.samples_out.record(), self.started_out.record()];
        for record in records.into_iter().flatten() {
            self.out.append(&[record])?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), WalError> {
        let mut encoder = MetadataEncoder::default();
        for (series, metadata) in &self.metadata {
            encoder.push(*series, metadata);
        }
        match encoder.record() {
            Some(record) => self.out.append(&[record]),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::foundation::cancel::CancelReason;
    use crate::model::Labels;
    use crate::wal::segment_name;

    fn record_of(series: u64, t: i64) -> (Vec<u8>, Vec<u8>) {
        let mut series_out = SeriesEncoder::default();
        series_out.push(series, &Labels::new(&[("n", &series.to_string())]).unwrap());
        let mut samples = SamplesEncoder::default();
        samples.push(series, t, 1.0);
        (
            series_out.record().unwrap().to_vec(),
            samples.record().unwrap().to_vec(),
        )
    }

    #[test]
    fn two_thirds_of_the_closed_segments_are_folded_in() {
        assert_eq!(checkpoint_range(0, 0), None);
        assert_eq!(checkpoint_range(0, 1), None);
        assert_eq!(checkpoint_range(0, 2), None);
        assert_eq!(checkpoint_range(0, 3), Some(1));
        assert_eq!(checkpoint_range(5, 12), Some(9));
        assert_eq!(checkpoint_range(u32::MAX - 3, u32::MAX), Some(u32::MAX - 2));
    }

    fn write(
        dir: &Path,
        upto: SegmentNumber,
        mint: TimestampMs,
        keeps: &dyn Fn(u64) -> bool,
    ) -> CheckpointStats {
        let wanted = CheckpointWanted {
            mint,
            keeps,
            cancel: &Cancel::new(),
        };
        let written = write_checkpoint(dir, upto, WalSettings::default(), &wanted).unwrap();
        written.expect("nobody gave it up")
    }

    #[test]
    fn a_checkpoint_that_is_given_up_leaves_the_log_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut wal = Wal::open(dir, WalSettings::default()).unwrap();
        for series in 1..4_u32 {
            let (series, samples) = record_of(series.into(), 100);
            wal.append(&[&series, &samples]).unwrap();
            wal.next_segment().unwrap();
        }
        write(dir, 1, 0, &|_| true);
        let cancel = Cancel::new();
        // Raised when the first series is being looked at.
        let n_looked_at = Cell::new(0);
        let keeps = |_| {
            n_looked_at.set(n_looked_at.get() + 1);
            cancel.cancel(CancelReason::Canceled);
            true
        };
        let wanted = CheckpointWanted {
            mint: 0,
            keeps: &keeps,
            cancel: &cancel,
        };
        let written = write_checkpoint(dir, 2, WalSettings::default(), &wanted);
        assert_eq!(written.unwrap(), None);
        assert_eq!(n_looked_at.get(), 1);
        assert_eq!(last_checkpoint(dir).unwrap().unwrap().number, 1);
        assert_eq!(list_segments(dir).unwrap().len(), 4);
        let unfinished = dir.join("checkpoint.00000002.tmp");
        assert!(unfinished.is_dir());
        remove_unfinished(dir).unwrap();
        assert!(!unfinished.is_dir());
        assert_eq!(write(dir, 2, 0, &|_| true).n_samples, 3);
    }

    #[test]
    fn a_checkpoint_keeps_what_is_wanted_and_lets_the_segments_go() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut wal = Wal::open(dir, WalSettings::default()).unwrap();
        for (series, t) in [(1, 100), (2, 200), (3, 300)] {
            let (series, samples) = record_of(series, t);
            wal.append(&[&series, &samples]).unwrap();
            wal.next_segment().unwrap();
        }
        let stats = write(dir, 1, 150, &|series| series != 1);
        assert_eq!((stats.n_series, stats.n_series_dropped), (2, 1));
        assert_eq!((stats.n_samples, stats.n_samples_dropped), (2, 1));
        remove_before(dir, 1).unwrap();
        let numbers: Vec<_> = list_segments(dir)
            .unwrap()
            .iter()
            .map(|s| s.number)
            .collect();
        assert_eq!(numbers, [2, 3]);
        // The next one takes the first one in and replaces it.
        let stats = write(dir, 2, 0, &|_| true);
        assert_eq!((stats.n_series, stats.n_samples), (2, 2));
        remove_before(dir, 2).unwrap();
        assert_eq!(last_checkpoint(dir).unwrap().unwrap().number, 2);
        assert!(!dir.join("checkpoint.00000001").is_dir());
        let mut reader =
            SegmentReader::open(&dir.join("checkpoint.00000002").join(segment_name(0))).unwrap();
        let mut n_records = 0;
        while reader.next_record().unwrap().is_some() {
            n_records += 1;
        }
        assert_eq!(n_records, 4);
        assert_eq!(Wal::open(dir, WalSettings::default()).unwrap().segment(), 4);
    }

    #[test]
    fn a_damaged_segment_does_not_stop_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut wal = Wal::open(dir, WalSettings::default()).unwrap();
        let (series, samples) = record_of(1, 100);
        wal.append(&[&series]).unwrap();
        let path = dir.join(segment_name(0));
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        crate::foundation::durable::replace_file(&path, &bytes).unwrap();
        wal.next_segment().unwrap();
        wal.append(&[&samples]).unwrap();
        let stats = write(dir, 1, 0, &|_| true);
        assert_eq!((stats.n_damages, stats.n_samples), (1, 1));
        remove_unfinished(dir).unwrap();
    }
}
