//! Everything a head holds as lines of text, so that two heads can be compared.

use crate::chunk::{
    EncodedChunk, decode_floats_with_starts, decode_histograms_with_starts, encode_floats,
    encode_floats_with_starts, encode_histograms,
};
use crate::head::Head;
use crate::head::open_chunk::ValueKind;
use crate::model::{Encoding, Interval, Matcher};
use crate::storage::ChunkSlice;

/// Everything that is in memory, as text; where chunks lie aside.
pub(super) fn picture(head: &Head) -> Vec<String> {
    picture_with(head, i64::MIN, |_| true)
}

/// The same of what lies at `floor` or later, where it does not count whether the counters of a chunk of histograms are said
/// to begin anew: a replay of the log does not know what came before a chunk that follows one in a file.
pub(super) fn picture_since(head: &Head, floor: i64) -> Vec<String> {
    picture_with(head, floor, |slice| {
        if slice.min_t < floor {
            let Some(rest) = rest_of(slice, floor) else {
                return false;
            };
            slice.min_t = rest.min_t;
            slice.data = rest.data.into();
        }
        if ValueKind::of(slice.encoding) != ValueKind::Float {
            let mut data = slice.data.to_vec();
            data[2] &= 0x3f;
            slice.data = data.into();
        }
        true
    })
}

/// What a chunk has at `floor` or later.
fn rest_of(slice: &ChunkSlice, floor: i64) -> Option<EncodedChunk> {
    let (encoding, data) = (slice.encoding, &slice.data);
    let (mut times, mut starts) = (Vec::new(), Vec::new());
    let behind = |times: &[i64]| times.partition_point(|t| *t < floor);
    let encoded = if let ValueKind::Histogram(counts) = ValueKind::of(encoding) {
        let mut values = Vec::new();
        decode_histograms_with_starts(encoding, data, &mut times, &mut values, &mut starts)
            .unwrap();
        let n = behind(&times);
        let plain = [Encoding::Histogram, Encoding::FloatHistogram];
        let starts = (!plain.contains(&encoding)).then_some(&starts[n..]);
        encode_histograms(counts, &times[n..], &values[n..], starts)
    } else {
        let mut values = Vec::new();
        decode_floats_with_starts(encoding, data, &mut times, &mut values, &mut starts).unwrap();
        let n = behind(&times);
        if encoding == Encoding::Xor {
            encode_floats(&times[n..], &values[n..])
        } else {
            encode_floats_with_starts(&times[n..], &values[n..], &starts[n..])
        }
    };
    encoded.unwrap().pop()
}

fn picture_with(head: &Head, floor: i64, keep: impl Fn(&mut ChunkSlice) -> bool) -> Vec<String> {
    let inner = head.inner();
    let mut picture = Vec::new();
    inner.series.for_each(|series| {
        let state = series.lock();
        let mut slices = state.slices(Interval::ALL, u64::MAX, &inner.files, |_| ());
        slices.retain_mut(&keep);
        let flags = (state.kind, state.is_logged, state.is_dead, state.n_chunks());
        picture.push(format!(
            "{} {:?} {flags:?} {slices:?}",
            series.series, series.labels
        ));
    });
    picture.sort();
    let mut late: Vec<u64> = inner.late.series.lock().iter().map(|s| s.series).collect();
    late.sort_unstable();
    picture.push(format!("{late:?} {:?}", inner.late.span()));
    picture.push(format!("{:?}", inner.deleted.all()));
    let name = [Matcher::equal("__name__", "m")];
    let exemplars = head.exemplars(&[name.to_vec()], Interval::ALL);
    picture.push(format!("{exemplars:?} {:?}", head.metadata()));
    let retired = inner.retired.lock();
    let mut aliases: Vec<_> = retired.aliases.iter().collect();
    aliases.sort_unstable();
    let mut removed: Vec<_> = retired.removed.keys().collect();
    removed.sort_unstable();
    picture.push(format!("{aliases:?} {removed:?}"));
    drop(retired);
    let found = head.view().matching(&name);
    let mut found: Vec<u64> = found.iter().map(|series| series.series).collect();
    found.sort_unstable();
    picture.push(format!("{found:?}"));
    let stats = head.stats();
    let min_t = stats.min_t.map(|t| t.max(floor));
    let numbers = (stats.n_series, min_t, stats.max_t);
    let next = inner.next_series.load(std::sync::atomic::Ordering::Relaxed);
    picture.push(format!("{numbers:?} {next} {}", stats.floor));
    picture
}
