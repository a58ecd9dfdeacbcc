//! A block without some of its samples, or with other labels, under another name.

use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::block::{Block, BlockError, BlockMeta, BlockSource, NewBlock, ThanosMeta, write_block};
use crate::chunk::without_intervals;
use crate::index::SeriesEntry;
use crate::maintenance::MaintenanceError;
use crate::model::{BlockId, Interval, Labels, MatchType, Matcher};
use crate::relabel::{RelabelRule, apply};
use crate::storage::{ChunkSeries, ChunkSlice, SeriesSet, StorageError};

/// Who made the block, as Thanos says it.
const SOURCE: &str = "bucket.rewrite";

/// Samples that go: those of all series that every matcher matches, a series without the label never.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// Which series.
    pub matchers: Vec<Matcher>,
    /// Which times; all where none are given.
    pub intervals: Vec<Interval>,
    /// Whose wish it was.
    pub request_id: String,
}

/// What is changed.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// Samples that go.
    pub deletions: Vec<Deletion>,
    /// What becomes of the labels of the others; a series that is dropped goes whole.
    pub rules: Vec<RelabelRule>,
}

/// What happens to one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Samples of these times go.
    Deleted(Labels, Vec<Interval>),
    /// It is called otherwise.
    Relabelled(Labels, Labels),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deleted(labels, intervals) => {
                let mut times = String::new();
                for (position, interval) in intervals.iter().enumerate() {
                    let space = if position == 0 { "" } else { " " };
                    write!(times, "{space}{{{} {}}}", interval.min, interval.max).ok();
                }
                write!(f, "Deleted {labels} [{times}]")
            }
            Self::Relabelled(old, new) => write!(f, "Relabelled {old} {new}"),
        }
    }
}

/// What was done.
#[derive(Debug)]
pub struct RewriteResult {
    /// What happened to which series, in the order of the old labels.
    pub changes: Vec<Change>,
    /// The new block; `None` when nothing is left, or nothing was written.
    pub meta: Option<BlockMeta>,
}

/// A series of the new block: its labels, and what of which old series it holds.
struct Planned {
    labels: Labels,
    id: u32,
    deleted: Vec<Interval>,
}

/// Says what changes, and writes the new block below `parent_dir` where one is given.
pub fn rewrite(
    block: &Block,
    rewrite: &Rewrite,
    new_id: BlockId,
    parent_dir: Option<&Path>,
) -> Result<RewriteResult, MaintenanceError> {
    let mut changes = Vec::new();
    let mut planned = plan(block, rewrite, &mut changes)?;
    let Some(parent_dir) = parent_dir else {
        return Ok(RewriteResult {
            changes,
            meta: None,
        });
    };
    planned.sort_by(|left, right| left.labels.cmp(&right.labels));
    let mut series = PlannedSet {
        block,
        planned: planned.into_iter().peekable(),
    };
    let new = renamed(block.meta(), new_id, rewrite);
    let meta = write_block(parent_dir, new, &mut series)?;
    Ok(RewriteResult { changes, meta })
}

fn plan(
    block: &Block,
    rewrite: &Rewrite,
    changes: &mut Vec<Change>,
) -> Result<Vec<Planned>, MaintenanceError> {
    let mut planned = Vec::new();
    let mut entry = SeriesEntry::default();
    for id in block.series_ids()? {
        let id = id?;
        BlockSource::series(block, id, &mut entry)?;
        let labels = block.index().labels(id, &entry).map_err(BlockError::from)?;
        let (Some(first), Some(last)) = (entry.chunks.first(), entry.chunks.last()) else {
            continue;
        };
        let whole = Interval {
            min: first.min_t,
            max: last.max_t,
        };
        let deleted = deleted(&rewrite.deletions, &labels, whole);
        if !deleted.is_empty() {
            changes.push(Change::Deleted(labels.clone(), deleted.clone()));
        }
        let is_gone = deleted
            .iter()
            .any(|gone| gone.min <= whole.min && whole.max <= gone.max);
        if is_gone {
            continue;
        }
        let Some(new) = relabelled(block.meta().ulid, &labels, &rewrite.rules)? else {
            changes.push(Change::Deleted(labels, vec![whole]));
            continue;
        };
        if new != labels {
            changes.push(Change::Relabelled(labels, new.clone()));
        }
        planned.push(Planned {
            labels: new,
            id,
            deleted,
        });
    }
    Ok(planned)
}

