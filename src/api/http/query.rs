//! `/query`, `/query_range`, their `_explain`, `/format_query`, `/parse_query`.

use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::columns::Manner;
use crate::api::http::cost::{push_operator, push_stats};
use crate::api::http::error::{ApiError, ErrorType};
use crate::api::http::json::{push_result, push_text};
use crate::api::http::params::{Form, invalid, parse_duration_ns};
use crate::api::http::state::{ExplainQuery, InstantQuery, QueryParams, RangeQuery, StatsDetail};
use crate::model::Resolution;
use crate::promql::QueryOutput;
use crate::promql::explain::Operator;
use crate::promql::parse::ast::Expr;
use crate::promql::parse::{parse_expr, pretty, tree_json};
use crate::storage::ResolutionWish;

const NANOS_PER_MS: i64 = 1_000_000;

/// Points of one series a range query may ask for.
const POINTS_MAX: i128 = 11_000;

/// Answers that may be longer are sent while they are written, without saying how long they are.
const WHOLE_BYTES_MAX: usize = 64 << 20;

/// The warning of every answer that was cut.
pub(super) const TRUNCATED: &str = "results truncated due to limit";

pub(super) async fn instant(call: Call) -> Result<Outcome, ApiError> {
    let limit = call.form.limit()?;
    let query = instant_query(&call)?;
    let stats = query.params.stats;
    let output = call.state.query.instant(query).await;
    respond(output, stats, limit, &call).await
}

pub(super) async fn range(call: Call) -> Result<Outcome, ApiError> {
    let limit = call.form.limit()?;
    let query = range_query(&call)?;
    let stats = query.params.stats;
    let output = call.state.query.range(query).await;
    respond(output, stats, limit, &call).await
}

/// The tree of operators of an instant query; nothing is evaluated.
pub(super) async fn explain_instant(call: Call) -> Result<Outcome, ApiError> {
    let query = ExplainQuery::Instant(instant_query(&call)?);
    explained(call.state.query.explain(query).await)
}

/// The same of a range query.
pub(super) async fn explain_range(call: Call) -> Result<Outcome, ApiError> {
    let query = ExplainQuery::Range(range_query(&call)?);
    explained(call.state.query.explain(query).await)
}

fn explained(root: Result<Operator, ApiError>) -> Result<Outcome, ApiError> {
    let root = root.map_err(name_the_query)?;
    Ok(Reply::with(|out| push_operator(out, &root)))
}

fn instant_query(call: &Call) -> Result<InstantQuery, ApiError> {
    let t = call.form.time("time", call.state.clock.now_ms())?;
    let params = query_params(call)?;
    let text = call.form.value("query").to_owned();
    refuse_elapsed(&text, &params)?;
    Ok(InstantQuery { text, t, params })
}

