//! What the appliance counts, and its exposition.
//!
//! Numbers live where they are counted: in counters made here, or in the statistics of a room, which a closure reads
//! when somebody asks. Names are `gauntlet_<room>_<what>_<unit>`, counters end in `_total`.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// Label names and values of one metric of a family.
pub type Pairs = Vec<(&'static str, String)>;
/// Counters told apart by labels.
pub type Counters = Family<Pairs, Counter>;
/// Histograms told apart by labels.
pub type Histograms = Family<Pairs, Histogram, fn() -> Histogram>;

/// Buckets for things that take from a millisecond to a minute.
pub const SECONDS_BUCKETS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0,
];

/// Which text the reader understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `text/plain; version=0.0.4`
    Text,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

/// What an `Accept` header comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The text to answer with.
    pub form: Form,
    /// How names outside the old alphabet are to be written. Ours lie inside it, so every way is the same and it is
    /// only repeated.
    escaping: &'static str,
}

/// What readers may ask for; the first is meant where nothing is said.
const ESCAPINGS: [&str; 4] = ["underscores", "allow-utf-8", "dots", "values"];

impl Accepted {
    /// The first clause by weight that names a text decides; every clause up to it may say how names are escaped.
    pub fn of(accept: &str) -> Self {
        let mut escaping = ESCAPINGS[0];
        let mut clauses: Vec<&str> = accept.split(',').collect();
        clauses.sort_by(|left, right| weight(right).total_cmp(&weight(left)));
        for clause in clauses {
            let asked = parameter(clause, "escaping");
            if let Some(known) = ESCAPINGS.into_iter().find(|known| asked == Some(*known)) {
                escaping = known;
            }
            let media_type = clause.split(';').next().unwrap_or_default().trim();
            let form = match (media_type, parameter(clause, "version")) {
                ("application/openmetrics-text", None | Some("0.0.1" | "1.0.0")) => {
                    Form::OpenMetrics
                }
                ("text/plain", None | Some("0.0.4")) => Form::Text,
                _ => continue,
            };
            return Self { form, escaping };
        }
        let form = Form::Text;
        Self { form, escaping }
    }

    /// The `Content-Type` to answer with.
    pub fn content_type(self) -> String {
        let form = match self.form {
            Form::Text => "text/plain; version=0.0.4",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0",
        };
        format!("{form}; charset=utf-8; escaping={}", self.escaping)
    }
}

/// What a clause of an `Accept` header says about `name`.
fn parameter<'a>(clause: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = clause.split(';').skip(1);
    let value = parameters.find_map(|text| text.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"'))
}

fn weight(clause: &&str) -> f64 {
    let weight = parameter(clause, "q").and_then(|text| text.parse().ok());
    weight.unwrap_or(1.0)
}

/// All metrics of the process; clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter; its name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Counters of one name, told apart by labels.
    pub fn counters(&self, name: &'static str, help: &'static str) -> Counters {
        self.register(name, help, Counters::default())
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// A histogram of seconds.
    pub fn seconds(&self, name: &'static str, help: &'static str) -> Histogram {
        self.register(name, help, Histogram::new(SECONDS_BUCKETS))
    }

    /// Histograms of seconds, told apart by labels.
    pub fn seconds_by(&self, name: &'static str, help: &'static str) -> Histograms {
        let made: fn() -> Histogram = || Histogram::new(SECONDS_BUCKETS);
        self.register(name, help, Family::new_with_constructor(made))
    }

    /// Numbers that somebody else keeps; `read` is called for every exposition and must not wait.
    pub fn read(&self, read: impl Fn(&mut Readings<'_, '_>) + Send + Sync + 'static) {
        self.registry
            .lock()
            .register_collector(Box::new(Reader(read)));
    }

    /// Everything, as text.
    pub fn exposition(&self, form: Form) -> String {
        let mut text = String::new();
        // Writing to a string does not fail; a reader that does leaves its metric out.
        encode(&mut text, &self.registry.lock()).ok();
        match form {
            Form::OpenMetrics => text,
            Form::Text => as_text_0_0_4(&text),
        }
    }

    fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        // The library writes the suffix of counters and the full stop of help texts itself.
        let name = name.strip_suffix("_total").unwrap_or(name);
        let help = help.strip_suffix('.').unwrap_or(help);
        self.registry.lock().register(name, help, metric.clone());
        metric
    }
}

