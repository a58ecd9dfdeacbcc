//! What of the log is on the local disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::BlockMeta;
use crate::bucket::keys;
use crate::foundation::checksum::crc32c;
use crate::model::TimestampMs;
use crate::shipper::error::ShipError;
use crate::shipper::local::failed;
use crate::shipper::log::names::Part;
use crate::shipper::state;
use crate::wal::{LogEnd, SegmentFile, WalError, last_checkpoint, list_segments, segment_name};

/// The log, the log of what came out of order, and both of the young head, by directory in the data directory.
pub(crate) const WAL: &str = "wal";
pub(crate) const WBL: &str = "wbl";
pub(crate) const YOUNG: &str = "head-young";

/// Segments kept open although they were removed here: bounds the disk space that a bucket which is away costs.
const HELD_MAX: usize = 8;

/// Segments that are not in the bucket as a whole, by name; open, so that a checkpoint which removes them does not take
/// what was never sent.
pub(crate) type Held = BTreeMap<String, Arc<File>>;

/// What the database says of its logs at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogView {
    /// Logs that are written, by directory, and where what was acknowledged ends; later bytes may be taken back.
    pub ends: Vec<(String, LogEnd)>,
    /// `wal` and `wbl` are being replayed: nobody writes them, but what is damaged in them may be repaired.
    pub is_replaying: bool,
    /// Samples in order that are older are in local blocks or were in some.
    pub floor_ms: Option<i64>,
    /// When the database was asked: what was acknowledged before is within the ends.
    pub at_ms: TimestampMs,
}

/// A file that goes up to `upto`.
#[derive(Debug, Clone)]
pub(crate) struct DiskFile {
    /// Within the data directory, as the bucket names it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) upto: u64,
    /// Nobody writes it any more.
    pub(crate) is_closed: bool,
    /// Where it is open already.
    pub(crate) held: Option<Arc<File>>,
}

/// The logs at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    /// Number and files of the newest checkpoint.
    pub(crate) checkpoint: Option<(u32, Vec<(u32, DiskFile)>)>,
    /// Segments in the order in which they go up.
    pub(crate) segments: Vec<DiskFile>,
    pub(crate) wal_first: u32,
    pub(crate) wbl_first: u32,
    /// The newest segment of each log.
    pub(crate) newest: Vec<(String, u32)>,
}

impl Disk {
    /// Looks at the logs.
    pub(crate) fn look(dir: &Path, view: &LogView) -> Result<Self, ShipError> {
        let mut disk = Self::default();
        let wal = dir.join(WAL);
        let checkpoint = last_checkpoint(&wal).map_err(log_failed(&wal))?;
        if let Some(checkpoint) = &checkpoint {
            let files = list_segments(&checkpoint.path).map_err(log_failed(&checkpoint.path))?;
            let name = format!("{WAL}/checkpoint.{:08}", checkpoint.number);
            let files = files.iter().map(|file| (file.number, whole(&name, file)));
            disk.checkpoint = Some((checkpoint.number, files.collect()));
        }
        let folded_in = checkpoint.map(|checkpoint| checkpoint.number);
        let behind = folded_in.map_or(0, |number| number.saturating_add(1));
        disk.wal_first = disk.add(dir, WAL, view, behind)?;
        disk.wbl_first = disk.add(dir, WBL, view, 0)?;
        for log in [WAL, WBL] {
            disk.add(dir, &format!("{YOUNG}/{log}"), view, 0)?;
        }
        Ok(disk)
    }

    /// Adds the segments of one log from `first` on; says which is the first one there is.
    fn add(&mut self, dir: &Path, log: &str, view: &LogView, first: u32) -> Result<u32, ShipError> {
        let path = dir.join(log);
        let end = view.ends.iter().find(|(name, _)| name == log);
        let end = end.map(|(_, end)| *end);
        let is_of_young = log.starts_with(YOUNG);
        if end.is_none() && (is_of_young || !view.is_replaying) {
            return Ok(first);
        }
        let segments = list_segments(&path).map_err(log_failed(&path))?;
        let last = segments.last().map(|segment| segment.number);
        let wanted = segments.iter().filter(|segment| first <= segment.number);
        let mut found = None;
        for segment in wanted {
            let mut file = whole(log, segment);
            match end {
                // Began after the database was asked.
                Some(end) if end.segment < segment.number => break,
                Some(end) if end.segment == segment.number => {
                    file.upto = end.n_bytes;
                    file.is_closed = false;
                }
                Some(_) => (),
                None => file.is_closed = Some(segment.number) < last,
            }
            found = found.or(Some(segment.number));
            self.segments.push(file);
            self.newest.retain(|(name, _)| name != log);
            self.newest.push((log.to_owned(), segment.number));
        }
        Ok(found.unwrap_or(first))
    }
}

