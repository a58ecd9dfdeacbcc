//! The tree of every kind of node, as Prometheus 3.14 serves it.

use crate::promql::parse::{parse_expr, tree_json};

#[rustfmt::skip]
const TREES: &[(&str, &str)] = &[
    (
        "1.5e9",
        r#"{"type":"numberLiteral","val":"1500000000"}"#,
    ),
    (
        r#""a\nb""#,
        r#"{"type":"stringLiteral","val":"a\nb"}"#,
    ),
    (
        "-(up)",
        r#"{"expr":{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"type":"parenExpr"},"op":"-","type":"unaryExpr"}"#,
    ),
    (
        "+up",
        r#"{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"op":"+","type":"unaryExpr"}"#,
    ),
    (
        r#"up{a!="b",c=~"d.*",e!~"f"} @ 1.5 offset -5m"#,
        r#"{"anchored":false,"matchers":[{"name":"a","type":"!=","value":"b"},{"name":"c","type":"=~","value":"d.*"},{"name":"e","type":"!~","value":"f"},{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":-300000,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":1500,"type":"vectorSelector"}"#,
    ),
    (
        "up @ start()",
        r#"{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":"start","timestamp":null,"type":"vectorSelector"}"#,
    ),
    (
        "up[5m] @ end() smoothed",
        r#"{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"range":300000,"rangeExpr":null,"smoothed":true,"startOrEnd":"end","timestamp":null,"type":"matrixSelector"}"#,
    ),
    (
        "up anchored",
        r#"{"anchored":true,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}"#,
    ),
    (
        r#"{"a b","c d"="e"}"#,
        r#"{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a b"},{"name":"c d","type":"=","value":"e"}],"name":"","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}"#,
    ),
    (
        "rate(up[5m:1m] @ 7 offset 1h)",
        r#"{"args":[{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"offset":3600000,"offsetExpr":null,"range":300000,"rangeExpr":null,"startOrEnd":null,"step":60000,"stepExpr":null,"timestamp":7000,"type":"subquery"}],"func":{"argTypes":["matrix"],"name":"rate","returnType":"vector","variadic":0},"type":"call"}"#,
    ),
    (
        "up[step()*2:max_of(1m, -range())] offset (1 + 5m)",
        r#"{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"offset":0,"offsetExpr":{"lhs":{"duration":false,"type":"numberLiteral","val":"1"},"op":"+","rhs":{"duration":true,"type":"numberLiteral","val":"300"},"type":"durationExpr","wrapped":true},"range":0,"rangeExpr":{"lhs":{"lhs":null,"op":"step","rhs":null,"type":"durationExpr","wrapped":false},"op":"*","rhs":{"duration":false,"type":"numberLiteral","val":"2"},"type":"durationExpr","wrapped":false},"startOrEnd":null,"step":0,"stepExpr":{"lhs":{"duration":true,"type":"numberLiteral","val":"60"},"op":"max_of","rhs":{"lhs":null,"op":"-","rhs":{"lhs":null,"op":"range","rhs":null,"type":"durationExpr","wrapped":false},"type":"durationExpr","wrapped":false},"type":"durationExpr","wrapped":false},"timestamp":null,"type":"subquery"}"#,
    ),
    (
        "a + on(x, y) group_left(z) fill_left(-0.5) fill_right(2e9) b",
        r#"{"bool":false,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":{"card":"many-to-one","fillValues":{"lhs":-0.5,"rhs":2000000000},"include":["z"],"labels":["x","y"],"on":true},"op":"+","rhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"b"}],"name":"b","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"type":"binaryExpr"}"#,
    ),
    (
        "a - ignoring(x) group_right fill(1.25) b",
        r#"{"bool":false,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":{"card":"one-to-many","fillValues":{"lhs":1.25,"rhs":1.25},"include":[],"labels":["x"],"on":false},"op":"-","rhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"b"}],"name":"b","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"type":"binaryExpr"}"#,
    ),
    (
        "a and on() b",
        r#"{"bool":false,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":{"card":"many-to-many","fillValues":{"lhs":null,"rhs":null},"include":[],"labels":[],"on":true},"op":"and","rhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"b"}],"name":"b","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"type":"binaryExpr"}"#,
    ),
    (
        "a == bool 2",
        r#"{"bool":true,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":null,"op":"==","rhs":{"type":"numberLiteral","val":"2"},"type":"binaryExpr"}"#,
    ),
    (
        "1 == bool 2",
        r#"{"bool":true,"lhs":{"type":"numberLiteral","val":"1"},"matching":null,"op":"==","rhs":{"type":"numberLiteral","val":"2"},"type":"binaryExpr"}"#,
    ),
    (
        "sum(a)",
        r#"{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"grouping":[],"op":"sum","param":null,"type":"aggregation","without":false}"#,
    ),
    (
        "topk by (x) (3, a)",
        r#"{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"grouping":["x"],"op":"topk","param":{"type":"numberLiteral","val":"3"},"type":"aggregation","without":false}"#,
    ),
    (
        r#"count_values without (y) ("v", a)"#,
        r#"{"expr":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"grouping":["y"],"op":"count_values","param":{"type":"stringLiteral","val":"v"},"type":"aggregation","without":true}"#,
    ),
    (
        r#"histogram_quantiles(h, "q", 0.5, 0.9)"#,
        r#"{"args":[{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"h"}],"name":"h","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},{"type":"stringLiteral","val":"q"},{"type":"numberLiteral","val":"0.5"},{"type":"numberLiteral","val":"0.9"}],"func":{"argTypes":["vector","string","scalar","scalar"],"name":"histogram_quantiles","returnType":"vector","variadic":9},"type":"call"}"#,
    ),
    (
        r#"label_join(a, "b", "-")"#,
        r#"{"args":[{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},{"type":"stringLiteral","val":"b"},{"type":"stringLiteral","val":"-"}],"func":{"argTypes":["vector","string","string","string"],"name":"label_join","returnType":"vector","variadic":-1},"type":"call"}"#,
    ),
    (
        "time()",
        r#"{"args":[],"func":{"argTypes":[],"name":"time","returnType":"scalar","variadic":0},"type":"call"}"#,
    ),
    (
        r#"info(a, {b="c"})"#,
        r#"{"args":[{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},{"anchored":false,"matchers":[{"name":"b","type":"=","value":"c"}],"name":"","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}],"func":{"argTypes":["vector","vector"],"name":"info","returnType":"vector","variadic":1},"type":"call"}"#,
    ),
    (
        "a </ 5",
        r#"{"bool":false,"lhs":{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},"matching":null,"op":"</","rhs":{"type":"numberLiteral","val":"5"},"type":"binaryExpr"}"#,
    ),
    (
        r#"sort_by_label(a, "x")"#,
        r#"{"args":[{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"},{"type":"stringLiteral","val":"x"}],"func":{"argTypes":["vector","string"],"name":"sort_by_label","returnType":"vector","variadic":-1},"type":"call"}"#,
    ),
    (
        "rate(a[5m] anchored)",
        r#"{"args":[{"anchored":true,"matchers":[{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":0,"offsetExpr":null,"range":300000,"rangeExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"matrixSelector"}],"func":{"argTypes":["matrix"],"name":"rate","returnType":"vector","variadic":0},"type":"call"}"#,
    ),
    (
        "up offset -step()",
        r#"{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":{"lhs":null,"op":"-","rhs":{"lhs":null,"op":"step","rhs":null,"type":"durationExpr","wrapped":false},"type":"durationExpr","wrapped":false},"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}"#,
    ),
    (
        "min_of(1, 2)",
        r#"{"args":[{"type":"numberLiteral","val":"1"},{"type":"numberLiteral","val":"2"}],"func":{"argTypes":["scalar","scalar"],"name":"min_of","returnType":"scalar","variadic":0},"type":"call"}"#,
    ),
];

#[test]
fn every_kind_of_node_has_the_fields_pages_expect() {
    for (input, tree) in TREES {
        let expr = parse_expr(input).unwrap_or_else(|error| panic!("{input}: {error}"));
        let expect: serde_json::Value = serde_json::from_str(tree).unwrap();
        assert_eq!(tree_json(&expr), expect, "{input}");
    }
}
