//! `meta.json`: what a block is, and where it comes from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::block::error::BlockError;
use crate::foundation::durable::replace_file;
use crate::model::{BlockId, Resolution, TimeRange, TimestampMs};

/// The file's name.
pub const META_FILE: &str = "meta.json";

/// The only version there is, of the whole and of its `thanos` section.
const VERSION: u64 = 1;

/// Longest text that is read: a block of many thousand files needs a fraction of it.
pub const META_BYTES_MAX: u64 = 16 << 20;

/// The block was made of out-of-order samples.
pub const HINT_OUT_OF_ORDER: &str = "from-out-of-order";

/// The block was made of series that had gone stale.
pub const HINT_STALE_SERIES: &str = "from-stale-series";

/// The block was made of series that somebody selected.
pub const HINT_SELECTED_SERIES: &str = "from-selected-series";

/// What `meta.json` says. Field order here is the order in the file; keys that are not known are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// The block's name.
    pub ulid: BlockId,
    /// Start, inclusive.
    pub min_time: TimestampMs,
    /// End, exclusive.
    pub max_time: TimestampMs,
    /// How much is in it.
    #[serde(default)]
    pub stats: BlockStats,
    /// What it was made of.
    #[serde(default)]
    pub compaction: BlockCompaction,
    /// Always 1.
    pub version: u64,
    /// What Thanos adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<ThanosMeta>,
    /// Whatever else is there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How much is in a block; zeros are left out of the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BlockStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

/// What a block was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockCompaction {
    /// How often it was compacted; 1 for a block cut from a head.
    pub level: u32,
    /// The blocks of level 1 that it holds.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub sources: Vec<BlockId>,
    /// The block is empty and may go.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks it was compacted from.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub parents: Vec<BlockParent>,
    /// Compacting it failed.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// Where its samples come from.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub hints: Vec<String>,
}

/// A block that another was compacted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockParent {
    /// Its name.
    pub ulid: BlockId,
    /// Start, inclusive.
    pub min_time: TimestampMs,
    /// End, exclusive.
    pub max_time: TimestampMs,
}

/// The `thanos` section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosMeta {
    /// 1; zero or absent means the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: u64,
    /// External labels.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// Sample distance.
    pub downsample: ThanosDownsample,
    /// Who made the block.
    pub source: String,
    /// Base names of the chunk files; older writers.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub segment_files: Vec<String>,
    /// All files, sorted by path.
    #[serde(
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub files: Vec<ThanosFile>,
    /// Whatever else is there: rewrites, index statistics, extensions, upload time.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// `thanos.downsample`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosDownsample {
    /// Milliseconds between samples; zero as scraped.
    pub resolution: i64,
}

/// One file of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosFile {
    /// Path from the block's directory.
    pub rel_path: String,
    /// Length; absent for `meta.json` itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Hash of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<ThanosHash>,
}

/// A file's hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosHash {
    /// `SHA256`.
    #[serde(rename = "hashFunc")]
    pub func: String,
    /// In hexadecimal.
    pub value: String,
}

impl BlockMeta {
    /// The times the block covers.
    pub fn range(&self) -> TimeRange {
        TimeRange {
            min: self.min_time,
            max: self.max_time,
        }
    }

    /// Sample distance; `None` when the file names one that does not exist.
    pub fn resolution(&self) -> Option<Resolution> {
        let downsample = self.thanos.as_ref().map(|thanos| thanos.downsample);
        Resolution::from_ms(downsample.unwrap_or_default().resolution)
    }

    /// The blocks of level 1 that it holds; itself when it does not say.
    pub fn sources(&self) -> impl Iterator<Item = BlockId> {
        let own = self.compaction.sources.is_empty().then_some(self.ulid);
        self.compaction.sources.iter().copied().chain(own)
    }

    /// Was it made of out-of-order samples only?
    pub fn is_from_out_of_order(&self) -> bool {
        self.has_hint(HINT_OUT_OF_ORDER)
    }

    /// Is there, or was there, in-order data of the same time beside it? Then its end says nothing about the head.
    pub fn is_partial(&self) -> bool {
        [HINT_OUT_OF_ORDER, HINT_STALE_SERIES, HINT_SELECTED_SERIES]
            .iter()
            .any(|hint| self.has_hint(hint))
    }

    /// Does it say this of where its samples come from?
    pub fn has_hint(&self, hint: &str) -> bool {
        self.compaction.hints.iter().any(|given| given == hint)
    }

