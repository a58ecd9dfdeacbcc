//! `/targets`, `/targets/metadata`, `/scrape_pools`, `/metadata`, `/alertmanagers`, `/rules`, `/alerts`.

use std::collections::BTreeMap;

use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::error::ApiError;
use crate::api::http::json::{
    push_array, push_float, push_int, push_labels, push_text, push_texts,
};
use crate::api::http::params::{invalid, parse_int};
use crate::api::http::state::{ActiveTarget, DroppedTarget, TargetMetadata};
use crate::api::http::status::push_time;
use crate::model::Metadata;
use crate::promql::parse::parse_selector_matchers;

pub(super) async fn targets(call: Call) -> Result<Outcome, ApiError> {
    let mut view = call.state.targets.targets().await;
    let state = call.form.value("state").to_lowercase();
    let pool = call.form.value("scrapePool");
    let is_wanted = |here: &str| pool.is_empty() || pool == here;
    view.active
        .retain(|target| state != "dropped" && is_wanted(&target.scrape_pool));
    view.dropped
        .retain(|target| state != "active" && is_wanted(&target.scrape_pool));
    view.dropped_counts
        .retain(|(pool, _)| state != "active" && is_wanted(pool));
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"activeTargets\":");
        push_array(out, &view.active, push_active);
        out.extend_from_slice(b",\"droppedTargets\":");
        push_array(out, &view.dropped, push_dropped);
        out.extend_from_slice(b",\"droppedTargetCounts\":{");
        for (position, (pool, count)) in view.dropped_counts.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_text(out, pool);
            out.push(b':');
            push_int(out, count);
        }
        out.extend_from_slice(b"}}");
    }))
}

fn push_active(out: &mut Vec<u8>, target: &ActiveTarget) {
    out.extend_from_slice(b"{\"discoveredLabels\":");
    push_labels(out, &target.discovered_labels);
    out.extend_from_slice(b",\"labels\":");
    push_labels(out, &target.labels);
    for (name, text) in [
        ("scrapePool", &target.scrape_pool),
        ("scrapeUrl", &target.scrape_url),
        ("globalUrl", &target.global_url),
        ("lastError", &target.last_error),
    ] {
        push_member(out, name, text);
    }
    out.extend_from_slice(b",\"lastScrape\":");
    push_time(out, target.last_scrape_ms);
    out.extend_from_slice(b",\"lastScrapeDuration\":");
    push_float(out, target.last_scrape_duration_seconds);
    push_member(out, "health", target.health.as_str());
    push_member(out, "scrapeInterval", &target.scrape_interval);
    push_member(out, "scrapeTimeout", &target.scrape_timeout);
    out.push(b'}');
}

/// `,"name":"text"`
fn push_member(out: &mut Vec<u8>, name: &str, text: &str) {
    out.push(b',');
    push_text(out, name);
    out.push(b':');
    push_text(out, text);
}

fn push_dropped(out: &mut Vec<u8>, target: &DroppedTarget) {
    out.extend_from_slice(b"{\"discoveredLabels\":");
    push_labels(out, &target.discovered_labels);
    push_member(out, "scrapePool", &target.scrape_pool);
    out.push(b'}');
}

pub(super) async fn scrape_pools(call: Call) -> Result<Outcome, ApiError> {
    let view = call.state.targets.targets().await;
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"scrapePools\":");
        push_texts(out, &view.pools);
        out.push(b'}');
    }))
}

/// A number that may be absent; negative means no bound, as in Prometheus.
fn bound(call: &Call, name: &str) -> Result<usize, ApiError> {
    let text = call.form.value(name);
    if text.is_empty() {
        return Ok(usize::MAX);
    }
    let number = parse_int(text)
        .map_err(|_reason| ApiError::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

pub(super) async fn target_metadata(call: Call) -> Result<Outcome, ApiError> {
    let limit = bound(&call, "limit")?;
    let selector = call.form.value("match_target");
    let matchers = match selector {
        "" => Vec::new(),
        text => parse_selector_matchers(text)
            .map_err(|error| invalid("match_target", &error.to_string()))?,
    };
    let metric = call.form.value("metric");
    let mut found = call.state.targets.metadata().await;
    found.retain(|entry| {
        (metric.is_empty() || metric == entry.metric)
            && matchers
                .iter()
                .all(|matcher| matcher.matches(entry.target.value(&matcher.name)))
    });
    truncate_to_targets(&mut found, limit);
    Ok(Reply::with(|out| {
        push_array(out, &found, |out, entry| {
            out.extend_from_slice(b"{\"target\":");
            push_labels(out, &entry.target);
            if metric.is_empty() {
                push_member(out, "metric", &entry.metric);
            }
            out.push(b',');
            push_metadata(out, &entry.metadata);
            out.push(b'}');
        });
    }))
}

/// The limit says when no further target is looked at: the last one comes with all it has, as in Prometheus.
fn truncate_to_targets(found: &mut Vec<TargetMetadata>, limit: usize) {
    let mut n_kept = 0;
    for of_target in found.chunk_by(|left, right| left.target == right.target) {
        if limit <= n_kept {
            break;
        }
        n_kept += of_target.len();
    }
    found.truncate(n_kept);
}

/// `"type":…,"help":…,"unit":…`
fn push_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    out.extend_from_slice(b"\"type\":");
    push_text(out, metadata.metric_type.as_str());
    push_member(out, "help", &metadata.help);
    push_member(out, "unit", &metadata.unit);
}

pub(super) async fn metadata(call: Call) -> Result<Outcome, ApiError> {
    let limit = bound(&call, "limit")?;
    let per_metric = match bound(&call, "limit_per_metric")? {
        0 => usize::MAX,
        n => n,
    };
    let metric = call.form.value("metric");
    let mut by_metric: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
    for entry in call.state.targets.metadata().await {
        if !metric.is_empty() && metric != entry.metric {
            continue;
        }
        let known = by_metric.entry(entry.metric).or_default();
        if !known.contains(&entry.metadata) {
            known.push(entry.metadata);
        }
    }
    Ok(Reply::with(|out| {
        out.push(b'{');
        for (position, (metric, known)) in by_metric.iter().take(limit).enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_text(out, metric);
            out.push(b':');
            let shown = known.get(..per_metric.min(known.len())).unwrap_or(known);
            push_array(out, shown, |out, metadata| {
                out.push(b'{');
                push_metadata(out, metadata);
                out.push(b'}');
            });
        }
        out.push(b'}');
    }))
}

/// No rules are evaluated here, so there are no Alertmanagers to tell.
pub(super) async fn alertmanagers(_call: Call) -> Result<Outcome, ApiError> {
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}");
    }))
}

pub(super) async fn alerts(_call: Call) -> Result<Outcome, ApiError> {
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"alerts\":[]}");
    }))
}

pub(super) async fn rules(call: Call) -> Result<Outcome, ApiError> {
    call.form.matcher_sets().map_err(ApiError::bad_data)?;
    match call.form.value("type").to_lowercase().as_str() {
        "" | "alert" | "record" => Ok(Reply::with(|out| {
            out.extend_from_slice(b"{\"groups\":[]}");
        })),
        other => Err(invalid("type", &format!("not supported value {other:?}"))),
    }
}
