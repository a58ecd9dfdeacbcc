//! `gauntlet tsdb dump`, `gauntlet tsdb dump-openmetrics`

use std::collections::BTreeMap;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::chunk::{decode_floats, decode_histograms};
use crate::cli::exit::{Failure, note};
use crate::model::labels::{go_quote, is_legacy_label_name};
use crate::model::number::format_g;
use crate::model::{Histogram, Interval, Labels, METRIC_NAME, Matcher, TimestampMs};
use crate::promql::parse::parse_selector_matchers;
use crate::storage::{ChunkSeries, Queryable, SelectHints, SeriesSet, merge_series_sets};
use crate::tsdb::ReadOnlyTsdb;

/// What is dumped.
#[derive(Debug, Args)]
struct Wanted {
    /// The data directory.
    #[arg(default_value = "gauntlet-data")]
    directory: PathBuf,
    /// First time, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MIN, allow_hyphen_values = true)]
    min_time: TimestampMs,
    /// Last time, in milliseconds since the Unix epoch.
    #[arg(long, default_value_t = i64::MAX, allow_hyphen_values = true)]
    max_time: TimestampMs,
    /// Series that match any of these.
    #[arg(
        long = "match",
        value_name = "SELECTOR",
        default_value = "{__name__=~'(?s:.*)'}"
    )]
    selectors: Vec<String>,
    /// Where a directory is made for chunks that the replay of the log closes; the data directory without.
    #[arg(long, value_name = "DIRECTORY")]
    sandbox_dir_root: Option<PathBuf>,
}

/// Print samples: labels, value, time.
#[derive(Debug, Args)]
pub(in crate::cli) struct Dump {
    #[command(flatten)]
    wanted: Wanted,
    /// Samples, or only the labels of series as JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Print samples as OpenMetrics.
#[derive(Debug, Args)]
pub(in crate::cli) struct DumpOpenMetrics {
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    #[default]
    Prom,
    Seriesjson,
}

/// A value of whatever kind.
enum Sample {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Dump {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let format = self.format;
        self.wanted.each(&mut |out, labels, samples| match format {
            Format::Prom => {
                let labels = labels.to_string();
                for (t, sample) in samples {
                    match sample {
                        Sample::Float(v) => writeln!(out, "{labels} {} {t}", format_g(*v)),
                        Sample::Histogram(histogram) => writeln!(out, "{labels} {histogram} {t}"),
                    }?;
                }
                Ok(())
            }
            Format::Seriesjson => writeln!(out, "{}", json(labels)),
        })?;
        Ok(())
    }
}

impl DumpOpenMetrics {
    pub(super) fn run(&self) -> Result<(), Failure> {
        self.wanted.each(&mut |out, labels, samples| {
            let series = openmetrics(labels);
            for (t, sample) in samples {
                if let Sample::Float(v) = sample {
                    let (sign, ms) = (if *t < 0 { "-" } else { "" }, t.unsigned_abs());
                    let value = format_g(*v);
                    writeln!(out, "{series} {value} {sign}{}.{:03}", ms / 1000, ms % 1000)?;
                }
            }
            Ok(())
        })?;
        crate::cli::exit::print("# EOF")
    }
}

/// Prints one series.
type PrintSeries<'a> =
    dyn FnMut(&mut dyn Write, &Labels, &BTreeMap<TimestampMs, Sample>) -> std::io::Result<()> + 'a;

impl Wanted {
    /// Every series in label order, with its samples.
    fn each(&self, print: &mut PrintSeries<'_>) -> Result<(), Failure> {
        let mut matcher_sets: Vec<Vec<Matcher>> = Vec::new();
        for selector in &self.selectors {
            let matchers = parse_selector_matchers(selector);
            matcher_sets
                .push(matchers.map_err(|error| Failure::wrong(format!("--match: {error}")))?);
        }
        let root = self.sandbox_dir_root.as_ref().unwrap_or(&self.directory);
        let database = ReadOnlyTsdb::open(&self.directory, root);
        let database = database.map_err(|error| Failure::of(&error))?;
        for refused in database.refused() {
            note(&format!("warning: {refused}"));
        }
        let interval = Interval {
            min: self.min_time,
            max: self.max_time,
        };
        let (hints, timeline) = (SelectHints::new(interval), database.timeline());
        let sets: Result<Vec<Box<dyn SeriesSet>>, _> = matcher_sets
            .iter()
            .map(|matchers| timeline.select(matchers, &hints))
            .collect();
        let mut set = merge_series_sets(sets.map_err(|error| Failure::of(&error))?, 0);
        let mut out = BufWriter::new(stdout().lock());
        while let Some(series) = set.next() {
            let series = series.map_err(|error| Failure::of(&error))?;
            let samples = decode(&series, interval)?;
            if samples.is_empty() {
                continue;
            }
            match print(&mut out, &series.labels, &samples) {
                // A reader that has seen enough, such as `head`.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                printed => printed.map_err(|error| {
                    Failure::failed(format!("write to standard output: {error}"))
                })?,
            }
        }
        out.flush().ok();
        Ok(())
    }
}

/// Each time once, from the chunk that comes first.
fn decode(
    series: &ChunkSeries,
    interval: Interval,
) -> Result<BTreeMap<TimestampMs, Sample>, Failure> {
    let mut all = BTreeMap::new();
    for chunk in &series.chunks {
        let mut times = Vec::new();
        let decoded: Result<Vec<Sample>, _> = if chunk.encoding.has_histograms() {
            let mut histograms = Vec::new();
            decode_histograms(chunk.encoding, &chunk.data, &mut times, &mut histograms)
                .map(|()| histograms.into_iter().map(Sample::Histogram).collect())
        } else {
            let mut values = Vec::new();
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values)
                .map(|()| values.into_iter().map(Sample::Float).collect())
        };
        let decoded = decoded
            .map_err(|error| Failure::failed(format!("series {}: {error}", series.labels)))?;
        for (t, sample) in times.into_iter().zip(decoded) {
            if interval.contains(t) {
                all.entry(t).or_insert(sample);
            }
        }
    }
    Ok(all)
}

fn json(labels: &Labels) -> serde_json::Value {
    let pairs = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.into()));
    serde_json::Value::Object(pairs.collect())
}

/// The name, then the other labels without blanks.
fn openmetrics(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| {
            if is_legacy_label_name(name) {
                format!("{name}={}", go_quote(value))
            } else {
                format!("{}={}", go_quote(name), go_quote(value))
            }
        })
        .collect();
    format!("{}{{{}}}", labels.metric_name(), pairs.join(","))
}
