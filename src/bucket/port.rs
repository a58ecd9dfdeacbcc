//! The port: what every bucket can do.

use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::bucket::error::BucketError;
use crate::bucket::requests::Requests;
use crate::foundation::buffers::Buffers;
use crate::model::TimestampMs;

/// The answer of a bucket, some day.
pub type BucketFuture<'a, T> = BoxFuture<'a, Result<T, BucketError>>;

/// What a bucket knows of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified_ms: TimestampMs,
}

/// One namespace of objects.
///
/// An object is there whole or not at all: a reader never sees half of a `put` or an `upload`. What was
/// acknowledged survives a crash of this process and, on a local disk, of the machine.
pub trait Bucket: Send + Sync + Debug {
    /// How it is called in messages: `s3://name`, `file:///path`.
    fn name(&self) -> &str;

    /// Writes or replaces an object.
    fn put<'a>(&'a self, key: &'a str, content: Bytes) -> BucketFuture<'a, ()>;

    /// Writes or replaces an object with the content of a file that nobody will change any more; says how many bytes.
    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64>;

    /// Reads an object of at most `size_max` bytes.
    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes>;

    /// Reads exactly these bytes.
    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes>;

    /// As [`Self::get_range`], for whoever reads large objects from front to back, lets go of each part soon and does not come
    /// back, on a thread that may wait: a directory is read while the answer is polled, past the page cache, into memory that
    /// is used again.
    fn get_part<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        _buffers: &'a Buffers,
    ) -> BucketFuture<'a, Bytes> {
        self.get_range(key, range)
    }

    /// Copies an object into a file, which is there whole or not at all; says how many bytes.
    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64>;

    /// Size and time of an object.
    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo>;

    /// All objects below a directory (empty: all there are), sorted by name.
    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>>;

    /// Names of the directories at the top, sorted.
    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>>;

    /// Removes an object; one that is not there is removed already.
    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()>;

    /// The real file behind an object, where the bucket is a directory of this machine: it can be mapped.
    fn local_path(&self, key: &str) -> Option<PathBuf>;

    /// What is counted of the requests to the store behind, where that speaks HTTP. A bucket around another passes it on.
    fn requests(&self) -> Option<&Requests> {
        None
    }
}
