//! Series as both sides see them.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use gauntlet::chunk::{decode_floats, encode_floats};
use gauntlet::model::{Interval, Labels, Sample};
use gauntlet::storage::{ChunkSeries, ChunkSlice, Queryable, SelectHints, VecSeriesSet};

/// Samples by the text of their labels. Values are bits, every NaN the same one: the tools print no more.
pub(crate) type Dump = BTreeMap<String, Vec<(i64, u64)>>;

pub(crate) fn bits(v: f64) -> u64 {
    if v.is_nan() {
        f64::NAN.to_bits()
    } else {
        v.to_bits()
    }
}

/// Everything a source holds.
pub(crate) fn read(source: &dyn Queryable) -> Dump {
    let mut all = Dump::new();
    let mut set = source
        .select(&[], &SelectHints::new(Interval::ALL))
        .unwrap();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &series.chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
        }
        let samples = times
            .into_iter()
            .zip(values.into_iter().map(bits))
            .collect();
        all.insert(series.labels.to_string(), samples);
    }
    all
}

/// What `promtool tsdb dump` printed: labels, value, time.
pub(crate) fn parse_dump(text: &str) -> Dump {
    let mut all = Dump::new();
    for line in text.lines() {
        let mut fields = line.rsplitn(3, ' ');
        let t = fields.next().unwrap().parse().unwrap();
        let v: f64 = fields.next().unwrap().parse().unwrap();
        let labels = fields.next().unwrap().to_owned();
        all.entry(labels).or_default().push((t, bits(v)));
    }
    all
}

/// Numbers without a pattern, the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.next() % u64::from(n)).unwrap()
    }
}

/// Times a bit off their schedule, and counters, gauges, flat lines and odd values to go with them.
pub(crate) fn samples(series: u32, n: u32, start_ms: i64) -> Vec<Sample> {
    let mut numbers = Numbers(u64::from(series) + 1);
    let mut total = 0.0;
    (0..n)
        .map(|i| {
            let late = match series % 3 {
                0 => 0,
                1 => i64::from(numbers.below(9)),
                _ => i64::from(numbers.below(3000)),
            };
            total += f64::from(numbers.below(50));
            let v = match (series % 6, numbers.below(40)) {
                (5, 0) => f64::NAN,
                (5, 1) => f64::INFINITY,
                (5, 2) => -0.0,
                (5, 3) => 1e-310,
                (0, _) => total,
                (1, _) => f64::from(numbers.below(1 << 30)) / 7.0,
                (2, _) => 1.0,
                (3, _) => f64::from(i).sin() * 1e6,
                _ => -f64::from(i % 7),
            };
            Sample {
                t: start_ms + i64::from(i) * 15_000 + late,
                v,
            }
        })
        .collect()
}

pub(crate) fn labels(series: u32) -> Labels {
    let instance = format!("host-{series:04}");
    let name = format!("metric_{}_total", series % 5);
    let mut pairs = vec![
        ("__name__", name.as_str()),
        ("instance", &instance),
        ("job", "node"),
    ];
    if series.is_multiple_of(7) {
        pairs.push(("path", "C:\\dir \"quoted\"\nünïcode"));
    }
    Labels::new(&pairs).unwrap()
}

/// `n_series` series of `n` samples, encoded.
pub(crate) fn series_set(n_series: u32, n: u32, start_ms: i64) -> VecSeriesSet {
    let series = (0..n_series)
        .map(|number| {
            let samples = samples(number, n, start_ms);
            let (times, values): (Vec<i64>, Vec<f64>) =
                samples.iter().map(|sample| (sample.t, sample.v)).unzip();
            let chunks = encode_floats(&times, &values).unwrap();
            ChunkSeries {
                labels: labels(number),
                chunks: chunks
                    .into_iter()
                    .map(|chunk| ChunkSlice {
                        min_t: chunk.min_t,
                        max_t: chunk.max_t,
                        encoding: chunk.encoding,
                        data: Bytes::from(chunk.data),
                    })
                    .collect(),
            }
        })
        .collect();
    VecSeriesSet::new(series, Vec::new())
}

/// Directories of `dir` that hold a block.
pub(crate) fn block_dirs(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut dirs: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("meta.json").is_file())
        .collect();
    dirs.sort();
    dirs
}
