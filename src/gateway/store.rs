//! Pages and index headers that are kept: in memory up to one bound, on the disk up to another.
//!
//! A page on the disk is a file `<block>/<object>.<number>`: the bytes, then their CRC32-Castagnoli. A file that does not
//! fit its checksum is a page that is not there. Beside the pages lies the block's `index-header`, as Thanos writes it.
//! Nothing here is the only copy of anything.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::keys;
use crate::foundation::checksum::crc32c;
use crate::gateway::stats::{Kind, Stats};
use crate::model::BlockId;

/// Small enough that a lone series costs little, large enough that its neighbours come along.
pub(crate) const PAGE_BYTES: u64 = 64 << 10;
/// Copy of the index header beside the pages, as Thanos names it.
const HEADER_FILE: &str = "index-header";
/// A header's place among the parts of a block.
const HEADER_PART: u32 = u32::MAX;

/// An object of a block: the index, or a segment by its number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Index,
    Segment(u32),
}

impl Part {
    /// Path inside the block.
    pub(crate) fn path(self) -> String {
        match self {
            Self::Index => keys::INDEX.to_owned(),
            Self::Segment(number) => format!("{}/{number:06}", keys::CHUNKS),
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Index => 0,
            Self::Segment(number) => number,
        }
    }
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageKey {
    block: BlockId,
    part: u32,
    number: u32,
}

impl PageKey {
    pub(crate) fn new(block: BlockId, part: Part, number: u64) -> Self {
        Self {
            block,
            part: part.number(),
            // An object of 2^32 pages has 256 TiB.
            number: u32::try_from(number).unwrap_or(u32::MAX),
        }
    }

    fn header(block: BlockId) -> Self {
        Self {
            block,
            part: HEADER_PART,
            number: 0,
        }
    }

    fn file_name(self) -> String {
        match self.part {
            HEADER_PART => HEADER_FILE.to_owned(),
            0 => format!("{}.{}", keys::INDEX, self.number),
            segment => format!("{}-{segment:06}.{}", keys::CHUNKS, self.number),
        }
    }

    /// Mirror of `file_name`.
    fn parse(block: BlockId, name: &str) -> Option<Self> {
        if name == HEADER_FILE {
            return Some(Self::header(block));
        }
        let (object, number) = name.rsplit_once('.')?;
        let part = match object.strip_prefix("chunks-") {
            Some(segment) => segment
                .parse()
                .ok()
                .filter(|segment| *segment != HEADER_PART)?,
            None if object == keys::INDEX => 0,
            None => return None,
        };
        let number = number.parse().ok()?;
        Some(Self {
            block,
            part,
            number,
        })
    }
}

/// The least recently used ones go first.
#[derive(Debug)]
struct Lru<V> {
    entries: BTreeMap<PageKey, Entry<V>>,
    by_use: BTreeMap<u64, PageKey>,
    clock: u64,
    n_bytes: u64,
    bytes_max: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    n_bytes: u64,
    /// `None` where a run before this one left it.
    kind: Option<Kind>,
    used: u64,
}

impl<V> Lru<V> {
    fn new(bytes_max: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            n_bytes: 0,
            bytes_max,
        }
    }

    fn touch(&mut self, key: PageKey) -> Option<&V> {
        self.clock += 1;
        let entry = self.entries.get_mut(&key)?;
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, key);
        Some(&entry.value)
    }

    /// What had to go for it.
    fn insert(
        &mut self,
        key: PageKey,
        value: V,
        n_bytes: u64,
        kind: Option<Kind>,
    ) -> Vec<(PageKey, Option<Kind>)> {
        self.remove(key);
        self.clock += 1;
        let used = self.clock;
        let entry = Entry {
            value,
            n_bytes,
            kind,
            used,
        };
        self.entries.insert(key, entry);
        self.by_use.insert(used, key);
        self.n_bytes += n_bytes;
        let mut gone = Vec::new();
        while self.bytes_max < self.n_bytes
            && let Some((_, oldest)) = self.by_use.first_key_value()
        {
            let oldest = *oldest;
            let kind = self.remove(oldest).and_then(|entry| entry.kind);
            gone.push((oldest, kind));
        }
        gone
    }

    fn remove(&mut self, key: PageKey) -> Option<Entry<V>> {
        let entry = self.entries.remove(&key)?;
        self.by_use.remove(&entry.used);
        self.n_bytes -= entry.n_bytes;
        Some(entry)
    }

    fn retain_blocks(&mut self, keep: &dyn Fn(BlockId) -> bool) {
        let gone: Vec<_> = self
            .entries
            .keys()
            .filter(|key| !keep(key.block))
            .copied()
            .collect();
        for key in gone {
            self.remove(key);
        }
    }
}

