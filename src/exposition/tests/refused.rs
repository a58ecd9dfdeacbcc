//! What is refused, and where.

use super::refuse;
use crate::exposition::MediaType;

const TEXT: &[(&str, &str)] = &[
    (
        "a\n",
        "expected value after metric, got end of line at line 1, column 2",
    ),
    (
        "a",
        "expected value after metric, got end of input at line 1, column 2",
    ),
    (
        "a 1\nb x\n",
        "parsing \"x\": invalid syntax at line 2, column 3",
    ),
    (
        "a 0x1p3\n",
        "parsing \"0x1p3\": unsupported character in float at line 1, column 3",
    ),
    (
        "a 1_000\n",
        "parsing \"1_000\": unsupported character in float at line 1, column 3",
    ),
    (
        "a 0x10\n",
        "parsing \"0x10\": invalid syntax at line 1, column 3",
    ),
    (
        "a 1e400\n",
        "parsing \"1e400\": value out of range at line 1, column 3",
    ),
    (
        "a -nan\n",
        "parsing \"-nan\": invalid syntax at line 1, column 3",
    ),
    (
        "a 1\r\n",
        "parsing \"1\\r\": invalid syntax at line 1, column 3",
    ),
    (
        "a 1 -5\n",
        "expected timestamp or new record, got \"-\" at line 1, column 5",
    ),
    (
        "a 1 5.0\n",
        "expected next entry after timestamp, got \".\" at line 1, column 6",
    ),
    (
        "a 1 5 6\n",
        "expected next entry after timestamp, got \"6\" at line 1, column 7",
    ),
    (
        "a 1 # {x=\"y\"} 1\n",
        "expected timestamp or new record, got \"#\" at line 1, column 5",
    ),
    (
        "a 1 99999999999999999999\n",
        "parsing timestamp \"99999999999999999999\": value out of range at line 1, column 5",
    ),
    (
        "a{b=\"c\" 1\n",
        "expected label name, got \"1\" at line 1, column 9",
    ),
    (
        "a{b=\"c\n",
        "expected label value, got \"\\\"\" at line 1, column 5",
    ),
    (
        "a{b=c} 1\n",
        "expected label value, got \"c\" at line 1, column 5",
    ),
    ("a{b} 1\n", "expected equal, got \"}\" at line 1, column 4"),
    (
        "a{,} 1\n",
        "expected label name, got \",\" at line 1, column 3",
    ),
    (
        "a{b=\"c\",,} 1\n",
        "expected label name, got \",\" at line 1, column 9",
    ),
    (
        "a{b=\"c\"}{d=\"e\"} 1\n",
        "expected value after metric, got \"{\" at line 1, column 9",
    ),
    (
        "a{\"b\"} 1\n",
        "metric name already set at line 1, column 3",
    ),
    (
        "{\"a\",\"b\"} 1\n",
        "metric name already set at line 1, column 6",
    ),
    ("{b=\"c\"} 1\n", "metric name not set at line 1, column 1"),
    ("{} 1\n", "metric name not set at line 1, column 1"),
    (
        "0a 1\n",
        "expected a valid start token, got \"0\" at line 1, column 1",
    ),
    (
        "ok 1\n  ?\n",
        "expected a valid start token, got \"?\" at line 2, column 3",
    ),
    (
        "a.b 1\n",
        "parsing \".b\": invalid syntax at line 1, column 2",
    ),
    (
        "# TYPE a unknown\n",
        "invalid metric type \"unknown\" at line 1, column 10",
    ),
    ("# TYPE a\n", "invalid metric type \"\" at line 1, column 9"),
    (
        "# TYPE a  counter\n",
        "invalid metric type \" counter\" at line 1, column 10",
    ),
    (
        "# TYPE a counter \n",
        "invalid metric type \"counter \" at line 1, column 10",
    ),
    (
        "# TYPE \n",
        "expected metric name after TYPE, got end of line at line 1, column 8",
    ),
    (
        "# HELP 9 x\n",
        "expected metric name after HELP, got \"9\" at line 1, column 8",
    ),
    (
        "# HELP \"a x\n",
        "expected metric name after HELP, got \"\\\"\" at line 1, column 8",
    ),
    (
        "a\0{} 1\n",
        "expected value after metric, got \"\\x00\" at line 1, column 2",
    ),
    (
        "a{b\0=\"c\"} 1\n",
        "expected equal, got \"\\x00\" at line 1, column 4",
    ),
    (
        "a 1\0\n",
        "expected timestamp or new record, got \"\\x00\" at line 1, column 4",
    ),
];

