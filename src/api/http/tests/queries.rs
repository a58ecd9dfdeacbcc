//! Queries, labels, series.

use std::io::Read;

use actix_web::test::TestRequest;
use flate2::read::{GzDecoder, ZlibDecoder};

use crate::api::http::StatsDetail;
use crate::api::http::tests::fake::Fake;
use crate::api::http::tests::{get, ok, refused, said, send};
use crate::foundation::cancel::CancelReason;
use crate::model::Resolution;
use crate::storage::ResolutionWish;

const VECTOR: &str = "{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__name__\":\"a\",\"job\":\"<a>\"},\"value\":[1.500,\"1\"]},\
                      {\"metric\":{\"__name__\":\"b\",\"job\":\"<a>\"},\"value\":[1.500,\"0.5\"]}]}";

#[actix_web::test]
async fn an_instant_query_answers_to_the_byte() {
    let fake = Fake::default();
    assert_eq!(said(&fake, "/api/v1/query?query=up").await, ok(VECTOR));
    let asked = fake.memory.instant.lock().take().unwrap();
    assert_eq!(
        (asked.text.as_str(), asked.t),
        ("up", 1_500),
        "now by default"
    );
    assert_eq!(
        said(&fake, "/api/v1/query?query=scalar").await,
        ok("{\"resultType\":\"scalar\",\"result\":[1.5,\"2\"]}")
    );
    let stats = get(&fake, "/api/v1/query?query=scalar&stats=true").await;
    assert!(
        stats
            .text()
            .contains(",\"stats\":{\"timings\":{\"evalTotalTime\":0,")
    );
}

#[actix_web::test]
async fn a_form_in_a_body_is_read_before_the_query_string() {
    let fake = Fake::default();
    let request = TestRequest::post()
        .uri("/api/v1/query?query=ignored&time=7")
        .insert_header(("content-type", "application/x-www-form-urlencoded"))
        .set_payload("query=a%2Bb&stats=all&timeout=1m&lookback_delta=30&dedup=false&partial_response=1&max_source_resolution=5m&replicaLabels[]=r");
    assert_eq!(send(&fake, request).await.status, 200);
    let asked = fake.memory.instant.lock().take().unwrap();
    assert_eq!((asked.text.as_str(), asked.t), ("a+b", 7_000));
    let params = asked.params;
    assert_eq!(params.stats, StatsDetail::PerStep);
    assert_eq!(
        (params.timeout_ms, params.lookback_ms),
        (Some(60_000), Some(30_000))
    );
    assert_eq!(
        (params.dedup, params.partial_response),
        (Some(false), Some(true))
    );
    let five_minutes = ResolutionWish::AtMost(Resolution::FiveMinutes);
    assert_eq!(params.resolution, Some(five_minutes));
    assert_eq!(params.replica_labels, ["r"]);
}

#[actix_web::test]
async fn a_form_over_the_limit_is_refused_with_the_limit() {
    let mut fake = Fake::default();
    fake.settings.form_bytes_max = 10;
    let request = TestRequest::post()
        .uri("/api/v1/query")
        .insert_header(("content-type", "application/x-www-form-urlencoded"))
        .set_payload("query=aaaaaaaaaaaaaa");
    let answer = send(&fake, request).await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("exceeds the limit of 10 bytes"),
        "{}",
        answer.text()
    );
}

#[actix_web::test]
async fn a_range_query_answers_to_the_byte() {
    let fake = Fake::default();
    assert_eq!(
        said(
            &fake,
            "/api/v1/query_range?query=up&start=1&end=2.5&step=500ms"
        )
        .await,
        ok(
            "{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"job\":\"x\"},\"values\":[[1,\"1\"],[2.500,\"NaN\"]]}]}"
        )
    );
    let asked = fake.memory.range.lock().take().unwrap();
    assert_eq!((asked.start, asked.end, asked.step_ms), (1_000, 2_500, 500));
}