/// Pages and headers within their bounds.
#[derive(Debug)]
pub(crate) struct PageStore {
    directory: PathBuf,
    memory: Mutex<Lru<Bytes>>,
    disk: Mutex<Lru<()>>,
    stats: Arc<Stats>,
}

impl PageStore {
    /// Goes on with what an earlier run left in `directory`; how much that is, [`Self::scan`] finds out.
    pub(crate) fn open(
        directory: PathBuf,
        (memory_max, disk_max): (u64, u64),
        stats: Arc<Stats>,
    ) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            memory: Mutex::new(Lru::new(memory_max)),
            disk: Mutex::new(Lru::new(disk_max)),
            stats,
        })
    }

    /// Looks what an earlier run left, oldest first, and removes what is too much.
    pub(crate) fn scan(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for dir in fs::read_dir(&self.directory)? {
            let dir = dir?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            let Some(block) = keys::block_of(&name) else {
                continue;
            };
            for file in fs::read_dir(&dir)? {
                let file = file?;
                let key = PageKey::parse(block, &file.file_name().to_string_lossy());
                // What goes meanwhile went through other hands.
                if let (Some(key), Ok(metadata)) = (key, file.metadata()) {
                    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    found.push((modified, key, metadata.len()));
                }
            }
        }
        found.sort_unstable();
        for (_, key, n_bytes) in found {
            let mut disk = self.disk.lock();
            if !disk.entries.contains_key(&key) {
                let gone = disk.insert(key, (), n_bytes, None);
                self.remove_files(gone);
            }
        }
        Ok(())
    }

    /// Bytes in memory, and on the disk.
    pub(crate) fn n_bytes(&self) -> (u64, u64) {
        (self.memory.lock().n_bytes, self.disk.lock().n_bytes)
    }

    /// Bounds of both.
    pub(crate) fn bytes_max(&self) -> (u64, u64) {
        (self.memory.lock().bytes_max, self.disk.lock().bytes_max)
    }

    /// Removes everything of blocks that are not served any more.
    pub(crate) fn retain(&self, keep: &dyn Fn(BlockId) -> bool) -> io::Result<()> {
        self.memory.lock().retain_blocks(keep);
        self.disk.lock().retain_blocks(keep);
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if keys::block_of(&name).is_some_and(|block| !keep(block)) {
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }

    /// Where a block's files are kept.
    pub(crate) fn block_dir(&self, block: BlockId) -> PathBuf {
        self.directory.join(block.to_string())
    }

    /// Where a block's index header is kept.
    pub(crate) fn header_path(&self, block: BlockId) -> PathBuf {
        self.path(PageKey::header(block))
    }

    /// The header is there and was just used.
    pub(crate) fn note_header(&self, block: BlockId, n_bytes: u64) {
        let gone = {
            let mut disk = self.disk.lock();
            let key = PageKey::header(block);
            if disk.touch(key).is_some() {
                return;
            }
            disk.insert(key, (), n_bytes, None)
        };
        self.remove_files(gone);
    }

    /// Is the header on the disk, as far as anybody looked?
    pub(crate) fn has_header(&self, block: BlockId) -> bool {
        self.header_path(block).try_exists().unwrap_or(false)
    }

    pub(crate) fn in_memory(&self, key: PageKey) -> Option<Bytes> {
        self.memory.lock().touch(key).cloned()
    }

    /// A page of this length from the disk; from then on it is in memory too.
    pub(crate) fn on_disk(&self, key: PageKey, expect: u64, kind: Kind) -> Option<Bytes> {
        // Read and not mapped: a page may be written anew while it is read.
        let bytes = Bytes::from(fs::read(self.path(key)).ok()?);
        let at = bytes.len().checked_sub(size_of::<u32>())?;
        let (page, sum) = (bytes.slice(..at), bytes.slice(at..));
        if page.len() as u64 != expect || crc32c(&page).to_be_bytes() != *sum {
            return None;
        }
        {
            let mut disk = self.disk.lock();
            if disk.touch(key).is_none() {
                disk.insert(key, (), bytes.len() as u64, Some(kind));
            }
        }
        self.keep_in_memory(key, page.clone(), kind);
        Some(page)
    }

    /// Keeps a page in both places; the copy that is kept holds nothing else in memory.
    pub(crate) fn put(&self, key: PageKey, page: &[u8], kind: Kind) -> Bytes {
        let kept = Bytes::copy_from_slice(page);
        self.keep_in_memory(key, kept.clone(), kind);
        if let Err(error) = self.write(key, page) {
            // A full disk makes queries slow, not wrong.
            tracing::warn!(error = %error, "page not cached");
        } else {
            let n_bytes = (page.len() + size_of::<u32>()) as u64;
            let gone = self.disk.lock().insert(key, (), n_bytes, Some(kind));
            self.remove_files(gone);
        }
        kept
    }

    fn keep_in_memory(&self, key: PageKey, page: Bytes, kind: Kind) {
        let n_bytes = page.len() as u64;
        let gone = self.memory.lock().insert(key, page, n_bytes, Some(kind));
        for (_, kind) in gone {
            let counts = self.stats.of(kind.unwrap_or(Kind::Chunks));
            counts.memory_evictions.add(1);
        }
    }

    fn write(&self, key: PageKey, page: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        let create = || File::create(&path);
        let mut target = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.block_dir(key.block))?;
                create()?
            }
            target => target?,
        };
        target.write_all(page)?;
        target.write_all(&crc32c(page).to_be_bytes())
    }

    fn path(&self, key: PageKey) -> PathBuf {
        self.block_dir(key.block).join(key.file_name())
    }

    #[cfg(test)]
    pub(crate) fn path_of(&self, key: PageKey) -> PathBuf {
        self.path(key)
    }

    /// Gone already, or not to be removed: either way they are not kept any more.
    fn remove_files(&self, gone: Vec<(PageKey, Option<Kind>)>) {
        for (key, kind) in gone {
            remove_quietly(&self.path(key));
            if key.part == HEADER_PART {
                self.stats.header_evictions.add(1);
            } else {
                let counts = self.stats.of(kind.unwrap_or(Kind::Chunks));
                counts.disk_evictions.add(1);
            }
        }
    }
}

