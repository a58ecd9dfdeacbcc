//! Inputs with their prints and errors, round trips, and everything that must not panic.

mod current;
mod invalid;
mod promtool;
mod random;
mod trees;
mod valid;

use std::thread;

use crate::promql::parse::ast::{Expr, ExprKind, Span};
use crate::promql::parse::tests::current::INVALID_CURRENT;
use crate::promql::parse::tests::invalid::INVALID;
use crate::promql::parse::tests::valid::VALID;
use crate::promql::parse::{
    EXPR_HEIGHT_MAX, EXPR_NESTING_MAX, parse_expr, parse_selector_matchers, position, pretty,
    tree_json,
};

#[test]
fn every_valid_input_prints_canonically() {
    for (input, printed) in VALID {
        let expr = parse_expr(input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(expr.to_string(), *printed, "{input}");
    }
}

#[test]
fn every_invalid_input_names_its_fault_and_place() {
    for (input, message) in INVALID.iter().chain(INVALID_CURRENT) {
        let error = match parse_expr(input) {
            Ok(expr) => panic!("{input} parses as {expr}"),
            Err(error) => error,
        };
        assert_eq!(error.to_string(), *message, "{input}");
        assert!(error.span.start <= input.len(), "{input}");
    }
}

#[test]
fn only_selectors_are_anchored_or_smoothed() {
    for word in ["anchored", "smoothed"] {
        let error = parse_expr(&format!("rate(foo[5m]) {word}")).unwrap_err();
        let expect = format!(
            concat!("1:1: parse error: {} modifier not ", "implemented"),
            word
        );
        assert_eq!(error.to_string(), expect);
    }
}

#[test]
fn an_offset_that_is_no_number_is_the_earliest() {
    let printed = parse_expr("foo offset NaN").unwrap().to_string();
    assert_eq!(printed, "foo offset -106751d23h47m16s854ms");
}

#[test]
fn a_print_parses_to_what_prints_the_same() {
    // Braces without matchers print as nothing, as Prometheus prints them; only `info` may have them.
    let round = VALID.iter().filter(|(_, printed)| !printed.contains(", )"));
    for (input, printed) in round {
        for text in [(*printed).to_owned(), pretty(&parse_expr(input).unwrap())] {
            let again = parse_expr(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(again.to_string(), *printed, "{input}");
        }
    }
}

#[test]
fn long_expressions_break_and_indent() {
    let long = "sum by (job) (rate(http_requests_total{job=\"api\",code=~\"5..\"}[5m])) / on (job) group_left (team) \
                topk(3, avg_over_time(a_rather_long_metric_name_for_a_test{a=\"b\"}[1h:5m])) > bool -(1 + foo)";
    let expect = "    sum by (job) (rate(http_requests_total{code=~\"5..\",job=\"api\"}[5m]))\n  \
                  / on (job) group_left (team)\n    \
                  topk(3, avg_over_time(a_rather_long_metric_name_for_a_test{a=\"b\"}[1h:5m]))\n\
                  > bool\n  -(1 + foo)";
    assert_eq!(pretty(&parse_expr(long).unwrap()), expect);
    let call = format!(
        "label_replace(foo{{a=\"{}\"}}, \"x\", \"$1\", \"y\", \"(.*)\")",
        "v".repeat(80)
    );
    let expect = format!(
        "label_replace(\n  foo{{a=\"{}\"}},\n  \"x\",\n  \"$1\",\n  \"y\",\n  \"(.*)\"\n)",
        "v".repeat(80)
    );
    assert_eq!(pretty(&parse_expr(&call).unwrap()), expect);
}

#[test]
fn trees_are_json_as_pages_expect_it() {
    let tree = tree_json(
        &parse_expr("foo{a=\"b\"}[5m] offset (step()) > 1")
            .unwrap_or_else(|_| parse_expr("rate(foo{a=\"b\"}[5m] offset (step())) > 1").unwrap()),
    );
    let expect = serde_json::json!({
        "bool": false,
        "lhs": {
            "args": [{
                "anchored": false,
                "matchers": [
                    {"name": "a", "type": "=", "value": "b"},
                    {"name": "__name__", "type": "=", "value": "foo"},
                ],
                "name": "foo",
                "offset": 0,
                "offsetExpr": {"lhs": null, "op": "step", "rhs": null, "type": "durationExpr", "wrapped": true},
                "range": 300_000,
                "rangeExpr": null,
                "smoothed": false,
                "startOrEnd": null,
                "timestamp": null,
                "type": "matrixSelector",
            }],
            "func": {"argTypes": ["matrix"], "name": "rate", "returnType": "vector", "variadic": 0},
            "type": "call",
        },
        "matching": null,
        "op": ">",
        "rhs": {"type": "numberLiteral", "val": "1"},
        "type": "binaryExpr",
    });
    assert_eq!(tree, expect);
}

#[test]
fn selectors_are_read_alone() {
    let shown = |text: &str| {
        parse_selector_matchers(text).map(|matchers| {
            matchers
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<String>>()
                .join(" ")
        })
    };
    assert_eq!(
        shown(r#"up{job=~"a|b",}"#).as_deref(),
        Ok(r#"job=~"a|b" __name__="up""#)
    );
    assert_eq!(shown("{}").as_deref(), Ok(""));
    assert_eq!(shown(r#"{a=""}"#).as_deref(), Ok(r#"a="""#));
    for (text, message) in [
        ("", "unknown position: parse error: unexpected end of input"),
        ("up + 1", "1:4: parse error: unexpected <op:+>"),
        ("1", r#"1:1: parse error: unexpected number "1""#),
        ("up offset 5m", "1:4: parse error: unexpected <offset>"),
        (
            "up{",
            "1:4: parse error: unexpected end of input inside braces",
        ),
    ] {
        assert_eq!(shown(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn positions_count_lines_and_bytes_from_one() {
    let query = "a\n\u{e9} b";
    assert_eq!(position(query, 0), Some((1, 1)));
    assert_eq!(position(query, 2), Some((2, 1)));
    assert_eq!(position(query, 5), Some((2, 4)));
    assert_eq!(position(query, 99), None);
    assert_eq!(position("", 0), None);
}

fn collect_spans(expr: &Expr, out: &mut Vec<Span>) {
    out.push(expr.span);
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => (),
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => collect_spans(inner, out),
        ExprKind::Binary(binary) => {
            collect_spans(&binary.lhs, out);
            collect_spans(&binary.rhs, out);
        }
        ExprKind::Aggregate(aggregate) => {
            collect_spans(&aggregate.expr, out);
            if let Some(param) = &aggregate.param {
                collect_spans(param, out);
            }
        }
        ExprKind::Call(call) => call.args.iter().for_each(|arg| collect_spans(arg, out)),
        ExprKind::Subquery(subquery) => collect_spans(&subquery.expr, out),
    }
}

#[test]
fn every_node_knows_its_text() {
    let query =
        " -sum by (a) (rate(foo{b=\"c\"}[5m] offset 1m)) + (topk(1, bar @ 3)[1h:1m] anchored_not)";
    assert!(parse_expr(query).is_err());
    let query = " -sum by (a) (rate(foo{b=\"c\"}[5m] offset 1m)) + max_over_time((bar @ 3)[1h:1m])";
    let mut spans = Vec::new();
    collect_spans(&parse_expr(query).unwrap(), &mut spans);
    let texts: Vec<&str> = spans
        .iter()
        .map(|span| query.get(span.start..span.end).unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            query.trim(),
            "-sum by (a) (rate(foo{b=\"c\"}[5m] offset 1m))",
            "sum by (a) (rate(foo{b=\"c\"}[5m] offset 1m))",
            "rate(foo{b=\"c\"}[5m] offset 1m)",
            "foo{b=\"c\"}[5m] offset 1m",
            "max_over_time((bar @ 3)[1h:1m])",
            "(bar @ 3)[1h:1m]",
            "(bar @ 3)",
            "bar @ 3",
        ]
    );
}

/// Runs on a stack as small as any thread of the process has.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn nesting_beyond_the_limit_is_an_error_and_up_to_it_is_not() {
    let nested = |n: usize| {
        [
            format!("{}1{}", "(".repeat(n), ")".repeat(n)),
            format!("{}foo", "-".repeat(n)),
            format!("1{}", " ^ 1".repeat(n)),
            format!("{}foo{}", "abs(".repeat(n), ")".repeat(n)),
            format!("{}foo{}", "sum(".repeat(n), ")".repeat(n)),
        ]
    };
    let chained = |n: usize| {
        [
            format!("1{}", " + 1".repeat(n)),
            format!("foo{}", "[5m:1m]".repeat(n)),
        ]
    };
    on_a_small_stack(move || {
        let fitting = nested(EXPR_NESTING_MAX - 1)
            .into_iter()
            .chain(chained(EXPR_HEIGHT_MAX - 1));
        for text in fitting {
            match parse_expr(&text) {
                Ok(expr) => {
                    assert_eq!(expr.clone(), expr);
                    assert!(!expr.to_string().is_empty());
                    assert!(!tree_json(&expr).is_null());
                }
                // A subquery of a subquery is a type error, found by walking all the way down.
                Err(error) => assert!(error.message.starts_with("subquery is only"), "{error}"),
            }
        }
        for text in nested(EXPR_NESTING_MAX) {
            let error = parse_expr(&text).unwrap_err();
            assert!(error.message.contains("nested deeper"), "{error}");
        }
        for text in nested(100_000)
            .into_iter()
            .chain(chained(EXPR_HEIGHT_MAX + 1))
        {
            let error = parse_expr(&text).unwrap_err();
            assert!(error.message.contains(" levels"), "{error}");
        }
        let text = format!("foo[{}1{}]", "(".repeat(100_000), ")".repeat(100_000));
        assert!(parse_expr(&text).unwrap_err().message.contains("terms"));
        let text = format!("foo[1{}]", "+1".repeat(100_000));
        assert!(parse_expr(&text).unwrap_err().message.contains("terms"));
    });
}
