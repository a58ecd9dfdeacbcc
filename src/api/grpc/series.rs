//! Series to frames, a batch at a time, so that no more is computed than the client takes.

use std::collections::VecDeque;

use prost::Message;
use tonic::Status;

use crate::api::grpc::convert::{Aggregates, labels, wire_chunks};
use crate::api::grpc::status::of_storage;
use crate::model::Labels;
use crate::storage::{ChunkSeries, SeriesSet, StorageError};
use crate::wire::hintspb::{QueryStats, SeriesResponseHints};
use crate::wire::thanos::series_response::Result as Frame;
use crate::wire::thanos::{Series, SeriesBatch, SeriesResponse, ShardInfo};

/// A series goes on in the next frame beyond so many chunk bytes, as remote read has it.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Frames are made in batches of about so many bytes between two looks at the client.
const BATCH_BYTES: usize = 512 << 10;
/// Series looked at in one go, so that filters that drop nearly all do not hold a thread for long.
const BATCH_SERIES_MAX: usize = 4_096;
/// Most series in a frame, whatever the client asks for.
const SERIES_PER_FRAME_MAX: usize = 4_096;
/// How chunks are counted as samples where a limit is on samples.
const SAMPLES_PER_CHUNK_ESTIMATE: u64 = 120;
/// Type of the hints frame.
const HINTS_TYPE: &str = "type.googleapis.com/hintspb.SeriesResponseHints";

/// What the frames are to look like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// Labels left out.
    pub(crate) without: Vec<String>,
    /// Part of the series that is wanted.
    pub(crate) shard: Option<ShardInfo>,
    /// At most this many series; zero for all.
    pub(crate) limit: u64,
    /// Series per frame; one for plain frames.
    pub(crate) series_per_frame: usize,
    /// Which aggregates of downsampled series are sent.
    pub(crate) aggregates: Aggregates,
    /// Compute hashes of chunks.
    pub(crate) with_hashes: bool,
    /// End with what it cost.
    pub(crate) with_stats: bool,
    /// A failing part is a warning, not the end.
    pub(crate) is_partial_allowed: bool,
    /// Refuse beyond this many series.
    pub(crate) series_max: Option<u64>,
    /// Refuse beyond this many samples, estimated.
    pub(crate) samples_max: Option<u64>,
}

impl Shape {
    /// Series per frame as the client asked for it.
    pub(crate) fn series_per_frame(asked: i64) -> usize {
        usize::try_from(asked).map_or(1, |asked| asked.clamp(1, SERIES_PER_FRAME_MAX))
    }
}

/// Some frames, and whether more come.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) frames: Vec<Result<SeriesResponse, Status>>,
    pub(crate) is_last: bool,
}

/// How series come out of the set in label order.
#[derive(Debug)]
pub(crate) enum Order {
    /// As they are.
    Kept,
    /// Labels are left out, which changes the order: all are taken and sorted before the first goes out.
    Lost,
    /// Sorted anew.
    Restored(VecDeque<ChunkSeries>),
}

/// Turns a series set into frames.
pub(crate) struct FrameMaker {
    set: Box<dyn SeriesSet>,
    shape: Shape,
    order: Order,
    warnings: Vec<String>,
    /// Series of the frame being filled.
    open: Vec<Series>,
    open_bytes: usize,
    frames: Vec<Result<SeriesResponse, Status>>,
    frames_bytes: usize,
    n_series: u64,
    n_chunks: u64,
}

impl FrameMaker {
    pub(crate) fn new(
        set: Box<dyn SeriesSet>,
        order: Order,
        warnings: Vec<String>,
        shape: Shape,
    ) -> Self {
        Self {
            set,
            shape,
            order,
            warnings,
            open: Vec::new(),
            open_bytes: 0,
            frames: Vec::new(),
            frames_bytes: 0,
            n_series: 0,
            n_chunks: 0,
        }
    }

    /// The next frames.
    pub(crate) fn next_batch(&mut self) -> Batch {
        let is_last = match self.fill() {
            Ok(is_last) => is_last,
            Err(status) => {
                self.close_frame();
                self.frames.push(Err(status));
                true
            }
        };
        self.frames_bytes = 0;
        Batch {
            frames: std::mem::take(&mut self.frames),
            is_last,
        }
    }

