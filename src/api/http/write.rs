//! `/api/v1/write` and `/api/v1/receive`: remote write 1.0 and 2.0.

use std::panic::AssertUnwindSafe;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures::FutureExt;

use crate::api::http::call::{plain, plain_builder, unavailable};
use crate::api::http::state::{HttpState, Readiness, WriteFailure, WriteRequest};
use crate::foundation::verdict::Verdict;
use crate::remote::{WriteReport, WriteVersion};

const PROTOBUF: &str = "application/x-protobuf";
const MESSAGE_V1: &str = "prometheus.WriteRequest";
const MESSAGE_V2: &str = "io.prometheus.write.v2.Request";
/// When a client that found the storage closed should come back.
const RETRY_AFTER_S: u64 = 5;

pub(super) async fn write(request: HttpRequest, payload: Payload) -> HttpResponse {
    let Some(state) = request.app_data::<web::Data<HttpState>>().cloned() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "no state\n");
    };
    match state.status.readiness() {
        Readiness::Ready | Readiness::Replaying => (),
        readiness @ (Readiness::Starting | Readiness::Stopping) => return unavailable(readiness),
    }
    let work = AssertUnwindSafe(written(&request, payload, &state));
    match work.catch_unwind().await {
        Ok(response) => response,
        Err(_panic) => {
            tracing::error!(path = request.path(), "handler panicked");
            line(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the handler of this request panicked; other requests go on",
            )
        }
    }
}

async fn written(request: &HttpRequest, payload: Payload, state: &HttpState) -> HttpResponse {
    let version = match check_headers(request.headers()) {
        Ok(version) => version,
        Err(text) => return line(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text),
    };
    let bytes_max = state.settings.write_bytes_max;
    let body = match read_body(payload, bytes_max).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let tenant = request.headers().get("THANOS-TENANT");
    let write = WriteRequest {
        body,
        version,
        decoded_bytes_max: state.settings.write_decoded_bytes_max,
        ahead_ms_max: state.settings.write_ahead_ms_max,
        tenant: tenant.and_then(|name| Some(name.to_str().ok()?.to_owned())),
    };
    match state.write.write(write).await {
        Ok(report) => report_response(&report, version),
        Err(failure) => {
            let mut response = failure_response(failure);
            add_counts(&mut response, &WriteReport::default(), version);
            response
        }
    }
}

async fn read_body(payload: Payload, bytes_max: usize) -> Result<Bytes, HttpResponse> {
    match payload.to_bytes_limited(bytes_max).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => {
            let text = format!("read request body: {error}");
            Err(line(StatusCode::BAD_REQUEST, &text))
        }
        Err(_limit) => {
            let text = format!(
                "request body exceeds the limit of {bytes_max} bytes: send smaller requests or raise the limit"
            );
            Err(line(StatusCode::PAYLOAD_TOO_LARGE, &text))
        }
    }
}

/// Protobuf of either version in snappy; what is not said is taken to be version 1.
fn check_headers(headers: &HeaderMap) -> Result<WriteVersion, String> {
    let text = |name: header::HeaderName| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or("?").trim().to_owned())
            .unwrap_or_default()
    };
    let content_type = text(header::CONTENT_TYPE);
    let version = if content_type.is_empty() {
        WriteVersion::V1
    } else {
        version_of(&content_type)?
    };
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        return Err(format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ));
    }
    Ok(version)
}

fn version_of(content_type: &str) -> Result<WriteVersion, String> {
    let mut version = WriteVersion::V1;
    let mut parts = content_type.split(';');
    if parts.next() != Some(PROTOBUF) {
        return Err(format!(
            "expected {PROTOBUF} as the first (media) part, got {content_type} content-type"
        ));
    }
    for part in parts {
        let Some((name, value)) = part
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
        else {
            return Err(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got \
                 {part} in {content_type} content-type"
            ));
        };
        if name.trim() == "proto" {
            version = match value {
                MESSAGE_V1 => WriteVersion::V1,
                MESSAGE_V2 => WriteVersion::V2,
                _ => {
                    return Err(format!(
                        "{value} protobuf message is not accepted by this server; accepted [{MESSAGE_V1} {MESSAGE_V2}]"
                    ));
                }
            };
        }
    }
    Ok(version)
}

fn report_response(report: &WriteReport, version: WriteVersion) -> HttpResponse {
    let lines = report.refusal_lines();
    let mut response = if lines.is_empty() {
        HttpResponse::NoContent().finish()
    } else {
        line(StatusCode::BAD_REQUEST, &lines.join("\n"))
    };
    add_counts(&mut response, report, version);
    response
}

/// Senders of version 2 are told how much was taken, whatever the status.
fn add_counts(response: &mut HttpResponse, report: &WriteReport, version: WriteVersion) {
    if version == WriteVersion::V1 {
        return;
    }
    for (name, count) in [
        (
            "x-prometheus-remote-write-samples-written",
            report.n_samples,
        ),
        (
            "x-prometheus-remote-write-histograms-written",
            report.n_histograms,
        ),
        (
            "x-prometheus-remote-write-exemplars-written",
            report.n_exemplars,
        ),
    ] {
        let name = header::HeaderName::from_static(name);
        let value = header::HeaderValue::from(count);
        response.headers_mut().insert(name, value);
    }
}

fn failure_response(failure: WriteFailure) -> HttpResponse {
    match failure {
        WriteFailure::Write(error) => match error.verdict() {
            Verdict::Refuse | Verdict::Missing | Verdict::Quarantine => {
                line(StatusCode::BAD_REQUEST, &error.to_string())
            }
            Verdict::RetryAfter(wait) => {
                tracing::error!(error = %error, "remote write request was not stored");
                later(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &error.to_string(),
                    wait.as_secs(),
                )
            }
        },
        WriteFailure::Busy {
            text,
            retry_after_s,
        } => later(StatusCode::SERVICE_UNAVAILABLE, &text, retry_after_s),
        WriteFailure::Unavailable(text) => {
            later(StatusCode::SERVICE_UNAVAILABLE, &text, RETRY_AFTER_S)
        }
    }
}

fn later(status: StatusCode, text: &str, wait_s: u64) -> HttpResponse {
    plain_builder(status)
        .insert_header((header::RETRY_AFTER, wait_s.max(1).to_string()))
        .body(format!("{text}\n"))
}

fn line(status: StatusCode, text: &str) -> HttpResponse {
    plain(status, &format!("{text}\n"))
}
