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

#[cfg(test)]
mod tests {
    use super::*;

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
            let chunks = raw_chunks(&slice(encoding, b"data"), true).unwrap();
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
        let chunks = raw_chunks(&slice(Encoding::Xor2, &xor2()), false).unwrap();
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
    fn what_cannot_be_carried_or_read_says_so() {
        let why = raw_chunks(&slice(Encoding::HistogramSt, b"x"), false).unwrap_err();
        assert_eq!(why, "chunk encoding HistogramSt has no place in StoreAPI");
        for len in 0..xor2().len() {
            let cut = slice(Encoding::Xor2, &xor2()[..len]);
            assert!(raw_chunks(&cut, false).is_err(), "len {len}");
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
