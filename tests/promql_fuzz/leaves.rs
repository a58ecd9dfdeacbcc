//! The leaves of generated queries: selectors, durations, ranges, numbers, labels.
//!
//! Ranges of Prometheus 2.x are closed on the left and those of 3.x are open, so no range may begin at a sample or at
//! a step of a subquery. Samples stand 211, 613 or 907 ms after a second, queries are evaluated at 0, 337 or 500 ms and
//! subqueries at whole or half seconds; ranges and offsets of selectors are whole or half seconds, and those of
//! subqueries have 123 ms more.

use crate::dice::Dice;

/// What the other side understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// What means the same in Prometheus 2.42 and in 3.14.
    Both,
    /// Everything 3.14 knows, behind flags or not.
    Newest,
}

impl Dialect {
    /// May what only 3.14 knows be used?
    pub(crate) fn is_newest(self) -> bool {
        self == Self::Newest
    }
}

/// Metrics of floats.
pub(crate) const FLOATS: [&str; 12] = [
    "reqs_total",
    "reqs_total",
    "errs_total",
    "gauge",
    "gauge",
    "twin",
    "temp",
    "odd",
    "sparse",
    "lat_bucket",
    "lat_count",
    "build_info",
];

/// Metrics with native histograms; of the last one some samples are floats.
pub(crate) const HISTOGRAMS: [&str; 5] = ["nh", "nh", "nh_gauge", "nh_float", "nh_mixed"];

/// A metric of histograms with listed bounds, which 2.42 does not know.
pub(crate) const CUSTOM: &str = "nh_custom";

/// Labels that series of the data set have, and one that none has.
pub(crate) const LABELS: [&str; 9] = [
    "job", "instance", "code", "path", "le", "kind", "version", "__name__", "nope",
];

/// Matchers, some of which match nothing, or what has no such label.
const MATCHERS: [&str; 30] = [
    r#"job="api""#,
    r#"job="web""#,
    r#"job="db""#,
    r#"job!="api""#,
    r#"job=~"a.*|web""#,
    r#"job!~"web|db""#,
    r#"job=~".+""#,
    r#"job=~"(?i:API)""#,
    r#"job=~"[aw].*""#,
    r#"job!~".*b""#,
    r#"instance="0""#,
    r#"instance!="1""#,
    r#"instance=~"0|2""#,
    r#"instance=~"[01]""#,
    r#"instance!~"0.*""#,
    r#"code="200""#,
    r#"code=~"2..""#,
    r#"code=~"5.*|404""#,
    r#"code!="200""#,
    r#"code="""#,
    r#"code!="""#,
    r#"code!~"2.+""#,
    r#"path=~"/a.*""#,
    r#"path=~"""#,
    r#"path!~".+""#,
    r#"kind=~"nan|inf|tiny""#,
    r#"kind!="huge""#,
    r#"le!="+Inf""#,
    r#"nope="""#,
    r#"nope="x""#,
];

/// Selectors without a name, or with several.
const NAMELESS: [&str; 10] = [
    r#"{job="api",__name__=~"reqs.*|errs.*"}"#,
    r#"{__name__=~"gauge|twin"}"#,
    r#"{__name__=~"lat_.+",job="web"}"#,
    r#"{job="api",instance="0",__name__!~"nh.*"}"#,
    r#"{__name__=~"t.*",instance!=""}"#,
    r#"{__name__="gauge"}"#,
    r#"{kind="nan"}"#,
    r#"{kind=~".+",__name__!=""}"#,
    r#"{code="500",__name__=~".+_total"}"#,
    r#"{version=~".+"}"#,
];

/// Ranges of selectors.
const RANGES: [&str; 12] = [
    "15s", "30s", "40s", "1m", "1m30s", "2m", "3m", "5m", "10m", "17m", "1h", "33s500ms",
];

/// Ranges of subqueries.
const SUBRANGES: [&str; 8] = [
    "50s123ms",
    "1m123ms",
    "2m123ms",
    "3m20s123ms",
    "5m123ms",
    "9m123ms",
    "16m123ms",
    "1h123ms",
];

/// Steps of subqueries; the empty one is the server's evaluation interval.
const SUBSTEPS: [&str; 8] = ["", "15s", "30s", "1m", "1m", "2m", "37s", "45s500ms"];

/// Offsets.
const OFFSETS: [&str; 9] = [
    "15s",
    "1m",
    "5m",
    "7m30s",
    "20m",
    "1h",
    "-30s",
    "-5m",
    "-42s500ms",
];

