//! Requests made by hand and by the encoder, into a storage that remembers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::model::{
    Counts, Exemplar, Histogram, Labels, LabelsError, Metadata, MetricType, Sample, SampleTime,
    SeriesKey, Spelling, TimestampMs,
};
use crate::remote::{
    RequestReader, SnappyError, WriteError, WriteLimits, WriteReport, WriteRequestEncoder,
    WriteVersion, append_write_request, compress, decompress,
};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};

/// Refuses by time: negative times in four ways, `0` fatally.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) state: Mutex<State>,
    n_labels_built: AtomicUsize,
}

#[derive(Default)]
pub(super) struct State {
    series: HashMap<SeriesKey, usize>,
    spellings: HashMap<Spelling, SeriesRef>,
    pub(super) labels: Vec<Labels>,
    pub(super) committed: Vec<(u64, SampleTime, f64)>,
    pub(super) histograms: Vec<(u64, SampleTime, Counts, Arc<Histogram>)>,
    pub(super) exemplars: Vec<(u64, Exemplar)>,
    pub(super) metadata: Vec<(u64, Metadata)>,
}

impl Appendable for Memory {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(Transaction {
            memory: self,
            staged: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
        })
    }
}

struct Transaction<'a> {
    memory: &'a Memory,
    staged: Vec<(u64, SampleTime, f64)>,
    histograms: Vec<(u64, SampleTime, Counts, Arc<Histogram>)>,
    exemplars: Vec<(u64, Exemplar)>,
}

/// Refuses by the time, so that a test can ask for every refusal.
fn refusal(t: TimestampMs) -> Result<(), AppendError> {
    match t {
        -1 => Err(AppendError::OutOfOrder { newest: 5 }),
        -2 => Err(AppendError::OutOfBounds { oldest: 6 }),
        -3 => Err(AppendError::TooOld { oldest: 7 }),
        -4 => Err(AppendError::Duplicate),
        0 => Err(AppendError::Wal("disk full".to_owned())),
        _ => Ok(()),
    }
}

impl Appender for Transaction<'_> {
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        let mut state = self.memory.state.lock();
        if let Some(known) = state.series.get(&key) {
            return Ok(SeriesRef(*known as u64));
        }
        let labels = labels()?;
        assert_eq!(labels.key(), key, "key of other labels");
        self.memory.n_labels_built.fetch_add(1, Ordering::Relaxed);
        let reference = state.labels.len();
        state.labels.push(labels);
        state.series.insert(key, reference);
        Ok(SeriesRef(reference as u64))
    }

    fn by_spelling(&mut self, spellings: &[Spelling], found: &mut Vec<Option<SeriesRef>>) {
        let state = self.memory.state.lock();
        found.extend(
            spellings
                .iter()
                .map(|one| state.spellings.get(one).copied()),
        );
    }

    fn learn(&mut self, spelling: Spelling, series: SeriesRef) {
        let mut state = self.memory.state.lock();
        state.spellings.insert(spelling, series);
    }

    fn append_at(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError> {
        refusal(at.t)?;
        self.staged.push((series.0, at, v));
        Ok(())
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        refusal(at.t)?;
        histogram.check(counts)?;
        self.histograms
            .push((series.0, at, counts, Arc::clone(histogram)));
        Ok(())
    }

    fn discard_out_of_order(&mut self, _: bool) {}

    fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        if exemplar.t < 0 {
            return Err(AppendError::OutOfOrderExemplar { newest: 9 });
        }
        self.exemplars.push((series.0, exemplar.clone()));
        Ok(())
    }

    fn metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        let mut state = self.memory.state.lock();
        state.metadata.push((series.0, metadata.clone()));
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        let mut state = self.memory.state.lock();
        state.committed.extend(self.staged);
        state.histograms.extend(self.histograms);
        state.exemplars.extend(self.exemplars);
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

pub(super) const LIMITS: WriteLimits = WriteLimits {
    decoded_bytes_max: 1 << 20,
    now_ms: 1_000_000,
    ahead_ms_max: 600_000,
};

fn sample(t: TimestampMs, v: f64) -> Sample {
    Sample { t, v }
}

fn send(memory: &Memory, request: &[u8]) -> Result<WriteReport, WriteError> {
    send_as(WriteVersion::V1, memory, request)
}