#[actix_web::test]
async fn the_limit_cuts_series_and_says_so() {
    let fake = Fake::default();
    assert_eq!(
        said(&fake, "/api/v1/query?query=up&limit=1").await.1,
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__name__\":\"a\",\"job\":\"<a>\"},\
         \"value\":[1.500,\"1\"]}]},\"warnings\":[\"results truncated due to limit\"]}"
    );
    assert_eq!(
        said(&fake, "/api/v1/labels?limit=1").await.1,
        "{\"status\":\"success\",\"data\":[\"\\u003ca\\u003e\"],\"warnings\":[\"results truncated due to limit\"]}"
    );
    assert_eq!(
        said(&fake, "/api/v1/series?match[]=up&limit=1").await.1,
        "{\"status\":\"success\",\"data\":[{\"__name__\":\"a\"}],\"warnings\":[\"results truncated due to limit\"]}"
    );
    let asked = fake.memory.lookup.lock().take().unwrap().1;
    assert_eq!(asked.limit, 2, "one more shows that there is more");
}

#[actix_web::test]
async fn ten_warnings_are_shown_and_the_rest_is_counted() {
    let body = said(&Fake::default(), "/api/v1/query?query=remarks")
        .await
        .1;
    let expect = ",\"warnings\":[\"w00\",\"w01\",\"w02\",\"w03\",\"w04\",\"w05\",\"w06\",\"w07\",\"w08\",\"w09\",\
                  \"2 more warning annotations omitted\"],\"infos\":[\"i\\u003c\"]}";
    assert!(body.ends_with(expect), "{body}");
}

#[actix_web::test]
async fn every_kind_of_error_has_its_status() {
    let fake = Fake::default();
    for (query, status, text) in [
        ("execution", 422, "as execution as asked"),
        ("timeout", 503, "as timeout as asked"),
        ("canceled", 499, "as canceled as asked"),
        ("internal", 500, "as internal as asked"),
        ("unavailable", 500, "as unavailable as asked"),
    ] {
        let uri = format!("/api/v1/query?query={query}");
        assert_eq!(said(&fake, &uri).await, refused(status, query, text));
    }
    let expect = refused(
        400,
        "bad_data",
        "invalid parameter \\\"query\\\": as bad as asked",
    );
    assert_eq!(said(&fake, "/api/v1/query?query=bad").await, expect);
    let uri = "/api/v1/query_range?query=bad&start=0&end=1&step=1";
    assert_eq!(said(&fake, uri).await, expect);
}

#[actix_web::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let fake = Fake::default();
    let (status, body) = said(&fake, "/api/v1/query?query=panic").await;
    assert_eq!(status, 500);
    assert!(body.contains("\"errorType\":\"internal\""), "{body}");
    assert_eq!(said(&fake, "/api/v1/query?query=up").await.0, 200);
}

#[actix_web::test]
async fn a_timeout_that_is_over_is_a_timeout_unless_the_query_is_bad() {
    let fake = Fake::default();
    for timeout in ["0", "-1", "0.0000001"] {
        let uri = format!("/api/v1/query?query=up&timeout={timeout}");
        let expect = refused(503, "timeout", "query timed out in query queue");
        assert_eq!(said(&fake, &uri).await, expect, "{timeout}");
    }
    assert_eq!(said(&fake, "/api/v1/query?query=&timeout=0").await.0, 400);
}

#[actix_web::test]
async fn a_dropped_request_raises_the_flag() {
    let fake = Fake::default();
    let asking = get(&fake, "/api/v1/query?query=forever");
    let late = std::time::Duration::from_millis(20);
    assert!(actix_web::rt::time::timeout(late, asking).await.is_err());
    let cancel = fake.memory.instant.lock().take().unwrap().params.cancel;
    assert_eq!(cancel.reason(), Some(CancelReason::Canceled));
}

#[actix_web::test]
async fn labels_values_and_series_are_lists() {
    let fake = Fake::default();
    assert_eq!(
        said(&fake, "/api/v1/labels").await,
        ok("[\"\\u003ca\\u003e\",\"b\"]")
    );
    let uri = "/api/v1/label/U__k_e4_se/values?match[]=up&match[]=down&start=1&end=2";
    assert_eq!(said(&fake, uri).await.0, 200);
    let (name, asked) = fake.memory.lookup.lock().take().unwrap();
    assert_eq!(
        (name.as_str(), asked.matcher_sets.len(), asked.limit),
        ("käse", 2, 0)
    );
    assert_eq!((asked.interval.min, asked.interval.max), (1_000, 2_000));
    said(&fake, "/api/v1/label/http.status%2Fcode/values").await;
    assert_eq!(
        fake.memory.lookup.lock().take().unwrap().0,
        "http.status/code"
    );
    assert_eq!(
        said(&fake, "/api/v1/series?match[]=up").await,
        ok("[{\"__name__\":\"a\"},{\"__name__\":\"b\"}]")
    );
}

