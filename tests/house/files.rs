//! Every file is short, introduced, reachable, and says nothing about the machine it was written on.

use std::collections::BTreeSet;

use crate::sources::{Source, read_all, root};

/// Production lines a file may have; a longer one gives its reason in a `//! Long because …` line.
const LINES_MAX: usize = 600;

#[test]
fn no_file_is_over_long_without_a_reason() {
    let sources = read_all("src", &["rs"])
        .into_iter()
        .chain(read_all("tests", &["rs"]));
    let found: Vec<String> = sources
        .filter(is_over_long)
        .map(|source| source.path)
        .collect();
    assert!(
        found.is_empty(),
        "over {LINES_MAX} lines and no `//! Long because …`: {found:?}"
    );
}

#[test]
fn every_file_introduces_itself() {
    let sources = read_all("src", &["rs"])
        .into_iter()
        .chain(read_all("tests", &["rs"]));
    let found: Vec<String> = sources
        .filter(|source| !source.text.starts_with("//!") && !source.text.starts_with("#![doc"))
        .map(|source| source.path)
        .collect();
    assert!(
        found.is_empty(),
        "files that do not start with `//!`: {found:?}"
    );
}

#[test]
fn every_door_says_what_is_owned_never_done_and_how_it_is_tested() {
    let doors = read_all("src", &["rs"]).into_iter().filter(is_door);
    let found: Vec<String> = doors
        .filter(|door| {
            !["//! Owns: ", "//! Never: ", "//! Tested by: "]
                .iter()
                .all(|line| door.text.contains(line))
        })
        .map(|door| door.path)
        .collect();
    assert!(
        found.is_empty(),
        "doors without Owns, Never and Tested by: {found:?}"
    );
}

#[test]
fn every_file_is_reachable_from_lib() {
    let sources = read_all("src", &["rs"]);
    let reachable = reachable(&sources);
    let found: Vec<&str> = sources
        .iter()
        .map(|source| source.path.as_str())
        .filter(|path| *path != "src/main.rs" && !reachable.contains(*path))
        .collect();
    assert!(found.is_empty(), "files no `mod` line leads to: {found:?}");
}

#[test]
fn no_file_names_a_machine_a_registry_or_an_author() {
    let words = [
        concat!("/wo", "rk/"),
        concat!("bash_", "jobs"),
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("deb.", "debian"),
        concat!("registry.", "npmjs"),
    ];
    let mut sources = read_all("src", &["rs", "md"]);
    sources.extend(read_all("tests", &["rs", "md", "py", "sh", "txt", "test"]));
    sources.extend(read_all("proto", &["rs", "proto"]));
    let found: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            words
                .iter()
                .filter(|word| source.text.contains(*word))
                .map(|word| format!("{}: {word}", source.path))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_top_level_holds_the_agreed_entries() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "proto",
        "appliance.toml",
        "systemd",
        "packaging",
        "tests",
        "README.md",
        "LICENSE",
        ".gitignore",
        ".ci",
        ".cargo",
        ".git",
        "target",
        "gauntlet-data",
    ];
    let found: Vec<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !agreed.contains(&name.as_str()))
        .collect();
    assert!(
        found.is_empty(),
        "top-level entries outside the agreed ones: {found:?}"
    );
}

#[test]
fn unfinished_work_is_not_committed() {
    let words = [
        "todo!(",
        "unimplemented!(",
        concat!("#[ig", "nore"),
        "not implemented",
        "not yet implemented",
        "FIXME",
        "XXX",
    ];
    let here = "tests/house/files.rs";
    let sources = read_all("src", &["rs"])
        .into_iter()
        .chain(read_all("tests", &["rs"]));
    let found: Vec<String> = sources
        .filter(|source| source.path != here)
        .flat_map(|source| {
            let hits: Vec<&str> = words
                .iter()
                .copied()
                .filter(|word| source.text.contains(word))
                .collect();
            hits.into_iter()
                .map(|word| format!("{}: {word}", source.path))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_checkers_catch_what_they_should() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    assert!(is_over_long(&source(
        "src/a.rs",
        &"x\n".repeat(LINES_MAX + 1)
    )));
    assert!(!is_over_long(&source("src/a.rs", &"x\n".repeat(LINES_MAX))));
    assert!(!is_over_long(&source(
        "src/a.rs",
        &format!("//! Long because it is one table.\n{}", "x\n".repeat(700))
    )));
    let tested = format!(
        "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
        "x\n".repeat(10),
        "x\n".repeat(700)
    );
    assert!(!is_over_long(&source("src/a.rs", &tested)));
    let tree = [
        source("src/lib.rs", "pub mod a;\n"),
        source("src/a/mod.rs", "mod b;\n#[cfg(test)]\nmod tests;\n"),
        source("src/a/b.rs", ""),
        source("src/a/tests.rs", ""),
        source("src/a/lost.rs", ""),
    ];
    let reachable = reachable(&tree);
    assert!(reachable.contains("src/a/b.rs") && reachable.contains("src/a/tests.rs"));
    assert!(!reachable.contains("src/a/lost.rs"));
}

fn is_over_long(source: &Source) -> bool {
    LINES_MAX < source.production_lines()
        && !source
            .text
            .lines()
            .take(20)
            .any(|line| line.starts_with("//! Long because "))
}

/// `src/<room>/mod.rs`.
fn is_door(source: &Source) -> bool {
    source.path.matches('/').count() == 2
        && source.path.ends_with("/mod.rs")
        && source.path.starts_with("src/")
}

/// Paths that a chain of `mod name;` lines from `src/lib.rs` leads to.
fn reachable(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec!["src/lib.rs".to_owned()];
    while let Some(path) = waiting.pop() {
        let Some(source) = sources.iter().find(|source| source.path == path) else {
            continue;
        };
        if !found.insert(path.clone()) {
            continue;
        }
        let folder = match path
            .strip_suffix("/mod.rs")
            .or_else(|| path.strip_suffix("/lib.rs"))
        {
            Some(folder) => folder.to_owned(),
            None => path.trim_end_matches(".rs").to_owned(),
        };
        for line in source.text.lines() {
            let words = line
                .trim()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub ");
            if let Some(name) = words
                .strip_prefix("mod ")
                .and_then(|rest| rest.strip_suffix(';'))
            {
                waiting.push(format!("{folder}/{name}.rs"));
                waiting.push(format!("{folder}/{name}/mod.rs"));
            }
        }
    }
    found
}
