//! Random input: nothing panics, and what parses prints to what parses.

use proptest::prelude::*;

use crate::promql::parse::{parse_expr, parse_selector_matchers, pretty, tree_json};
use crate::promql::testing::QUERY_PIECES;

fn check(text: &str) {
    drop(parse_selector_matchers(text));
    let Ok(expr) = parse_expr(text) else {
        return;
    };
    let printed = expr.to_string();
    assert!(tree_json(&expr).is_object());
    if printed.contains("info(") {
        // Braces without matchers print as nothing, as Prometheus prints them; only `info` may have them.
        return;
    }
    let again = parse_expr(&printed).unwrap_or_else(|error| panic!("{text} as {printed}: {error}"));
    assert_eq!(one_sign(&again.to_string()), one_sign(&printed), "{text}");
    assert!(parse_expr(&pretty(&expr)).is_ok(), "{text}");
}

/// Infinity prints with its sign, as in Prometheus; before `^` that sign reads back as one of the whole power, which
/// changes no value and prints once more.
fn one_sign(printed: &str) -> String {
    let mut text = printed.to_owned();
    while text.contains("++Inf") {
        text = text.replace("++Inf", "+Inf");
    }
    text
}

#[test]
fn infinity_as_a_base_prints_a_sign_that_reads_back_as_one_of_the_power() {
    let printed = parse_expr("inf ^ up").unwrap().to_string();
    assert_eq!(printed, "+Inf ^ up");
    let again = parse_expr(&printed).unwrap().to_string();
    assert_eq!(again, "++Inf ^ up");
    check("inf ^ up");
    check("-inf ^ up");
}

proptest! {
    // A finding is printed, and kept as a named test rather than in a file beside the sources.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn token_soup_never_panics(pieces in prop::collection::vec(prop::sample::select(&QUERY_PIECES[..]), 0..14), spaces in any::<u16>()) {
        let mut text = String::new();
        for (position, piece) in pieces.iter().enumerate() {
            if spaces >> (position % 16) & 1 == 1 {
                text.push(' ');
            }
            text.push_str(piece);
        }
        check(&text);
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,40}") {
        check(&text);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        check(&String::from_utf8_lossy(&bytes));
    }
}