impl Disk {
    /// Holds the segments that are not among `sent`, and adds those that were held and are gone from the directory.
    pub(crate) fn hold(&mut self, mut held: Held, sent: &BTreeSet<String>) -> Held {
        held.retain(|name, _| !sent.contains(name));
        let here: BTreeSet<&String> = self.segments.iter().map(|file| &file.name).collect();
        let (here, mut gone): (Held, Held) =
            held.into_iter().partition(|(name, _)| here.contains(name));
        while HELD_MAX < gone.len() {
            gone.pop_last();
        }
        held = here;
        for file in &mut self.segments {
            if sent.contains(&file.name) || file.name.starts_with(YOUNG) {
                continue;
            }
            if let Some(open) = held.get(&file.name) {
                file.held = Some(Arc::clone(open));
            } else if let Ok(open) = File::open(&file.path) {
                let open = Arc::new(open);
                file.held = Some(Arc::clone(&open));
                held.insert(file.name.clone(), open);
            }
        }
        for (name, open) in &gone {
            let Ok(metadata) = open.metadata() else {
                continue;
            };
            self.segments.push(DiskFile {
                name: name.clone(),
                path: PathBuf::from(name),
                upto: metadata.len(),
                is_closed: true,
                held: Some(Arc::clone(open)),
            });
        }
        // The log, then late samples, then the young head's: by name but for the first two, which are in this order too.
        self.segments
            .sort_by_key(|file| (file.name.starts_with(YOUNG), file.name.clone()));
        held.extend(gone);
        held
    }
}

fn whole(log: &str, segment: &SegmentFile) -> DiskFile {
    DiskFile {
        name: format!("{log}/{}", segment_name(segment.number)),
        path: segment.path.clone(),
        upto: segment.n_bytes,
        is_closed: true,
        held: None,
    }
}

fn log_failed(path: &Path) -> impl FnOnce(WalError) -> ShipError {
    let path = path.to_owned();
    move |cause| failed("list log in", &path)(io::Error::other(cause.to_string()))
}

/// Whether every block that is to be shipped is.
pub(crate) fn has_all_blocks(dir: &Path) -> Result<bool, ShipError> {
    let list = || failed("list blocks in", dir);
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).map_err(list())? {
        let name = entry.map_err(list())?.file_name();
        ids.extend(name.to_str().and_then(keys::block_of));
    }
    let (uploaded, _) = state::read(dir);
    ids.retain(|id| !uploaded.contains(id));
    Ok(ids.iter().all(|id| {
        BlockMeta::read(&dir.join(id.to_string())).is_ok_and(|meta| {
            // An empty one holds nothing, and what a compacted one is made of was uploaded itself.
            meta.stats.num_samples == 0 || 1 < meta.compaction.level
        })
    }))
}

/// So many bytes of a file.
pub(crate) fn read_piece(file: &DiskFile, offset: u64, n_bytes: u64) -> Result<Vec<u8>, ShipError> {
    let read = || {
        let opened = match &file.held {
            Some(held) => Arc::clone(held),
            None => Arc::new(File::open(&file.path)?),
        };
        let mut piece = vec![0; usize::try_from(n_bytes).map_err(io::Error::other)?];
        opened.read_exact_at(&mut piece, offset)?;
        Ok(piece)
    };
    read().map_err(failed("read", &file.path))
}

/// Whether the file begins with what the parts say.
pub(crate) fn has_parts(file: &DiskFile, parts: &[Part]) -> bool {
    parts.iter().all(|part| {
        let is_within = part.end() <= file.upto;
        let is_end = !part.is_last || (file.is_closed && part.end() == file.upto);
        is_within
            && is_end
            && read_piece(file, part.offset, part.n_bytes)
                .is_ok_and(|piece| crc32c(&piece) == part.crc32c)
    })
}