fn remove_quietly(path: &Path) {
    fs::remove_file(path).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n: u128) -> BlockId {
        BlockId::from_parts(1, n)
    }

    #[test]
    fn names_of_files_are_read_as_they_are_written() {
        for key in [
            PageKey::new(block(1), Part::Index, 0),
            PageKey::new(block(1), Part::Index, 77),
            PageKey::new(block(1), Part::Segment(12), 3),
            PageKey::header(block(1)),
        ] {
            assert_eq!(PageKey::parse(block(1), &key.file_name()), Some(key));
        }
        for name in [
            "index",
            "index.x",
            "chunks-.1",
            "chunks-4294967295.1",
            "other.1",
        ] {
            assert_eq!(PageKey::parse(block(1), name), None, "{name}");
        }
        let name = PageKey::new(block(1), Part::Segment(1), 2).file_name();
        assert_eq!(name, "chunks-000001.2");
    }

    #[test]
    fn both_bounds_hold_and_the_least_used_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let stats = Arc::new(Stats::default());
        let bounds = (250, 450);
        let store = PageStore::open(dir.path().to_owned(), bounds, Arc::clone(&stats)).unwrap();
        let key = |n| PageKey::new(block(1), Part::Index, n);
        for n in 0..10 {
            store.put(key(n), &[7; 100], Kind::Series);
            // The first one is used again and again.
            assert!(store.on_disk(key(0), 100, Kind::Series).is_some());
            let (memory, disk) = store.n_bytes();
            assert!(memory <= 250 && disk <= 450, "{memory} {disk}");
        }
        assert!(store.in_memory(key(0)).is_some());
        assert!(store.in_memory(key(1)).is_none());
        assert!(store.on_disk(key(1), 100, Kind::Series).is_none());
        assert_eq!(
            fs::read_dir(dir.path().join(block(1).to_string()))
                .unwrap()
                .count(),
            4
        );
        let read = stats.read().kinds[1].1;
        assert_eq!(read.disk_evictions, 6);
        assert!(7 <= read.memory_evictions, "{read:?}");
    }

    #[test]
    fn what_an_earlier_run_left_counts_and_the_oldest_goes_when_it_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let open = |disk_max| {
            let stats = Arc::new(Stats::default());
            PageStore::open(dir.path().to_owned(), (0, disk_max), stats).unwrap()
        };
        let store = open(1 << 20);
        for n in 0..5 {
            store.put(
                PageKey::new(block(n), Part::Index, 0),
                &[1; 96],
                Kind::Postings,
            );
        }
        let header = store.header_path(block(2));
        File::create(&header)
            .unwrap()
            .write_all(&[1; 1_000])
            .unwrap();
        store.note_header(block(2), 1_000);
        assert_eq!(store.n_bytes(), (0, 1_500));
        let again = open(1 << 20);
        again.scan().unwrap();
        assert_eq!(again.n_bytes(), (0, 1_500));
        assert!(again.has_header(block(2)));
        let smaller = open(1_200);
        smaller.scan().unwrap();
        assert!(smaller.n_bytes().1 <= 1_200);
        let none = open(0);
        none.scan().unwrap();
        assert_eq!(none.n_bytes(), (0, 0));
        assert!(!none.has_header(block(2)));
    }
}
