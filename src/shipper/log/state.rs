//! `state.json` of an instance: from where on its log counts. And the file that names the instance in the data directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::foundation::durable::replace_file;
use crate::model::{BlockId, TimestampMs};
use crate::shipper::error::ShipError;
use crate::shipper::local::failed;

/// The only version there is, of both files.
const VERSION: u64 = 1;
/// Longest text that is read.
pub(crate) const STATE_BYTES_MAX: u64 = 1 << 20;
/// Names the instance, in the data directory.
pub const INSTANCE_FILE: &str = "wal-shipping.json";

/// What of the parts in the bucket is the log, and what came before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogState {
    pub(crate) version: u64,
    /// Labels of the appliance, for whoever looks for its log.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// When this was written.
    pub(crate) at_ms: TimestampMs,
    /// Samples in order that are older are in blocks of the bucket.
    pub(crate) floor_ms: Option<TimestampMs>,
    /// The checkpoint to begin with: its files, with their lengths.
    pub(crate) checkpoint: Option<CheckpointState>,
    /// The first segment of `wal/` that is needed.
    pub(crate) wal_first: u32,
    /// The first segment of `wbl/` that is needed.
    pub(crate) wbl_first: u32,
}

/// A checkpoint that is in the bucket as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointState {
    /// Its number.
    pub(crate) number: u32,
    /// Its segments and their lengths.
    pub(crate) segments: Vec<(u32, u64)>,
}

impl LogState {
    pub(crate) fn new(labels: BTreeMap<String, String>) -> Self {
        Self {
            version: VERSION,
            labels,
            at_ms: 0,
            floor_ms: None,
            checkpoint: None,
            wal_first: 0,
            wbl_first: 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Plain fields into memory cannot fail.
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Mirror of [`LogState::encode`]; the error says what is wrong.
    pub(crate) fn decode(text: &[u8]) -> Result<Self, String> {
        let state: Self = serde_json::from_slice(text).map_err(|flaw| flaw.to_string())?;
        check(state.version)?;
        Ok(state)
    }
}

/// Which log of the bucket is that of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    version: u64,
    /// Its directory in the bucket.
    pub(crate) instance: BlockId,
    /// The instance whose log was restored here, until all of it is shipped as this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored_from: Option<BlockId>,
}

impl Instance {
    pub(crate) fn new(instance: BlockId, restored_from: Option<BlockId>) -> Self {
        Self {
            version: VERSION,
            instance,
            restored_from,
        }
    }

    /// `None` where there is none, or one that does not read: the log is shipped anew under another name then.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, ShipError> {
        let path = path(dir);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", &path))?,
        };
        let decoded = serde_json::from_slice(&text)
            .map_err(|flaw| flaw.to_string())
            .and_then(|instance: Self| check(instance.version).map(|()| instance));
        match decoded {
            Ok(instance) => Ok(Some(instance)),
            Err(flaw) => {
                tracing::warn!(path = %path.display(), flaw, "the log is shipped under a new name");
                Ok(None)
            }
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), ShipError> {
        let path = path(dir);
        let text = serde_json::to_vec(self).unwrap_or_default();
        replace_file(&path, &text).map_err(failed("write", &path))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(INSTANCE_FILE)
}

fn check(version: u64) -> Result<(), String> {
    if version == VERSION {
        Ok(())
    } else {
        Err(format!("version {version} is not {VERSION}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = r#"{"version":1,"labels":{"cluster":"c1"},"at_ms":1700000000000,"floor_ms":1699999200000,"checkpoint":{"number":7,"segments":[[0,32768]]},"wal_first":8,"wbl_first":2}
"#;

    fn state() -> LogState {
        LogState {
            at_ms: 1_700_000_000_000,
            floor_ms: Some(1_699_999_200_000),
            checkpoint: Some(CheckpointState {
                number: 7,
                segments: vec![(0, 32768)],
            }),
            wal_first: 8,
            wbl_first: 2,
            ..LogState::new(BTreeMap::from([("cluster".into(), "c1".into())]))
        }
    }

    #[test]
    fn the_text_of_a_state_is_this_and_every_truncation_is_an_error() {
        assert_eq!(String::from_utf8(state().encode()).unwrap(), GOLDEN);
        assert_eq!(LogState::decode(GOLDEN.as_bytes()), Ok(state()));
        for len in 0..GOLDEN.len() - 1 {
            assert!(LogState::decode(&GOLDEN.as_bytes()[..len]).is_err());
        }
        let newer = GOLDEN.replace("{\"version\":1", "{\"version\":2");
        assert!(LogState::decode(newer.as_bytes()).is_err());
    }

    #[test]
    fn an_instance_that_does_not_read_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Instance::read(dir.path()).unwrap(), None);
        let instance = Instance::new(BlockId::from_parts(1, 2), Some(BlockId::from_parts(1, 3)));
        instance.write(dir.path()).unwrap();
        assert_eq!(Instance::read(dir.path()).unwrap(), Some(instance));
        replace_file(&path(dir.path()), b"{\"version\":9}").unwrap();
        assert_eq!(Instance::read(dir.path()).unwrap(), None);
    }
}
