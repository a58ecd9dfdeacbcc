//! Rules, label sets and what becomes of them.

use crate::model::{Labels, LabelsBuilder};
use crate::relabel::{RelabelAction, RelabelRule, RelabelSettings, apply};

fn settings(action: RelabelAction) -> RelabelSettings {
    RelabelSettings {
        action: Some(action),
        ..RelabelSettings::default()
    }
}

fn sources(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A rule from `key=value` words separated by blanks; `src` is comma separated.
fn rule(words: &str) -> RelabelSettings {
    let mut out = RelabelSettings::default();
    for word in words.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "src" => out.source_labels = sources(&value.split(',').collect::<Vec<_>>()),
            "sep" => out.separator = text(value),
            "re" => out.regex = text(value),
            "mod" => out.modulus = Some(value.parse().unwrap()),
            "to" => out.target_label = text(value),
            "with" => out.replacement = text(value),
            "do" => out.action = Some(value.parse().unwrap()),
            other => panic!("{other}"),
        }
    }
    out
}

fn builder(pairs: &str) -> LabelsBuilder {
    let mut builder = LabelsBuilder::new();
    for pair in pairs.split_whitespace() {
        let (name, value) = pair.split_once('=').unwrap();
        builder.set(name, value);
    }
    builder
}

#[track_caller]
fn check(rules: &[&str], input: &str, expect: Option<&str>) {
    let rules: Vec<RelabelRule> = rules
        .iter()
        .map(|words| RelabelRule::new(rule(words)).unwrap())
        .collect();
    let mut labels = builder(input);
    let kept = apply(&rules, &mut labels);
    let got: Option<Labels> = kept.then(|| labels.build().unwrap());
    let expect = expect.map(|expect| builder(expect).build().unwrap());
    assert_eq!(got, expect, "{rules:?} over {input}");
}

#[test]
fn replace_expands_groups_into_value_and_target() {
    let input = "a=foo b=bar c=baz";
    for (rule, expect) in [
        (
            "src=a re=f(.*) to=d with=ch${1}-ch${1}",
            "a=foo b=bar c=baz d=choo-choo",
        ),
        (
            "src=a,b re=f(.*);(.*)r to=a with=b${1}${2}m",
            "a=boobam b=bar c=baz",
        ),
        ("src=a re=.*(b).* to=d with=$1", "a=foo b=bar c=baz"),
        ("src=a to=d", "a=foo b=bar c=baz d=foo"),
        ("src=a,b to=d sep=-", "a=foo b=bar c=baz d=foo-bar"),
        ("to=d with=new", "a=foo b=bar c=baz d=new"),
        ("to=c with=", "a=foo b=bar"),
        ("src=missing to=c", "a=foo b=bar"),
        (
            "src=a re=(f)(.*) to=${1}oz with=$2",
            "a=foo b=bar c=baz foz=oo",
        ),
        (
            "src=a re=(?P<first>f).* to=d with=${first}x$first",
            "a=foo b=bar c=baz d=fxf",
        ),
        ("src=a re=(f).* to=d with=$1x", "a=foo b=bar c=baz"),
        ("src=a re=(f).* to=d with=$$1$", "a=foo b=bar c=baz d=$1$"),
        ("src=a re=(f).* to=d with=${1", "a=foo b=bar c=baz d=${1"),
        (
            "src=a re=(f).* to=d with=x${9}$01y",
            "a=foo b=bar c=baz d=x",
        ),
        ("src=a re=(z)?foo to=$1 with=x", "a=foo b=bar c=baz"),
    ] {
        check(&[rule], input, Some(expect));
    }
}

#[test]
fn rules_see_what_earlier_rules_wrote() {
    check(
        &[
            "src=a re=f(.*) to=b with=x$1",
            "src=b to=c with=$1-$1",
            "src=c re=xoo-xoo to=a with=done",
        ],
        "a=foo",
        Some("a=done b=xoo c=xoo-xoo"),
    );
}

#[test]
fn keep_and_drop_look_at_the_whole_joined_value() {
    let input = "a=foo b=bar";
    check(&["src=a re=foo do=keep"], input, Some(input));
    check(&["src=a re=fo do=keep"], input, None);
    check(&["src=a re=fo do=drop"], input, Some(input));
    check(&["src=a,b re=foo;bar do=drop"], input, None);
    check(&["src=missing re= do=drop"], input, None);
    check(&["src=a re=f|foo do=keep"], input, Some(input));
    check(&["src=a,b sep= re=foobar do=KEEP"], input, Some(input));
}

