//! Starts the binary, talks to it, and reads its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gauntlet::model::Sample;
use gauntlet::remote::WriteRequestEncoder;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::ports;

/// How often something is looked at, and for how long, before a test gives up.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 600;

/// What is started, and how.
pub(crate) struct Start {
    dir: Arc<TempDir>,
    http: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    expected: Vec<String>,
}

impl Start {
    /// The defaults on free ports, in a fresh directory, scraping nothing.
    pub(crate) fn new() -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            http: "127.0.0.1:0".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// Sets a key.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments
            .extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Scrapes what this `prometheus.yml` says.
    pub(crate) fn scrape(self, text: &str) -> Self {
        let path = self.write("prometheus.yml", text);
        self.set("scrape.config_file", &path.display().to_string())
    }

    /// WARN and ERROR lines that contain this text do not fail the test.
    pub(crate) fn expect_log(mut self, text: &str) -> Self {
        self.expected.push(text.to_owned());
        self
    }

    /// Serves HTTP there rather than on a free port.
    pub(crate) fn at(mut self, http: &str) -> Self {
        self.http = http.to_owned();
        self
    }

    /// Uses a directory that was used before.
    pub(crate) fn again_in(mut self, dir: &Arc<TempDir>) -> Self {
        self.dir = Arc::clone(dir);
        self
    }

    /// Writes a file into the test's directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        gauntlet::foundation::durable::replace_file(&path, text.as_bytes()).unwrap();
        path
    }

    /// The test's directory.
    pub(crate) fn dir(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
        command.current_dir(self.dir.path());
        command.args([
            "serve",
            "--http",
            &self.http,
            "--grpc",
            "127.0.0.1:0",
            "--set",
            "log.format=json",
        ]);
        command.arg("--data-dir").arg(self.data());
        if !self
            .arguments
            .iter()
            .any(|argument| argument.starts_with("scrape.config_file="))
        {
            let nothing = self.write("nothing.yml", "scrape_configs: []\n");
            command
                .arg("--set")
                .arg(format!("scrape.config_file={}", nothing.display()));
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts a process that is expected to end by itself; what it said and its exit code.
    pub(crate) fn fails(self) -> (String, i32) {
        let output = self.command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (said, output.status.code().unwrap())
    }

    /// Starts the process and waits until it has said where it is.
    pub(crate) fn run(self) -> Appliance {
        let mut appliance = self.spawn();
        let http = appliance.announced("HTTP ");
        appliance.http = http.trim_start_matches("http://").to_owned();
        appliance.grpc = appliance.announced("gRPC ");
        appliance
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(self) -> Appliance {
        let mut child = self.command().spawn().unwrap();
        let log = Log::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let collected = log.clone();
        std::thread::Builder::new()
            .spawn(move || {
                lines
                    .map_while(Result::ok)
                    .for_each(|line| collected.push(line));
            })
            .unwrap();
        Appliance {
            child,
            http: String::new(),
            grpc: String::new(),
            log,
            expected: self.expected,
            dir: self.dir,
            is_over: false,
        }
    }
}

/// Lines of standard error so far.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: String) {
        self.0.lock().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// A running process.
pub(crate) struct Appliance {
    child: Child,
    pub(crate) http: String,
    pub(crate) grpc: String,
    log: Log,
    expected: Vec<String>,
    dir: Arc<TempDir>,
    is_over: bool,
}

/// Status, headers and body of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Appliance {
    /// The test's directory, for a start again.
    pub(crate) fn dir(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn announced(&mut self, what: &str) -> String {
        let address = |line: &String| {
            let rest = line.trim_start().strip_prefix(what)?;
            Some(rest.split_whitespace().next()?.to_owned())
        };
        for _ in 0..LOOKS_MAX {
            if let Some(found) = self.log.lines().iter().find_map(address) {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}:\n{}", self.log.lines().join("\n"));
            }
            pause(LOOK_EVERY);
        }
        panic!(
            "it never said where {what}is:\n{}",
            self.log.lines().join("\n")
        );
    }

    /// `GET path`
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], &[]).unwrap()
    }

    /// `POST path` without a body.
    pub(crate) fn post(&self, path: &str) -> Answer {
        self.request("POST", path, &[], &[]).unwrap()
    }

    /// One HTTP/1.0 exchange, or what the connection said.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n",
            self.http,
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Answer {
            status,
            head,
            body: answer[end + 4..].to_vec(),
        })
    }

    /// `data.result` of an instant query at `t`, in seconds.
    pub(crate) fn instant(&self, query: &str, t: f64) -> Value {
        let answer = self.get(&format!("/api/v1/query?query={}&time={t}", escaped(query)));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["data"]["result"].clone()
    }

    /// The one value of an instant query at `t`, if it has any.
    pub(crate) fn value(&self, query: &str, t: f64) -> Option<f64> {
        let result = self.instant(query, t);
        let text = result.get(0)?["value"][1].as_str()?.to_owned();
        Some(text.parse().unwrap())
    }

    /// Samples of one series between two times, as a range selector sees them: times in milliseconds, and values.
    pub(crate) fn samples(&self, selector: &str, from_ms: i64, to_ms: i64) -> Vec<(i64, f64)> {
        // The left end of a range is open.
        let range = to_ms - from_ms + 1;
        #[expect(clippy::cast_precision_loss, reason = "test times are far below 2^53")]
        let t = to_ms as f64 / 1000.0;
        let result = self.instant(&format!("{selector}[{range}ms]"), t);
        let all: Vec<&Value> = result.as_array().unwrap().iter().collect();
        assert!(all.len() <= 1, "{selector} is {} series", all.len());
        let values = all
            .first()
            .map(|series| series["values"].as_array().unwrap().clone());
        values.unwrap_or_default().iter().map(sample).collect()
    }

    /// Sends one series by remote write; the status.
    pub(crate) fn write(&self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> u16 {
        let samples: Vec<Sample> = samples.iter().map(|&(t, v)| Sample { t, v }).collect();
        let mut request = WriteRequestEncoder::new();
        request.series(labels.iter().copied(), &samples);
        let body = snap::raw::Encoder::new()
            .compress_vec(request.as_bytes())
            .unwrap();
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        self.request("POST", "/api/v1/write", &headers, &body)
            .unwrap()
            .status
    }

    /// The value of one of its own metrics, named with its labels as it is exposed.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(line.trim().parse().unwrap())
    }

    /// Log lines so far whose text contains `text`.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        self.log
            .lines()
            .into_iter()
            .filter(|line| line.contains(text))
            .collect()
    }

    /// Most memory it ever had, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().split_whitespace().next().unwrap();
        kib.parse::<u64>().unwrap() / 1024
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut looks = 0;
        while looks < LOOKS_MAX {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.is_over = true;
                return status;
            }
            pause(LOOK_EVERY);
            looks += 1;
        }
        panic!("it does not end:\n{}", self.log.lines().join("\n"));
    }

    /// SIGTERM, a clean end, and a quiet log; its lines.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(
            status.success(),
            "{status}:\n{}",
            self.log.lines().join("\n")
        );
        self.check_log();
        self.log.lines()
    }

    /// `kill -9`
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.is_over = true;
        self.check_log();
    }

    /// Fails on WARN and ERROR lines that were not announced.
    pub(crate) fn check_log(&self) {
        let lines = self.log.lines();
        let is_bad = |line: &&String| {
            let level = serde_json::from_str::<Value>(line).ok();
            let level = level.as_ref().and_then(|json| json["level"].as_str());
            matches!(level, Some("WARN" | "ERROR"))
                && !self.expected.iter().any(|text| line.contains(text))
        };
        let bad: Vec<&String> = lines.iter().filter(is_bad).collect();
        assert!(bad.is_empty(), "unexpected log lines: {bad:#?}");
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if !self.is_over {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if std::thread::panicking() {
            let lines = self.log.lines();
            let last = lines.len().saturating_sub(40);
            report(&format!(
                "--- log of the process\n{}",
                lines[last..].join("\n")
            ));
        }
    }
}

