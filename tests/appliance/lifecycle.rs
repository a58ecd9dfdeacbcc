//! Start, readiness, writing and asking, reload, the end.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Start, eventually, free_address, gauntlet, now, now_ms, pause, report};

#[test]
fn it_starts_on_free_ports_and_stops_when_told() {
    let appliance = Start::new().run();
    assert_eq!(appliance.get("/-/healthy").status, 200);
    assert_eq!(appliance.get("/-/ready").status, 200);
    assert!(appliance.data().join("wal").is_dir());
    assert!(std::net::TcpStream::connect(&appliance.grpc).is_ok());
    assert!(!appliance.http.ends_with(":0") && !appliance.grpc.ends_with(":0"));
    let log = appliance.stop();
    // The list ends in this order, each stage on its own.
    let stages: Vec<&str> = log
        .iter()
        .filter(|line| line.contains("stage stopped"))
        .filter_map(|line| line.split("\"stage\":\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(
        stages,
        [
            "api",
            "scrape",
            "compactor",
            "shipper",
            "gateway",
            "pools",
            "head"
        ]
    );
}

#[test]
fn what_is_no_request_is_refused_and_is_no_error_of_the_server() {
    let appliance = Start::new().run();
    for request in [
        "GET /api/v1/query?query=\"a HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
    ] {
        let mut connection = std::net::TcpStream::connect(&appliance.http).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    // It is looked for errors in the log.
    appliance.stop();
}

#[test]
fn what_is_written_is_answered_at_once_and_after_a_stop() {
    let appliance = Start::new().run();
    let t = now_ms() - 5_000;
    let status = appliance.write(
        &[("__name__", "temperature"), ("room", "north")],
        &[(t, 20.5), (t + 1000, 21.0)],
    );
    assert_eq!(status, 204);
    let query = r#"temperature{room="north"} * 2"#;
    assert_eq!(appliance.value(query, now()), Some(42.0));
    let dir = appliance.dir();
    appliance.stop();
    let appliance = Start::new().again_in(&dir).run();
    assert_eq!(
        appliance.samples("temperature", t, t + 1000),
        [(t, 20.5), (t + 1000, 21.0)]
    );
    appliance.stop();
}

#[test]
fn without_configuration_it_scrapes_itself() {
    let appliance = Start::new().set("scrape.config_file", "").run();
    eventually("it sees itself up", || {
        let result = appliance.instant("up", now());
        let is_up = |item: &serde_json::Value| item["value"][1] == "1";
        result.as_array()?.iter().any(is_up).then_some(())
    });
    let targets = appliance.get("/api/v1/targets").json();
    assert_eq!(targets["status"], "success");
    appliance.stop();
}

#[test]
fn a_target_in_prometheus_yml_is_scraped_and_its_labels_are_kept() {
    let exporter = Start::new().run();
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: exporter\n  static_configs:\n  - targets: ['{}']\n    labels: {{rack: a7}}\n",
        exporter.http
    );
    let appliance = Start::new().scrape(&text).run();
    let up = eventually("the target is up", || {
        appliance.value(r#"up{job="exporter",rack="a7"}"#, now())
    });
    assert_eq!(up.to_bits(), 1.0_f64.to_bits());
    exporter.stop();
    eventually("the target is down", || {
        (appliance.value(r#"up{job="exporter"}"#, now()) == Some(0.0)).then_some(())
    });
    appliance.stop();
}

#[test]
fn a_good_reload_is_applied_and_a_bad_one_changes_nothing() {
    let start = Start::new().expect_log("configuration is not reloaded");
    let appliance = start.scrape("scrape_configs: []\n").run();
    let file = appliance.dir().path().join("prometheus.yml");
    let replace =
        |text: &str| gauntlet::foundation::durable::replace_file(&file, text.as_bytes()).unwrap();
    let with_job = |interval: &str| {
        let http = &appliance.http;
        format!(
            "scrape_configs:\n- job_name: myself\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\n  static_configs:\n  - targets: ['{http}']\n"
        )
    };
    replace(&with_job("1s"));
    assert_eq!(appliance.post("/-/reload").status, 200);
    eventually("the new job is scraped", || {
        appliance.value(r#"up{job="myself"}"#, now())
    });

    replace(&with_job("soon"));
    let answer = appliance.post("/-/reload");
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().contains("prometheus.yml:3") && answer.text().contains("soon"),
        "{}",
        answer.text()
    );
    assert!(
        appliance
            .get("/api/v1/status/config")
            .text()
            .contains("scrape_interval: 1s")
    );

    replace("scrape_configs: []\n");
    appliance.signal(Signal::HUP);
    eventually("the job is gone", || {
        let targets = appliance.get("/api/v1/targets").json();
        targets["data"]["activeTargets"]
            .as_array()?
            .is_empty()
            .then_some(())
    });
    appliance.stop();
}

#[test]
fn everything_counted_is_exposed_in_both_forms() {
    let appliance = Start::new().run();
    appliance.write(&[("__name__", "x")], &[(now_ms(), 1.0)]);
    for name in [
        "process_resident_memory_bytes",
        "prometheus_tsdb_head_series",
        "prometheus_tsdb_head_samples_appended_total{type=\"float\"}",
        "gauntlet_actor_restarts_total{actor=\"shipper\"}",
        "prometheus_http_requests_total{handler=\"/api/v1/write\",code=\"204\"}",
        "prometheus_engine_queries_concurrent_max",
        "prometheus_config_last_reload_successful",
        "prometheus_ready",
    ] {
        assert!(
            appliance.metric(name).is_some(),
            "{name} in:\n{}",
            appliance.get("/metrics").text()
        );
    }
    let answer = appliance.get("/metrics");
    assert!(
        answer
            .head
            .to_lowercase()
            .contains("text/plain; version=0.0.4"),
        "{}",
        answer.head
    );
    assert!(!answer.text().contains("# EOF"));
    let headers = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let answer = appliance.request("GET", "/metrics", &headers, &[]).unwrap();
    assert!(
        answer
            .head
            .to_lowercase()
            .contains("application/openmetrics-text"),
        "{}",
        answer.head
    );
    assert!(answer.text().ends_with("# EOF\n"));
    appliance.stop();
}

#[test]
fn the_command_line_asks_a_running_server() {
    let appliance = Start::new().run();
    let t = now_ms();
    appliance.write(
        &[("__name__", "answer"), ("to", "everything")],
        &[(t, 42.0)],
    );
    let dir = appliance.dir();
    let ask = |arguments: &[&str]| {
        let url = format!("http://{}", appliance.http);
        let arguments = [&["query"], arguments, &["--url", &url]].concat();
        let output = gauntlet(&arguments, dir.path());
        let said = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    };
    let (code, said) = ask(&["instant", "answer"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("answer{to=\"everything\"} => 42 @["),
        "{said}"
    );
    assert_eq!(
        ask(&["series", "answer"]),
        (0, "answer{to=\"everything\"}\n".to_owned())
    );
    assert_eq!(ask(&["labels", "to"]), (0, "everything\n".to_owned()));
    let (code, said) = ask(&["range", "answer", "--output", "json"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\"resultType\":\"matrix\""), "{said}");
    let (code, said) = ask(&["instant", "answer{"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("bad_data") && said.contains("parse error"),
        "{said}"
    );
    appliance.stop();
}

#[test]
fn readiness_names_its_reason_until_the_replay_is_over_and_health_answers_at_once() {
    let appliance = Start::new().run();
    let end = now_ms();
    // Enough for a replay that takes a moment.
    let samples: Vec<(i64, f64)> = (0..3_000_i32)
        .map(|n| (end - 3_000_000 + i64::from(n) * 1000, f64::from(n)))
        .collect();
    for series in 0..100 {
        let series = format!("s{series}");
        assert_eq!(appliance.write(&[("__name__", &series)], &samples), 204);
    }
    let dir = appliance.dir();
    appliance.kill();
    let http = free_address();
    let mut starting = Start::new().again_in(&dir).at(&http).spawn();
    starting.http = http;
    let mut reasons = Vec::new();
    eventually("it is ready", || {
        let ready = starting.request("GET", "/-/ready", &[], &[]).ok()?;
        let healthy = starting.request("GET", "/-/healthy", &[], &[]).ok()?;
        assert_eq!(healthy.status, 200);
        if ready.status == 200 {
            return Some(());
        }
        assert_eq!(ready.status, 503);
        reasons.push(ready.text());
        None
    });
    report(&format!(
        "{} answers before it was ready: {:?}",
        reasons.len(),
        reasons.first()
    ));
    let is_told = |reason: &String| {
        reason.contains("is starting") || reason.contains("log is being replayed")
    };
    assert!(
        !reasons.is_empty() && reasons.iter().all(is_told),
        "{reasons:?}"
    );
    let seen = starting.samples("s99", end - 3_000_000, end);
    assert_eq!(seen.len(), samples.len());
    starting.stop();
}

#[test]
fn a_client_that_never_finishes_its_request_holds_the_end_up_to_the_deadline_or_the_second_signal()
{
    let expected = Start::new()
        .expect_log("did not stop in time")
        .expect_log("hastened")
        .expect_log("stopped before everything");
    let mut appliance = expected.set("shutdown.deadline", "20s").run();
    assert_eq!(
        appliance.write(&[("__name__", "kept")], &[(now_ms(), 1.0)]),
        204
    );
    let mut stalled = std::net::TcpStream::connect(&appliance.http).unwrap();
    stalled
        .write_all(
            b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nten bytes.",
        )
        .unwrap();
    pause(Duration::from_millis(300));
    appliance.signal(Signal::TERM);
    eventually("the log names who is pending", || {
        let lines = appliance.logged("still stopping");
        lines
            .iter()
            .any(|line| line.contains("\"pending\":\"http\""))
            .then_some(())
    });
    let hastened_ms = now_ms();
    appliance.signal(Signal::TERM);
    let status = appliance.wait();
    let took_ms = now_ms() - hastened_ms;
    assert!(took_ms < 5_000, "{took_ms} ms after the second signal");
    assert!(status.success(), "{status}");
    appliance.check_log();
    assert!(
        appliance
            .logged("stage stopped")
            .iter()
            .any(|line| line.contains("\"head\""))
    );
}

#[test]
fn it_stops_when_told_while_it_starts() {
    let appliance = Start::new().run();
    let end = now_ms();
    let samples: Vec<(i64, f64)> = (0..3_000_i32)
        .map(|n| (end - 3_000_000 + i64::from(n) * 1000, f64::from(n)))
        .collect();
    for series in 0..100 {
        let series = format!("s{series}");
        assert_eq!(appliance.write(&[("__name__", &series)], &samples), 204);
    }
    let dir = appliance.dir();
    appliance.kill();
    let mut starting = Start::new().again_in(&dir).spawn();
    eventually("its sockets are open", || {
        (!starting.logged("listening").is_empty()).then_some(())
    });
    starting.signal(Signal::TERM);
    assert!(starting.wait().success());
    starting.check_log();
    assert!(
        starting.logged("is ready").is_empty(),
        "it was too quick for this test"
    );
    let again = Start::new().again_in(&dir).run();
    assert_eq!(
        again.samples("s7", end - 3_000_000, end).len(),
        samples.len()
    );
    again.stop();
}

#[test]
fn a_reload_checks_the_appliance_s_own_settings_first_and_names_what_needs_a_restart() {
    let start = Start::new()
        .expect_log("configuration is not reloaded")
        .expect_log("need a restart");
    let file = start.write("appliance.toml", "[query]\nqueue = 7\n");
    let file_text = file.display().to_string();
    let appliance = start.argument("--config").argument(&file_text).run();
    let replace =
        |text: &str| gauntlet::foundation::durable::replace_file(&file, text.as_bytes()).unwrap();
    replace("[query]\nqueu = 7\n");
    let answer = appliance.post("/-/reload");
    assert_eq!(answer.status, 500);
    let expect =
        format!("{file_text}:2: query.queu = \"7\": there is no such key; is query.queue meant?");
    assert!(answer.text().contains(&expect), "{}", answer.text());
    assert_eq!(
        appliance.metric("prometheus_config_last_reload_successful"),
        Some(0.0)
    );

    replace("[query]\nqueue = 8\n");
    assert_eq!(appliance.post("/-/reload").status, 200);
    assert_eq!(
        appliance.metric("prometheus_config_last_reload_successful"),
        Some(1.0)
    );
    let said = appliance.logged("need a restart");
    assert!(
        said.len() == 1 && said[0].contains("\"query.queue\""),
        "{said:?}"
    );
    appliance.stop();
}

#[test]
fn the_log_is_synced_before_every_acknowledgement_when_that_is_wanted() {
    let syncs = |appliance: &crate::harness::Appliance| {
        appliance.metric("gauntlet_wal_syncs_total").unwrap()
    };
    let always = Start::new().set("head.wal_sync", "always").run();
    for n in 0..5_i32 {
        let before = syncs(&always);
        assert_eq!(
            always.write(&[("__name__", "x")], &[(now_ms(), f64::from(n))]),
            204
        );
        assert!(before + 1.0 <= syncs(&always));
    }
    always.stop();
    let off = Start::new().set("head.wal_sync", "off").run();
    let before = syncs(&off);
    assert_eq!(off.write(&[("__name__", "x")], &[(now_ms(), 1.0)]), 204);
    pause(Duration::from_millis(1500));
    assert_eq!(syncs(&off).to_bits(), before.to_bits());
    off.stop();
}
