//! What operators ask for, of the real process: deletion, cleaning, snapshots; and compaction where nothing is shipped.

use crate::harness::{Start, eventually, now_ms};

/// Levels of the blocks in a data directory, by their metas.
fn levels(data: &std::path::Path) -> Vec<u64> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path().join("meta.json"));
        let meta: Option<serde_json::Value> = text.ok().and_then(|t| serde_json::from_str(&t).ok());
        found.extend(meta.and_then(|meta| meta["compaction"]["level"].as_u64()));
    }
    found.sort_unstable();
    found
}

#[test]
fn blocks_are_compacted_where_they_stay_and_operators_delete_clean_and_copy() {
    let appliance = Start::new()
        .set("head.block_range", "10s")
        .set("retention.time", "0")
        .set("bucket.ship", "false")
        .set("http.admin_api", "true")
        .run();
    let end = now_ms();
    let sent: Vec<(i64, f64)> = (0..120)
        .map(|n| {
            (
                end - 120_000 + n * 1000,
                f64::from(u8::try_from(n).unwrap()),
            )
        })
        .collect();
    // Side by side: what lags half a block range behind is too old.
    for some in sent.chunks(4) {
        for name in ["kept", "gone"] {
            let status = appliance.write(&[("__name__", name)], some);
            assert!((200..300).contains(&status), "{status}");
        }
    }
    let data = appliance.data();
    eventually("blocks are compacted", || {
        levels(&data)
            .last()
            .is_some_and(|level| 2 <= *level)
            .then_some(())
    });
    let (from, to) = (sent[20].0, sent[119].0);
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let admin = "/api/v1/admin/tsdb";
    let wish = format!(
        "{admin}/delete_series?match[]=gone&start={}&end={}",
        seconds(from),
        seconds(to)
    );
    let answer = appliance.post(&wish);
    assert_eq!((answer.status, answer.text()), (204, String::new()));
    let left = appliance.samples("gone", sent[0].0, end);
    assert_eq!(left, sent[..20]);
    assert_eq!(appliance.samples("kept", sent[0].0, end), sent);
    assert_eq!(
        appliance.post(&format!("{admin}/clean_tombstones")).status,
        204
    );
    assert_eq!(appliance.samples("gone", sent[0].0, end), left);
    let answer = appliance.post(&format!("{admin}/snapshot"));
    let name = answer.json()["data"]["name"].as_str().unwrap().to_owned();
    let snapshot = data.join("snapshots").join(name);
    let dump = ["tsdb", "dump", snapshot.to_str().unwrap()];
    let dump = crate::harness::gauntlet(&dump, appliance.dir().path());
    let dump = String::from_utf8(dump.stdout).unwrap();
    let count = |name: &str| dump.lines().filter(|line| line.contains(name)).count();
    assert_eq!((count("\"gone\""), count("\"kept\"")), (20, 120));
    appliance.stop();
}

#[test]
fn without_being_asked_for_nothing_is_deleted() {
    let appliance = Start::new().run();
    let answer = appliance.post("/api/v1/admin/tsdb/delete_series?match[]=up");
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"], "admin APIs disabled");
    appliance.stop();
}
