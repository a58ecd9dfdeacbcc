//! A block from the bucket, and the coarser one back.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use crate::block::meta::META_FILE;
use crate::block::{
    Block, BlockError, BlockMeta, CHUNKS_DIR, INDEX_FILE, TOMBSTONES_FILE, ThanosFile,
};
use crate::bucket::{Bucket, BucketError, keys};
use crate::downsample::error::DownsampleError;
use crate::foundation::durable::create_dirs;
use crate::model::{BlockId, TimestampMs};

/// Opens a block of the bucket: where it lies, if that is here, and otherwise below `parent_dir` once it was downloaded.
pub async fn fetch_block(
    bucket: &dyn Bucket,
    block: BlockId,
    parent_dir: &Path,
) -> Result<Block, DownsampleError> {
    let unread = |source| DownsampleError::Source { block, source };
    let unreached = |source| DownsampleError::Bucket { block, source };
    if let Some(meta) = bucket.local_path(&keys::meta(block)) {
        let dir = meta.parent().unwrap_or(&meta);
        return Block::open(dir).map_err(unread);
    }
    let name = block.to_string();
    let dir = parent_dir.join(&name);
    let chunks = dir.join(CHUNKS_DIR);
    let failed = |source| unread(file_error(&chunks, source));
    create_dirs(&chunks).map_err(failed)?;
    for object in bucket.list(&name).await.map_err(unreached)? {
        let path = object.key.strip_prefix(&name);
        let Some(path) = path.and_then(|path| path.strip_prefix('/')) else {
            continue;
        };
        // Marks and whatever else is there is nobody's business here.
        if !is_segment(path) && ![META_FILE, INDEX_FILE, TOMBSTONES_FILE].contains(&path) {
            continue;
        }
        let downloaded = bucket.download(&object.key, &dir.join(path)).await;
        downloaded.map_err(unreached)?;
    }
    Block::open(&dir).map_err(unread)
}

fn is_segment(path: &str) -> bool {
    let name = path.strip_prefix(CHUNKS_DIR);
    let name = name.and_then(|path| path.strip_prefix('/'));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()))
}

fn file_error(path: &Path, source: std::io::Error) -> BlockError {
    BlockError::File {
        path: path.to_owned(),
        source,
    }
}

/// Uploads the block in `dir`, which was verified, and shows it by its `meta.json` when all the rest is there in full
/// length. Returns the bytes that went up.
pub async fn publish_block(
    bucket: &dyn Bucket,
    dir: &Path,
    mut meta: BlockMeta,
    now_ms: TimestampMs,
) -> Result<u64, DownsampleError> {
    let block = meta.ulid;
    let unreached = |source| DownsampleError::Bucket { block, source };
    let names = file_names(dir).map_err(DownsampleError::Result)?;
    let mut files = Vec::with_capacity(names.len() + 1);
    let mut n_bytes = 0;
    for name in names {
        let (key, path) = (keys::in_block(block, &name), dir.join(&name));
        let failed = |source| DownsampleError::Result(file_error(&path, source));
        let size = fs::metadata(&path).map_err(failed)?.len();
        bucket.upload(&key, &path).await.map_err(unreached)?;
        let remote = bucket.head(&key).await.map_err(unreached)?.size;
        if remote != size {
            return Err(unreached(BucketError::Short {
                bucket: bucket.name().to_owned(),
                key,
                offset: 0,
                need: size,
                have: remote,
            }));
        }
        n_bytes += size;
        files.push(ThanosFile {
            rel_path: name,
            size_bytes: Some(size),
            hash: None,
        });
    }
    files.push(ThanosFile {
        rel_path: META_FILE.to_owned(),
        ..ThanosFile::default()
    });
    files.sort_by(|left, right| left.rel_path.cmp(&right.rel_path));
    let mut thanos = meta.thanos.unwrap_or_default();
    thanos.files = files;
    let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let uploaded = Value::String(now.to_string());
    thanos.other.insert("upload_time".to_owned(), uploaded);
    meta.thanos = Some(thanos);
    let text = Bytes::from(meta.encode());
    bucket
        .put(&keys::meta(block), text)
        .await
        .map_err(unreached)?;
    Ok(n_bytes)
}

/// Segments, then the index: the order in which they go up.
fn file_names(dir: &Path) -> Result<Vec<String>, BlockError> {
    let chunks = dir.join(CHUNKS_DIR);
    let failed = |source| file_error(&chunks, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(&chunks).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.push(format!("{CHUNKS_DIR}/{}", name.to_string_lossy()));
    }
    names.sort_unstable();
    names.push(INDEX_FILE.to_owned());
    Ok(names)
}
