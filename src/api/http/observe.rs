//! Around every request: it is counted and timed, and a panic becomes an answer.

use std::panic::AssertUnwindSafe;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use futures::FutureExt;
use tokio::time::Instant;

use crate::foundation::metrics::{Counters, Histograms, Metrics, Pairs};

/// What is counted of requests, under the names Prometheus gives it.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Counters,
    seconds: Histograms,
}

impl HttpMetrics {
    /// Counts into `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.counters(
                "prometheus_http_requests_total",
                "HTTP requests by path and status code.",
            ),
            seconds: metrics.seconds_by(
                "prometheus_http_request_duration_seconds",
                "Time from a request to the head of its answer, by path.",
            ),
        }
    }

    fn note(&self, handler: String, code: u16, started: Instant) {
        let by_handler: Pairs = vec![("handler", handler.clone())];
        let seconds = started.elapsed().as_secs_f64();
        self.seconds.get_or_create(&by_handler).observe(seconds);
        let by_code: Pairs = vec![("handler", handler), ("code", code.to_string())];
        self.requests.get_or_create(&by_code).inc();
    }
}

/// The middleware; the app must hold `web::Data<HttpMetrics>`.
///
/// Without it a panicking handler would close the connection and say nothing.
pub async fn observe<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let started = Instant::now();
    let metrics = request.app_data::<web::Data<HttpMetrics>>().cloned();
    // A path nobody serves is the client's invention and must not become a label.
    let handler = request.match_pattern().unwrap_or_else(|| "none".to_owned());
    let result = AssertUnwindSafe(next.call(request)).catch_unwind().await;
    let result = result.unwrap_or_else(|_logged_by_the_panic_hook| Err(panicked()));
    let code = match &result {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    if let Some(metrics) = metrics {
        metrics.note(handler, code.as_u16(), started);
    }
    result
}

fn panicked() -> Error {
    let body = r#"{"status":"error","errorType":"internal","error":"the server has a fault; its log says where"}"#;
    let response = HttpResponse::InternalServerError()
        .content_type("application/json")
        .body(body);
    InternalError::from_response("panic", response).into()
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::{App, test};

    use super::*;
    use crate::foundation::metrics::Form;

    async fn faulty() -> HttpResponse {
        panic!("on purpose")
    }

    #[actix_web::test]
    async fn a_panic_is_answered_with_500_and_counted_and_the_next_request_is_served() {
        let metrics = Metrics::new();
        let counted = web::Data::new(HttpMetrics::new(&metrics));
        let app = App::new()
            .app_data(counted)
            .wrap(from_fn(observe))
            .route("/faulty", web::get().to(faulty))
            .route("/fine/{name}", web::get().to(HttpResponse::Ok));
        let app = test::init_service(app).await;
        let get = |path| test::TestRequest::get().uri(path).to_request();
        // The response of an error is made where the server writes it.
        let error = test::try_call_service(&app, get("/faulty"))
            .await
            .unwrap_err();
        assert_eq!(error.error_response().status(), 500);
        assert_eq!(test::call_service(&app, get("/fine/a")).await.status(), 200);
        assert_eq!(test::call_service(&app, get("/who")).await.status(), 404);
        let text = metrics.exposition(Form::Text);
        for line in [
            r#"prometheus_http_requests_total{handler="/faulty",code="500"} 1"#,
            r#"prometheus_http_requests_total{handler="/fine/{name}",code="200"} 1"#,
            r#"prometheus_http_requests_total{handler="none",code="404"} 1"#,
            r#"prometheus_http_request_duration_seconds_count{handler="/faulty"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
