//! What several readers want at once is fetched once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::foundation::Cancel;
use crate::gateway::store::PageKey;
use crate::storage::StorageError;

/// How often a waiting reader looks whether anybody still wants the answer.
const CANCEL_POLL: Duration = Duration::from_millis(20);

/// How the fetch of one page ends.
#[derive(Debug, Clone)]
enum Outcome {
    Arrived(Bytes),
    Failed(StorageError),
    /// Whoever was to fetch it gave up before he asked: somebody else may.
    Abandoned,
}

/// A page that is being fetched.
#[derive(Debug, Default)]
pub(super) struct Flight {
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

impl Flight {
    fn end(&self, outcome: Outcome) {
        self.outcome.lock().get_or_insert(outcome);
        self.ended.notify_all();
    }

    /// Waits for the page; `None` where somebody else has to fetch it.
    pub(super) fn wait(&self, cancel: &Cancel) -> Result<Option<Bytes>, StorageError> {
        let mut outcome = self.outcome.lock();
        loop {
            match &*outcome {
                Some(Outcome::Arrived(page)) => return Ok(Some(page.clone())),
                Some(Outcome::Failed(error)) => return Err(error.clone()),
                Some(Outcome::Abandoned) => return Ok(None),
                None if cancel.reason().is_some() => return Err(StorageError::Canceled),
                None => {
                    self.ended.wait_for(&mut outcome, CANCEL_POLL);
                }
            }
        }
    }
}

/// All pages that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<PageKey, Arc<Flight>>>);

/// A reader's place in a flight.
pub(super) enum Seat {
    /// It is there by now.
    There(Bytes),
    /// Somebody else fetches it.
    Passenger(Arc<Flight>),
    /// This reader is to fetch it.
    Pilot(Arc<Flight>),
}

impl Flights {
    /// Joins the flight of a page, or begins one, unless `look` finds it.
    pub(super) fn board(&self, key: PageKey, look: impl FnOnce() -> Option<Bytes>) -> Seat {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(&key) {
            return Seat::Passenger(Arc::clone(flight));
        }
        // A flight that ended a moment ago has left the page behind.
        if let Some(page) = look() {
            return Seat::There(page);
        }
        let flight = Arc::new(Flight::default());
        flights.insert(key, Arc::clone(&flight));
        Seat::Pilot(flight)
    }

    fn end(&self, key: PageKey, flight: &Flight, outcome: Outcome) {
        self.0.lock().remove(&key);
        flight.end(outcome);
    }
}

/// Flights that one reader, or the task that works for it, must end: what it has not ended when it goes away is abandoned,
/// or has failed once the task has begun.
#[derive(Debug)]
pub(super) struct Led {
    flights: Arc<Flights>,
    open: BTreeMap<PageKey, Arc<Flight>>,
    has_begun: bool,
}

impl Led {
    pub(super) fn new(flights: Arc<Flights>) -> Self {
        Self {
            flights,
            open: BTreeMap::new(),
            has_begun: false,
        }
    }

    pub(super) fn add(&mut self, key: PageKey, flight: Arc<Flight>) {
        self.open.insert(key, flight);
    }

    /// From here on it is worked on.
    pub(super) fn begin(mut self) -> Self {
        self.has_begun = true;
        self
    }

    pub(super) fn arrived(&mut self, key: PageKey, page: Bytes) {
        if let Some(flight) = self.open.remove(&key) {
            self.flights.end(key, &flight, Outcome::Arrived(page));
        }
    }

    pub(super) fn failed(&mut self, key: PageKey, error: StorageError) {
        if let Some(flight) = self.open.remove(&key) {
            self.flights.end(key, &flight, Outcome::Failed(error));
        }
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        let outcome = if self.has_begun {
            let text = "the runtime that reads the bucket has stopped".to_owned();
            Outcome::Failed(StorageError::Unavailable(text))
        } else {
            Outcome::Abandoned
        };
        for (key, flight) in std::mem::take(&mut self.open) {
            self.flights.end(key, &flight, outcome.clone());
        }
    }
}
