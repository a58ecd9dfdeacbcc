//! The one adapter over `object_store`: a directory, S3 and compatibles, memory.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    Attributes, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, WriteMultipart,
};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bucket::error::BucketError;
use crate::bucket::local;
use crate::bucket::port::{Bucket, BucketFuture, ObjectInfo};
use crate::bucket::requests::Requests;
use crate::foundation::buffers::Buffers;
use crate::foundation::durable::rename_durably;
use crate::foundation::mmap::map_file;

/// Files up to this size go up in one request, larger ones in parts of it; S3 takes no part below 5 MiB.
const PART_BYTES: u64 = 16 << 20;
/// S3 takes at most 10,000 parts.
const PARTS_MAX: u64 = 9_000;
/// Parts in flight at once, and the bytes of them: bounds the memory of an upload to those and one more part.
const PARTS_IN_FLIGHT_MAX: u64 = 3;
const BYTES_IN_FLIGHT_MAX: u64 = 64 << 20;

/// How files are uploaded, and what is said of every object.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    /// Largest file of one request and bytes of a part; 16 MiB without.
    pub(crate) part_bytes: Option<u64>,
    /// All files in one request.
    pub(crate) is_whole: bool,
    /// Metadata and class of storage.
    pub(crate) attributes: Attributes,
}

/// A bucket on any `object_store`.
pub struct StoreBucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    /// The same store once more, where it is a directory.
    local: Option<LocalFileSystem>,
    /// Everything happens below this path; empty or ending in a slash.
    prefix: String,
    uploads: Uploads,
    requests: Option<Arc<Requests>>,
}

impl std::fmt::Debug for StoreBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Stores show the secrets they hold.
        f.debug_struct("StoreBucket")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// How the client's cause of an error begins where the store knows who asks and does not let him.
const REFUSALS: [&str; 2] = [
    "Server returned non-2xx status code: 401 ",
    "Server returned non-2xx status code: 403 ",
];

