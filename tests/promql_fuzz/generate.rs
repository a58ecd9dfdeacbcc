//! Valid queries by chance.

use crate::dice::Dice;
use crate::leaves::{
    Dialect, FLOATS, HISTOGRAMS, LABELS, label_list, number, range_selector, selector,
    subquery_suffix, with_matchers,
};

/// Functions of a vector that change nothing but values.
const MATH: [&str; 28] = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "deg",
    "exp",
    "floor",
    "ln",
    "log10",
    "log2",
    "rad",
    "sgn",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "sort",
    "sort_desc",
    "timestamp",
    "round",
    "absent",
];

/// Functions of a time; the vector may be left out.
const DATES: [&str; 8] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "year",
];

/// Functions of a range vector.
const RANGE: [&str; 22] = [
    "rate",
    "rate",
    "increase",
    "irate",
    "delta",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "count_over_time",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "sum_over_time",
    "absent_over_time",
    "rate",
    "increase",
];

/// Functions of a range vector that 2.42 does not have.
const NEW_RANGE: [&str; 6] = [
    "first_over_time",
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// Functions of native histograms.
const HISTOGRAM: [&str; 5] = [
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_stddev",
    "histogram_stdvar",
];

/// Aggregations without a parameter.
const AGGREGATES: [&str; 10] = [
    "sum", "sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "sum",
];

const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", ">", "<=", ">="];
const SETS: [&str; 3] = ["and", "or", "unless"];

/// Makes queries.
pub(crate) struct Generator<'a> {
    /// Where chance comes from.
    pub(crate) dice: &'a mut Dice,
    /// What may be used.
    pub(crate) dialect: Dialect,
}

