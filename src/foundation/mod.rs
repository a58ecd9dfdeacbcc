//! Mechanisms without a domain.
//!
//! Owns: clock, bytes from outside, durable files, mapped files, buffers that are used again, named pools, cancellation, verdicts on errors.
//! Never: knows what a label, a sample or a block is.
//! Tested by: the tests beside each mechanism.
pub mod append;
pub mod buffers;
pub mod cancel;
pub mod checksum;
pub mod clock;
pub mod cursor;
pub mod durable;
pub mod file_system;
mod hashed;
pub mod keeper;
pub mod metrics;
pub mod mmap;
pub mod permit;
pub mod pool;
#[cfg(test)]
#[path = "../../tests/peers/ports.rs"]
pub(crate) mod ports;
pub mod process;
pub mod proto;
pub mod sha256;
mod share;
pub mod shutdown;
pub mod snappy;
mod touch;
pub mod verdict;

pub use cancel::Cancel;
pub use clock::{Clock, ManualClock, SystemClock};
pub use cursor::{Cursor, ShortRead};
pub(crate) use hashed::HashedMap;
pub use pool::Pool;
pub use touch::touch;
pub use verdict::Verdict;
