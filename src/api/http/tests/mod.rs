//! Endpoints over ports made for the test.

mod columns;
mod fake;
mod management;
mod operators;
mod queries;
mod writes;

use actix_web::dev::{Service, ServiceResponse};
use actix_web::test::{self, TestRequest};
use actix_web::{App, web};

use crate::api::http::tests::fake::Fake;
use crate::api::http::{not_found, routes};

/// A response, read to its end.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(here, _)| here == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// Sends one request to all routes over `fake`.
async fn send(fake: &Fake, request: TestRequest) -> Answer {
    let app = App::new()
        .app_data(web::Data::new(fake.state()))
        .configure(routes)
        .default_service(web::to(not_found));
    let service = test::init_service(app).await;
    let response: ServiceResponse = service.call(request.to_request()).await.unwrap();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let status = response.status().as_u16();
    let body = test::read_body(response).await.to_vec();
    Answer {
        status,
        headers,
        body,
    }
}

async fn get(fake: &Fake, uri: &str) -> Answer {
    send(fake, TestRequest::get().uri(uri)).await
}

/// Status and body of a GET.
async fn said(fake: &Fake, uri: &str) -> (u16, String) {
    let answer = get(fake, uri).await;
    (answer.status, answer.text().to_owned())
}

fn ok(data: &str) -> (u16, String) {
    (200, format!("{{\"status\":\"success\",\"data\":{data}}}"))
}

fn refused(status: u16, error_type: &str, error: &str) -> (u16, String) {
    let body =
        format!("{{\"status\":\"error\",\"errorType\":\"{error_type}\",\"error\":\"{error}\"}}");
    (status, body)
}