fn range_query(call: &Call) -> Result<RangeQuery, ApiError> {
    let form = &call.form;
    let start = form.required_time("start")?;
    let end = form.required_time("end")?;
    if end < start {
        return Err(invalid(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step_ns = form.duration_ns("step")?;
    // Steps are counted in milliseconds; what is shorter would be none.
    let step_ms = step_ns / NANOS_PER_MS;
    if step_ms <= 0 {
        return Err(invalid(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    let length_ns = (i128::from(end) - i128::from(start)) * i128::from(NANOS_PER_MS);
    if POINTS_MAX < length_ns / i128::from(step_ns) {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
             (?step=XX)",
        ));
    }
    let params = query_params(call)?;
    let text = form.value("query").to_owned();
    refuse_elapsed(&text, &params)?;
    Ok(RangeQuery {
        text,
        start,
        end,
        step_ms,
        params,
    })
}

fn name_the_query(error: ApiError) -> ApiError {
    if error.error_type == ErrorType::BadData {
        invalid("query", &error.text)
    } else {
        error
    }
}

async fn respond(
    output: Result<QueryOutput, ApiError>,
    stats: StatsDetail,
    limit: usize,
    call: &Call,
) -> Result<Outcome, ApiError> {
    let output = output.map_err(name_the_query)?;
    let mut reply = Reply::new();
    reply.resolutions.clone_from(&output.stats.resolutions);
    reply.text.out.push(b'{');
    let manner = Manner {
        limit,
        helpers: call.state.helpers.as_ref(),
        whole_bytes_max: WHOLE_BYTES_MAX,
    };
    let (value, held) = (output.value, &output.held);
    let is_cut = push_result(&mut reply.text, (value, held), manner).await?;
    if stats != StatsDetail::None {
        push_stats(&mut reply.text.out, &output.stats);
    }
    if let Some(root) = &output.analysis {
        reply.text.out.extend_from_slice(b",\"analysis\":");
        push_operator(&mut reply.text.out, root);
    }
    reply.text.out.push(b'}');
    reply.warnings = output.warnings;
    reply.infos = output.infos;
    if is_cut {
        reply.warnings.push(TRUNCATED.to_owned());
    }
    Ok(Outcome::Data(reply))
}

/// A timeout that is over before the query begins: a bad query is still a bad query.
fn refuse_elapsed(text: &str, params: &QueryParams) -> Result<(), ApiError> {
    if params.timeout_ms.is_none_or(|timeout_ms| 0 < timeout_ms) {
        return Ok(());
    }
    parse_expr(text).map_err(|error| invalid("query", &error.to_string()))?;
    Err(ApiError::new(
        ErrorType::Timeout,
        "query timed out in query queue",
    ))
}

fn query_params(call: &Call) -> Result<QueryParams, ApiError> {
    let form = &call.form;
    let timeout_ms = match form.value("timeout") {
        "" => None,
        _ => Some(form.duration_ns("timeout")?.div_euclid(NANOS_PER_MS)),
    };
    let lookback_ms = match form.value("lookback_delta") {
        "" => None,
        text => {
            let nanos = parse_duration_ns(text).map_err(|reason| {
                ApiError::bad_data(format!("error parsing lookback delta duration: {reason}"))
            })?;
            // Zero means the configured one, as in Prometheus.
            Some(nanos / NANOS_PER_MS).filter(|ms| *ms != 0)
        }
    };
    let stats = match form.value("stats") {
        "" => StatsDetail::None,
        "all" => StatsDetail::PerStep,
        _ => StatsDetail::Totals,
    };
    let shared = source_params(call)?;
    Ok(QueryParams {
        timeout_ms,
        lookback_ms,
        stats,
        analyze: matches!(form.value("analyze"), "true" | "1"),
        ..shared
    })
}

/// What Thanos' clients say about the sources of an answer.
pub(super) fn source_params(call: &Call) -> Result<QueryParams, ApiError> {
    let form = &call.form;
    Ok(QueryParams {
        dedup: form.switch("dedup")?,
        partial_response: form.switch("partial_response")?,
        resolution: resolution(form)?,
        replica_labels: form.values("replicaLabels[]").map(str::to_owned).collect(),
        cancel: call.cancel.0.clone(),
        ..QueryParams::default()
    })
}

fn resolution(form: &Form) -> Result<Option<ResolutionWish>, ApiError> {
    match form.value("max_source_resolution") {
        "" => Ok(None),
        "auto" => Ok(Some(ResolutionWish::Auto)),
        text => {
            let nanos = parse_duration_ns(text).map_err(|reason| {
                ApiError::bad_data(format!("'max_source_resolution' parameter: {reason}"))
            })?;
            if nanos < 0 {
                return Err(ApiError::bad_data(
                    "negative 'max_source_resolution' is not accepted. Try a positive integer",
                ));
            }
            let coarsest = Resolution::at_most(nanos / NANOS_PER_MS);
            Ok(Some(ResolutionWish::AtMost(coarsest)))
        }
    }
}

pub(super) async fn format(call: Call) -> Result<Outcome, ApiError> {
    let expr = parsed(&call)?;
    Ok(Reply::with(|out| push_text(out, &pretty(&expr))))
}

pub(super) async fn parse(call: Call) -> Result<Outcome, ApiError> {
    let tree = tree_json(&parsed(&call)?).to_string();
    Ok(Reply::with(|out| {
        // These three stand only inside texts of the tree.
        let escaped = tree
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026");
        out.extend_from_slice(escaped.as_bytes());
    }))
}

fn parsed(call: &Call) -> Result<Expr, ApiError> {
    parse_expr(call.form.value("query")).map_err(|error| invalid("query", &error.to_string()))
}
