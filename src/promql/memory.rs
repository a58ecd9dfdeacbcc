//! Memory of queries, booked before it is taken: for each query, and for all queries of the process together.
//!
//! What is booked is what grows with the data: the series a selector found with their encoded chunks, decoded columns,
//! frames, slots of groups, and the answer until it is written. Whoever is about to allocate asks first; who is refused
//! ends the whole query, for its threads see the refusal at their next look at the budget.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::promql::limits::{Budget, QueryError};

/// The setting that bounds one query.
const PER_QUERY_KEY: &str = "query.memory_max_per_query";
/// The setting that bounds all queries together.
const ALL_QUERIES_KEY: &str = "query.memory_max";

/// How much is taken ahead at least and at most where memory grows by little.
const PREPAID_MIN: usize = 4 << 10;
const PREPAID_MAX: usize = 256 << 10;

/// Bytes that queries may hold together; clones are the same pool.
#[derive(Debug, Clone)]
pub struct MemoryPool(Arc<Pooled>);

#[derive(Debug)]
struct Pooled {
    max: u64,
    used: AtomicU64,
    peak: AtomicU64,
    n_refused: AtomicU64,
}

impl MemoryPool {
    /// A pool of `max` bytes.
    pub fn new(max: u64) -> Self {
        Self(Arc::new(Pooled {
            max,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            n_refused: AtomicU64::new(0),
        }))
    }

    /// Bytes that may be held.
    pub fn max(&self) -> u64 {
        self.0.max
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most bytes held at one time since the start.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Queries that ended because memory was refused, by either limit, since the start.
    pub fn n_refused(&self) -> u64 {
        self.0.n_refused.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        if !take_below(&self.0.used, bytes, self.0.max) {
            return false;
        }
        self.0.peak.fetch_max(self.used(), Ordering::Relaxed);
        true
    }

    fn give(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for MemoryPool {
    /// Without a limit.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

/// Adds `bytes` to what is held unless that would pass `max`.
fn take_below(held: &AtomicU64, bytes: u64, max: u64) -> bool {
    let fits = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= max);
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
        .is_ok()
}

/// What one query holds.
#[derive(Debug)]
pub(crate) struct Ledger {
    pool: MemoryPool,
    max: u64,
    held: AtomicU64,
    peak: AtomicU64,
    shares: Mutex<Vec<Share>>,
}

/// What is held for one selector.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    text: Arc<str>,
    bytes: Arc<AtomicU64>,
}

impl Ledger {
    /// Nothing held yet; at most `max` bytes, as far as the pool has them.
    pub(crate) fn new(pool: MemoryPool, max: u64) -> Self {
        Self {
            pool,
            max,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            shares: Mutex::default(),
        }
    }

    /// The most bytes held at one time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Whatever is held for the selector written as `text`.
    pub(crate) fn share(&self, text: &str) -> Share {
        let share = Share {
            text: Arc::from(text),
            bytes: Arc::default(),
        };
        self.shares.lock().push(share.clone());
        share
    }

    /// Holds `bytes` more, or says which limit is in the way.
    fn take(&self, bytes: u64) -> Result<(), Refusal> {
        if !take_below(&self.held, bytes, self.max) {
            return Err(Refusal::Query);
        }
        if !self.pool.take(bytes) {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Refusal::AllQueries);
        }
        let held = self.held.load(Ordering::Relaxed);
        self.peak.fetch_max(held, Ordering::Relaxed);
        Ok(())
    }

    fn give(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.pool.give(bytes);
    }

    /// What the query is told, and whoever counts refusals.
    fn refuse(&self, bytes: u64, refusal: Refusal) -> QueryError {
        self.pool.0.n_refused.fetch_add(1, Ordering::Relaxed);
        let (asked, held) = (size(bytes), size(self.held.load(Ordering::Relaxed)));
        let mut text = match refusal {
            Refusal::Query => format!(
                "query needs {asked} of memory beside the {held} it holds, and {PER_QUERY_KEY} is {}",
                size(self.max)
            ),
            Refusal::AllQueries => format!(
                "query needs {asked} of memory beside the {held} it holds, but all queries together hold {} and \
                 {ALL_QUERIES_KEY} is {}",
                size(self.pool.used()),
                size(self.pool.max())
            ),
        };
        self.name_largest(&mut text);
        match refusal {
            Refusal::Query => {
                write!(
                    text,
                    "; select fewer series, ask for a shorter range or fewer steps, or raise {PER_QUERY_KEY}"
                )
                .ok();
                QueryError::MemoryOfQuery(text)
            }
            Refusal::AllQueries => {
                write!(
                    text,
                    "; ask again when other queries are done, select fewer series, or raise {ALL_QUERIES_KEY}"
                )
                .ok();
                QueryError::MemoryOfAll(text)
            }
        }
    }

    fn name_largest(&self, text: &mut String) {
        let shares = self.shares.lock();
        let bytes = |share: &Share| share.bytes.load(Ordering::Relaxed);
        let total = self.held.load(Ordering::Relaxed).max(1);
        let Some(largest) = shares.iter().max_by_key(|share| bytes(share)) else {
            return;
        };
        let percent = bytes(largest).saturating_mul(100) / total;
        write!(
            text,
            "; its largest selector is {} with {} ({}%)",
            largest.text,
            size(bytes(largest)),
            percent.min(100)
        )
        .ok();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Query,
    AllQueries,
}

/// Bytes as the configuration writes them: powers of 1024.
#[expect(
    clippy::cast_precision_loss,
    reason = "one digit after the point is shown"
)]
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B");
            return format!("{value:.digits$}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1}TB")
}

