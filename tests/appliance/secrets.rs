//! Keys of a bucket are shown to nobody.

use crate::harness::{Start, eventually};

const SECRET: &str = "c2hvd24gdG8gbm9ib2R5";

#[test]
fn no_page_metric_or_log_line_shows_a_secret_of_the_bucket() {
    let start = Start::new()
        .set("log.level", "debug")
        .expect_log("bucket")
        .expect_log("gateway")
        .expect_log("sync")
        .expect_log("127.0.0.1:1");
    let yaml = format!(
        "type: S3\nconfig:\n  bucket: blocks\n  endpoint: 127.0.0.1:1\n  insecure: true\n  access_key: key\n  secret_key: {SECRET}\n  session_token: {SECRET}\n  max_retries: 1\n  trace: {{enable: true}}\n"
    );
    let file = start.write("bucket.yml", &yaml);
    let appliance = start
        .set("bucket.config_file", &file.display().to_string())
        .run();
    // By now the bucket was asked, and every request failed.
    eventually("a request of the bucket fails", || {
        let metrics = appliance.get("/metrics").text();
        metrics
            .lines()
            .any(|line| {
                line.starts_with("gauntlet_bucket_request_failures_total{sort=\"list\"}")
                    && !line.ends_with(" 0")
            })
            .then_some(())
    });
    for path in [
        "/metrics",
        "/api/v1/status/config",
        "/api/v1/status/flags",
        "/api/v1/status/runtimeinfo",
        "/api/v1/status/buildinfo",
        "/-/ready",
        "/-/healthy",
    ] {
        let answer = appliance.get(path);
        let (head, text) = (&answer.head, answer.text());
        assert!(!text.contains(SECRET) && !head.contains(SECRET), "{path}");
    }
    let lines = appliance.stop();
    assert!(lines.iter().any(|line| line.contains("s3://blocks")));
    for line in lines {
        assert!(!line.contains(SECRET), "{line}");
    }
}
