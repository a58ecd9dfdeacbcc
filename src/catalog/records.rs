//! The records there are: blocks of the bucket, and uploads.

use serde::{Deserialize, Serialize};

use crate::catalog::open::Catalog;
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::foundation::{Cursor, ShortRead};
use crate::model::{BlockId, TimestampMs};

/// Blocks of the bucket: what was listed, and the small texts that were read.
const BLOCKS: &str = "blocks";
/// What was uploaded.
const UPLOADS: &str = "uploads";

/// An upload that was finished and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// When.
    pub at_ms: TimestampMs,
    /// Files, without meta.json.
    pub n_files: u64,
    /// Their bytes.
    pub n_bytes: u64,
}

/// An object of a block, as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Path inside the block.
    pub path: String,
    /// Its length.
    pub n_bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified_ms: TimestampMs,
}

/// A block of the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockRecord {
    /// Everything listed below its directory.
    pub objects: Vec<ObjectRecord>,
    /// Those of its objects that were read, by path: `meta.json` and marks.
    pub texts: Vec<(String, Vec<u8>)>,
}

impl BlockRecord {
    /// Field order here is the format.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uvarint(&mut out, self.objects.len() as u64);
        for object in &self.objects {
            put_uvarint_bytes(&mut out, object.path.as_bytes());
            put_uvarint(&mut out, object.n_bytes);
            put_varint(&mut out, object.modified_ms);
        }
        put_uvarint(&mut out, self.texts.len() as u64);
        for (path, text) in &self.texts {
            put_uvarint_bytes(&mut out, path.as_bytes());
            put_uvarint_bytes(&mut out, text);
        }
        out
    }

    /// Mirror of `encode`, line for line.
    fn decode(bytes: &[u8]) -> Result<Self, ShortRead> {
        let mut cursor = Cursor::new(bytes);
        let mut record = Self::default();
        for _ in 0..cursor.uvarint("object count")? {
            record.objects.push(ObjectRecord {
                path: cursor.uvarint_str("object path")?.to_owned(),
                n_bytes: cursor.uvarint("object length")?,
                modified_ms: cursor.varint("object time")?,
            });
        }
        for _ in 0..cursor.uvarint("text count")? {
            let path = cursor.uvarint_str("text path")?.to_owned();
            record
                .texts
                .push((path, cursor.uvarint_bytes("text")?.to_vec()));
        }
        Ok(record)
    }
}

impl Catalog {
    /// What is remembered of a block of the bucket.
    pub fn block(&self, block: BlockId) -> Option<BlockRecord> {
        BlockRecord::decode(&self.read(BLOCKS, &key(block))?).ok()
    }

    /// Everything that is remembered of the bucket, by block.
    pub fn blocks(&self) -> Vec<(BlockId, BlockRecord)> {
        let mut found = Vec::new();
        self.each(BLOCKS, |key, payload| {
            let block = std::str::from_utf8(key).ok().and_then(|id| id.parse().ok());
            if let (Some(block), Ok(record)) = (block, BlockRecord::decode(payload)) {
                found.push((block, record));
            }
        });
        found
    }

    /// Remembers a block of the bucket.
    pub fn remember_block(&self, block: BlockId, record: &BlockRecord) {
        self.write(BLOCKS, &key(block), &record.encode());
    }

    /// The block is no longer in the bucket.
    pub fn forget_block(&self, block: BlockId) {
        self.remove(BLOCKS, &key(block));
    }

    /// The upload of a local block, if it was finished.
    pub fn upload(&self, block: BlockId) -> Option<UploadRecord> {
        serde_json::from_slice(&self.read(UPLOADS, &key(block))?).ok()
    }

    /// Remembers a finished upload.
    pub fn remember_upload(&self, block: BlockId, record: &UploadRecord) {
        if let Ok(json) = serde_json::to_vec(record) {
            self.write(UPLOADS, &key(block), &json);
        }
    }

    /// The block is no longer on the local disk.
    pub fn forget_upload(&self, block: BlockId) {
        self.remove(UPLOADS, &key(block));
    }
}

