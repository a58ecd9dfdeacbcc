//! Every key of `appliance.toml` means something, says what, and is read; and nothing else is.

use std::collections::BTreeSet;
use std::fs;

use crate::sources::{read_all, root};

/// The files whose calls name every key that is read.
const READERS: [&str; 3] = [
    "src/config/appliance/settings.rs",
    "src/config/appliance/compactor.rs",
    "src/config/appliance/gateway.rs",
];

#[test]
fn every_key_that_is_read_is_shipped_and_every_shipped_key_is_read() {
    let shipped = fs::read_to_string(root().join("appliance.toml")).unwrap();
    let readers = READERS.map(|reader| fs::read_to_string(root().join(reader)).unwrap());
    let shipped: BTreeSet<String> = keys(&shipped).into_iter().map(|key| key.name).collect();
    let read: BTreeSet<_> = readers.iter().flat_map(|text| keys_read(text)).collect();
    let undocumented: Vec<_> = read.difference(&shipped).collect();
    let unknown: Vec<_> = shipped.difference(&read).collect();
    assert!(
        undocumented.is_empty(),
        "read and not in appliance.toml: {undocumented:?}"
    );
    assert!(
        unknown.is_empty(),
        "in appliance.toml and not read: {unknown:?}"
    );
    assert!(20 < shipped.len(), "only {} keys found", shipped.len());
}

#[test]
fn every_shipped_key_stands_under_a_sentence() {
    let shipped = fs::read_to_string(root().join("appliance.toml")).unwrap();
    let silent: Vec<_> = keys(&shipped)
        .into_iter()
        .filter(|key| !key.has_comment)
        .collect();
    assert!(
        silent.is_empty(),
        "keys without a comment: {:?}",
        silent.iter().map(|key| &key.name).collect::<Vec<_>>()
    );
}

#[test]
fn keys_that_the_readme_names_exist() {
    let shipped = fs::read_to_string(root().join("appliance.toml")).unwrap();
    let shipped: BTreeSet<String> = keys(&shipped).into_iter().map(|key| key.name).collect();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let sections: BTreeSet<&str> = shipped
        .iter()
        .filter_map(|key| key.split_once('.'))
        .map(|(section, _)| section)
        .collect();
    let named = readme.split('`').skip(1).step_by(2);
    let lost: Vec<&str> = named
        .filter(|text| {
            text.split_once('.').is_some_and(|(section, key)| {
                sections.contains(section)
                    && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            })
        })
        .filter(|text| !shipped.contains(*text))
        .collect();
    assert!(
        lost.is_empty(),
        "the README names keys that do not exist: {lost:?}"
    );
}

#[test]
fn the_key_reader_catches_what_it_should() {
    let found = keys("[a]\n# What b is.\nb = 1\nc = 2\n\nd = 3\n# e = 4\n");
    let names: Vec<_> = found
        .iter()
        .map(|key| (key.name.as_str(), key.has_comment))
        .collect();
    // One sentence may speak of the keys right below it; an empty line ends it.
    assert_eq!(names, [("a.b", true), ("a.c", true), ("a.d", false)]);
    assert_eq!(
        keys_read("keys.flag(\"a.b\"); complain(\"not a key\")"),
        BTreeSet::from(["a.b".to_owned()])
    );
    assert!(!read_all("src", &["rs"]).is_empty());
}

struct Key {
    name: String,
    has_comment: bool,
}

/// The keys of a file in the form of `appliance.toml`.
fn keys(text: &str) -> Vec<Key> {
    let mut found = Vec::new();
    let (mut section, mut has_comment) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            name.clone_into(&mut section);
            has_comment = false;
        } else if line.is_empty() {
            has_comment = false;
        } else if line.starts_with('#') {
            has_comment = true;
        } else if let Some((name, _)) = line.split_once('=') {
            found.push(Key {
                name: format!("{section}.{}", name.trim()),
                has_comment,
            });
        }
    }
    found
}

/// Words in quotes that look like `section.key`.
fn keys_read(text: &str) -> BTreeSet<String> {
    let quoted = text.split('"').skip(1).step_by(2);
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_key = |text: &&str| {
        text.split_once('.')
            .is_some_and(|(section, key)| is_word(section) && is_word(key))
    };
    quoted.filter(is_key).map(str::to_owned).collect()
}
