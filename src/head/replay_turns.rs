//! The threads that read the log of a replay. Each takes the records that come next, decompresses them and makes the series
//! of which they speak, while others do the same. Who has the batch whose turn it is applies it, and those behind it that
//! are ready; the others go on reading.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::head::HeadError;
use crate::head::progress::ReplayProgress;
use crate::head::replay_lanes::panicked;
use crate::head::replay_read::Reader;
use crate::head::series::MemSeries;
use crate::model::LabelsError;
use crate::wal::{
    Damage, RecordKind, SegmentFile, SegmentNumber, SegmentReader, StoredRecord, WalError,
    decode_series,
};

/// Which log a segment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// `wal/`.
    InOrder,
    /// `wbl/`.
    OutOfOrder,
}

/// A segment that is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToRead<'a> {
    pub(crate) segment: &'a SegmentFile,
    pub(crate) log: Log,
    /// What is read begins behind so many bytes.
    pub(crate) from: u64,
    /// Floats of records that end at or before this byte are in chunk files or the redo point, if it holds.
    pub(crate) redone_to: u64,
    /// That of a segment of the log itself, which is not one of a checkpoint.
    pub(crate) number: Option<SegmentNumber>,
}

/// Records are applied by one thread at a time: more than so many wait for each other.
const READERS_MAX: usize = 3;
/// So many batches more than there are threads: one that is done with a batch whose turn it is not goes on with another.
const BATCHES_AHEAD: usize = 2;
/// So many batches are read before anything can be applied, at most: mostly series.
const BATCHES_AT_FIRST: usize = 12;
/// A batch has about so many bytes of the log: few enough to be in the caches still when they are applied.
const BYTES_PER_BATCH: usize = 96 << 10;
/// So many bytes of decompressed records are kept for the next batch.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// A series under the number that the log gives it, if its labels are labels.
type LoggedSeries = (u64, Result<Arc<MemSeries>, LabelsError>);

/// What is found in a segment.
#[derive(Debug)]
enum Found {
    Stored(StoredRecord),
    /// One of floats that need not be read, if the redo point holds.
    Redone(StoredRecord),
    /// Bytes that are no record, and where reading went on. A record before them may not decompress.
    Damage(Damage),
    /// The segment ends.
    End,
    /// It cannot be read.
    Failed(WalError),
}

/// What became of it.
#[derive(Debug)]
enum Decoded {
    /// Up to this place of the bodies.
    Body(usize),
    /// It was not compressed.
    Plain,
    /// So many of the batch.
    Series(usize),
    /// So many, and then it does not decode.
    CutSeries(usize, WalError),
    Damage(Damage),
}

/// Records that follow each other.
#[derive(Debug, Default)]
struct Batch<'a> {
    found: Vec<(ToRead<'a>, Found)>,
    stored: Vec<u8>,
    /// One for each of `found` that is stored.
    decoded: Vec<Decoded>,
    bodies: Vec<u8>,
    series: Vec<LoggedSeries>,
}

/// The log, read by one thread at a time.
struct Source<'a> {
    rest: std::slice::Iter<'a, ToRead<'a>>,
    open: Option<(ToRead<'a>, SegmentReader)>,
    n_batches: u64,
    /// Whether floats before the redo point are passed over, once that is known.
    passes_over: Option<bool>,
    n_passed_over: u64,
    is_over: bool,
}

impl<'a> Source<'a> {
    /// The next batch, and which it is; `None` behind the last.
    fn next(&mut self, batch: &mut Batch<'a>) -> Option<u64> {
        batch.clear();
        while !self.is_over && batch.stored.len() < BYTES_PER_BATCH {
            let Some((to_read, reader)) = &mut self.open else {
                let Some(to_read) = self.rest.next() else {
                    self.is_over = true;
                    break;
                };
                match SegmentReader::open(&to_read.segment.path) {
                    Ok(reader) => self.open = Some((*to_read, reader)),
                    Err(error) => self.fail(*to_read, error, batch),
                }
                continue;
            };
            let (to_read, before) = (*to_read, batch.stored.len());
            match reader.next_stored(&mut batch.stored) {
                Ok(Some(record)) if record.end() <= to_read.from => batch.stored.truncate(before),
                Ok(Some(record)) => {
                    let is_redone = record.end() <= to_read.redone_to
                        && record.kind(&batch.stored) == Some(RecordKind::Samples);
                    match self.passes_over {
                        Some(true) if is_redone => {
                            batch.stored.truncate(before);
                            self.n_passed_over += 1;
                        }
                        None if is_redone => batch.found.push((to_read, Found::Redone(record))),
                        _ => batch.found.push((to_read, Found::Stored(record))),
                    }
                }
                Ok(None) => {
                    batch.found.push((to_read, Found::End));
                    self.open = None;
                }
                Err(damage) => {
                    batch.found.push((to_read, Found::Damage(damage)));
                    match reader.resync() {
                        Ok(true) => (),
                        Ok(false) => {
                            batch.found.push((to_read, Found::End));
                            self.open = None;
                        }
                        Err(error) => self.fail(to_read, error, batch),
                    }
                }
            }
        }
        let number = self.n_batches;
        self.n_batches += 1;
        (!batch.found.is_empty()).then_some(number)
    }

