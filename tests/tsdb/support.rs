//! Samples as maps, so that two databases can be compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gauntlet::chunk::decode_floats;
use gauntlet::foundation::ManualClock;
use gauntlet::model::{Interval, Labels, MatchType, Matcher};
use gauntlet::storage::{Queryable, SelectHints};
use gauntlet::tsdb::{Tsdb, TsdbSettings};

/// Bits of values by series and time.
pub(crate) type Samples = BTreeMap<String, BTreeMap<i64, u64>>;

pub(crate) fn open(dir: &Path, settings: TsdbSettings) -> Tsdb {
    Tsdb::open(dir, settings, Arc::new(ManualClock::new(1_700_000_000_000))).unwrap()
}

/// Every sample of a source in `interval`, each timestamp once.
pub(crate) fn samples(source: &dyn Queryable, interval: Interval) -> Samples {
    let all = [Matcher::new(MatchType::Regex, "__name__", ".+").unwrap()];
    let mut set = source.select(&all, &SelectHints::new(interval)).unwrap();
    let mut found = Samples::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &series.chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
        }
        let mut merged = BTreeMap::new();
        for (t, v) in times.into_iter().zip(values) {
            if interval.contains(t) {
                merged.entry(t).or_insert(v.to_bits());
            }
        }
        if !merged.is_empty() {
            found.insert(canonical(&series.labels), merged);
        }
    }
    found
}

pub(crate) fn canonical(labels: &Labels) -> String {
    labels.to_string()
}

/// Says which series differ, not what all of them hold.
pub(crate) fn assert_same(ours: &Samples, theirs: &Samples) {
    let missing: Vec<_> = theirs
        .keys()
        .filter(|key| !ours.contains_key(*key))
        .collect();
    let extra: Vec<_> = ours
        .keys()
        .filter(|key| !theirs.contains_key(*key))
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}, extra {extra:?}"
    );
    for (key, ours) in ours {
        let theirs = &theirs[key];
        let differing: Vec<_> = ours
            .iter()
            .filter(|(t, v)| theirs.get(t) != Some(v))
            .chain(theirs.iter().filter(|(t, v)| ours.get(t) != Some(v)))
            .take(5)
            .collect();
        assert!(differing.is_empty(), "{key}: {differing:?}");
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
