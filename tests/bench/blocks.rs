//! How fast blocks are read, on one core: chunk encoding and decoding, postings, matchers over an index.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench measures real time and may stop at anything odd"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet::chunk::{XorAppender, decode_floats};
use gauntlet::index::postings::{PostingsList, intersect_into, subtract_into};
use gauntlet::index::{IndexReader, IndexWriter, SeriesEntry};
use gauntlet::model::{Encoding, MatchType, Matcher};

/// How long one measurement takes.
const MEASURED: Duration = Duration::from_millis(700);

const SAMPLES_PER_CHUNK: usize = 120;
const N_CHUNKS: usize = 500;

fn main() {
    chunks();
    postings();
    index();
}

/// Runs `work`, which handles `n_items`, again and again; the fastest run counts, because everything that made another
/// one slower is somebody else's work.
fn measure(name: &str, n_items: usize, unit: &str, mut work: impl FnMut()) {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed() < MEASURED {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let per_second = n_items as f64 / best;
    println!(
        "{name:<44} {:>10.1} M {unit}/s {:>10.3} ms",
        per_second / 1e6,
        best * 1e3
    );
}

/// Numbers without a pattern, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(n)).unwrap()
    }
}

type Samples = Vec<(i64, f64)>;

fn data(kind: &str) -> Vec<Samples> {
    let mut numbers = Numbers(7);
    (0..N_CHUNKS)
        .map(|_| {
            let mut total = f64::from(numbers.below(1_000_000));
            let mut t = 1_700_000_000_000i64;
            (0..SAMPLES_PER_CHUNK)
                .map(|_| {
                    t += 15_000;
                    let (late, v) = match kind {
                        "flat, exact times" => (0, total),
                        "counter, exact times" => (0, total + f64::from(numbers.below(100))),
                        "counter, jittered times" => {
                            total += f64::from(numbers.below(100));
                            (i64::from(numbers.below(20)), total)
                        }
                        _ => (
                            i64::from(numbers.below(20)),
                            f64::from(numbers.below(1 << 30)) / 7.0,
                        ),
                    };
                    (t + late, v)
                })
                .collect()
        })
        .collect()
}

fn chunks() {
    let n_samples = N_CHUNKS * SAMPLES_PER_CHUNK;
    for kind in [
        "flat, exact times",
        "counter, exact times",
        "counter, jittered times",
        "gauge of 52 bits, jittered times",
    ] {
        let data = data(kind);
        let encode = |samples: &Samples| {
            let mut appender = XorAppender::new();
            for &(t, v) in samples {
                appender.append(t, v).unwrap();
            }
            appender.into_bytes()
        };
        measure(&format!("encode XOR: {kind}"), n_samples, "samples", || {
            for samples in &data {
                black_box(encode(samples));
            }
        });
        let chunks: Vec<Vec<u8>> = data.iter().map(encode).collect();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        measure(&format!("decode XOR: {kind}"), n_samples, "samples", || {
            for chunk in &chunks {
                times.clear();
                values.clear();
                decode_floats(Encoding::Xor, black_box(chunk), &mut times, &mut values).unwrap();
                black_box((&times, &values));
            }
        });
    }
}

fn every(n: u32, step: u32) -> Vec<u32> {
    (0..n).map(|i| i * step).collect()
}

fn big_endian(ids: &[u32]) -> Vec<[u8; 4]> {
    ids.iter().map(|id| id.to_be_bytes()).collect()
}

