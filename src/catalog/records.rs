//! The records there are: metas of bucket blocks, and uploads.

use serde::{Deserialize, Serialize};

use crate::catalog::open::Catalog;
use crate::model::{BlockId, TimestampMs};

/// `meta.json` of blocks in the bucket, as read: it never changes once it is there.
const METAS: &str = "metas";
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

impl Catalog {
    /// `meta.json` of a bucket block, if it was read before.
    pub fn meta(&self, block: BlockId) -> Option<Vec<u8>> {
        self.read(METAS, &key(block))
    }

    /// Remembers `meta.json` of a bucket block.
    pub fn remember_meta(&self, block: BlockId, json: &[u8]) {
        self.write(METAS, &key(block), json);
    }

    /// The block is no longer in the bucket.
    pub fn forget_meta(&self, block: BlockId) {
        self.remove(METAS, &key(block));
    }

    /// Blocks whose meta is remembered.
    pub fn metas(&self) -> Vec<BlockId> {
        let keys = self.keys(METAS);
        keys.iter()
            .filter_map(|key| std::str::from_utf8(key).ok()?.parse().ok())
            .collect()
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

    fn fill(dir: &Path) {
        let catalog = Catalog::open(dir);
        for n in 0..200 {
            catalog.remember_meta(block(n), format!("{{\"n\": {n}}}").as_bytes());
        }
        catalog.flush();
    }

    #[test]
    fn records_are_there_after_the_catalog_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let catalog = Catalog::open(dir.path());
        assert_eq!(catalog.state(), &CatalogState::Opened);
        assert_eq!(catalog.meta(block(7)).unwrap(), b"{\"n\": 7}");
        assert_eq!(catalog.metas().len(), 200);
        catalog.forget_meta(block(7));
        assert_eq!(catalog.meta(block(7)), None);
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
            let expect = format!("{{\"n\": {n}}}").into_bytes();
            let found = catalog.meta(block(n));
            assert!(found.is_none() || found == Some(expect), "{found:?}");
        }
        catalog.remember_meta(block(999), b"{}");
        assert_eq!(catalog.meta(block(999)).unwrap(), b"{}");
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
        assert_eq!(Catalog::open(dir.path()).metas().len(), 201);
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
        assert_eq!(catalog.metas(), []);
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
        second.remember_meta(block(1), b"{}");
        assert_eq!(second.meta(block(1)), None);
        first.remember_meta(block(1), b"{}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
