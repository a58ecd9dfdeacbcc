//! How much a query may hold, and for how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use thiserror::Error;

use crate::foundation::cancel::CancelReason;
use crate::foundation::{Cancel, Clock};
use crate::promql::memory::{Ledger, MemoryPool};
use crate::storage::StorageError;

/// The class of an error, as the HTTP API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The query is not one.
    BadData,
    /// The query cannot be answered.
    Execution,
    /// Nobody waits for the answer any more.
    Canceled,
    /// It took too long.
    Timeout,
    /// The storage failed.
    Internal,
    /// There is no room now; the same query may be answered later.
    Unavailable,
}

impl ErrorKind {
    /// As the HTTP API's `errorType` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a query has no answer. The texts are Prometheus', but for those of memory, which it does not bound.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text does not parse, or is not a query of this kind.
    #[error("{0}")]
    BadData(String),
    /// Evaluation met something it cannot go on with.
    #[error("{0}")]
    Execution(String),
    /// More samples than the query may hold.
    #[error("query processing would load too many samples into memory in {0}")]
    TooManySamples(&'static str),
    /// More memory than one query may hold.
    #[error("{0}")]
    MemoryOfQuery(String),
    /// More memory than all queries together may hold.
    #[error("{0}")]
    MemoryOfAll(String),
    /// The flag was raised.
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    /// The deadline passed.
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// A source of series failed.
    #[error("expanding series: {0}")]
    Storage(String),
}

impl QueryError {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadData(_) => ErrorKind::BadData,
            Self::Execution(_) | Self::TooManySamples(_) | Self::MemoryOfQuery(_) => {
                ErrorKind::Execution
            }
            Self::MemoryOfAll(_) => ErrorKind::Unavailable,
            Self::Canceled(_) => ErrorKind::Canceled,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Storage(_) => ErrorKind::Internal,
        }
    }

    /// An execution error with this text.
    pub(crate) fn execution(text: impl Into<String>) -> Self {
        Self::Execution(text.into())
    }
}

/// Where the samples and the memory a query holds are booked, and where it looks whether to go on.
#[derive(Debug)]
pub(crate) struct Budget {
    samples_max: u64,
    held: AtomicU64,
    peak: AtomicU64,
    memory: Ledger,
    refused: OnceLock<QueryError>,
    cancel: Cancel,
    clock: Arc<dyn Clock>,
    deadline_ms: i64,
}

/// Series that are walked over before somebody asks whether to go on; each may have thousands of steps.
const SERIES_BETWEEN_CHECKS: usize = 32;

/// The stage named in errors of the evaluation.
const EVALUATION: &str = "expression evaluation";

/// The stage named when too many samples are held.
const EXECUTION: &str = "query execution";

impl Budget {
    /// Nothing booked; `deadline_ms` is wall time by `clock`.
    pub(crate) fn new(
        samples_max: u64,
        cancel: Cancel,
        clock: Arc<dyn Clock>,
        deadline_ms: i64,
    ) -> Self {
        Self {
            samples_max,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            memory: Ledger::new(MemoryPool::default(), u64::MAX),
            refused: OnceLock::new(),
            cancel,
            clock,
            deadline_ms,
        }
    }

    /// With a bound on memory: `max` bytes, as far as `pool` has them.
    pub(crate) fn with_memory(self, pool: MemoryPool, max: u64) -> Self {
        Self {
            memory: Ledger::new(pool, max),
            ..self
        }
    }

    /// Where memory is booked.
    pub(crate) fn memory(&self) -> &Ledger {
        &self.memory
    }

    /// Ends the query with this error wherever it looks at the budget next; the first error stays.
    pub(crate) fn refuse(&self, error: impl FnOnce() -> QueryError) -> QueryError {
        self.refused.get_or_init(error).clone()
    }

    /// Books `n` samples before they are held.
    pub(crate) fn take(&self, n: usize) -> Result<(), QueryError> {
        let n = n as u64;
        let held = self.held.fetch_add(n, Ordering::Relaxed).saturating_add(n);
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.samples_max {
            return Err(QueryError::TooManySamples(EXECUTION));
        }
        Ok(())
    }

    /// Gives `n` booked samples back.
    pub(crate) fn give(&self, n: usize) {
        self.held.fetch_sub(n as u64, Ordering::Relaxed);
    }

    /// The most that was booked at one time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// The flag, for those who work for this query elsewhere.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The time by the clock of the deadline.
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Is somebody still waiting, and was nothing refused? Asked between operators and every few thousand samples.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if let Some(refused) = self.refused.get() {
            return Err(refused.clone());
        }
        match self.cancel.reason() {
            Some(CancelReason::Canceled) => return Err(QueryError::Canceled(EVALUATION)),
            Some(CancelReason::TimedOut) => return Err(QueryError::Timeout(EVALUATION)),
            None => (),
        }
        if self.clock.now_ms() >= self.deadline_ms {
            self.cancel.cancel(CancelReason::TimedOut);
            return Err(QueryError::Timeout(EVALUATION));
        }
        Ok(())
    }

    /// [`Self::check`] at every few of the positions of a walk over series.
    #[inline]
    pub(crate) fn every(&self, position: usize) -> Result<(), QueryError> {
        if position % SERIES_BETWEEN_CHECKS == SERIES_BETWEEN_CHECKS - 1 {
            return self.check();
        }
        Ok(())
    }

    /// What a failure of a source is to the query.
    pub(crate) fn storage_error(&self, error: &StorageError) -> QueryError {
        match (self.check(), error) {
            (Err(stopped), _) => stopped,
            (Ok(()), StorageError::Canceled) => QueryError::Canceled(EVALUATION),
            (Ok(()), _) => QueryError::Storage(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::ManualClock;

    fn budget(clock: &ManualClock) -> Budget {
        Budget::new(10, Cancel::new(), Arc::new(clock.clone()), 1_000)
    }

    #[test]
    fn one_sample_more_than_allowed_is_refused() {
        let budget = budget(&ManualClock::new(0));
        budget.take(6).unwrap();
        budget.take(4).unwrap();
        budget.give(3);
        budget.take(3).unwrap();
        let refused = budget.take(1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "query processing would load too many samples into memory in query execution"
        );
        assert_eq!((refused.kind(), budget.peak()), (ErrorKind::Execution, 11));
    }

    #[test]
    fn the_deadline_and_the_flag_end_a_query_with_their_own_texts() {
        let clock = ManualClock::new(999);
        let late = budget(&clock);
        late.check().unwrap();
        clock.set(1_000);
        assert_eq!(
            late.check().unwrap_err().to_string(),
            "query timed out in expression evaluation"
        );
        let gone = budget(&ManualClock::new(0));
        gone.cancel().cancel(CancelReason::Canceled);
        assert_eq!(
            gone.check().unwrap_err().to_string(),
            "query was canceled in expression evaluation"
        );
    }

    #[test]
    fn a_failing_source_is_an_internal_error_unless_the_query_was_stopped() {
        let budget = budget(&ManualClock::new(0));
        let broken = StorageError::Corrupt("chunk 7".to_owned());
        let error = budget.storage_error(&broken);
        assert_eq!(
            (error.to_string().as_str(), error.kind()),
            ("expanding series: chunk 7", ErrorKind::Internal)
        );
        budget.cancel().cancel(CancelReason::TimedOut);
        assert_eq!(budget.storage_error(&broken).kind(), ErrorKind::Timeout);
    }
}