    fn fail(&mut self, to_read: ToRead<'a>, error: WalError, batch: &mut Batch<'a>) {
        batch.found.push((to_read, Found::Failed(error)));
        self.is_over = true;
    }
}

impl Batch<'_> {
    /// Keeps the memory.
    fn clear(&mut self) {
        self.found.clear();
        self.stored.clear();
        self.decoded.clear();
        self.series.clear();
        if KEPT_BYTES_MAX < self.bodies.len() {
            self.bodies = Vec::new();
        }
    }

    /// What does not need its turn.
    fn decode(&mut self) {
        let mut end = 0;
        for (to_read, found) in &self.found {
            let Found::Stored(record) = found else {
                continue;
            };
            let path = &to_read.segment.path;
            let bodies = (&mut self.bodies, end);
            let ends = match record.decompress(path, &self.stored, bodies) {
                Ok(ends) => ends,
                Err(damage) => {
                    self.decoded.push(Decoded::Damage(damage));
                    continue;
                }
            };
            let plain = record.plain(&self.stored);
            let body = plain.or_else(|| self.bodies.get(end..ends));
            let body = body.unwrap_or_default();
            let is_series = RecordKind::of(body) == RecordKind::Series;
            self.decoded
                .push(if is_series && to_read.log == Log::InOrder {
                    // Its bytes are not needed any more.
                    decode_series_into(&mut self.series, body)
                } else if plain.is_some() {
                    Decoded::Plain
                } else {
                    end = ends;
                    Decoded::Body(end)
                });
        }
    }
}

fn decode_series_into(all: &mut Vec<LoggedSeries>, body: &[u8]) -> Decoded {
    let before = all.len();
    let read = decode_series(body, |number, labels| {
        let series = labels.map(|labels| Arc::new(MemSeries::new(number, labels.key(), labels)));
        all.push((number, series));
    });
    let n_series = all.len() - before;
    match read {
        Ok(()) => Decoded::Series(n_series),
        Err(error) => Decoded::CutSeries(n_series, error),
    }
}

/// Whose turn it is, and what it is about.
struct Turn<'r, 'a> {
    reader: &'r mut Reader<'a>,
    progress: &'r ReplayProgress,
    failed: Option<HeadError>,
    /// Floats before the redo point are passed over.
    passes_over: bool,
    n_passed_over: u64,
    /// The segment has damage.
    is_damaged: bool,
    /// Records of the segment that begin before this are passed over, as [`SegmentReader::resync`] does.
    resync_at: u64,
}