/// Takes down numbers that a room keeps.
pub struct Readings<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    result: fmt::Result,
}

impl fmt::Debug for Readings<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings").finish_non_exhaustive()
    }
}

/// One histogram of a family.
#[derive(Debug)]
pub struct LabelledHistogram<'a> {
    /// What tells it from the others.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Of all that was counted.
    pub sum: f64,
    /// Bounds and how much was counted at each.
    pub buckets: Vec<(f64, u64)>,
}

impl Readings<'_, '_> {
    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        let write = |to: MetricEncoder<'_>| ConstCounter::new(value).encode(to);
        self.family(name, help, MetricType::Counter, write);
    }

    /// Seconds or bytes that only grow.
    pub fn counter_f64(&mut self, name: &str, help: &str, value: f64) {
        let write = |to: MetricEncoder<'_>| ConstCounter::new(value).encode(to);
        self.family(name, help, MetricType::Counter, write);
    }

    /// Numbers that only grow, told apart by one label.
    pub fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.family(name, help, MetricType::Counter, |mut to| {
            for (value_of_label, value) in values {
                let labels = [(label, *value_of_label)];
                ConstCounter::new(*value).encode(to.encode_family(&labels)?)?;
            }
            Ok(())
        });
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let write = |to: MetricEncoder<'_>| ConstGauge::new(value).encode(to);
        self.family(name, help, MetricType::Gauge, write);
    }

    /// [`Readings::gauge`] of something counted in whole numbers.
    pub fn gauge_of(&mut self, name: &str, help: &str, value: impl TryInto<i64>) {
        let value = value.try_into().unwrap_or(i64::MAX);
        let write = |to: MetricEncoder<'_>| ConstGauge::new(value).encode(to);
        self.family(name, help, MetricType::Gauge, write);
    }

    /// Numbers that go up and down, told apart by one label.
    pub fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, f64)]) {
        self.family(name, help, MetricType::Gauge, |mut to| {
            for (value_of_label, value) in values {
                let labels = [(label, *value_of_label)];
                ConstGauge::new(*value).encode(to.encode_family(&labels)?)?;
            }
            Ok(())
        });
    }

    /// How often something was at most as large as each of `bounds`, and larger than the last: each counted once.
    pub fn histogram(&mut self, name: &str, help: &str, sum: f64, buckets: &[(f64, u64)]) {
        let n: u64 = buckets.iter().map(|(_, n)| n).sum();
        self.family(name, help, MetricType::Histogram, |mut to| {
            to.encode_histogram::<Pairs>(sum, n, buckets, None)
        });
    }

    /// Numbers that only grow, told apart by the same few labels each.
    pub fn counters_by(&mut self, name: &str, help: &str, values: &[(&[(&str, &str)], u64)]) {
        self.family(name, help, MetricType::Counter, |mut to| {
            for (labels, value) in values {
                ConstCounter::new(*value).encode(to.encode_family(labels)?)?;
            }
            Ok(())
        });
    }

    /// [`Readings::histogram`] told apart by the same few labels each.
    pub fn histograms_by(&mut self, name: &str, help: &str, values: &[LabelledHistogram<'_>]) {
        self.family(name, help, MetricType::Histogram, |mut to| {
            for histogram in values {
                let n: u64 = histogram.buckets.iter().map(|(_, n)| n).sum();
                to.encode_family(&histogram.labels)?
                    .encode_histogram::<Pairs>(histogram.sum, n, &histogram.buckets, None)?;
            }
            Ok(())
        });
    }

    /// A constant one whose labels are facts.
    pub fn facts(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) {
        self.family(name, help, MetricType::Gauge, |mut to| {
            ConstGauge::new(1_i64).encode(to.encode_family(labels)?)
        });
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) {
        if self.result.is_err() {
            return;
        }
        let name = name.strip_suffix("_total").unwrap_or(name);
        self.result = self
            .encoder
            .encode_descriptor(name, help, None, kind)
            .and_then(write);
    }
}

