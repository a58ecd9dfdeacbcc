//! A snapshot on its way into an empty head.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::foundation::{Cursor, ShortRead};
use crate::head::frames::FrameKind;
use crate::head::replay_lanes::Rare;
use crate::head::replay_read::Reader;
use crate::head::save::METRIC_TYPES;
use crate::head::saved::Saved;
use crate::head::series::MemSeries;
use crate::head::stats::count;
use crate::model::{Exemplar, Interval, Label, Labels, Metadata, MetricType, TimestampMs};

impl Reader<'_> {
    /// Takes everything from `saved`. After an error the head is good for nothing.
    pub(crate) fn restore(&mut self, saved: &Saved) -> Result<(), String> {
        for (kind, frame) in &saved.frames {
            let mut cursor = Cursor::new(frame);
            while !cursor.is_empty() {
                let entry = match kind {
                    FrameKind::Series => self.restore_series(frame, &mut cursor),
                    FrameKind::Aliases => self.restore_alias(&mut cursor),
                    FrameKind::Removed => self.restore_removed(&mut cursor),
                    FrameKind::Tombstones => self.restore_tombstone(&mut cursor),
                    FrameKind::Metadata => self.restore_metadata(&mut cursor),
                    FrameKind::Exemplars => self.restore_exemplar(&mut cursor),
                    FrameKind::Position | FrameKind::End | FrameKind::Chunks | FrameKind::Redo => {
                        return Err("frames are not in order".to_owned());
                    }
                };
                entry.map_err(|error| error.to_string())??;
            }
        }
        let position = &saved.position;
        self.inner.retired.lock().has_left |= position.has_left;
        let next_series = &self.inner.next_series;
        next_series.fetch_max(position.series_max, Ordering::Relaxed);
        let floor = self.inner.bounds.floor();
        if let Some(span) = position.span.filter(|span| floor <= span.max) {
            self.inner.bounds.extend(span);
        }
        Ok(())
    }

    fn restore_series(
        &mut self,
        frame: &Bytes,
        cursor: &mut Cursor<'_>,
    ) -> Result<Result<(), String>, ShortRead> {
        let number = cursor.uvarint("series")?;
        let labels = take_labels(cursor)?;
        let n_bytes = cursor.uvarint_len("length of a series")?;
        let start = cursor.offset();
        cursor.bytes("a series", n_bytes)?;
        let state = frame.slice(start..start + n_bytes);
        let labels = match labels {
            Ok(labels) => labels,
            Err(error) => return Ok(Err(error)),
        };
        let key = labels.key();
        let make = || Arc::new(MemSeries::new(number, key, labels));
        let (series, is_new) = self.inner.series.get_or_insert(key, make);
        if !is_new || self.lanes.slots.get(number).is_some() {
            return Ok(Err(format!("series {number} is there twice")));
        }
        count(&self.inner.counters.series_created, 1);
        self.report.n_restored += 1;
        series.lock().is_logged = true;
        let Some(slot) = self.lanes.adopt(series, TimestampMs::MIN, 0) else {
            return Ok(Err("too many series".to_owned()));
        };
        self.lanes.rare(slot, |place| Rare::Restored(place, state));
        Ok(Ok(()))
    }

    fn restore_alias(&mut self, cursor: &mut Cursor<'_>) -> Result<Result<(), String>, ShortRead> {
        let alias = cursor.uvarint("alias")?;
        let series = cursor.uvarint("series")?;
        // A series that left takes its other numbers with it.
        if let Some(slot) = self.lanes.slots.get(series) {
            self.lanes.slots.insert(alias, slot, TimestampMs::MIN);
        }
        let mut retired = self.inner.retired.lock();
        retired.aliases.insert(alias, series);
        Ok(Ok(()))
    }

    fn restore_removed(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<Result<(), String>, ShortRead> {
        let series = cursor.uvarint("series")?;
        let segment = cursor.uvarint32("segment")?;
        let mut retired = self.inner.retired.lock();
        retired.removed.insert(series, segment);
        Ok(Ok(()))
    }

    fn restore_tombstone(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<Result<(), String>, ShortRead> {
        let series = cursor.uvarint("series")?;
        let interval = Interval {
            min: cursor.varint("first time")?,
            max: cursor.varint("last time")?,
        };
        self.inner.deleted.add(series, interval);
        Ok(Ok(()))
    }

    fn restore_metadata(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<Result<(), String>, ShortRead> {
        let name = cursor.uvarint_str("metric name")?.to_owned();
        let byte = cursor.u8("metric type")?;
        let metric_type = METRIC_TYPES.get(usize::from(byte)).copied();
        let metadata = Metadata {
            metric_type: metric_type.unwrap_or(MetricType::Unknown),
            unit: cursor.uvarint_str("unit")?.to_owned(),
            help: cursor.uvarint_str("help")?.to_owned(),
        };
        let mut all = self.inner.metadata.write();
        all.insert(name, Arc::new(metadata));
        Ok(Ok(()))
    }

    fn restore_exemplar(
        &mut self,
        cursor: &mut Cursor<'_>,
    ) -> Result<Result<(), String>, ShortRead> {
        let of_series = take_labels(cursor)?;
        let of_exemplar = take_labels(cursor)?;
        let t = cursor.varint("time of an exemplar")?;
        let has_own_time = cursor.u8("has its own time")? == 1;
        let v = cursor.f64_be("value of an exemplar")?;
        let (series, labels) = match (of_series, of_exemplar) {
            (Ok(series), Ok(labels)) => (series, labels),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        };
        let exemplar = Exemplar {
            labels,
            v,
            t,
            has_own_time,
        };
        // The series may have left the head, and its exemplars not.
        let series = MemSeries::new(0, series.key(), series);
        self.inner.exemplars.add(&series, &exemplar);
        Ok(Ok(()))
    }
}

fn take_labels(cursor: &mut Cursor<'_>) -> Result<Result<Labels, String>, ShortRead> {
    let mut pairs: Vec<Label<'_>> = Vec::new();
    for _ in 0..cursor.uvarint("label count")? {
        let name = cursor.uvarint_str("label name")?;
        pairs.push((name, cursor.uvarint_str("label value")?));
    }
    Ok(Labels::from_sorted(&pairs).map_err(|error| error.to_string()))
}
