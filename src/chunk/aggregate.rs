//! Aggregates of a downsampled series, encoding 255: up to five chunks in one.

use crate::chunk::decode::n_samples;
use crate::chunk::error::ChunkError;
use crate::foundation::Cursor;
use crate::foundation::cursor::put_uvarint;
use crate::model::{Aggregate, Encoding};

/// One aggregate: how its bytes are to be read, and the bytes.
pub type AggregatePart<'a> = (Encoding, &'a [u8]);

/// The parts of an aggregate chunk; where they end is checked, what is in them is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AggregateChunk<'a> {
    /// In the order of [`Aggregate::ALL`].
    parts: [Option<AggregatePart<'a>>; Aggregate::ALL.len()],
}

impl<'a> AggregateChunk<'a> {
    /// Finds the parts. Bytes behind the last are ignored, as in every chunk.
    pub fn decode(data: &'a [u8]) -> Result<Self, ChunkError> {
        let mut cursor = Cursor::new(data);
        let mut chunk = Self::default();
        for (part, aggregate) in chunk.parts.iter_mut().zip(Aggregate::ALL) {
            let n_bytes = cursor.uvarint_len("length of an aggregate")?;
            if n_bytes == 0 {
                continue;
            }
            let byte = cursor.u8("encoding of an aggregate")?;
            let encoding = match Encoding::from_byte(byte) {
                Some(Encoding::Aggregate) => return Err(ChunkError::NestedAggregate(aggregate)),
                Some(encoding) => encoding,
                None => return Err(ChunkError::UnknownEncoding(byte)),
            };
            *part = Some((encoding, cursor.bytes("data of an aggregate", n_bytes)?));
        }
        Ok(chunk)
    }

    /// A chunk of these parts. One without bytes is absent: no encoding has an empty chunk of no bytes.
    pub fn with(mut self, aggregate: Aggregate, encoding: Encoding, data: &'a [u8]) -> Self {
        for (part, place) in self.parts.iter_mut().zip(Aggregate::ALL) {
            if place == aggregate {
                *part = (!data.is_empty()).then_some((encoding, data));
            }
        }
        self
    }

    /// Mirror of [`Self::decode`].
    ///
    /// Always give it a counter: an absent last part is a zero at the end, which Thanos takes for a chunk that is cut off.
    pub fn encode(&self) -> Vec<u8> {
        let parts = self.parts.iter().flatten();
        let n_bytes: usize = parts
            .map(|(_, data)| data.len() + PART_OVERHEAD_BYTES)
            .sum();
        let mut out = Vec::with_capacity(n_bytes + self.parts.len());
        for part in &self.parts {
            let Some((encoding, data)) = part else {
                put_uvarint(&mut out, 0);
                continue;
            };
            put_uvarint(&mut out, data.len() as u64);
            out.push(encoding.as_byte());
            out.extend_from_slice(data);
        }
        out
    }

    /// One aggregate, if it is there.
    pub fn part(&self, aggregate: Aggregate) -> Option<AggregatePart<'a>> {
        let mut parts = self.parts.iter().zip(Aggregate::ALL);
        parts.find_map(|(part, place)| part.filter(|_| place == aggregate))
    }

    /// The aggregates that are there, in order.
    pub fn parts(&self) -> impl Iterator<Item = (Aggregate, AggregatePart<'a>)> {
        let parts = self.parts.into_iter().zip(Aggregate::ALL);
        parts.filter_map(|(part, aggregate)| part.map(|part| (aggregate, part)))
    }

    /// Are these aggregates of native histograms? Their counter tells, as it does to Thanos.
    pub fn has_histograms(&self) -> bool {
        let counter = self.part(Aggregate::Counter);
        counter.is_some_and(|(encoding, _)| encoding.has_histograms())
    }

    /// How many windows: as many as there are counts.
    pub fn n_windows(&self) -> Result<usize, ChunkError> {
        let count = self.part(Aggregate::Count);
        count.map_or(Ok(0), |(encoding, data)| n_samples(encoding, data))
    }
}

