//! Native histograms and exemplars in the log: of our making before a stock Prometheus, and of its making before us.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use gauntlet::foundation::SystemClock;
use gauntlet::head::{Head, HeadSettings, ReplayProgress};
use gauntlet::model::{
    Counts, Exemplar, Histogram, Interval, Labels, MatchType, Matcher, ResetHint,
};
use gauntlet::remote::compress;
use gauntlet::storage::Appendable;

use crate::histograms::{START_MS, STEP_MS, histograms, same_answers};
use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, copy_tree, prometheus};

const IDLE: &str = "global: {scrape_interval: 1h}\n";

/// What 2.42 has only when it is asked for.
const FEATURES: &str = "--enable-feature=native-histograms,exemplar-storage";

/// The three series, their exemplars aside.
fn series() -> [(&'static str, Counts, Vec<Arc<Histogram>>); 3] {
    [
        ("float", Counts::Float, histograms(0.7, ResetHint::Unknown)),
        ("gauge", Counts::Whole, histograms(1.0, ResetHint::Gauge)),
        ("whole", Counts::Whole, histograms(2.0, ResetHint::Unknown)),
    ]
}

fn time_of(i: usize) -> i64 {
    START_MS + i64::try_from(i).unwrap() * STEP_MS
}

/// Every seventh histogram has one.
fn exemplar_of(i: usize) -> Option<Exemplar> {
    i.is_multiple_of(7).then(|| Exemplar {
        labels: Labels::new(&[("trace_id", &format!("t{i}"))]).unwrap(),
        v: 0.25,
        t: time_of(i),
        has_own_time: true,
    })
}

/// `trace_id`s a stock Prometheus has for all three series.
fn traces_of(stock: &Peer) -> Vec<String> {
    let path = format!(
        "/api/v1/query_exemplars?query=%7B__name__%3D~%22.%2B%22%7D&start={}&end={}",
        START_MS / 1000 - 1,
        START_MS / 1000 + 3600
    );
    let answer = stock.get(&path);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let parts = answer.body.split("\"trace_id\":\"").skip(1);
    let mut traces: Vec<String> = parts
        .map(|part| part.split('"').next().unwrap_or_default().to_owned())
        .collect();
    traces.sort();
    traces
}

fn traces_in(head: &Head) -> Vec<String> {
    let all = vec![Matcher::new(MatchType::Regex, "__name__", ".+").unwrap()];
    let found = head.exemplars(&[all], Interval::ALL);
    let mut traces: Vec<String> = found
        .iter()
        .flat_map(|series| &series.exemplars)
        .map(|exemplar| exemplar.labels.value("trace_id").to_owned())
        .collect();
    traces.sort();
    traces
}

fn open(data: &Path) -> Head {
    let progress = ReplayProgress::default();
    let opened = Head::open(data, HeadSettings::default(), i64::MIN, &progress);
    let (head, report) = opened.unwrap();
    assert_eq!((report.n_damages, report.n_records_skipped), (0, 0));
    head
}

fn write(data: &Path) {
    let head = open(data);
    let series = series();
    for i in 0..60 {
        let mut appender = head.appender();
        for (name, counts, histograms) in &series {
            let labels = Labels::new(&[("__name__", name)]).unwrap();
            let key = labels.key();
            let series = appender.series(key, &mut || Ok(labels.clone())).unwrap();
            let at = time_of(i).into();
            appender
                .append_histogram(series, at, *counts, &histograms[i])
                .unwrap();
            if let Some(exemplar) = exemplar_of(i) {
                appender.exemplar(series, &exemplar).unwrap();
            }
        }
        appender.commit().unwrap();
    }
    head.sync(&SystemClock).unwrap();
    assert!(head.stats().chunks_mapped_total > 3);
}

#[test]
fn a_stock_prometheus_replays_our_histograms_and_exemplars() {
    let dir = tempfile::tempdir().unwrap();
    let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
    fs::create_dir(&ours).unwrap();
    write(&ours);
    copy_tree(&ours, &theirs);
    let Some(stock) = prometheus(dir.path(), &theirs, IDLE, &[FEATURES]) else {
        return;
    };
    let gauntlet = gauntlet(dir.path(), &ours, IDLE, &[]);
    let n_histograms = same_answers(&gauntlet, &stock);
    assert!(170 < n_histograms, "{n_histograms} histograms");
    let traces = traces_of(&stock);
    assert_eq!(traces.len(), 27);
    drop(gauntlet);
    assert_eq!(traces_in(&open(&ours)), traces);
    let log = fs::read_to_string(dir.path().join("prometheus.log")).unwrap();
    assert!(!log.contains("level=error"), "{log}");
    println!(
        "{n_histograms} histograms and {} exemplars are the same",
        traces.len()
    );
}

#[test]
fn we_replay_the_histograms_and_exemplars_of_a_stock_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
    let more = [FEATURES, "--web.enable-remote-write-receiver"];
    let Some(stock) = prometheus(dir.path(), &theirs, IDLE, &more) else {
        return;
    };
    for i in 0..60 {
        post(&stock.addr, &compress(&request(i)).unwrap());
    }
    copy_tree(&theirs, &ours);
    fs::remove_file(ours.join("lock")).ok();
    let traces = traces_of(&stock);
    // 2.42 looks at exemplars before histograms: those of the first request come before their series.
    assert_eq!(traces.len(), 24);
    let again = dir.path().join("again");
    copy_tree(&ours, &again);
    assert_eq!(traces_in(&open(&again)), traces);
    let gauntlet = gauntlet(dir.path(), &ours, IDLE, &[]);
    let n_histograms = same_answers(&gauntlet, &stock);
    assert!(170 < n_histograms, "{n_histograms} histograms");
    println!(
        "{n_histograms} histograms and {} exemplars are the same",
        traces.len()
    );
}

