//! The data set that queries are about, the same in every run: two hours of series of every kind, as one block.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use gauntlet::block::{NewBlock, write_block};
use gauntlet::chunk::{Counts, EncodedChunk, encode_floats, encode_histograms};
use gauntlet::model::{BlockId, Histogram, Labels, STALE_NAN_BITS, TimeRange, TimestampMs};
use gauntlet::storage::{ChunkSeries, ChunkSlice, VecSeriesSet};

use crate::dice::Dice;
use crate::histograms::{self, Kind};
use crate::leaves::Dialect;

/// The first millisecond of the block: a multiple of two hours.
pub(crate) const START_MS: TimestampMs = 1_699_999_200_000;

/// The millisecond after its last.
pub(crate) const END_MS: TimestampMs = START_MS + 7_200_000;

/// Where samples stand within their second; see `leaves`.
const PARTS_MS: [TimestampMs; 3] = [211, 613, 907];

/// Upper bounds of classic buckets.
const BOUNDS: [&str; 6] = ["0.1", "0.5", "1", "2.5", "10", "+Inf"];

/// Writes the data set below `parent` and returns the block's directory.
pub(crate) fn write(parent: &Path, dialect: Dialect) -> PathBuf {
    let mut all = Vec::new();
    let mut maker = Maker {
        dice: Dice::new(3, 14),
        series: &mut all,
    };
    maker.counters();
    maker.gauges();
    maker.odd_values();
    maker.classic_histograms();
    maker.native_histograms(dialect);
    let range = TimeRange {
        min: START_MS,
        max: END_MS,
    };
    let id = BlockId::from_parts(u64::try_from(END_MS).unwrap(), 1);
    let meta = write_block(
        parent,
        NewBlock::new(id, range),
        &mut VecSeriesSet::new(all, Vec::new()),
    );
    parent.join(meta.unwrap().unwrap().ulid.to_string())
}

struct Maker<'a> {
    dice: Dice,
    series: &'a mut Vec<ChunkSeries>,
}

