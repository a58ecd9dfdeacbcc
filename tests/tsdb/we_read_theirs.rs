//! What is written there opens here.

use gauntlet::model::Interval;
use gauntlet::storage::Appendable;
use gauntlet::tsdb::TsdbSettings;

use crate::peer::{Prometheus, wait_ms, without_stale};
use crate::support::{assert_same, copy_dir, open, samples};

const SELF_SCRAPE: &str = "
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ['127.0.0.1:PORT']
";

#[test]
fn we_open_a_copy_of_what_a_prometheus_wrote_that_scraped_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let theirs = scratch.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let peer = Prometheus::start(&theirs, scratch.path(), SELF_SCRAPE);
    // Discovery takes five seconds; then some ten scrapes.
    wait_ms(11_000);
    let now = peer.get("/api/v1/query?query=time()");
    let now: serde_json::Value = serde_json::from_str(&now).unwrap();
    // Seconds with a fraction; a second ago is settled.
    let now = now["data"]["result"][0].to_string();
    let now: i64 = now.split('.').next().unwrap().parse().unwrap();
    let t = (now - 1) * 1000 + 77;
    let expected = peer.samples(t, 3_600_000);
    let n_expected: usize = expected.values().map(std::collections::BTreeMap::len).sum();
    assert!(n_expected > 1500, "{n_expected}");
    peer.kill();
    let copy = scratch.path().join("copy");
    copy_dir(&theirs, &copy);
    let db = open(&copy, TsdbSettings::default());
    let replayed = db.replayed();
    assert_eq!(
        (replayed.n_damages, replayed.n_unknown_refs),
        (0, 0),
        "{replayed:?}"
    );
    let interval = Interval {
        min: t - 3_600_000,
        max: t,
    };
    let found = without_stale(samples(&*db.timeline(), interval));
    assert!(found.len() > 300, "{}", found.len());
    let nan = |samples: &crate::support::Samples| -> usize {
        samples
            .values()
            .flat_map(|s| s.values())
            .filter(|b| f64::from_bits(**b).is_nan())
            .count()
    };
    assert_eq!(nan(&found), nan(&expected));
    let without_nan = |mut samples: crate::support::Samples| {
        for series in samples.values_mut() {
            series.retain(|_, bits| !f64::from_bits(*bits).is_nan());
        }
        samples.retain(|_, series| !series.is_empty());
        samples
    };
    assert_same(&without_nan(found), &without_nan(expected));
    // It is ours now: appending goes on.
    let before = db.stats().head.max_t.unwrap();
    let mut appender = db.appender();
    let labels = gauntlet::model::Labels::new(&[("__name__", "new")]).unwrap();
    appender.append_labels(&labels, before + 1000, 1.0).unwrap();
    appender.commit().unwrap();
    assert_eq!(db.stats().head.max_t, Some(before + 1000));
}