/// Memory that a query holds, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    budget: Option<Arc<Budget>>,
    share: Option<Share>,
    bytes: AtomicU64,
}

impl Hold {
    /// Nothing held yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Some(Arc::clone(budget)),
            share: None,
            bytes: AtomicU64::new(0),
        }
    }

    /// `bytes` held from the start.
    pub(crate) fn with(budget: &Arc<Budget>, bytes: usize) -> Result<Self, QueryError> {
        let hold = Self::new(budget);
        hold.add(bytes)?;
        Ok(hold)
    }

    /// Nothing held yet; what will be counts as the selector's.
    pub(crate) fn of(budget: &Arc<Budget>, share: &Share) -> Self {
        let mut hold = Self::new(budget);
        hold.share = Some(share.clone());
        hold
    }

    /// Whether the query it is held for goes on.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        self.budget.as_ref().map_or(Ok(()), |budget| budget.check())
    }

    /// Nothing held yet, for the same query and selector.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            budget: self.budget.clone(),
            share: self.share.clone(),
            bytes: AtomicU64::new(0),
        }
    }

    /// How much is held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Holds `bytes` more, or ends the query.
    pub(crate) fn add(&self, bytes: usize) -> Result<(), QueryError> {
        let bytes = bytes as u64;
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        if let Err(refusal) = budget.memory().take(bytes) {
            // A query is refused once, however often it asks until it notices.
            return Err(budget.refuse(|| budget.memory().refuse(bytes, refusal)));
        }
        self.note(bytes);
        Ok(())
    }

    /// Holds `bytes` more if there is room; the query goes on without.
    pub(crate) fn try_add(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let fits = match &self.budget {
            Some(budget) => budget.memory().take(bytes).is_ok(),
            None => return true,
        };
        if fits {
            self.note(bytes);
        }
        fits
    }

    /// Holds at least `bytes`, or ends the query.
    pub(crate) fn grow_to(&self, bytes: usize) -> Result<(), QueryError> {
        let held = self.bytes();
        match (bytes as u64).checked_sub(held) {
            None | Some(0) => Ok(()),
            Some(more) => self.add(usize::try_from(more).unwrap_or(usize::MAX)),
        }
    }

    /// Holds what `other` held.
    pub(crate) fn absorb(&self, other: &Self) {
        if self.budget.is_some() && other.budget.is_some() {
            let bytes = other.bytes.swap(0, Ordering::Relaxed);
            if let Some(share) = &other.share {
                share.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            self.note(bytes);
        }
    }

    /// Holds at least `bytes`, and takes more than that at once, so that growing by little asks seldom.
    pub(crate) fn prepay(&self, bytes: usize) -> Result<(), QueryError> {
        if self.bytes() < bytes as u64 {
            let ahead = bytes.saturating_add((bytes / 4).clamp(PREPAID_MIN, PREPAID_MAX));
            let more = ahead.saturating_sub(usize::try_from(self.bytes()).unwrap_or(usize::MAX));
            if !self.try_add(more) {
                return self.grow_to(bytes);
            }
        }
        Ok(())
    }

    /// Gives everything back and can hold again.
    pub(crate) fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if let Some(budget) = &self.budget {
            budget.memory().give(bytes);
        }
    }

    fn note(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

/// What an answer holds until it is written; any two are the same.
#[derive(Debug, Clone, Default)]
pub struct Held(Option<Arc<Hold>>);

impl Held {
    /// `hold` goes when the last clone does.
    pub(crate) fn new(hold: Arc<Hold>) -> Self {
        Self(Some(hold))
    }

    /// Holds `bytes` more, or says which limit is in the way.
    pub fn add(&self, bytes: usize) -> Result<(), QueryError> {
        match &self.0 {
            Some(hold) => hold.add(bytes),
            None => Ok(()),
        }
    }
}

impl PartialEq for Held {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::{Cancel, ManualClock};

    fn budget(pool: &MemoryPool, max: u64) -> Arc<Budget> {
        let clock = Arc::new(ManualClock::new(0));
        let budget = Budget::new(1_000, Cancel::new(), clock, i64::MAX);
        Arc::new(budget.with_memory(pool.clone(), max))
    }

    #[test]
    fn what_is_held_counts_for_the_query_and_for_all_and_is_given_back() {
        let pool = MemoryPool::new(1_000);
        let (one, other) = (budget(&pool, 600), budget(&pool, 600));
        let held = Hold::with(&one, 500).unwrap();
        let more = Hold::with(&other, 400).unwrap();
        assert_eq!((pool.used(), one.memory().peak()), (900, 500));
        more.absorb(&Hold::with(&other, 50).unwrap());
        assert_eq!((pool.used(), more.bytes()), (950, 450));
        drop((held, more));
        assert_eq!((pool.used(), pool.peak(), pool.n_refused()), (0, 950, 0));
    }

    #[test]
    fn a_refusal_names_limit_amount_largest_selector_and_the_way_out() {
        let pool = MemoryPool::new(10 << 20);
        let one = budget(&pool, 4 << 20);
        let small = Hold::of(&one, &one.memory().share("up"));
        let large = Hold::of(&one, &one.memory().share("rate_total{job=\"a\"}"));
        small.add(1 << 20).unwrap();
        large.add(2 << 20).unwrap();
        let refused = large.add(3 << 19).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "query needs 1.5MB of memory beside the 3.0MB it holds, and query.memory_max_per_query is 4.0MB; its \
             largest selector is rate_total{job=\"a\"} with 2.0MB (66%); select fewer series, ask for a shorter \
             range or fewer steps, or raise query.memory_max_per_query"
        );
        assert_eq!(one.check().unwrap_err(), refused);
        let _rest = Hold::with(&budget(&pool, u64::MAX), 7 << 20).unwrap();
        let refused = Hold::with(&budget(&pool, u64::MAX), 100).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "query needs 100B of memory beside the 0B it holds, but all queries together hold 10.0MB and \
             query.memory_max is 10.0MB; ask again when other queries are done, select fewer series, or raise \
             query.memory_max"
        );
        assert_eq!(pool.n_refused(), 2);
    }

    #[test]
    fn a_hold_grows_to_what_is_needed_and_what_is_only_tried_ends_nothing() {
        let pool = MemoryPool::new(100);
        let one = budget(&pool, 100);
        let hold = Hold::new(&one);
        hold.grow_to(60).unwrap();
        hold.grow_to(30).unwrap();
        assert!(!hold.try_add(50) && hold.try_add(40));
        assert_eq!((hold.bytes(), pool.used(), pool.n_refused()), (100, 100, 0));
        one.check().unwrap();
    }
}