fn postings() {
    let mut numbers = Numbers(3);
    let mut random: Vec<u32> = (0..1_000_000).map(|_| numbers.below(2_000_000)).collect();
    random.sort_unstable();
    random.dedup();
    for (name, left, right) in [
        (
            "half of 1 M random with 1 M",
            every(1_000_000, 2),
            random.clone(),
        ),
        ("100 of 1 M", every(100, 9973), every(1_000_000, 1)),
        ("10 k of 1 M", every(10_000, 97), every(1_000_000, 1)),
        ("1 M of 100", every(1_000_000, 1), every(100, 9973)),
    ] {
        let bytes = big_endian(&right);
        let list = PostingsList::new(&bytes);
        let n = left.len() + right.len();
        let mut ids = Vec::new();
        measure(&format!("intersect: {name}"), n, "ids", || {
            ids.clone_from(&left);
            intersect_into(&mut ids, black_box(&list));
            black_box(&ids);
        });
        measure(&format!("subtract: {name}"), n, "ids", || {
            ids.clone_from(&left);
            subtract_into(&mut ids, black_box(&list));
            black_box(&ids);
        });
    }
}

/// 200 000 series: 100 metrics on 2 000 instances of 10 jobs.
fn many_series(dir: &Path) -> IndexReader {
    let path = dir.join("index");
    let metrics: Vec<String> = (0..100).map(|n| format!("metric_{n:03}_total")).collect();
    let instances: Vec<String> = (0..2000).map(|n| format!("host-{n:04}:9100")).collect();
    let jobs: Vec<String> = (0..10).map(|n| format!("job-{n}")).collect();
    let names = ["__name__", "instance", "job"].map(str::to_owned);
    let mut symbols: Vec<Arc<str>> = metrics
        .iter()
        .chain(&instances)
        .chain(&jobs)
        .chain(&names)
        .map(|text| Arc::from(text.as_str()))
        .collect();
    symbols.push(Arc::from(""));
    symbols.sort();
    let number = |text: &str| {
        u32::try_from(
            symbols
                .binary_search_by(|symbol| symbol.as_ref().cmp(text))
                .unwrap(),
        )
        .unwrap()
    };
    let start = Instant::now();
    let mut writer = IndexWriter::create(&path, symbols.clone()).unwrap();
    for metric in &metrics {
        for (n, instance) in instances.iter().enumerate() {
            let entry = SeriesEntry {
                symbols: vec![
                    (number("__name__"), number(metric)),
                    (number("instance"), number(instance)),
                    (number("job"), number(&jobs[n % 10])),
                ],
                chunks: Vec::new(),
            };
            writer.write_series(&entry).unwrap();
        }
    }
    writer.finish().unwrap();
    let took = start.elapsed().as_secs_f64();
    println!("write an index of 200 k series: {:.0} ms", took * 1e3);
    IndexReader::open(&path).unwrap()
}

fn index() {
    let dir = tempfile::tempdir().unwrap();
    let index = many_series(dir.path());
    let of = |match_type, name, value| Matcher::new(match_type, name, value).unwrap();
    for (name, matchers) in [
        (
            "one metric",
            vec![Matcher::equal("__name__", "metric_050_total")],
        ),
        (
            "one metric of one job",
            vec![
                Matcher::equal("__name__", "metric_050_total"),
                Matcher::equal("job", "job-3"),
            ],
        ),
        (
            "one metric, instances by pattern",
            vec![
                Matcher::equal("__name__", "metric_050_total"),
                of(MatchType::Regex, "instance", "host-1[0-9]{2}5:.*"),
            ],
        ),
        ("any instance", vec![of(MatchType::Regex, "instance", ".+")]),
        (
            "one metric, not one job",
            vec![
                Matcher::equal("__name__", "metric_050_total"),
                of(MatchType::NotEqual, "job", "job-3"),
            ],
        ),
    ] {
        let n_found = index.select(&matchers).unwrap().len();
        measure(
            &format!("select: {name} ({n_found})"),
            n_found,
            "series",
            || {
                black_box(index.select(black_box(&matchers)).unwrap());
            },
        );
    }
    let ids = index.all_series().unwrap();
    measure("read labels of series", ids.len(), "series", || {
        let mut entry = SeriesEntry::default();
        for &id in &ids {
            index.series(id, &mut entry).unwrap();
            black_box(index.labels(id, &entry).unwrap());
        }
    });
}