#[actix_web::test]
async fn expressions_are_laid_out_and_taken_apart() {
    let fake = Fake::default();
    assert_eq!(
        said(&fake, "/api/v1/format_query?query=a%2Bb").await,
        ok("\"a + b\"")
    );
    let (status, body) = said(&fake, "/api/v1/parse_query?query=a%3C1").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"op\":\"\\u003c\""), "{body}");
    assert_eq!(said(&fake, "/api/v1/parse_query?query=a%2B").await.0, 400);
    for (path, kind) in [
        ("query_explain?query=up", "instant"),
        ("query_range_explain?query=up&start=0&end=9&step=1", "range"),
    ] {
        assert_eq!(
            said(&fake, &format!("/api/v1/{path}")).await,
            ok(&format!(
                "{{\"name\":\"{kind}\",\"children\":[{{\"name\":\"select #0 up\",\"estimatedSeries\":3}}]}}"
            ))
        );
    }
    assert_eq!(
        said(
            &fake,
            "/api/v1/query_exemplars?query=rate(a[5m])%20%2B%20sum%20by%20(x)%20(b)&start=1.5&end=2"
        )
        .await,
        ok(
            "[{\"seriesLabels\":{\"__name__\":\"<up>\",\"asked\":\"a b\"},\"exemplars\":[\
             {\"labels\":{\"trace_id\":\"\\\"x\"},\"value\":\"0.5\",\"timestamp\":1.500},\
             {\"labels\":{},\"value\":\"+Inf\",\"timestamp\":2}]}]"
        )
    );
    assert_eq!(
        said(&fake, "/api/v1/query_exemplars?query=1").await,
        (204, String::new())
    );
}

#[actix_web::test]
async fn bodies_come_in_the_first_known_encoding() {
    let fake = Fake::default();
    let plain = get(&fake, "/api/v1/query?query=up").await;
    assert_eq!(plain.header("vary"), ["Origin", "Accept-Encoding"]);
    for (accepted, expect) in [
        ("gzip", "gzip"),
        ("deflate, gzip", "deflate"),
        ("br, gzip;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
    ] {
        let request = TestRequest::get()
            .uri("/api/v1/query?query=up")
            .insert_header(("accept-encoding", accepted));
        let answer = send(&fake, request).await;
        assert_eq!(answer.header("content-encoding"), [expect], "{accepted}");
        let mut unfolded = Vec::new();
        if expect == "gzip" {
            GzDecoder::new(&answer.body[..])
                .read_to_end(&mut unfolded)
                .unwrap();
        } else {
            ZlibDecoder::new(&answer.body[..])
                .read_to_end(&mut unfolded)
                .unwrap();
        }
        assert_eq!(unfolded, plain.body);
    }
}

#[actix_web::test]
async fn browsers_are_let_in_by_origin() {
    let mut fake = Fake::default();
    let ask = || {
        TestRequest::get()
            .uri("/api/v1/labels")
            .insert_header(("origin", "https://a.example"))
    };
    let answer = send(&fake, ask()).await;
    assert_eq!(answer.header("access-control-allow-origin"), ["*"]);
    assert_eq!(answer.header("access-control-expose-headers"), ["Date"]);
    fake.settings.cors_origin = "https://(a|b)[.]example".to_owned();
    let answer = send(&fake, ask()).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        ["https://a.example"]
    );
    fake.settings.cors_origin = "https://c[.]example".to_owned();
    assert!(
        send(&fake, ask())
            .await
            .header("access-control-allow-origin")
            .is_empty()
    );
    let preflight = TestRequest::default()
        .method(actix_web::http::Method::OPTIONS)
        .uri("/api/v1/anything")
        .insert_header(("origin", "x"));
    let answer = send(&fake, preflight).await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-methods"),
        ["GET, POST, OPTIONS"]
    );
}
