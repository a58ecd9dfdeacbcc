//! Samples as logs have them, for all who read one.

use crate::head::append::RareValue;
use crate::model::SampleTime;
use crate::wal::{RecordKind, WalError, decode_histograms, read_samples};

/// Hands every sample of a record to `each`, whatever kind of value it has; `None` where the record has none. Of a
/// damaged record of floats, those before the damage come.
pub(crate) fn read_values(
    body: &[u8],
    mut each: impl FnMut(u64, SampleTime, RareValue),
) -> Option<Result<(), WalError>> {
    match RecordKind::of(body) {
        RecordKind::Samples | RecordKind::SamplesV2 => Some(read_samples(body, |sample| {
            let at = SampleTime {
                t: sample.t,
                start_t: sample.start_t,
            };
            each(sample.series, at, RareValue::Float(sample.v));
        })),
        RecordKind::Histograms
        | RecordKind::FloatHistograms
        | RecordKind::CustomHistograms
        | RecordKind::CustomFloatHistograms
        | RecordKind::HistogramsV2
        | RecordKind::FloatHistogramsV2 => Some(decode_histograms(body).map(|entries| {
            for entry in entries {
                let value = RareValue::Histogram(entry.counts, entry.histogram);
                each(entry.series, entry.at, value);
            }
        })),
        RecordKind::Series
        | RecordKind::Tombstones
        | RecordKind::Exemplars
        | RecordKind::MmapMarkers
        | RecordKind::Metadata
        | RecordKind::Unknown(_) => None,
    }
}
