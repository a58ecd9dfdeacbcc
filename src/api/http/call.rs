//! From a request to a call, and from an outcome to a response: what every endpoint of the API shares.

use std::future::poll_fn;
use std::io::Write;
use std::panic::AssertUnwindSafe;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures::FutureExt;

use crate::api::http::error::{ApiError, ErrorType};
use crate::api::http::json::{push_text, push_texts};
use crate::api::http::pace::PORTION_BYTES;
use crate::api::http::params::Form;
use crate::api::http::portions::Pieces;
use crate::api::http::state::{HttpState, Readiness};
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::model::Resolution;
use crate::model::compile_anchored;

/// Warnings and infos an answer carries at most, each; more are counted in one line.
const ANNOTATIONS_MAX: usize = 10;

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// One request to an endpoint.
pub(super) struct Call {
    /// The ports.
    pub(super) state: web::Data<HttpState>,
    /// Body and query string.
    pub(super) form: Form,
    /// The part of the path that is a name, decoded.
    pub(super) name: String,
    /// Raised when this call is dropped, which happens when the client goes away.
    pub(super) cancel: CancelOnDrop,
}

/// A flag that is up as soon as nobody holds this any more.
#[derive(Default)]
pub(super) struct CancelOnDrop(pub(super) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::Canceled);
    }
}

/// What an endpoint says.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and nearly always it has data"
)]
pub(super) enum Outcome {
    /// An envelope with data.
    Data(Reply),
    /// Nothing at all: 204.
    Empty,
}

/// Says how coarse the samples were that an answer is computed from, such as `raw,5m`.
const RESOLUTION_HEADER: &str = "X-Gauntlet-Resolution";

/// An envelope being written; the data goes straight behind its opening.
pub(super) struct Reply {
    /// Append the data here.
    pub(super) text: Pieces,
    /// What may make the answer wrong.
    pub(super) warnings: Vec<String>,
    /// What may make the question wrong.
    pub(super) infos: Vec<String>,
    /// How coarse the samples were that it is computed from; empty where there were none.
    pub(super) resolutions: Vec<Resolution>,
}

impl Reply {
    pub(super) fn new() -> Self {
        Self {
            text: Pieces::of(b"{\"status\":\"success\",\"data\":"),
            warnings: Vec::new(),
            infos: Vec::new(),
            resolutions: Vec::new(),
        }
    }

    /// An envelope whose data is written by `push`.
    pub(super) fn with(push: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let mut reply = Self::new();
        push(&mut reply.text.out);
        Outcome::Data(reply)
    }

    fn finish(mut self) -> BoxBody {
        let out = &mut self.text.out;
        for (name, texts, what) in [
            (&b",\"warnings\":"[..], &self.warnings, "warning"),
            (&b",\"infos\":"[..], &self.infos, "info"),
        ] {
            if texts.is_empty() {
                continue;
            }
            let mut shown: Vec<String> = texts.iter().take(ANNOTATIONS_MAX).cloned().collect();
            if ANNOTATIONS_MAX < texts.len() {
                let n_more = texts.len() - ANNOTATIONS_MAX;
                shown.push(format!("{n_more} more {what} annotations omitted"));
            }
            out.extend_from_slice(name);
            push_texts(out, &shown);
        }
        out.push(b'}');
        self.text.into_body()
    }
}

/// Runs `handler` and writes what it says; a panic inside becomes a 500 and ends nothing else.
pub(super) async fn answer<F, Fut>(
    request: HttpRequest,
    payload: Payload,
    handler: F,
) -> HttpResponse
where
    F: Fn(Call) -> Fut,
    Fut: Future<Output = Result<Outcome, ApiError>>,
{
    let Some(state) = request.app_data::<web::Data<HttpState>>().cloned() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "no state\n");
    };
    let cors = cors_headers(request.headers(), &state.settings.cors_origin);
    let mut response = match state.status.readiness() {
        Readiness::Ready | Readiness::Replaying => {
            let work = AssertUnwindSafe(handled(&request, payload, state, handler));
            match work.catch_unwind().await {
                Ok(response) => response,
                Err(_panic) => {
                    tracing::error!(path = request.path(), "handler panicked");
                    let text = "the handler of this request panicked; other requests go on";
                    refusal(&ApiError::new(ErrorType::Internal, text), None)
                }
            }
        }
        readiness @ (Readiness::Starting | Readiness::Stopping) => unavailable(readiness),
    };
    for (name, value) in cors {
        response.headers_mut().append(name, value);
    }
    compressed(&request, response).await
}

async fn handled<F, Fut>(
    request: &HttpRequest,
    payload: Payload,
    state: web::Data<HttpState>,
    handler: F,
) -> HttpResponse
where
    F: Fn(Call) -> Fut,
    Fut: Future<Output = Result<Outcome, ApiError>>,
{
    let body = match form_body(request, payload, state.settings.form_bytes_max).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let name = request.match_info().get("name").unwrap_or_default();
    let call = Call {
        form: Form::new(&body, request.query_string()),
        name: percent_encoding::percent_decode_str(name)
            .decode_utf8_lossy()
            .into_owned(),
        cancel: CancelOnDrop::default(),
        state,
    };
    match handler(call).await {
        Ok(Outcome::Data(reply)) => {
            let mut builder = HttpResponse::Ok();
            if !reply.resolutions.is_empty() {
                let resolutions = Resolution::list(&reply.resolutions);
                builder.insert_header((RESOLUTION_HEADER, resolutions));
            }
            builder
                .content_type("application/json")
                .body(reply.finish())
        }
        Ok(Outcome::Empty) => HttpResponse::NoContent().finish(),
        Err(error) => refusal(&error, None),
    }
}

