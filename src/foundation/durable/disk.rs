//! What a disk may hold after a crash, worked out from the operations before it.
//!
//! The rules are POSIX's: a file's content is safe up to its last fsync, a name is safe from the fsync of its directory
//! on. What is not safe may be there, in part or not at all; a rename happens whole or not.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::foundation::durable::watch::Operation;

/// What is lost beside what was never done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Only the process ends: everything done is there; the last write may be torn.
    Kill,
    /// The machine ends: nothing is there that was not synced.
    PowerLost,
    /// The machine ends: names and lengths got through, unsynced content is zeros.
    PowerLostZeros,
    /// The machine ends: of each file and each directory a part of what was not synced is there.
    PowerLostPartly(u64),
}

#[derive(Debug, Clone)]
enum Node {
    Dir,
    File(usize),
}

/// What is not safe yet of one file.
#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    changes: Vec<Change>,
}

/// A step in the tree of names.
#[derive(Debug, Clone)]
enum Step {
    Add(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

type Tree = BTreeMap<PathBuf, Node>;

/// A disk that has gone through some operations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    files: Vec<Content>,
    now: Tree,
    synced: Tree,
    /// Steps that are not synced, with the directory whose fsync makes them so.
    steps: Vec<(PathBuf, Step)>,
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let start = usize::try_from(*offset).unwrap();
                let end = start + bytes.len();
                content.resize(content.len().max(end), 0);
                content[start..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(usize::try_from(*len).unwrap(), 0),
        }
    }
}

impl Step {
    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Add(path, node) => {
                tree.insert(path.clone(), node.clone());
            }
            Self::Remove(path) => tree.retain(|at, _| !at.starts_with(path)),
            Self::Rename(from, to) => {
                if !tree.contains_key(from) {
                    return;
                }
                tree.retain(|at, _| !at.starts_with(to));
                let inside: Vec<PathBuf> = tree
                    .keys()
                    .filter(|at| at.starts_with(from))
                    .cloned()
                    .collect();
                for path in inside {
                    let node = tree.remove(&path).unwrap();
                    let rest = path.strip_prefix(from).unwrap();
                    let moved = match rest.as_os_str().is_empty() {
                        true => to.clone(),
                        false => to.join(rest),
                    };
                    tree.insert(moved, node);
                }
            }
        }
    }
}

/// A small generator; the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }
}

