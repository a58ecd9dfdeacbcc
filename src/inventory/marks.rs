//! Marks beside a block: `deletion-mark.json`, since when it is to be deleted.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{BlockId, TimestampMs};

/// The only version there is.
const VERSION: u64 = 1;
/// Longest text that is read.
pub const MARK_BYTES_MAX: u64 = 1 << 20;

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
    /// Of a block that is to be deleted since `since_ms`.
    pub fn new(id: BlockId, since_ms: TimestampMs, details: String) -> Self {
        Self {
            id,
            version: VERSION,
            details,
            deletion_time: since_ms.div_euclid(1_000),
        }
    }

    /// Since when.
    pub fn since_ms(&self) -> TimestampMs {
        self.deletion_time.saturating_mul(1_000)
    }

    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the text; the error says what is wrong.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        decode(text)
    }
}

/// What `no-compact-mark.json` says: the block stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCompactMark {
    /// The block.
    pub id: BlockId,
    /// Always 1.
    pub version: u64,
    /// Who wants it, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Since when, in seconds of Unix time.
    pub no_compact_time: i64,
    /// In a word, such as `manual` or `index-size-exceeding`.
    pub reason: String,
}

impl NoCompactMark {
    /// Of a block that is not to be compacted from `since_ms` on.
    pub fn new(id: BlockId, since_ms: TimestampMs, reason: String, details: String) -> Self {
        Self {
            id,
            version: VERSION,
            details,
            no_compact_time: since_ms.div_euclid(1_000),
            reason,
        }
    }

    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the text; the error says what is wrong.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        decode(text)
    }
}

/// What `no-downsample-mark.json` says: nothing coarser is made of the block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoDownsampleMark {
    /// The block.
    pub id: BlockId,
    /// Always 1.
    pub version: u64,
    /// Who wants it, and why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Since when, in seconds of Unix time.
    pub no_downsample_time: i64,
    /// In a word, such as `manual`.
    pub reason: String,
}

impl NoDownsampleMark {
    /// Of a block that is not to be downsampled from `since_ms` on.
    pub fn new(id: BlockId, since_ms: TimestampMs, reason: String, details: String) -> Self {
        Self {
            id,
            version: VERSION,
            details,
            no_downsample_time: since_ms.div_euclid(1_000),
            reason,
        }
    }

    /// The file's text.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the text; the error says what is wrong.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        decode(text)
    }
}

/// Reads a mark of the only version.
fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct AnyVersion {
        version: u64,
    }
    let AnyVersion { version } = serde_json::from_slice(text).map_err(|flaw| flaw.to_string())?;
    if version != VERSION {
        return Err(format!("version {version} is not {VERSION}"));
    }
    serde_json::from_slice(text).map_err(|flaw| flaw.to_string())
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

    #[test]
    fn the_other_marks_have_the_names_that_everybody_reads() {
        let id = DeletionMark::decode(GOLDEN).unwrap().id;
        let mark = NoCompactMark::new(id, 1_700_000_000_999, "manual".into(), String::new());
        let golden = r#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","version":1,"no_compact_time":1700000000,"reason":"manual"}"#;
        assert_eq!(String::from_utf8(mark.encode()).unwrap(), golden);
        assert_eq!(NoCompactMark::decode(golden.as_bytes()).unwrap(), mark);
        let mark = NoDownsampleMark::new(id, 1_700_000_000_000, "manual".into(), "asked".into());
        let golden = r#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","version":1,"details":"asked","no_downsample_time":1700000000,"reason":"manual"}"#;
        assert_eq!(String::from_utf8(mark.encode()).unwrap(), golden);
        assert_eq!(NoDownsampleMark::decode(golden.as_bytes()).unwrap(), mark);
        for len in 0..golden.len() {
            assert!(NoDownsampleMark::decode(&golden.as_bytes()[..len]).is_err());
            assert!(NoCompactMark::decode(&golden.as_bytes()[..len]).is_err());
        }
    }
}
