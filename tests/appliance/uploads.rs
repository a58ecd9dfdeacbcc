//! Blocks that somebody else made go to the bucket: by the appliance, and by `gauntlet bucket upload-blocks`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Start, eventually, gauntlet};

/// A directory with blocks as a backfill leaves them.
fn backfilled(start: &Start) -> std::path::PathBuf {
    let text: String = (0..100)
        .map(|n| format!("old{{job=\"a\"}} {n} {}\n", 1_700_000_000 + n * 60))
        .chain(["# EOF\n".to_owned()])
        .collect();
    let input = start.write("old.om", &text);
    let dir = start.dir().path().join("prometheus");
    let arguments = ["tsdb", "create-blocks-from", "openmetrics", "--quiet"];
    let paths = [input.display().to_string(), dir.display().to_string()];
    let mut arguments = arguments.to_vec();
    arguments.extend(paths.iter().map(String::as_str));
    let output = gauntlet(&arguments, start.dir().path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    dir
}

fn blocks_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut blocks: Vec<String> = names
        .filter(|name| dir.join(name).join("meta.json").is_file())
        .collect();
    blocks.sort();
    blocks
}

fn thanos_of(bucket: &Path, block: &str) -> Value {
    let text = fs::read(bucket.join(block).join("meta.json")).unwrap();
    let meta: Value = serde_json::from_slice(&text).unwrap();
    meta["thanos"].clone()
}

#[test]
fn blocks_of_a_directory_are_uploaded_once_and_named_by_the_labels_given() {
    let start = Start::new();
    let dir = backfilled(&start);
    let blocks = blocks_in(&dir);
    assert!(!blocks.is_empty());
    let bucket = start.dir().path().join("elsewhere");
    let text = format!(
        "type: FILESYSTEM\nconfig:\n  directory: {}\n",
        bucket.display()
    );
    let file = start.write("bucket.yml", &text).display().to_string();
    let dir = dir.display().to_string();
    let arguments = [
        "bucket",
        "upload-blocks",
        "--objstore.config-file",
        &file,
        "--path",
        &dir,
        "--output",
        "json",
    ];
    let output = gauntlet(&arguments, Path::new("/"));
    assert_eq!(output.status.code(), Some(2), "labels are needed");
    let mut labelled = arguments.to_vec();
    labelled.extend(["--label", "cluster=\"old\""]);
    for expect in [blocks.len(), 0] {
        let output = gauntlet(&labelled, Path::new("/"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["uploaded"].as_array().unwrap().len(), expect);
    }
    assert_eq!(blocks_in(&bucket), blocks);
    let thanos = thanos_of(&bucket, &blocks[0]);
    assert_eq!(thanos["labels"]["cluster"], "old");
    assert_eq!(thanos["source"], "bucket.upload");
    assert_eq!(thanos["files"][0]["hash"]["hashFunc"], "SHA256");
}

#[test]
fn blocks_of_an_attached_prometheus_are_shipped_and_stay_there() {
    let start = Start::new();
    let dir = backfilled(&start);
    let blocks = blocks_in(&dir);
    let appliance = start
        .set("bucket.prometheus_dir", &dir.display().to_string())
        .set("bucket.prometheus_labels", "cluster=b, replica=r1")
        .set("http.admin_api", "true")
        .run();
    let bucket = appliance.data().join("bucket");
    eventually("the blocks are in the bucket", || {
        (blocks_in(&bucket) == blocks).then_some(())
    });
    let labels = thanos_of(&bucket, &blocks[0])["labels"].clone();
    assert_eq!(labels, serde_json::json!({"cluster": "b", "replica": "r1"}));
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let uploads = blocks.len() as f64;
    assert_eq!(
        appliance.metric("thanos_shipper_uploads_total"),
        Some(uploads)
    );
    assert_eq!(blocks_in(&dir), blocks);
    let viewed = |view: &str| {
        let answer = appliance.get(&format!("/api/v1/blocks{view}"));
        let blocks = answer.json()["data"]["blocks"].clone();
        let ids = blocks.as_array().unwrap().iter();
        let mut ids: Vec<String> = ids
            .map(|meta| meta["ulid"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    for view in ["", "?view=loaded"] {
        eventually("the viewer sees them", || {
            (viewed(view) == blocks).then_some(())
        });
    }
    let mark = format!("/api/v1/blocks/mark?id={}&action=DELETION", blocks[0]);
    assert_eq!(appliance.post(&mark).status, 200);
    let mark = bucket.join(&blocks[0]).join("deletion-mark.json");
    assert!(mark.try_exists().unwrap());
    assert!(dir.join("thanos.shipper.json").try_exists().unwrap());
    appliance.stop();
}
