//! What Prometheus refuses is refused here with the same status and the same bytes.

use crate::client::{Ask, send};
use crate::fake::{Empty, start};
use crate::peer;

/// Targets of bad requests, and of a few that are merely empty.
const BAD: &[&str] = &[
    "/api/v1/query",
    "/api/v1/query?query=",
    "/api/v1/query?query=%zz",
    "/api/v1/query?query=1;time=3",
    "/api/v1/query?query=1%3C2",
    "/api/v1/query?query=a%2B",
    "/api/v1/query?query=rate(up)",
    "/api/v1/query?query=up%7B",
    "/api/v1/query?query=nope(up)",
    "/api/v1/query?query=%7B%7D",
    "/api/v1/query?query=up&time=x",
    "/api/v1/query?query=up&time=2015-07-01",
    "/api/v1/query?query=up&timeout=x",
    "/api/v1/query?query=up&timeout=1e20",
    "/api/v1/query_range?query=up",
    "/api/v1/query_range?query=up&start=1",
    "/api/v1/query_range?query=up&start=1&end=0&step=1",
    "/api/v1/query_range?query=up&start=1&end=2&step=0",
    "/api/v1/query_range?query=up&start=1&end=2&step=-1",
    "/api/v1/query_range?query=up&start=1&end=2&step=abc",
    "/api/v1/query_range?query=up&start=1&end=2",
    "/api/v1/query_range?query=up&start=1&end=20000&step=1",
    "/api/v1/query_range?query=up&start=1&end=2&step=1&timeout=x",
    "/api/v1/query_exemplars",
    "/api/v1/query_exemplars?query=up&start=2&end=1",
    "/api/v1/query_exemplars?query=up&start=x",
    "/api/v1/query_exemplars?query=1",
    "/api/v1/query_exemplars?query=up",
    "/api/v1/format_query?query=a%2B",
    "/api/v1/labels?start=x",
    "/api/v1/labels?end=x",
    "/api/v1/labels?match[]=%7B",
    "/api/v1/labels?match[]=%7Ba=%22%22%7D",
    "/api/v1/label/job/values?start=x",
    "/api/v1/label/job/values?match[]=%7B",
    "/api/v1/series",
    "/api/v1/series?match[]=%7B%7D",
    "/api/v1/series?match[]=%7B",
    "/api/v1/series?match[]=up&start=x",
    "/api/v1/metadata?limit=x",
    "/api/v1/targets/metadata?limit=x",
    "/api/v1/targets/metadata?match_target=%7B",
    "/api/v1/rules?type=x",
    "/api/v1/rules",
    "/api/v1/alerts",
    "/api/v1/alertmanagers",
    "/api/v1/nope",
    "/nope",
    "/-/reload",
    "/-/healthy",
    "/-/ready",
];

/// An empty query has a place in version 2, which Debian packages, and none in version 3, which is spoken here.
const EMPTY_IN_2: &str = "1:1: parse error: no expression found in input";
const EMPTY_IN_3: &str = "unknown position: parse error: no expression found in input";

/// Other requests.
const OTHERS: &[Ask<'static>] = &[
    other("DELETE", "/api/v1/query", "", b""),
    other("PUT", "/api/v1/query?query=1", "", b""),
    other("POST", "/api/v1/status/config", "", b""),
    other("GET", "/api/v1/write", "", b""),
    other(
        "POST",
        "/api/v1/query",
        "Content-Type: application/json\r\n",
        b"{}",
    ),
    other("POST", "/api/v1/query", FORM, b"query=%zz"),
    other("POST", "/api/v1/query?query=up", FORM, b"query=b%2B"),
];

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

const fn other(
    method: &'static str,
    target: &'static str,
    headers: &'static str,
    body: &'static [u8],
) -> Ask<'static> {
    Ask {
        method,
        target,
        headers,
        body,
    }
}

#[actix_web::test]
async fn bad_requests_are_refused_in_the_same_bytes_as_by_prometheus() {
    let Some(prometheus) = peer::start("global:\n  scrape_interval: 1h\n").await else {
        return;
    };
    let port = start(&Empty::default());
    let mut different = Vec::new();
    let asks = BAD.iter().map(|target| Ask::get(target));
    for ask in asks.chain(OTHERS.iter().copied()) {
        let mut theirs = send(prometheus.port, ask).await.unwrap();
        theirs.body = theirs.body.replace(EMPTY_IN_2, EMPTY_IN_3);
        let ours = send(port, ask).await.unwrap();
        if theirs != ours {
            let Ask { method, target, .. } = ask;
            different.push(format!(
                "{method} {target}\n  theirs {theirs:?}\n  ours   {ours:?}"
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
