//! What of a shipped log can be restored, told by the names of its parts alone.

use std::collections::BTreeMap;

use crate::bucket::{Bucket, ObjectInfo};
use crate::model::{BlockId, TimestampMs};
use crate::shipper::error::ShipError;
use crate::shipper::log::disk::{WAL, WBL, YOUNG};
use crate::shipper::log::names::{self, Part, RemoteFile};
use crate::shipper::log::state::{LogState, STATE_BYTES_MAX};
use crate::wal::segment_name;

/// The log of an appliance, as the bucket has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShippedLog {
    /// Its name.
    pub instance: BlockId,
    /// The appliance's labels.
    pub labels: Vec<(String, String)>,
    /// When its youngest part was written, by the bucket's clock.
    pub modified_ms: TimestampMs,
    /// Objects.
    pub n_objects: u64,
    /// Their bytes.
    pub n_bytes: u64,
    /// Why nothing of it can be restored.
    pub problem: Option<String>,
}

/// A file that is put together again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedFile {
    /// Within the data directory.
    pub(crate) name: String,
    pub(crate) parts: Vec<Part>,
    /// Without it nothing is restored.
    pub(crate) is_vital: bool,
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The log.
    pub instance: BlockId,
    /// The appliance's labels.
    pub labels: Vec<(String, String)>,
    /// Samples in order that are older are in blocks of the bucket.
    pub floor_ms: Option<TimestampMs>,
    /// Bytes to be read.
    pub n_bytes: u64,
    /// Parts to be read.
    pub n_parts: u64,
    /// When the youngest of them was written, by the bucket's clock.
    pub newest_part_ms: TimestampMs,
    /// What is not in the bucket although later parts are; those are left out.
    pub missing: Vec<String>,
    pub(crate) files: Vec<PlannedFile>,
}

/// All logs of the bucket.
pub async fn list_logs(bucket: &dyn Bucket) -> Result<Vec<ShippedLog>, ShipError> {
    let listed = bucket.list(names::ROOT).await;
    let listed = listed.map_err(|cause| ShipError::LogBucket { cause })?;
    let mut logs = Vec::new();
    for instance in names::instances(&listed) {
        let (state, problem) = match read_state(bucket, instance).await {
            Ok(state) => (Some(state), None),
            Err(ShipError::Restore { problem }) => (None, Some(problem)),
            Err(error) => return Err(error),
        };
        let dir = format!("{}/", names::instance_dir(instance));
        let ours: Vec<&ObjectInfo> = listed
            .iter()
            .filter(|info| info.key.starts_with(&dir))
            .collect();
        logs.push(ShippedLog {
            instance,
            labels: labels(state.as_ref()),
            modified_ms: ours.iter().map(|info| info.modified_ms).max().unwrap_or(0),
            n_objects: ours.len() as u64,
            n_bytes: ours.iter().map(|info| info.size).sum(),
            problem,
        });
    }
    Ok(logs)
}

fn labels(state: Option<&LogState>) -> Vec<(String, String)> {
    let labels = state.iter().flat_map(|state| &state.labels);
    labels.map(|(n, v)| (n.clone(), v.clone())).collect()
}

async fn read_state(bucket: &dyn Bucket, instance: BlockId) -> Result<LogState, ShipError> {
    let key = names::state_key(instance);
    match bucket.get(&key, STATE_BYTES_MAX).await {
        Ok(text) => LogState::decode(&text).map_err(|flaw| ShipError::Restore {
            problem: format!("{key} does not say where the log begins: {flaw}"),
        }),
        Err(error) if error.is_not_found() => Err(ShipError::Restore {
            problem: format!("there is no {key}: the first upload of this log never got so far"),
        }),
        Err(cause) => Err(ShipError::LogBucket { cause }),
    }
}

