//! The answer of a range query from columns to JSON, shared with idle threads when it is long.
//!
//! All series have their steps in common, so a time is made text once. The worker that answers the request writes parts
//! of the series like everybody who helps, and never waits for a part that nobody has begun.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::api::http::json::{push_histogram, push_labels, push_number, push_timestamp};
use crate::foundation::pool::Pool;
use crate::model::number;
use crate::promql::{ColumnSeries, Columns, Held, QueryError};

/// Points written in one go, about: the worker looks after its other connections in between.
const POINTS_PER_PART: usize = 2048;

/// Series written in one go at most.
const SERIES_PER_PART: usize = 256;

/// Below this many parts asking for help costs more than it saves.
const SHARED_PARTS_MIN: usize = 3;

/// Bytes of a point and of the labels of a series, more or less: room that is taken beforehand.
const POINT_BYTES: usize = 32;
const LABELS_BYTES: usize = 256;

/// Longest `"],[-9223372036854775.808,"`, rounded up to what is copied at once.
const STAMP_BYTES: usize = 32;

/// What stands between the value of one point and the value of the next.
#[derive(Clone, Copy)]
struct Stamp {
    text: [u8; STAMP_BYTES],
    len: usize,
}

/// What every part of an answer is written from.
struct Source {
    columns: Columns,
    stamps: Vec<Stamp>,
    n_series: usize,
    series_per_part: usize,
    held: Held,
}

/// Parts being written by several threads.
struct Shared {
    source: Source,
    n_parts: usize,
    next: AtomicUsize,
    done: Mutex<Done>,
    all_done: Notify,
}

struct Done {
    parts: Vec<Vec<u8>>,
    n_left: usize,
    failed: Option<QueryError>,
}

/// Counts a part as done even when writing it panics, so that nobody waits for it for ever.
struct Part<'a> {
    shared: &'a Shared,
    number: usize,
    result: Result<Vec<u8>, QueryError>,
}

/// Nobody takes parts any more once the worker has let go, as it does when the client is gone.
struct Worker(Arc<Shared>);

/// The parts of `[{"metric":…,"values":…},…]` of the first `limit` series, zero for all, and whether any were left out.
pub(super) async fn columns_parts(
    columns: &Columns,
    limit: usize,
    held: &Held,
    pool: Option<&Pool>,
) -> Result<(Vec<Vec<u8>>, bool), QueryError> {
    let n_max = if limit == 0 { usize::MAX } else { limit };
    let n_steps = columns.n_steps();
    held.add(n_steps.saturating_mul(size_of::<Stamp>()))?;
    let source = Source {
        columns: columns.clone(),
        stamps: (0..n_steps).map(|step| stamp(columns.time(step))).collect(),
        n_series: columns.len().min(n_max),
        series_per_part: (POINTS_PER_PART / n_steps.max(1)).clamp(1, SERIES_PER_PART),
        held: held.clone(),
    };
    let is_cut = n_max < columns.len();
    let n_parts = source.n_series.div_ceil(source.series_per_part).max(1);
    if n_parts < SHARED_PARTS_MIN {
        let parts = (0..n_parts).map(|number| source.part(number));
        return Ok((parts.collect::<Result<_, _>>()?, is_cut));
    }
    let worker = Worker(Arc::new(Shared {
        source,
        n_parts,
        next: AtomicUsize::new(0),
        done: Mutex::new(Done {
            parts: vec![Vec::new(); n_parts],
            n_left: n_parts,
            failed: None,
        }),
        all_done: Notify::new(),
    }));
    worker.call_for_help(pool);
    let parts = worker.write().await?;
    Ok((parts, is_cut))
}

impl Worker {
    fn call_for_help(&self, pool: Option<&Pool>) {
        let Some(pool) = pool else { return };
        // One thread is this one.
        for _ in 1..pool.n_threads().min(self.0.n_parts) {
            // Who comes when all is done finds nothing, and keeps nothing alive.
            let shared = Arc::downgrade(&self.0);
            let asked = pool.try_spawn(move || {
                if let Some(shared) = shared.upgrade() {
                    while shared.write_next() {}
                }
            });
            if asked.is_err() {
                break;
            }
        }
    }

