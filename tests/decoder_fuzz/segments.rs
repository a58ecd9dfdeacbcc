//! Chunk segments of blocks, and chunk files of the head.

use bytes::Bytes;
use gauntlet::chunk::{
    HEAD_FILE_HEADER_BYTES, HeadChunk, check_head_file_header, decode_chunk, encode_chunk,
    encode_head_file_header,
};
use gauntlet::model::Encoding;

use crate::chunks::{broken_chunk, read_chunk, seeds};
use crate::dice::Dice;
use crate::harness::{Target, run};
use crate::mutate::{broken, odd_number};
use crate::samples::START;

const ENCODINGS: [Encoding; 6] = [
    Encoding::Xor,
    Encoding::Xor2,
    Encoding::Histogram,
    Encoding::FloatHistogram,
    Encoding::HistogramSt,
    Encoding::FloatHistogramSt,
];

/// Magic, version and padding of a segment.
const SEGMENT_HEADER: [u8; 8] = [0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];

/// A few chunks, whole or broken, of any encoding; sometimes of another than they say.
fn some_chunks(dice: &mut Dice, all: &[Vec<Vec<u8>>]) -> Vec<(Encoding, Vec<u8>)> {
    (0..1 + dice.below(6))
        .map(|_| {
            let kind = dice.below(ENCODINGS.len());
            let seeds = &all[kind];
            let data = if dice.chance(50) {
                broken_chunk(dice, seeds)
            } else {
                seeds[dice.below(seeds.len())].clone()
            };
            let told = if dice.chance(5) {
                dice.below(ENCODINGS.len())
            } else {
                kind
            };
            (ENCODINGS[told], data)
        })
        .collect()
}

fn all_seeds() -> Vec<Vec<Vec<u8>>> {
    ENCODINGS.map(seeds).to_vec()
}

#[test]
fn broken_segments_are_read_or_refused() {
    let all = all_seeds();
    let make = |dice: &mut Dice| {
        let mut bytes = SEGMENT_HEADER.to_vec();
        let mut places = Vec::new();
        for (encoding, data) in some_chunks(dice, &all) {
            places.push(bytes.len());
            encode_chunk(&mut bytes, encoding, &data);
        }
        if dice.chance(50) {
            bytes = broken(dice, &bytes, &SEGMENT_HEADER);
        }
        places.push(usize::try_from(odd_number(dice)).unwrap());
        (bytes, places)
    };
    let target = Target::new("segment", 20).holds(1_024, 64 << 10);
    run(target, make, |(bytes, places)| {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut n_read = 1;
        for place in places {
            if let Ok(chunk) = decode_chunk(&bytes, *place) {
                assert!(chunk.n_bytes <= bytes.len() - place, "beyond the end");
                n_read += read_chunk(chunk.encoding, &chunk.data);
            }
        }
        n_read
    });
}

#[test]
fn broken_head_chunk_files_are_read_or_refused() {
    let all = all_seeds();
    let make = |dice: &mut Dice| {
        let mut bytes = encode_head_file_header().to_vec();
        for (encoding, data) in some_chunks(dice, &all) {
            let chunk = HeadChunk {
                series_ref: odd_number(dice),
                min_t: START,
                max_t: odd_number(dice).cast_signed(),
                is_out_of_order: dice.chance(30),
                encoding,
                data: Bytes::from(data),
            };
            chunk.encode(&mut bytes);
        }
        if dice.chance(50) {
            bytes = broken(dice, &bytes, &[0; 64]);
        }
        // As a file that was made longer than its content.
        bytes.resize(bytes.len() + dice.below(64), 0);
        bytes
    };
    let target = Target::new("head chunk file", 21).holds(1_024, 64 << 10);
    run(target, make, |bytes| {
        let bytes = Bytes::copy_from_slice(bytes);
        if check_head_file_header(&bytes).is_err() {
            return 0;
        }
        let (mut offset, mut n_read) = (HEAD_FILE_HEADER_BYTES, 1);
        while let Ok(Some((chunk, next))) = HeadChunk::decode(&bytes, offset) {
            assert!(
                offset < next && next <= bytes.len(),
                "from {offset} to {next}"
            );
            offset = next;
            n_read += read_chunk(chunk.encoding, &chunk.data);
        }
        n_read
    });
}
