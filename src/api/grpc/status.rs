//! Errors to status codes, in one place.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tonic::Status;

use crate::foundation::pool::{PoolBusy, PoolPanic};
use crate::storage::StorageError;

/// What a client is told when a source could not answer.
pub(crate) fn of_storage(error: &StorageError) -> Status {
    let text = error.to_string();
    match error {
        StorageError::Canceled => Status::cancelled(text),
        StorageError::Limit(_) => Status::resource_exhausted(text),
        StorageError::Corrupt(_) => Status::aborted(text),
        StorageError::Unavailable(_) => Status::unavailable(text),
    }
}

/// What a client is told when there is no room to compute.
pub(crate) fn of_busy(busy: PoolBusy) -> Status {
    Status::resource_exhausted(busy.to_string())
}

/// What a client is told when the work panicked.
pub(crate) fn of_panic(panic: PoolPanic) -> Status {
    tracing::error!(pool = panic.pool, "grpc handler panicked");
    Status::internal("the handler panicked; this is a bug")
}

/// What a client is told when the process ends.
pub(crate) fn shutting_down() -> Status {
    Status::unavailable("shutting down")
}

/// Runs a handler; a panic inside is an answer, not the end of the connection.
pub(crate) async fn guarded<T>(
    handler: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match AssertUnwindSafe(handler).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => Err(of_panic(PoolPanic { pool: "grpc" })),
    }
}