impl Disk {
    pub(crate) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::CreateDir(path) => self.step(path, Step::Add(path.clone(), Node::Dir)),
            Operation::Create(path) => match self.now.get(path) {
                Some(Node::File(file)) => self.change(*file, Change::SetLen(0)),
                _ => {
                    self.files.push(Content::default());
                    let node = Node::File(self.files.len() - 1);
                    self.step(path, Step::Add(path.clone(), node));
                }
            },
            Operation::Write {
                path,
                offset,
                bytes,
            } => {
                if let Some(file) = self.file(path) {
                    self.change(file, Change::Write(*offset, bytes.clone()));
                }
            }
            Operation::SetLen(path, len) => {
                if let Some(file) = self.file(path) {
                    self.change(file, Change::SetLen(*len));
                }
            }
            Operation::Sync(path) => {
                if let Some(file) = self.file(path) {
                    let content = &mut self.files[file];
                    content.synced.clone_from(&content.now);
                    content.changes.clear();
                }
            }
            Operation::SyncDir(dir) => {
                let (safe, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.steps)
                    .into_iter()
                    .partition(|(of, _)| of == dir);
                safe.iter()
                    .for_each(|(_, step)| step.apply(&mut self.synced));
                self.steps = rest;
            }
            Operation::Rename(from, to) => self.step(to, Step::Rename(from.clone(), to.clone())),
            Operation::Link(from, to) => {
                if let Some(file) = self.file(from) {
                    self.step(to, Step::Add(to.clone(), Node::File(file)));
                }
            }
            Operation::RemoveFile(path) | Operation::RemoveDir(path) => {
                self.step(path, Step::Remove(path.clone()));
            }
        }
    }

    /// Files that are open keep their old names in later operations when a directory above was renamed; none here are.
    fn file(&self, path: &Path) -> Option<usize> {
        match self.now.get(path) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    fn change(&mut self, file: usize, change: Change) {
        let content = &mut self.files[file];
        change.apply(&mut content.now);
        content.changes.push(change);
    }

    fn step(&mut self, path: &Path, step: Step) {
        step.apply(&mut self.now);
        let dir = path.parent().unwrap().to_owned();
        self.steps.push((dir, step));
    }

    /// Writes what survives of everything below `root` into `target`.
    pub(crate) fn survivors(&self, crash: Crash, root: &Path, target: &Path) -> io::Result<()> {
        let mut dice = Dice(match crash {
            Crash::PowerLostPartly(seed) => seed,
            Crash::Kill | Crash::PowerLost | Crash::PowerLostZeros => 0,
        });
        let tree = match crash {
            Crash::Kill | Crash::PowerLostZeros => self.now.clone(),
            Crash::PowerLost => self.synced.clone(),
            Crash::PowerLostPartly(_) => self.some_steps(&mut dice),
        };
        let mut contents: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (path, node) in &tree {
            let Ok(rest) = path.strip_prefix(root) else {
                continue;
            };
            let at = target.join(rest);
            match node {
                // A directory that is not there loses what is in it.
                _ if !at.parent().unwrap().is_dir() => (),
                Node::Dir => std::fs::create_dir_all(&at)?,
                Node::File(file) => {
                    let content = contents
                        .entry(*file)
                        .or_insert_with(|| self.content(*file, crash, &mut dice));
                    std::fs::File::create(&at)?.write_all(content)?;
                }
            }
        }
        Ok(())
    }

    /// Of each directory the first few steps, in their order.
    fn some_steps(&self, dice: &mut Dice) -> Tree {
        let mut n_steps: BTreeMap<&Path, usize> = BTreeMap::new();
        for (dir, _) in &self.steps {
            *n_steps.entry(dir).or_default() += 1;
        }
        for n in n_steps.values_mut() {
            *n = dice.below(*n + 1);
        }
        let mut tree = self.synced.clone();
        for (dir, step) in &self.steps {
            let left = n_steps.get_mut(dir.as_path()).unwrap();
            if *left > 0 {
                *left -= 1;
                step.apply(&mut tree);
            }
        }
        tree
    }

    fn content(&self, file: usize, crash: Crash, dice: &mut Dice) -> Vec<u8> {
        let content = &self.files[file];
        match crash {
            Crash::Kill => content.now.clone(),
            Crash::PowerLost => content.synced.clone(),
            Crash::PowerLostZeros => {
                let mut bytes = content.synced.clone();
                bytes.resize(content.now.len(), 0);
                bytes
            }
            Crash::PowerLostPartly(_) => {
                let mut bytes = content.synced.clone();
                let n_whole = dice.below(content.changes.len() + 1);
                let (whole, rest) = content.changes.split_at(n_whole);
                whole.iter().for_each(|change| change.apply(&mut bytes));
                if let Some(Change::Write(offset, torn)) = rest.first() {
                    let part = torn[..dice.below(torn.len() + 1)].to_vec();
                    Change::Write(*offset, part).apply(&mut bytes);
                }
                bytes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::durable::watch::Watch;
    use crate::foundation::durable::{
        DurableFile, create_dir, remove_dir_all, rename_durably, replace_file, sync_dir,
    };

    fn after(watch: &Watch, crash: Crash, root: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut disk = Disk::default();
        for operation in watch.operations() {
            disk.apply(&operation);
        }
        let target = tempfile::tempdir().unwrap();
        disk.survivors(crash, root, target.path()).unwrap();
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(target.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.insert(name, std::fs::read(&path).unwrap_or_default());
        }
        found
    }

    fn entry(name: &str, content: &[u8]) -> (String, Vec<u8>) {
        (name.to_owned(), content.to_vec())
    }

    #[test]
    fn what_was_not_synced_is_lost_with_the_power_and_not_with_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let watch = Watch::of(root);
        let mut file = DurableFile::create_new(&root.join("log")).unwrap();
        file.write_all(b"safe").unwrap();
        file.sync_data().unwrap();
        assert_eq!(after(&watch, Crash::PowerLost, root), BTreeMap::new());
        sync_dir(root).unwrap();
        file.write_all(b"lost").unwrap();
        replace_file(&root.join("meta"), b"old").unwrap();
        let kept = BTreeMap::from([entry("log", b"safelost"), entry("meta", b"old")]);
        assert_eq!(after(&watch, Crash::Kill, root), kept);
        let kept = BTreeMap::from([entry("log", b"safe"), entry("meta", b"old")]);
        assert_eq!(after(&watch, Crash::PowerLost, root), kept);
        let zeros = after(&watch, Crash::PowerLostZeros, root);
        assert_eq!(zeros["log"], b"safe\0\0\0\0");
        for seed in 0..20 {
            let partly = after(&watch, Crash::PowerLostPartly(seed), root);
            assert!(b"safelost".starts_with(&partly["log"]), "{partly:?}");
            assert!(partly["log"].len() >= 4);
        }
        file.set_len(2).unwrap();
        file.write_all(b"!").unwrap();
        assert_eq!(after(&watch, Crash::Kill, root)["log"], b"sa!");
        assert_eq!(after(&watch, Crash::PowerLost, root)["log"], b"safe");
    }

    #[test]
    fn directories_move_and_go_with_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let watch = Watch::of(root);
        create_dir(&root.join("a.tmp")).unwrap();
        DurableFile::create_new(&root.join("a.tmp/x")).unwrap();
        rename_durably(&root.join("a.tmp"), &root.join("a")).unwrap();
        let mut disk = Disk::default();
        watch.operations().iter().for_each(|o| disk.apply(o));
        assert!(disk.now.contains_key(&root.join("a/x")));
        // Nobody synced the directory itself.
        assert!(disk.synced.contains_key(&root.join("a")));
        assert!(!disk.synced.contains_key(&root.join("a/x")));
        remove_dir_all(&root.join("a")).unwrap();
        assert_eq!(after(&watch, Crash::Kill, root), BTreeMap::new());
        assert_eq!(after(&watch, Crash::PowerLost, root).len(), 1);
        let written = watch.n_operations();
        watch.set_room(3);
        let full = replace_file(&root.join("b"), b"12345").unwrap_err();
        assert!(crate::foundation::durable::is_full(&full), "{full:?}");
        assert_eq!(after(&watch, Crash::Kill, root)["b.tmp"], b"123");
        assert_eq!(watch.n_operations(), written + 2);
    }
}