/// Of a listing that is refused the client makes no error of its own kind, and the type of the cause is not public: its
/// words tell.
fn is_refused(error: &object_store::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if REFUSALS.iter().any(|refusal| text.starts_with(refusal)) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl StoreBucket {
    /// A bucket that lives in `store`, below `prefix`.
    pub(crate) fn new(name: String, store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Self {
            name,
            store,
            local: None,
            prefix: format!("{prefix}{slash}"),
            uploads: Uploads::default(),
            requests: None,
        }
    }

    /// Uploads in this way.
    pub(crate) fn with_uploads(mut self, uploads: Uploads) -> Self {
        self.uploads = uploads;
        self
    }

    /// What the store's client counts here is the bucket's.
    pub(crate) fn counting(mut self, requests: Arc<Requests>) -> Self {
        self.requests = Some(requests);
        self
    }

    /// A bucket that is a directory.
    pub(crate) fn in_directory(name: String, directory: LocalFileSystem, prefix: &str) -> Self {
        let mut bucket = Self::new(name, Arc::new(directory.clone()), prefix);
        bucket.local = Some(directory);
        bucket
    }

    /// A bucket that is gone with the process.
    pub fn in_memory() -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        Self::new("memory".to_owned(), store, "")
    }

    fn path(&self, key: &str) -> Result<ObjectPath, BucketError> {
        ObjectPath::parse(format!("{}{key}", self.prefix)).map_err(|source| BucketError::Key {
            bucket: self.name.clone(),
            key: key.to_owned(),
            source: Box::new(source),
        })
    }

    fn info(&self, meta: &ObjectMeta) -> ObjectInfo {
        let path = meta.location.as_ref();
        ObjectInfo {
            key: path.strip_prefix(&self.prefix).unwrap_or(path).to_owned(),
            size: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }

    fn failed<'a>(
        &'a self,
        action: &'static str,
        key: &'a str,
    ) -> impl Fn(object_store::Error) -> BucketError + 'a {
        move |error| {
            let (bucket, key) = (self.name.clone(), key.to_owned());
            if matches!(error, object_store::Error::NotFound { .. }) {
                return BucketError::NotFound { bucket, key };
            }
            let is_denied = matches!(
                error,
                object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
            ) || is_refused(&error);
            let source = Box::new(error);
            if is_denied {
                BucketError::Denied {
                    bucket,
                    action,
                    key,
                    source,
                }
            } else {
                BucketError::Unavailable {
                    bucket,
                    action,
                    key,
                    source,
                }
            }
        }
    }

    fn part_bytes(&self) -> u64 {
        self.uploads.part_bytes.unwrap_or(PART_BYTES)
    }

    fn multipart_options(&self) -> PutMultipartOptions {
        PutMultipartOptions {
            attributes: self.uploads.attributes.clone(),
            ..PutMultipartOptions::default()
        }
    }

    async fn upload_in_parts(&self, key: &str, file: &Path, size: u64) -> Result<(), BucketError> {
        let failed = self.failed("upload", key);
        let part_bytes = self.part_bytes().max(size.div_ceil(PARTS_MAX));
        let n_in_flight = (BYTES_IN_FLIGHT_MAX / part_bytes).clamp(1, PARTS_IN_FLIGHT_MAX);
        let n_in_flight = usize::try_from(n_in_flight).unwrap_or(1);
        let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        let mut source = open(file).await?;
        let upload = self
            .store
            .put_multipart_opts(&self.path(key)?, self.multipart_options())
            .await
            .map_err(&failed)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, part_bytes);
        let result = loop {
            let mut part = Vec::with_capacity(part_bytes);
            match (&mut source)
                .take(part_bytes as u64)
                .read_to_end(&mut part)
                .await
            {
                Ok(0) => break Ok(()),
                Ok(_) => parts.put(Bytes::from(part)),
                Err(source) => break Err(file_error("read", file)(source)),
            }
            if let Err(error) = parts.wait_for_capacity(n_in_flight).await {
                break Err(failed(error));
            }
        };
        if let Err(error) = result {
            // What stays behind is invisible; the store's own clean-up takes it if this fails too.
            parts.abort().await.ok();
            return Err(error);
        }
        // Who may not write heard so at the beginning. An upload that is not known or not allowed any more at its end
        // was ended by a request whose answer got lost: it is begun anew.
        let finished = parts.finish().await;
        finished.map_err(|error| BucketError::Unavailable {
            bucket: self.name.clone(),
            action: "upload",
            key: key.to_owned(),
            source: Box::new(error),
        })?;
        Ok(())
    }

    async fn copy_to_file(
        &self,
        key: &str,
        object: GetResult,
        file: &Path,
    ) -> Result<(), BucketError> {
        let mut target = File::create(file)
            .await
            .map_err(file_error("create", file))?;
        let mut parts = object.into_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(self.failed("read", key))?;
            target
                .write_all(&part)
                .await
                .map_err(file_error("write", file))?;
        }
        target.sync_all().await.map_err(file_error("sync", file))
    }
}

impl Bucket for StoreBucket {
    fn name(&self) -> &str {
        &self.name
    }

