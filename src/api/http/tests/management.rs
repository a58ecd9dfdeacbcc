//! Status, targets, probes, unknown paths.

use actix_web::http::Method;
use actix_web::test::TestRequest;

use crate::api::http::Readiness;
use crate::api::http::tests::fake::Fake;
use crate::api::http::tests::{get, ok, refused, said, send};

#[actix_web::test]
async fn targets_are_listed_by_state_and_pool() {
    let fake = Fake::default();
    let active = "{\"discoveredLabels\":{\"__address__\":\"h:1\"},\"labels\":{\"instance\":\"h:1\"},\"scrapePool\":\"node\",\
                  \"scrapeUrl\":\"http://h:1/metrics\",\"globalUrl\":\"http://h:1/metrics\",\
                  \"lastError\":\"it's \\u003cdown\\u003e\",\"lastScrape\":\"1970-01-01T00:00:01.5Z\",\
                  \"lastScrapeDuration\":0.25,\"health\":\"down\",\"scrapeInterval\":\"15s\",\"scrapeTimeout\":\"10s\"}";
    let dropped = "{\"discoveredLabels\":{\"__address__\":\"h:2\"},\"scrapePool\":\"gone\"}";
    let view = |active: &str, dropped: &str, counts: &str| {
        ok(&format!(
            "{{\"activeTargets\":[{active}],\"droppedTargets\":[{dropped}],\"droppedTargetCounts\":{{{counts}}}}}"
        ))
    };
    let counts = "\"gone\":1,\"node\":0";
    for (query, expect) in [
        ("", view(active, dropped, counts)),
        ("?state=any", view(active, dropped, counts)),
        ("?state=Active", view(active, "", "")),
        ("?state=dropped", view("", dropped, counts)),
        ("?scrapePool=node", view(active, "", "\"node\":0")),
    ] {
        assert_eq!(
            said(&fake, &format!("/api/v1/targets{query}")).await,
            expect,
            "{query}"
        );
    }
    assert_eq!(
        said(&fake, "/api/v1/scrape_pools").await,
        ok("{\"scrapePools\":[\"gone\",\"node\"]}")
    );
}

#[actix_web::test]
async fn metadata_is_listed_by_metric_and_by_target() {
    let fake = Fake::default();
    let up = "{\"type\":\"gauge\",\"help\":\"About up.\",\"unit\":\"\"}";
    let down = "{\"type\":\"gauge\",\"help\":\"About down.\",\"unit\":\"\"}";
    for (query, expect) in [
        ("", format!("{{\"down\":[{down}],\"up\":[{up}]}}")),
        ("?metric=up", format!("{{\"up\":[{up}]}}")),
        ("?limit=1", format!("{{\"down\":[{down}]}}")),
        ("?limit=0", "{}".to_owned()),
        ("?metric=nope", "{}".to_owned()),
    ] {
        assert_eq!(
            said(&fake, &format!("/api/v1/metadata{query}")).await,
            ok(&expect)
        );
    }
    assert_eq!(
        said(
            &fake,
            "/api/v1/targets/metadata?metric=up&match_target=%7Binstance=%22h:2%22%7D"
        )
        .await,
        ok(
            "[{\"target\":{\"instance\":\"h:2\"},\"type\":\"gauge\",\"help\":\"About up.\",\"unit\":\"\"}]"
        )
    );
    let of = |instance: &str, metric: &str| {
        format!(
            "{{\"target\":{{\"instance\":\"{instance}\"}},\"metric\":\"{metric}\",\
             \"type\":\"gauge\",\"help\":\"About {metric}.\",\"unit\":\"\"}}"
        )
    };
    let first = format!("{},{}", of("h:1", "down"), of("h:1", "up"));
    let all = format!("{first},{}", of("h:2", "up"));
    for (limit, expect) in [
        ("", &all),
        ("-1", &all),
        ("3", &all),
        ("2", &first),
        ("1", &first),
    ] {
        let path = format!("/api/v1/targets/metadata?limit={limit}");
        assert_eq!(
            said(&fake, &path).await,
            ok(&format!("[{expect}]")),
            "{limit}"
        );
    }
    let none = said(&fake, "/api/v1/targets/metadata?limit=0").await;
    assert_eq!(none, ok("[]"));
}