/// Numbers, with those where functions bend.
const NUMBERS: [&str; 30] = [
    "0", "1", "2", "3", "5", "10", "100", "0.5", "0.1", "0.9", "-1", "-0.5", "-3", "1e3", "1e-9",
    "1e300", "-1e300", "1e-320", "42.5", "1.5", "60", "NaN", "Inf", "-Inf", "0x1f", "7", "12",
    "1000000", "3.7e9", "-0",
];

/// A selector of one sample a series, with its modifiers.
pub(crate) fn selector(dice: &mut Dice, dialect: Dialect) -> String {
    let mut text = series(dice, dialect);
    if dialect.is_newest() && dice.chance(3) {
        text.push_str(dice.of(&[" anchored", " smoothed", " smoothed"]));
    }
    text.push_str(&modifiers(dice, 15));
    text
}

/// A selector of the samples of a range.
pub(crate) fn range_selector(dice: &mut Dice, dialect: Dialect, names: &[&str]) -> String {
    let name = series_of(dice, dialect, names);
    let range = range(dice, dialect);
    let extend = if dialect.is_newest() && dice.chance(15) {
        dice.of(&[" anchored", " smoothed"])
    } else {
        ""
    };
    format!("{name}[{range}]{extend}{}", modifiers(dice, 20))
}

/// What stands behind an expression to make a subquery of it.
pub(crate) fn subquery_suffix(dice: &mut Dice, dialect: Dialect) -> String {
    let step = dice.of(&SUBSTEPS);
    let range = if dialect.is_newest() && dice.chance(25) {
        duration_expr(dice, 2)
    } else {
        dice.of(&SUBRANGES).to_owned()
    };
    format!("[{range}:{step}]{}", modifiers(dice, 20))
}

/// A series selector: a name, matchers, or both.
fn series(dice: &mut Dice, dialect: Dialect) -> String {
    series_of(dice, dialect, &FLOATS)
}

fn series_of(dice: &mut Dice, dialect: Dialect, names: &[&str]) -> String {
    if dice.chance(7) {
        return dice.of(&NAMELESS).to_owned();
    }
    let name = match dice.below(100) {
        0..20 if dialect.is_newest() => dice.of(&HISTOGRAMS),
        20..24 if dialect.is_newest() => CUSTOM,
        _ => dice.of(names),
    };
    with_matchers(dice, name)
}

/// `name` with up to two matchers.
pub(crate) fn with_matchers(dice: &mut Dice, name: &str) -> String {
    let n_matchers = [0, 0, 1, 1, 2][dice.below(5)];
    let matchers = dice.some(&MATCHERS, n_matchers);
    if matchers.is_empty() {
        return name.to_owned();
    }
    format!("{name}{{{}}}", matchers.join(","))
}

/// `@` and `offset`, each in `percent` of a hundred cases.
fn modifiers(dice: &mut Dice, percent: usize) -> String {
    let mut text = String::new();
    if dice.chance(percent / 2) {
        text.push_str(&at(dice));
    }
    if dice.chance(percent) {
        text.push_str(" offset ");
        text.push_str(dice.of(&OFFSETS));
    }
    if dice.chance(percent / 8) && !text.contains('@') {
        text.push_str(&at(dice));
    }
    text
}

fn at(dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => " @ start()".to_owned(),
        1 => " @ end()".to_owned(),
        _ => {
            let seconds = crate::data::START_MS / 1000 + dice.between(0, 7200);
            let part = dice.of(&["", "", ".5", ".337"]);
            format!(" @ {seconds}{part}")
        }
    }
}

/// The range of a range selector.
fn range(dice: &mut Dice, dialect: Dialect) -> String {
    if dialect.is_newest() && dice.chance(15) {
        return duration_expr(dice, 2);
    }
    dice.of(&RANGES).to_owned()
}

/// Arithmetic over durations, as 3.x knows it.
fn duration_expr(dice: &mut Dice, depth: usize) -> String {
    if depth == 0 || dice.chance(40) {
        return dice
            .of(&["5m", "90", "1m30s", "step()", "range()", "17s", "1h"])
            .to_owned();
    }
    let left = duration_expr(dice, depth - 1);
    let right = duration_expr(dice, depth - 1);
    match dice.below(5) {
        0 => format!("({left} + {right})"),
        1 => format!("({left} - {right})"),
        2 => format!("max_of({left}, {right})"),
        3 => format!("min_of({left}, {right})"),
        _ => format!("({left} * {})", dice.of(&["2", "0.5", "3"])),
    }
}

/// A number as text.
pub(crate) fn number(dice: &mut Dice) -> String {
    dice.of(&NUMBERS).to_owned()
}

/// `(a, b)`.
pub(crate) fn label_list(dice: &mut Dice, n_max: usize) -> String {
    let labels = dice.some(&LABELS[..8], n_max);
    format!("({})", labels.join(", "))
}
