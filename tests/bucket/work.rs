//! What changes a bucket: told first, done when asked, and never half.

use std::path::Path;

use gauntlet::block::verify;

use crate::fixture::{Bucket, id, yaml};

fn mark(bucket: &Bucket, n: u64, marker: &str) -> String {
    let id = id(n).to_string();
    let arguments = ["--id", &id, "--marker", marker, "--details", "by hand"];
    bucket.prints("mark", &arguments)
}

#[test]
fn marks_are_written_and_removed() {
    let bucket = Bucket::new();
    for marker in [
        "deletion-mark.json",
        "no-compact-mark.json",
        "no-downsample-mark.json",
    ] {
        assert_eq!(
            mark(&bucket, 1, marker),
            format!("{}: {marker} written\n", id(1))
        );
        let text = std::fs::read_to_string(bucket.block(1).join(marker)).unwrap();
        assert!(text.contains("\"details\":\"by hand\""), "{text}");
        // Again it stays as it is.
        assert_eq!(mark(&bucket, 1, marker), "");
        let id = id(1).to_string();
        let removed = bucket.prints("mark", &["--id", &id, "--marker", marker, "--remove"]);
        assert_eq!(removed, format!("{id}: {marker} removed\n"));
        assert!(!bucket.block(1).join(marker).try_exists().unwrap());
    }
    let id = id(1).to_string();
    let arguments = ["--id", &id, "--marker", "no-compact-mark.json"];
    let (error, code) = bucket.refuses("mark", &arguments);
    assert!(error.contains("--details"), "{error}");
    assert_eq!(code, Some(2));
    mark(&bucket, 2, "deletion-mark.json");
    let listed = bucket.prints("ls", &["--exclude-delete"]);
    assert_eq!(listed.lines().count(), 4);
}

#[test]
fn cleanup_tells_what_would_go_and_deletes_it_when_asked() {
    let bucket = Bucket::new();
    mark(&bucket, 1, "deletion-mark.json");
    let now = ["--delete-delay", "0s"];
    let told = bucket.prints("cleanup", &now);
    let id = id(1);
    assert!(
        told.starts_with(&format!(
            "would delete {id}: marked for deletion, 4 objects, "
        )),
        "{told}"
    );
    assert!(bucket.block(1).join("meta.json").try_exists().unwrap());
    assert_eq!(bucket.prints("cleanup", &["--yes"]), "");
    let done = bucket.prints("cleanup", &["--delete-delay", "0s", "--no-dry-run"]);
    assert!(done.starts_with(&format!("deleted {id}: ")), "{done}");
    assert!(!bucket.block(1).join("meta.json").try_exists().unwrap());
    assert_eq!(bucket.prints("ls", &[]).lines().count(), 4);
}

#[test]
fn downsample_tells_what_is_due_and_makes_it_once() {
    let bucket = Bucket::new();
    let before = Bucket::names(&bucket.path());
    // Only blocks of forty hours become coarser.
    let data = bucket.beside("data").display().to_string();
    let arguments = ["--data-dir", &data];
    assert_eq!(bucket.prints("downsample", &arguments), "");
    let mut meta = bucket.meta(2);
    meta.max_time = meta.min_time + 48 * 3_600_000;
    meta.write(&bucket.block(2)).unwrap();
    let told = bucket.prints("downsample", &["--dry-run"]);
    assert!(told.starts_with(&format!("{} to 5m, ", id(2))), "{told}");
    assert_eq!(Bucket::names(&bucket.path()), before);
    let done = bucket.prints("downsample", &arguments);
    assert_eq!(done.lines().count(), 1, "{done}");
    let mut made = Bucket::names(&bucket.path());
    made.retain(|name| !before.contains(name));
    assert_eq!(made.len(), 1);
    let problems = verify(&bucket.path().join(&made[0])).problems;
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(bucket.prints("downsample", &arguments), "");
}