/// A field of a protobuf message.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn zigzag(out: &mut Vec<u8>, value: i64) {
    varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    varint(out, u64::from(field) << 3);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u8, value: f64) {
    varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn label(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 1, name.as_bytes());
    field(&mut out, 2, value.as_bytes());
    out
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole counts"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

fn message(counts: Counts, histogram: &Histogram, t: i64) -> Vec<u8> {
    let mut out = Vec::new();
    match counts {
        Counts::Whole => {
            number(&mut out, 1, whole(histogram.count));
            number(&mut out, 6, whole(histogram.zero_count));
        }
        Counts::Float => {
            double(&mut out, 2, histogram.count);
            double(&mut out, 7, histogram.zero_count);
        }
    }
    double(&mut out, 3, histogram.sum);
    let mut schema = Vec::new();
    zigzag(&mut schema, histogram.schema.into());
    out.push(4 << 3);
    out.extend(schema);
    double(&mut out, 5, histogram.zero_threshold);
    for (first, buckets) in [(8, &histogram.negative), (11, &histogram.positive)] {
        for span in &buckets.spans {
            let mut bytes = vec![1 << 3];
            zigzag(&mut bytes, span.offset.into());
            number(&mut bytes, 2, span.length.into());
            field(&mut out, first, &bytes);
        }
        let mut bytes = Vec::new();
        let mut before = 0;
        for count in &buckets.counts {
            match counts {
                Counts::Whole => {
                    let now = whole(*count).cast_signed();
                    zigzag(&mut bytes, now - before);
                    before = now;
                }
                Counts::Float => bytes.extend_from_slice(&count.to_le_bytes()),
            }
        }
        field(
            &mut out,
            first + 1 + u8::from(counts == Counts::Float),
            &bytes,
        );
    }
    if histogram.reset_hint == ResetHint::Gauge {
        number(&mut out, 14, 3);
    }
    number(&mut out, 15, t.cast_unsigned());
    out
}

/// A remote write request with the histograms of one time.
fn request(i: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, counts, histograms) in series() {
        let is_empty = histograms[i].count == 0.0 && !histograms[i].is_stale();
        if counts == Counts::Float && is_empty {
            // 2.42 takes a float histogram without observations for one with whole counts.
            continue;
        }
        let mut one = Vec::new();
        field(&mut one, 1, &label("__name__", name));
        if let Some(exemplar) = exemplar_of(i) {
            let mut bytes = Vec::new();
            let trace = exemplar.labels.value("trace_id");
            field(&mut bytes, 1, &label("trace_id", trace));
            double(&mut bytes, 2, exemplar.v);
            number(&mut bytes, 3, exemplar.t.cast_unsigned());
            field(&mut one, 3, &bytes);
        }
        let bytes = message(counts, &histograms[i], time_of(i));
        field(&mut one, 4, &bytes);
        field(&mut out, 1, &one);
    }
    out
}

/// Writes remotely; it must be taken.
pub(crate) fn post(addr: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Encoding: snappy\r\n\
         Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}
