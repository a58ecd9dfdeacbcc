//! Every layer, every refusal.

use super::*;
use crate::config::appliance::layers::shipped_keys;
use crate::foundation::durable::replace_file;
use crate::gateway::{Selector, TimeBound};
use crate::scrape::StartTimes;

fn given(set: &[(&str, &str)]) -> Given {
    Given {
        set: set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Given::default()
    }
}

#[track_caller]
fn refused(given: &Given) -> Vec<String> {
    load(given)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_shipped_file_is_valid_and_complete() {
    let settings = load(&Given::default()).unwrap();
    assert_eq!(settings.http.address.to_string(), "127.0.0.1:10902");
    assert_eq!(settings.tsdb.head.chunk_range_ms, 7_200_000);
    assert_eq!(
        settings.wal_sync,
        WalSync::Every(std::time::Duration::from_secs(1))
    );
    assert!(settings.labels.0.is_empty());
    // A key that is read and not shipped would be complained of above; here is the other direction.
    let read: Vec<&str> = settings.flags.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(read, shipped_keys());
}

#[test]
fn every_shipped_key_has_a_comment_above_it() {
    let mut is_commented = false;
    for line in SHIPPED.lines() {
        match line.trim() {
            "" => is_commented = false,
            comment if comment.starts_with('#') => is_commented = true,
            section if section.starts_with('[') => is_commented = false,
            key => assert!(is_commented, "no comment above {key}"),
        }
    }
}

#[test]
fn later_layers_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("appliance.toml");
    replace_file(
        &file,
        b"[query]\nqueue = 1\nmax_concurrent = 1\ntimeout = \"1s\"\nlookback = \"1m\"\n",
    )
    .unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    replace_file(
        &dir.path().join("conf.d/20.toml"),
        b"query.max_concurrent = 3",
    )
    .unwrap();
    replace_file(
        &dir.path().join("conf.d/10.toml"),
        b"query.max_concurrent = 2\nquery.timeout = \"2s\"",
    )
    .unwrap();
    replace_file(&dir.path().join("conf.d/notes.txt"), b"not toml").unwrap();
    let given = Given {
        file: Some(file),
        environment: vec![
            ("GAUNTLET__QUERY__TIMEOUT".to_owned(), "3s".to_owned()),
            ("GAUNTLET__LABELS__REPLICA".to_owned(), "a".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ],
        set: vec![("query.lookback".to_owned(), "4m".to_owned())],
    };
    let settings = load(&given).unwrap();
    assert_eq!(settings.query.queue_max, 1);
    assert_eq!(settings.query.concurrent_max, 3);
    assert_eq!(settings.query.timeout.as_secs(), 3);
    assert_eq!(settings.query.lookback.as_secs(), 240);
    assert_eq!(settings.labels.0.to_string(), r#"{replica="a"}"#);
}

#[test]
fn everything_wrong_is_named_at_once_with_file_line_key_and_value() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("appliance.toml");
    replace_file(&file, b"[http]\nadress = \"127.0.0.1:1\"\n[query]\nqueue = \"many\"\ntimeout = -5\n[head]\nwal_compression = \"lz4\"\n").unwrap();
    let given = Given {
        file: Some(file.clone()),
        environment: vec![("GAUNTLET__POOLS__BULK_THREADS".to_owned(), "0".to_owned())],
        set: vec![("retention.size".to_owned(), "12".to_owned())],
    };
    let file = file.display();
    let expect = [
        format!("{file}:2: http.adress = \"127.0.0.1:1\": there is no such key; is http.address meant?"),
        format!("{file}:4: query.queue = \"many\": expected a whole number of at least 1"),
        format!("{file}:5: query.timeout = \"-5\": expected a duration longer than 0, such as 15s, 2h or 1h30m"),
        format!("{file}:7: head.wal_compression = \"lz4\": expected one of snappy, zstd, none"),
        "command line: retention.size = \"12\": expected a size such as 512MB or 1.5GB; 0 for none".to_owned(),
        "environment variable GAUNTLET__POOLS__BULK_THREADS: pools.bulk_threads = \"0\": expected a whole number of at least 1".to_owned(),
    ];
    assert_eq!(refused(&given), expect);
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("appliance.toml");
    replace_file(&file, b"[http]\naddress = = 1\n").unwrap();
    let given = Given {
        file: Some(file.clone()),
        ..Given::default()
    };
    let texts = refused(&given);
    assert!(
        texts
            .iter()
            .all(|text| text.starts_with(&format!("{}:2: ", file.display()))),
        "{texts:?}"
    );
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let given = Given {
        file: Some("/nowhere/appliance.toml".into()),
        ..Given::default()
    };
    let texts = refused(&given);
    assert_eq!(texts.len(), 1);
    assert!(
        texts[0].starts_with("/nowhere/appliance.toml: read the file: "),
        "{texts:?}"
    );
}

#[test]
fn a_public_address_wants_a_word() {
    let texts = refused(&given(&[("http.address", "0.0.0.0:10902")]));
    assert!(
        texts[0].contains("set http.allow_public = true"),
        "{texts:?}"
    );
    let meant = [
        ("http.address", "0.0.0.0:10902"),
        ("http.allow_public", "true"),
    ];
    assert!(load(&given(&meant)).is_ok());
    assert!(load(&given(&[("grpc.address", "[::1]:0")])).is_ok());
}

#[test]
fn the_log_is_synced_now_and_then_always_or_never() {
    let sync = |text| load(&given(&[("head.wal_sync", text)])).unwrap().wal_sync;
    assert_eq!(sync("always"), WalSync::Always);
    assert_eq!(sync("off"), WalSync::Off);
    assert_eq!(
        sync("250ms"),
        WalSync::Every(std::time::Duration::from_millis(250))
    );
    assert_eq!(refused(&given(&[("head.wal_sync", "0")])).len(), 1);
}

#[test]
fn label_names_are_checked() {
    assert_eq!(refused(&given(&[("labels.9lives", "x")])).len(), 1);
    assert_eq!(refused(&given(&[("log.level", "loud")])).len(), 1);
    assert_eq!(refused(&given(&[("http.cors_origin", "(")])).len(), 1);
}

#[test]
fn start_timestamps_are_ignored_until_somebody_wants_them() {
    let read = |set: &[(&str, &str)]| load(&given(set)).unwrap().start_times;
    assert_eq!(read(&[]), StartTimes::Ignore);
    assert_eq!(
        read(&[("scrape.start_timestamps", "store")]),
        StartTimes::Store
    );
    assert_eq!(
        read(&[("scrape.start_timestamps", "zero")]),
        StartTimes::Zero
    );
    let refused = refused(&given(&[("scrape.start_timestamps", "yes")]));
    assert!(
        refused[0].ends_with("expected one of ignore, store, zero"),
        "{refused:?}"
    );
}

#[test]
fn what_the_scrape_configuration_may_say_too_is_given_or_left_to_it() {
    let settings = load(&Given::default()).unwrap();
    assert_eq!(settings.tuning, crate::config::HeadTuning::default());
    let set = [
        ("head.exemplars_max", "0"),
        ("head.out_of_order_window", "0"),
    ];
    let settings = load(&given(&set)).unwrap();
    assert_eq!(settings.tuning.exemplars_max, Some(0));
    assert_eq!(settings.tuning.out_of_order_window_ms, Some(0));
    let set = [
        ("head.exemplars_max", "-1"),
        ("head.out_of_order_window", "soon"),
    ];
    assert_eq!(refused(&given(&set)).len(), 2);
}

#[test]
fn which_part_of_the_bucket_is_served_can_be_said_and_is_checked() {
    let shard = "\
- {action: hashmod, source_labels: [__block_id], target_label: shard, modulus: 2}
- {action: keep, source_labels: [shard], regex: '0'}
";
    let settings = load(&given(&[
        ("gateway.min_time", "-6w"),
        ("gateway.max_time", "2026-01-31T00:00:00Z"),
        ("gateway.selector", shard),
        ("gateway.series_max", "7"),
        ("gateway.bytes_max", "1MB"),
        ("gateway.consistency_delay", "30m"),
    ]));
    let gateway = settings.unwrap().gateway;
    let partition = &gateway.partition;
    assert_eq!(
        partition.min_time,
        Some(TimeBound::FromNow(-6 * 7 * 86_400_000))
    );
    assert_eq!(partition.max_time, Some(TimeBound::At(1_769_817_600_000)));
    assert_ne!(partition.selector, Selector::default());
    assert_eq!(partition.consistency_delay_ms, 1_800_000);
    assert_eq!(gateway.limits.series_max, Some(7));
    assert_eq!(gateway.limits.samples_max, None);
    assert_eq!(gateway.limits.bytes_max, Some(1 << 20));
    for (key, value, problem) in [
        ("gateway.min_time", "yesterday", "expected a time such as"),
        ("gateway.selector", "- {action: keep, regex: (}", "regex"),
        (
            "gateway.selector",
            "- {action: replace, target_label: x}",
            "expected the actions keep, drop and hashmod only, not replace",
        ),
        ("gateway.memory", "0", "expected a size"),
        ("gateway.requests", "0", "at least 1"),
    ] {
        let refused = refused(&given(&[(key, value)]));
        assert!(
            refused.len() == 1 && refused[0].contains(key) && refused[0].contains(problem),
            "{refused:?}"
        );
    }
    let wrong_way = given(&[("gateway.min_time", "-1h"), ("gateway.max_time", "-2h")]);
    let refused = refused(&wrong_way);
    assert!(
        refused[0].contains("before gateway.max_time"),
        "{refused:?}"
    );
}

#[test]
fn another_prometheus_is_shipped_for_under_labels_of_its_own() {
    let dir = ("bucket.prometheus_dir", "/prometheus");
    let settings = load(&Given::default()).unwrap().bucket;
    assert_eq!(settings.attached, None);
    let ten = std::time::Duration::from_secs(10);
    assert_eq!(settings.log_interval, Some(ten));
    assert_eq!(settings.log_abandoned_after, Some(ten * 259_200));
    let off = load(&given(&[("bucket.wal_interval", "0")])).unwrap();
    assert_eq!(off.bucket.log_interval, None);
    let named = load(&given(&[dir, ("bucket.prometheus_labels", "a=b, c=d")])).unwrap();
    let (path, labels) = named.bucket.attached.unwrap();
    assert_eq!(path.to_str(), Some("/prometheus"));
    assert_eq!((labels.0.value("a"), labels.0.value("c")), ("b", "d"));
    for labels in ["", "a", "a=b,,c"] {
        let refused = refused(&given(&[dir, ("bucket.prometheus_labels", labels)]));
        assert!(
            refused[0].contains("bucket.prometheus_labels"),
            "{refused:?}"
        );
    }
}
