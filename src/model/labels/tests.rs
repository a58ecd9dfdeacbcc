//! Labels in order, as bytes, and compared.

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).unwrap()
}

#[test]
fn labels_are_sorted_and_empty_values_are_absence() {
    let set = labels(&[("job", "node"), ("__name__", "up"), ("gone", "")]);
    assert_eq!(
        set.iter().collect::<Vec<_>>(),
        [("__name__", "up"), ("job", "node")]
    );
    assert_eq!(set.to_string(), r#"{__name__="up", job="node"}"#);
    assert_eq!(
        (set.get("gone"), set.value("gone"), set.metric_name()),
        (None, "", "up")
    );
    assert_eq!(set.without_name(), labels(&[("job", "node")]));
    assert_eq!(
        set.key(),
        labels(&[("__name__", "up"), ("job", "node")]).key()
    );
}

#[test]
fn a_name_twice_is_refused() {
    assert_eq!(
        Labels::new(&[("a", "1"), ("a", "2")]),
        Err(LabelsError::Duplicate("a".to_owned()))
    );
    assert_eq!(Labels::new(&[("", "1")]), Err(LabelsError::EmptyName));
}

#[test]
fn long_texts_come_back_whole() {
    for len in [0, 1, 63, 64, 65, 4095, 4096, 300_000] {
        let value = "é".repeat(len);
        let set = labels(&[("a", &value), ("b", "x")]);
        assert_eq!(
            (set.value("a"), set.value("b")),
            (value.as_str(), "x"),
            "{len}"
        );
    }
}

#[test]
fn a_prefix_sorts_before_the_longer_set() {
    assert!(labels(&[("a", "1")]) < labels(&[("a", "1"), ("b", "1")]));
    assert!(labels(&[("a", "10")]) < labels(&[("a", "2")]));
    assert!(labels(&[("aa", "1")]) > labels(&[("a", "2")]));
}

#[test]
fn the_order_is_that_of_names_and_values_one_by_one() {
    let texts = [
        "a",
        "b",
        "aa",
        "ab",
        "é",
        "z",
        &"a".repeat(70),
        &"a".repeat(5000),
    ];
    let mut sets = vec![Labels::empty()];
    for name in texts {
        for value in texts {
            sets.push(labels(&[(name, value)]));
            sets.push(labels(&[("a0", "same"), (name, value), ("zz", value)]));
        }
    }
    for left in &sets {
        for right in &sets {
            assert_eq!(
                left.cmp(right),
                left.iter().cmp(right.iter()),
                "{left} {right}"
            );
        }
    }
}

#[test]
fn quotes_follow_go() {
    assert_eq!(go_quote("a\"\\\n\u{1}\u{7f}é"), r#""a\"\\\n\x01\x7fé""#);
}
