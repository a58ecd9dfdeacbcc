//! `deletion-mark.json`: since when a block is to be deleted.

use serde::{Deserialize, Serialize};

use crate::model::{BlockId, TimestampMs};

/// The only version there is.
const VERSION: u64 = 1;
/// Longest text that is read.
pub(crate) const MARK_BYTES_MAX: u64 = 1 << 20;

/// What `deletion-mark.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionMark {
    /// The block.
    pub id: BlockId,
    /// Always 1.
    pub version: u64,
    /// Who wants it gone, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Since when, in seconds of Unix time.
    pub deletion_time: i64,
}

impl DeletionMark {
    /// Since when.
    pub fn since_ms(&self) -> TimestampMs {
        self.deletion_time.saturating_mul(1_000)
    }

    /// Reads the text; the error says what is wrong.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        let mark: Self = serde_json::from_slice(text).map_err(|flaw| flaw.to_string())?;
        if mark.version != VERSION {
            return Err(format!("version {} is not {VERSION}", mark.version));
        }
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = br#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","version":1,"details":"source of compacted block","deletion_time":1700000000}"#;

    #[test]
    fn a_mark_counts_in_seconds() {
        let mark = DeletionMark::decode(GOLDEN).unwrap();
        assert_eq!(mark.since_ms(), 1_700_000_000_000);
        assert_eq!(mark.details, "source of compacted block");
        assert_eq!(serde_json::to_vec(&mark).unwrap(), GOLDEN);
    }

    #[test]
    fn every_truncation_and_another_version_are_errors() {
        for len in 0..GOLDEN.len() {
            assert!(DeletionMark::decode(&GOLDEN[..len]).is_err(), "len {len}");
        }
        let text = String::from_utf8(GOLDEN.to_vec())
            .unwrap()
            .replace("n\":1,", "n\":2,");
        let flaw = DeletionMark::decode(text.as_bytes()).unwrap_err();
        assert_eq!(flaw, "version 2 is not 1");
    }
}
