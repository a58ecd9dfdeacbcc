//! What is done about a segment that does not read to its end.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::foundation::durable::{DurableFile, create_dirs, hard_link, rename_durably, sync_dir};
use crate::wal::page::PageCursor;
use crate::wal::{SegmentReader, WalError};

/// What [`repair_segment`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairOutcome {
    /// Nothing is wrong.
    Intact,
    /// The end was torn and is cut: no whole record lay behind the damage.
    Cut {
        /// Bytes that went.
        n_bytes: u64,
    },
    /// The readable records were copied around the damage; the segment as it was is in the quarantine.
    Salvaged {
        /// Records in the new file.
        n_records: u64,
    },
}

/// Makes `path` readable from start to end.
///
/// A torn end is cut off. Damage in the middle is left out of a new copy that takes the segment's place, and the
/// damaged file moves into `quarantine`.
pub fn repair_segment(path: &Path, quarantine: &Path) -> Result<RepairOutcome, WalError> {
    let mut reader = SegmentReader::open(path)?;
    let mut first_damage = None;
    let mut n_behind = 0u64;
    loop {
        match reader.next_record() {
            Ok(Some(_)) => n_behind += u64::from(first_damage.is_some()),
            Ok(None) => break,
            Err(damage) => {
                first_damage.get_or_insert(damage.offset);
                if !reader.resync()? {
                    break;
                }
            }
        }
    }
    let Some(offset) = first_damage else {
        return Ok(RepairOutcome::Intact);
    };
    if n_behind == 0 {
        return cut(path, offset);
    }
    salvage(path, quarantine)
}

fn cut(path: &Path, offset: u64) -> Result<RepairOutcome, WalError> {
    let file = DurableFile::open(path).map_err(WalError::io("open", path))?;
    let len = file
        .as_file()
        .metadata()
        .map_err(WalError::io("inspect", path))?
        .len();
    file.set_len(offset).map_err(WalError::io("cut", path))?;
    file.sync_all().map_err(WalError::io("sync", path))?;
    Ok(RepairOutcome::Cut {
        n_bytes: len.saturating_sub(offset),
    })
}

