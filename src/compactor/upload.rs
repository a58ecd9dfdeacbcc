//! Chunk segments go up as they are closed, one behind the writer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::block::{BlockError, CHUNKS_DIR, ChunkTrail, SegmentSink};
use crate::bucket::keys;
use crate::chunk::WrittenSegment;
use crate::compactor::ahead::Waiting;
use crate::foundation::durable::remove_file;
use crate::model::BlockId;
use crate::storage::StorageError;

/// What of a new block is in the bucket. While a segment goes up the next one is written, and no third is there.
#[derive(Debug, Clone)]
pub(crate) struct Uploads(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    to: Waiting,
    block: BlockId,
    coming: Option<JoinHandle<Result<(String, WrittenSegment), String>>>,
    uploaded: Uploaded,
}

/// What the bucket must have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uploaded {
    /// By name within the block.
    pub(crate) segments: BTreeMap<String, WrittenSegment>,
    /// The chunks in them.
    pub(crate) trail: ChunkTrail,
    /// The largest entry of a series.
    pub(crate) series_bytes_max: usize,
}

impl Uploaded {
    /// Names and sizes.
    pub(crate) fn files(&self) -> BTreeMap<String, u64> {
        let files = self.segments.iter();
        files
            .map(|(name, segment)| (name.clone(), segment.n_bytes))
            .collect()
    }
}

impl Uploads {
    pub(crate) fn new(to: &Waiting, block: BlockId) -> Self {
        Self(Arc::new(Mutex::new(State {
            to: to.clone(),
            block,
            coming: None,
            uploaded: Uploaded::default(),
        })))
    }

    /// Takes segments from a writer and removes them here when they are there.
    pub(crate) fn sink(&self) -> Box<dyn SegmentSink> {
        Box::new(self.clone())
    }

    fn push(&self, segment: WrittenSegment, name: String) -> Result<(), BlockError> {
        let mut state = self.0.lock();
        state.wait()?;
        let (bucket, key) = (
            Arc::clone(&state.to.bucket),
            keys::in_block(state.block, &name),
        );
        state.coming = Some(state.to.runtime.spawn(async move {
            let uploaded = bucket.upload(&key, &segment.path).await;
            let n_bytes = uploaded.map_err(|error| error.chain())?;
            if n_bytes != segment.n_bytes {
                let n_written = segment.n_bytes;
                return Err(format!(
                    "{n_written} bytes were written and {n_bytes} of them went up"
                ));
            }
            take_away(segment.path.clone()).await?;
            Ok((name, segment))
        }));
        Ok(())
    }

    /// When everything is there.
    pub(crate) fn uploaded(&self) -> Result<Uploaded, BlockError> {
        let mut state = self.0.lock();
        state.wait()?;
        Ok(state.uploaded.clone())
    }
}

impl SegmentSink for Uploads {
    fn take(&mut self, segment: WrittenSegment) -> Result<(), BlockError> {
        let name = segment.path.file_name().unwrap_or_default();
        let name = format!("{CHUNKS_DIR}/{}", name.to_string_lossy());
        self.push(segment, name)
    }

    fn finish(&mut self, trail: &ChunkTrail, series_bytes_max: usize) -> Result<(), BlockError> {
        let mut state = self.0.lock();
        state.uploaded.trail = *trail;
        state.uploaded.series_bytes_max = series_bytes_max;
        state.wait()
    }
}

async fn take_away(path: PathBuf) -> Result<(), String> {
    let removed = tokio::task::spawn_blocking(move || remove_file(&path)).await;
    let removed = removed.map_err(|panic| panic.to_string())?;
    removed.map_err(|error| format!("remove an uploaded segment: {error}"))
}

impl State {
    fn wait(&mut self) -> Result<(), BlockError> {
        let Some(coming) = self.coming.take() else {
            return Ok(());
        };
        let uploaded = self
            .to
            .wait(coming)
            .unwrap_or_else(|panic| Err(panic.to_string()));
        let (name, segment) = uploaded.map_err(|text| {
            BlockError::Source(StorageError::Unavailable(format!(
                "upload a segment: {text}"
            )))
        })?;
        self.uploaded.segments.insert(name, segment);
        Ok(())
    }
}
