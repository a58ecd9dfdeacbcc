//! Bucket blocks to series.
//!
//! Owns: sync, loading, range reads and limits.
//! Never: writes to the bucket.
//! Tested by: the storage contract over filesystem and S3 buckets.