/// What goes of a series that has samples in `whole`.
fn deleted(deletions: &[Deletion], labels: &Labels, whole: Interval) -> Vec<Interval> {
    let mut intervals = Vec::new();
    for deletion in deletions {
        let is_meant = deletion.matchers.iter().all(|matcher| {
            let value = labels.value(&matcher.name);
            !value.is_empty() && matcher.matches(value)
        });
        if !is_meant {
            continue;
        }
        if deletion.intervals.is_empty() {
            return vec![whole];
        }
        let within = deletion
            .intervals
            .iter()
            .filter(|gone| gone.overlaps(&whole));
        intervals.extend(within.map(|gone| Interval {
            min: gone.min.max(whole.min),
            max: gone.max.min(whole.max),
        }));
    }
    intervals.sort_unstable_by_key(|interval| (interval.min, interval.max));
    let mut joined: Vec<Interval> = Vec::new();
    for interval in intervals {
        match joined.last_mut() {
            Some(last) if interval.min <= last.max.saturating_add(1) => {
                last.max = last.max.max(interval.max);
            }
            _ => joined.push(interval),
        }
    }
    joined
}

/// The new labels; `None` when the series is dropped.
fn relabelled(
    block: BlockId,
    labels: &Labels,
    rules: &[RelabelRule],
) -> Result<Option<Labels>, MaintenanceError> {
    if rules.is_empty() {
        return Ok(Some(labels.clone()));
    }
    let mut builder = labels.to_builder();
    if !apply(rules, &mut builder) {
        return Ok(None);
    }
    let new = builder.build().map_err(|error| {
        MaintenanceError::refused(block, format!("the rules make of {labels}: {error}"))
    })?;
    // A series without any label is none, as in Thanos.
    Ok((!new.is_empty()).then_some(new))
}

/// The planned series in their order; those that got the same labels are one.
struct PlannedSet<'a> {
    block: &'a Block,
    planned: std::iter::Peekable<std::vec::IntoIter<Planned>>,
}

impl SeriesSet for PlannedSet<'_> {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let first = self.planned.next()?;
        let mut chunks = Vec::new();
        let mut taken = self.take(&first, &mut chunks);
        while let Some(same) = self.planned.next_if(|next| next.labels == first.labels) {
            taken = taken.and_then(|()| self.take(&same, &mut chunks));
        }
        chunks.sort_by_key(|chunk| chunk.min_t);
        let labels = first.labels;
        Some(match taken {
            Ok(()) => Ok(ChunkSeries { labels, chunks }),
            Err(error) => Err(StorageError::Corrupt(error.to_string())),
        })
    }
}

impl PlannedSet<'_> {
    fn take(&self, planned: &Planned, chunks: &mut Vec<ChunkSlice>) -> Result<(), BlockError> {
        let mut entry = SeriesEntry::default();
        BlockSource::series(self.block, planned.id, &mut entry)?;
        let mut deleted = planned.deleted.clone();
        deleted.extend_from_slice(self.block.tombstones().of(u64::from(planned.id)));
        deleted.sort_unstable_by_key(|interval| (interval.min, interval.max));
        for meta in &entry.chunks {
            if deleted
                .iter()
                .any(|gone| gone.min <= meta.min_t && meta.max_t <= gone.max)
            {
                continue;
            }
            let stored = BlockSource::chunk(self.block, meta.at)?;
            if !deleted.iter().any(|gone| gone.overlaps(&meta.interval())) {
                chunks.push(ChunkSlice {
                    min_t: meta.min_t,
                    max_t: meta.max_t,
                    encoding: stored.encoding,
                    data: stored.data,
                });
            } else if let Some(rest) = without_intervals(stored.encoding, &stored.data, &deleted)? {
                chunks.push(ChunkSlice {
                    min_t: rest.min_t,
                    max_t: rest.max_t,
                    encoding: rest.encoding,
                    data: Bytes::from(rest.data),
                });
            }
        }
        Ok(())
    }
}

