//! Jobs, a database in memory and scripted targets for the tests of this room.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::model::{
    Counts, Exemplar, Histogram, Labels, LabelsError, Metadata, STALE_NAN_BITS, SampleTime,
    SeriesKey, TimestampMs,
};
use crate::scrape::manager::default_settings;
use crate::scrape::settings::{DiscoverySettings, JobSettings, TargetGroup};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};

/// How long a test waits for something that should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// A job with defaults and no targets: every 15 s, at most 10 s.
pub(super) fn job(name: &str) -> JobSettings {
    let mut job = default_settings("").jobs.swap_remove(0);
    job.job_name = name.to_owned();
    job.discovery.clear();
    job
}

/// A job that scrapes these addresses ten times a second.
pub(super) fn fast_job(name: &str, addresses: &[&str]) -> JobSettings {
    let mut job = job(name);
    job.request.interval_ms = 100;
    job.request.timeout_ms = 100;
    job.discovery = vec![DiscoverySettings::Static(vec![TargetGroup {
        addresses: addresses
            .iter()
            .map(|address| (*address).to_owned())
            .collect(),
        labels: Labels::empty(),
    }])];
    job
}

/// What a series has at one time.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// By its bits.
    Float(u64),
    Histogram(Counts, Arc<Histogram>),
}

/// A sample as it was appended.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    at: SampleTime,
    value: Value,
}

/// Keeps every committed sample and refuses as a head does.
#[derive(Default)]
pub(super) struct MemoryDb {
    inner: Mutex<Inner>,
    committed: Notify,
}

#[derive(Default)]
struct Inner {
    by_key: HashMap<SeriesKey, SeriesRef>,
    series: Vec<(Labels, Vec<Stored>)>,
    /// With the text of the labels of their series, in the order of commits.
    exemplars: Vec<(String, Exemplar)>,
    forgotten: HashSet<SeriesRef>,
    n_label_lookups: usize,
    n_commits: usize,
    fails: Option<AppendError>,
    takes_late: bool,
    panics: bool,
}

impl MemoryDb {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// All samples by the text of their labels; a stale marker is written `stale`.
    pub(super) fn dump(&self) -> BTreeMap<String, Vec<(TimestampMs, String)>> {
        let inner = self.inner.lock();
        inner
            .series
            .iter()
            .filter(|(_, samples)| !samples.is_empty())
            .map(|(labels, samples)| (labels.to_string(), samples.iter().map(shown).collect()))
            .collect()
    }

    /// The values of the one series with these labels, in time order.
    pub(super) fn values(&self, labels: &str) -> Vec<String> {
        let samples = self.dump().remove(labels).unwrap_or_default();
        samples.into_iter().map(|(_, v)| v).collect()
    }

    /// All exemplars, each with the text of its series' labels.
    pub(super) fn exemplars(&self) -> Vec<(String, Exemplar)> {
        self.inner.lock().exemplars.clone()
    }

    pub(super) fn n_label_lookups(&self) -> usize {
        self.inner.lock().n_label_lookups
    }

    /// Drops every reference, as a head does with series that have no samples left.
    pub(super) fn forget_series(&self) {
        let mut inner = self.inner.lock();
        let all: Vec<SeriesRef> = inner.by_key.drain().map(|(_, series)| series).collect();
        inner.forgotten.extend(all);
    }

    /// Every sample is refused with this from now on.
    pub(super) fn fail(&self, error: Option<AppendError>) {
        self.inner.lock().fails = error;
    }

    /// Samples that come after newer ones are taken from now on.
    pub(super) fn take_out_of_order(&self) {
        self.inner.lock().takes_late = true;
    }

    /// The next sample panics.
    pub(super) fn panic_once(&self) {
        self.inner.lock().panics = true;
    }

    /// Waits until `holds` after some commit.
    pub(super) async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let committed = self.committed.notified();
                if holds(self) {
                    return;
                }
                committed.await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await;
        assert!(done.is_ok(), "still not: {:?}", self.dump());
    }

    /// Waits for `n` more commits.
    pub(super) async fn wait_commits(&self, n: usize) {
        let goal = self.inner.lock().n_commits + n;
        self.wait_until(|db| goal <= db.inner.lock().n_commits)
            .await;
    }
}

fn shown(sample: &Stored) -> (TimestampMs, String) {
    let text = match &sample.value {
        Value::Float(bits) if *bits == STALE_NAN_BITS => "stale".to_owned(),
        Value::Float(bits) => crate::model::number::format_g(f64::from_bits(*bits)),
        Value::Histogram(_, histogram) if histogram.is_stale() => "stale histogram".to_owned(),
        Value::Histogram(Counts::Whole, histogram) => histogram.to_string(),
        Value::Histogram(Counts::Float, histogram) => format!("float {histogram}"),
    };
    let text = match sample.at.start_t {
        0 => text,
        start_t => format!("{text} since {start_t}"),
    };
    (sample.at.t, text)
}