#[actix_web::test]
async fn status_pages_have_prometheus_fields() {
    let fake = Fake::default();
    for (path, expect) in [
        ("status/config", "{\"yaml\":\"global: {}\\n\"}"),
        ("status/flags", "{\"a\":\"1\",\"b\":\"2\"}"),
        (
            "status/runtimeinfo",
            "{\"startTime\":\"1970-01-01T00:00:01Z\",\"CWD\":\"/\",\"hostname\":\"h\",\
             \"serverTime\":\"1970-01-01T00:00:01.5Z\",\"reloadConfigSuccess\":true,\
             \"lastConfigTime\":\"1970-01-01T00:00:01.25Z\",\"corruptionCount\":0,\"goroutineCount\":3,\
             \"GOMAXPROCS\":2,\"GOMEMLIMIT\":0,\"GOGC\":\"\",\"GODEBUG\":\"\",\"storageRetention\":\"15d\"}",
        ),
        (
            "status/buildinfo",
            "{\"version\":\"3.14.0\",\"revision\":\"\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}",
        ),
        (
            "status/tsdb?limit=5",
            "{\"headStats\":{\"numSeries\":7,\"numLabelPairs\":0,\"chunkCount\":0,\"minTime\":0,\"maxTime\":9},\
             \"seriesCountByMetricName\":[{\"name\":\"up\",\"value\":5}],\"labelValueCountByLabelName\":[],\
             \"memoryInBytesByLabelName\":[],\"seriesCountByLabelValuePair\":[]}",
        ),
        (
            "status/walreplay",
            "{\"min\":1,\"max\":3,\"current\":2,\"state\":\"in progress\"}",
        ),
        ("features", "{\"api\":{\"admin\":false}}"),
        ("status/duties", DUTIES),
        ("rules?type=alert", "{\"groups\":[]}"),
        ("alerts", "{\"alerts\":[]}"),
        (
            "alertmanagers",
            "{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}",
        ),
    ] {
        assert_eq!(
            said(&fake, &format!("/api/v1/{path}")).await,
            ok(expect),
            "{path}"
        );
    }
    for limit in ["0", "x", "-1"] {
        let expect = refused(400, "bad_data", "limit must be a positive number");
        assert_eq!(
            said(&fake, &format!("/api/v1/status/tsdb?limit={limit}")).await,
            expect
        );
    }
    let expect = refused(400, "bad_data", "limit must not exceed 10000");
    assert_eq!(said(&fake, "/api/v1/status/tsdb?limit=10001").await, expect);
}

#[actix_web::test]
async fn a_server_that_is_not_ready_says_only_that_and_its_replay() {
    for (readiness, is_stopping, reason) in [
        (
            Readiness::Starting,
            "false",
            "Service Unavailable: the appliance is starting\n",
        ),
        (
            Readiness::Stopping,
            "true",
            "Service Unavailable: the appliance is stopping\n",
        ),
    ] {
        let fake = Fake {
            readiness,
            ..Fake::default()
        };
        for (path, text) in [
            ("/api/v1/query?query=up", "Service Unavailable"),
            ("/api/v1/status/tsdb", "Service Unavailable"),
            ("/-/ready", reason),
        ] {
            let answer = get(&fake, path).await;
            assert_eq!((answer.status, answer.text()), (503, text), "{path}");
            assert_eq!(answer.header("x-prometheus-stopping"), [is_stopping]);
        }
        let write = TestRequest::post().uri("/api/v1/write");
        assert_eq!(send(&fake, write).await.status, 503);
        for path in [
            "/-/healthy",
            "/api/v1/status/walreplay",
            "/metrics",
            "/version",
            "/",
        ] {
            assert_eq!(get(&fake, path).await.status, 200, "{path}");
        }
    }
}

