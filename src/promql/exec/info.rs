//! `info`: labels of info metrics join the series they identify.
#![expect(
    clippy::indexing_slicing,
    reason = "positions of series come from walks over the same frames"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::{Interval, Labels, METRIC_NAME, MatchType, Matcher, SeriesKey};
use crate::promql::exec::Evaluator;
use crate::promql::exec::call::arg;
use crate::promql::exec::frame::{Frame, Head, ones};
use crate::promql::exec::select::{Look, Show};
use crate::promql::exec::source::select;
use crate::promql::functions::Func;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::parse::ast::Span;
use crate::promql::plan::{Call, Grid, Leaf, Node, RangeSource, Reading};
use crate::storage::SelectHints;

/// The labels by which info series and others belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Info series by what they identify: for each key, positions by metric name.
type ByKey<'a> = HashMap<SeriesKey, BTreeMap<&'a str, Vec<usize>>>;

/// What the second argument of `info` asks for.
struct Wanted {
    names: Vec<Matcher>,
    data: Vec<Matcher>,
}

impl Wanted {
    fn new(matchers: &[Arc<Matcher>]) -> Result<Self, QueryError> {
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) = matchers
            .iter()
            .map(|matcher| Matcher::clone(matcher))
            .partition(|matcher| &*matcher.name == METRIC_NAME);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, "target_info"));
        } else if names.iter().all(Matcher::is_negative) {
            names.insert(0, regex(METRIC_NAME, ".+_info")?);
        }
        Ok(Self { names, data })
    }

    fn is_info(&self, labels: &Labels) -> bool {
        let name = labels.metric_name();
        self.names.iter().all(|matcher| matcher.matches(name))
    }

    fn takes(&self, name: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|matcher| &*matcher.name == name)
    }
}

fn regex(name: &str, pattern: &str) -> Result<Matcher, QueryError> {
    Matcher::new(MatchType::Regex, name, pattern)
        .map_err(|error| QueryError::Execution(error.to_string()))
}

fn identity(labels: &Labels) -> SeriesKey {
    SeriesKey::of(labels.iter().filter(|(name, _)| IDENTIFYING.contains(name)))
}

/// When the first selector below `node` looks: pinned to a time, and shifted.
fn reference(node: &Node) -> Option<(Option<i64>, i64)> {
    match node {
        Node::Number(_) | Node::Text(_) => None,
        Node::Select(leaf) => Some((leaf.at, leaf.offset_ms)),
        Node::Range(range) => match &range.source {
            RangeSource::Samples(leaf) => Some((leaf.at, leaf.offset_ms)),
            RangeSource::Subquery(subquery) => {
                let (at, offset_ms) = reference(&subquery.expr)?;
                Some(match at {
                    Some(_) => (at, offset_ms),
                    None => (subquery.at, offset_ms.saturating_add(subquery.offset_ms)),
                })
            }
        },
        Node::Negate(inner) | Node::Pinned(inner) => reference(inner),
        Node::Binary(binary) => reference(&binary.lhs).or_else(|| reference(&binary.rhs)),
        Node::Aggregate(aggregate) => {
            let param = aggregate.param.as_ref();
            reference(&aggregate.expr).or_else(|| param.and_then(|(param, _)| reference(param)))
        }
        Node::Call(call) => {
            // What an inner `info` asks for is written as a selector.
            let is_asking = call.func == Func::Info && !call.matchers.is_empty();
            let own = || is_asking.then_some((None, 0));
            call.args.iter().find_map(reference).or_else(own)
        }
    }
}

impl Evaluator {
    /// `info(v, {…})`.
    pub(crate) fn info(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let base_node = arg(call, 0)?;
        let wanted = Wanted::new(&call.matchers)?;
        let base = self.vector(base_node, grid)?;
        let (at, offset_ms) = reference(base_node).unwrap_or((None, 0));
        let times = self.info_times(&wanted, &base, grid, (at, offset_ms))?;
        refuse_histograms(&base, &times)?;
        let mut by_key: ByKey<'_> = HashMap::new();
        for (i, head) in times.heads().iter().enumerate() {
            self.budget.every(i)?;
            by_key
                .entry(identity(&head.labels))
                .or_default()
                .entry(head.labels.metric_name())
                .or_default()
                .push(i);
        }
        refuse_twins(&base, &times, &by_key, &self.budget)?;
        let mut out = Frame::new(grid.n, &self.budget);
        for i in 0..base.len() {
            self.budget.check()?;
            if wanted.is_info(&base.head(i).labels) {
                out.push_row(base.head(i).clone(), base.row(i));
                continue;
            }
            let names = by_key.get(&identity(&base.head(i).labels));
            self.enrich((&base, i), (&times, names), &wanted, &mut out)?;
        }
        out.settle(&self.budget)?;
        self.join_same_labels(out)
    }

