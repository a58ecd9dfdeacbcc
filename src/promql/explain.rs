//! A plan as a tree of operators to be shown: what would be done, or what was done.

use std::fmt::Write;

use crate::model::Resolution;
use crate::promql::memory::size;

/// One operator and what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operator {
    /// What it is.
    pub name: String,
    /// Of a leaf: the selector as the query writes it.
    pub selector: Option<String>,
    /// Which of the plan's questions to the storage a leaf reads: equal numbers share what is found and decoded.
    pub selector_position: Option<usize>,
    /// Of a leaf that was not evaluated: series that match.
    pub estimated_series: Option<u64>,
    /// About how many samples these have that could matter, judged by a few of them.
    pub estimated_samples: Option<u64>,
    /// What it did, if it was evaluated.
    pub actual: Option<Actual>,
    /// What it reads, in the order it is evaluated.
    pub children: Vec<Self>,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actual {
    /// Times it was evaluated: a long range is evaluated in slices. Zero where the operator above did its work.
    pub calls: u64,
    /// Wall time, with everything below.
    pub time_ns: u64,
    /// The same without what is below.
    pub self_ns: u64,
    /// Series that came of it; of a leaf, series found.
    pub series: u64,
    /// Values that came of it.
    pub samples: u64,
    /// Samples that selectors handed over here and below, summed over all steps.
    pub total_samples: u64,
    /// The most samples the query held by the end of it.
    pub peak_samples: u64,
    /// Memory of what came of it, all calls together.
    pub bytes: u64,
    /// Of a leaf: samples decoded.
    pub samples_read: u64,
    /// Of a leaf: chunks found.
    pub chunks: u64,
    /// Of a leaf: their encoded bytes.
    pub chunk_bytes: u64,
    /// Of a leaf: how coarse they are, the finest first.
    pub resolutions: Vec<Resolution>,
    /// Of a leaf: time the storage took to find them.
    pub select_ns: u64,
}

impl Operator {
    /// The leaves.
    pub(crate) fn leaves_mut(&mut self) -> Vec<&mut Self> {
        if self.selector_position.is_some() {
            return vec![self];
        }
        self.children
            .iter_mut()
            .flat_map(Self::leaves_mut)
            .collect()
    }

    /// The tree as text: one operator per line, what it reads indented below.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        write!(out, "{:width$}{}", "", self.name, width = 2 * depth).ok();
        if let Some(selector) = &self.selector {
            write!(out, " {selector}").ok();
        }
        if let Some(n) = self.estimated_series {
            write!(out, "  [about {n} series").ok();
            if let Some(n) = self.estimated_samples {
                write!(out, ", {n} samples").ok();
            }
            out.push(']');
        }
        if let Some(actual) = &self.actual {
            out.push_str("  [");
            actual.write(out, self.selector.is_some());
            out.push(']');
        }
        out.push('\n');
        for child in &self.children {
            child.write(out, depth + 1);
        }
    }
}

impl Actual {
    fn write(&self, out: &mut String, is_leaf: bool) {
        if self.calls > 0 {
            write!(
                out,
                "{} ({} itself), {} series, {} samples, {}",
                go_duration(self.time_ns),
                go_duration(self.self_ns),
                self.series,
                self.samples,
                size(self.bytes)
            )
            .ok();
        } else {
            out.push_str("done by the operator above");
        }
        if is_leaf {
            write!(
                out,
                "; found {} series, {} chunks, {} in {}, decoded {} samples",
                self.series,
                self.chunks,
                size(self.chunk_bytes),
                go_duration(self.select_ns),
                self.samples_read
            )
            .ok();
            if self
                .resolutions
                .iter()
                .any(|level| *level != Resolution::Raw)
            {
                write!(out, " at {}", Resolution::list(&self.resolutions)).ok();
            }
        }
    }
}

/// A duration as Go prints it: `1.5ms`, `2m0.25s`, `0s`.
pub fn go_duration(ns: u64) -> String {
    let fraction = |value: u64, unit: u64, suffix: &str| {
        let (whole, rest) = (value / unit, value % unit);
        if rest == 0 {
            return format!("{whole}{suffix}");
        }
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        format!("{whole}.{}{suffix}", rest.trim_end_matches('0'))
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => fraction(ns, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(ns, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (ns / 60_000_000_000, ns % 60_000_000_000);
            let seconds = fraction(rest, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (ns, expect) in [
            (0, "0s"),
            (17, "17ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (2_000_001, "2.000001ms"),
            (1_000_000_000, "1s"),
            (62_500_000_000, "1m2.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(ns), expect);
        }
    }
}
