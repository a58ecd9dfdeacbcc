//! A Prometheus of its own for one test.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Command};
use std::time::Duration;

use gauntlet::foundation::durable::replace_file;
use tempfile::TempDir;

use crate::client::{Ask, send};
use crate::ports;

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) port: u16,
    dir: TempDir,
}

impl Prometheus {
    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `None`, said aloud, where it is not installed; in continuous integration that is a failure.
pub(crate) async fn start(config_text: &str) -> Option<Prometheus> {
    if Command::new("prometheus")
        .arg("--version")
        .output()
        .is_err()
    {
        assert!(
            std::env::var_os("CI").is_none(),
            "prometheus is not installed"
        );
        std::io::stderr()
            .write_all(b"SKIPPED: prometheus is not installed (Debian package prometheus)\n")
            .unwrap();
        return None;
    }
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("prometheus.yml");
    replace_file(&config, config_text.as_bytes()).unwrap();
    let port = ports::free_port();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.path().join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--web.enable-remote-write-receiver")
        .stderr(File::create(dir.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let mut peer = Prometheus { child, port, dir };
    for _ in 0..300 {
        let answer = send(port, Ask::get("/-/ready")).await;
        let ended = peer.child.try_wait().unwrap();
        assert_eq!(ended, None, "Prometheus has ended:\n{}", peer.log());
        if answer.is_some_and(|answer| answer.status == 200) {
            return Some(peer);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("Prometheus is not ready after 30 s:\n{}", peer.log());
}