    /// When the newest sample of each info series was taken, at every step.
    fn info_times(
        &self,
        wanted: &Wanted,
        base: &Frame,
        grid: Grid,
        (at, offset_ms): (Option<i64>, i64),
    ) -> Result<Frame, QueryError> {
        let mut matchers = Vec::new();
        for label in IDENTIFYING {
            let values: BTreeSet<String> = base
                .heads()
                .iter()
                .filter(|head| !wanted.is_info(&head.labels))
                .filter_map(|head| head.labels.get(label))
                .map(regex_syntax::escape)
                .collect();
            if !values.is_empty() {
                let values: Vec<String> = values.into_iter().collect();
                matchers.push(regex(label, &values.join("|"))?);
            }
        }
        if matchers.is_empty() {
            return Ok(Frame::new(grid.n, &self.budget));
        }
        matchers.extend(wanted.data.iter().cloned());
        matchers.extend(wanted.names.iter().cloned());
        let lookback_ms = self.context.lookback_ms;
        let (first, last) = at.map_or((grid.start, grid.end()), |at| (at, at));
        let hints = SelectHints {
            resolutions: self.context.resolutions,
            func: "info".to_owned(),
            step_ms: self.context.step_ms,
            cancel: self.budget.cancel().clone(),
            ..SelectHints::new(Interval {
                min: first
                    .saturating_sub(offset_ms)
                    .saturating_sub(lookback_ms - 1),
                max: last.saturating_sub(offset_ms),
            })
        };
        let selected = select(
            &*self.queryable,
            (&matchers, "info()"),
            &hints,
            &self.budget,
            &self.notes,
        )?;
        let look = Look {
            grid,
            window_ms: 0,
            leaf: Leaf {
                selector: 0,
                offset_ms,
                at,
                extend: None,
                only_stats: false,
                reading: Reading::default(),
                span: Span::default(),
            },
            lookback_ms,
            show: Show::SecondsOfFloats,
        };
        self.over_series(&Arc::new(selected), look, grid.n)
    }

    /// Series `i` of `base`, once per set of labels that it gets at some steps.
    fn enrich(
        &self,
        (base, i): (&Frame, usize),
        (times, names): (&Frame, Option<&BTreeMap<&str, Vec<usize>>>),
        wanted: &Wanted,
        out: &mut Frame,
    ) -> Result<(), QueryError> {
        let head = base.head(i);
        let keeps_unmatched = wanted.data.iter().all(Matcher::matches_empty);
        let mut rows: HashMap<Vec<usize>, usize> = HashMap::new();
        for (step, cell) in base.row(i).cells() {
            let mut chosen = Vec::new();
            for members in names.into_iter().flat_map(BTreeMap::values) {
                chosen.extend(newest_of(times, members, step));
            }
            if chosen.is_empty() && !keeps_unmatched {
                continue;
            }
            let row = match rows.get(&chosen) {
                Some(row) => *row,
                None => {
                    let labels = enriched(&head.labels, &chosen, times, wanted)?;
                    out.push(Head {
                        labels,
                        drop_name: head.drop_name,
                    });
                    rows.insert(chosen, out.len() - 1);
                    out.len() - 1
                }
            };
            out.row_mut(row).set_cell(step, cell);
        }
        Ok(())
    }
}

/// Info series are floats, at least where there is anything for them to join.
fn refuse_histograms(base: &Frame, times: &Frame) -> Result<(), QueryError> {
    if !times.has_histograms() {
        return Ok(());
    }
    let any = base.any_present();
    let is_met = times
        .rows()
        .flat_map(|(_, row)| row.histograms())
        .any(|(step, _)| any[step / 64] >> (step % 64) & 1 == 1);
    if is_met {
        return Err(QueryError::execution("info sample should be float"));
    }
    Ok(())
}

/// Of info series that identify the same one has the newest sample wherever there is anything to join, whether these are
/// joined or not. The earliest step at which two have it is told.
fn refuse_twins(
    base: &Frame,
    times: &Frame,
    by_key: &ByKey<'_>,
    budget: &Budget,
) -> Result<(), QueryError> {
    let any = base.any_present();
    let mut earliest: Option<(usize, usize, usize)> = None;
    let alike = by_key.values().flat_map(BTreeMap::values);
    for members in alike.filter(|members| 1 < members.len()) {
        budget.check()?;
        let found = ones(&any).find_map(|step| {
            let (known, twin) = twins_of(times, members, step)?;
            Some((step, twin, known))
        });
        earliest = [earliest, found].into_iter().flatten().min();
    }
    let Some((step, twin, known)) = earliest else {
        return Ok(());
    };
    let ms = format!("{:.0}", times.row(twin).get(step).unwrap_or(0.0) * 1000.0);
    Err(QueryError::Execution(format!(
        "found duplicate series for info metric: existing {} @ {ms}, new {} @ {ms}",
        times.head(known).labels,
        times.head(twin).labels
    )))
}

/// Walking over `members`, the first whose sample is as new as the newest before, behind the one that had that.
fn twins_of(times: &Frame, members: &[usize], step: usize) -> Option<(usize, usize)> {
    let mut newest: Option<(usize, f64)> = None;
    for i in members {
        let Some(t) = times.row(*i).get(step) else {
            continue;
        };
        match newest {
            Some((known, before)) if before.total_cmp(&t).is_eq() => return Some((known, *i)),
            Some((_, before)) if before > t => (),
            _ => newest = Some((*i, t)),
        }
    }
    None
}

/// Of info series that identify the same, the one with the newest sample.
fn newest_of(times: &Frame, members: &[usize], step: usize) -> Option<usize> {
    let there = members.iter().copied();
    let there = there.filter_map(|i| Some((i, times.row(i).get(step)?)));
    let newest = there.reduce(|best, next| if best.1 < next.1 { next } else { best });
    newest.map(|(i, _)| i)
}

/// The labels of a series with those of its info series.
fn enriched(
    labels: &Labels,
    chosen: &[usize],
    times: &Frame,
    wanted: &Wanted,
) -> Result<Labels, QueryError> {
    let mut added: BTreeMap<&str, &str> = BTreeMap::new();
    for i in chosen {
        for (name, value) in &times.heads()[*i].labels {
            if name == METRIC_NAME || !wanted.takes(name) || labels.get(name).is_some() {
                continue;
            }
            if let Some(earlier) = added.insert(name, value)
                && earlier != value
            {
                return Err(QueryError::Execution(format!("conflicting label: {name}")));
            }
        }
    }
    let mut builder = labels.to_builder();
    for (name, value) in added {
        builder.set(name, value);
    }
    builder
        .build()
        .map_err(|error| QueryError::Execution(error.to_string()))
}
