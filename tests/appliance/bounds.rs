//! Every queue has an end: what is refused, with which words, and what an asker who leaves gives back.

use std::io::Write;
use std::net::TcpStream;

use crate::harness::{Appliance, Start, escaped, eventually, now, now_ms};

/// Minutes of work for any machine.
const ENDLESS: &str = "max_over_time(quantile_over_time(0.5, vector(time())[10h:1s])[10h:1s])";

/// Asks and does not wait for the answer.
fn ask(appliance: &Appliance, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&appliance.http).unwrap();
    let request = format!(
        "GET /api/v1/query?query={} HTTP/1.1\r\nHost: x\r\n\r\n",
        escaped(query)
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn gate(appliance: &Appliance, what: &str) -> Option<f64> {
    appliance.metric(&format!("gauntlet_gate_{what}{{gate=\"query\"}}"))
}

#[test]
fn queries_beyond_the_queue_are_refused_and_an_asker_who_leaves_makes_room() {
    let appliance = Start::new()
        .set("query.max_concurrent", "1")
        .set("query.queue", "1")
        .run();
    let first = ask(&appliance, ENDLESS);
    eventually("the first is at work", || {
        (gate(&appliance, "used") == Some(1.0)).then_some(())
    });
    let second = ask(&appliance, ENDLESS);
    eventually("the second waits", || {
        (gate(&appliance, "waiting") == Some(1.0)).then_some(())
    });
    let third = appliance.get(&format!("/api/v1/query?query={}", escaped("vector(1)")));
    assert_eq!(third.status, 503, "{}", third.text());
    assert!(
        third.text().contains("too many queries at once"),
        "{}",
        third.text()
    );
    assert_eq!(gate(&appliance, "refused_total"), Some(1.0));
    assert_eq!(
        appliance.write(&[("__name__", "x")], &[(now_ms(), 1.0)]),
        204
    );

    let left_ms = now_ms();
    drop(first);
    drop(second);
    eventually("both are canceled", || {
        let is_free =
            gate(&appliance, "used") == Some(0.0) && gate(&appliance, "waiting") == Some(0.0);
        is_free.then_some(())
    });
    let took_ms = now_ms() - left_ms;
    assert!(
        took_ms < 3_000,
        "{took_ms} ms until the work of those who left ended"
    );
    assert_eq!(appliance.value("vector(1)", now()), Some(1.0));
    appliance.stop();
}

#[test]
fn a_query_past_its_timeout_is_a_503_and_gives_its_place_back() {
    let appliance = Start::new().set("query.max_concurrent", "1").run();
    let answer = appliance.get(&format!(
        "/api/v1/query?query={}&timeout=500ms",
        escaped(ENDLESS)
    ));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["errorType"], "timeout");
    eventually("its place is free", || {
        (gate(&appliance, "used") == Some(0.0)).then_some(())
    });
    assert_eq!(appliance.value("vector(1)", now()), Some(1.0));
    appliance.stop();
}
