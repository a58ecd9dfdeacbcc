//! Matchers to postings lists to series numbers.

use crate::index::postings::{PostingsList, SortedIds, intersect_into, normalize, subtract_into};
use crate::index::source::IndexError;
use crate::index::table::{PostingsRange, PostingsTable};
use crate::model::{MatchType, Matcher};

/// Which lists answer a set of matchers, known from the table alone.
///
/// A matcher that accepts the empty string is taken as a subtraction of the values it refuses, because series without
/// the label match it; any other one adds up the values it accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostingsPlan {
    /// The answer lies in the union of each of these.
    intersect: Vec<Vec<PostingsRange>>,
    /// And in none of these.
    subtract: Vec<PostingsRange>,
}

impl PostingsPlan {
    /// Plans; `None` when no series can match.
    pub fn new(table: &PostingsTable, matchers: &[Matcher]) -> Result<Option<Self>, IndexError> {
        let mut plan = Self::default();
        for matcher in matchers {
            if is_everything(matcher) {
                continue;
            }
            if matcher.matches_empty() {
                let refused = lists(table, matcher, false)?;
                plan.subtract.extend(refused);
                continue;
            }
            let accepted = lists(table, matcher, true)?;
            if accepted.is_empty() {
                return Ok(None);
            }
            plan.intersect.push(accepted);
        }
        if plan.intersect.is_empty() {
            let Some(all) = table.all_series()? else {
                return Ok(None);
            };
            plan.intersect.push(vec![all]);
        }
        // Single lists first: what they leave makes the unions cheap.
        plan.intersect.sort_by_key(Vec::len);
        Ok(Some(plan))
    }

    /// Every list that [`Self::run`] may ask for, so that a caller can fetch them together.
    pub fn ranges(&self) -> impl Iterator<Item = PostingsRange> {
        self.intersect
            .iter()
            .flatten()
            .chain(&self.subtract)
            .copied()
    }

    /// Combines the lists that `read` returns.
    pub fn run<'a>(
        &self,
        read: &mut dyn FnMut(PostingsRange) -> Result<PostingsList<'a>, IndexError>,
    ) -> Result<Vec<u32>, IndexError> {
        let mut singles = Vec::new();
        let mut unions = Vec::new();
        for ranges in &self.intersect {
            match ranges.as_slice() {
                [range] => singles.push(read(*range)?),
                _ => unions.push(ranges),
            }
        }
        singles.sort_by_key(SortedIds::n_ids);
        let mut ids: Option<Vec<u32>> = None;
        for list in singles {
            match &mut ids {
                None => ids = Some(list.to_vec()),
                Some(ids) => intersect_into(ids, &list),
            }
        }
        for ranges in unions {
            let mut union = Vec::new();
            for &range in ranges {
                let list = read(range)?;
                match &ids {
                    None => list.extend_into(&mut union),
                    Some(ids) if ids.len() < list.n_ids() => {
                        let mut both = ids.clone();
                        intersect_into(&mut both, &list);
                        union.append(&mut both);
                    }
                    Some(_) => list.extend_into(&mut union),
                }
            }
            normalize(&mut union);
            match &mut ids {
                None => ids = Some(union),
                Some(ids) => intersect_into(ids, union.as_slice()),
            }
        }
        let mut ids = ids.unwrap_or_default();
        for &range in &self.subtract {
            if ids.is_empty() {
                break;
            }
            subtract_into(&mut ids, &read(range)?);
        }
        Ok(ids)
    }
}

/// `=~".*"` and the like, which every value and its absence match.
fn is_everything(matcher: &Matcher) -> bool {
    matcher.accepts_everything() && !matcher.is_negative()
}

/// The lists of those values of the matcher's label whose match is `wanted`; the empty value has none.
fn lists(
    table: &PostingsTable,
    matcher: &Matcher,
    wanted: bool,
) -> Result<Vec<PostingsRange>, IndexError> {
    let name = matcher.name.as_ref();
    // With the negation taken off: what the bare value or pattern must say.
    let positive = wanted != matcher.is_negative();
    if positive && matches!(matcher.match_type, MatchType::Equal | MatchType::NotEqual) {
        return Ok(table.find(name, &matcher.value)?.into_iter().collect());
    }
    if positive && let Some(words) = matcher.words() {
        let mut found = Vec::new();
        for word in words {
            found.extend(table.find(name, word)?);
        }
        return Ok(found);
    }
    let anything = [String::new()];
    let prefixes = match matcher.prefixes() {
        known if positive && !known.is_empty() => known,
        _ => &anything,
    };
    let mut found = Vec::new();
    for prefix in prefixes {
        for item in table.values(name, prefix)? {
            let (value, range) = item?;
            if !value.starts_with(prefix.as_str()) {
                if prefix.as_str() < value {
                    break;
                }
                continue;
            }
            if !value.is_empty() && matcher.matches(value) == wanted {
                found.push(range);
            }
        }
    }
    Ok(found)
}
