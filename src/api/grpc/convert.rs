//! Wire types to ours and back.

use bytes::Bytes;
use tonic::Status;
use xxhash_rust::xxh64::xxh64;

use crate::chunk::{
    AggregateChunk, ChunkError, Counts, decode_floats, decode_histograms, encode_floats,
    encode_histograms,
};
use crate::model::{Aggregate, Encoding, Labels, MatchType, Matcher};
use crate::storage::ChunkSlice;
use crate::wire::thanos::{
    Aggr, AggrChunk, Chunk, Label, LabelMatcher, LabelSet, chunk, label_matcher,
};

/// Compiles the matchers of a request.
pub(crate) fn matchers(wire: &[LabelMatcher]) -> Result<Vec<Matcher>, Status> {
    wire.iter()
        .map(|matcher| {
            let match_type = match label_matcher::Type::try_from(matcher.r#type) {
                Ok(label_matcher::Type::Eq) => MatchType::Equal,
                Ok(label_matcher::Type::Neq) => MatchType::NotEqual,
                Ok(label_matcher::Type::Re) => MatchType::Regex,
                Ok(label_matcher::Type::Nre) => MatchType::NotRegex,
                Err(unknown) => {
                    let text = format!("unknown label matcher type: {unknown}");
                    return Err(Status::invalid_argument(text));
                }
            };
            Matcher::new(match_type, &matcher.name, &matcher.value)
                .map_err(|error| Status::invalid_argument(error.to_string()))
        })
        .collect()
}

/// Labels as messages carry them.
pub(crate) fn labels(labels: &Labels) -> Vec<Label> {
    labels
        .iter()
        .map(|(name, value)| Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect()
}

/// Labels as Info carries them.
pub(crate) fn label_set(set: &Labels) -> LabelSet {
    LabelSet {
        labels: labels(set),
    }
}

/// Which aggregates of downsampled series a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Aggregates {
    /// It did not say.
    #[default]
    All,
    /// None: only samples as they were scraped.
    RawOnly,
    /// These.
    Some(Vec<Aggregate>),
}

impl Aggregates {
    /// As a request names them.
    pub(crate) fn new(wire: &[i32]) -> Result<Self, Status> {
        let mut some = Vec::new();
        for number in wire {
            some.extend(match Aggr::try_from(*number) {
                Ok(Aggr::Raw) => None,
                Ok(Aggr::Count) => Some(Aggregate::Count),
                Ok(Aggr::Sum) => Some(Aggregate::Sum),
                Ok(Aggr::Min) => Some(Aggregate::Min),
                Ok(Aggr::Max) => Some(Aggregate::Max),
                Ok(Aggr::Counter) => Some(Aggregate::Counter),
                Err(unknown) => {
                    let text = format!("unknown aggregate: {unknown}");
                    return Err(Status::invalid_argument(text));
                }
            });
        }
        Ok(match (wire.is_empty(), some.is_empty()) {
            (true, _) => Self::All,
            (false, true) => Self::RawOnly,
            (false, false) => Self::Some(some),
        })
    }

    fn contains(&self, aggregate: Aggregate) -> bool {
        match self {
            Self::All => true,
            Self::RawOnly => false,
            Self::Some(some) => some.contains(&aggregate),
        }
    }
}

/// A chunk as raw data, or as those of its aggregates that are wanted; `Err` says why it cannot be read.
///
/// Encodings with start times have no number on the wire: they are encoded anew without them.
pub(crate) fn wire_chunks(
    slice: &ChunkSlice,
    wanted: &Aggregates,
    with_hash: bool,
) -> Result<Vec<AggrChunk>, String> {
    let encoding = match slice.encoding {
        Encoding::Xor => chunk::Encoding::Xor,
        Encoding::Histogram => chunk::Encoding::Histogram,
        Encoding::FloatHistogram => chunk::Encoding::FloatHistogram,
        Encoding::Aggregate => {
            let chunk = aggregates(slice, wanted, with_hash).map_err(|error| error.to_string())?;
            return Ok(vec![chunk]);
        }
        Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt => {
            return without_starts(slice, with_hash).map_err(|error| error.to_string());
        }
    };
    let interval = (slice.min_t, slice.max_t);
    Ok(vec![raw(interval, encoding, slice.data.clone(), with_hash)])
}

