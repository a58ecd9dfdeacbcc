//! `/labels`, `/label/{name}/values`, `/series`.

use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::error::ApiError;
use crate::api::http::json::{push_array, push_labels, push_texts};
use crate::api::http::params::invalid;
use crate::api::http::query::{TRUNCATED, source_params};
use crate::api::http::state::LabelRequest;
use crate::storage::LabelAnswer;

pub(super) async fn names(call: Call) -> Result<Outcome, ApiError> {
    let limit = call.form.limit()?;
    let request = lookup(&call, limit)?;
    let answer = call.state.query.label_names(request).await?;
    Ok(list(answer, limit))
}

pub(super) async fn values(call: Call) -> Result<Outcome, ApiError> {
    let name = unescaped_name(&call.name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\""));
    }
    let limit = call.form.limit()?;
    let request = lookup(&call, limit)?;
    let answer = call.state.query.label_values(name, request).await?;
    Ok(list(answer, limit))
}

pub(super) async fn series(call: Call) -> Result<Outcome, ApiError> {
    if call.form.values("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = call.form.limit()?;
    let interval = call.form.interval()?;
    let matcher_sets = call
        .form
        .matcher_sets()
        .map_err(|reason| invalid("match[]", &reason))?;
    let request = LabelRequest {
        matcher_sets,
        interval,
        limit: one_more(limit),
        params: source_params(&call)?,
    };
    let mut answer = call.state.query.series(request).await?;
    if is_cut(answer.series.len(), limit) {
        answer.series.truncate(limit);
        answer.warnings.push(TRUNCATED.to_owned());
    }
    let mut reply = Reply::new();
    push_array(&mut reply.text.out, &answer.series, |out, labels| {
        push_labels(out, labels);
    });
    reply.warnings = answer.warnings;
    Ok(Outcome::Data(reply))
}

fn lookup(call: &Call, limit: usize) -> Result<LabelRequest, ApiError> {
    Ok(LabelRequest {
        interval: call.form.interval()?,
        matcher_sets: call.form.matcher_sets().map_err(ApiError::bad_data)?,
        limit: one_more(limit),
        params: source_params(call)?,
    })
}

fn list(mut answer: LabelAnswer, limit: usize) -> Outcome {
    if is_cut(answer.values.len(), limit) {
        answer.values.truncate(limit);
        answer.warnings.push(TRUNCATED.to_owned());
    }
    let mut reply = Reply::new();
    push_texts(&mut reply.text.out, &answer.values);
    reply.warnings = answer.warnings;
    Outcome::Data(reply)
}

/// One more than is wanted shows whether there is more.
fn one_more(limit: usize) -> usize {
    if limit == 0 {
        0
    } else {
        limit.saturating_add(1)
    }
}

fn is_cut(n: usize, limit: usize) -> bool {
    limit > 0 && limit < n
}

/// Most hexadecimal digits of an escaped character that Prometheus unescapes: those beyond `U+FFFFF` are out of its reach.
const HEX_DIGITS_MAX: usize = 5;

/// Names that do not fit a path may come as `U__`, then `_` as `__` and other characters as `_<hex>_`. What is not
/// written so stands for itself.
fn unescaped_name(name: &str) -> String {
    name.strip_prefix("U__")
        .and_then(unescaped)
        .unwrap_or_else(|| name.to_owned())
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('_') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (digits, after) = after.split_once('_')?;
        if HEX_DIGITS_MAX < digits.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let code = u32::from_str_radix(digits, 16).ok()?;
        out.push(char::from_u32(code)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_may_be_escaped() {
        for (name, expect) in [
            ("job", "job"),
            ("a__b", "a__b"),
            ("U__http_2e_status__code", "http.status_code"),
            ("U__k_e4_se", "käse"),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__open_2e", "U__open_2e"),
            ("U__", ""),
            ("U___1F600___", "\u{1f600}_"),
            ("U___0fffff_", "U___0fffff_"),
            ("U___10ffff_", "U___10ffff_"),
            ("U___d800_", "U___d800_"),
            ("U___+2e_", "U___+2e_"),
            ("U__a_", "U__a_"),
        ] {
            assert_eq!(unescaped_name(name), expect, "{name}");
        }
    }
}