impl Generator<'_> {
    /// A query of at most `depth` operators above a leaf. Strings and range vectors are no part of a range query.
    pub(crate) fn query(&mut self, depth: usize, is_range: bool) -> String {
        match self.dice.below(30) {
            0 | 1 => self.scalar(depth),
            2 if !is_range => self.matrix(depth),
            3 if !self.is_new() => self.native(),
            _ => self.vector(depth),
        }
    }

    fn is_new(&self) -> bool {
        self.dialect.is_newest()
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return selector(self.dice, self.dialect);
        }
        match self.dice.below(100) {
            0..=12 => selector(self.dice, self.dialect),
            13..=22 => self.math(depth - 1),
            23..=45 => self.range_call(depth - 1),
            46..=63 => self.aggregate(depth - 1),
            64..=84 => self.binary(depth - 1),
            85..=88 => self.classic_histogram(depth - 1),
            89..=91 => self.label_call(depth - 1),
            92..=93 => self.clamp(depth - 1),
            94 => format!("vector({})", self.scalar(depth - 1)),
            95 => format!("-{}", self.operand(depth - 1)),
            96 => format!("({})", self.vector(depth - 1)),
            _ => self.special(depth - 1),
        }
    }

    /// What only one of the dialects has, or only one kind of sample.
    fn special(&mut self, depth: usize) -> String {
        if !self.is_new() {
            let of = self.dice.of(&HISTOGRAM[..2]);
            return format!("{of}({})", self.native());
        }
        let inner = self.vector(depth);
        match self.dice.below(8) {
            0 => format!("info({inner})"),
            1 => format!(r#"info({inner}, {{__name__=~"build_info|target_info",version=~".+"}})"#),
            2 => format!("start_timestamp({inner})"),
            3 => format!("sort_by_label({inner}, \"job\", \"instance\")"),
            4 => format!("sort_by_label_desc({inner}, \"instance\")"),
            5 => format!("histogram_quantiles({inner}, \"q\", 0.1, 0.5, 0.99)"),
            6 => {
                let (low, high) = (number(self.dice), number(self.dice));
                format!("histogram_fraction({low}, {high}, {inner})")
            }
            _ => format!("{}({inner})", self.dice.of(&HISTOGRAM)),
        }
    }

    /// Native histograms where 2.42 and 3.14 do the same with them: as they are stored, and added up.
    fn native(&mut self) -> String {
        let name = self.dice.of(&HISTOGRAMS[..4]);
        let series = with_matchers(self.dice, name);
        match self.dice.below(3) {
            0 | 1 => series,
            _ => format!("sum by (job, instance) ({series})"),
        }
    }

    fn math(&mut self, depth: usize) -> String {
        if self.dice.chance(15) {
            let name = self.dice.of(&DATES);
            return match self.dice.below(3) {
                0 => format!("{name}()"),
                1 => format!("{name}(timestamp({}))", self.vector(depth)),
                _ => format!("{name}({})", self.vector(depth)),
            };
        }
        let name = self.dice.of(&MATH);
        let inner = self.vector(depth);
        if name == "round" && self.dice.chance(60) {
            return format!("round({inner}, {})", self.scalar(depth.min(1)));
        }
        format!("{name}({inner})")
    }

    fn range_call(&mut self, depth: usize) -> String {
        let matrix = self.matrix(depth);
        if self.is_new() && self.dice.chance(15) {
            return format!("{}({matrix})", self.dice.of(&NEW_RANGE));
        }
        match self.dice.below(16) {
            0 => format!(
                "quantile_over_time({}, {matrix})",
                self.scalar(depth.min(1))
            ),
            1 => format!("predict_linear({matrix}, {})", self.scalar(depth.min(1))),
            2 => {
                let factors = ["0.5", "0.1", "0.3", "0.9", "0.99", "1.5"];
                let (smoothing, trend) = (self.dice.of(&factors), self.dice.of(&factors));
                format!("double_exponential_smoothing({matrix}, {smoothing}, {trend})")
            }
            _ => format!("{}({matrix})", self.dice.of(&RANGE)),
        }
    }

    fn matrix(&mut self, depth: usize) -> String {
        if depth == 0 || self.dice.chance(70) {
            return range_selector(self.dice, self.dialect, &FLOATS);
        }
        let inner = self.operand(depth - 1);
        format!("{inner}{}", subquery_suffix(self.dice, self.dialect))
    }

    fn aggregate(&mut self, depth: usize) -> String {
        let inner = self.vector(depth);
        let grouping = match self.dice.below(5) {
            0 | 1 => String::new(),
            2 | 3 => format!(" by {}", label_list(self.dice, 3)),
            _ => format!(" without {}", label_list(self.dice, 3)),
        };
        let (name, param) = match self.dice.below(20) {
            0..=11 => (self.dice.of(&AGGREGATES), String::new()),
            12..=14 => {
                let k = self
                    .dice
                    .of(&["1", "2", "3", "5", "0", "-1", "2.7", "100"])
                    .to_owned();
                (self.dice.of(&["topk", "bottomk"]), k)
            }
            15 => (self.dice.of(&["topk", "bottomk"]), self.scalar(1)),
            16 | 17 => {
                let label = self.dice.of(&["v", "job", "value", "__name__", "instance"]);
                ("count_values", format!("\"{label}\""))
            }
            18 if self.is_new() => (self.dice.of(&["limitk", "limit_ratio"]), number(self.dice)),
            _ => {
                let q = self
                    .dice
                    .of(&["0.5", "0", "1", "0.9", "0.25", "-1", "2", "NaN"])
                    .to_owned();
                ("quantile", q)
            }
        };
        let args = if param.is_empty() {
            inner
        } else {
            format!("{param}, {inner}")
        };
        if self.dice.chance(50) {
            format!("{name}{grouping} ({args})")
        } else {
            format!("{name}({args}){grouping}")
        }
    }

    fn binary(&mut self, depth: usize) -> String {
        let kind = self.dice.below(10);
        if kind < 3 {
            let (scalar, vector) = (self.scalar_operand(depth), self.operand(depth));
            let op = self.operator();
            return if self.dice.chance(50) {
                format!("{scalar} {op} {vector}")
            } else {
                format!("{vector} {op} {scalar}")
            };
        }
        let left = self.operand(depth);
        // Series that have partners are found when both sides are about the same.
        let right = if self.dice.chance(30) {
            left.clone()
        } else {
            self.operand(depth)
        };
        if kind == 9 {
            let op = self.dice.of(&SETS);
            return format!("{left} {op}{} {right}", self.matching());
        }
        let (op, matching) = (self.operator(), self.matching());
        let group = match self.dice.below(5) {
            0 if !matching.is_empty() => {
                let side = self.dice.of(&["group_left", "group_right"]);
                format!(" {side} {}", self.include(&matching))
            }
            _ => String::new(),
        };
        let fill = match self.dice.below(8) {
            0 if self.is_new() => format!(" fill({})", self.dice.of(&["0", "1", "NaN", "-2"])),
            1 if self.is_new() => format!(" fill_left({})", self.dice.of(&["0", "5"])),
            2 if self.is_new() => format!(" fill_right({})", self.dice.of(&["0", "5"])),
            _ => String::new(),
        };
        format!("{left} {op}{matching}{group}{fill} {right}")
    }

    /// An operator of two values, with `bool` or without.
    fn operator(&mut self) -> String {
        if self.is_new() && self.dice.chance(6) {
            return self.dice.of(&["</", ">/"]).to_owned();
        }
        if self.dice.chance(60) {
            return self.dice.of(&ARITHMETIC).to_owned();
        }
        let bool_modifier = self.dice.of(&["", "", " bool"]);
        format!("{}{bool_modifier}", self.dice.of(&COMPARISONS))
    }

    fn matching(&mut self) -> String {
        match self.dice.below(10) {
            0..=3 => String::new(),
            4 => " on (job, instance)".to_owned(),
            5 => " ignoring (code, path)".to_owned(),
            6 | 7 => format!(" on {}", label_list(self.dice, 3)),
            _ => format!(" ignoring {}", label_list(self.dice, 3)),
        }
    }

    /// Labels to take over; those of `on` may not be among them.
    fn include(&mut self, matching: &str) -> String {
        let labels: Vec<&str> = self
            .dice
            .some(&LABELS, 2)
            .into_iter()
            .filter(|label| !matching.contains("on (") || !matching.contains(label))
            .collect();
        format!("({})", labels.join(", "))
    }

    fn classic_histogram(&mut self, depth: usize) -> String {
        let q = match self.dice.below(4) {
            0 => self.scalar(depth.min(1)),
            _ => self
                .dice
                .of(&["0.5", "0.9", "0.99", "0", "1", "0.01"])
                .to_owned(),
        };
        let buckets = with_matchers(self.dice, "lat_bucket");
        let inner = match self.dice.below(6) {
            0 => buckets,
            1 => format!("rate({buckets}[5m])"),
            2 => format!("sum by (le) ({buckets})"),
            3 => format!("sum by (le, job) (increase({buckets}[3m]))"),
            4 => format!("sum without (instance) (rate({buckets}[2m]))"),
            _ => self.vector(depth),
        };
        format!("histogram_quantile({q}, {inner})")
    }

    fn label_call(&mut self, depth: usize) -> String {
        let inner = self.vector(depth);
        let target = self
            .dice
            .of(&["job", "instance", "fresh", "code", "__name__", "le"]);
        if self.dice.chance(40) {
            let separator = self.dice.of(&["", "-", "/", "\u{e9}"]);
            let sources: String = self
                .dice
                .some(&LABELS, 3)
                .iter()
                .map(|label| format!(", \"{label}\""))
                .collect();
            return format!("label_join({inner}, \"{target}\", \"{separator}\"{sources})");
        }
        let source = self.dice.of(&LABELS);
        let (replacement, regex) = [
            ("$1", "(.*)"),
            ("x-$1", "(a|w).*"),
            ("", ".*"),
            ("$2$1", "(.)(.+)"),
            ("${1}0", "([0-9]+)"),
            ("constant", ""),
            ("$0", "[^/]+"),
            ("${name}", "(?P<name>.).*"),
        ][self.dice.below(8)];
        format!(
            "label_replace({inner}, \"{target}\", \"{replacement}\", \"{source}\", \"{regex}\")"
        )
    }

    fn clamp(&mut self, depth: usize) -> String {
        let inner = self.vector(depth);
        match self.dice.below(3) {
            0 => format!(
                "clamp({inner}, {}, {})",
                number(self.dice),
                number(self.dice)
            ),
            1 => format!("clamp_min({inner}, {})", self.scalar(depth.min(1))),
            _ => format!("clamp_max({inner}, {})", self.scalar(depth.min(1))),
        }
    }

    /// A vector that may stand beside an operator.
    fn operand(&mut self, depth: usize) -> String {
        let text = self.vector(depth);
        // Without parentheses the operators inside may bind to others: the same in both grammars.
        if self.dice.chance(5) {
            text
        } else {
            parenthesized(text)
        }
    }

    fn scalar_operand(&mut self, depth: usize) -> String {
        parenthesized(self.scalar(depth))
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return number(self.dice);
        }
        match self.dice.below(12) {
            0..=3 => number(self.dice),
            4 => "time()".to_owned(),
            5 => "pi()".to_owned(),
            6 | 7 => format!("scalar({})", self.vector(depth - 1)),
            8 => format!("-{}", self.scalar_operand(depth - 1)),
            9 if self.is_new() => self
                .dice
                .of(&[
                    "start()",
                    "end()",
                    "step()",
                    "range()",
                    "max_of(step(), 3)",
                    "min_of(1, time())",
                ])
                .to_owned(),
            _ => {
                let (left, right) = (
                    self.scalar_operand(depth - 1),
                    self.scalar_operand(depth - 1),
                );
                let op = if self.dice.chance(70) {
                    self.dice.of(&ARITHMETIC).to_owned()
                } else {
                    format!("{} bool", self.dice.of(&COMPARISONS))
                };
                format!("{left} {op} {right}")
            }
        }
    }
}

/// `text`, in parentheses unless it is one word, number or call.
fn parenthesized(text: String) -> String {
    let is_plain = text
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'));
    if is_plain { text } else { format!("({text})") }
}
