//! Histograms as Prometheus prints them.

use std::fmt;

use crate::model::histogram::{Bucket, Histogram};
use crate::model::number::format_g;

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, ", format_g(self.count))?;
        write!(f, "sum:{}", format_g(self.sum))?;
        let negative: Vec<(i32, f64)> = self.negative.iter().collect();
        let negative = negative.into_iter().rev();
        let zero =
            (self.zero_count != 0.0 && !self.has_custom_buckets()).then(|| self.zero_bucket());
        let buckets = negative
            .map(|(index, count)| self.negative_bucket(index, count))
            .chain(zero)
            .chain(
                self.positive
                    .iter()
                    .map(|(index, count)| self.positive_bucket(index, count)),
            );
        for bucket in buckets.filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        write!(f, "}}")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.includes_lower { '[' } else { '(' };
        let close = if self.includes_upper { ']' } else { ')' };
        let (lower, upper) = (format_g(self.lower), format_g(self.upper));
        write!(f, "{open}{lower},{upper}{close}:{}", format_g(self.count))
    }
}
