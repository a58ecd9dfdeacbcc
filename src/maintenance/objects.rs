//! How a block comes, goes and is copied: the order that leaves it whole or not there at every moment.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::block::meta::META_FILE;
use crate::block::{
    BlockMeta, CHUNKS_DIR, INDEX_FILE, TOMBSTONES_FILE, ThanosFile, ThanosHash, ThanosMeta,
    Tombstones,
};
use crate::bucket::{Bucket, ObjectInfo, keys};
use crate::foundation::durable::create_dirs;
use crate::foundation::sha256::sha256_file;
use crate::maintenance::MaintenanceError;
use crate::model::{BlockId, TimestampMs};

/// How Thanos calls the function.
const SHA256: &str = "SHA256";

/// Whether `meta.json` says what its files hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileHashes {
    /// It does not.
    None,
    /// It does, by SHA-256.
    Sha256,
}

impl FileHashes {
    async fn of(
        self,
        block: BlockId,
        file: PathBuf,
    ) -> Result<Option<ThanosHash>, MaintenanceError> {
        if self == Self::None {
            return Ok(None);
        }
        let path = file.clone();
        let hashed = tokio::task::spawn_blocking(move || sha256_file(&path)).await;
        let hashed = hashed.map_err(|error| {
            MaintenanceError::refused(block, format!("hashing its files did not end: {error}"))
        })?;
        let (_, value) = hashed.map_err(MaintenanceError::file("read", &file))?;
        let func = SHA256.to_owned();
        Ok(Some(ThanosHash { func, value }))
    }
}

/// What a file of a block is part of. Marks are none: they say something of the block where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Meta,
    Index,
    Tombstones,
    Chunks,
}

impl Part {
    /// Of a path within the block.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            META_FILE => Some(Self::Meta),
            INDEX_FILE => Some(Self::Index),
            TOMBSTONES_FILE => Some(Self::Tombstones),
            path => {
                let number = path.strip_prefix(CHUNKS_DIR)?.strip_prefix('/')?;
                let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then_some(Self::Chunks)
            }
        }
    }

    /// Everything but chunks.
    pub(crate) fn is_small(self) -> bool {
        self != Self::Chunks
    }
}

/// Brings every file of the block into `dir`; `progress` hears of the bytes of each.
pub async fn download_block(
    bucket: &dyn Bucket,
    block: BlockId,
    dir: &Path,
    progress: impl FnMut(u64),
) -> Result<(), MaintenanceError> {
    download_parts(bucket, block, dir, (|_| true, progress)).await
}

/// Brings the files of the block that are wanted into `dir`.
pub(crate) async fn download_parts(
    bucket: &dyn Bucket,
    block: BlockId,
    dir: &Path,
    (wanted, mut progress): (impl Fn(Part) -> bool, impl FnMut(u64)),
) -> Result<(), MaintenanceError> {
    let chunks = dir.join(CHUNKS_DIR);
    create_dirs(&chunks).map_err(MaintenanceError::file("create", &chunks))?;
    for info in bucket.list(&block.to_string()).await? {
        let Some(path) = path_in_block(&info, block) else {
            continue;
        };
        if Part::of(path).is_some_and(&wanted) {
            progress(bucket.download(&info.key, &dir.join(path)).await?);
        }
    }
    Ok(())
}

/// Sends the block in `dir` up: chunks, index, tombstones, and when all of them are there `meta.json`, which names them.
pub async fn upload_block(
    bucket: &dyn Bucket,
    dir: &Path,
    now_ms: TimestampMs,
    hashes: FileHashes,
) -> Result<BlockMeta, MaintenanceError> {
    let mut meta = BlockMeta::read(dir)?;
    let mut files = Vec::new();
    for path in local_paths(dir)? {
        let (key, file) = (keys::in_block(meta.ulid, &path), dir.join(&path));
        let n_bytes = bucket.upload(&key, &file).await?;
        files.push(ThanosFile {
            rel_path: path,
            size_bytes: Some(n_bytes),
            hash: hashes.of(meta.ulid, file).await?,
        });
    }
    for file in &files {
        let key = keys::in_block(meta.ulid, &file.rel_path);
        if Some(bucket.head(&key).await?.size) != file.size_bytes {
            let reason = format!("{} has another length in the bucket", file.rel_path);
            return Err(MaintenanceError::refused(meta.ulid, reason));
        }
    }
    let thanos = meta.thanos.get_or_insert_with(ThanosMeta::default);
    thanos.version = 1;
    let segments = files.iter().filter_map(|file| {
        let name = file.rel_path.strip_prefix(CHUNKS_DIR)?;
        Some(name.trim_start_matches('/').to_owned())
    });
    thanos.segment_files = segments.collect();
    files.push(ThanosFile {
        rel_path: META_FILE.to_owned(),
        ..ThanosFile::default()
    });
    files.sort_by(|left, right| left.rel_path.cmp(&right.rel_path));
    thanos.files = files;
    if let Ok(now) = jiff::Timestamp::from_millisecond(now_ms) {
        let now = serde_json::Value::from(now.to_string());
        thanos.other.insert("upload_time".to_owned(), now);
    }
    let text = Bytes::from(meta.encode());
    bucket.put(&keys::meta(meta.ulid), text).await?;
    Ok(meta)
}

/// Chunks, then the index, then tombstones where something was deleted.
fn local_paths(dir: &Path) -> Result<Vec<String>, MaintenanceError> {
    let chunks = dir.join(CHUNKS_DIR);
    let mut paths = Vec::new();
    let entries = std::fs::read_dir(&chunks).map_err(MaintenanceError::file("list", &chunks))?;
    for entry in entries {
        let entry = entry.map_err(MaintenanceError::file("list", &chunks))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            paths.push(format!("{CHUNKS_DIR}/{name}"));
        }
    }
    paths.sort_unstable();
    paths.push(INDEX_FILE.to_owned());
    if Tombstones::read(dir)?.n_intervals() != 0 {
        paths.push(TOMBSTONES_FILE.to_owned());
    }
    Ok(paths)
}

/// `chunks/000001` of `<ULID>/chunks/000001`.
pub(crate) fn path_in_block(info: &ObjectInfo, block: BlockId) -> Option<&str> {
    let rest = info.key.strip_prefix(&block.to_string())?;
    rest.strip_prefix('/')
}
