//! One block into the bucket: files first, the meta.json that makes them a block last.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use crate::block::meta::META_FILE;
use crate::block::{BlockMeta, CHUNKS_DIR, ThanosDownsample, ThanosFile, ThanosHash, ThanosMeta};
use crate::bucket::{Bucket, BucketError, keys};
use crate::foundation::sha256::{Sha256, sha256_file};
use crate::model::{BlockId, Labels, TimestampMs};
use crate::shipper::error::ShipError;
use crate::shipper::local::{LocalFile, failed, readable_files};

/// Largest meta.json that is looked at in the bucket.
const META_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a file of the bucket that are compared at once.
const COMPARED_BYTES: u64 = 8 << 20;
/// How `files[].hash` calls the digest.
const HASH_FUNC: &str = "SHA256";

/// What an upload amounted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shipped {
    /// The bucket had it already.
    AlreadyThere,
    /// It was uploaded, as a whole or what was missing of it.
    Uploaded {
        /// Files of the block, without meta.json.
        n_files: u64,
        /// Their bytes.
        n_bytes: u64,
    },
}

/// How blocks are marked as ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    pub(crate) external: &'a Labels,
    pub(crate) source: &'a str,
    pub(crate) now_ms: TimestampMs,
}

/// Uploads what the bucket does not have of the block in `dir`; may be repeated after any failure.
pub(crate) async fn ship_block(
    bucket: &dyn Bucket,
    dir: &Path,
    meta: &BlockMeta,
    stamp: Stamp<'_>,
) -> Result<Shipped, ShipError> {
    let block = meta.ulid;
    let in_bucket = |cause| ShipError::Bucket { block, cause };
    if is_in_bucket(bucket, block).await? {
        return Ok(Shipped::AlreadyThere);
    }
    let files = read_files(dir, block).await?;
    let present = sizes_in_bucket(bucket, block).await?;
    for file in &files {
        let key = keys::in_block(block, &file.name);
        // What an interrupted upload left is taken over when it is the same to the byte.
        if present.get(&file.name) == Some(&file.n_bytes) && is_same(bucket, block, file).await? {
            continue;
        }
        bucket.upload(&key, &file.path).await.map_err(in_bucket)?;
    }
    let present = sizes_in_bucket(bucket, block).await?;
    for file in &files {
        let remote = present.get(&file.name).copied();
        if remote != Some(file.n_bytes) {
            return Err(unequal(block, &file.name, file.n_bytes, remote));
        }
    }
    let text = Bytes::from(stamped(meta, &files, stamp).encode());
    let key = keys::meta(block);
    bucket.put(&key, text.clone()).await.map_err(in_bucket)?;
    let there = bucket.get(&key, META_BYTES_MAX).await.map_err(in_bucket)?;
    if there != text {
        let (local, remote) = (text.len() as u64, there.len() as u64);
        return Err(unequal(block, META_FILE, local, Some(remote)));
    }
    Ok(Shipped::Uploaded {
        n_files: files.len() as u64,
        n_bytes: files.iter().map(|file| file.n_bytes).sum(),
    })
}

fn unequal(block: BlockId, file: &str, local: u64, remote: Option<u64>) -> ShipError {
    ShipError::Unequal {
        block,
        file: file.to_owned(),
        local,
        remote,
    }
}

/// Off the socket runtime, because every byte is read.
async fn read_files(dir: &Path, block: BlockId) -> Result<Vec<LocalFile>, ShipError> {
    let owned = dir.to_owned();
    let read = tokio::task::spawn_blocking(move || readable_files(&owned, block)).await;
    read.unwrap_or_else(|panic| Err(failed("read block", dir)(std::io::Error::other(panic))))
}

/// Whether the object of the same size has the same content.
async fn is_same(bucket: &dyn Bucket, block: BlockId, file: &LocalFile) -> Result<bool, ShipError> {
    let key = keys::in_block(block, &file.name);
    if let Some(path) = bucket.local_path(&key) {
        let hashed = tokio::task::spawn_blocking(move || sha256_file(&path)).await;
        let sha256 = hashed.map(|read| read.map(|(_, sha256)| sha256));
        // What does not read is sent again.
        return Ok(matches!(sha256, Ok(Ok(sha256)) if sha256 == file.sha256));
    }
    let mut digest = Sha256::default();
    let mut at = 0;
    while at < file.n_bytes {
        let end = file.n_bytes.min(at + COMPARED_BYTES);
        match bucket.get_range(&key, at..end).await {
            Ok(piece) => digest.update(&piece),
            Err(error) if error.is_not_found() || matches!(error, BucketError::Short { .. }) => {
                return Ok(false);
            }
            Err(cause) => return Err(ShipError::Bucket { block, cause }),
        }
        at = end;
    }
    Ok(digest.finish() == file.sha256)
}

/// A meta.json that does not decode is a torn write: it is written again.
async fn is_in_bucket(bucket: &dyn Bucket, block: BlockId) -> Result<bool, ShipError> {
    match bucket.get(&keys::meta(block), META_BYTES_MAX).await {
        Ok(text) => Ok(BlockMeta::decode(&text).is_ok()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(cause) => Err(ShipError::Bucket { block, cause }),
    }
}

async fn sizes_in_bucket(
    bucket: &dyn Bucket,
    block: BlockId,
) -> Result<BTreeMap<String, u64>, ShipError> {
    let dir = block.to_string();
    let listed = bucket.list(&dir).await;
    let infos = listed.map_err(|cause| ShipError::Bucket { block, cause })?;
    let named = infos.into_iter().filter_map(|info| {
        let name = info.key.strip_prefix(&dir)?.strip_prefix('/')?;
        Some((name.to_owned(), info.size))
    });
    Ok(named.collect())
}

/// The meta.json of the bucket: the local one and who uploaded it.
fn stamped(meta: &BlockMeta, files: &[LocalFile], stamp: Stamp<'_>) -> BlockMeta {
    let mut listed: Vec<_> = files
        .iter()
        .map(|file| ThanosFile {
            rel_path: file.name.clone(),
            size_bytes: Some(file.n_bytes),
            hash: Some(ThanosHash {
                func: HASH_FUNC.to_owned(),
                value: file.sha256.clone(),
            }),
        })
        .collect();
    listed.push(ThanosFile {
        rel_path: META_FILE.to_owned(),
        ..ThanosFile::default()
    });
    listed.sort_by(|left, right| left.rel_path.cmp(&right.rel_path));
    let segments = files.iter().filter_map(|file| {
        let name = file.name.strip_prefix(CHUNKS_DIR)?;
        Some(name.trim_start_matches('/').to_owned())
    });
    let mut thanos = ThanosMeta {
        version: 1,
        labels: stamp
            .external
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        downsample: ThanosDownsample::default(),
        source: stamp.source.to_owned(),
        segment_files: segments.collect(),
        files: listed,
        ..ThanosMeta::default()
    };
    thanos.other.insert(
        "upload_time".to_owned(),
        Value::String(rfc3339(stamp.now_ms)),
    );
    let mut meta = meta.clone();
    meta.thanos = Some(thanos);
    meta
}

fn rfc3339(now_ms: TimestampMs) -> String {
    jiff::Timestamp::from_millisecond(now_ms)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}
