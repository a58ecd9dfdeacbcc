//! What Prometheus scrapes is read here, and what fails its scrape is refused here.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use gauntlet::exposition::{MediaType, Parser, ParserOptions};
use serde_json::Value;

use crate::client::{Ask, send};
use crate::peer;

/// Text expositions, good and bad. What needs names in quotes is left out: the packaged Prometheus is older than they are.
const TEXT: &[&str] = &[
    "",
    "\n\n \t \n",
    "a 1\n",
    "a 1",
    "a\n",
    "a 1 2 3\n",
    "a{} 1\n",
    "a{b=\"c\"}1\n",
    "a { b = \"c\" , } 1\n",
    "a{b=\"c\",,} 1\n",
    "a{,} 1\n",
    "a{b=\"c\" d=\"e\"} 1\n",
    "a{b=\"c\nd\"} 1\n",
    "a{b=\"c\\\"\\\\\\n\\x\"} 1\n",
    "a{b=c} 1\n",
    "a{b} 1\n",
    "a{b=\"c} 1\n",
    "a{b=\"c\"}{d=\"e\"} 1\n",
    "a 1\r\n",
    "a 1 -5\n",
    "a 1 5.0\n",
    "a 1 99999999999999999999\n",
    "a 0x1p3\n",
    "a 0x10\n",
    "a 1_000\n",
    "a 1e400\n",
    "a 1e-400\n",
    "a -nan\n",
    "a nan\n",
    "a +Inf\n",
    "a infinity\n",
    "a .5\n",
    "a 5.\n",
    "a .\n",
    "a e5\n",
    "a +-1\n",
    "a 1 # {x=\"y\"} 1\n",
    "0a 1\n",
    "a.b 1\n",
    "a-b 1\n",
    "# comment\n#\n# \n#HELP\n# HELP\n",
    "# HELP a\n",
    "# HELP  \n",
    "# HELP 9 x\n",
    "# HELP a text \\n \\\\ more\n",
    "# HELP a one\n# HELP a two\n# TYPE a gauge\n# TYPE a counter\na 1\n",
    "#\tTYPE\ta gauge\n",
    "# TYPE a  gauge\n",
    "# TYPE a gauge \n",
    "# TYPE a\n",
    "# TYPE a unknown\n",
    "# TYPE a untyped\n",
    "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
    "a 1\n\u{0}junk ? ?\n",
    "a{b=\"\u{0}\"} 1\n",
    "a\u{0}{} 1\n",
    "a 1\n? 2\n",
    "a{b=\"é\"} 1\n",
];

/// OpenMetrics expositions, good and bad. A comma before the closing brace is left out: version 3 came to allow it.
const OPENMETRICS: &[&str] = &[
    "",
    "# EOF",
    "# EOF\n",
    "# EOF\n\n",
    "# EOF \n",
    "a 1\n",
    "a 1\n# EOF\n",
    "a 1\n# EOF\na 2\n",
    "\n# EOF\n",
    " a 1\n# EOF\n",
    "a  1\n# EOF\n",
    "a\t1\n# EOF\n",
    "a {} 1\n# EOF\n",
    "a{} 1\n# EOF\n",
    "a{b=\"c\"}1\n# EOF\n",
    "a{b=\"c\", d=\"e\"} 1\n# EOF\n",
    "a{b=\"c\"d=\"e\"} 1\n# EOF\n",
    "a{b=\"c\nd\"} 1\n# EOF\n",
    "a 1 1.5\n# EOF\n",
    "a 1 NaN\n# EOF\n",
    "a 1 x\n# EOF\n",
    "a 1 \n# EOF\n",
    "a 1 2 3\n# EOF\n",
    "# comment\n# EOF\n",
    "# TYPE a gauge\na 1\n# EOF\n",
    "# TYPE a untyped\n# EOF\n",
    "# TYPE a unknown\n# EOF\n",
    "# TYPE a stateset\n# EOF\n",
    "# TYPE a gaugehistogram\n# EOF\n",
    "# TYPE a\n# EOF\n",
    "# TYPE  a gauge\n# EOF\n",
    "# HELP a \n# EOF\n",
    "# HELP a\n# EOF\n",
    "# UNIT a_seconds seconds\n# EOF\n",
    "# UNIT a_seconds ms\n# EOF\n",
    "# UNIT aseconds seconds\n# EOF\n",
    "# UNIT a_seconds \n# EOF\n",
    "# TYPE a counter\na_total 1 # {id=\"x\"} 2 3\n# EOF\n",
    "# TYPE a counter\na_total 1 # {} 2\n# EOF\n",
    "# TYPE a counter\na_total 1 # {id=\"x\"}\n# EOF\n",
    "# TYPE a counter\na_total 1 # {id=\"x\"} 2 3 4\n# EOF\n",
    "# TYPE a counter\na_total 1 # {id=\"x\"} 2 Inf\n# EOF\n",
    "# TYPE a counter\na_total 1 #\n# EOF\n",
    "# TYPE a counter\na_total 1 1.5 # {id=\"x\"} 2\n# EOF\n",
];

