//! What is known of the log in the bucket, and what of it is under way.

use std::collections::{BTreeMap, VecDeque};

use crate::model::TimestampMs;
use crate::shipper::log::disk::{Disk, DiskFile, Held};
use crate::shipper::log::names::Part;
use crate::shipper::log::state::{Instance, LogState};
use crate::shipper::log::upkeep::covered;

/// A file as the bucket has it.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// What is there: each begins where the one before it ends, the first one at the file's start.
    pub(crate) parts: Vec<Part>,
    /// What is under way behind those, in the order of the file.
    coming: VecDeque<Coming>,
    /// Everything below the file's name.
    pub(crate) keys: Vec<String>,
    /// What is here is known to begin with what is there.
    pub(crate) is_checked: bool,
    /// Parts that did not get there; what was sent behind them does not count.
    n_lost: u64,
}

/// Bytes of a file that are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) offset: u64,
    pub(crate) n_bytes: u64,
    /// The file ends with them.
    pub(crate) is_last: bool,
}

/// A part that was sent.
#[derive(Debug)]
struct Coming {
    part: Part,
    /// It is there, one before it is not.
    is_there: bool,
}

impl Sent {
    /// Where what is there ends.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.parts.last().map_or(0, Part::end)
    }

    /// All of a file that nobody writes any more is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.parts.last().is_some_and(|part| part.is_last)
    }

    /// The part with which it goes on, of a file that reaches up to `file.upto`; `None` where nothing is new. What is
    /// under way counts as there.
    pub(crate) fn next(&self, file: &DiskFile, n_bytes_max: u64) -> Option<Next> {
        let last = self.coming.back().map(|coming| &coming.part);
        let last = last.or(self.parts.last());
        let offset = last.map_or(0, Part::end);
        let n_bytes = file.upto.saturating_sub(offset).min(n_bytes_max);
        let is_last = file.is_closed && offset + n_bytes == file.upto;
        let is_done = last.is_some_and(|part| part.is_last) || (n_bytes == 0 && !is_last);
        (!is_done).then_some(Next {
            offset,
            n_bytes,
            is_last,
        })
    }
}

/// What is known of the log in the bucket. Whoever has it locked waits for nobody.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) instance: Option<Instance>,
    /// `None` until the bucket has been asked.
    pub(crate) files: Option<BTreeMap<String, Sent>>,
    pub(crate) state: Option<LogState>,
    pub(crate) held: Held,
    pub(crate) was_replaying: bool,
    /// Keys of parts whose bytes are in another part too, by file, and since when.
    pub(crate) joined: Vec<(String, String, TimestampMs)>,
    /// When logs of others were looked at.
    pub(crate) looked_ms: Option<TimestampMs>,
}

impl Known {
    pub(crate) fn sent(&mut self, name: &str) -> &mut Sent {
        let files = self.files.get_or_insert_default();
        files.entry(name.to_owned()).or_default()
    }

    /// The part has been sent, under this key. Known before it is there: it has to go again even if the answer is lost.
    pub(crate) fn set_out(&mut self, name: &str, part: Part, key: &str) {
        let sent = self.sent(name);
        sent.coming.push_back(Coming {
            part,
            is_there: false,
        });
        self.named(name, key);
    }

    /// Something is about to be written under this key.
    pub(crate) fn named(&mut self, name: &str, key: &str) {
        let keys = &mut self.sent(name).keys;
        if keys.iter().all(|known| known != key) {
            keys.push(key.to_owned());
        }
    }

    /// The part is there. It counts as soon as all before it are.
    pub(crate) fn arrived(&mut self, name: &str, part: Part) {
        let sent = self.sent(name);
        for coming in &mut sent.coming {
            coming.is_there |= coming.part == part;
        }
        while sent.coming.front().is_some_and(|coming| coming.is_there) {
            let there = sent.coming.pop_front().map(|coming| coming.part);
            sent.parts.extend(there);
        }
    }

    /// The part is not there, or nobody knows: the file goes on from where it begins.
    pub(crate) fn lost(&mut self, name: &str, part: Part) {
        let sent = self.sent(name);
        if let Some(at) = sent.coming.iter().position(|coming| coming.part == part) {
            sent.coming.truncate(at);
            sent.n_lost += 1;
        }
    }