struct Reader<F>(F);

impl<F> fmt::Debug for Reader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl<F> Collector for Reader<F>
where
    F: Fn(&mut Readings<'_, '_>) + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut readings = Readings {
            encoder: &mut encoder,
            result: Ok(()),
        };
        (self.0)(&mut readings);
        readings.result
    }
}

/// OpenMetrics text as the older format writes it: counters are named with their suffix, and nothing marks the end.
fn as_text_0_0_4(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    // The help line comes before the type line, which says whether the name gets its suffix.
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "unknown" => ("", "untyped"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                for part in ["# HELP ", name, suffix, " ", help, "\n"] {
                    text.push_str(part);
                }
            }
            for part in ["# TYPE ", name, suffix, " ", kind, "\n"] {
                text.push_str(part);
            }
        } else if !line.starts_with("# ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Metrics {
        let metrics = Metrics::new();
        let restarts = metrics.counters("gauntlet_actors_restarts_total", "Restarts.");
        restarts
            .get_or_create(&vec![("actor", "shipper".to_owned())])
            .inc();
        metrics.gauge("gauntlet_pool_jobs", "Jobs at work.").set(3);
        metrics.read(|readings| {
            readings.counter("gauntlet_head_samples_total", "Samples taken.", 7);
            readings.gauge("gauntlet_head_bytes", "Memory.", 1.5);
            readings.gauges(
                "gauntlet_duty_state",
                "State.",
                "duty",
                &[("cut", 0.0), ("ship", 1.0)],
            );
        });
        metrics
    }

    #[test]
    fn text_names_counters_with_their_suffix() {
        let expect = "\
# HELP gauntlet_actors_restarts_total Restarts.
# TYPE gauntlet_actors_restarts_total counter
gauntlet_actors_restarts_total{actor=\"shipper\"} 1
# HELP gauntlet_pool_jobs Jobs at work.
# TYPE gauntlet_pool_jobs gauge
gauntlet_pool_jobs 3
# HELP gauntlet_head_samples_total Samples taken.
# TYPE gauntlet_head_samples_total counter
gauntlet_head_samples_total 7
# HELP gauntlet_head_bytes Memory.
# TYPE gauntlet_head_bytes gauge
gauntlet_head_bytes 1.5
# HELP gauntlet_duty_state State.
# TYPE gauntlet_duty_state gauge
gauntlet_duty_state{duty=\"cut\"} 0.0
gauntlet_duty_state{duty=\"ship\"} 1.0
";
        assert_eq!(registry().exposition(Form::Text), expect);
    }

    #[test]
    fn openmetrics_names_families_without_suffix_and_ends() {
        let text = registry().exposition(Form::OpenMetrics);
        assert!(text.contains("# TYPE gauntlet_head_samples counter\n"));
        assert!(text.contains("\ngauntlet_head_samples_total 7\n"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_accept_header_chooses_the_form_and_the_escaping() {
        const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=";
        const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=";
        for (accept, form, escaping) in [
            ("", TEXT, "underscores"),
            ("*/*", TEXT, "underscores"),
            ("text/html;escaping=dots, */*", TEXT, "dots"),
            ("text/plain;escaping=nonsense", TEXT, "underscores"),
            (
                "text/plain; version=\"0.0.4\"; escaping=values",
                TEXT,
                "values",
            ),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2",
                OPEN,
                "underscores",
            ),
            (
                "application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.5",
                TEXT,
                "underscores",
            ),
            (
                "application/openmetrics-text;version=2.0.0,text/plain;q=0.5",
                TEXT,
                "underscores",
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OPEN,
                "allow-utf-8",
            ),
        ] {
            let content_type = Accepted::of(accept).content_type();
            assert_eq!(content_type, format!("{form}{escaping}"), "{accept}");
        }
    }
}
