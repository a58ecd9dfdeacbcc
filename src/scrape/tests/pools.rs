//! Loops, reloads and discovery at work, with intervals of a tenth of a second.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::foundation::durable::replace_file;
use crate::foundation::ports::free_port;
use crate::foundation::{Clock, SystemClock};
use crate::model::Labels;
use crate::relabel::{RelabelAction, RelabelRule, RelabelSettings};
use crate::scrape::manager::ScrapeManager;
use crate::scrape::settings::{
    DiscoverySettings, HttpDiscovery, HttpSettings, JobSettings, Settings, TargetGroup,
};
use crate::scrape::testing::{MemoryDb, Reply, Scripted, fast_job};
use crate::scrape::view::Health;
use crate::storage::Appendable;

fn manager(db: &Arc<MemoryDb>) -> ScrapeManager {
    let appendable = Arc::clone(db) as Arc<dyn Appendable>;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    ScrapeManager::new(appendable, clock, tokio::runtime::Handle::current(), 7)
}

fn settings(jobs: &[JobSettings]) -> Settings {
    Settings {
        jobs: jobs.to_vec(),
        ..Settings::default()
    }
}

fn labels(name: &str, job: &str, instance: &str) -> String {
    format!("{{__name__={name:?}, instance={instance:?}, job={job:?}}}")
}

fn targets_of(manager: &ScrapeManager) -> BTreeSet<String> {
    let view = manager.targets();
    view.active
        .iter()
        .map(|target| target.labels.value("instance").to_owned())
        .collect()
}