fn without_starts(slice: &ChunkSlice, with_hash: bool) -> Result<Vec<AggrChunk>, ChunkError> {
    let mut times = Vec::new();
    let chunks = if slice.encoding.has_histograms() {
        let mut histograms = Vec::new();
        decode_histograms(slice.encoding, &slice.data, &mut times, &mut histograms)?;
        let counts = if slice.encoding == Encoding::HistogramSt {
            Counts::Whole
        } else {
            Counts::Float
        };
        encode_histograms(counts, &times, &histograms, None)?
    } else {
        let mut values = Vec::new();
        decode_floats(slice.encoding, &slice.data, &mut times, &mut values)?;
        encode_floats(&times, &values)?
    };
    let raws = chunks.into_iter().map(|chunk| {
        let interval = (chunk.min_t, chunk.max_t);
        let encoding = match chunk.encoding {
            Encoding::Histogram | Encoding::HistogramSt => chunk::Encoding::Histogram,
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                chunk::Encoding::FloatHistogram
            }
            Encoding::Xor | Encoding::Xor2 | Encoding::Aggregate => chunk::Encoding::Xor,
        };
        raw(interval, encoding, chunk.data.into(), with_hash)
    });
    Ok(raws.collect())
}

fn raw(interval: (i64, i64), encoding: chunk::Encoding, data: Bytes, with_hash: bool) -> AggrChunk {
    AggrChunk {
        min_time: interval.0,
        max_time: interval.1,
        raw: Some(hashed(encoding, data, with_hash)),
        ..AggrChunk::default()
    }
}

fn hashed(encoding: chunk::Encoding, data: Bytes, with_hash: bool) -> Chunk {
    let hash = if with_hash { xxh64(&data, 0) } else { 0 };
    Chunk {
        r#type: encoding.into(),
        data,
        hash,
    }
}

