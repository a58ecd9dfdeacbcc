//! What a store is really asked over HTTP: repeated, hedged and partial requests too. It is what a bill counts.

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Method;

/// Bytes of a gibibyte.
const GIB: f64 = 1_073_741_824.0;

/// Requests that have one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestSort {
    /// PUT, POST: writing, beginning and ending of an upload in parts.
    Write,
    /// Pages of listings.
    List,
    /// GET, HEAD.
    Read,
    /// DELETE.
    Delete,
}

impl RequestSort {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Write, Self::List, Self::Read, Self::Delete];

    /// The name metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::List => "list",
            Self::Read => "read",
            Self::Delete => "delete",
        }
    }

    /// By method; of GET, by what the three dialects call a listing.
    pub(crate) fn of(method: &Method, query: Option<&str>) -> Self {
        if *method == Method::DELETE {
            return Self::Delete;
        }
        if *method != Method::GET && *method != Method::HEAD {
            return Self::Write;
        }
        let is_listing = query.unwrap_or_default().split('&').any(|pair| {
            pair.starts_with("list-type=") || pair.starts_with("delimiter=") || pair == "comp=list"
        });
        if is_listing { Self::List } else { Self::Read }
    }
}

/// Counts of one sort since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestCounts {
    /// Sent.
    pub n_sent: u64,
    /// Answered with 429 or 5xx, or not at all.
    pub n_failed: u64,
    /// Bytes of content sent.
    pub bytes_sent: u64,
    /// Bytes of content received.
    pub bytes_received: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    failed: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

/// The counters of one bucket.
#[derive(Debug, Default)]
pub struct Requests {
    write: Counters,
    list: Counters,
    read: Counters,
    delete: Counters,
    hedged: AtomicU64,
}

/// What requests cost, in whatever currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// Of a thousand writes or listings.
    pub thousand_writes: f64,
    /// Of a thousand reads.
    pub thousand_reads: f64,
    /// Of a gibibyte that leaves the store.
    pub gib_out: f64,
}

impl Eq for Prices {}

impl Requests {
    /// The counts of every sort.
    pub fn counts(&self) -> Vec<(RequestSort, RequestCounts)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestSort::ALL
            .map(|sort| {
                let counters = self.of(sort);
                let counts = RequestCounts {
                    n_sent: read(&counters.sent),
                    n_failed: read(&counters.failed),
                    bytes_sent: read(&counters.bytes_sent),
                    bytes_received: read(&counters.bytes_received),
                };
                (sort, counts)
            })
            .to_vec()
    }

    /// Reads that were asked once more because the first was slow.
    pub fn n_hedged(&self) -> u64 {
        self.hedged.load(Ordering::Relaxed)
    }

    /// What all requests so far cost. Deleting is free wherever prices are published.
    #[expect(
        clippy::cast_precision_loss,
        reason = "an estimate need not know the last of ten million billion bytes"
    )]
    pub fn cost(&self, prices: &Prices) -> f64 {
        let mut cost = 0.0;
        for (sort, counts) in self.counts() {
            let thousand = match sort {
                RequestSort::Write | RequestSort::List => prices.thousand_writes,
                RequestSort::Read => prices.thousand_reads,
                RequestSort::Delete => 0.0,
            };
            cost += counts.n_sent as f64 / 1_000.0 * thousand;
            cost += counts.bytes_received as f64 / GIB * prices.gib_out;
        }
        cost
    }

    pub(crate) fn sent(&self, sort: RequestSort, bytes: u64) {
        let counters = self.of(sort);
        counters.sent.fetch_add(1, Ordering::Relaxed);
        counters.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, sort: RequestSort) {
        self.of(sort).failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, sort: RequestSort, bytes: u64) {
        let counter = &self.of(sort).bytes_received;
        counter.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn hedged(&self) {
        self.hedged.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, sort: RequestSort) -> &Counters {
        match sort {
            RequestSort::Write => &self.write,
            RequestSort::List => &self.list,
            RequestSort::Read => &self.read,
            RequestSort::Delete => &self.delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_told_from_reads_in_every_dialect() {
        let sort = |method: &Method, query| RequestSort::of(method, query);
        assert_eq!(sort(&Method::GET, None), RequestSort::Read);
        assert_eq!(sort(&Method::HEAD, None), RequestSort::Read);
        for query in [
            "list-type=2&prefix=a",
            "prefix=a&delimiter=%2F",
            "restype=container&comp=list",
        ] {
            assert_eq!(sort(&Method::GET, Some(query)), RequestSort::List);
        }
        assert_eq!(sort(&Method::PUT, Some("partNumber=1")), RequestSort::Write);
        assert_eq!(sort(&Method::POST, Some("uploads")), RequestSort::Write);
        assert_eq!(sort(&Method::DELETE, None), RequestSort::Delete);
    }

    #[test]
    fn a_cost_is_the_sum_of_requests_and_bytes() {
        let requests = Requests::default();
        for _ in 0..2_000 {
            requests.sent(RequestSort::Write, 10);
            requests.sent(RequestSort::Read, 0);
            requests.sent(RequestSort::Delete, 0);
        }
        requests.sent(RequestSort::List, 0);
        requests.received(RequestSort::Read, 3 << 30);
        let prices = Prices {
            thousand_writes: 5.0,
            thousand_reads: 0.5,
            gib_out: 0.25,
        };
        let cost = requests.cost(&prices);
        assert!((cost - (10.0 + 1.0 + 0.005 + 0.75)).abs() < 1e-9, "{cost}");
        assert_eq!(requests.counts()[0].1.bytes_sent, 20_000);
    }
}
