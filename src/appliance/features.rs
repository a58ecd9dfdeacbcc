//! What is switched on, for `/api/v1/features`: clients ask before they offer something.

use crate::promql::parse::ast::{AggregateOp, BinaryOp};
use crate::promql::parse::functions;

/// A category and its features.
type Category = (String, Vec<(String, bool)>);

/// Features by category, both sorted; what is not listed is not there.
pub(crate) fn features() -> Vec<Category> {
    let on = |names: &[&str]| {
        names
            .iter()
            .map(|name| ((*name).to_owned(), true))
            .collect()
    };
    let mut categories: Vec<Category> = vec![
        (
            "api".to_owned(),
            on(&[
                "label_values_match",
                "lifecycle",
                "query_stats",
                "remote_write_receiver",
                "time_range_labels",
                "time_range_series",
            ]),
        ),
        (
            "promql".to_owned(),
            on(&[
                "anchored",
                "at_modifier",
                "bool",
                "by",
                "delayed_name_removal",
                "duration_expr",
                "fill",
                "group_left",
                "group_right",
                "ignoring",
                "negative_offset",
                "offset",
                "on",
                "per_query_lookback_delta",
                "smoothed",
                "subqueries",
                "without",
            ]),
        ),
        (
            "promql_functions".to_owned(),
            functions()
                .iter()
                .map(|f| (f.name.to_owned(), true))
                .collect(),
        ),
        ("promql_operators".to_owned(), operators()),
        ("scrape".to_owned(), on(&["extra_scrape_metrics"])),
        (
            "service_discovery_providers".to_owned(),
            on(&["file", "http", "static"]),
        ),
        (
            "tsdb".to_owned(),
            vec![("native_histograms".to_owned(), false)],
        ),
    ];
    for (_, features) in &mut categories {
        features.sort();
    }
    categories
}

fn operators() -> Vec<(String, bool)> {
    use AggregateOp as A;
    use BinaryOp as B;
    let binary = [
        B::Add,
        B::Sub,
        B::Mul,
        B::Div,
        B::Mod,
        B::Pow,
        B::Atan2,
        B::Eq,
        B::Ne,
        B::Gt,
        B::Lt,
        B::Ge,
        B::Le,
        B::And,
        B::Or,
        B::Unless,
    ];
    let aggregate = [
        A::Sum,
        A::Avg,
        A::Count,
        A::Min,
        A::Max,
        A::Group,
        A::Stddev,
        A::Stdvar,
        A::Topk,
        A::Bottomk,
        A::CountValues,
        A::Quantile,
        A::Limitk,
        A::LimitRatio,
    ];
    let names = binary
        .map(B::as_str)
        .into_iter()
        .chain(aggregate.map(A::as_str));
    let mut operators: Vec<_> = names.map(|name| (name.to_owned(), true)).collect();
    operators.push(("@".to_owned(), true));
    operators
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_and_features_are_sorted_and_unique() {
        let categories = features();
        assert!(categories.is_sorted_by(|left, right| left.0 < right.0));
        for (category, features) in &categories {
            assert!(
                features.is_sorted_by(|left, right| left.0 < right.0),
                "{category}: {features:?}"
            );
        }
    }
}