#[test]
fn replicate_copies_what_is_wanted_once() {
    let bucket = Bucket::new();
    let to = bucket.beside("to");
    let to_yaml = yaml(&to);
    let arguments = ["--objstore-to.config", &to_yaml, "--single-run"];
    let copied = bucket.prints("replicate", &arguments);
    // Oldest first; the one without labels stays.
    let order: Vec<_> = copied
        .lines()
        .map(|line| line.split([' ', ':']).nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(order, [1, 3, 2, 4].map(|n| id(n).to_string()));
    assert_eq!(bucket.prints("replicate", &arguments), "");
    for n in [1, 2, 3, 4] {
        let there = to.join(id(n).to_string());
        assert_eq!(verify(&there).problems, Vec::<String>::new());
        for file in ["meta.json", "index", "chunks/000001"] {
            let here = std::fs::read(bucket.block(n).join(file)).unwrap();
            assert!(std::fs::read(there.join(file)).unwrap() == here, "{file}");
        }
    }
    let few = bucket.beside("few");
    let few_yaml = yaml(&few);
    let matcher = [
        "--objstore-to.config",
        &few_yaml,
        "--single-run",
        "--matcher",
        "cluster=~\"e.\"",
        "--resolution",
        "5m",
    ];
    bucket.prints("replicate", &matcher);
    assert_eq!(Bucket::names(&few), [id(4).to_string()]);
}

#[test]
fn replicate_goes_on_past_what_it_cannot_copy_and_names_it() {
    let bucket = Bucket::new();
    let to = bucket.beside("to");
    // Where the oldest would go lies a file.
    std::fs::create_dir_all(&to).unwrap();
    std::fs::File::create(to.join(id(1).to_string())).unwrap();
    let to_yaml = yaml(&to);
    let arguments = ["--objstore-to.config", &to_yaml, "--single-run"];
    let (error, code) = bucket.refuses("replicate", &arguments);
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("{}: ", id(1))), "{error}");
    assert!(
        error.contains("3 blocks copied, 0 were there, 1 failed"),
        "{error}"
    );
    for n in [2, 3, 4] {
        let there = to.join(id(n).to_string());
        assert_eq!(verify(&there).problems, Vec::<String>::new());
    }
}

#[test]
fn retention_tells_what_is_over_marks_it_when_asked_and_holds_what_has_nothing_coarser() {
    let bucket = Bucket::new();
    let kept = ["--retention.resolution-raw", "40h"];
    // All of it is years old, and of nothing raw is there anything coarser.
    let told = bucket.prints("retention", &kept);
    let lines: Vec<_> = [1, 2, 3, 5]
        .iter()
        .map(|n| format!("held {}: nothing coarser is there yet", id(*n)))
        .collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), lines);
    let (error, code) = bucket.refuses("retention", &["--retention.resolution-raw", "39h"]);
    assert!(
        error.contains("only blocks of 1d16h are downsampled"),
        "{error}"
    );
    assert_eq!(code, Some(2));
    let mut all = kept.to_vec();
    all.extend([
        "--downsampling.disable",
        "--selector.relabel-config",
        "- {action: keep, source_labels: [cluster], regex: us}",
    ]);
    let marked = || {
        bucket
            .block(2)
            .join("deletion-mark.json")
            .try_exists()
            .unwrap()
    };
    let told = bucket.prints("retention", &all);
    let what = format!("mark {}: block exceeding retention of 1d16h", id(2));
    assert_eq!((told, marked()), (format!("would {what}\n"), false));
    all.push("--yes");
    let done = bucket.prints("retention", &all);
    let what = what.replacen("mark", "marked", 1);
    assert_eq!((done, marked()), (format!("{what}\n"), true));
    assert_eq!(bucket.prints("retention", &all), "", "it is marked already");
}