/// What a part takes beside its data while it is shorter than two mebibytes.
const PART_OVERHEAD_BYTES: usize = 3 + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkRef, SegmentReader, SegmentWriter, XorAppender, decode_floats};
    use crate::model::{Counts, Histogram};

    /// What Thanos' downsampler writes of the samples 2 at 1000 and 3 at 2000: the counter begins with the first sample
    /// and ends with the value of the last one once more.
    #[rustfmt::skip]
    const GOLDEN: [u8; 76] = [
        12, 1, 0, 1, 0xa0, 0x1f, 0x40, 0, 0, 0, 0, 0, 0, 0, // count
        12, 1, 0, 1, 0xa0, 0x1f, 0x40, 0x14, 0, 0, 0, 0, 0, 0, // sum
        12, 1, 0, 1, 0xa0, 0x1f, 0x40, 0, 0, 0, 0, 0, 0, 0, // min
        12, 1, 0, 1, 0xa0, 0x1f, 0x40, 8, 0, 0, 0, 0, 0, 0, // max
        18, 1, 0, 3, 0xd0, 0x0f, 0x40, 0, 0, 0, 0, 0, 0, 0, 0xe8, 7, // counter
        0xd8, 0x0e, 0xf0, 0x60,
    ];

    fn floats(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut appender = XorAppender::new();
        for &(t, v) in samples {
            appender.append(t, v).unwrap();
        }
        appender.used_bytes().to_vec()
    }

    fn golden_parts() -> [Vec<u8>; 5] {
        let window = |v| floats(&[(2_000, v)]);
        let counter = floats(&[(1_000, 2.0), (2_000, 3.0), (2_000, 3.0)]);
        [window(2.0), window(5.0), window(2.0), window(3.0), counter]
    }

    fn chunk(parts: &[Vec<u8>; 5]) -> AggregateChunk<'_> {
        let parts = Aggregate::ALL.into_iter().zip(parts);
        parts.fold(AggregateChunk::default(), |chunk, (aggregate, data)| {
            chunk.with(aggregate, Encoding::Xor, data)
        })
    }

    #[test]
    fn the_aggregates_of_two_samples_have_these_bytes() {
        let parts = golden_parts();
        assert_eq!(chunk(&parts).encode(), GOLDEN);
        let read = AggregateChunk::decode(&GOLDEN).unwrap();
        assert_eq!(read, chunk(&parts));
        assert_eq!(read.n_windows().unwrap(), 1);
        assert_eq!(n_samples(Encoding::Aggregate, &GOLDEN).unwrap(), 1);
        assert!(!read.has_histograms());
    }

    #[test]
    fn what_is_absent_is_a_zero_and_what_is_there_comes_back() {
        let parts = golden_parts();
        for mask in 0u32..32 {
            let mut some = parts.clone();
            for (at, data) in some.iter_mut().enumerate() {
                if mask & 1 << at == 0 {
                    data.clear();
                }
            }
            let bytes = chunk(&some).encode();
            assert_eq!(bytes.len() == 5, mask == 0);
            let read = AggregateChunk::decode(&bytes).unwrap();
            for (at, (aggregate, data)) in Aggregate::ALL.into_iter().zip(&parts).enumerate() {
                let part = (mask & 1 << at != 0).then_some((Encoding::Xor, data.as_slice()));
                assert_eq!(read.part(aggregate), part, "{}", aggregate.name());
            }
            assert_eq!(read.parts().count(), mask.count_ones() as usize);
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for len in 0..GOLDEN.len() {
            let read = AggregateChunk::decode(&GOLDEN[..len]);
            assert!(matches!(read, Err(ChunkError::Header(_))), "len {len}");
            assert!(n_samples(Encoding::Aggregate, &GOLDEN[..len]).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_is_an_error_or_parts_within_the_bytes() {
        for bit in 0..GOLDEN.len() * 8 {
            let mut damaged = GOLDEN;
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            let Ok(read) = AggregateChunk::decode(&damaged) else {
                continue;
            };
            let n_bytes: usize = read.parts().map(|(_, (_, data))| data.len()).sum();
            assert!(n_bytes < GOLDEN.len(), "bit {bit}");
            let written = read.encode();
            assert_eq!(AggregateChunk::decode(&written).unwrap(), read, "bit {bit}");
        }
    }

    #[test]
    fn an_encoding_that_is_none_is_refused_and_so_is_an_aggregate_of_aggregates() {
        let mut bytes = GOLDEN;
        bytes[15] = 99;
        let text = AggregateChunk::decode(&bytes).unwrap_err().to_string();
        assert_eq!(text, "unknown chunk encoding 99");
        bytes[15] = 0xff;
        let text = AggregateChunk::decode(&bytes).unwrap_err().to_string();
        assert_eq!(text, "aggregate sum is itself a chunk of aggregates");
    }

    #[test]
    fn it_is_read_as_no_samples_and_its_times_are_those_of_its_counts() {
        let (mut t, mut v) = (Vec::new(), Vec::new());
        let text = decode_floats(Encoding::Aggregate, &GOLDEN, &mut t, &mut v).unwrap_err();
        assert!(text.to_string().contains("aggregates"), "{text}");
        let text =
            crate::chunk::decode_histograms(Encoding::Aggregate, &GOLDEN, &mut t, &mut Vec::new());
        assert!(text.unwrap_err().to_string().contains("aggregates"));
        crate::chunk::decode_times(Encoding::Aggregate, &GOLDEN, &mut t).unwrap();
        assert_eq!((t, v), (vec![2_000], vec![]));
    }

    #[test]
    fn its_counter_says_whether_it_holds_histograms() {
        let histograms = [std::sync::Arc::new(Histogram::default())];
        let encoded =
            crate::chunk::encode_histograms(Counts::Float, &[5], &histograms, None).unwrap();
        let data = &encoded[0].data;
        let chunk = AggregateChunk::default();
        assert!(!chunk.has_histograms());
        let sum = chunk.with(Aggregate::Sum, Encoding::FloatHistogram, data);
        assert!(!sum.has_histograms());
        let counter = sum.with(Aggregate::Counter, Encoding::FloatHistogram, data);
        assert!(counter.has_histograms());
    }

    #[test]
    fn a_segment_holds_it_behind_the_byte_255() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("chunks");
        let mut writer = SegmentWriter::create(&dir, 1 << 20).unwrap();
        writer.write(Encoding::Aggregate, &GOLDEN).unwrap();
        writer.finish().unwrap();
        let bytes = std::fs::read(dir.join("000001")).unwrap();
        assert_eq!(bytes[8..10], [u8::try_from(GOLDEN.len()).unwrap(), 0xff]);
        let stored = SegmentReader::open(&dir).unwrap();
        let stored = stored.chunk(ChunkRef(8)).unwrap();
        assert_eq!(stored.encoding, Encoding::Aggregate);
        assert_eq!(&stored.data[..], &GOLDEN);
    }
}