#[test]
fn keepequal_and_dropequal_compare_with_the_target() {
    for (input, is_equal) in [("a=x b=x", true), ("a=x b=y", false), ("c=x", true)] {
        check(
            &["src=a to=b do=keepequal"],
            input,
            is_equal.then_some(input),
        );
        check(
            &["src=a to=b do=dropequal"],
            input,
            (!is_equal).then_some(input),
        );
    }
}

#[test]
fn hashmod_is_the_low_half_of_md5() {
    check(
        &["src=c to=d mod=1000 do=hashmod"],
        "a=foo b=bar c=baz",
        Some("a=foo b=bar c=baz d=976"),
    );
    let modulus = u64::MAX;
    let rule = format!("src=c to=d mod={modulus} do=hashmod");
    check(&[&rule], "c=foo", Some("c=foo d=17145033699835028696"));
}

#[test]
fn names_are_mapped_dropped_and_kept() {
    let input = "__meta_a=1 __meta_b=2 c=3";
    check(
        &["re=__meta_(.*) do=labelmap"],
        input,
        Some("__meta_a=1 __meta_b=2 c=3 a=1 b=2"),
    );
    check(
        &["re=__meta_(.) with=x_${1}_y do=labelmap"],
        input,
        Some("__meta_a=1 __meta_b=2 c=3 x_a_y=1 x_b_y=2"),
    );
    check(&["re=__meta_.* do=labeldrop"], input, Some("c=3"));
    check(
        &["re=__meta_.* do=labelkeep"],
        input,
        Some("__meta_a=1 __meta_b=2"),
    );
    check(&["re=meta do=labeldrop"], input, Some(input));
}

#[test]
fn case_changes_character_by_character() {
    check(
        &["src=a to=b do=lowercase"],
        "a=FoOÄİ",
        Some("a=FoOÄİ b=fooäi"),
    );
    check(
        &["src=a to=b do=uppercase"],
        "a=foäß",
        Some("a=foäß b=FOÄß"),
    );
    check(
        &["src=a,c to=b do=uppercase"],
        "a=x c=y",
        Some("a=x c=y b=X;Y"),
    );
}

#[test]
fn nonsense_is_refused_in_prometheus_words() {
    let refusals = [
        (
            "do=hashmod to=a",
            "relabel configuration for hashmod requires non-zero modulus",
        ),
        (
            "do=hashmod mod=8",
            "relabel configuration for hashmod action requires 'target_label' value",
        ),
        (
            "src=a",
            "relabel configuration for replace action requires 'target_label' value",
        ),
        (
            "src=a do=lowercase",
            "relabel configuration for lowercase action requires 'target_label' value",
        ),
        (
            "src=a do=keepequal",
            "relabel configuration for keepequal action requires 'target_label' value",
        ),
        (
            "src=a to=b with=c do=uppercase",
            "'replacement' can not be set for uppercase action",
        ),
        (
            "re=a with= do=labelmap",
            "\"\" is invalid 'replacement' for labelmap action",
        ),
        (
            "src=a to=b re=c do=dropequal",
            "dropequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        (
            "src=a to=b sep=c do=keepequal",
            "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        (
            "src=a re=b do=labeldrop",
            "labeldrop action requires only 'regex', and no other fields",
        ),
        (
            "re=b to=c do=labelkeep",
            "labelkeep action requires only 'regex', and no other fields",
        ),
        (
            "re=b mod=3 do=labelkeep",
            "labelkeep action requires only 'regex', and no other fields",
        ),
    ];
    for (words, expect) in refusals {
        let error = RelabelRule::new(rule(words)).unwrap_err();
        assert_eq!(error.to_string(), expect, "{words}");
    }
    assert!(RelabelRule::new(rule("src=a to=b re=(")).is_err());
    let error = "dropp".parse::<RelabelAction>().unwrap_err();
    assert_eq!(error.to_string(), "unknown relabel action \"dropp\"");
    // What equals the default may be written.
    assert!(RelabelRule::new(rule("src=a to=b sep=; with=$1 do=keepequal")).is_ok());
    assert!(RelabelRule::new(settings(RelabelAction::LabelDrop)).is_ok());
}