/// The body of a form, empty when the request carries none.
async fn form_body(
    request: &HttpRequest,
    payload: Payload,
    bytes_max: usize,
) -> Result<String, HttpResponse> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_form = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next())
        .is_some_and(|kind| {
            kind.trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !is_form || *request.method() == Method::GET {
        return Ok(String::new());
    }
    match payload.to_bytes_limited(bytes_max).await {
        Ok(Ok(body)) => Ok(String::from_utf8_lossy(&body).into_owned()),
        Ok(Err(error)) => {
            let text = format!("error parsing form values: {error}");
            Err(refusal(&ApiError::bad_data(text), None))
        }
        Err(_limit) => {
            let text = format!(
                "form body exceeds the limit of {bytes_max} bytes: send a shorter query or raise the limit"
            );
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Err(refusal(&ApiError::bad_data(text), Some(status)))
        }
    }
}

/// An error envelope.
pub(super) fn refusal(error: &ApiError, status: Option<StatusCode>) -> HttpResponse {
    let mut out = b"{\"status\":\"error\",\"errorType\":".to_vec();
    push_text(&mut out, error.error_type.as_str());
    out.extend_from_slice(b",\"error\":");
    push_text(&mut out, &error.text);
    out.push(b'}');
    HttpResponse::build(status.unwrap_or(error.error_type.status()))
        .content_type("application/json")
        .body(out)
}

/// A line of text, with the headers Go's `http.Error` sets.
pub(super) fn plain(status: StatusCode, text: &str) -> HttpResponse {
    plain_builder(status).body(text.to_owned())
}

pub(super) fn plain_builder(status: StatusCode) -> HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    builder
        .content_type(PLAIN_TEXT)
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    builder
}

/// The answer of a server that is not ready.
pub(super) fn unavailable(readiness: Readiness) -> HttpResponse {
    let is_stopping = if readiness == Readiness::Stopping {
        "true"
    } else {
        "false"
    };
    HttpResponse::ServiceUnavailable()
        .content_type(PLAIN_TEXT)
        .insert_header(("X-Prometheus-Stopping", is_stopping))
        .body("Service Unavailable")
}

/// The headers browsers ask for; `Vary` whatever they ask.
pub(super) fn cors_headers(headers: &HeaderMap, allowed: &str) -> Vec<(HeaderName, HeaderValue)> {
    let mut out = vec![(header::VARY, HeaderValue::from_static("Origin"))];
    let Some(origin) = headers.get(header::ORIGIN) else {
        return out;
    };
    let text = origin.to_str().unwrap_or_default();
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Accept, Authorization, Content-Type, Origin",
        ),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        out.push((name, HeaderValue::from_static(value)));
    }
    if allowed == ".*" {
        let any = HeaderValue::from_static("*");
        out.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, any));
    } else if compile_anchored(allowed).is_ok_and(|pattern| pattern.is_match(text)) {
        out.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
    }
    out
}

/// Squeezes `body` with a pause after every portion, for the worker has other connections, and the client may be gone.
async fn write_in_portions(encoder: &mut impl Write, body: BoxBody) -> std::io::Result<()> {
    let mut body = std::pin::pin!(body);
    while let Some(piece) = poll_fn(|context| body.as_mut().poll_next(context)).await {
        let piece = piece.map_err(|error| std::io::Error::other(error.to_string()))?;
        for portion in piece.chunks(PORTION_BYTES) {
            encoder.write_all(portion)?;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// The response in the first encoding of the list that is known here.
async fn compressed(request: &HttpRequest, mut response: HttpResponse) -> HttpResponse {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let accepted = request
        .headers()
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let chosen = accepted.split(',').find_map(|clause| {
        let (name, weight) = clause.split_once(';').unwrap_or((clause, ""));
        let is_refused = matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        match name.trim() {
            "gzip" if !is_refused => Some("gzip"),
            "deflate" if !is_refused => Some("deflate"),
            _ => None,
        }
    });
    let Some(encoding) = chosen.filter(|_| response.status() != StatusCode::NO_CONTENT) else {
        return response;
    };
    let (head, body) = response.into_parts();
    let squeezed = match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            let written = write_in_portions(&mut encoder, body).await;
            written.and_then(|()| encoder.finish())
        }
        _ => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            let written = write_in_portions(&mut encoder, body).await;
            written.and_then(|()| encoder.finish())
        }
    };
    let squeezed = match squeezed {
        Ok(squeezed) => squeezed,
        // Writing into memory does not fail; should it, the client is told rather than given half an answer.
        Err(error) => {
            let text = format!("the answer could not be compressed: {error}");
            return refusal(&ApiError::new(ErrorType::Internal, text), None);
        }
    };
    let mut response = head.set_body(BoxBody::new(squeezed));
    let value = HeaderValue::from_static(encoding);
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, value);
    response
}
