//! Paths whose last element may hold `*`, `?` and `[…]`, as Go's `filepath.Glob` matches them.

use std::path::{Path, PathBuf};

/// Is `text` a pattern that file discovery takes: ends in `.json`, `.yml` or `.yaml`, `*` in the last element only?
pub fn is_target_file_pattern(text: &str) -> bool {
    let has_suffix = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"]
        .iter()
        .any(|suffix| text.len() > suffix.len() && text.ends_with(suffix));
    has_suffix
        && text
            .split_once('*')
            .is_none_or(|(_, after)| !after.contains('/'))
}

/// The existing paths `pattern` stands for, in name order; a directory that cannot be read holds none.
pub fn expand_glob(pattern: &Path) -> Vec<PathBuf> {
    let Some(name) = pattern.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    if !name.contains(['*', '?', '[']) {
        let exists = pattern.try_exists().unwrap_or(false);
        return if exists {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        };
    }
    let dir = pattern.parent().unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| {
            let file_name = entry.ok()?.file_name();
            is_match(name, file_name.to_str()?).then(|| dir.join(file_name))
        })
        .collect();
    found.sort();
    found
}

/// Does `name` match a pattern of `*`, `?`, `[a-z]`, `[^a-z]` and escaped characters?
fn is_match(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut here) = (0, 0);
    // Where to go on when what follows the last star does not match.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&'*') {
            at += 1;
            retry = Some((at, here));
            continue;
        }
        let step = match (pattern.get(at..), name.get(here)) {
            (Some([]), None) => return true,
            (Some(rest), Some(c)) => match_one(rest, *c),
            _ => None,
        };
        match (step, retry) {
            (Some(n), _) => {
                at += n;
                here += 1;
            }
            (None, Some((after_star, from))) if from < name.len() => {
                retry = Some((after_star, from + 1));
                (at, here) = (after_star, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// How many characters of the pattern stand for `c`; `None` when they do not.
fn match_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', rest @ ..] => {
            let end = rest.iter().skip(1).position(|c| *c == ']')? + 1;
            let class = rest.get(..end)?;
            let (negated, class) = match class {
                ['^', class @ ..] => (true, class),
                class => (false, class),
            };
            (is_in_class(class, c) != negated).then_some(end + 2)
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

fn is_in_class(mut class: &[char], c: char) -> bool {
    loop {
        class = match class {
            [low, '-', high, rest @ ..] => {
                if (*low..=*high).contains(&c) {
                    return true;
                }
                rest
            }
            [one, rest @ ..] => {
                if *one == c {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_go_matches_them() {
        for (pattern, name, expect) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?.json", "é.json", true),
            ("[a-c]1", "b1", true),
            ("[^a-c]1", "b1", false),
            ("*", "", true),
            ("a\\*", "a*", true),
            ("[", "[", false),
        ] {
            assert_eq!(is_match(pattern, name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn target_files_end_in_json_or_yaml() {
        for (pattern, expect) in [
            ("targets/*.json", true),
            ("a.yml", true),
            ("*.YAML", true),
            ("*/a.json", false),
            ("a.txt", false),
            (".json", false),
            ("dir/*", false),
        ] {
            assert_eq!(is_target_file_pattern(pattern), expect, "{pattern}");
        }
    }

    #[test]
    fn files_are_found_in_name_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.json"] {
            std::fs::File::create(dir.path().join(name)).unwrap();
        }
        let found = expand_glob(&dir.path().join("*.yml"));
        assert_eq!(found, [dir.path().join("a.yml"), dir.path().join("b.yml")]);
        assert_eq!(expand_glob(&dir.path().join("c.json")).len(), 1);
        assert!(expand_glob(&dir.path().join("gone.json")).is_empty());
        assert!(expand_glob(&dir.path().join("gone/*.json")).is_empty());
    }
}
