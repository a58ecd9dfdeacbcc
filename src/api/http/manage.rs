//! `/-/healthy`, `/-/ready`, `/-/reload`, `/metrics`, `/version`, and the page at `/`.

use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::api::http::call::unavailable;
use crate::api::http::state::{HttpState, Readiness, WalReplay};
use crate::api::http::status::{push_build, push_wal_replay};

const TEXT: &str = "text/plain; charset=utf-8";

/// The texts are Prometheus', because probes look for them.
pub(super) async fn healthy() -> HttpResponse {
    text(StatusCode::OK, "Prometheus Server is Healthy.\n")
}

pub(super) async fn ready(state: web::Data<HttpState>) -> HttpResponse {
    match state.status.readiness() {
        Readiness::Ready => text(StatusCode::OK, "Prometheus Server is Ready.\n"),
        readiness @ (Readiness::Starting | Readiness::Replaying | Readiness::Stopping) => {
            let reason = not_ready(readiness, state.status.wal_replay());
            unavailable(readiness).map_body(|_, _| BoxBody::new(reason))
        }
    }
}

/// Prometheus' words, then why.
fn not_ready(readiness: Readiness, replay: WalReplay) -> String {
    let reason = match readiness {
        Readiness::Stopping => "the appliance is stopping".to_owned(),
        Readiness::Starting | Readiness::Ready => "the appliance is starting".to_owned(),
        Readiness::Replaying => how_far(replay),
    };
    format!("Service Unavailable: {reason}\n")
}

pub(super) async fn reload(state: web::Data<HttpState>) -> HttpResponse {
    if !state.settings.has_lifecycle {
        return text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.\n");
    }
    match state.status.reload().await {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(reason) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("failed to reload config: {reason}\n"),
        ),
    }
}

pub(super) async fn reload_refused() -> HttpResponse {
    text(
        StatusCode::METHOD_NOT_ALLOWED,
        "Only POST or PUT requests allowed",
    )
}

pub(super) async fn metrics(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    let (exposition, content_type) = state.status.metrics(accept.unwrap_or_default());
    HttpResponse::Ok()
        .content_type(content_type)
        .body(exposition)
}

pub(super) async fn version(state: web::Data<HttpState>) -> HttpResponse {
    let mut out = Vec::new();
    push_build(&mut out, &state.status.build());
    HttpResponse::Ok().content_type(TEXT).body(out)
}

pub(super) async fn wal_replay(state: web::Data<HttpState>) -> HttpResponse {
    let mut out = Vec::new();
    push_wal_replay(&mut out, state.status.wal_replay());
    HttpResponse::Ok()
        .content_type("application/json")
        .body(out)
}

fn how_far(replay: WalReplay) -> String {
    let WalReplay {
        n_read, n_segments, ..
    } = replay;
    format!(
        "the log is being replayed: {n_read} of {n_segments} segments are read; samples are taken, and answers say what they cannot have yet"
    )
}

/// The endpoints, for whoever comes with a browser; while the log is replayed, how far that is.
pub(super) async fn landing(state: web::Data<HttpState>) -> HttpResponse {
    match state.status.readiness() {
        Readiness::Replaying => {
            let mut how_far = how_far(state.status.wal_replay());
            if let Some(first) = how_far.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            text(StatusCode::OK, &format!("{how_far}.\n\n{LANDING}"))
        }
        Readiness::Starting | Readiness::Ready | Readiness::Stopping => {
            text(StatusCode::OK, LANDING)
        }
    }
}

const LANDING: &str = "Gauntlet answers the Prometheus HTTP API.

/api/v1/query                 an expression at one time            ?query=up
/api/v1/query_range           an expression over a range           ?query=up&start=…&end=…&step=…
/api/v1/query_exemplars       exemplars of an expression           ?query=up
/api/v1/format_query          an expression, laid out              ?query=sum(up)
/api/v1/parse_query           an expression as a tree              ?query=sum(up)
/api/v1/labels                names of labels                      ?match[]=up
/api/v1/label/NAME/values     values of a label                    ?match[]=up
/api/v1/series                label sets of series                 ?match[]=up
/api/v1/metadata              what metrics are                     ?metric=up
/api/v1/targets               what is scraped                      ?state=active
/api/v1/targets/metadata      what targets say about metrics       ?metric=up
/api/v1/scrape_pools          names of scrape pools
/api/v1/rules  /api/v1/alerts  /api/v1/alertmanagers
/api/v1/status/config  /flags  /runtimeinfo  /buildinfo  /tsdb  /walreplay
/api/v1/status/duties         background jobs: how they stand, how far they are, when they will be done
/api/v1/features              what is switched on
/api/v1/blocks                blocks of the bucket, as Thanos' viewer asks   ?view=loaded
/api/v1/blocks/mark           POST: mark one, where http.admin_api is set    ?id=…&action=DELETION&detail=…
/api/v1/write                 remote write 1.0 (also /api/v1/receive)
/api/v1/admin/tsdb/delete_series  clean_tombstones  snapshot    POST or PUT, where http.admin_api is set
/metrics                      own metrics
/version                      build
/-/healthy  /-/ready          probes
/-/reload                     POST or PUT: read the configuration again
";

fn text(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type(TEXT)
        .body(text.to_owned())
}