impl Turn<'_, '_> {
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), HeadError> {
        let Batch {
            found,
            stored,
            decoded,
            bodies,
            series,
        } = batch;
        let (mut decoded, mut series) = (decoded.drain(..), series.drain(..));
        let mut end = 0;
        for (to_read, found) in found.drain(..) {
            let path = &to_read.segment.path;
            match found {
                Found::Redone(_) if self.passes_over => self.n_passed_over += 1,
                Found::Redone(record) => self.undecoded(to_read, &record, stored),
                Found::Stored(record) => {
                    let is_wanted = self.resync_at <= record.first();
                    let read = match decoded.next() {
                        Some(Decoded::Body(ends)) => {
                            let body = bodies.get(end..ends).unwrap_or_default();
                            end = ends;
                            self.body(is_wanted, body, to_read.log)
                        }
                        Some(Decoded::Plain) => {
                            let body = record.plain(stored).unwrap_or_default();
                            self.body(is_wanted, body, to_read.log)
                        }
                        Some(Decoded::Series(n)) => {
                            self.series(is_wanted, series.by_ref().take(n));
                            Ok(())
                        }
                        Some(Decoded::CutSeries(n, error)) => {
                            self.series(is_wanted, series.by_ref().take(n));
                            if is_wanted { Err(error) } else { Ok(()) }
                        }
                        Some(Decoded::Damage(damage)) => {
                            if is_wanted {
                                self.resync_at = record.resync_at();
                                self.damage(&damage);
                            }
                            Ok(())
                        }
                        None => Ok(()),
                    };
                    if let Err(error) = read {
                        self.undecodable(path, &error);
                    }
                }
                Found::Damage(damage) if damage.offset < self.resync_at => (),
                Found::Damage(damage) => self.damage(&damage),
                Found::End => {
                    let is_damaged = std::mem::take(&mut self.is_damaged);
                    self.reader.end_segment(path, is_damaged);
                    let n_bytes = to_read.segment.n_bytes;
                    self.progress.segment_done(to_read.number, n_bytes);
                    self.resync_at = 0;
                }
                Found::Failed(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Floats that have to be read after all.
    fn undecoded(&mut self, to_read: ToRead<'_>, record: &StoredRecord, stored: &[u8]) {
        let path = &to_read.segment.path;
        let is_wanted = self.resync_at <= record.first();
        let mut bodies = Vec::new();
        match record.decompress(path, stored, (&mut bodies, 0)) {
            Ok(end) => {
                let body = record.plain(stored).or_else(|| bodies.get(..end));
                let read = self.body(is_wanted, body.unwrap_or_default(), to_read.log);
                if let Err(error) = read {
                    self.undecodable(path, &error);
                }
            }
            Err(damage) if is_wanted => {
                self.resync_at = record.resync_at();
                self.damage(&damage);
            }
            Err(_) => (),
        }
    }

    fn undecodable(&mut self, path: &Path, error: &WalError) {
        self.reader.report.n_damages += 1;
        tracing::warn!(path = %path.display(), %error, "a record of the log does not decode");
    }

    fn damage(&mut self, damage: &Damage) {
        self.is_damaged = true;
        self.reader.report.n_damages += 1;
        tracing::warn!(%damage, "the log is damaged; reading goes on behind it");
    }

    fn body(&mut self, is_wanted: bool, body: &[u8], log: Log) -> Result<(), WalError> {
        match log {
            _ if !is_wanted => Ok(()),
            Log::InOrder => self.reader.record(body),
            Log::OutOfOrder => self.reader.late_record(body),
        }
    }

    fn series(&mut self, is_wanted: bool, series: impl Iterator<Item = LoggedSeries>) {
        for (number, series) in series {
            if is_wanted {
                self.reader.series(number, series);
            }
        }
    }
}

/// Batches that are in somebody's hands, or wait to be applied.
#[derive(Default)]
struct Ready<'a> {
    /// Decoded ones.
    waiting: Vec<(u64, Batch<'a>)>,
    /// The one that is applied next.
    next: u64,
    /// Somebody applies.
    is_applying: bool,
    /// All that are not in `spare`, and were not read before anything could be applied.
    n_out: usize,
    /// Those that were.
    n_first: u64,
    spare: Vec<Batch<'a>>,
    /// Nothing is applied any more.
    is_over: bool,
}

impl<'a> Ready<'a> {
    fn take_next(&mut self) -> Option<Batch<'a>> {
        let at = (self.waiting.iter()).position(|(number, _)| *number == self.next);
        at.map(|at| self.waiting.swap_remove(at).1)
    }
}

/// The log, and what was read of it and not applied yet. Reading can begin before there is anything to apply it to.
pub(crate) struct Ahead<'a> {
    source: Mutex<Source<'a>>,
    ready: Mutex<Ready<'a>>,
}

impl<'a> Ahead<'a> {
    /// Nothing of `segments` was read yet.
    pub(crate) fn new(segments: &'a [ToRead<'a>]) -> Self {
        Self {
            source: Mutex::new(Source {
                rest: segments.iter(),
                open: None,
                n_batches: 0,
                passes_over: None,
                n_passed_over: 0,
                is_over: false,
            }),
            ready: Mutex::default(),
        }
    }

    /// Now it is known whether the redo point holds: then floats before it are passed over. No more is read at first.
    pub(crate) fn pass_over(&self, passes_over: bool) {
        self.source.lock().passes_over = Some(passes_over);
    }

    /// Reads a little of the log, in a thread of its own if there is a processor for it, until it is known what is passed
    /// over.
    pub(crate) fn begin<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        n_threads: usize,
    ) -> ReadsFirst<'scope> {
        let thread = (1 < n_threads).then(|| Builder::new().name("replay-log-first".to_owned()));
        let thread = thread.and_then(|thread| {
            let read = || (0..BATCHES_AT_FIRST).all(|_| self.read_at_first());
            // Where no thread can be had, all is read later.
            thread.spawn_scoped(scope, read).ok()
        });
        ReadsFirst(thread)
    }

    /// Reads a batch; false when there is no more, or others read it.
    fn read_at_first(&self) -> bool {
        let mut batch = Batch::default();
        let mut source = self.source.lock();
        if source.passes_over.is_some() {
            return false;
        }
        let number = source.next(&mut batch);
        drop(source);
        let Some(number) = number else {
            return false;
        };
        batch.decode();
        let mut ready = self.ready.lock();
        ready.n_first = number + 1;
        ready.waiting.push((number, batch));
        true
    }
}

