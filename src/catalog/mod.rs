//! What is known of blocks and uploads.
//!
//! Owns: a sled database beside the data that can be deleted at any time (see `FORMAT.md`).
//! Never: holds the only copy of anything.
//! Tested by: damage and rebuild tests beside the code.
#![doc = include_str!("FORMAT.md")]
mod entry;
mod open;
mod records;

pub use open::{Catalog, CatalogState};
pub use records::{BlockRecord, ObjectRecord, UploadRecord};