    async fn write(&self) -> Result<Vec<Vec<u8>>, QueryError> {
        while self.0.write_next() {
            tokio::task::yield_now().await;
        }
        loop {
            let all_done = self.0.all_done.notified();
            {
                let mut done = self.0.done.lock();
                if let Some(error) = &done.failed {
                    return Err(error.clone());
                }
                if done.n_left == 0 {
                    return Ok(std::mem::take(&mut done.parts));
                }
            }
            all_done.await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.next.store(self.0.n_parts, Ordering::Relaxed);
    }
}

impl Shared {
    /// Writes a part nobody has begun, if there is one.
    fn write_next(&self) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.n_parts {
            // Counting on for ever would begin anew one day.
            self.next.store(self.n_parts, Ordering::Relaxed);
            return false;
        }
        let mut part = Part {
            shared: self,
            number,
            result: Err(QueryError::Execution(
                "writing a part of the answer panicked".to_owned(),
            )),
        };
        part.result = self.source.part(number);
        true
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let mut done = self.shared.done.lock();
        done.n_left = done.n_left.saturating_sub(1);
        match &mut self.result {
            Ok(text) => {
                if let Some(place) = done.parts.get_mut(self.number) {
                    *place = std::mem::take(text);
                }
            }
            Err(error) => {
                done.failed = Some(error.clone());
                self.shared
                    .next
                    .store(self.shared.n_parts, Ordering::Relaxed);
            }
        }
        if done.n_left == 0 || done.failed.is_some() {
            self.shared.all_done.notify_one();
        }
    }
}

impl Source {
    /// Some series, with what stands before the first and behind the last.
    fn part(&self, number: usize) -> Result<Vec<u8>, QueryError> {
        let from = number * self.series_per_part;
        let to = (from + self.series_per_part).min(self.n_series);
        let series_bytes = LABELS_BYTES + self.stamps.len() * POINT_BYTES;
        let mut out = Vec::with_capacity((to - from) * series_bytes + LABELS_BYTES);
        if from == 0 {
            out.push(b'[');
        }
        self.push_range(&mut out, from..to);
        if to == self.n_series {
            out.push(b']');
        }
        self.held.add(out.capacity())?;
        Ok(out)
    }

    fn push_range(&self, out: &mut Vec<u8>, range: Range<usize>) {
        let mut scratch = String::new();
        for position in range {
            let Some(series) = self.columns.series(position) else {
                break;
            };
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"metric\":");
            push_labels(out, series.labels());
            self.push_floats(out, series);
            let mut opening = &b",\"histograms\":["[..];
            for (step, histogram) in series.histograms() {
                out.extend_from_slice(opening);
                opening = b",";
                out.push(b'[');
                push_timestamp(out, self.columns.time(step));
                out.push(b',');
                push_histogram(out, histogram, &mut scratch);
                out.push(b']');
            }
            out.extend_from_slice(if opening.len() == 1 { b"]}" } else { b"}" });
        }
    }

    fn push_floats(&self, out: &mut Vec<u8>, series: ColumnSeries<'_>) {
        let mut points = Points::new(out);
        match series.all_floats() {
            Some(values) => {
                for (stamp, v) in self.stamps.iter().zip(values) {
                    points.push(stamp, *v);
                }
            }
            None => {
                for (step, v) in series.floats() {
                    if let Some(stamp) = self.stamps.get(step) {
                        points.push(stamp, v);
                    }
                }
            }
        }
        points.finish();
    }
}

/// The list of one series' floats being written.
struct Points<'a> {
    out: &'a mut Vec<u8>,
    /// Where the last value stands.
    last: Range<usize>,
    last_bits: u64,
    scratch: String,
}

impl<'a> Points<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            last: 0..0,
            last_bits: 0,
            scratch: String::new(),
        }
    }

    #[inline]
    fn push(&mut self, stamp: &Stamp, v: f64) {
        let is_first = self.last.is_empty();
        if is_first {
            self.out.extend_from_slice(b",\"values\":[");
        }
        // All of it, for a copy of known length takes one instruction.
        let opening = if is_first { b"\"],".len() } else { 0 };
        if is_first {
            let text = stamp.text.get(opening..stamp.len).unwrap_or_default();
            self.out.extend_from_slice(text);
        } else {
            let end = self.out.len() + stamp.len;
            self.out.extend_from_slice(&stamp.text);
            self.out.truncate(end);
        }
        let from = self.out.len();
        // Much of what is stored never changes.
        if v.to_bits() == self.last_bits && !is_first {
            self.out.extend_from_within(self.last.clone());
        } else if !number::push_common(self.out, v) {
            self.scratch.clear();
            push_number(&mut self.scratch, v);
            self.out.extend_from_slice(self.scratch.as_bytes());
        }
        self.last = from..self.out.len();
        self.last_bits = v.to_bits();
    }

    fn finish(self) {
        if !self.last.is_empty() {
            self.out.extend_from_slice(b"\"]]");
        }
    }
}

fn stamp(t: crate::model::TimestampMs) -> Stamp {
    let mut text = Vec::with_capacity(STAMP_BYTES);
    text.extend_from_slice(b"\"],[");
    push_timestamp(&mut text, t);
    text.extend_from_slice(b",\"");
    let len = text.len();
    text.resize(STAMP_BYTES, 0);
    Stamp {
        text: text.try_into().unwrap_or_default(),
        len,
    }
}