    /// How often a part of these files was lost.
    pub(crate) fn n_lost(&self, files: &[DiskFile]) -> u64 {
        self.of(files).map(|sent| sent.n_lost).sum()
    }

    /// Is the part there, with all before it? `None` while it is under way.
    pub(crate) fn is_there(&self, name: &str, part: Part) -> Option<bool> {
        let Some(sent) = self.file(name) else {
            return Some(false);
        };
        if sent.coming.iter().any(|coming| coming.part == part) {
            return None;
        }
        Some(part.end() <= sent.n_bytes() && (!part.is_last || sent.is_whole()))
    }

    /// Of each of these files the last part that is under way.
    pub(crate) fn last_coming(&self, files: &[DiskFile]) -> Vec<(String, Part)> {
        let last = files.iter().filter_map(|file| {
            let coming = self.file(&file.name)?.coming.back()?;
            Some((file.name.clone(), coming.part))
        });
        last.collect()
    }

    /// Is nothing under way of these files?
    pub(crate) fn is_quiet(&self, files: &[DiskFile]) -> bool {
        self.of(files).all(|sent| sent.coming.is_empty())
    }

    /// Is nothing under way at all?
    pub(crate) fn is_idle(&self) -> bool {
        let mut files = self.files.iter().flat_map(BTreeMap::values);
        files.all(|sent| sent.coming.is_empty())
    }

    /// Bytes of these files that are under way.
    pub(crate) fn n_bytes_coming(&self, files: &[DiskFile]) -> u64 {
        let coming = self.of(files).flat_map(|sent| &sent.coming);
        coming.map(|coming| coming.part.n_bytes).sum()
    }

    /// `part` has the bytes of `parts`, which go when nobody can be reading them any more.
    pub(crate) fn joined(&mut self, name: &str, parts: &[Part], part: Part, now_ms: TimestampMs) {
        let sent = self.sent(name);
        let is_first = |known: &Part| Some(known) == parts.first();
        let Some(from) = sent.parts.iter().position(is_first) else {
            return;
        };
        let run = from..from.saturating_add(parts.len());
        // Meanwhile the file may have been removed and begun anew.
        if sent.parts.get(run.clone()) != Some(parts) {
            return;
        }
        sent.parts.splice(run, [part]);
        let replaced: Vec<String> = covered(&sent.keys, &[part]).cloned().collect();
        let replaced = replaced.into_iter();
        self.joined
            .extend(replaced.map(|key| (name.to_owned(), key, now_ms)));
    }

    /// File and key of a part that was replaced then or before; not where all of the file has gone.
    pub(crate) fn take_replaced(&mut self, until_ms: TimestampMs) -> Option<(String, String)> {
        loop {
            let is_over = |(.., since): &(String, String, TimestampMs)| *since <= until_ms;
            let at = self.joined.iter().position(is_over)?;
            let (name, key, _) = self.joined.swap_remove(at);
            if self
                .file(&name)
                .is_some_and(|sent| sent.keys.contains(&key))
            {
                return Some((name, key));
            }
        }
    }

    /// The names of files that are so.
    pub(crate) fn names(&self, is_so: impl Fn(&&String) -> bool) -> Vec<String> {
        let names = self.files.iter().flat_map(BTreeMap::keys);
        names.filter(is_so).cloned().collect()
    }

    fn file(&self, name: &str) -> Option<&Sent> {
        self.files.as_ref()?.get(name)
    }

    fn of<'a>(&'a self, files: &'a [DiskFile]) -> impl Iterator<Item = &'a Sent> {
        files.iter().filter_map(|file| self.file(&file.name))
    }

    /// Bytes that are here only.
    pub(crate) fn backlog(&self, disk: &Disk) -> u64 {
        let sent = |file: &DiskFile| self.file(&file.name).map_or(0, Sent::n_bytes);
        let here = disk.segments.iter();
        here.map(|file| file.upto.saturating_sub(sent(file))).sum()
    }

    /// Objects of the log.
    pub(crate) fn n_keys(&self) -> u64 {
        let files = self.files.iter().flat_map(BTreeMap::values);
        files.map(|file| file.keys.len() as u64).sum()
    }
}