/// Looks at what there is of one log, without reading any of it.
pub async fn plan_restore(
    bucket: &dyn Bucket,
    instance: BlockId,
) -> Result<RestorePlan, ShipError> {
    let state = read_state(bucket, instance).await?;
    let listed = bucket.list(&names::instance_dir(instance)).await;
    let listed = listed.map_err(|cause| ShipError::LogBucket { cause })?;
    let files = names::files(instance, &listed);
    let mut planner = Planner {
        files: &files,
        planned: Vec::new(),
        missing: Vec::new(),
    };
    planner.checkpoint(&state)?;
    let is_whole = planner.log(WAL, state.wal_first);
    planner.log(WBL, state.wbl_first);
    let young = files.keys().any(|name| name.starts_with(YOUNG));
    if young && is_whole {
        for log in [WAL, WBL] {
            planner.log(&format!("{YOUNG}/{log}"), 0);
        }
    } else if young {
        let problem =
            "what came while the log was replayed is left out: it is later than what is missing";
        planner.missing.push(problem.to_owned());
    }
    let Planner {
        planned, missing, ..
    } = planner;
    let parts = || planned.iter().flat_map(|file| &file.parts);
    let times = planned.iter().filter_map(|file| files.get(&file.name));
    Ok(RestorePlan {
        instance,
        labels: labels(Some(&state)),
        floor_ms: state.floor_ms,
        n_bytes: parts().map(|part| part.n_bytes).sum(),
        n_parts: parts().count() as u64,
        newest_part_ms: times.map(|file| file.modified_ms).max().unwrap_or(0),
        missing,
        files: planned,
    })
}

struct Planner<'a> {
    files: &'a BTreeMap<String, RemoteFile>,
    planned: Vec<PlannedFile>,
    missing: Vec<String>,
}

impl Planner<'_> {
    fn checkpoint(&mut self, state: &LogState) -> Result<(), ShipError> {
        let Some(checkpoint) = &state.checkpoint else {
            return Ok(());
        };
        for (number, n_bytes) in &checkpoint.segments {
            let dir = format!("{WAL}/checkpoint.{:08}", checkpoint.number);
            let name = format!("{dir}/{}", segment_name(*number));
            let parts = self.files.get(&name).map(RemoteFile::chain);
            let parts = parts.unwrap_or_default();
            let end = parts.last().filter(|part| part.is_last).map(Part::end);
            if end != Some(*n_bytes) {
                let have = parts.last().map_or(0, Part::end);
                let problem = format!(
                    "of {name} the bucket has {have} of {n_bytes} bytes, and everything later needs it"
                );
                return Err(ShipError::Restore { problem });
            }
            self.planned.push(PlannedFile {
                name,
                parts,
                is_vital: true,
            });
        }
        Ok(())
    }

    /// Segments from `first` on, up to the first that is not whole; says whether nothing lies behind that.
    fn log(&mut self, log: &str, first: u32) -> bool {
        let mut number = first;
        loop {
            let name = format!("{log}/{}", segment_name(number));
            let parts = self.files.get(&name).map(RemoteFile::chain);
            let parts = parts.unwrap_or_default();
            let is_whole = parts.last().is_some_and(|part| part.is_last);
            let have = parts.last().map_or(0, Part::end);
            if !parts.is_empty() {
                self.planned.push(PlannedFile {
                    name: name.clone(),
                    parts,
                    is_vital: false,
                });
            }
            let Some(next) = number.checked_add(1) else {
                return true;
            };
            if is_whole {
                number = next;
                continue;
            }
            let behind = self.behind(log, number);
            if 0 < behind {
                self.missing.push(format!(
                    "{name} is there up to byte {have} only, and {behind} later segments are left out"
                ));
            }
            return behind == 0;
        }
    }

    /// Later segments of a log that have anything.
    fn behind(&self, log: &str, number: u32) -> usize {
        let later = self.files.iter().filter(|(name, file)| {
            let found = name
                .strip_prefix(log)
                .and_then(|rest| rest.strip_prefix('/'));
            let found: Option<u32> = found.and_then(|digits| digits.parse().ok());
            found.is_some_and(|found| number < found) && !file.parts.is_empty()
        });
        later.count()
    }
}
