//! A bucket with five blocks, and the binary that works on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use gauntlet::block::{BlockMeta, NewBlock, ThanosDownsample, ThanosMeta, write_block};
use gauntlet::chunk::encode_floats;
use gauntlet::model::{BlockId, Labels, TimeRange};
use gauntlet::storage::{ChunkSeries, ChunkSlice, VecSeriesSet};

/// 2023-11-14T22:00:00Z
pub(crate) const START: i64 = 1_699_999_200_000;
const HOUR: i64 = 3_600_000;

pub(crate) struct Bucket {
    dir: tempfile::TempDir,
}

pub(crate) fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, u128::from(n))
}

/// A series with a sample a minute for `hours` from `hour` on.
fn series(n: u64, hour: i64, hours: i64) -> ChunkSeries {
    let labels = [("__name__", "up"), ("job", "a"), ("n", &n.to_string())];
    let times: Vec<_> = (0..hours * 60)
        .map(|minute| START + hour * HOUR + minute * 60_000)
        .collect();
    let values: Vec<_> = (0_u32..).map(f64::from).take(times.len()).collect();
    let chunks = encode_floats(&times, &values).unwrap();
    let chunks = chunks.into_iter().map(|chunk| ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: Bytes::from(chunk.data),
    });
    ChunkSeries {
        labels: Labels::new(&labels).unwrap(),
        chunks: chunks.collect(),
    }
}

impl Bucket {
    /// Two blocks of two hours, one that was compacted and overlaps them, one of five minutes, one without labels.
    pub(crate) fn new() -> Self {
        let bucket = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        bucket.write(1, (0, 2), 1, Some(("eu", 0)));
        bucket.write(2, (2, 2), 1, Some(("us", 0)));
        bucket.write(3, (0, 8), 2, Some(("eu", 0)));
        bucket.write(4, (8, 48), 3, Some(("eu", 300_000)));
        bucket.write(5, (4, 2), 1, None);
        bucket
    }

    fn write(&self, n: u64, (hour, hours): (i64, i64), level: u32, made: Option<(&str, i64)>) {
        let range = TimeRange {
            min: START + hour * HOUR,
            max: START + (hour + hours) * HOUR,
        };
        let mut new = NewBlock::new(id(n), range);
        new.level = level;
        new.thanos = made.map(|(cluster, resolution)| ThanosMeta {
            version: 1,
            labels: [
                ("cluster".to_owned(), cluster.to_owned()),
                ("replica".to_owned(), "0".to_owned()),
            ]
            .into(),
            downsample: ThanosDownsample { resolution },
            source: "sidecar".to_owned(),
            ..ThanosMeta::default()
        });
        let series = (0..3).map(|n| series(n, hour, hours)).collect();
        write_block(
            &self.path(),
            new,
            &mut VecSeriesSet::new(series, Vec::new()),
        )
        .unwrap()
        .unwrap();
        std::fs::remove_file(self.block(n).join("tombstones")).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("bucket")
    }

    /// Somewhere else beside the bucket.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn block(&self, n: u64) -> PathBuf {
        self.path().join(id(n).to_string())
    }

    pub(crate) fn meta(&self, n: u64) -> BlockMeta {
        BlockMeta::read(&self.block(n)).unwrap()
    }

    /// Names of the blocks there are.
    pub(crate) fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// `gauntlet bucket …` over this bucket.
    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gauntlet"))
            .args(["bucket", command, "--objstore.config"])
            .arg(yaml(&self.path()))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What it printed, if it went well.
    #[track_caller]
    pub(crate) fn prints(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.run(command, arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{command} {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it complained of, and its exit code.
    #[track_caller]
    pub(crate) fn refuses(&self, command: &str, arguments: &[&str]) -> (String, Option<i32>) {
        let output = self.run(command, arguments);
        assert!(!output.status.success(), "{command} {arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        (error, output.status.code())
    }
}

/// A bucket that is a directory, as Thanos writes it.
pub(crate) fn yaml(dir: &Path) -> String {
    format!(
        "{{type: FILESYSTEM, config: {{directory: \"{}\"}}}}",
        dir.display()
    )
}
