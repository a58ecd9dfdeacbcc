//! Files that name targets, read when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::scrape::discovery::glob::expand_glob;
use crate::scrape::discovery::groups::{parse_json, parse_yaml};
use crate::scrape::settings::TargetGroup;

const META_LABEL: &str = "__meta_filepath";
/// Files are read this long after the first of a series of changes.
const SETTLE: Duration = Duration::from_millis(100);
/// Larger files are refused.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The files of one discovery and what each said last.
#[derive(Debug)]
pub(super) struct Files {
    patterns: Vec<PathBuf>,
    groups: BTreeMap<PathBuf, Vec<TargetGroup>>,
}

impl Files {
    pub(super) fn new(patterns: Vec<PathBuf>) -> Self {
        Self {
            patterns,
            groups: BTreeMap::new(),
        }
    }

    /// Reads every file; one that cannot be read keeps what it said, one that is gone says nothing.
    pub(super) fn read(&mut self) -> Vec<TargetGroup> {
        let paths: Vec<PathBuf> = self
            .patterns
            .iter()
            .flat_map(|pattern| expand_glob(pattern))
            .collect();
        self.groups.retain(|path, _| paths.contains(path));
        for path in paths {
            match read_file(&path) {
                Ok(groups) => {
                    self.groups.insert(path, groups);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), error, "kept the targets of a file that cannot be read");
                }
            }
        }
        self.groups.values().flatten().cloned().collect()
    }

    /// Directories that hold, or would hold, files of the patterns.
    fn dirs(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = self
            .patterns
            .iter()
            .filter_map(|pattern| Some(pattern.parent()?.to_owned()))
            .collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }
}

fn read_file(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if FILE_BYTES_MAX < metadata.len() {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let meta = (META_LABEL, &*path.to_string_lossy());
    let is_json = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json {
        parse_json(text.as_bytes(), meta)
    } else {
        parse_yaml(&text, meta)
    }
}

/// Reads again after every change and after every interval, which also finds what the watcher missed.
pub(super) async fn watch(
    mut files: Files,
    refresh_ms: i64,
    publish: impl Fn(Vec<TargetGroup>) + Send,
) {
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_read_only = event.is_ok_and(|event| event.kind.is_access());
        if !is_read_only {
            // A full channel already says that something changed.
            changed.try_send(()).ok();
        }
    })
    .map_err(|error| {
        tracing::warn!(error = %error, "target files are read at intervals only");
    })
    .ok();
    let refresh = Duration::from_millis(u64::try_from(refresh_ms).unwrap_or(u64::MAX));
    loop {
        // A directory that was not there before may be there now; watching one twice is watching it once.
        for dir in files.dirs() {
            if let Some(watcher) = &mut watcher
                && let Err(error) = watcher.watch(&dir, RecursiveMode::NonRecursive)
            {
                tracing::debug!(dir = %dir.display(), error = %error, "a directory is not watched");
            }
        }
        let (again, groups) = match tokio::task::spawn_blocking(move || {
            let groups = files.read();
            (files, groups)
        })
        .await
        {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(error = %error, "file discovery ended");
                return;
            }
        };
        files = again;
        publish(groups);
        tokio::select! {
            Some(()) = changes.recv() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(refresh) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::durable::replace_file;

    fn addresses(groups: &[TargetGroup]) -> Vec<&str> {
        groups
            .iter()
            .flat_map(|group| group.addresses.iter().map(String::as_str))
            .collect()
    }

    #[test]
    fn a_broken_file_keeps_its_targets_and_a_removed_one_loses_them() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.json"), dir.path().join("b.yml"));
        replace_file(&a, br#"[{"targets":["a:1"]}]"#).unwrap();
        replace_file(&b, b"- targets: [b]\n").unwrap();
        let patterns = vec![dir.path().join("*.json"), dir.path().join("*.yml")];
        let mut files = Files::new(patterns);
        let groups = files.read();
        assert_eq!(addresses(&groups), ["a:1", "b"]);
        assert_eq!(groups[0].labels.value(META_LABEL), a.to_str().unwrap());
        replace_file(&a, b"[{").unwrap();
        assert_eq!(addresses(&files.read()), ["a:1", "b"]);
        std::fs::remove_file(&b).unwrap();
        assert_eq!(addresses(&files.read()), ["a:1"]);
    }

    #[tokio::test]
    async fn a_change_is_seen_long_before_the_interval_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        replace_file(&path, br#"[{"targets":["a"]}]"#).unwrap();
        let (seen, mut published) = mpsc::channel(16);
        let files = Files::new(vec![path.clone()]);
        let task = tokio::spawn(watch(files, 3_600_000, move |groups| {
            seen.try_send(groups).unwrap();
        }));
        assert_eq!(addresses(&published.recv().await.unwrap()), ["a"]);
        replace_file(&path, br#"[{"targets":["b"]}]"#).unwrap();
        let change = async {
            loop {
                let groups = published.recv().await.unwrap();
                if addresses(&groups) == ["b"] {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), change)
            .await
            .unwrap();
        task.abort();
    }
}
