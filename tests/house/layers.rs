//! Rooms import downwards only, and foreign crates stay in their rooms.

use crate::sources::{Source, read_all};

/// Ground floor first. A room may name only rooms on a strictly lower floor.
const FLOORS: &[&[&str]] = &[
    &["foundation", "wire"],
    &["model"],
    &[
        "exposition",
        "relabel",
        "chunk",
        "storage",
        "bucket",
        "catalog",
    ],
    &["index", "wal", "promql", "remote"],
    &["block", "rules", "peers"],
    &["inventory"],
    &[
        "head",
        "compact",
        "downsample",
        "scrape",
        "shipper",
        "gateway",
        "frontend",
    ],
    &["tsdb", "compactor"],
    &["actors", "maintenance"],
    &["api", "ui", "config"],
    &["appliance"],
    &["cli"],
];

/// Crates that only the named rooms, or files, may use.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "actix",
        &["src/actors/", "src/appliance/", "src/foundation/keeper.rs"],
    ),
    (
        "actix_rt",
        &["src/actors/", "src/appliance/", "src/foundation/keeper.rs"],
    ),
    ("actix_web", &["src/api/http/", "src/appliance/"]),
    (
        "tonic",
        &["src/wire/", "src/api/grpc/", "src/peers/", "src/appliance/"],
    ),
    (
        "prost",
        &["src/wire/", "src/api/grpc/", "src/peers/", "src/remote/"],
    ),
    ("object_store", &["src/bucket/"]),
    ("sled", &["src/catalog/"]),
    (
        "reqwest",
        &[
            "src/scrape/",
            "src/rules/",
            "src/peers/",
            "src/bucket/",
            "src/cli/",
        ],
    ),
    ("toml", &["src/config/"]),
    (
        "serde_saphyr",
        &["src/config/", "src/rules/", "src/scrape/discovery/"],
    ),
    ("clap", &["src/cli/"]),
    (
        "prometheus_client",
        &["src/foundation/metrics.rs", "src/foundation/metrics/"],
    ),
];

#[test]
fn rooms_import_downwards_only() {
    let sources = read_all("src", &["rs"]);
    let found: Vec<String> = sources
        .iter()
        .filter_map(|source| Some((source, source.room()?)))
        .flat_map(|(source, room)| {
            upward(room, &source.text)
                .into_iter()
                .map(|to| format!("{} -> {to}", source.path))
        })
        .collect();
    assert!(found.is_empty(), "upward imports:\n{}", found.join("\n"));
}

#[test]
fn every_room_has_a_floor() {
    let mut homeless: Vec<String> = read_all("src", &["rs"])
        .iter()
        .filter_map(Source::room)
        .filter(|room| floor(room).is_none())
        .map(str::to_owned)
        .collect();
    homeless.dedup();
    assert!(homeless.is_empty(), "rooms without a floor: {homeless:?}");
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let sources = read_all("src", &["rs"]);
    let found: Vec<String> = sources.iter().flat_map(strangers).collect();
    assert!(
        found.is_empty(),
        "crates outside their rooms:\n{}",
        found.join("\n")
    );
}

#[test]
fn the_import_checker_catches_what_it_should() {
    check("chunk", "use crate::block::Meta;", &["block"]);
    check("chunk", "let key = crate::bucket::Key::new();", &["bucket"]);
    check("chunk", "use crate::{model::Labels};", &["{"]);
    check("chunk", "use crate::chunk::{Xor, Encoding};", &[]);
    check("head", "use crate::wal::Segment;", &[]);
    check("head", "use crate::head::Series;", &[]);
    check("head", "// crate::api is told through a Recipient", &[]);
}

#[test]
fn the_crate_checker_catches_what_it_should() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(
        strangers(&source("src/head/map.rs", "use sled::Db;")).len(),
        1
    );
    assert_eq!(
        strangers(&source(
            "src/head/map.rs",
            "let x = object_store::path::Path::from(\"\");"
        ))
        .len(),
        1
    );
    assert_eq!(
        strangers(&source("src/catalog/db.rs", "use sled::Db;")).len(),
        0
    );
    assert_eq!(
        strangers(&source(
            "src/head/map.rs",
            "// sled::Db is elsewhere\nlet unsled::x = 1;"
        ))
        .len(),
        0
    );
}

#[track_caller]
fn check(room: &str, text: &str, expect: &[&str]) {
    assert_eq!(upward(room, text), expect, "{room}: {text}");
}

/// Rooms that `text`, a file of `room`, names although they are not below it.
fn upward(room: &str, text: &str) -> Vec<String> {
    let Some(here) = floor(room) else {
        return Vec::new();
    };
    code_lines(text)
        .flat_map(|line| line.split("crate::").skip(1))
        .map(first_name)
        .filter(|named| named != room && floor(named).is_none_or(|there| here <= there))
        .collect()
}

/// Uses of a crate that belongs to other rooms.
fn strangers(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (name, rooms) in FOREIGN {
        if source.room().is_none() || rooms.iter().any(|room| source.path.starts_with(room)) {
            continue;
        }
        let path = format!("{name}::");
        for line in production_code(&source.text) {
            if line
                .match_indices(&path)
                .any(|(at, _)| is_path_start(line, at))
            {
                found.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

/// Is the crate name at `at` a whole word and not the end of another path?
fn is_path_start(line: &str, at: usize) -> bool {
    let before = line.get(..at).unwrap_or_default();
    !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        && (!before.ends_with("::") || before.ends_with(" ::"))
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Code before the tests of the file: tests may use any crate.
fn production_code(text: &str) -> impl Iterator<Item = &str> {
    code_lines(text).take_while(|line| line.trim() != "#[cfg(test)]")
}

/// The identifier a path starts with; a group is returned as `{` and never has a floor.
fn first_name(path: &str) -> String {
    if path.starts_with('{') {
        return "{".to_owned();
    }
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}
