//! A block moves head → local → bucket → retired, and a query sees every sample exactly once all the while.

use crate::harness::{Appliance, Start, eventually, now_ms, report};

/// Directories in `dir` that are blocks.
fn blocks(dir: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("meta.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // What is being written has an ending.
        .filter(|name| !name.contains('.'))
        .collect();
    names.sort();
    names
}

fn check_all_once(appliance: &Appliance, sent: &[(i64, f64)]) {
    let (from, to) = (sent[0].0, sent[sent.len() - 1].0);
    let seen = appliance.samples(r#"moving{path="through"}"#, from, to);
    assert_eq!(seen.len(), sent.len(), "samples are missing or twice");
    assert_eq!(seen, sent);
}

#[test]
fn every_sample_is_seen_once_while_blocks_move_to_the_bucket_and_leave_the_disk() {
    let appliance = Start::new()
        .set("head.block_range", "10s")
        .set("retention.time", "20s")
        .set("bucket.sync_interval", "1s")
        .run();
    let end = now_ms();
    let sent: Vec<(i64, f64)> = (0..300_i32)
        .map(|n| (end - 300_000 + i64::from(n) * 1000, f64::from(n)))
        .collect();
    let labels = [("__name__", "moving"), ("path", "through")];
    for part in sent.chunks(25) {
        assert_eq!(appliance.write(&labels, part), 204);
    }
    let data = appliance.data();
    let n_looks = std::cell::Cell::new(0);
    let (local, shipped) = eventually(
        "blocks are in the bucket and old ones left the disk",
        || {
            check_all_once(&appliance, &sent);
            n_looks.set(n_looks.get() + 1);
            let (local, shipped) = (blocks(&data), blocks(&data.join("bucket")));
            (20 <= shipped.len() && local.len() <= 5).then_some((local, shipped))
        },
    );
    report(&format!(
        "{} looks, {} blocks in the bucket, {} local",
        n_looks.get(),
        shipped.len(),
        local.len()
    ));
    assert!(local.iter().all(|block| shipped.contains(block)) || local.len() < shipped.len());
    let dir = appliance.dir();
    appliance.stop();

    // After a start again the gateway serves what is only in the bucket.
    let appliance = Start::new()
        .again_in(&dir)
        .set("head.block_range", "10s")
        .run();
    eventually("everything is served again", || {
        let seen = appliance.samples("moving", sent[0].0, end);
        (seen.len() == sent.len()).then_some(())
    });
    check_all_once(&appliance, &sent);
    appliance.stop();
}

#[test]
fn a_data_directory_is_listed_by_the_command_line() {
    let appliance = Start::new().set("head.block_range", "10s").run();
    let end = now_ms();
    let samples: Vec<(i64, f64)> = (0..40).map(|n| (end - 40_000 + n * 1000, 1.0)).collect();
    appliance.write(&[("__name__", "x")], &samples);
    let data = appliance.data();
    let block = eventually("a block is cut", || blocks(&data).into_iter().next());
    let listed = crate::harness::gauntlet(&["tsdb", "list", "data"], appliance.dir().path());
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.starts_with("BLOCK ") && listed.contains(&block),
        "{listed}"
    );
    appliance.stop();
}

#[test]
fn without_shipping_retention_deletes_local_blocks_all_the_same() {
    let appliance = Start::new()
        .set("head.block_range", "10s")
        .set("retention.time", "20s")
        .set("bucket.ship", "false")
        .run();
    let end = now_ms();
    let samples: Vec<(i64, f64)> = (0..120).map(|n| (end - 120_000 + n * 1000, 1.0)).collect();
    appliance.write(&[("__name__", "x")], &samples);
    let data = appliance.data();
    eventually("blocks were cut and old ones are gone", || {
        let cut = appliance.metric("prometheus_tsdb_compactions_total")?;
        (9.0 <= cut && blocks(&data).len() <= 3).then_some(())
    });
    assert!(blocks(&data.join("bucket")).is_empty());
    appliance.stop();
}

#[test]
fn blocks_go_to_the_bucket_that_is_named_under_the_labels_that_are_set() {
    let start = Start::new();
    let store = start.dir().path().join("store");
    let file = start.write(
        "bucket.yml",
        &format!(
            "type: FILESYSTEM\nconfig:\n  directory: {}\nprefix: metrics\n",
            store.display()
        ),
    );
    let appliance = start
        .set("bucket.config_file", &file.display().to_string())
        .set("head.block_range", "10s")
        .set("labels.region", "north")
        .set("labels.replica", "a")
        .run();
    let end = now_ms();
    let samples: Vec<(i64, f64)> = (0..40).map(|n| (end - 40_000 + n * 1000, 1.0)).collect();
    appliance.write(&[("__name__", "x")], &samples);
    let shipped = store.join("metrics");
    let block = eventually("a block is there", || blocks(&shipped).into_iter().next());
    let meta = std::fs::read(shipped.join(block).join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    let labels = serde_json::json!({"region": "north", "replica": "a"});
    assert_eq!(meta["thanos"]["labels"], labels);
    appliance.stop();
}

#[test]
fn a_wrong_bucket_file_names_file_line_and_key() {
    let start = Start::new();
    let file = start.write("bucket.yml", "type: FLOPPY\nconfig: {}\n");
    let (said, code) = start
        .set("bucket.config_file", &file.display().to_string())
        .fails();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("bucket.yml:1: type = \"FLOPPY\""), "{said}");
}
