//! One block into the bucket: files first, the meta.json that makes them a block last.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use crate::block::meta::META_FILE;
use crate::block::{
    Block, BlockMeta, CHUNKS_DIR, INDEX_FILE, TOMBSTONES_FILE, ThanosDownsample, ThanosFile,
    ThanosMeta,
};
use crate::bucket::{Bucket, keys};
use crate::model::{BlockId, Labels, TimestampMs};
use crate::shipper::error::ShipError;

/// Largest meta.json that is looked at in the bucket.
const META_BYTES_MAX: u64 = 16 << 20;

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

/// A file that goes up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LocalFile {
    /// Path inside the block.
    name: String,
    path: PathBuf,
    n_bytes: u64,
}

/// Uploads what the bucket does not have of the block in `dir`; may be repeated after any failure.
pub(crate) async fn ship_block(
    bucket: &dyn Bucket,
    dir: &Path,
    meta: &BlockMeta,
    stamp: Stamp<'_>,
) -> Result<Shipped, ShipError> {
    let block = meta.ulid;
    if is_in_bucket(bucket, block).await? {
        return Ok(Shipped::AlreadyThere);
    }
    let n_tombstones = check_readable(dir, block)?;
    let files = local_files(dir, 0 < n_tombstones)?;
    let present = sizes_in_bucket(bucket, block).await?;
    for file in &files {
        // An object is there whole or not at all, and files of a block never change: same size is same content.
        if present.get(&file.name) == Some(&file.n_bytes) {
            continue;
        }
        let key = keys::in_block(block, &file.name);
        let uploaded = bucket.upload(&key, &file.path).await;
        uploaded.map_err(|cause| ShipError::Bucket { block, cause })?;
    }
    let present = sizes_in_bucket(bucket, block).await?;
    for file in &files {
        let remote = present.get(&file.name).copied();
        if remote != Some(file.n_bytes) {
            return Err(ShipError::Unequal {
                block,
                file: file.name.clone(),
                local: file.n_bytes,
                remote,
            });
        }
    }
    let text = stamped(meta, &files, stamp).encode();
    let size = text.len() as u64;
    let put = bucket.put(&keys::meta(block), Bytes::from(text)).await;
    put.map_err(|cause| ShipError::Bucket { block, cause })?;
    let info = bucket.head(&keys::meta(block)).await;
    let info = info.map_err(|cause| ShipError::Bucket { block, cause })?;
    if info.size != size {
        return Err(ShipError::Unequal {
            block,
            file: META_FILE.to_owned(),
            local: size,
            remote: Some(info.size),
        });
    }
    Ok(Shipped::Uploaded {
        n_files: files.len() as u64,
        n_bytes: files.iter().map(|file| file.n_bytes).sum(),
    })
}

/// A meta.json that does not decode is a torn write: it is written again.
async fn is_in_bucket(bucket: &dyn Bucket, block: BlockId) -> Result<bool, ShipError> {
    match bucket.get(&keys::meta(block), META_BYTES_MAX).await {
        Ok(text) => Ok(BlockMeta::decode(&text).is_ok()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(cause) => Err(ShipError::Bucket { block, cause }),
    }
}

/// Nobody can repair in the bucket what is broken here. Says how many tombstones there are.
fn check_readable(dir: &Path, block: BlockId) -> Result<usize, ShipError> {
    match Block::open(dir) {
        Ok(opened) => Ok(opened.tombstones().n_intervals()),
        Err(cause) => Err(ShipError::Damaged { block, cause }),
    }
}

/// Chunks, then the index, then tombstones: the order in which they go up.
///
/// Thanos uploads no tombstones and so forgets deletions; here they go along, and who does not know them skips them.
fn local_files(dir: &Path, with_tombstones: bool) -> Result<Vec<LocalFile>, ShipError> {
    let chunks = dir.join(CHUNKS_DIR);
    let failed = |path: &Path, cause| ShipError::Local {
        action: "list the files of block",
        path: path.to_owned(),
        cause,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(&chunks).map_err(|source| failed(&chunks, source))? {
        let entry = entry.map_err(|source| failed(&chunks, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            names.push(format!("{CHUNKS_DIR}/{name}"));
        }
    }
    names.sort_unstable();
    names.push(INDEX_FILE.to_owned());
    if with_tombstones {
        names.push(TOMBSTONES_FILE.to_owned());
    }
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(&name);
        let metadata = fs::metadata(&path).map_err(|source| failed(&path, source))?;
        files.push(LocalFile {
            name,
            path,
            n_bytes: metadata.len(),
        });
    }
    Ok(files)
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
            hash: None,
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