pub(super) fn send_as(
    version: WriteVersion,
    memory: &Memory,
    request: &[u8],
) -> Result<WriteReport, WriteError> {
    let mut scratch = Vec::new();
    let body = compress(request).unwrap();
    append_write_request((&body, version), LIMITS, memory, &mut scratch)
}

/// What is committed, as text.
fn content(memory: &Memory) -> Vec<String> {
    let state = memory.state.lock();
    state
        .committed
        .iter()
        .map(|(series, at, v)| {
            format!(
                "{} {v} @{}",
                state.labels[usize::try_from(*series).unwrap()],
                at.t
            )
        })
        .collect()
}

/// `up{job="a"} 1.5 @1`, byte by byte.
const GOLDEN: &[u8] = &[
    0x0a, 0x27, // timeseries
    0x0a, 0x0e, 0x0a, 0x08, b'_', b'_', b'n', b'a', b'm', b'e', b'_', b'_', 0x12, 0x02, b'u', b'p',
    0x0a, 0x08, 0x0a, 0x03, b'j', b'o', b'b', 0x12, 0x01, b'a', // labels
    0x12, 0x0b, 0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 0x01, // sample
];

#[test]
fn a_request_is_these_bytes() {
    let mut encoder = WriteRequestEncoder::new();
    encoder.series([("__name__", "up"), ("job", "a")], &[sample(1, 1.5)]);
    assert_eq!(encoder.as_bytes(), GOLDEN);
    let memory = Memory::default();
    let report = send(&memory, GOLDEN).unwrap();
    assert_eq!((report.n_series, report.n_samples), (1, 1));
    assert_eq!(content(&memory), [r#"{__name__="up", job="a"} 1.5 @1"#]);
}

#[test]
fn a_known_series_builds_no_labels() {
    let memory = Memory::default();
    let mut encoder = WriteRequestEncoder::new();
    let samples: Vec<Sample> = (1..=100).map(|t| sample(t, 1.0)).collect();
    encoder.series([("__name__", "up")], &samples);
    for _ in 0..3 {
        assert_eq!(send(&memory, encoder.as_bytes()).unwrap().n_samples, 100);
    }
    assert_eq!(memory.n_labels_built.load(Ordering::Relaxed), 1);
}

#[test]
fn a_series_that_was_written_alike_before_is_taken_and_refused_alike() {
    let memory = Memory::default();
    let mut encoder = WriteRequestEncoder::new();
    let mut expect = Vec::new();
    for n in 0..200 {
        let (n, t) = (n.to_string(), i64::from(n % 7) - 4);
        let t = if t == 0 { 99_000_000 } else { t };
        let labels = [("zone", "b"), ("__name__", "up"), ("gone", ""), ("n", &n)];
        encoder.series(labels, &[sample(5, 1.0), sample(t, 0.0), sample(7, 2.0)]);
        let times = if (1..1_000).contains(&t) {
            vec![5, t, 7]
        } else {
            vec![5, 7]
        };
        for at in times {
            let v = if at == t { 0 } else { at / 6 + 1 };
            let name = "{__name__=\"up\", n=";
            expect.push(format!("{name}\"{n}\", zone=\"b\"}} {v} @{at}"));
        }
    }
    // Without a name: never known.
    encoder.series([("job", "a")], &[sample(1, 1.0)]);
    let first = send(&memory, encoder.as_bytes()).unwrap();
    assert_eq!(content(&memory), expect);
    assert_eq!(memory.state.lock().spellings.len(), 200);
    let again = send(&memory, encoder.as_bytes()).unwrap();
    assert_eq!(again, first);
    assert_eq!(content(&memory), [expect.clone(), expect].concat());
    assert_eq!(memory.n_labels_built.load(Ordering::Relaxed), 200);
}

#[test]
fn labels_in_any_order_with_empty_values_are_the_same_series() {
    let memory = Memory::default();
    let mut encoder = WriteRequestEncoder::new();
    encoder.series(
        [("job", "a"), ("__name__", "up"), ("gone", "")],
        &[sample(1, 1.0)],
    );
    encoder.series([("__name__", "up"), ("job", "a")], &[sample(2, 2.0)]);
    let report = send(&memory, encoder.as_bytes()).unwrap();
    assert_eq!(report.refusals, []);
    assert_eq!(memory.state.lock().labels.len(), 1);
}

#[test]
fn labels_that_are_no_label_set_are_refused_by_name_and_the_rest_is_kept() {
    for (labels, expect) in [
        (
            vec![("job", "a")],
            r#"invalid labels: no metric name (label "__name__"): series {job="a"}"#,
        ),
        (
            vec![("__name__", ""), ("job", "a")],
            r#"invalid labels: no metric name (label "__name__"): series {job="a"}"#,
        ),
        (
            vec![("__name__", "up"), ("b", "1"), ("b", "1")],
            r#"invalid labels: label name "b" is not unique: series {__name__="up", b="1", b="1"}"#,
        ),
        (
            vec![("__name__", "up"), ("", "1")],
            r#"invalid labels: empty label name: series {__name__="up", ="1"}"#,
        ),
    ] {
        let memory = Memory::default();
        let mut encoder = WriteRequestEncoder::new();
        encoder.series(labels, &[sample(1, 1.0)]);
        encoder.series([("__name__", "good")], &[sample(1, 1.0)]);
        let report = send(&memory, encoder.as_bytes()).unwrap();
        let texts: Vec<String> = report.refusals.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [expect]);
        assert_eq!(content(&memory), [r#"{__name__="good"} 1 @1"#]);
    }
    let memory = Memory::default();
    let bad = [
        0x0a, 0x09, 0x0a, 0x07, 0x0a, 0x01, b'a', 0x12, 0x02, 0xff, 0xff,
    ];
    let report = send(&memory, &bad).unwrap();
    assert_eq!(
        report.refusals[0].to_string(),
        "invalid labels: a name or value is not valid UTF-8: series {}"
    );
}

#[test]
fn refusals_name_series_time_limit_and_setting_and_the_rest_is_kept() {
    let memory = Memory::default();
    let mut encoder = WriteRequestEncoder::new();
    let late = LIMITS.now_ms + LIMITS.ahead_ms_max;
    let samples: Vec<Sample> = [-1, -1, -2, -3, -4, 5, late, late + 1]
        .map(|t| sample(t, 1.0))
        .to_vec();
    encoder.series([("__name__", "a")], &samples);
    encoder.series([("__name__", "b")], &[sample(-1, 1.0), sample(6, 1.0)]);
    let report = send(&memory, encoder.as_bytes()).unwrap();
    assert_eq!(
        report.refusal_lines(),
        [
            r#"out of order sample: series {__name__="a"}, timestamp -1, the newest sample of the series is at 5 (head.out_of_order_window is 0) (and 1 more of it)"#,
            r#"out of bounds: series {__name__="a"}, timestamp -2, the oldest time taken is 6 (half of head.block_range back)"#,
            r#"too old sample: series {__name__="a"}, timestamp -3, the oldest time taken is 7 (head.out_of_order_window)"#,
            r#"duplicate sample for timestamp: series {__name__="a"}, timestamp -4"#,
            r#"out of bounds: timestamp is too far in the future: series {__name__="a"}, timestamp 1600001, the newest time taken is 1600000 (http.write_ahead_max)"#,
            r#"out of order sample: series {__name__="b"}, timestamp -1, the newest sample of the series is at 5 (head.out_of_order_window is 0)"#,
        ]
    );
    assert_eq!((report.n_series, report.n_samples), (2, 3));
    assert_eq!(content(&memory).len(), 3);
}

#[test]
fn an_answer_about_many_refusals_stays_short() {
    let memory = Memory::default();
    let mut encoder = WriteRequestEncoder::new();
    let long = "x".repeat(10_000);
    for n in 0..50 {
        let n = n.to_string();
        encoder.series(
            [
                ("__name__", "a"),
                ("long", long.as_str()),
                ("n", n.as_str()),
            ],
            &[sample(-1, 1.0)],
        );
    }
    let report = send(&memory, encoder.as_bytes()).unwrap();
    let lines = report.refusal_lines();
    assert_eq!(lines.len(), 11);
    assert_eq!(lines[10], "and 40 more refusals");
    assert!(lines.join("\n").len() < 20_000);
}

#[test]
fn a_storage_that_cannot_go_on_takes_nothing_of_the_request() {
    let memory = Memory::default();
    let mut encoder = WriteRequestEncoder::new();
    encoder.series([("__name__", "a")], &[sample(1, 1.0), sample(0, 1.0)]);
    let error = send(&memory, encoder.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "write ahead log: disk full");
    assert_eq!(content(&memory), [""; 0]);
}

#[test]
fn metadata_is_noted_where_a_series_of_the_request_belongs_to_the_family() {
    let memory = Memory::default();
    let mut encoder = WriteRequestEncoder::new();
    let metadata = Metadata {
        metric_type: MetricType::Counter,
        help: "Requests.".to_owned(),
        unit: "requests".to_owned(),
    };
    encoder.series([("__name__", "http_requests_total")], &[sample(1, 1.0)]);
    encoder.metadata("http_requests", &metadata);
    encoder.metadata("nobody", &metadata);
    let report = send(&memory, encoder.as_bytes()).unwrap();
    assert_eq!((report.n_metadata, report.n_metadata_unmatched), (1, 1));
    assert_eq!(memory.state.lock().metadata, [(0, metadata)]);
}

#[test]
fn a_block_that_would_unfold_too_far_is_refused_before_anything_is_allocated() {
    let mut out = Vec::new();
    let block = compress(&vec![0; 4096]).unwrap();
    assert_eq!(
        decompress(&block, 4095, &mut out),
        Err(SnappyError::TooLarge {
            decoded_bytes: 4096,
            limit_bytes: 4095
        })
    );
    assert_eq!(out.capacity(), 0);
    // A header that claims four gibibytes and brings nothing.
    let lie = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(matches!(
        decompress(&lie, 1 << 20, &mut out),
        Err(SnappyError::TooLarge { .. })
    ));
    assert_eq!(out.capacity(), 0);
    for broken in [&b""[..], b"\xff\xff\xff\xff\xff\xff", b"\x05\x00"] {
        assert!(decompress(broken, 1 << 20, &mut out).is_err(), "{broken:?}");
    }
}

#[test]
fn every_truncation_is_an_error_that_names_the_place_or_a_shorter_request() {
    for len in 1..GOLDEN.len() {
        let error = send(&Memory::default(), &GOLDEN[..len]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("protobuf: ") && text.contains("at offset"),
            "{len}: {text}"
        );
    }
}

#[test]
fn no_flipped_bit_panics() {
    let mut encoder = WriteRequestEncoder::new();
    let metadata = Metadata::default();
    encoder.series(
        [("__name__", "up"), ("job", "a")],
        &[sample(1, 1.5), sample(300, -1.0)],
    );
    encoder.metadata("up", &metadata);
    let golden = encoder.as_bytes();
    let mut n_errors = 0;
    for bit in 0..golden.len() * 8 {
        let mut request = golden.to_vec();
        request[bit / 8] ^= 1 << (bit % 8);
        n_errors += usize::from(send(&Memory::default(), &request).is_err());
    }
    assert!(n_errors > 20, "{n_errors}");
}

#[test]
fn unknown_fields_are_passed_over() {
    let mut request = vec![0x10, 0x05, 0x7d, 1, 2, 3, 4, 0x79, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut encoder = WriteRequestEncoder::new();
    encoder.series([("__name__", "up")], &[sample(1, 1.0)]);
    request.extend(encoder.as_bytes());
    assert_eq!(send(&Memory::default(), &request).unwrap().n_samples, 1);
    for broken in [&[0x0b][..], &[0x00, 0x00], &[0x08, 0x01]] {
        let mut reader = RequestReader::new(broken, WriteVersion::V1).unwrap();
        assert!(reader.next_item().is_err());
    }
}

#[test]
fn the_memory_of_these_tests_keeps_histograms_and_exemplars_as_they_came() {
    let memory = Memory::default();
    let labels = Labels::new(&[("__name__", "a")]).unwrap();
    let at = SampleTime { t: 10, start_t: 5 };
    let histogram = Arc::new(Histogram::stale());
    let exemplar = Exemplar {
        labels: labels.clone(),
        v: 1.0,
        t: 10,
        has_own_time: true,
    };
    let mut appender = memory.appender();
    let series = appender.append_labels(&labels, 9, 1.0).unwrap();
    let appended = appender.append_histogram(series, at, Counts::Whole, &histogram);
    assert_eq!(appended, Ok(()));
    appender.exemplar(series, &exemplar).unwrap();
    appender.commit().unwrap();
    let state = memory.state.lock();
    let (reference, kept_at, counts, kept) = &state.histograms[0];
    assert_eq!((*reference, *kept_at), (series.0, at));
    assert!(*counts == Counts::Whole && kept.is_stale());
    assert_eq!(state.exemplars, [(series.0, exemplar)]);
}
