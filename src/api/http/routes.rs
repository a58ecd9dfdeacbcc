//! Which path is whose.

use actix_web::dev::Server;
use actix_web::http::{Method, StatusCode, header};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Resource};
use std::net::TcpListener;

use crate::api::http::call::{Call, Outcome, answer, cors_headers, plain, plain_builder};
use crate::api::http::error::ApiError;
use crate::api::http::state::HttpState;
use crate::api::http::{
    admin, blocks, duties, exemplars, labels, manage, query, status, targets, write,
};

/// Serves on `listener` with `workers` threads until the server is stopped. Signals are the caller's business.
///
/// A client that closes its side of the connection is taken to be gone: its query is canceled at once.
pub fn serve(state: HttpState, listener: TcpListener, workers: usize) -> std::io::Result<Server> {
    let state = web::Data::new(state);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::clone(&state))
            .configure(routes)
            .default_service(web::to(not_found))
    })
    .workers(workers)
    .disable_signals()
    // The end of an answer does not wait for its beginning to be acknowledged.
    .tcp_nodelay(true)
    .h1_allow_half_closed(false)
    .listen(listener)?
    .run();
    Ok(server)
}

/// All paths. The app must hold `web::Data<HttpState>`.
pub fn routes(config: &mut ServiceConfig) {
    config.service(api()).configure(management);
}

fn api() -> actix_web::Scope {
    web::scope("/api/v1")
        .service(form("/query", query::instant))
        .service(form("/query_range", query::range))
        .service(form("/query_explain", query::explain_instant))
        .service(form("/query_range_explain", query::explain_range))
        .service(form("/query_exemplars", exemplars::exemplars))
        .service(form("/format_query", query::format))
        .service(form("/parse_query", query::parse))
        .service(form("/labels", labels::names))
        .service(get("/label/{name}/values", labels::values))
        .service(form("/series", labels::series))
        .service(get("/metadata", targets::metadata))
        .service(get("/targets", targets::targets))
        .service(get("/targets/metadata", targets::target_metadata))
        .service(get("/scrape_pools", targets::scrape_pools))
        .service(get("/alertmanagers", targets::alertmanagers))
        .service(get("/rules", targets::rules))
        .service(get("/alerts", targets::alerts))
        .service(get("/status/config", status::config))
        .service(get("/status/flags", status::flags))
        .service(get("/status/runtimeinfo", status::runtime))
        .service(get("/status/buildinfo", status::build))
        .service(get("/status/tsdb", status::tsdb))
        .service(get("/status/duties", duties::duties))
        .service(
            bounded("/status/walreplay", "GET, OPTIONS").route(web::get().to(manage::wal_replay)),
        )
        .service(get("/features", status::features))
        .service(get("/blocks", blocks::blocks))
        .service(command("/blocks/mark", blocks::mark))
        .service(command("/admin/tsdb/delete_series", admin::delete_series))
        .service(command(
            "/admin/tsdb/clean_tombstones",
            admin::clean_tombstones,
        ))
        .service(command("/admin/tsdb/snapshot", admin::snapshot))
        .service(bounded("/write", "OPTIONS, POST").route(web::post().to(write::write)))
        .service(bounded("/receive", "OPTIONS, POST").route(web::post().to(write::write)))
        .default_service(web::to(unknown))
}

fn management(config: &mut ServiceConfig) {
    let probe = |path: &'static str| web::resource(path);
    config
        .service(web::resource("/").route(web::get().to(manage::landing)))
        .service(
            probe("/-/healthy")
                .route(web::get().to(manage::healthy))
                .route(web::head().to(manage::healthy)),
        )
        .service(
            probe("/-/ready")
                .route(web::get().to(manage::ready))
                .route(web::head().to(manage::ready)),
        )
        .service(
            web::resource("/-/reload")
                .route(web::post().to(manage::reload))
                .route(web::put().to(manage::reload))
                .default_service(web::to(manage::reload_refused)),
        )
        .service(web::resource("/metrics").route(web::get().to(manage::metrics)))
        .service(web::resource("/version").route(web::get().to(manage::version)));
}

/// An endpoint for GET.
fn get<F, Fut>(path: &'static str, handler: F) -> Resource
where
    F: Fn(Call) -> Fut + Copy + 'static,
    Fut: Future<Output = Result<Outcome, ApiError>> + 'static,
{
    bounded(path, "GET, OPTIONS").route(
        web::get()
            .to(move |request: HttpRequest, payload: Payload| answer(request, payload, handler)),
    )
}

/// An endpoint for GET and for POST with a form.
fn form<F, Fut>(path: &'static str, handler: F) -> Resource
where
    F: Fn(Call) -> Fut + Copy + 'static,
    Fut: Future<Output = Result<Outcome, ApiError>> + 'static,
{
    bounded(path, "GET, OPTIONS, POST")
        .route(
            web::get().to(move |request: HttpRequest, payload: Payload| {
                answer(request, payload, handler)
            }),
        )
        .route(
            web::post().to(move |request: HttpRequest, payload: Payload| {
                answer(request, payload, handler)
            }),
        )
}

/// An endpoint for POST and PUT.
fn command<F, Fut>(path: &'static str, handler: F) -> Resource
where
    F: Fn(Call) -> Fut + Copy + 'static,
    Fut: Future<Output = Result<Outcome, ApiError>> + 'static,
{
    let run = move |request: HttpRequest, payload: Payload| answer(request, payload, handler);
    bounded(path, "OPTIONS, POST, PUT")
        .route(web::post().to(run))
        .route(web::put().to(run))
}

/// A path that answers OPTIONS, and refuses methods that are not `allowed`.
fn bounded(path: &'static str, allowed: &'static str) -> Resource {
    web::resource(path)
        .route(web::route().method(Method::OPTIONS).to(preflight))
        .default_service(web::to(move || async move {
            plain_builder(StatusCode::METHOD_NOT_ALLOWED)
                .insert_header((header::ALLOW, allowed))
                .body("Method Not Allowed\n")
        }))
}

async fn preflight(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    let mut response = HttpResponse::NoContent().finish();
    for (name, value) in cors_headers(request.headers(), &state.settings.cors_origin) {
        response.headers_mut().append(name, value);
    }
    response
}

async fn unknown(request: HttpRequest, state: web::Data<HttpState>) -> HttpResponse {
    if *request.method() == Method::OPTIONS {
        return preflight(request, state).await;
    }
    not_found().await
}

/// The answer to a path that is nobody's.
pub async fn not_found() -> HttpResponse {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}
