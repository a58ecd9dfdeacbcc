//! `/status/…` and `/features`.

use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::error::ApiError;
use crate::api::http::json::{push_array, push_int, push_text};
use crate::api::http::params::parse_int;
use crate::api::http::state::{BuildInfo, NamedCount, WalReplay};
use crate::model::TimestampMs;

/// Entries of each list of `/status/tsdb`.
const TSDB_LIMIT_DEFAULT: usize = 10;
/// The most that may be asked for.
const TSDB_LIMIT_MAX: usize = 10_000;

/// Appends a time as RFC 3339; what never happened is Go's zero time.
pub(super) fn push_time(out: &mut Vec<u8>, t: Option<TimestampMs>) {
    let text = t
        .and_then(|t| jiff::Timestamp::from_millisecond(t).ok())
        .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string());
    push_text(out, &text);
}

pub(super) async fn config(call: Call) -> Result<Outcome, ApiError> {
    let yaml = call.state.status.config_yaml();
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"yaml\":");
        push_text(out, &yaml);
        out.push(b'}');
    }))
}

pub(super) async fn flags(call: Call) -> Result<Outcome, ApiError> {
    let mut flags = call.state.status.flags();
    flags.sort();
    Ok(Reply::with(|out| {
        out.push(b'{');
        for (position, (name, value)) in flags.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_text(out, name);
            out.push(b':');
            push_text(out, value);
        }
        out.push(b'}');
    }))
}

/// Prometheus' fields; those that describe Go's runtime say what corresponds to them here, or nothing.
pub(super) async fn runtime(call: Call) -> Result<Outcome, ApiError> {
    let info = call.state.status.runtime();
    let now_ms = call.state.clock.now_ms();
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"startTime\":");
        push_time(out, Some(info.start_ms));
        out.extend_from_slice(b",\"CWD\":");
        push_text(out, &info.cwd);
        out.extend_from_slice(b",\"hostname\":");
        push_text(out, &info.hostname);
        out.extend_from_slice(b",\"serverTime\":");
        push_time(out, Some(now_ms));
        out.extend_from_slice(b",\"reloadConfigSuccess\":");
        push_int(out, info.reload_succeeded);
        out.extend_from_slice(b",\"lastConfigTime\":");
        push_time(out, Some(info.last_config_ms));
        for (name, number) in [
            ("corruptionCount", info.corruption_count),
            ("goroutineCount", info.n_actors),
            ("GOMAXPROCS", info.n_threads),
            ("GOMEMLIMIT", info.memory_limit_bytes),
        ] {
            out.push(b',');
            push_text(out, name);
            out.push(b':');
            push_int(out, number);
        }
        out.extend_from_slice(b",\"GOGC\":\"\",\"GODEBUG\":\"\",\"storageRetention\":");
        push_text(out, &info.storage_retention);
        out.push(b'}');
    }))
}

pub(super) async fn build(call: Call) -> Result<Outcome, ApiError> {
    let info = call.state.status.build();
    Ok(Reply::with(|out| push_build(out, &info)))
}

/// Appends the object of `/status/buildinfo` and `/version`.
pub(super) fn push_build(out: &mut Vec<u8>, info: &BuildInfo) {
    for (position, (name, text)) in [
        ("version", &info.version),
        ("revision", &info.revision),
        ("branch", &info.branch),
        ("buildUser", &info.build_user),
        ("buildDate", &info.build_date),
        ("goVersion", &info.compiler_version),
    ]
    .into_iter()
    .enumerate()
    {
        out.push(if position == 0 { b'{' } else { b',' });
        push_text(out, name);
        out.push(b':');
        push_text(out, text);
    }
    out.push(b'}');
}

pub(super) async fn tsdb(call: Call) -> Result<Outcome, ApiError> {
    let limit = match call.form.value("limit") {
        "" => TSDB_LIMIT_DEFAULT,
        text => {
            let number = parse_int(text).ok().and_then(|n| usize::try_from(n).ok());
            number
                .filter(|n| *n > 0)
                .ok_or_else(|| ApiError::bad_data("limit must be a positive number"))?
        }
    };
    if TSDB_LIMIT_MAX < limit {
        return Err(ApiError::bad_data(format!(
            "limit must not exceed {TSDB_LIMIT_MAX}"
        )));
    }
    let status = call.state.status.tsdb(limit).await?;
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"headStats\":{\"numSeries\":");
        push_int(out, status.n_series);
        out.extend_from_slice(b",\"numLabelPairs\":");
        push_int(out, status.n_label_pairs);
        out.extend_from_slice(b",\"chunkCount\":");
        push_int(out, status.n_chunks);
        out.extend_from_slice(b",\"minTime\":");
        push_int(out, status.min_t);
        out.extend_from_slice(b",\"maxTime\":");
        push_int(out, status.max_t);
        out.push(b'}');
        for (name, counts) in [
            ("seriesCountByMetricName", &status.series_by_metric),
            ("labelValueCountByLabelName", &status.values_by_label),
            ("memoryInBytesByLabelName", &status.memory_by_label),
            ("seriesCountByLabelValuePair", &status.series_by_pair),
        ] {
            out.push(b',');
            push_text(out, name);
            out.push(b':');
            push_array(out, counts, push_count);
        }
        out.push(b'}');
    }))
}

fn push_count(out: &mut Vec<u8>, count: &NamedCount) {
    out.extend_from_slice(b"{\"name\":");
    push_text(out, &count.name);
    out.extend_from_slice(b",\"value\":");
    push_int(out, count.value);
    out.push(b'}');
}

/// Appends the envelope of `/status/walreplay`, which is answered before the server is ready.
pub(super) fn push_wal_replay(out: &mut Vec<u8>, replay: WalReplay) {
    let WalReplay {
        min,
        max,
        current,
        state,
        ..
    } = replay;
    let state = state.as_str();
    let text = format!(
        "{{\"status\":\"success\",\"data\":{{\"min\":{min},\"max\":{max},\"current\":{current},\"state\":\"{state}\"}}}}"
    );
    out.extend_from_slice(text.as_bytes());
}

pub(super) async fn features(call: Call) -> Result<Outcome, ApiError> {
    let features = call.state.status.features();
    Ok(Reply::with(|out| {
        out.push(b'{');
        for (position, (category, switches)) in features.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_text(out, category);
            out.extend_from_slice(b":{");
            for (position, (name, is_on)) in switches.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                push_text(out, name);
                out.push(b':');
                push_int(out, is_on);
            }
            out.push(b'}');
        }
        out.push(b'}');
    }))
}
