//! Any actor may panic: the others answer all the while, and it is back within two seconds.

use std::time::Duration;

use crate::harness::{Appliance, Start, eventually, now, now_ms, pause, report};

/// Says what the log of a panic says, so that it does not fail the test.
fn start() -> Start {
    Start::new()
        .expect_log("\"panic\"")
        .expect_log("actor panicked")
}

/// Everything but the actor that panicked answers now.
fn check_others_answer(appliance: &Appliance) {
    assert_eq!(appliance.get("/-/healthy").status, 200);
    assert_eq!(appliance.get("/-/ready").status, 200);
    assert_eq!(appliance.get("/metrics").status, 200);
    let t = now_ms();
    assert_eq!(appliance.write(&[("__name__", "alive")], &[(t, 1.0)]), 204);
    assert_eq!(
        appliance.value("max_over_time(alive[1m])", now()),
        Some(1.0)
    );
    assert_eq!(appliance.get("/api/v1/targets").status, 200);
}

#[test]
fn a_panicking_actor_is_back_within_two_seconds_and_the_others_answer_all_the_while() {
    let appliance = start().run();
    for actor in [
        "steward",
        "store_gateway",
        "shipper",
        "log_shipper",
        "querier",
        "scrape_sidecar",
    ] {
        let panicked_ms = now_ms();
        assert_eq!(
            appliance.post(&format!("/-/panic/{actor}")).status,
            200,
            "{actor}"
        );
        let restarts = format!("gauntlet_actor_restarts_total{{actor=\"{actor}\"}}");
        loop {
            check_others_answer(&appliance);
            if appliance.metric(&restarts) == Some(1.0) {
                break;
            }
            assert!(
                now_ms() - panicked_ms < 2_000,
                "{actor} is not back after two seconds"
            );
        }
        let took_ms = now_ms() - panicked_ms;
        report(&format!("{actor} was back after {took_ms} ms"));
        let named = format!("\"actor\":\"{actor}\"");
        for text in ["actor panicked and is restarted", "actor restarted"] {
            eventually(text, || {
                let lines = appliance.logged(text);
                let is_said = lines.iter().any(|line| line.contains(&named));
                is_said.then_some(())
            });
        }
        assert_eq!(
            appliance.metric(&format!("gauntlet_actor_panics_total{{actor=\"{actor}\"}}")),
            Some(1.0)
        );
    }
    appliance.stop();
}

#[test]
fn blocks_are_shipped_after_every_actor_on_their_way_has_panicked() {
    let appliance = start().set("head.block_range", "10s").run();
    for actor in ["store_gateway", "shipper", "steward"] {
        assert_eq!(
            appliance.post(&format!("/-/panic/{actor}")).status,
            200,
            "{actor}"
        );
    }
    let end = now_ms();
    let samples: Vec<(i64, f64)> = (0..60).map(|n| (end - 60_000 + n * 1000, 1.0)).collect();
    assert_eq!(appliance.write(&[("__name__", "x")], &samples), 204);
    eventually("blocks are in the bucket", || {
        let bucket = std::fs::read_dir(appliance.data().join("bucket")).ok()?;
        let is_block = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.path().join("meta.json").is_file())
        };
        bucket.filter(|_| true).any(is_block).then_some(())
    });
    appliance.stop();
}

#[test]
fn the_end_of_the_head_keeper_is_an_orderly_end_and_no_sample_is_lost() {
    let start = start().expect_log("cannot be restarted");
    let mut appliance = start.run();
    let t = now_ms();
    assert_eq!(appliance.write(&[("__name__", "kept")], &[(t, 7.0)]), 204);
    // The answer may be cut off by the end it causes.
    appliance
        .request("POST", "/-/panic/head_keeper", &[], &[])
        .ok();
    let status = appliance.wait();
    assert_eq!(status.code(), Some(1));
    appliance.check_log();
    assert!(
        !appliance.logged("stage stopped").is_empty(),
        "it did not stop in order"
    );
    let again = Start::new().again_in(&appliance.dir()).run();
    assert_eq!(again.samples("kept", t, t), [(t, 7.0)]);
    again.stop();
}

#[test]
fn an_actor_that_never_stops_panicking_is_given_up_and_the_rest_goes_on() {
    let appliance = start().run();
    for _ in 0..11 {
        appliance.post("/-/panic/steward");
    }
    eventually("its restarts are used up", || {
        let lines = appliance.logged("its restarts are used up");
        (!lines.is_empty()).then_some(())
    });
    pause(Duration::from_millis(200));
    assert_eq!(appliance.get("/-/healthy").status, 200);
    assert_eq!(appliance.value("vector(1)", now()), Some(1.0));
    appliance.signal(rustix::process::Signal::TERM);
    let mut appliance = appliance;
    assert!(appliance.wait().success());
}
