//! A Prometheus of its own for one test.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use gauntlet::foundation::durable::replace_file;
use gauntlet::model::{Labels, STALE_NAN_BITS};

use crate::ports;
use crate::support::{Samples, canonical};

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    port: u16,
    log: PathBuf,
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for in real time"
)]
pub(crate) fn wait_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

impl Prometheus {
    /// Starts on `data`; logs and configuration go to `scratch`.
    pub(crate) fn start(data: &Path, scratch: &Path, config: &str) -> Self {
        let port = ports::free_port();
        let config_file = scratch.join("prometheus.yml");
        replace_file(
            &config_file,
            config.replace("PORT", &port.to_string()).as_bytes(),
        )
        .unwrap();
        let log = scratch.join("prometheus.log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--storage.tsdb.retention.time=100y")
            .arg("--web.enable-admin-api")
            .stderr(File::create(&log).unwrap())
            .stdout(File::create(scratch.join("prometheus.out")).unwrap())
            .spawn()
            .expect("Debian's package prometheus is needed: apt-get install prometheus");
        let peer = Self { child, port, log };
        for _ in 0..300 {
            if peer
                .try_get("/-/ready")
                .is_some_and(|(status, _)| status == 200)
            {
                return peer;
            }
            wait_ms(100);
        }
        panic!("Prometheus is not ready after 30 s:\n{}", peer.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Where it is reached.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks for a deed below `/api/v1/admin/tsdb/`; what was answered, status first.
    pub(crate) fn administer(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request =
            format!("POST /api/v1/admin/tsdb/{path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let (status, body) = self.try_get(path).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The value of a metric that Prometheus tells of itself.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name}"))
            .parse()
            .unwrap()
    }

    /// The samples of every series from `t_ms - range_ms` to `t_ms`. Stale markers do not come through this API.
    pub(crate) fn samples(&self, t_ms: i64, range_ms: i64) -> Samples {
        let query = format!("%7B__name__%3D~%22.%2B%22%7D%5B{range_ms}ms%5D");
        let time = format!("{}.{:03}", t_ms / 1000, t_ms % 1000);
        let body = self.get(&format!("/api/v1/query?query={query}&time={time}"));
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let mut found = Samples::new();
        for series in answer["data"]["result"].as_array().unwrap() {
            let pairs: Vec<(&str, &str)> = series["metric"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                .collect();
            let values = series["values"].as_array().unwrap().iter().map(|pair| {
                let seconds = pair[0].to_string();
                let (whole, part) = seconds.split_once('.').unwrap_or((&seconds, ""));
                let t: i64 = format!("{whole}{part:0<3}").parse().unwrap();
                let v: f64 = pair[1].as_str().unwrap().parse().unwrap();
                (t, v.to_bits())
            });
            found.insert(canonical(&Labels::new(&pairs).unwrap()), values.collect());
        }
        found
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap();
        self.log()
    }

    /// Ends it without a chance to write anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Without stale markers, which the query API does not show.
pub(crate) fn without_stale(mut samples: Samples) -> Samples {
    for series in samples.values_mut() {
        series.retain(|_, bits| *bits != STALE_NAN_BITS);
    }
    samples.retain(|_, series| !series.is_empty());
    samples
}
