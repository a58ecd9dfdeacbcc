//! What `gauntlet restore` relies on: the logs alone give back the head.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::foundation::ManualClock;
use crate::foundation::durable::{create_dirs, replace_file};
use crate::storage::Appendable;
use crate::tsdb::tests::{Model, append, labels, samples, scratch, settings};
use crate::tsdb::{LogEnds, Tsdb, raise_floor};

fn open(dir: &Path) -> Tsdb {
    let mut settings = settings();
    settings.head.out_of_order_window_ms = 1_000_000;
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    Tsdb::open(dir, settings, clock).unwrap()
}

fn copy(from: &Path, to: &Path) {
    create_dirs(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            replace_file(&target, &fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[test]
fn the_log_alone_gives_back_the_head() {
    let dir = scratch();
    let db = open(dir.path());
    let mut model = Model::new();
    append(&db, &["a", "b"], (0..1500).map(|n| n * 10), &mut model);
    while db.cut_due().is_some() {
        assert!(db.cut().unwrap().is_some());
    }
    let floor = db.blocks_end().unwrap();
    assert!(1000 < floor, "{floor}");
    for samples in model.values_mut() {
        samples.retain(|t, _| floor <= *t);
    }
    // Late ones, some of which are in mapped chunks by now; some are older than every sample in order.
    for t in (0..1400).map(|n| n * 10 + 5) {
        let mut appender = db.appender();
        appender.append_labels(&labels("a"), t, 0.5).unwrap();
        appender.commit().unwrap();
        model.get_mut("a").unwrap().insert(t, 0.5f64.to_bits());
    }
    let LogEnds::Replayed((wal, wbl)) = db.log_ends() else {
        panic!("nothing was to be replayed");
    };
    let segment = |log: &str, number: u32| {
        let path = dir.path().join(log).join(format!("{number:08}"));
        fs::metadata(path).unwrap().len()
    };
    assert_eq!(segment("wal", wal.segment), wal.n_bytes);
    let wbl = wbl.unwrap();
    assert_eq!(segment("wbl", wbl.segment), wbl.n_bytes);
    let n_chunk_files = fs::read_dir(dir.path().join("chunks_head"))
        .unwrap()
        .count();
    assert!(0 < n_chunk_files);

    let other = scratch();
    for log in ["wal", "wbl"] {
        copy(&dir.path().join(log), &other.path().join(log));
    }
    raise_floor(other.path(), floor).unwrap();
    let restored = open(other.path());
    assert!(samples(&*restored.timeline()) == model);
}
