//! Snappy blocks, with a bound on what they unfold to.

use thiserror::Error;

use crate::foundation::snappy;

/// Why a body is no snappy block that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnappyError {
    /// The block says it unfolds to more than is allowed; nothing was allocated.
    #[error(
        "snappy: decoded length {decoded_bytes} exceeds the limit of {limit_bytes} bytes: send smaller requests \
         or raise the limit"
    )]
    TooLarge {
        /// What the block's header says.
        decoded_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// Not a snappy block.
    #[error("snappy: corrupt input: {0}")]
    Corrupt(String),
}

/// Unfolds `block` into `out`, whose memory is used again; at most `limit_bytes`.
pub fn decompress(block: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> Result<(), SnappyError> {
    let corrupt = |error: snappy::BadSnappy| SnappyError::Corrupt(error.to_string());
    let decoded_bytes = snappy::decompressed_len(block).map_err(corrupt)?;
    if limit_bytes < decoded_bytes {
        return Err(SnappyError::TooLarge {
            decoded_bytes,
            limit_bytes,
        });
    }
    snappy::decompress(block, out).map_err(corrupt)
}

/// A snappy block of `bytes`.
pub fn compress(bytes: &[u8]) -> Result<Vec<u8>, SnappyError> {
    snap::raw::Encoder::new()
        .compress_vec(bytes)
        .map_err(|error| SnappyError::Corrupt(error.to_string()))
}
