//! Wrong settings, taken ports, taken directories: what is said, and the exit code.

use crate::harness::{Start, gauntlet};

#[test]
fn wrong_settings_are_named_all_at_once_and_nothing_is_opened() {
    let start = Start::new();
    let file = start.write(
        "appliance.toml",
        "[query]\ntimeuot = \"1m\"\n\n[head]\nblock_range = \"soon\"\n",
    );
    let file = file.display().to_string();
    let start = start.argument("--config").argument(&file);
    let (said, code) = start
        .environment("GAUNTLET__POOLS__BULK_THREADS", "some")
        .fails();
    assert_eq!(code, 2);
    for part in [
        format!("{file}:2: query.timeuot = \"1m\": there is no such key; is query.timeout meant?"),
        format!("{file}:5: head.block_range = \"soon\": expected a duration"),
        "environment variable GAUNTLET__POOLS__BULK_THREADS: pools.bulk_threads = \"some\""
            .to_owned(),
    ] {
        assert!(said.contains(&part), "{part}\nin\n{said}");
    }
    assert!(!std::path::Path::new(&file).with_file_name("data").is_dir());
}

#[test]
fn a_wrong_scrape_configuration_names_file_line_and_key() {
    let start = Start::new().scrape("scrape_configs:\n- job_name: a\n  scrape_intervall: 1s\n");
    let (said, code) = start.fails();
    assert_eq!(code, 1);
    assert!(
        said.contains("prometheus.yml:3") && said.contains("scrape_intervall"),
        "{said}"
    );
}

#[test]
fn a_public_address_is_refused_until_it_is_meant() {
    let (said, code) = Start::new().at("0.0.0.0:0").fails();
    assert_eq!(code, 2);
    assert!(said.contains("set http.allow_public = true"), "{said}");
    let meant = Start::new()
        .at("0.0.0.0:0")
        .set("http.allow_public", "true");
    meant
        .expect_log("nothing asks for credentials")
        .run()
        .stop();
}

#[test]
fn a_taken_port_ends_the_start_before_any_data_is_touched() {
    let first = Start::new().run();
    let second = Start::new().at(&first.http);
    let data = second.data();
    let (said, code) = second.fails();
    assert_eq!(code, 1);
    assert!(said.contains(&first.http), "{said}");
    assert!(!data.try_exists().unwrap());
    first.stop();
}

#[test]
fn a_taken_data_directory_is_named() {
    let first = Start::new().run();
    let (said, code) = Start::new().again_in(&first.dir()).fails();
    assert_eq!(code, 1);
    assert!(said.contains("in use by another process"), "{said}");
    first.stop();
}

#[test]
fn check_config_says_what_serve_would() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = gauntlet(arguments, dir.path());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, said, _) = run(&["check", "config"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "the compiled-in configuration is valid\n")
    );
    let (code, _, said) = run(&["check", "config", "--set", "query.queue=many"]);
    assert_eq!(code, 1);
    assert!(said.contains("query.queue = \"many\""), "{said}");
    let (code, said, _) = run(&[
        "check",
        "config",
        "--set",
        "query.queue=many",
        "--output",
        "json",
    ]);
    assert_eq!(code, 1);
    assert!(said.starts_with("{\"valid\":false"), "{said}");
    let (code, said, _) = run(&["version", "--output", "json"]);
    assert_eq!(
        (code, said),
        (
            0,
            format!(
                "{{\"name\":\"gauntlet\",\"version\":\"{}\"}}\n",
                env!("CARGO_PKG_VERSION")
            )
        )
    );
    assert_eq!(run(&["serve", "--nonsense"]).0, 2);
}