struct MemoryAppender<'a> {
    db: &'a MemoryDb,
    staged: Vec<(SeriesRef, Stored)>,
    discards_late: bool,
    exemplars: Vec<(SeriesRef, Exemplar)>,
}

impl Appendable for MemoryDb {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(MemoryAppender {
            db: self,
            staged: Vec::new(),
            discards_late: false,
            exemplars: Vec::new(),
        })
    }
}

impl MemoryAppender<'_> {
    fn stage(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        value: Value,
    ) -> Result<(), AppendError> {
        let mut inner = self.db.inner.lock();
        assert!(!std::mem::take(&mut inner.panics), "on purpose");
        if let Some(error) = &inner.fails {
            return Err(error.clone());
        }
        if inner.forgotten.contains(&series) {
            return Err(AppendError::UnknownSeries);
        }
        let takes_late = inner.takes_late && !self.discards_late;
        let (_, samples) = &inner.series[usize::try_from(series.0).unwrap()];
        match samples.last() {
            Some(last) if at.t < last.at.t && takes_late => (),
            Some(last) if at.t < last.at.t => {
                return Err(AppendError::OutOfOrder { newest: last.at.t });
            }
            Some(last) if at.t == last.at.t && last.value != value => {
                return Err(AppendError::Duplicate);
            }
            _ => (),
        }
        self.staged.push((series, Stored { at, value }));
        Ok(())
    }
}

impl Appender for MemoryAppender<'_> {
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        let mut inner = self.db.inner.lock();
        inner.n_label_lookups += 1;
        if let Some(series) = inner.by_key.get(&key) {
            return Ok(*series);
        }
        let labels = labels()?;
        assert_eq!(labels.key(), key);
        let series = SeriesRef(u64::try_from(inner.series.len()).unwrap());
        inner.series.push((labels, Vec::new()));
        inner.by_key.insert(key, series);
        Ok(series)
    }

    fn append_at(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError> {
        self.stage(series, at, Value::Float(v.to_bits()))
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        histogram.check(counts)?;
        self.stage(series, at, Value::Histogram(counts, Arc::clone(histogram)))
    }

    fn discard_out_of_order(&mut self, discards: bool) {
        self.discards_late = discards;
    }

    fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        self.exemplars.push((series, exemplar.clone()));
        Ok(())
    }

    fn metadata(&mut self, _: SeriesRef, _: &Metadata) -> Result<(), AppendError> {
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        let mut inner = self.db.inner.lock();
        let takes_late = inner.takes_late;
        for (series, sample) in self.staged {
            let (_, samples) = &mut inner.series[usize::try_from(series.0).unwrap()];
            let at = samples.partition_point(|here| here.at.t < sample.at.t);
            let is_known = samples.get(at).is_some_and(|here| here.at.t == sample.at.t);
            if !is_known && (at == samples.len() || takes_late) {
                samples.insert(at, sample);
            }
        }
        for (series, exemplar) in self.exemplars {
            let labels = inner.series[usize::try_from(series.0).unwrap()]
                .0
                .to_string();
            inner.exemplars.push((labels, exemplar));
        }
        inner.n_commits += 1;
        drop(inner);
        self.db.committed.notify_waiters();
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

/// What a scripted target answers.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Sends the head and half of the body, then nothing more.
    pub(super) hangs: bool,
}

impl Reply {
    pub(super) fn text(body: &str) -> Self {
        Self {
            status: "200 OK",
            headers: vec![("Content-Type", "text/plain; version=0.0.4".to_owned())],
            body: body.as_bytes().to_vec(),
            hangs: false,
        }
    }

    pub(super) fn status(status: &'static str) -> Self {
        Self {
            status,
            ..Self::text("")
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(here, _)| *here != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The head and the body as they go over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\n",
            self.status,
            self.body.len()
        );
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.body);
        out
    }
}

/// A target that says what the test tells it to.
#[derive(Debug, Clone)]
pub(super) struct Scripted {
    pub(super) address: String,
    reply: Arc<Mutex<Reply>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(super) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scripted = Self {
            address: listener.local_addr().unwrap().to_string(),
            reply: Arc::new(Mutex::new(reply)),
            requests: Arc::default(),
        };
        let server = scripted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().converse(stream));
            }
        });
        scripted
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    pub(super) fn say(&self, reply: Reply) {
        *self.reply.lock() = reply;
    }

    /// Every request so far, head only.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    async fn converse(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        loop {
            let mut part = [0; 4096];
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(n) => buffer.extend_from_slice(&part[..n]),
            }
            let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
            self.requests.lock().push(head);
            let reply = self.reply.lock().clone();
            let bytes = reply.bytes();
            if reply.hangs {
                let half = bytes.len() - reply.body.len() / 2;
                stream.write_all(&bytes[..half]).await.ok();
                std::future::pending::<()>().await;
            }
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}