/// The thread that reads before anything can be applied, to be waited for by whoever applies.
pub(crate) struct ReadsFirst<'scope>(Option<ScopedJoinHandle<'scope, bool>>);

struct Turns<'l, 'r, 'a> {
    ahead: &'r Ahead<'l>,
    /// There is a batch to be filled, or none will ever be.
    changed: Condvar,
    n_batches_max: usize,
    turn: Mutex<Turn<'r, 'a>>,
}

/// When a thread ends in the middle of what it did, nobody waits for what it would have applied.
struct Leaving<'t, 'l, 'r, 'a>(&'t Turns<'l, 'r, 'a>);

impl Drop for Leaving<'_, '_, '_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.ahead.ready.lock().is_over = true;
        }
        self.0.changed.notify_all();
    }
}

impl<'l> Turns<'l, '_, '_> {
    /// The same, once what was read first is there.
    fn run_behind(&self, first: ReadsFirst<'_>) -> Result<(), HeadError> {
        let read = first.0.map_or(Ok(true), ScopedJoinHandle::join);
        if let Err(panic) = read {
            self.ahead.ready.lock().is_over = true;
            self.changed.notify_all();
            return Err(panicked(panic));
        }
        self.run();
        Ok(())
    }

    /// Reads and applies until there is no more.
    fn run(&self) {
        let leaving = Leaving(self);
        self.apply_ready(self.ahead.ready.lock());
        while let Some(mut batch) = self.empty_batch() {
            let number = self.ahead.source.lock().next(&mut batch);
            let Some(number) = number else {
                self.ahead.ready.lock().n_out -= 1;
                break;
            };
            batch.decode();
            let mut ready = self.ahead.ready.lock();
            ready.waiting.push((number, batch));
            self.apply_ready(ready);
        }
        drop(leaving);
    }

    /// A batch to be filled, once there is one; `None` when no more are wanted.
    fn empty_batch(&self) -> Option<Batch<'l>> {
        let mut ready = self.ahead.ready.lock();
        while self.n_batches_max <= ready.n_out && !ready.is_over {
            self.changed.wait(&mut ready);
        }
        if ready.is_over {
            return None;
        }
        ready.n_out += 1;
        Some(ready.spare.pop().unwrap_or_default())
    }

    /// Applies the batch that is next, if it is there, and all that follow it, unless somebody does.
    fn apply_ready<'t>(&'t self, mut ready: MutexGuard<'t, Ready<'l>>) {
        if ready.is_applying {
            return;
        }
        while !ready.is_over
            && let Some(mut batch) = ready.take_next()
        {
            ready.is_applying = true;
            drop(ready);
            let applied = {
                let mut turn = self.turn.lock();
                let applied = turn.apply(&mut batch);
                applied.map_err(|error| turn.failed = Some(error)).is_ok()
            };
            ready = self.ahead.ready.lock();
            ready.is_applying = false;
            ready.is_over |= !applied;
            if ready.n_first <= ready.next {
                ready.n_out -= 1;
                ready.spare.push(batch);
                self.changed.notify_one();
            }
            ready.next += 1;
        }
        if ready.is_over {
            self.changed.notify_all();
        }
    }
}

/// Reads what follows with `n_threads` threads, the calling one included, and lets `reader` apply what they have in its
/// order, around what is damaged in it. How many records were passed over.
pub(crate) fn read_segments(
    (ahead, first): (&Ahead<'_>, ReadsFirst<'_>),
    reader: &mut Reader<'_>,
    progress: &ReplayProgress,
    n_threads: usize,
) -> Result<u64, HeadError> {
    let n_readers = n_threads.clamp(1, READERS_MAX);
    let passes_over = ahead.source.lock().passes_over == Some(true);
    let turns = Turns {
        ahead,
        turn: Mutex::new(Turn {
            reader,
            progress,
            failed: None,
            passes_over,
            n_passed_over: 0,
            is_damaged: false,
            resync_at: 0,
        }),
        changed: Condvar::new(),
        n_batches_max: n_readers + BATCHES_AHEAD,
    };
    let n_others = n_readers - 1;
    thread::scope(|scope| {
        let others: Vec<_> = (0..n_others)
            .filter_map(|number| {
                let thread = Builder::new().name(format!("replay-log-{number}"));
                // The others do the work of one that cannot be had.
                thread.spawn_scoped(scope, || turns.run()).ok()
            })
            .collect();
        let mut ended = turns.run_behind(first);
        for other in others {
            if let Err(panic) = other.join() {
                ended = Err(panicked(panic));
            }
        }
        ended
    })?;
    let Turn {
        failed,
        n_passed_over,
        ..
    } = turns.turn.into_inner();
    let n_passed_over = n_passed_over + turns.ahead.source.lock().n_passed_over;
    failed.map_or(Ok(n_passed_over), Err)
}
