//! How parts of the log are called in the bucket. A name says what the part is; nothing else need be read to know what is
//! there.

use std::collections::BTreeMap;

use crate::bucket::ObjectInfo;
use crate::model::BlockId;

/// Below this lie the logs of all appliances; no reader of blocks takes it for one.
pub(crate) const ROOT: &str = "gauntlet/wal";
/// What of an instance counts; see [`crate::shipper::log::state`].
pub(crate) const STATE: &str = "state.json";
/// Ends the name of the last part of a file that nobody writes any more.
const END: &str = ".end";

/// `gauntlet/wal/<instance>`.
pub(crate) fn instance_dir(instance: BlockId) -> String {
    format!("{ROOT}/{instance}")
}

/// `gauntlet/wal/<instance>/state.json`.
pub(crate) fn state_key(instance: BlockId) -> String {
    format!("{ROOT}/{instance}/{STATE}")
}

/// Some bytes of a file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    /// Where in the file it begins.
    pub(crate) offset: u64,
    pub(crate) n_bytes: u64,
    pub(crate) crc32c: u32,
    /// The file ends with it.
    pub(crate) is_last: bool,
}

impl Part {
    /// `<offset>-<length>-<crc32c>`, with `.end` behind the last one.
    pub(crate) fn name(&self) -> String {
        let end = if self.is_last { END } else { "" };
        let Self {
            offset,
            n_bytes,
            crc32c,
            ..
        } = self;
        format!("{offset:012}-{n_bytes:08}-{crc32c:08x}{end}")
    }

    /// Mirror of [`Part::name`].
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (rest, is_last) = match name.strip_suffix(END) {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let mut fields = rest.split('-');
        let part = Self {
            offset: fields.next()?.parse().ok()?,
            n_bytes: fields.next()?.parse().ok()?,
            crc32c: u32::from_str_radix(fields.next()?, 16).ok()?,
            is_last,
        };
        // One spelling each: what is spelt otherwise is somebody else's.
        (fields.next().is_none() && part.name() == name).then_some(part)
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.n_bytes)
    }
}

/// A file of the log as the bucket has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RemoteFile {
    /// All whole parts, by offset and length.
    pub(crate) parts: Vec<Part>,
    /// Keys of everything below the file's name, parts or not.
    pub(crate) keys: Vec<String>,
    /// When the youngest part was written, by the bucket's clock.
    pub(crate) modified_ms: i64,
}

impl RemoteFile {
    /// The parts that follow each other from the file's start: of those that begin at the same place the longest.
    pub(crate) fn chain(&self) -> Vec<Part> {
        let mut chain: Vec<Part> = Vec::new();
        let mut at = 0;
        loop {
            let here = self.parts.iter().filter(|part| part.offset == at);
            let Some(next) = here.max_by_key(|part| (part.n_bytes, part.is_last)) else {
                return chain;
            };
            chain.push(*next);
            if next.n_bytes == 0 || next.is_last {
                return chain;
            }
            at = next.end();
        }
    }
}

/// The files of one instance, by path in the data directory. A part whose object is shorter or longer than its name says
/// is none.
pub(crate) fn files(instance: BlockId, listed: &[ObjectInfo]) -> BTreeMap<String, RemoteFile> {
    let prefix = format!("{}/", instance_dir(instance));
    let mut files: BTreeMap<String, RemoteFile> = BTreeMap::new();
    for info in listed {
        let Some(rest) = info.key.strip_prefix(&prefix) else {
            continue;
        };
        let Some((path, name)) = rest.rsplit_once('/') else {
            continue;
        };
        let file = files.entry(path.to_owned()).or_default();
        file.keys.push(info.key.clone());
        if let Some(part) = Part::parse(name).filter(|part| part.n_bytes == info.size) {
            file.parts.push(part);
            file.modified_ms = file.modified_ms.max(info.modified_ms);
        }
    }
    for file in files.values_mut() {
        file.parts.sort_unstable();
    }
    files
}

/// The instances that have something in the bucket.
pub(crate) fn instances(listed: &[ObjectInfo]) -> Vec<BlockId> {
    let ids = listed.iter().filter_map(|info| {
        let rest = info.key.strip_prefix(ROOT)?.strip_prefix('/')?;
        rest.split('/').next()?.parse::<BlockId>().ok()
    });
    let mut ids: Vec<BlockId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: u64, n_bytes: u64, is_last: bool) -> Part {
        Part {
            offset,
            n_bytes,
            crc32c: 0x00ab_cdef,
            is_last,
        }
    }

    #[test]
    fn names_are_these() {
        let id: BlockId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        assert_eq!(
            state_key(id),
            "gauntlet/wal/01ARZ3NDEKTSV4RRFFQ69G5FAV/state.json"
        );
        let golden = "000000065536-00001234-00abcdef";
        assert_eq!(part(65536, 1234, false).name(), golden);
        assert_eq!(Part::parse(golden), Some(part(65536, 1234, false)));
        let last = format!("{golden}.end");
        assert_eq!(Part::parse(&last), Some(part(65536, 1234, true)));
        assert_eq!(crate::bucket::keys::block_of(&state_key(id)), None);
    }

    #[test]
    fn every_truncation_of_a_name_is_another_part_or_none() {
        let name = part(65536, 1234, true).name();
        for len in 0..name.len() {
            let cut = name.get(..len).unwrap();
            assert!(Part::parse(cut).is_none_or(|part| !part.is_last), "{cut}");
        }
        for other in [
            "",
            "1-2-3",
            "000000065536-00001234-00ABCDEF",
            "-1-2-3",
            "a-b-c",
        ] {
            assert_eq!(Part::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_longest_parts_that_follow_each_other_count() {
        let file = |parts: &[Part]| RemoteFile {
            parts: parts.to_vec(),
            ..RemoteFile::default()
        };
        let parts = [
            part(0, 10, false),
            part(0, 25, false),
            part(10, 5, false),
            part(25, 5, false),
            part(31, 5, true),
        ];
        assert_eq!(file(&parts).chain(), [parts[1], parts[3]]);
        let whole = [part(0, 10, false), part(10, 0, true)];
        assert_eq!(file(&whole).chain(), whole);
        assert_eq!(file(&[part(3, 10, true)]).chain(), []);
    }
}