fn salvage(path: &Path, quarantine: &Path) -> Result<RepairOutcome, WalError> {
    let mut reader = SegmentReader::open(path)?;
    let mut pages = PageCursor::default();
    let mut content = Vec::new();
    let mut n_records = 0;
    let mut compressor = crate::wal::page::Compressor::new(crate::wal::Compression::Snappy);
    loop {
        match reader.next_record() {
            Ok(Some(body)) => {
                let (stored, flag) = compressor.compress(body)?;
                pages.push(stored, flag, &mut content);
                n_records += 1;
            }
            Ok(None) => break,
            Err(_) => {
                if !reader.resync()? {
                    break;
                }
            }
        }
    }
    let name = path.file_name().unwrap_or_default();
    let dir = path.parent().unwrap_or(Path::new("."));
    let log = if dir.ends_with("wbl") { "wbl" } else { "wal" };
    let mut repaired_name = name.to_owned();
    repaired_name.push(".repair");
    let repaired = dir.join(repaired_name);
    write_new(&repaired, &content)?;
    create_dirs(quarantine).map_err(WalError::io("create", quarantine))?;
    let mut aside = quarantine.join(format!("{log}-{}", name.to_string_lossy()));
    for attempt in 1.. {
        if !aside
            .try_exists()
            .map_err(WalError::io("inspect", &aside))?
        {
            break;
        }
        aside = quarantine.join(format!("{log}-{}.{attempt}", name.to_string_lossy()));
    }
    hard_link(path, &aside)
        .or_else(|_no_links_here| fs::copy(path, &aside).map(|_| ()))
        .map_err(WalError::io("set aside", path))?;
    sync_dir(quarantine).map_err(WalError::io("sync", quarantine))?;
    rename_durably(&repaired, path).map_err(WalError::io("rename", &repaired))?;
    Ok(RepairOutcome::Salvaged { n_records })
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), WalError> {
    let mut file = DurableFile::create(path).map_err(WalError::io("create", path))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(WalError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::durable::replace_file;
    use crate::wal::{Compression, Wal, WalSettings, segment_name};

    /// In memory where the system has such a place: these tests make thousands of files, and none outlives its test.
    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm")
            .or_else(|_not_there| tempfile::tempdir())
            .unwrap()
    }

    fn records_of(path: &Path) -> Vec<Vec<u8>> {
        let mut reader = SegmentReader::open(path).unwrap();
        let mut records = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            records.push(record.to_vec());
        }
        records
    }

    fn written(dir: &Path, compression: Compression, records: &[Vec<u8>]) -> Vec<u8> {
        let settings = WalSettings {
            compression,
            ..WalSettings::default()
        };
        let mut wal = Wal::open(dir, settings).unwrap();
        for record in records {
            wal.append(&[record]).unwrap();
        }
        fs::read(dir.join(segment_name(0))).unwrap()
    }

    fn sample_records() -> Vec<Vec<u8>> {
        (0..12u8)
            .map(|n| (0..=n * 9).map(|i| i.wrapping_mul(n)).collect())
            .collect()
    }

    #[test]
    fn records_come_back_through_every_compression_and_many_segments() {
        for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
            let dir = scratch();
            let settings = WalSettings {
                segment_bytes_max: 64 << 10,
                compression,
            };
            let mut wal = Wal::open(dir.path(), settings).unwrap();
            let mut state = 7u32;
            let records: Vec<Vec<u8>> = (0..200usize)
                .map(|n| {
                    (0..n * 37 % 9000 + n)
                        .map(|i| {
                            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                            if i % 3 == 0 {
                                0
                            } else {
                                state.to_be_bytes()[0]
                            }
                        })
                        .collect()
                })
                .collect();
            for record in &records {
                wal.append(&[record]).unwrap();
            }
            let segments = crate::wal::list_segments(dir.path()).unwrap();
            assert!(segments.len() > 3);
            assert!(segments.iter().all(|s| s.n_bytes <= 64 << 10));
            let back: Vec<_> = segments.iter().flat_map(|s| records_of(&s.path)).collect();
            assert!(back == records, "{compression:?}");
        }
    }

    #[test]
    fn every_truncation_keeps_exactly_the_whole_records() {
        let dir = scratch();
        let records = sample_records();
        let bytes = written(dir.path(), Compression::Snappy, &records);
        let path = dir.path().join(segment_name(0));
        let mut counts = Vec::new();
        for len in 0..=bytes.len() {
            replace_file(&path, &bytes[..len]).unwrap();
            repair_segment(&path, &dir.path().join("quarantine")).unwrap();
            let back = records_of(&path);
            assert_eq!(back[..], records[..back.len()], "cut at {len}");
            assert_eq!(
                repair_segment(&path, &dir.path().join("quarantine")).unwrap(),
                RepairOutcome::Intact
            );
            counts.push(back.len());
        }
        assert!(counts.is_sorted());
        assert_eq!(counts.last(), Some(&records.len()));
        counts.dedup();
        assert_eq!(counts.len(), records.len() + 1);
    }

    #[test]
    fn every_flipped_bit_loses_at_most_its_page_and_never_panics() {
        let dir = scratch();
        let records = sample_records();
        let bytes = written(dir.path(), Compression::Snappy, &records);
        let path = dir.path().join(segment_name(0));
        // No checksum covers the flags of a fragment: a flip there yields a record that does not decode one floor up.
        let mut starts = vec![0];
        while let [.., last] = starts[..]
            && last < bytes.len()
        {
            let len = u16::from_be_bytes([bytes[last + 1], bytes[last + 2]]);
            starts.push(last + 7 + usize::from(len));
        }
        let is_flag = |bit: usize| matches!(bit % 8, 3 | 4) && starts.contains(&(bit / 8));
        for bit in (0..bytes.len() * 8).filter(|bit| !is_flag(*bit)) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            replace_file(&path, &flipped).unwrap();
            let outcome = repair_segment(&path, &dir.path().join("quarantine")).unwrap();
            assert_ne!(outcome, RepairOutcome::Intact, "bit {bit}");
            let back = records_of(&path);
            assert_eq!(back[..], records[..back.len()], "bit {bit}");
        }
    }

    #[test]
    fn damage_in_the_middle_keeps_what_lies_behind_it_and_sets_the_original_aside() {
        let dir = scratch();
        let records: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 1000]).collect();
        let mut bytes = written(dir.path(), Compression::None, &records);
        let path = dir.path().join(segment_name(0));
        bytes[100] ^= 1;
        replace_file(&path, &bytes).unwrap();
        let quarantine = dir.path().join("quarantine");
        let outcome = repair_segment(&path, &quarantine).unwrap();
        // The first page is lost; its last record goes on into the second page, so that one is lost too.
        let back = records_of(&path);
        assert_eq!(
            outcome,
            RepairOutcome::Salvaged {
                n_records: back.len() as u64
            }
        );
        assert_eq!(back[..], records[33..]);
        assert_eq!(fs::read(quarantine.join("wal-00000000")).unwrap(), bytes);
    }

    #[test]
    fn segments_before_a_start_are_synced_with_those_behind_it_unless_they_went() {
        let dir = scratch();
        let write = |n: usize| {
            let mut wal = Wal::open(dir.path(), WalSettings::default()).unwrap();
            for _ in 0..n {
                wal.append(&[b"one"]).unwrap();
                wal.next_segment().unwrap();
            }
            wal
        };
        drop(write(3));
        let mut wal = write(2);
        // Three of before, two of this life and the one that is written to; the last one of before is empty.
        assert_eq!(wal.unsynced().len(), 6);
        assert_eq!(wal.unsynced().len(), 0);
        let mut wal = write(1);
        wal.forget_before(3);
        assert_eq!(wal.unsynced().len(), 4);
    }

    #[test]
    fn a_failed_write_stops_the_log_until_a_restart() {
        let dir = scratch();
        let mut wal = Wal::open(dir.path(), WalSettings::default()).unwrap();
        wal.append(&[b"one"]).unwrap();
        wal.poison("fsync: no space left on device".to_owned());
        let error = wal.append(&[b"two"]).unwrap_err();
        assert!(matches!(error, WalError::Poisoned(_)), "{error}");
        assert!(error.to_string().contains("no space left"));
        assert_eq!(wal.unsynced().len(), 1);
        assert_eq!(wal.unsynced().len(), 0);
        assert_eq!(records_of(&dir.path().join(segment_name(0))), [b"one"]);
    }
}