/// Every aggregate that is wanted in the field that has its name.
fn aggregates(
    slice: &ChunkSlice,
    wanted: &Aggregates,
    with_hash: bool,
) -> Result<AggrChunk, ChunkError> {
    let mut message = AggrChunk {
        min_time: slice.min_t,
        max_time: slice.max_t,
        ..AggrChunk::default()
    };
    let parts = AggregateChunk::decode(&slice.data)?;
    for (aggregate, (encoding, data)) in parts.parts() {
        if !wanted.contains(aggregate) {
            continue;
        }
        let encoding = match encoding {
            Encoding::Xor => chunk::Encoding::Xor,
            Encoding::Histogram => chunk::Encoding::Histogram,
            Encoding::FloatHistogram => chunk::Encoding::FloatHistogram,
            // Nobody writes aggregates with start times, and they have no number on the wire.
            Encoding::Xor2
            | Encoding::HistogramSt
            | Encoding::FloatHistogramSt
            | Encoding::Aggregate => return Err(ChunkError::UnknownEncoding(encoding.as_byte())),
        };
        let part = match aggregate {
            Aggregate::Count => &mut message.count,
            Aggregate::Sum => &mut message.sum,
            Aggregate::Min => &mut message.min,
            Aggregate::Max => &mut message.max,
            Aggregate::Counter => &mut message.counter,
        };
        *part = Some(hashed(encoding, slice.data.slice_ref(data), with_hash));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Histogram;

    fn slice(encoding: Encoding, data: &[u8]) -> ChunkSlice {
        ChunkSlice {
            min_t: 1_000,
            max_t: 1_015,
            encoding,
            data: Bytes::copy_from_slice(data),
        }
    }

    /// Two samples of 2.5, at 1000 and 1015.
    fn xor2() -> Vec<u8> {
        let mut data = vec![0, 2, 0, 0xd0, 0x0f];
        data.extend(2.5_f64.to_be_bytes());
        data.extend([15, 0]);
        data
    }

    #[test]
    fn chunks_with_a_number_on_the_wire_go_as_they_are() {
        for (encoding, number) in [
            (Encoding::Xor, 0),
            (Encoding::Histogram, 1),
            (Encoding::FloatHistogram, 2),
        ] {
            let chunks = wire_chunks(&slice(encoding, b"data"), &Aggregates::All, true).unwrap();
            let [chunk] = &chunks[..] else {
                panic!("{chunks:?}");
            };
            assert_eq!((chunk.min_time, chunk.max_time), (1_000, 1_015));
            let raw = chunk.raw.as_ref().unwrap();
            assert_eq!((raw.r#type, &raw.data[..]), (number, &b"data"[..]));
            assert_eq!(raw.hash, xxh64(b"data", 0));
        }
    }

    #[test]
    fn floats_with_start_times_are_encoded_anew_without_them() {
        let chunks = wire_chunks(&slice(Encoding::Xor2, &xor2()), &Aggregates::All, false).unwrap();
        let [chunk] = &chunks[..] else {
            panic!("{chunks:?}");
        };
        assert_eq!((chunk.min_time, chunk.max_time), (1_000, 1_015));
        let raw = chunk.raw.as_ref().unwrap();
        assert_eq!((raw.r#type, raw.hash), (0, 0));
        let (mut times, mut values) = (Vec::new(), Vec::new());
        decode_floats(Encoding::Xor, &raw.data, &mut times, &mut values).unwrap();
        assert_eq!((times, values), (vec![1_000, 1_015], vec![2.5, 2.5]));
    }

    #[test]
    fn aggregates_are_in_the_fields_that_have_their_names() {
        let data = AggregateChunk::default()
            .with(Aggregate::Count, Encoding::Xor, b"count")
            .with(Aggregate::Sum, Encoding::FloatHistogram, b"sum")
            .with(Aggregate::Counter, Encoding::FloatHistogram, b"counter")
            .encode();
        let slice = slice(Encoding::Aggregate, &data);
        let mut chunks = wire_chunks(&slice, &Aggregates::All, true).unwrap();
        let chunk = chunks.remove(0);
        assert_eq!((chunk.min_time, chunk.max_time), (1_000, 1_015));
        assert_eq!((chunk.raw, chunk.min, chunk.max), (None, None, None));
        let parts = [
            (chunk.count, 0, &b"count"[..]),
            (chunk.sum, 2, b"sum"),
            (chunk.counter, 2, b"counter"),
        ];
        for (part, number, data) in parts {
            let part = part.unwrap();
            assert_eq!((part.r#type, &part.data[..]), (number, data));
            assert_eq!(part.hash, xxh64(data, 0));
        }
        let cut = ChunkSlice {
            data: slice.data.slice(..slice.data.len() - 1),
            ..slice
        };
        assert!(wire_chunks(&cut, &Aggregates::All, false).is_err());
    }

    #[test]
    fn histograms_with_start_times_are_encoded_anew_without_them() {
        let histogram = Arc::new(Histogram {
            count: 3.0,
            zero_count: 3.0,
            ..Histogram::default()
        });
        let histograms = [Arc::clone(&histogram), histogram];
        for (counts, number) in [(Counts::Whole, 1), (Counts::Float, 2)] {
            let chunks = encode_histograms(counts, &[1_000, 1_015], &histograms, Some(&[7, 7]));
            let with_starts = chunks.unwrap().remove(0);
            let slice = slice(with_starts.encoding, &with_starts.data);
            let chunks = wire_chunks(&slice, &Aggregates::All, false).unwrap();
            let raw = chunks[0].raw.as_ref().unwrap();
            assert_eq!((chunks.len(), raw.r#type), (1, number));
            let plain = encode_histograms(counts, &[1_000, 1_015], &histograms, None).unwrap();
            assert_eq!(raw.data, plain[0].data);
        }
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for len in 0..xor2().len() {
            let cut = slice(Encoding::Xor2, &xor2()[..len]);
            assert!(
                wire_chunks(&cut, &Aggregates::All, false).is_err(),
                "len {len}"
            );
        }
    }

    #[test]
    fn a_matcher_of_no_known_type_is_refused() {
        let matcher = LabelMatcher {
            r#type: 9,
            name: "a".to_owned(),
            value: "b".to_owned(),
        };
        let status = matchers(&[matcher]).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