    /// Reads `meta.json` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, BlockError> {
        let path = dir.join(META_FILE);
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(META_BYTES_MAX + 1).read_to_end(&mut text))
            .map_err(|source| BlockError::file(&path, source))?;
        Self::decode(&text).map_err(|problem| BlockError::Meta { path, problem })
    }

    /// Replaces `meta.json` in `dir`.
    pub fn write(&self, dir: &Path) -> Result<(), BlockError> {
        let path = dir.join(META_FILE);
        let text = self.encode();
        replace_file(&path, &text).map_err(|source| BlockError::file(&path, source))
    }

    /// The text as Prometheus writes it; with a `thanos` section, as Thanos does, which ends the last line.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
        // Writing plain fields into memory cannot fail.
        self.serialize(&mut serializer).ok();
        if self.thanos.is_some() {
            out.push(b'\n');
        }
        out
    }

    /// Mirror of [`Self::encode`]; the error says what is wrong.
    pub fn decode(text: &[u8]) -> Result<Self, String> {
        if META_BYTES_MAX < text.len() as u64 {
            return Err(format!("longer than {META_BYTES_MAX} bytes"));
        }
        /// Read first, because another version may mean anything by the rest.
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(default)]
            version: u64,
        }
        let told: Versioned = serde_json::from_slice(text).map_err(|flaw| flaw.to_string())?;
        if told.version != VERSION {
            return Err(format!("version {} is not {VERSION}", told.version));
        }
        let meta: Self = serde_json::from_slice(text).map_err(|flaw| flaw.to_string())?;
        let thanos_version = meta.thanos.as_ref().map_or(0, |thanos| thanos.version);
        if VERSION < thanos_version {
            return Err(format!("thanos version {thanos_version} is not {VERSION}"));
        }
        if meta.max_time < meta.min_time {
            return Err(format!(
                "maxTime {} is before minTime {}",
                meta.max_time, meta.min_time
            ));
        }
        Ok(meta)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Go writes an absent list as null.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = "{\n\t\"ulid\": \"01M7XZVM2PTT4FW31RYPH3TCEP\",\n\t\"minTime\": 1700000000000,\n\t\"maxTime\": 1700000030001,\n\t\"stats\": {\n\t\t\"numSamples\": 3,\n\t\t\"numSeries\": 1,\n\t\t\"numChunks\": 1\n\t},\n\t\"compaction\": {\n\t\t\"level\": 1,\n\t\t\"sources\": [\n\t\t\t\"01M7XZVM2PTT4FW31RYPH3TCEP\"\n\t\t]\n\t},\n\t\"version\": 1\n}";

    const THANOS: &str = r#"{"version":1,"ulid":"01M7XZVM2PTT4FW31RYPH3TCEP","minTime":0,"maxTime":7200000,
        "stats":{},"compaction":{"level":2,"sources":null,"parents":[{"ulid":"01M7XZVM2PTT4FW31RYPH3TCEP","minTime":0,"maxTime":9}],
        "hints":["from-out-of-order"],"failed":true},"future":[1],
        "thanos":{"labels":{"replica":"b","cluster":"a"},"downsample":{"resolution":300000},"source":"compactor",
        "files":[{"rel_path":"chunks/000001","size_bytes":38,"hash":{"hashFunc":"SHA256","value":"ab"}},{"rel_path":"meta.json"}],
        "rewrites":[{"sources":[]}],"upload_time":"0001-01-01T00:00:00Z"}}"#;

    #[test]
    fn the_text_is_the_one_prometheus_writes() {
        let meta = BlockMeta::decode(GOLDEN.as_bytes()).unwrap();
        assert_eq!(meta.stats.num_samples, 3);
        assert_eq!(String::from_utf8(meta.encode()).unwrap(), GOLDEN);
    }

    #[test]
    fn the_thanos_section_and_unknown_keys_are_kept() {
        let meta = BlockMeta::decode(THANOS.as_bytes()).unwrap();
        assert_eq!(meta.resolution(), Some(Resolution::FiveMinutes));
        assert!(meta.is_from_out_of_order());
        assert!(meta.compaction.failed);
        let again = BlockMeta::decode(&meta.encode()).unwrap();
        assert_eq!(again, meta);
        assert_eq!(again.other["future"], serde_json::json!([1]));
        let thanos = again.thanos.unwrap();
        assert_eq!(thanos.files[0].size_bytes, Some(38));
        assert_eq!(
            thanos.other["rewrites"],
            serde_json::json!([{"sources": []}])
        );
        assert!(meta.encode().ends_with(b"}\n"));
    }

    #[test]
    fn another_version_is_refused_by_number() {
        for (from, to, expect) in [
            ("\"version\": 1", "\"version\": 2", "version 2 is not 1"),
            (",\n\t\"version\": 1", "", "version 0 is not 1"),
            (
                "1700000030001",
                "1",
                "maxTime 1 is before minTime 1700000000000",
            ),
            ("01M7XZ", "é1M7XZ", "is not a block id"),
        ] {
            let problem = BlockMeta::decode(GOLDEN.replace(from, to).as_bytes()).unwrap_err();
            assert!(problem.contains(expect), "{problem}");
        }
        let text = THANOS.replace("\"thanos\":{", "\"thanos\":{\"version\":9,");
        let problem = BlockMeta::decode(text.as_bytes()).unwrap_err();
        assert_eq!(problem, "thanos version 9 is not 1");
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_an_error_or_a_meta() {
        for len in 0..GOLDEN.len() {
            assert!(
                BlockMeta::decode(&GOLDEN.as_bytes()[..len]).is_err(),
                "len {len}"
            );
        }
        for bit in 0..GOLDEN.len() * 8 {
            let mut damaged = GOLDEN.as_bytes().to_vec();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            if let Ok(meta) = BlockMeta::decode(&damaged) {
                assert_eq!(BlockMeta::decode(&meta.encode()), Ok(meta), "bit {bit}");
            }
        }
    }
}
