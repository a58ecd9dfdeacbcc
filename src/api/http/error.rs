//! Refusals: their types, codes and texts.

use actix_web::http::StatusCode;
use thiserror::Error;

use crate::promql::{ErrorKind, QueryError};
use crate::storage::StorageError;

/// The kinds of error the API names, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The request is wrong.
    BadData,
    /// The query cannot be answered.
    Execution,
    /// Nobody waits for the answer any more.
    Canceled,
    /// It took too long.
    Timeout,
    /// Something broke here.
    Internal,
    /// Switched off, or starting.
    Unavailable,
    /// There is no such thing.
    NotFound,
    /// There is no encoding that was asked for.
    NotAcceptable,
}

impl ErrorType {
    /// As `errorType` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
            Self::NotAcceptable => "not_acceptable",
        }
    }

    /// The status code that goes with it. Unavailable is 500, as in Prometheus.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            // What nginx made of a client that went away.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {text}", .error_type.as_str())]
pub struct ApiError {
    /// The kind.
    pub error_type: ErrorType,
    /// For the client to read.
    pub text: String,
}

impl ApiError {
    /// An error of this kind.
    pub fn new(error_type: ErrorType, text: impl Into<String>) -> Self {
        Self {
            error_type,
            text: text.into(),
        }
    }

    /// The request is wrong.
    pub fn bad_data(text: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, text)
    }
}

/// What a failing source is to a label lookup.
impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let error_type = match error {
            StorageError::Canceled => ErrorType::Canceled,
            StorageError::Limit(_) | StorageError::Corrupt(_) | StorageError::Unavailable(_) => {
                ErrorType::Execution
            }
        };
        Self::new(error_type, error.to_string())
    }
}

/// What the engine refused.
impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let error_type = match error.kind() {
            ErrorKind::BadData => ErrorType::BadData,
            ErrorKind::Execution => ErrorType::Execution,
            ErrorKind::Canceled => ErrorType::Canceled,
            ErrorKind::Timeout => ErrorType::Timeout,
            ErrorKind::Internal => ErrorType::Internal,
            ErrorKind::Unavailable => ErrorType::Unavailable,
        };
        Self::new(error_type, error.to_string())
    }
}
