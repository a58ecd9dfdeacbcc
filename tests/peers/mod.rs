//! Starts the real programs that tests talk to, on free ports, and asks them over HTTP.
//!
//! Shared by test binaries through `#[path = "../peers/mod.rs"] mod peers;`.

pub(crate) mod gauntlet;
pub(crate) mod ports;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use ports::free_port;

/// How long a program may take to answer for the first time; generous, because test machines are small.
const START_MAX: Duration = Duration::from_secs(60);

/// Finds a program on the path. Where it is missing the test ends here, loudly; with `CI=true` it fails.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "{name} is not installed"
        );
        eprintln!("COULD NOT RUN: {name} is not installed");
    }
    found
}

/// A running program; ends with the test.
pub(crate) struct Peer {
    child: Child,
    /// `127.0.0.1:port` of its HTTP server.
    pub(crate) addr: String,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

impl Peer {
    /// Starts `command` and waits until `path` answers 200 at `addr`.
    pub(crate) fn start(command: &mut Command, addr: String, log: &Path, path: &str) -> Self {
        let out = File::create(log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        let mut peer = Self {
            child,
            addr,
            log: log.to_owned(),
        };
        peer.wait_for(path);
        peer
    }

    fn wait_for(&mut self, path: &str) {
        let start = Instant::now();
        while try_get(&self.addr, path).is_none_or(|answer| answer.status != 200) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < START_MAX,
                "{path} does not answer (ended: {ended:?}):\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        // Whoever answers might be another program.
        let ended = self.child.try_wait().unwrap();
        assert_eq!(ended, None, "{path} is answered by somebody else");
    }

    /// GET, which must be answered.
    pub(crate) fn get(&self, path: &str) -> Answer {
        try_get(&self.addr, path).unwrap_or_else(|| {
            panic!(
                "{path}: no answer:\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            )
        })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// GET, or nothing when nobody answers.
pub(crate) fn try_get(addr: &str, path: &str) -> Option<Answer> {
    request(
        addr,
        &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n"),
    )
}

/// HTTP/1.0, so that the answer ends with the connection and is never chunked.
fn request(addr: &str, head: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(START_MAX)).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (headers, body) = answer.split_once("\r\n\r\n")?;
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        headers: headers.to_owned(),
        body: body.to_owned(),
    })
}

/// Percent-encodes a query parameter.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").unwrap(),
        }
    }
    out
}

/// Copies a directory tree as it stands, as a backup of a running server would.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    try_copy_tree(from, to).unwrap();
}

/// The same; an error when something went away meanwhile.
pub(crate) fn try_copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Debian's Prometheus on `data`, with `config` as its whole configuration.
pub(crate) fn prometheus(dir: &Path, data: &Path, config: &str, more: &[&str]) -> Option<Peer> {
    let program = program("prometheus")?;
    let addr = format!("127.0.0.1:{}", free_port());
    let file = dir.join("prometheus.yml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={addr}"))
        .args(more);
    Some(Peer::start(
        &mut command,
        addr,
        &dir.join("prometheus.log"),
        "/-/ready",
    ))
}

/// Debian's node exporter.
pub(crate) fn node_exporter(dir: &Path) -> Option<Peer> {
    let program = program("prometheus-node-exporter")?;
    let addr = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program);
    command.arg(format!("--web.listen-address={addr}"));
    Some(Peer::start(
        &mut command,
        addr,
        &dir.join("node-exporter.log"),
        "/metrics",
    ))
}
