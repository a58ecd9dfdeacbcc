//! What is switched on, for `/api/v1/features`: clients ask before they offer something.

use crate::head::HeadSettings;
use crate::promql::parse::{functions, keywords, operators};
use crate::scrape::StartTimes;

/// A category and its features.
type Category = (String, Vec<(String, bool)>);

/// Features by category, both sorted; what is not listed is not there.
pub(crate) fn features(
    has_admin: bool,
    start_times: StartTimes,
    head: &HeadSettings,
) -> Vec<Category> {
    let mut api = vec![("admin".to_owned(), has_admin)];
    let on = |names: &[&str]| {
        names
            .iter()
            .map(|name| ((*name).to_owned(), true))
            .collect()
    };
    api.extend(on(&[
        "label_values_match",
        "lifecycle",
        "max_source_resolution",
        "query_analyze",
        "query_explain",
        "query_stats",
        "query_warnings",
        "remote_write_receiver",
        "time_range_labels",
        "time_range_series",
    ]));
    let mut categories: Vec<Category> = vec![
        ("api".to_owned(), api),
        ("promql".to_owned(), language()),
        (
            "promql_functions".to_owned(),
            functions()
                .iter()
                .map(|f| (f.name.to_owned(), true))
                .collect(),
        ),
        (
            "promql_operators".to_owned(),
            operators().map(|name| (name.to_owned(), true)).collect(),
        ),
        ("scrape".to_owned(), scraping(start_times)),
        (
            "service_discovery_providers".to_owned(),
            on(&["file", "http", "static"]),
        ),
        ("tsdb".to_owned(), storage(head)),
    ];
    for (_, features) in &mut categories {
        features.sort();
    }
    categories
}

fn scraping(start_times: StartTimes) -> Vec<(String, bool)> {
    let makes_zeros = start_times == StartTimes::Zero;
    [
        ("extra_scrape_metrics", true),
        ("start_timestamp_zero_ingestion", makes_zeros),
        ("type_and_unit_labels", false),
    ]
    .map(|(name, is_on)| (name.to_owned(), is_on))
    .to_vec()
}

fn storage(head: &HeadSettings) -> Vec<(String, bool)> {
    [
        ("exemplar_storage", 0 < head.exemplars_max),
        ("histograms_st_encoding", head.keeps_start_times),
        ("isolation", true),
        ("metadata_wal_records", true),
        ("native_histograms", true),
        ("st_storage", head.keeps_start_times),
        ("xor2_encoding", head.writes_xor2 || head.keeps_start_times),
    ]
    .map(|(name, is_on)| (name.to_owned(), is_on))
    .to_vec()
}

/// The words of the grammar, and what the engine does beyond it.
fn language() -> Vec<(String, bool)> {
    let engine = [
        "at_modifier",
        "delayed_name_removal",
        "duration_expr",
        "negative_offset",
        "per_query_lookback_delta",
        "per_step_stats",
        "subqueries",
        "type_and_unit_labels",
    ];
    keywords()
        .chain(engine)
        .map(|name| (name.to_owned(), true))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_and_features_are_sorted_and_unique() {
        let categories = features(true, StartTimes::Ignore, &HeadSettings::default());
        assert!(categories.is_sorted_by(|left, right| left.0 < right.0));
        for (category, features) in &categories {
            assert!(
                features.is_sorted_by(|left, right| left.0 < right.0),
                "{category}: {features:?}"
            );
        }
    }

    fn names(category: &str) -> Vec<String> {
        let (_, features) = features(true, StartTimes::Ignore, &HeadSettings::default())
            .into_iter()
            .find(|(name, _)| name == category)
            .unwrap();
        assert!(features.iter().all(|(_, is_on)| *is_on), "{features:?}");
        features.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_function_of_the_parser_is_listed() {
        let known: Vec<_> = functions().iter().map(|f| f.name.to_owned()).collect();
        assert_eq!(names("promql_functions"), known);
    }

    #[test]
    fn every_operator_and_aggregation_of_prometheus_is_listed() {
        let expect = "!= !~ % * + - / < </ <= == =~ > >/ >= @ ^ and atan2 avg bottomk count count_values group \
                      limit_ratio limitk max min or quantile stddev stdvar sum topk unless";
        assert_eq!(names("promql_operators").join(" "), expect);
    }

    #[test]
    fn every_word_of_the_grammar_is_listed() {
        let expect = "anchored at_modifier bool by delayed_name_removal duration_expr fill fill_left fill_right \
                      group_left group_right ignoring negative_offset offset on per_query_lookback_delta \
                      per_step_stats smoothed subqueries type_and_unit_labels without";
        assert_eq!(names("promql").join(" "), expect);
    }

    #[test]
    fn what_scraping_does_is_as_it_is_set() {
        let of = |start_times| {
            let features = features(true, start_times, &HeadSettings::default());
            let (_, scrape) = features
                .into_iter()
                .find(|(name, _)| name == "scrape")
                .unwrap();
            let on = scrape.into_iter().filter(|(_, is_on)| *is_on);
            on.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(StartTimes::Ignore), "extra_scrape_metrics");
        assert_eq!(of(StartTimes::Store), "extra_scrape_metrics");
        let expect = "extra_scrape_metrics start_timestamp_zero_ingestion";
        assert_eq!(of(StartTimes::Zero), expect);
    }

    #[test]
    fn what_the_database_keeps_is_as_it_is_set() {
        let of = |head: &HeadSettings| {
            let features = features(true, StartTimes::Ignore, head);
            let (_, tsdb) = features
                .into_iter()
                .find(|(name, _)| name == "tsdb")
                .unwrap();
            let on = tsdb.into_iter().filter(|(_, is_on)| *is_on);
            on.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
        };
        let plain = "exemplar_storage isolation metadata_wal_records native_histograms";
        assert_eq!(of(&HeadSettings::default()), plain);
        let all = HeadSettings {
            keeps_start_times: true,
            exemplars_max: 0,
            ..HeadSettings::default()
        };
        let expect = "histograms_st_encoding isolation metadata_wal_records native_histograms st_storage xor2_encoding";
        assert_eq!(of(&all), expect);
    }
}