    fn put<'a>(&'a self, key: &'a str, content: Bytes) -> BucketFuture<'a, ()> {
        async move {
            let payload = PutPayload::from_bytes(content);
            let options = PutOptions {
                attributes: self.uploads.attributes.clone(),
                ..PutOptions::default()
            };
            let put = self
                .store
                .put_opts(&self.path(key)?, payload, options)
                .await;
            put.map_err(self.failed("write", key))?;
            Ok(())
        }
        .boxed()
    }

    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        async move {
            if let Some(target) = self.local_path(key) {
                return local::place(file, target).await;
            }
            let metadata = tokio::fs::metadata(file).await;
            let size = metadata.map_err(file_error("inspect", file))?.len();
            if self.uploads.is_whole && self.part_bytes() < size {
                // Mapped, so that a large file costs no memory of its own.
                let content = map_file(file).map_err(file_error("map", file))?;
                self.put(key, content).await?;
            } else if self.part_bytes() < size {
                self.upload_in_parts(key, file, size).await?;
            } else {
                let content = tokio::fs::read(file)
                    .await
                    .map_err(file_error("read", file))?;
                self.put(key, Bytes::from(content)).await?;
            }
            Ok(size)
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes> {
        async move {
            let object = self.store.get(&self.path(key)?).await;
            let object = object.map_err(self.failed("read", key))?;
            let size = object.meta.size;
            if size_max < size {
                return Err(BucketError::TooLarge {
                    bucket: self.name.clone(),
                    key: key.to_owned(),
                    size,
                    size_max,
                });
            }
            object.bytes().await.map_err(self.failed("read", key))
        }
        .boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes> {
        async move {
            let need = range.end.saturating_sub(range.start);
            if need == 0 {
                return Ok(Bytes::new());
            }
            let offset = range.start;
            let short = |have| BucketError::Short {
                bucket: self.name.clone(),
                key: key.to_owned(),
                offset,
                need,
                have,
            };
            let path = self.path(key)?;
            let bytes = match self.store.get_range(&path, range).await {
                Ok(bytes) => bytes,
                // A start behind the end is an error without a kind of its own: ask how large the object is.
                Err(error) => match self.store.head(&path).await {
                    Ok(meta) if meta.size <= offset => return Err(short(0)),
                    _ => return Err(self.failed("read", key)(error)),
                },
            };
            let have = bytes.len() as u64;
            if have == need {
                Ok(bytes)
            } else {
                Err(short(have))
            }
        }
        .boxed()
    }

    fn get_part<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        buffers: &'a Buffers,
    ) -> BucketFuture<'a, Bytes> {
        let Some(path) = self.local_path(key) else {
            return self.get_range(key, range);
        };
        async move {
            let need = range.end.saturating_sub(range.start);
            let offset = range.start;
            // Whoever asks may wait, and waits here: a thread that is woken for each part costs as much as reading it.
            let read = buffers.read(&path, &range);
            let bytes = read.map_err(|error| {
                if error.kind() == std::io::ErrorKind::NotFound {
                    let (bucket, key) = (self.name.clone(), key.to_owned());
                    return BucketError::NotFound { bucket, key };
                }
                file_error("read", &path)(error)
            })?;
            let have = bytes.len() as u64;
            if have < need {
                return Err(BucketError::Short {
                    bucket: self.name.clone(),
                    key: key.to_owned(),
                    offset,
                    need,
                    have,
                });
            }
            Ok(bytes)
        }
        .boxed()
    }

    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        async move {
            let object = self.store.get(&self.path(key)?).await;
            let object = object.map_err(self.failed("read", key))?;
            let need = object.meta.size;
            let tmp = local::temporary(file);
            self.copy_to_file(key, object, &tmp).await?;
            let metadata = tokio::fs::metadata(&tmp).await;
            let have = metadata.map_err(file_error("inspect", &tmp))?.len();
            if have != need {
                return Err(BucketError::Short {
                    bucket: self.name.clone(),
                    key: key.to_owned(),
                    offset: 0,
                    need,
                    have,
                });
            }
            rename_durably(&tmp, file).map_err(file_error("rename", file))?;
            Ok(have)
        }
        .boxed()
    }

    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo> {
        async move {
            let meta = self.store.head(&self.path(key)?).await;
            Ok(self.info(&meta.map_err(self.failed("inspect", key))?))
        }
        .boxed()
    }

    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>> {
        async move {
            let path = self.path(dir.trim_end_matches('/'))?;
            let metas: Vec<_> = self
                .store
                .list(Some(&path))
                .try_collect()
                .await
                .map_err(self.failed("list", dir))?;
            let mut infos: Vec<_> = metas.iter().map(|meta| self.info(meta)).collect();
            infos.sort_by(|left, right| left.key.cmp(&right.key));
            Ok(infos)
        }
        .boxed()
    }

    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>> {
        async move {
            let path = self.path("")?;
            let listed = self.store.list_with_delimiter(Some(&path)).await;
            let mut dirs: Vec<_> = listed
                .map_err(self.failed("list", ""))?
                .common_prefixes
                .iter()
                .filter_map(|dir| dir.filename().map(str::to_owned))
                .collect();
            dirs.sort_unstable();
            Ok(dirs)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()> {
        async move {
            match self.store.delete(&self.path(key)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.failed("delete", key)(error)),
            }
        }
        .boxed()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        let path = self.path(key).ok()?;
        self.local.as_ref()?.path_to_filesystem(&path).ok()
    }

    fn requests(&self) -> Option<&Requests> {
        self.requests.as_deref()
    }
}

async fn open(file: &Path) -> Result<File, BucketError> {
    File::open(file).await.map_err(file_error("open", file))
}

/// Names the file an operation was about.
pub(crate) fn file_error(
    action: &'static str,
    path: &Path,
) -> impl Fn(std::io::Error) -> BucketError {
    let path = path.display().to_string();
    move |source| BucketError::File {
        action,
        path: path.clone(),
        source,
    }
}
