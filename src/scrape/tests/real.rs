//! Real exporters: what is stored equals what a plain request gives.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::exposition::{Entry, LabelBuffer, MediaType, Parser, ParserOptions, ScrapeProtocol};
use crate::foundation::durable::replace_file;
use crate::foundation::ports::free_port;
use crate::foundation::{Clock, SystemClock};
use crate::scrape::client::{HttpClient, Request};
use crate::scrape::manager::ScrapeManager;
use crate::scrape::settings::{HttpSettings, Settings};
use crate::scrape::testing::{MemoryDb, Reply, Scripted, fast_job};
use crate::storage::Appendable;

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `None`, said aloud, when it is not installed where it need not be.
fn start(name: &str, arguments: &[String]) -> Option<Program> {
    let mut command = Command::new(name);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => Some(Program(child)),
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "{name} is not installed: {error}"
            );
            let line = format!("SKIPPED: {name} is not installed\n");
            std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
            None
        }
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// The body of a plain request.
async fn direct(address: &str) -> Option<Vec<u8>> {
    let client = HttpClient::new(HttpSettings::default(), true);
    let url = format!("http://{address}/metrics");
    let mut body = Vec::new();
    let request = Request {
        url: &url,
        headers: reqwest::header::HeaderMap::new(),
        timeout: Duration::from_secs(5),
        body_bytes_max: None,
    };
    client.fetch(request, &mut body).await.ok()?;
    Some(body)
}

/// Every series of `body` by the labels it is to be stored under, with its value.
fn series_of(body: &[u8], address: &str) -> BTreeMap<String, f64> {
    let mut parser = Parser::new(body, MediaType::Text, ParserOptions::default());
    let (mut series, mut labels) = (BTreeMap::new(), LabelBuffer::new());
    while let Some(entry) = parser.next_entry().unwrap() {
        let Entry::Series(line) = entry else {
            continue;
        };
        let v = line.v;
        labels.clear();
        parser.labels(&mut labels);
        let mut builder = labels.to_labels().unwrap().to_builder();
        for (name, value) in [("instance", address), ("job", "real")] {
            let theirs = builder.get(name).to_owned();
            builder
                .set(&format!("exported_{name}"), &theirs)
                .set(name, value);
        }
        series.insert(builder.build().unwrap().to_string(), v);
    }
    series
}

/// Scrapes `address` three times in the format of a plain request.
async fn scraped(address: &str) -> Arc<MemoryDb> {
    let db = MemoryDb::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let appendable = Arc::clone(&db) as Arc<dyn Appendable>;
    let manager = ScrapeManager::new(appendable, clock, tokio::runtime::Handle::current(), 1);
    let mut job = fast_job("real", &[address]);
    job.request.interval_ms = 500;
    job.request.timeout_ms = 500;
    job.request.protocols = vec![ScrapeProtocol::PrometheusText0_0_4];
    manager.apply(Settings {
        jobs: vec![job],
        ..Settings::default()
    });
    db.wait_until(|db| {
        db.values(&report("up", address))
            .iter()
            .filter(|v| *v == "1")
            .count()
            >= 3
    })
    .await;
    manager.stop(Duration::from_secs(5)).await.unwrap();
    db
}

fn report(name: &str, address: &str) -> String {
    format!("{{__name__={name:?}, instance={address:?}, job=\"real\"}}")
}

/// Compares what is stored of `address` with what it says to a plain request: all values of one answer, which is
/// played back so that no gauge moves, and the number of samples of the living program.
async fn check(address: &str) {
    let mut body = None;
    for _ in 0..200 {
        body = direct(address).await;
        if body.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let body = body.expect("the program answers within ten seconds");
    let playback = Scripted::start(Reply {
        body: body.clone(),
        ..Reply::text("")
    })
    .await;
    let db = scraped(&playback.address).await;
    let expect = series_of(&body, &playback.address);
    assert!(expect.len() > 100, "{}", expect.len());
    for (labels, v) in &expect {
        let stored = db.values(labels);
        let v = crate::model::number::format_g(*v);
        assert!(
            stored.len() >= 3 && stored.iter().all(|stored| *stored == v),
            "{labels} {v}: {stored:?}"
        );
    }
    let n_reports = 5;
    assert_eq!(db.dump().len(), expect.len() + n_reports);

    let db = scraped(address).await;
    let last = db
        .values(&report("scrape_samples_scraped", address))
        .pop()
        .unwrap();
    let n_direct = series_of(&direct(address).await.unwrap(), address).len();
    assert!(
        last.parse::<usize>().unwrap().abs_diff(n_direct) <= 2,
        "{last} {n_direct}"
    );
}

#[tokio::test]
async fn a_node_exporter_is_stored_as_it_speaks() {
    let address = free_address();
    let arguments = [format!("--web.listen-address={address}")];
    let Some(_program) = start("prometheus-node-exporter", &arguments) else {
        return;
    };
    check(&address).await;
}

#[tokio::test]
async fn a_prometheus_is_stored_as_it_speaks() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    replace_file(&config, b"").unwrap();
    let address = free_address();
    let arguments = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address={address}"),
    ];
    let Some(_program) = start("prometheus", &arguments) else {
        return;
    };
    check(&address).await;
}