fn key(block: BlockId) -> Vec<u8> {
    block.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::catalog::open::CatalogState;
    use crate::foundation::durable::replace_file;

    fn block(n: u128) -> BlockId {
        BlockId::from_parts(7, n)
    }

    fn record(n: u128) -> BlockRecord {
        BlockRecord {
            objects: vec![ObjectRecord {
                path: "meta.json".to_owned(),
                n_bytes: u64::MAX,
                modified_ms: -7,
            }],
            texts: vec![("meta.json".to_owned(), format!("{n}").into_bytes())],
        }
    }

    #[test]
    fn a_block_is_its_objects_and_its_texts() {
        let golden =
            b"\x01\x09meta.json\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0d\x01\x09meta.json\x013";
        assert_eq!(record(3).encode(), golden);
        assert_eq!(BlockRecord::decode(golden).unwrap(), record(3));
        for len in 0..golden.len() {
            assert!(BlockRecord::decode(&golden[..len]).is_err(), "len {len}");
        }
    }

    fn fill(dir: &Path) {
        let catalog = Catalog::open(dir);
        for n in 0..200 {
            catalog.remember_block(block(n), &record(n));
        }
        catalog.flush();
    }

    #[test]
    fn records_are_there_after_the_catalog_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let catalog = Catalog::open(dir.path());
        assert_eq!(catalog.state(), &CatalogState::Opened);
        assert_eq!(catalog.block(block(7)), Some(record(7)));
        assert_eq!(catalog.blocks().len(), 200);
        assert_eq!(catalog.blocks()[5], (block(5), record(5)));
        catalog.forget_block(block(7));
        assert_eq!(catalog.block(block(7)), None);
        let record = UploadRecord {
            at_ms: 1,
            n_files: 2,
            n_bytes: 3,
        };
        catalog.remember_upload(block(1), &record);
        assert_eq!(catalog.upload(block(1)), Some(record));
        catalog.forget_upload(block(1));
        assert_eq!(catalog.upload(block(1)), None);
    }

    fn files(dir: &Path) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                found.push(path);
            }
        }
        found
    }

    /// Whatever happened to the files: it opens, what it answers is true, and it can be written again.
    #[track_caller]
    fn check_damage(dir: &Path) -> CatalogState {
        let catalog = Catalog::open(dir);
        for n in 0..200 {
            let found = catalog.block(block(n));
            assert!(found.is_none() || found == Some(record(n)), "{found:?}");
        }
        for (id, found) in catalog.blocks() {
            assert_eq!(Some(found), catalog.block(id));
        }
        catalog.remember_block(block(999), &record(999));
        assert_eq!(catalog.block(block(999)), Some(record(999)));
        catalog.state().clone()
    }

    #[test]
    fn a_damaged_snapshot_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        drop(Catalog::open(dir.path()));
        let snapshots: Vec<_> = files(dir.path())
            .into_iter()
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("snap.")
            })
            .collect();
        assert!(!snapshots.is_empty());
        for snapshot in snapshots {
            replace_file(&snapshot, b"").unwrap();
        }
        assert_eq!(check_damage(dir.path()), CatalogState::SnapshotRemoved);
        assert_eq!(Catalog::open(dir.path()).blocks().len(), 201);
    }

    #[test]
    fn any_damaged_file_costs_at_most_the_records() {
        for (part, with) in [(2, false), (2, true), (3, true), (100, false)] {
            let parent = tempfile::tempdir().unwrap();
            let dir = parent.path().join("catalog");
            fill(&dir);
            for path in files(&dir) {
                let mut content = fs::read(&path).unwrap();
                let at = content.len() / part;
                if with {
                    let end = content.len().min(at + 4096);
                    content[at..end].fill(0x55);
                } else {
                    content.truncate(at);
                }
                replace_file(&path, &content).unwrap();
            }
            check_damage(&dir);
        }
    }

    #[test]
    fn damage_again_and_again_does_not_fill_the_disk() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("catalog");
        for _ in 0..6 {
            fill(&dir);
            for path in files(&dir) {
                replace_file(&path, b"not a database").unwrap();
            }
            let state = check_damage(&dir);
            assert!(matches!(state, CatalogState::MovedAside(_)), "{state:?}");
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_catalog_of_another_schema_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        Catalog::open(dir.path()).overwrite_schema(b"from the future");
        let catalog = Catalog::open(dir.path());
        assert_eq!(catalog.state(), &CatalogState::Emptied);
        assert_eq!(catalog.blocks(), []);
    }

    #[test]
    fn a_catalog_that_somebody_else_holds_is_absent_and_stays_where_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("catalog");
        let first = Catalog::open(&dir);
        let second = Catalog::open(&dir);
        assert!(
            matches!(second.state(), CatalogState::Absent(_)),
            "{:?}",
            second.state()
        );
        second.remember_block(block(1), &record(1));
        assert_eq!(second.block(block(1)), None);
        first.remember_block(block(1), &record(1));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
