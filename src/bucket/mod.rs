//! The object store seen as one namespace.
//!
//! Owns: keys of the Thanos layout (see `FORMAT.md`), adapters, retries, metering, and a faulty one for tests.
//! Never: knows what is inside an object.
//! Tested by: `contract`, which every adapter runs.
#![doc = include_str!("FORMAT.md")]
#[cfg(test)]
pub(crate) mod contract;
mod error;
#[cfg(test)]
pub(crate) mod faulty;
pub mod keys;
mod local;
mod metered;
mod port;
mod retrying;
#[cfg(test)]
pub(crate) mod s3_server;
mod settings;
mod store;

pub use error::BucketError;
pub use metered::{MeteredBucket, Operation, OperationCounts};
pub use port::{Bucket, BucketFuture, ObjectInfo};
pub use retrying::RetryingBucket;
pub use settings::{BucketKind, BucketSettings, S3Credentials, S3Encryption, S3Settings, open};
pub use store::StoreBucket;