fn content_type(media_type: MediaType) -> &'static str {
    match media_type {
        MediaType::Text => "text/plain; version=0.0.4",
        MediaType::OpenMetrics => "application/openmetrics-text; version=1.0.0",
        MediaType::Protobuf => "application/vnd.google.protobuf",
    }
}

fn cases() -> Vec<(MediaType, &'static str)> {
    let text = TEXT.iter().map(|input| (MediaType::Text, *input));
    let open = OPENMETRICS
        .iter()
        .map(|input| (MediaType::OpenMetrics, *input));
    text.chain(open).collect()
}

/// The first error of our parser.
fn our_error(media_type: MediaType, input: &str) -> Option<String> {
    let mut parser = Parser::new(input.as_bytes(), media_type, ParserOptions::default());
    loop {
        match parser.next_entry() {
            Ok(Some(_)) => (),
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
}

async fn case(number: web::Path<usize>) -> HttpResponse {
    match cases().get(*number) {
        Some((media_type, input)) => HttpResponse::Ok()
            .content_type(content_type(*media_type))
            .body(*input),
        None => HttpResponse::NotFound().finish(),
    }
}

/// One target a case; the path is the case's number.
fn config(port: u16) -> String {
    let mut out =
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: cases\n  static_configs:\n"
            .to_owned();
    for number in 0..cases().len() {
        out.push_str(&format!(
            "  - targets: ['127.0.0.1:{port}']\n    labels: {{__metrics_path__: /case/{number}, case: '{number}'}}\n"
        ));
    }
    out
}

/// Health and error of every target, once all were scraped.
async fn scraped(port: u16) -> Vec<(usize, bool, String)> {
    for _ in 0..100 {
        let reply = send(port, Ask::get("/api/v1/targets")).await.unwrap();
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        let targets = answer["data"]["activeTargets"].as_array().unwrap();
        if targets.len() == cases().len() && targets.iter().all(|one| one["health"] != "unknown") {
            return targets
                .iter()
                .map(|one| {
                    let number = one["labels"]["case"].as_str().unwrap().parse().unwrap();
                    let error = one["lastError"].as_str().unwrap().to_owned();
                    (number, one["health"] == "up", error)
                })
                .collect();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("Prometheus has not scraped every case after 20 s");
}

#[actix_web::test]
async fn an_exposition_is_taken_here_exactly_when_prometheus_takes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = HttpServer::new(|| App::new().route("/case/{number}", web::get().to(case)))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap();
    actix_web::rt::spawn(server.run());
    let Some(prometheus) = peer::start(&config(port)).await else {
        return;
    };
    let mut different = Vec::new();
    let (mut n_taken, mut n_refused) = (0, 0);
    for (number, is_up, error) in scraped(prometheus.port).await {
        let (media_type, input) = cases()[number];
        let ours = our_error(media_type, input);
        n_taken += usize::from(is_up);
        n_refused += usize::from(!is_up);
        if ours.is_none() != is_up {
            different.push(format!(
                "{media_type:?} {input:?}: theirs {error:?}, ours {ours:?}"
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(30 < n_taken && 30 < n_refused, "{n_taken} {n_refused}");
}