#[tokio::test]
async fn a_target_is_scraped_and_shown() {
    let server = Scripted::start(Reply::text("# HELP a Text.\n# TYPE a counter\na 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[&server.address]);
    job.request.interval_ms = 400;
    job.request.timeout_ms = 400;
    manager.apply(settings(&[job]));
    assert_eq!(manager.targets().active[0].health, Health::Unknown);
    let a = labels("a", "j", &server.address);
    db.wait_until(|db| db.values(&a).len() >= 3).await;
    manager.stop(Duration::from_secs(5)).await.unwrap();

    let times: Vec<i64> = db.dump()[&a].iter().map(|(t, _)| *t).collect();
    let view = manager.targets();
    let target = &view.active[0];
    assert_eq!(
        (target.health, target.last_error.as_str()),
        (Health::Up, "")
    );
    assert_eq!(target.scrape_url, server.url());
    assert_eq!(target.last_scrape_ms, times.last().copied());
    assert_eq!((target.interval_ms, target.timeout_ms), (400, 400));
    assert_eq!(manager.scrape_pools(), ["j"]);
    let metadata = manager.metadata();
    assert_eq!(metadata[0].metric, "a");
    assert_eq!(metadata[0].metadata.help, "Text.");
    let request = server.requests().remove(0);
    let accept = "accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                  application/openmetrics-text;version=0.0.1;q=0.5,\
                  text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n";
    assert!(request.contains(accept), "{request}");
    assert!(
        request.contains("x-prometheus-scrape-timeout-seconds: 0.4\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn stopping_writes_no_markers() {
    let server = Scripted::start(Reply::text("a 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[&server.address]);
    job.request.interval_ms = 400;
    job.request.timeout_ms = 400;
    manager.apply(settings(&[job]));
    db.wait_commits(3).await;
    manager.stop(Duration::from_secs(5)).await.unwrap();
    for (labels, samples) in db.dump() {
        assert!(
            samples.iter().all(|(_, v)| v != "stale"),
            "{labels}: {samples:?}"
        );
    }
}

#[tokio::test]
async fn content_types_decide_and_the_fallback_helps() {
    let server = Scripted::start(Reply::text("a 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[&server.address]);
    manager.apply(settings(std::slice::from_ref(&job)));
    let up = labels("up", "j", &server.address);
    let ends_with = |v: &'static str| {
        let up = up.clone();
        move |db: &MemoryDb| db.values(&up).last().is_some_and(|last| last == v)
    };
    db.wait_until(ends_with("1")).await;
    for (content_type, body, is_up) in [
        ("application/octet-stream", "a 1\n", false),
        ("text/plain; charset=utf-8", "a 1\n", true),
        (
            "application/openmetrics-text; version=1.0.0",
            "a 1\n",
            false,
        ),
        (
            "application/openmetrics-text; version=1.0.0",
            "a 1\n# EOF\n",
            true,
        ),
        ("", "a 1\n", false),
    ] {
        server.say(Reply::text(body).with("Content-Type", content_type));
        db.wait_until(ends_with(if is_up { "1" } else { "0" }))
            .await;
    }
    let blank = "non-compliant scrape target sending blank Content-Type";
    db.wait_until(|_| manager.targets().active[0].last_error.starts_with(blank))
        .await;
    job.request.fallback_protocol = Some(crate::exposition::ScrapeProtocol::PrometheusText0_0_4);
    manager.apply(settings(&[job]));
    db.wait_until(ends_with("1")).await;
}

#[tokio::test]
async fn a_removed_target_ends_two_intervals_later() {
    let server = Scripted::start(Reply::text("a 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    manager.apply(settings(&[fast_job("j", &[&server.address])]));
    let a = labels("a", "j", &server.address);
    db.wait_until(|db| db.values(&a).len() >= 3).await;
    manager.apply(settings(&[]));
    assert!(manager.targets().active.is_empty());
    db.wait_until(|db| db.values(&a).last().is_some_and(|v| v == "stale"))
        .await;
    let up = labels("up", "j", &server.address);
    assert_eq!(db.values(&up).last().unwrap(), "stale");
}

#[tokio::test]
async fn a_reload_that_changes_nothing_of_a_pool_leaves_it_alone() {
    let server = Scripted::start(Reply::text("a 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let job = fast_job("j", &[&server.address]);
    manager.apply(settings(std::slice::from_ref(&job)));
    let added = labels("scrape_series_added", "j", &server.address);
    let n_added = |db: &MemoryDb| db.values(&added).iter().filter(|v| *v == "1").count();
    db.wait_until(|db| n_added(db) == 1).await;
    let n = db.n_label_lookups();
    manager.apply(settings(std::slice::from_ref(&job)));
    // Another limit, interval and client: the cache stays, nothing ends.
    let mut changed = job.clone();
    changed.ingest.limits.samples = NonZeroUsize::new(100);
    changed.request.interval_ms = 150;
    changed.http.follow_redirects = false;
    changed.keep_dropped_targets = None;
    manager.apply(settings(&[changed]));
    let seen = db.values(&added).len();
    db.wait_until(|db| db.values(&added).len() >= seen + 5)
        .await;
    assert_eq!(db.n_label_lookups(), n);
    assert_eq!(n_added(&db), 1);
    assert_eq!(manager.targets().active[0].interval_ms, 150);
    assert_eq!(manager.counters().pool_reloads.get(), 1);
}

#[tokio::test]
async fn too_many_targets_fail_every_scrape_of_the_pool() {
    let servers = [
        Scripted::start(Reply::text("a 1\n")).await,
        Scripted::start(Reply::text("a 1\n")).await,
    ];
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[&servers[0].address, &servers[1].address]);
    job.target_limit = NonZeroUsize::new(1);
    manager.apply(settings(std::slice::from_ref(&job)));
    let ups = servers
        .each_ref()
        .map(|server| labels("up", "j", &server.address));
    db.wait_until(|db| ups.iter().all(|up| db.values(up).len() >= 2))
        .await;
    assert!(ups.iter().all(|up| db.values(up).iter().all(|v| v == "0")));
    let limit = "target_limit exceeded (number of targets: 2, limit: 1)";
    db.wait_until(|_| manager.targets().active[0].last_error == limit)
        .await;
    assert_eq!(manager.counters().pool_targets_exceeded.get(), 1);
    job.target_limit = None;
    manager.apply(settings(&[job]));
    db.wait_until(|db| ups.iter().all(|up| db.values(up).last().unwrap() == "1"))
        .await;
}

#[tokio::test]
async fn a_target_file_that_changes_changes_the_targets() {
    let first = Scripted::start(Reply::text("a 1\n")).await;
    let second = Scripted::start(Reply::text("a 1\n")).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.json");
    let write = |server: &Scripted| {
        let text = format!(
            r#"[{{"targets":["{}"],"labels":{{"env":"x"}}}}]"#,
            server.address
        );
        replace_file(&path, text.as_bytes()).unwrap();
    };
    write(&first);
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[]);
    let patterns = vec![dir.path().join("*.json")];
    job.discovery = vec![DiscoverySettings::File {
        patterns,
        refresh_ms: 3_600_000,
    }];
    manager.apply(settings(&[job]));
    db.wait_commits(2).await;
    let view = manager.targets();
    assert_eq!(view.active[0].labels.value("env"), "x");
    assert!(
        view.active[0]
            .discovered
            .value("__meta_filepath")
            .ends_with("t.json")
    );
    write(&second);
    db.wait_until(|_| targets_of(&manager) == BTreeSet::from([second.address.clone()]))
        .await;
}

#[tokio::test]
async fn a_failing_discovery_service_takes_no_target_away() {
    let target = Scripted::start(Reply::text("a 1\n")).await;
    let list = format!(r#"[{{"targets":["{}"]}}]"#, target.address);
    let json = |body: &str| Reply::text(body).with("Content-Type", "application/json");
    let service = Scripted::start(json(&list)).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[]);
    job.discovery = vec![DiscoverySettings::Http(Box::new(HttpDiscovery {
        url: service.url(),
        refresh_ms: 50,
        http: HttpSettings::default(),
    }))];
    manager.apply(settings(&[job]));
    let up = labels("up", "j", &target.address);
    db.wait_until(|db| !db.values(&up).is_empty()).await;
    assert_eq!(
        manager.targets().active[0].discovered.value("__meta_url"),
        service.url()
    );
    assert!(service.requests()[0].contains("x-prometheus-refresh-interval-seconds: 0.05\r\n"));
    for broken in [Reply::status("500 Oops"), json("[{"), Reply::text("[]")] {
        service.say(broken);
        let asked = service.requests().len();
        db.wait_until(|_| service.requests().len() > asked + 2)
            .await;
        assert_eq!(
            targets_of(&manager),
            BTreeSet::from([target.address.clone()])
        );
    }
    service.say(json("[]"));
    db.wait_until(|db| db.values(&up).last().is_some_and(|v| v == "stale"))
        .await;
    assert!(targets_of(&manager).is_empty());
}

#[tokio::test]
async fn an_optional_target_leaves_no_trace_until_it_answers() {
    let absent = format!("127.0.0.1:{}", free_port());
    let present = Scripted::start(Reply::text("a 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[&absent, &present.address]);
    job.only_while_it_answers = true;
    manager.apply(settings(&[job]));
    db.wait_commits(5).await;
    assert_eq!(
        targets_of(&manager),
        BTreeSet::from([present.address.clone()])
    );
    assert!(db.values(&labels("up", "j", &absent)).is_empty());
    present.say(Reply::status("500 Oops"));
    let up = labels("up", "j", &present.address);
    db.wait_until(|db| db.values(&up).last().is_some_and(|v| v == "stale"))
        .await;
    assert!(targets_of(&manager).is_empty());
    present.say(Reply::text("a 2\n"));
    db.wait_until(|db| db.values(&up).last().is_some_and(|v| v == "1"))
        .await;
}

#[tokio::test]
async fn a_hundred_targets_are_spread_and_all_scraped() {
    let server = Scripted::start(Reply::text("a 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[]);
    job.request.interval_ms = 1_000;
    job.request.timeout_ms = 1_000;
    let groups = (0..100).map(|n| TargetGroup {
        addresses: vec![server.address.clone()],
        labels: Labels::new(&[("n", n.to_string())]).unwrap(),
    });
    job.discovery = vec![DiscoverySettings::Static(groups.collect())];
    manager.apply(settings(&[job]));
    assert_eq!(manager.n_targets()["j"], 100);
    let ups = |db: &MemoryDb| -> Vec<i64> {
        let dump = db.dump();
        let ups = dump
            .into_iter()
            .filter(|(labels, _)| labels.contains("\"up\""));
        ups.map(|(_, samples)| samples[0].0).collect()
    };
    db.wait_until(|db| ups(db).len() == 100).await;
    let tenths: BTreeSet<i64> = ups(&db).iter().map(|t| t.rem_euclid(1_000) / 100).collect();
    assert!(tenths.len() >= 7, "{tenths:?}");
    manager.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(manager.counters().failed_scrapes.get(), 0);
}

/// Wall time that goes with tokio's, which a test can let jump from timer to timer.
#[derive(Debug)]
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now_ms(&self) -> i64 {
        1_700_000_000_123 + i64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_targets_keep_their_grid_for_ten_minutes() {
    let db = MemoryDb::new();
    let appendable = Arc::clone(&db) as Arc<dyn Appendable>;
    let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
    let manager = ScrapeManager::new(appendable, clock, tokio::runtime::Handle::current(), 7);
    // Above the limit of targets nothing is fetched, so time can jump.
    let addresses: Vec<String> = (0..100).map(|n| format!("h{n}:1")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut job = fast_job("j", &addresses);
    job.request.interval_ms = 15_000;
    job.request.timeout_ms = 15_000;
    job.target_limit = NonZeroUsize::new(1);
    manager.apply(settings(&[job]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    manager.stop(Duration::from_secs(5)).await.unwrap();

    let mut places = BTreeSet::new();
    for (labels, samples) in db.dump() {
        let distances: BTreeSet<i64> = samples
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .collect();
        assert_eq!(distances, BTreeSet::from([15_000]), "{labels}");
        assert!(
            (39..=41).contains(&samples.len()),
            "{labels}: {}",
            samples.len()
        );
        places.insert(samples[0].0 % 15_000);
    }
    assert!(places.len() > 90, "{} places for 100 targets", places.len());
}

#[tokio::test]
async fn equal_targets_are_one_and_dropped_ones_are_counted() {
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &["a:1", "a:1", "b:1", "drop-1:1", "drop-2:1"]);
    job.request.interval_ms = 3_600_000;
    job.keep_dropped_targets = NonZeroUsize::new(1);
    job.relabel = vec![
        RelabelRule::new(RelabelSettings {
            action: Some(RelabelAction::Drop),
            source_labels: Some(vec!["__address__".to_owned()]),
            regex: Some("drop-.*".to_owned()),
            ..RelabelSettings::default()
        })
        .unwrap(),
    ];
    manager.apply(settings(&[job]));
    let view = manager.targets();
    let active = BTreeSet::from(["a:1".to_owned(), "b:1".to_owned()]);
    assert_eq!((view.active.len(), targets_of(&manager)), (2, active));
    assert_eq!(view.dropped.len(), 1);
    assert_eq!(view.dropped[0].discovered.value("__address__"), "drop-1:1");
    assert_eq!(view.dropped_counts["j"], 2);
}

#[tokio::test]
async fn a_panic_while_appending_costs_one_scrape() {
    let server = Scripted::start(Reply::text("a 1\n")).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    manager.apply(settings(&[fast_job("j", &[&server.address])]));
    let a = labels("a", "j", &server.address);
    db.wait_until(|db| db.values(&a).len() >= 2).await;
    db.panic_once();
    let before = db.values(&a).len();
    db.wait_until(|db| db.values(&a).len() >= before + 3).await;
    assert_eq!(manager.n_targets()["j"], 1);
}

#[tokio::test]
async fn a_target_that_hangs_does_not_hold_up_the_stop() {
    let hanging = Reply {
        hangs: true,
        ..Reply::text("a 1\nb 2\n")
    };
    let server = Scripted::start(hanging).await;
    let db = MemoryDb::new();
    let manager = manager(&db);
    let mut job = fast_job("j", &[&server.address]);
    job.request.interval_ms = 4_000;
    job.request.timeout_ms = 4_000;
    manager.apply(settings(&[job]));
    let asked = async {
        while server.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked)
        .await
        .unwrap();
    let started = tokio::time::Instant::now();
    manager.stop(Duration::from_secs(3)).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(db.dump().is_empty());
}
