//! The floats of a range answer, mostly from columns, to JSON: shared with idle threads when it is long, and written while
//! it is sent when it is very long.
//!
//! All series have their steps in common, so a time is made text once. The worker that answers the request writes parts
//! of the series like everybody who helps, and never waits for a part that nobody has begun.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::api::http::json::{push_labels, push_number, push_timestamp};
use crate::foundation::pool::Pool;
use crate::model::{TimestampMs, number};
use crate::promql::{ColumnSeries, Columns, Held, MatrixSeries, QueryError};

/// Points written in one go, about: the worker looks after its other connections in between.
const POINTS_PER_PART: usize = 2048;

/// Series written in one go at most.
const SERIES_PER_PART: usize = 256;

/// Below this many parts asking for help costs more than it saves: a part is a tenth of a millisecond's work.
const SHARED_PARTS_MIN: usize = 8;

/// Bytes of a point and of the labels of a series, rather more than less: room that is taken beforehand, for growing means
/// copying.
const POINT_BYTES: usize = 40;
const LABELS_BYTES: usize = 256;

/// Longest `"],[-9223372036854775.808,"`, rounded up to what is copied at once.
const STAMP_BYTES: usize = 32;

/// What stands between the value of one point and the value of the next.
#[derive(Clone, Copy)]
struct Stamp {
    text: [u8; STAMP_BYTES],
    len: usize,
}

/// Series of floats.
pub(super) enum Rows {
    /// As they were computed.
    Columns(Columns),
    /// Point by point.
    Lists(Vec<MatrixSeries>),
}

/// How an answer is written.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    /// At most so many series; zero for all.
    pub(super) limit: usize,
    /// Whose idle threads help.
    pub(super) helpers: Option<&'a Pool>,
    /// An answer that may have more bytes is not put in memory as a whole.
    pub(super) whole_bytes_max: usize,
}

/// An answer, or what writes it.
pub(super) enum Written {
    /// All of it.
    Parts(Vec<Vec<u8>>),
    /// One part after another, while it is sent.
    Stream(PartStream),
}

/// Parts that are written when they are asked for.
pub(super) struct PartStream {
    source: Source,
    n_parts: usize,
    next: usize,
}

/// What every part of an answer is written from.
struct Source {
    rows: Rows,
    stamps: Vec<Stamp>,
    n_series: usize,
    /// Points of a series, about.
    points_each: usize,
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

/// `[{"metric":…,"values":…},…]` of the first series, and whether any were left out.
pub(super) async fn write_rows(
    rows: Rows,
    held: &Held,
    manner: Manner<'_>,
) -> Result<(Written, bool), QueryError> {
    let n_max = match manner.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let (n_series, is_cut) = (rows.len().min(n_max), n_max < rows.len());
    let stamps = rows.stamps(held)?;
    let points_each = rows.points_each();
    let source = Source {
        rows,
        stamps,
        n_series,
        points_each,
        series_per_part: (POINTS_PER_PART / points_each.max(1)).clamp(1, SERIES_PER_PART),
        held: held.clone(),
    };
    let n_parts = n_series.div_ceil(source.series_per_part).max(1);
    if manner.whole_bytes_max < source.bytes_of(n_series) {
        // One part is there at a time.
        held.add(source.bytes_of(source.series_per_part))?;
        let stream = PartStream {
            source,
            n_parts,
            next: 0,
        };
        return Ok((Written::Stream(stream), is_cut));
    }
    if n_parts < SHARED_PARTS_MIN {
        let parts = (0..n_parts).map(|number| source.part(number));
        let parts = parts.collect::<Result<_, _>>()?;
        return Ok((Written::Parts(parts), is_cut));
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
    worker.call_for_help(manner.helpers);
    let parts = worker.write().await?;
    Ok((Written::Parts(parts), is_cut))
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
        let out = self.unbooked_part(number);
        self.held.add(out.capacity())?;
        Ok(out)
    }

    /// How many bytes series take, about.
    fn bytes_of(&self, n_series: usize) -> usize {
        let series_bytes = LABELS_BYTES + self.points_each * POINT_BYTES;
        n_series.saturating_mul(series_bytes)
    }

    fn unbooked_part(&self, number: usize) -> Vec<u8> {
        let from = number * self.series_per_part;
        let to = (from + self.series_per_part).min(self.n_series);
        let mut out = Vec::with_capacity(self.bytes_of(to - from) + LABELS_BYTES);
        if from == 0 {
            out.push(b'[');
        }
        self.push_range(&mut out, from..to);
        if to == self.n_series {
            out.push(b']');
        }
        out
    }

    fn push_range(&self, out: &mut Vec<u8>, range: Range<usize>) {
        for position in range {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"metric\":");
            match &self.rows {
                Rows::Columns(columns) => {
                    if let Some(series) = columns.series(position) {
                        push_labels(out, series.labels());
                        self.push_floats(out, series);
                    }
                }
                Rows::Lists(lists) => {
                    if let Some(series) = lists.get(position) {
                        push_labels(out, &series.labels);
                        let (mut points, mut stamps) = (Points::new(out), Stamps::default());
                        for sample in &series.floats {
                            points.push(&stamps.of(sample.t), sample.v);
                        }
                        points.finish();
                    }
                }
            }
            out.push(b'}');
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

impl Rows {
    fn len(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.len(),
            Self::Lists(lists) => lists.len(),
        }
    }

    fn points_each(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.n_steps(),
            Self::Lists(lists) => {
                let points = lists.iter().map(|series| series.floats.len());
                points.sum::<usize>() / lists.len().max(1)
            }
        }
    }

    /// The times that series have in common, as text.
    fn stamps(&self, held: &Held) -> Result<Vec<Stamp>, QueryError> {
        let Self::Columns(columns) = self else {
            return Ok(Vec::new());
        };
        let n_steps = columns.n_steps();
        held.add(n_steps.saturating_mul(size_of::<Stamp>()))?;
        let mut stamps = Stamps::default();
        Ok((0..n_steps)
            .map(|step| stamps.of(columns.time(step)))
            .collect())
    }
}

impl Iterator for PartStream {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let number = self.next;
        (number < self.n_parts).then(|| {
            self.next += 1;
            self.source.unbooked_part(number)
        })
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

/// Makes stamps, one after the other.
#[derive(Default)]
struct Stamps(Vec<u8>);

impl Stamps {
    fn of(&mut self, t: TimestampMs) -> Stamp {
        let text = &mut self.0;
        text.clear();
        text.extend_from_slice(b"\"],[");
        push_timestamp(text, t);
        text.extend_from_slice(b",\"");
        let len = text.len();
        text.resize(STAMP_BYTES, 0);
        Stamp {
            text: text.first_chunk().copied().unwrap_or_default(),
            len,
        }
    }
}
