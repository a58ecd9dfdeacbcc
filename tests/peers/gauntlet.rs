//! The binary under test as a peer.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Peer, free_port};

/// Starts the binary on `data` with `prometheus_yml` as what it scrapes and further settings `section.key=value`.
pub(crate) fn gauntlet(dir: &Path, data: &Path, prometheus_yml: &str, settings: &[&str]) -> Peer {
    let file = dir.join("gauntlet-prometheus.yml");
    fs::write(&file, prometheus_yml).unwrap();
    let addr = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_gauntlet"));
    command.args(["serve", "--http", &addr, "--grpc", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(data);
    command
        .arg("--set")
        .arg(format!("scrape.config_file={}", file.display()));
    for setting in settings {
        command.args(["--set", setting]);
    }
    Peer::start(&mut command, addr, &dir.join("gauntlet.log"), "/-/ready")
}