    fn fill(&mut self) -> Result<bool, Status> {
        for _ in 0..BATCH_SERIES_MAX {
            if BATCH_BYTES <= self.frames_bytes {
                return Ok(false);
            }
            let is_full = self.shape.limit != 0 && self.shape.limit <= self.n_series;
            let next = if is_full { None } else { self.next_series() };
            match next {
                Some(Ok(series)) => self.add(&series)?,
                Some(Err(error)) if self.shape.is_partial_allowed => {
                    self.warnings.push(error.to_string());
                    self.finish()?;
                    return Ok(true);
                }
                Some(Err(error)) => return Err(of_storage(&error)),
                None => {
                    self.finish()?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn next_series(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        if matches!(self.order, Order::Lost) {
            let mut all = Vec::new();
            while let Some(series) = self.set.next() {
                match series {
                    Ok(mut series) => {
                        series.labels = self.without_replica_labels(&series.labels);
                        all.push(series);
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
            all.sort_by(|left, right| left.labels.cmp(&right.labels));
            self.order = Order::Restored(all.into());
        }
        match &mut self.order {
            Order::Restored(series) => series.pop_front().map(Ok),
            Order::Kept | Order::Lost => self.set.next(),
        }
    }

    fn without_replica_labels(&self, labels: &Labels) -> Labels {
        labels.filtered(|name| !self.shape.without.iter().any(|without| without == name))
    }

    fn add(&mut self, series: &ChunkSeries) -> Result<(), Status> {
        if !is_in_shard(&series.labels, self.shape.shard.as_ref()) {
            return Ok(());
        }
        self.n_series += 1;
        check_limit("series", self.n_series, self.shape.series_max)?;
        let labels = labels(&series.labels);
        let label_bytes: usize = labels.iter().map(Message::encoded_len).sum();
        let mut part = Series {
            labels: labels.clone(),
            chunks: Vec::with_capacity(series.chunks.len()),
        };
        let mut part_bytes = label_bytes;
        for slice in &series.chunks {
            let made = match wire_chunks(slice, &self.shape.aggregates, self.shape.with_hashes) {
                Ok(made) => made,
                Err(why) => {
                    self.warn(format!("series {}: {why}", series.labels))?;
                    continue;
                }
            };
            for chunk in made {
                self.n_chunks += 1;
                part_bytes += chunk.encoded_len();
                part.chunks.push(chunk);
                if FRAME_BYTES_MAX <= part_bytes {
                    let rest = Series {
                        labels: labels.clone(),
                        chunks: Vec::new(),
                    };
                    self.push(std::mem::replace(&mut part, rest), part_bytes);
                    part_bytes = label_bytes;
                }
            }
        }
        let n_samples = self.n_chunks.saturating_mul(SAMPLES_PER_CHUNK_ESTIMATE);
        check_limit("samples", n_samples, self.shape.samples_max)?;
        if !part.chunks.is_empty() || series.chunks.is_empty() {
            self.push(part, part_bytes);
        }
        Ok(())
    }

    fn push(&mut self, series: Series, n_bytes: usize) {
        self.open.push(series);
        self.open_bytes += n_bytes;
        if self.shape.series_per_frame <= self.open.len() || FRAME_BYTES_MAX <= self.open_bytes {
            self.close_frame();
        }
    }

    fn close_frame(&mut self) {
        let mut series = std::mem::take(&mut self.open);
        let frame = if self.shape.series_per_frame <= 1 {
            series.pop().map(Frame::Series)
        } else {
            (!series.is_empty()).then_some(Frame::Batch(SeriesBatch { series }))
        };
        if let Some(frame) = frame {
            self.frames.push(Ok(SeriesResponse {
                result: Some(frame),
            }));
        }
        self.frames_bytes += std::mem::take(&mut self.open_bytes);
    }

    fn warn(&mut self, text: String) -> Result<(), Status> {
        if !self.shape.is_partial_allowed {
            return Err(Status::aborted(text));
        }
        self.close_frame();
        self.frames.push(Ok(SeriesResponse {
            result: Some(Frame::Warning(text)),
        }));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Status> {
        self.close_frame();
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(self.set.warnings());
        for warning in warnings {
            self.warn(warning)?;
        }
        if self.shape.with_stats {
            let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let hints = SeriesResponseHints {
                queried_blocks: Vec::new(),
                query_stats: Some(QueryStats {
                    merged_series_count: count(self.n_series),
                    merged_chunks_count: count(self.n_chunks),
                    ..QueryStats::default()
                }),
            };
            self.frames.push(Ok(SeriesResponse {
                result: Some(Frame::Hints(prost_types::Any {
                    type_url: HINTS_TYPE.to_owned(),
                    value: hints.encode_to_vec(),
                })),
            }));
        }
        Ok(())
    }
}

fn check_limit(what: &str, have: u64, max: Option<u64>) -> Result<(), Status> {
    match max {
        Some(max) if max < have => Err(Status::resource_exhausted(format!(
            "failed to send {what}: limit {max} violated (got {have})"
        ))),
        _ => Ok(()),
    }
}

/// Every store must agree on this: xxhash64 over the chosen labels, modulo the number of shards.
fn is_in_shard(labels: &Labels, shard: Option<&ShardInfo>) -> bool {
    let Some(shard) = shard else { return true };
    let Ok(total @ 1..) = u64::try_from(shard.total_shards) else {
        return true;
    };
    let chosen = labels.filtered(|name| shard.by == shard.labels.iter().any(|label| label == name));
    u64::try_from(shard.shard_index) == Ok(chosen.stable_hash() % total)
}