impl Maker<'_> {
    fn counters(&mut self) {
        for job in ["api", "web", "db"] {
            for instance in ["0", "1", "2"] {
                for code in ["200", "404", "500"] {
                    let times = self.times(15_000);
                    let values = self.counter(&times);
                    let mut pairs = vec![("job", job), ("instance", instance), ("code", code)];
                    if job == "web" {
                        pairs.push(("path", if instance == "0" { "/a/b" } else { "/c" }));
                    }
                    self.floats("reqs_total", &pairs, &times, &values);
                    if code == "500" {
                        let values = self.counter(&times);
                        self.floats("errs_total", &pairs[..2], &times, &values);
                    }
                }
            }
        }
    }

    /// Grows by whole numbers, and falls to nothing or to a little now and then.
    fn counter(&mut self, times: &[TimestampMs]) -> Vec<f64> {
        let mut total = self.dice.between(0, 20_000);
        times
            .iter()
            .map(|_| {
                total += self.dice.between(0, 9) * self.dice.between(0, 30);
                if self.dice.below(150) == 0 {
                    total = self.dice.between(0, 1) * self.dice.between(0, 5000);
                }
                as_float(total)
            })
            .collect()
    }

    fn gauges(&mut self) {
        for (job, instance) in [
            ("api", "0"),
            ("api", "1"),
            ("web", "0"),
            ("web", "1"),
            ("db", "0"),
        ] {
            let pairs = [("job", job), ("instance", instance)];
            for name in ["gauge", "twin"] {
                let times = self.times(30_000);
                let values: Vec<f64> = times
                    .iter()
                    .map(|_| match self.dice.below(60) {
                        0 => f64::from_bits(STALE_NAN_BITS),
                        _ => as_float(self.dice.between(-12, 30)),
                    })
                    .collect();
                self.floats(name, &pairs, &times, &values);
            }
            let times = self.times(20_000);
            let values: Vec<f64> = times
                .iter()
                .enumerate()
                .map(|(n, _)| {
                    20.0 + (n as f64 / 30.0).sin() * 7.0
                        + as_float(self.dice.between(0, 1000)) / 997.0
                })
                .collect();
            self.floats("temp", &pairs, &times, &values);
            let times = self.times(60_000);
            let version = if instance == "0" { "1.0" } else { "1.1" };
            let ones = vec![1.0; times.len()];
            let info = [("job", job), ("instance", instance), ("version", version)];
            self.floats("build_info", &info, &times, &ones);
            self.floats(
                "target_info",
                &[info.as_slice(), &[("kind", "host")]].concat(),
                &times,
                &ones,
            );
        }
        // Alive for minutes, with long silences.
        for instance in ["0", "1", "2"] {
            let mut times = self.times(45_000);
            times.retain(|t| {
                (t - START_MS) / 600_000 % 3 == i64::try_from(instance.len()).unwrap() - 1
            });
            let values: Vec<f64> = times
                .iter()
                .map(|t| as_float((t - START_MS) / 1000))
                .collect();
            self.floats("sparse", &[("instance", instance)], &times, &values);
        }
    }

    fn odd_values(&mut self) {
        let kinds: [(&str, &[f64]); 6] = [
            ("nan", &[f64::NAN, 1.0, f64::NAN, -2.0]),
            (
                "inf",
                &[f64::INFINITY, 3.0, f64::NEG_INFINITY, 4.0, f64::INFINITY],
            ),
            ("tiny", &[1e-310, -1e-320, 5e-324, 0.0, -0.0, 1e-7]),
            (
                "huge",
                &[1e300, -1e300, 1.7e308, 1e308, 9_007_199_254_740_993.0],
            ),
            ("zero", &[0.0, -0.0]),
            ("flat", &[42.0]),
        ];
        for (kind, choices) in kinds {
            let times = self.times(30_000);
            let values: Vec<f64> = times
                .iter()
                .map(|_| choices[self.dice.below(choices.len())])
                .collect();
            self.floats("odd", &[("job", "api"), ("kind", kind)], &times, &values);
        }
    }

    /// One is missing its last bucket, one has a bound that is no number, one is not monotonic.
    fn classic_histograms(&mut self) {
        for (job, instance) in [
            ("api", "0"),
            ("api", "1"),
            ("web", "0"),
            ("web", "1"),
            ("db", "0"),
        ] {
            let times = self.times(30_000);
            let mut below = vec![0.0; times.len()];
            for (n, le) in BOUNDS.into_iter().enumerate() {
                let grown = self.counter(&times);
                for (sum, more) in below.iter_mut().zip(grown) {
                    *sum = if (job, n) == ("web", 3) {
                        more
                    } else {
                        *sum + more
                    };
                }
                let le = if (job, instance, n) == ("api", "1", 2) {
                    "1.0"
                } else {
                    le
                };
                if (job, le) == ("db", "+Inf") {
                    continue;
                }
                let le = if (job, instance, n) == ("web", "1", 1) {
                    "half"
                } else {
                    le
                };
                let pairs = [("job", job), ("instance", instance), ("le", le)];
                self.floats("lat_bucket", &pairs, &times, &below);
            }
            self.floats(
                "lat_count",
                &[("job", job), ("instance", instance)],
                &times,
                &below,
            );
        }
    }

    fn native_histograms(&mut self, dialect: Dialect) {
        let metrics: &[(&str, Kind)] = &[
            ("nh", Kind::Counter),
            ("nh_gauge", Kind::Gauge),
            ("nh_float", Kind::FloatCounter),
            ("nh_mixed", Kind::Counter),
            ("nh_custom", Kind::Custom),
        ];
        for (name, kind) in metrics {
            if *kind == Kind::Custom && !dialect.is_newest() {
                continue;
            }
            for (job, instance) in [("api", "0"), ("api", "1"), ("web", "0"), ("db", "0")] {
                let mut times = self.times(30_000);
                let pairs = [("job", job), ("instance", instance)];
                let later = times.split_off(if *name == "nh_mixed" {
                    times.len() / 2
                } else {
                    0
                });
                let mut chunks = encode_floats(&times, &self.counter(&times)).unwrap();
                let samples = histograms::grow(&mut self.dice, *kind, later.len());
                let counts = match kind {
                    Kind::FloatCounter => Counts::Float,
                    Kind::Counter | Kind::Gauge | Kind::Custom => Counts::Whole,
                };
                let samples: Vec<Arc<Histogram>> = samples.into_iter().map(Arc::new).collect();
                chunks.extend(encode_histograms(counts, &later, &samples, None).unwrap());
                self.push(name, &pairs, chunks);
            }
        }
    }

    /// About every `step_ms`, with a gap now and then.
    fn times(&mut self, step_ms: TimestampMs) -> Vec<TimestampMs> {
        let mut times = Vec::new();
        let part_ms = PARTS_MS[self.dice.below(PARTS_MS.len())];
        let mut t = START_MS + part_ms + self.dice.between(0, 14) * 1000;
        while t < END_MS {
            times.push(t);
            t += step_ms + self.dice.between(0, 9) / 8 * 1000;
            if self.dice.below(90) == 0 {
                t += self.dice.between(1, 500) * 1000;
            }
        }
        times
    }

    fn floats(
        &mut self,
        name: &str,
        pairs: &[(&str, &str)],
        times: &[TimestampMs],
        values: &[f64],
    ) {
        self.push(name, pairs, encode_floats(times, values).unwrap());
    }

    fn push(&mut self, name: &str, pairs: &[(&str, &str)], chunks: Vec<EncodedChunk>) {
        let pairs = [&[("__name__", name)], pairs].concat();
        let chunks = chunks
            .into_iter()
            .map(|chunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: Bytes::from(chunk.data),
            })
            .collect();
        self.series.push(ChunkSeries {
            labels: Labels::new(&pairs).unwrap(),
            chunks,
        });
    }
}

/// A whole number as a float.
pub(crate) fn as_float(n: i64) -> f64 {
    f64::from(i32::try_from(n).unwrap())
}
