//! Samples that come out of order: who says whether they are taken, before and after a reload.

use gauntlet::foundation::durable::replace_file;

use crate::harness::{Appliance, Start, now_ms};

const NAME: [(&str, &str); 1] = [("__name__", "m")];

/// The status of a sample so many minutes before now, behind one of now.
fn late(appliance: &Appliance, minutes: i64) -> u16 {
    let now = now_ms();
    assert_eq!(appliance.write(&NAME, &[(now, 1.0)]), 204);
    appliance.write(&NAME, &[(now - minutes * 60_000, 2.0)])
}

fn exemplars_max(appliance: &Appliance) -> Option<f64> {
    appliance.metric("prometheus_tsdb_exemplar_max_exemplars")
}

#[test]
fn the_window_of_the_scrape_configuration_is_followed_by_a_reload_too() {
    let with = |window: &str, exemplars: &str| {
        format!(
            "storage:\n  tsdb:\n    out_of_order_time_window: {window}\n  exemplars:\n    max_exemplars: {exemplars}\n"
        )
    };
    let start = Start::new();
    let appliance = start.scrape(&with("30m", "7")).run();
    let file = appliance.dir().path().join("prometheus.yml");
    assert_eq!(late(&appliance, 20), 204);
    assert_eq!(late(&appliance, 40), 400);
    assert_eq!(exemplars_max(&appliance), Some(7.0));
    replace_file(&file, with("1h", "9").as_bytes()).unwrap();
    assert_eq!(appliance.post("/-/reload").status, 200);
    assert_eq!(late(&appliance, 40), 204);
    assert_eq!(exemplars_max(&appliance), Some(9.0));
    replace_file(&file, b"scrape_configs: []\n").unwrap();
    assert_eq!(appliance.post("/-/reload").status, 200);
    assert_eq!(late(&appliance, 20), 400);
    assert_eq!(exemplars_max(&appliance), Some(100_000.0));
    for (name, expect) in [
        (
            "prometheus_tsdb_head_out_of_order_samples_appended_total",
            2.0,
        ),
        (
            "prometheus_tsdb_sample_ooo_delta_bucket{le=\"1800.0\"}",
            2.0,
        ),
        ("prometheus_tsdb_sample_ooo_delta_count", 4.0),
        ("prometheus_tsdb_out_of_order_wbl_segment_current", 0.0),
        ("prometheus_tsdb_out_of_order_wbl_page_flushes_total", 2.0),
        (
            "prometheus_tsdb_out_of_order_wbl_completed_pages_total",
            0.0,
        ),
        ("prometheus_tsdb_wal_completed_pages_total", 0.0),
        ("prometheus_tsdb_out_of_order_wbl_writes_failed_total", 0.0),
        ("prometheus_tsdb_too_old_samples_total", 1.0),
    ] {
        assert_eq!(appliance.metric(name), Some(expect), "{name}");
    }
    for log in ["prometheus_tsdb_wal", "prometheus_tsdb_out_of_order_wbl"] {
        let of_log = |what: &str| {
            let found = appliance.metric(&format!("{log}_{what}"));
            found.unwrap_or_else(|| panic!("there is no {log}_{what}"))
        };
        assert!(2.0 <= of_log("page_flushes_total"), "{log}");
        let deadline = now_ms() + 20_000;
        while of_log("fsync_duration_seconds_count") < 1.0 {
            assert!(now_ms() < deadline, "nobody syncs {log}");
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        assert!(0.0 < of_log("fsync_duration_seconds_sum"), "{log}");
    }
    appliance.stop();
}

#[test]
fn the_appliance_s_own_window_comes_before_that_of_the_scrape_configuration() {
    let start = Start::new().expect_log("the settings say otherwise");
    let file = start.write("appliance.toml", "[head]\nout_of_order_window = \"10m\"\n");
    let file_text = file.display().to_string();
    let start = start.argument("--config").argument(&file_text);
    let yml = "storage: {tsdb: {out_of_order_time_window: 1h}}\n";
    let appliance = start.scrape(yml).run();
    assert_eq!(late(&appliance, 5), 204);
    assert_eq!(late(&appliance, 20), 400);
    let said = appliance.logged("the settings say otherwise");
    assert!(
        said.len() == 1 && said[0].contains("storage.tsdb.out_of_order_time_window"),
        "{said:?}"
    );
    replace_file(&file, b"[head]\nout_of_order_window = \"30m\"\n").unwrap();
    assert_eq!(appliance.post("/-/reload").status, 200);
    assert_eq!(late(&appliance, 20), 204);
    assert_eq!(late(&appliance, 40), 400);
    replace_file(&file, b"").unwrap();
    assert_eq!(appliance.post("/-/reload").status, 200);
    assert_eq!(late(&appliance, 40), 204);
    appliance.stop();
}