/// `[1.5, "2"]` as milliseconds and value.
pub(crate) fn sample(pair: &Value) -> (i64, f64) {
    #[expect(clippy::cast_possible_truncation, reason = "test times fit")]
    let t = (pair[0].as_f64().unwrap() * 1000.0).round() as i64;
    (t, pair[1].as_str().unwrap().parse().unwrap())
}

/// Text as it may stand in a query.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A figure for whoever reads the output of the tests.
#[expect(
    clippy::print_stdout,
    reason = "the test runner captures and shows what is printed"
)]
pub(crate) fn report(text: &str) {
    println!("{text}");
}

/// An address that is free, and stays so until somebody is told to listen on it.
pub(crate) fn free_address() -> String {
    format!("127.0.0.1:{}", ports::free_port())
}

/// Lets time pass; only between looks.
pub(crate) fn pause(time: Duration) {
    crossbeam::channel::after(time).recv().ok();
}

/// Looks until there is something, or gives up after half a minute.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS_MAX {
        if let Some(seen) = look() {
            return seen;
        }
        pause(LOOK_EVERY);
    }
    panic!("this never came true: {what}");
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    use gauntlet::foundation::{Clock, SystemClock};
    SystemClock.now_ms()
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let seconds = now_ms() as f64 / 1000.0;
    seconds
}

/// Runs another command of the binary to its end.
pub(crate) fn gauntlet(arguments: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    command.args(arguments).current_dir(dir).output().unwrap()
}
