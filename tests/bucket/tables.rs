//! What `ls` and `inspect` print, to the letter.

use gauntlet::foundation::durable::replace_file;

use crate::fixture::{Bucket, id, yaml};

#[test]
fn ls_prints_names_lines_metas_and_templates_of_chosen_blocks() {
    let bucket = Bucket::new();
    let names = |arguments: &[&str]| bucket.prints("ls", arguments);
    let ids =
        |numbers: &[u64]| -> String { numbers.iter().map(|n| format!("{}\n", id(*n))).collect() };
    assert_eq!(names(&[]), ids(&[1, 2, 3, 4, 5]));
    let wide = names(&["-o", "wide"]);
    assert_eq!(
        wide.lines().nth(3).unwrap(),
        format!(
            "{} -- 2023-11-15T06:00:00Z - 2023-11-17T06:00:00Z Diff: 48h0m0s, Compaction: 3, Downsample: 300000, Source: sidecar",
            id(4)
        )
    );
    let json = names(&["-o", "json"]);
    assert!(json.starts_with("{\n\t\"ulid\": "), "{json}");
    let line = "{{.Compaction.Level}} {{.Thanos.Labels}} {{.Stats.NumSamples}}";
    let lines = names(&["-o", line]);
    assert_eq!(
        lines.lines().next(),
        Some("1 map[cluster:eu replica:0] 360")
    );
    assert_eq!(names(&["--max-time", "2023-11-14T23:00:00Z"]), ids(&[1, 3]));
    assert_eq!(names(&["--min-time", "2023-11-16T00:00:00Z"]), ids(&[4]));
    let rules = "- {action: keep, source_labels: [cluster], regex: us}";
    assert_eq!(names(&["--selector.relabel-config", rules]), ids(&[2]));
    let rules = "- {action: replace, target_label: x, replacement: y}";
    let (error, code) = bucket.refuses("ls", &["--selector.relabel-config", rules]);
    assert!(error.contains("expected keep, drop or hashmod"), "{error}");
    assert_eq!(code, Some(2));
    let (error, code) = bucket.refuses("ls", &["-o", "{{.Nothing}}"]);
    assert!(error.contains("\".Nothing\" is not a field"), "{error}");
    assert_eq!(code, Some(2));
}

#[test]
fn inspect_draws_the_table_of_thanos() {
    let bucket = Bucket::new();
    let table = bucket.prints(
        "inspect",
        &["-l", "cluster=\"eu\"", "--sort-by", "COMP-LEVEL"],
    );
    let expect = "\
|            ULID            |         FROM         |        UNTIL         |  RANGE  | UNTIL-DOWN | #SERIES | #SAMPLES | #CHUNKS | COMP-LEVEL | COMP-FAILED |        LABELS        | RESOLUTION | SOURCE  |
|----------------------------|----------------------|----------------------|---------|------------|---------|----------|---------|------------|-------------|----------------------|------------|---------|
| 00000000010000000000000001 | 2023-11-14T22:00:00Z | 2023-11-15T00:00:00Z | 2h0m0s  | 38h0m0s    | 3       | 360      | 3       | 1          | false       | cluster=eu,replica=0 | 0s         | sidecar |
| 00000000030000000000000003 | 2023-11-14T22:00:00Z | 2023-11-15T06:00:00Z | 8h0m0s  | 32h0m0s    | 3       | 1,440    | 12      | 2          | false       | cluster=eu,replica=0 | 0s         | sidecar |
| 00000000040000000000000004 | 2023-11-15T06:00:00Z | 2023-11-17T06:00:00Z | 48h0m0s | 192h0m0s   | 3       | 8,640    | 72      | 3          | false       | cluster=eu,replica=0 | 5m0s       | sidecar |
";
    assert_eq!(table, expect);
    let rows = bucket.prints("inspect", &["--output", "csv", "-l", "cluster=us"]);
    assert_eq!(
        rows,
        "ULID,FROM,UNTIL,RANGE,UNTIL-DOWN,#SERIES,#SAMPLES,#CHUNKS,COMP-LEVEL,COMP-FAILED,LABELS,RESOLUTION,SOURCE\n\
         00000000020000000000000002,2023-11-15T00:00:00Z,2023-11-15T02:00:00Z,2h0m0s,38h0m0s,3,360,3,1,false,\"cluster=us,replica=0\",0s,sidecar\n"
    );
    let rows = bucket.prints("inspect", &["--output", "tsv"]);
    assert_eq!(rows.lines().count(), 6);
    assert!(rows.contains("\tcluster=us,replica=0\t"), "{rows}");
    let rows = bucket.prints("inspect", &["--output", "json"]);
    assert!(rows.contains("\"#SAMPLES\": 8640"), "{rows}");
    let (_, code) = bucket.refuses("inspect", &["--sort-by", "COLOUR"]);
    assert_eq!(code, Some(2));
}

#[test]
fn a_bucket_is_named_by_a_file_or_is_the_appliance_s_own() {
    let bucket = Bucket::new();
    let expect = bucket.prints("ls", &[]);
    let file = bucket.beside("bucket.yml");
    replace_file(&file, yaml(&bucket.path()).as_bytes()).unwrap();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gauntlet"))
            .args(["bucket", "ls"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let file = file.to_str().unwrap();
    assert_eq!(run(&["--objstore.config-file", file]), expect);
    let set = format!("bucket.config_file={file}");
    assert_eq!(run(&["--set", &set]), expect);
    // Without any file it is the directory beside the data.
    let data = bucket.beside("");
    assert_eq!(run(&["--data-dir", data.to_str().unwrap()]), expect);
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_without_its_secrets() {
    let bucket = Bucket::new();
    let text = "{type: S3, config: {bucket: b, endpoint: e, secret_key: h1dden, typo: 1}}";
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gauntlet"))
        .args(["bucket", "ls", "--objstore.config", text])
        .current_dir(bucket.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("config.typo: unknown key"), "{error}");
    assert!(error.contains("access_key is missing"), "{error}");
    assert!(!error.contains("h1dden"), "{error}");
}