#[actix_web::test]
async fn a_server_that_replays_its_log_serves_and_is_not_ready() {
    let fake = Fake {
        readiness: Readiness::Replaying,
        ..Fake::default()
    };
    let how_far = "he log is being replayed: 4 of 6 segments are read; samples are taken, and answers say what \
                   they cannot have yet";
    let answer = get(&fake, "/-/ready").await;
    let expect = format!("Service Unavailable: t{how_far}\n");
    assert_eq!((answer.status, answer.text()), (503, &*expect));
    assert_eq!(answer.header("x-prometheus-stopping"), ["false"]);
    let page = get(&fake, "/").await;
    assert!(page.text().starts_with(&format!("T{how_far}.\n\nGauntlet")));
    for path in [
        "/api/v1/query?query=up",
        "/api/v1/status/tsdb",
        "/api/v1/labels",
    ] {
        assert_eq!(get(&fake, path).await.status, 200, "{path}");
    }
    let write = TestRequest::post().uri("/api/v1/write");
    assert_ne!(send(&fake, write).await.status, 503);
}

#[actix_web::test]
async fn reload_takes_post_and_put_and_tells_what_is_wrong() {
    let mut fake = Fake::default();
    for method in [Method::POST, Method::PUT] {
        let request = TestRequest::default().method(method).uri("/-/reload");
        assert_eq!(send(&fake, request).await.status, 200);
    }
    let expect = (405, "Only POST or PUT requests allowed".to_owned());
    assert_eq!(said(&fake, "/-/reload").await, expect);
    *fake.memory.reload_error.lock() = Some("line 3: no such key".to_owned());
    let answer = send(&fake, TestRequest::post().uri("/-/reload")).await;
    assert_eq!(
        (answer.status, answer.text()),
        (500, "failed to reload config: line 3: no such key\n")
    );
    fake.settings.has_lifecycle = false;
    let answer = send(&fake, TestRequest::post().uri("/-/reload")).await;
    assert_eq!(
        (answer.status, answer.text()),
        (403, "Lifecycle API is not enabled.\n")
    );
}

#[actix_web::test]
async fn what_is_nobodys_is_404_and_what_is_not_allowed_is_405() {
    let fake = Fake::default();
    for path in ["/nope", "/api/v1/nope", "/api/v1", "/api/v2/query"] {
        let answer = get(&fake, path).await;
        assert_eq!(
            (answer.status, answer.text()),
            (404, "404 page not found\n"),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), ["nosniff"]);
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/api/v1/query", "GET, OPTIONS, POST"),
        (Method::POST, "/api/v1/status/config", "GET, OPTIONS"),
        (Method::GET, "/api/v1/write", "OPTIONS, POST"),
    ] {
        let answer = send(&fake, TestRequest::default().method(method).uri(path)).await;
        assert_eq!(
            (answer.status, answer.text()),
            (405, "Method Not Allowed\n"),
            "{path}"
        );
        assert_eq!(answer.header("allow"), [allowed]);
    }
}

#[actix_web::test]
async fn probes_metrics_and_the_landing_page_are_plain_text() {
    let fake = Fake::default();
    for (path, expect) in [
        ("/-/healthy", "Prometheus Server is Healthy.\n"),
        ("/-/ready", "Prometheus Server is Ready.\n"),
        ("/metrics", "up 1\n"),
    ] {
        let answer = get(&fake, path).await;
        assert_eq!((answer.status, answer.text()), (200, expect));
        assert!(answer.header("content-type")[0].starts_with("text/plain"));
    }
    let version = get(&fake, "/version").await;
    assert!(version.text().starts_with("{\"version\":\"3.14.0\","));
    assert!(get(&fake, "/").await.text().contains("/api/v1/query_range"));
    let head = TestRequest::default()
        .method(Method::HEAD)
        .uri("/-/healthy");
    assert_eq!(send(&fake, head).await.status, 200);
}

const DUTIES: &str = r#"{"duties":[{"name":"compact bucket blocks","state":"ok","since":"1970-01-01T00:00:01Z","nextReportBefore":"1970-01-01T00:00:02Z","progress":{"isRunning":true,"runningSince":"1970-01-01T00:01:00Z","worksOn":[{"what":"2 blocks of {a=\"b\"}","bytesDone":5,"bytes":9}],"blocksDone":1,"blocksLeft":2,"bytesDone":3,"bytesLeft":4,"secondsLeft":90,"estimatedEnd":"1970-01-01T00:01:32Z","lastEnd":"1970-01-01T00:00:50Z","lastMilliseconds":1500}},{"name":"ship blocks","state":"blocked","reason":"no bucket","whatToDo":"wait","since":"1970-01-01T00:00:01Z","nextReportBefore":"1970-01-01T00:00:02Z"}]}"#;
