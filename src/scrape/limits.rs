//! Limits on the labels of one series.

use crate::model::Labels;
use crate::model::labels::go_quote;
use crate::scrape::settings::Limits;

/// Says which limit `labels` exceed, in Prometheus' words.
pub(super) fn check_label_limits(labels: &Labels, limits: &Limits) -> Result<(), String> {
    let metric = cut(labels.metric_name());
    if let Some(limit) = limits.labels
        && limit.get() < labels.len()
    {
        return Err(format!(
            "label_limit exceeded (metric: {metric}, number of labels: {}, limit: {limit})",
            labels.len()
        ));
    }
    for (name, value) in labels {
        if let Some(limit) = limits.label_name_bytes
            && limit.get() < name.len()
        {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {}, length: {}, limit: {limit})",
                cut(name),
                name.len()
            ));
        }
        if let Some(limit) = limits.label_value_bytes
            && limit.get() < value.len()
        {
            return Err(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {}, value: {}, length: {}, limit: {limit})",
                cut(name),
                go_quote(&cut(value)),
                value.len()
            ));
        }
    }
    Ok(())
}

/// The first fifty characters.
fn cut(text: &str) -> String {
    text.chars().take(50).collect()
}
