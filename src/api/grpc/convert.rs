//! Wire types to ours and back.

use bytes::Bytes;
use tonic::Status;
use xxhash_rust::xxh64::xxh64;

use crate::chunk::{decode_floats, encode_floats};
use crate::model::{Encoding, Labels, MatchType, Matcher};
use crate::storage::ChunkSlice;
use crate::wire::thanos::{AggrChunk, Chunk, Label, LabelMatcher, LabelSet, chunk, label_matcher};

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

/// A chunk as raw data; `Err` says why it cannot be carried.
///
/// Encodings without a number on the wire are encoded anew where they hold floats.
pub(crate) fn raw_chunks(slice: &ChunkSlice, with_hash: bool) -> Result<Vec<AggrChunk>, String> {
    let encoding = match slice.encoding {
        Encoding::Xor => chunk::Encoding::Xor,
        Encoding::Histogram => chunk::Encoding::Histogram,
        Encoding::FloatHistogram => chunk::Encoding::FloatHistogram,
        Encoding::Xor2 => return again_as_xor(slice, with_hash),
        other @ (Encoding::HistogramSt | Encoding::FloatHistogramSt) => {
            return Err(format!("chunk encoding {other:?} has no place in StoreAPI"));
        }
    };
    let interval = (slice.min_t, slice.max_t);
    Ok(vec![raw(interval, encoding, slice.data.clone(), with_hash)])
}

fn again_as_xor(slice: &ChunkSlice, with_hash: bool) -> Result<Vec<AggrChunk>, String> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    decode_floats(slice.encoding, &slice.data, &mut times, &mut values)
        .and_then(|()| encode_floats(&times, &values))
        .map(|chunks| {
            let raws = chunks.into_iter().map(|chunk| {
                let interval = (chunk.min_t, chunk.max_t);
                raw(interval, chunk::Encoding::Xor, chunk.data.into(), with_hash)
            });
            raws.collect()
        })
        .map_err(|error| error.to_string())
}

fn raw(interval: (i64, i64), encoding: chunk::Encoding, data: Bytes, with_hash: bool) -> AggrChunk {
    let hash = if with_hash { xxh64(&data, 0) } else { 0 };
    AggrChunk {
        min_time: interval.0,
        max_time: interval.1,
        raw: Some(Chunk {
            r#type: encoding.into(),
            data,
            hash,
        }),
        ..AggrChunk::default()
    }
}