/// What the new block says of itself: its own source, and in `rewrites` what was done to whom.
fn renamed(meta: &BlockMeta, id: BlockId, rewrite: &Rewrite) -> NewBlock {
    let mut new = NewBlock::new(id, meta.range());
    new.level = meta.compaction.level;
    new.parents.clone_from(&meta.compaction.parents);
    new.hints.clone_from(&meta.compaction.hints);
    let mut thanos = ThanosMeta {
        source: SOURCE.to_owned(),
        files: Vec::new(),
        segment_files: Vec::new(),
        ..meta.thanos.clone().unwrap_or_default()
    };
    let mut rewrites = match thanos.other.remove("rewrites") {
        Some(Value::Array(rewrites)) => rewrites,
        _ => Vec::new(),
    };
    rewrites.push(entry(meta, rewrite));
    thanos
        .other
        .insert("rewrites".to_owned(), Value::Array(rewrites));
    new.thanos = Some(thanos);
    new
}

fn entry(meta: &BlockMeta, rewrite: &Rewrite) -> Value {
    let sources = meta.compaction.sources.iter().map(ToString::to_string);
    let sources: Vec<_> = sources.collect();
    let mut entry = serde_json::Map::new();
    entry.insert("sources".to_owned(), json!(sources));
    if !rewrite.deletions.is_empty() {
        let deletions = rewrite.deletions.iter().map(|deletion| {
            let matchers: Vec<_> = deletion.matchers.iter().map(matcher).collect();
            let mut request = json!({ "matchers": matchers });
            if let (Some(fields), false) = (request.as_object_mut(), deletion.intervals.is_empty())
            {
                let times = deletion.intervals.iter();
                let times: Vec<_> = times
                    .map(|times| json!({ "Mint": times.min, "Maxt": times.max }))
                    .collect();
                fields.insert("intervals".to_owned(), Value::Array(times));
            }
            if let (Some(fields), false) = (request.as_object_mut(), deletion.request_id.is_empty())
            {
                let id = Value::from(deletion.request_id.as_str());
                fields.insert("request_id".to_owned(), id);
            }
            request
        });
        entry.insert("deletions_applied".to_owned(), deletions.collect());
    }
    if !rewrite.rules.is_empty() {
        let rules = rewrite.rules.iter().map(|rule| {
            let settings = rule.settings();
            json!({
                "source_labels": settings.source_labels.clone().unwrap_or_default(),
                "separator": settings.separator.as_deref().unwrap_or(";"),
                "regex": settings.regex.as_deref().unwrap_or("(.*)"),
                "modulus": settings.modulus.unwrap_or(0),
                "target_label": settings.target_label.as_deref().unwrap_or(""),
                "replacement": settings.replacement.as_deref().unwrap_or("$1"),
                "action": settings.action.unwrap_or_default().as_str(),
            })
        });
        entry.insert("relabels_applied".to_owned(), rules.collect());
    }
    Value::Object(entry)
}

/// As Go writes its structure down.
fn matcher(matcher: &Matcher) -> Value {
    let kind = match matcher.match_type {
        MatchType::Equal => 0,
        MatchType::NotEqual => 1,
        MatchType::Regex => 2,
        MatchType::NotRegex => 3,
    };
    json!({ "Type": kind, "Name": matcher.name.to_string(), "Value": matcher.value.to_string() })
}