#[test]
fn verify_names_what_is_wrong_and_repairs_it_when_asked() {
    let bucket = Bucket::new();
    let output = bucket.run("verify", &["-i", "index_known_issues"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((text.as_str(), output.status.code()), ("", Some(0)));
    let output = bucket.run("verify", &["-i", "overlapped_blocks"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expect = format!("{}: overlapped_blocks: ", id(3));
    assert!(
        text.starts_with(&expect) && text.lines().count() == 1,
        "{text}"
    );
    // A block that says that it ends earlier than its samples.
    let mut meta = bucket.meta(2);
    meta.max_time -= 3_600_000;
    meta.write(&bucket.block(2)).unwrap();
    let backup = bucket.beside("backup");
    let backup_yaml = yaml(&backup);
    let repair = ["-r", "--objstore-backup.config", &backup_yaml];
    let output = bucket.run("verify", &repair);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.starts_with(&format!("{}: index_known_issues: ", id(2))),
        "{text}"
    );
    assert!(bucket.block(2).join("meta.json").try_exists().unwrap());
    let mut done = repair.to_vec();
    done.push("--yes");
    let text = bucket.prints("verify", &done);
    assert!(text.contains("takes its place"), "{text}");
    assert!(!bucket.block(2).join("meta.json").try_exists().unwrap());
    assert!(
        backup
            .join(id(2).to_string())
            .join("meta.json")
            .try_exists()
            .unwrap()
    );
    assert_eq!(bucket.prints("verify", &["-i", "index_known_issues"]), "");
    let (error, code) = bucket.refuses("verify", &["--repair"]);
    assert!(error.contains("objstore-backup"), "{error}");
    assert_eq!(code, Some(2));
}

#[test]
fn rewrite_tells_what_would_change_and_makes_a_block_that_promtool_reads() {
    let bucket = Bucket::new();
    let (one, tmp) = (id(1).to_string(), bucket.beside("tmp"));
    let tmp_text = tmp.to_str().unwrap().to_owned();
    let deletions = "[{matchers: '{n=\"0\"}'}, {matchers: '{n=\"1\"}', intervals: [{mint: 0, maxt: 1700002800000}]}]";
    let rules = "[{action: replace, target_label: job, replacement: b}]";
    let arguments = [
        "--id",
        &one,
        "--tmp.dir",
        &tmp_text,
        "--rewrite.to-delete-config",
        deletions,
        "--rewrite.to-relabel-config",
        rules,
    ];
    let told = bucket.prints("rewrite", &arguments);
    let series = |n, job| format!("{{__name__=\"up\", job=\"{job}\", n=\"{n}\"}}");
    let expect = format!(
        "{one}: Deleted {} [{{1699999200000 1700006340000}}]\n\
         {one}: Deleted {} [{{1699999200000 1700002800000}}]\n\
         {one}: Relabelled {} {}\n\
         {one}: Relabelled {} {}\n",
        series(0, "a"),
        series(1, "a"),
        series(1, "a"),
        series(1, "b"),
        series(2, "a"),
        series(2, "b"),
    );
    assert_eq!(told, expect);
    assert_eq!(Bucket::names(&bucket.path()).len(), 5);
    let mut done = arguments.to_vec();
    done.extend(["--no-dry-run", "--delete-blocks", "--hash-func", "SHA256"]);
    let text = bucket.prints("rewrite", &done);
    let new = text
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        text,
        format!("{one}: rewritten as {new}\n{one}: marked for deletion\n")
    );
    assert!(
        bucket
            .block(1)
            .join("deletion-mark.json")
            .try_exists()
            .unwrap()
    );
    let log = std::fs::read_to_string(tmp.join(&new).join("change.log")).unwrap();
    assert_eq!(log, expect.replace(&format!("{one}: "), ""));
    let made = bucket.path().join(new);
    check_rewritten(&made);
    check_hashes(&made);
    let five = id(5).to_string();
    let mut unlabelled = done.clone();
    unlabelled[1] = &five;
    let (error, code) = bucket.refuses("rewrite", &unlabelled);
    assert!(error.contains("--prom-blocks"), "{error}");
    assert_eq!(code, Some(2));
    let (error, _) = bucket.refuses("rewrite", &["--id", &one]);
    assert!(error.contains("what to change"), "{error}");
}

fn check_hashes(made: &Path) {
    let files = gauntlet::block::BlockMeta::read(made).unwrap();
    let files = files.thanos.unwrap().files;
    let hashed = |name: &str| {
        let file = files.iter().find(|file| file.rel_path == name).unwrap();
        file.hash
            .as_ref()
            .map(|hash| (hash.func.clone(), hash.value.clone()))
    };
    let (_, index) = gauntlet::foundation::sha256::sha256_file(&made.join("index")).unwrap();
    assert_eq!(hashed("index"), Some(("SHA256".to_owned(), index)));
    assert_eq!(hashed("meta.json"), None);
}

/// The rest of two series, read by promtool too.
fn check_rewritten(dir: &Path) {
    let report = verify(dir);
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.stats.num_series, 2);
    // The second hour of one, less its first sample, and both of the other.
    assert_eq!(report.stats.num_samples, 59 + 120);
    let db = dir.parent().unwrap();
    // promtool wants a log beside the blocks.
    std::fs::create_dir(db.join("wal")).unwrap();
    let output = std::process::Command::new("promtool")
        .args(["tsdb", "dump", "--match={job=\"b\"}"])
        .arg(db)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 59 + 120, "{errors}");
}
