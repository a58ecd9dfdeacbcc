//! The object store seen as one namespace.
//!
//! Owns: keys of the Thanos layout (see `FORMAT.md`), adapters, retries and deadlines, hedging, metering, and a faulty
//! one for tests.
//! Never: knows what is inside an object.
//! Tested by: `contract`, which every adapter runs.
#![doc = include_str!("FORMAT.md")]
mod aws_profile;
#[cfg(test)]
mod cloud_tests;
#[cfg(test)]
pub(crate) mod contract;
mod error;
#[cfg(test)]
mod fault_proxy;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod faulty;
mod hedged;
mod http;
pub mod keys;
mod local;
mod metered;
mod open;
mod port;
mod requests;
mod retrying;
#[cfg(test)]
pub(crate) mod s3_server;
mod secret;
mod settings;
mod store;

pub use error::BucketError;
pub use hedged::{HedgeSettings, HedgedBucket};
pub use http::HttpSettings;
pub use metered::{DURATION_BOUNDS_MS, MeteredBucket, Operation, OperationCounts, SIZE_BOUNDS};
pub use open::open;
pub use port::{Bucket, BucketFuture, ObjectInfo};
pub use requests::{Prices, RequestCounts, RequestSort, Requests};
pub use retrying::RetryingBucket;
pub use secret::Secret;
pub use settings::{
    AzureCredentials, AzureSettings, BucketKind, BucketSettings, GcsSettings, PartSettings,
    S3Credentials, S3Encryption, S3Settings,
};
pub use store::StoreBucket;