const OPENMETRICS: &[(&str, &str)] = &[
    (
        "# EOF\n\n",
        "unexpected data after # EOF, got end of line at line 2, column 1",
    ),
    (
        "# EOF \n",
        "unexpected data after # EOF, got \" \" at line 1, column 6",
    ),
    (
        "# EOF\na 1\n",
        "unexpected data after # EOF, got \"a\" at line 2, column 1",
    ),
    (
        "\n# EOF\n",
        "expected a valid start token, got end of line at line 1, column 1",
    ),
    (
        " a 1\n# EOF\n",
        "expected a valid start token, got \" \" at line 1, column 1",
    ),
    (
        "#  EOF\n",
        "expected HELP, TYPE, UNIT or EOF after # and one space, got \"#\" at line 1, column 1",
    ),
    (
        "# comment\n# EOF\n",
        "expected HELP, TYPE, UNIT or EOF after # and one space, got \"#\" at line 1, column 1",
    ),
    (
        "# TYPE a untyped\n# EOF\n",
        "invalid metric type \"untyped\" at line 1, column 10",
    ),
    (
        "# TYPE a\n# EOF\n",
        "expected text in TYPE, got end of line at line 1, column 9",
    ),
    (
        "# TYPE  a gauge\n# EOF\n",
        "expected metric name after TYPE, got \" \" at line 1, column 8",
    ),
    (
        "# UNIT a_seconds ms\n# EOF\n",
        "unit \"ms\" not a suffix of metric \"a_seconds\" at line 1, column 18",
    ),
    (
        "# UNIT aseconds seconds\n# EOF\n",
        "unit \"seconds\" not a suffix of metric \"aseconds\" at line 1, column 17",
    ),
    (
        "a  1\n# EOF\n",
        "expected value after metric, got \" \" at line 1, column 3",
    ),
    (
        "a\t1\n# EOF\n",
        "expected value after metric, got \"\\t\" at line 1, column 2",
    ),
    (
        "a {} 1\n# EOF\n",
        "parsing \"{}\": invalid syntax at line 1, column 3",
    ),
    (
        "a{b=\"c\"}1\n# EOF\n",
        "expected value after metric, got \"1\" at line 1, column 9",
    ),
    (
        "a{b=\"c\", d=\"e\"} 1\n# EOF\n",
        "expected label name, got \" \" at line 1, column 9",
    ),
    (
        "a{b= \"c\"} 1\n# EOF\n",
        "expected label value, got \" \" at line 1, column 5",
    ),
    (
        "a{b=\"c\"d=\"e\"} 1\n# EOF\n",
        "expected comma or brace close, got \"d\" at line 1, column 8",
    ),
    (
        "a{b=\"c\nd\"} 1\n# EOF\n",
        "expected label value, got \"\\\"\" at line 1, column 5",
    ),
    (
        "a{\"b\"} 1\n# EOF\n",
        "metric name already set at line 1, column 3",
    ),
    (
        "{b=\"c\"} 1\n# EOF\n",
        "metric name not set at line 1, column 1",
    ),
    (
        "a 1 NaN\n# EOF\n",
        "invalid timestamp NaN at line 1, column 5",
    ),
    (
        "a 1 +Inf\n# EOF\n",
        "invalid timestamp inf at line 1, column 5",
    ),
    (
        "a 1 x\n# EOF\n",
        "parsing \"x\": invalid syntax at line 1, column 5",
    ),
    (
        "a 1 \n# EOF\n",
        "expected timestamp, got end of line at line 1, column 5",
    ),
    (
        "a 1 2 3\n# EOF\n",
        "expected timestamp or # {exemplar}, got \" \" at line 1, column 6",
    ),
    (
        "a 1 #\n# EOF\n",
        "parsing \"#\": invalid syntax at line 1, column 5",
    ),
    (
        "a 1 # {b=\"c\"}\n# EOF\n",
        "expected value after exemplar labels, got end of line at line 1, column 14",
    ),
    (
        "a 1 # {\"b\"} 1\n# EOF\n",
        "expected equal, got \"}\" at line 1, column 11",
    ),
    (
        "a 1 # {b=\"c\"} 1 2 3\n# EOF\n",
        "expected next entry after exemplar timestamp, got \" \" at line 1, column 18",
    ),
    (
        "a 1 # {b=\"c\"} 1 Inf\n# EOF\n",
        "invalid timestamp inf at line 1, column 17",
    ),
];

#[test]
fn a_refused_text_exposition_names_the_place() {
    for (input, expect) in TEXT {
        refuse(MediaType::Text, input.as_bytes(), expect);
    }
    let not_utf8: [(&[u8], &str); 4] = [
        (
            b"# HELP a b\xffc\n",
            "help text is not valid UTF-8 at line 1, column 11",
        ),
        (
            b"a{b=\"\xff\"} 1\n",
            "series is not valid UTF-8 at line 1, column 6",
        ),
        (
            b"{\"\xff\"} 1\n",
            "series is not valid UTF-8 at line 1, column 3",
        ),
        (
            b"# TYPE \"\xff\" gauge\n",
            "metric name is not valid UTF-8 at line 1, column 9",
        ),
    ];
    for (input, expect) in not_utf8 {
        refuse(MediaType::Text, input, expect);
    }
}

#[test]
fn a_refused_openmetrics_exposition_names_the_place() {
    const NO_EOF: &str = "data does not end with # EOF";
    for (input, expect) in [
        ("", format!("{NO_EOF} at line 1, column 1")),
        ("a 1\n", format!("{NO_EOF} at line 2, column 1")),
        ("a 1", format!("{NO_EOF} at line 1, column 4")),
        ("# HELP a b", format!("{NO_EOF} at line 1, column 11")),
        ("a 1 # {} 2", format!("{NO_EOF} at line 1, column 11")),
    ] {
        refuse(MediaType::OpenMetrics, input.as_bytes(), &expect);
    }
    for (input, expect) in OPENMETRICS {
        refuse(MediaType::OpenMetrics, input.as_bytes(), expect);
    }
}
