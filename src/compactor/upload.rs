//! Chunk segments go up as they are closed, one behind the writer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::block::{BlockError, CHUNKS_DIR, SegmentSink};
use crate::bucket::keys;
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
    coming: Option<JoinHandle<Result<(String, u64), String>>>,
    files: BTreeMap<String, u64>,
}

impl Uploads {
    pub(crate) fn new(to: &Waiting, block: BlockId) -> Self {
        Self(Arc::new(Mutex::new(State {
            to: to.clone(),
            block,
            coming: None,
            files: BTreeMap::new(),
        })))
    }

    /// Takes segments from a writer and removes them here when they are there.
    pub(crate) fn sink(&self) -> Box<dyn SegmentSink> {
        Box::new(self.clone())
    }

    fn push(&self, path: &Path, name: String) -> Result<(), BlockError> {
        let mut state = self.0.lock();
        state.wait()?;
        let (bucket, key) = (
            Arc::clone(&state.to.bucket),
            keys::in_block(state.block, &name),
        );
        let path = path.to_owned();
        state.coming = Some(state.to.runtime.spawn(async move {
            let n_bytes = bucket
                .upload(&key, &path)
                .await
                .map_err(|error| error.chain())?;
            take_away(path).await?;
            Ok((name, n_bytes))
        }));
        Ok(())
    }

    /// Names and sizes, when everything is there.
    pub(crate) fn files(&self) -> Result<BTreeMap<String, u64>, BlockError> {
        let mut state = self.0.lock();
        state.wait()?;
        Ok(state.files.clone())
    }
}

impl SegmentSink for Uploads {
    fn take(&mut self, path: &Path) -> Result<(), BlockError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.push(path, format!("{CHUNKS_DIR}/{name}"))
    }

    fn finish(&mut self) -> Result<(), BlockError> {
        self.0.lock().wait()
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
        let (name, n_bytes) = uploaded.map_err(|text| {
            BlockError::Source(StorageError::Unavailable(format!(
                "upload a segment: {text}"
            )))
        })?;
        self.files.insert(name, n_bytes);
        Ok(())
    }
}
