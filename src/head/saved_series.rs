//! One series in a snapshot: what is guarded by its lock, there and back.

use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::{decode_floats_with_starts, decode_histograms_with_starts};
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::foundation::{Cursor, ShortRead};
use crate::head::closed::ClosedChunk;
use crate::head::open_chunk::{OpenChunk, SavedChunk, ValueKind};
use crate::head::out_of_order::{LateChunk, LateSample, LateValue, OutOfOrder, Place, encode};
use crate::head::series::{CommitId, MappedChunk, SeriesState};
use crate::model::{Counts, Encoding, SampleTime, TimestampMs};

/// What was there at the start is visible to all.
const AT_START: CommitId = 0;

impl SeriesState {
    /// Everything that the next process needs of it.
    pub(crate) fn save(&self, out: &mut Vec<u8>) -> Result<(), String> {
        out.push(match self.kind {
            ValueKind::Float => 0,
            ValueKind::Histogram(Counts::Whole) => 1,
            ValueKind::Histogram(Counts::Float) => 2,
        });
        out.push(u8::from(self.is_custom));
        put_uvarint(out, self.mapped.len() as u64);
        for chunk in &self.mapped {
            put_times(out, chunk.min_t, chunk.max_t);
            put_place(out, chunk.file, chunk.offset);
        }
        put_uvarint(out, self.closed().len() as u64);
        for chunk in self.closed() {
            put_times(out, chunk.min_t, chunk.max_t);
            put_data(out, chunk.encoding, &chunk.data);
        }
        out.push(u8::from(self.open.is_some()));
        if let Some(open) = &self.open {
            let saved = open.saved();
            put_times(out, saved.min_t, saved.max_t);
            put_varint(out, saved.next_at);
            out.push(u8::from(saved.is_judged));
            out.extend_from_slice(&saved.last.to_bits().to_be_bytes());
            put_data(out, saved.encoding, saved.data);
        }
        out.push(u8::from(self.late.is_some()));
        self.late
            .as_ref()
            .map_or(Ok(()), |late| save_late(late, out))
    }

    /// The series that was saved. Its chunks in files are to be looked for.
    pub(crate) fn restore(body: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor::new(body);
        let mut state = Self::default();
        state.is_logged = true;
        state.restore_from(&mut cursor)?;
        match cursor.is_empty() {
            true => Ok(state),
            false => Err("bytes behind a series".to_owned()),
        }
    }

    fn restore_from(&mut self, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let short = |error: ShortRead| error.to_string();
        self.kind = match cursor.u8("kind of values").map_err(short)? {
            0 => ValueKind::Float,
            1 => ValueKind::Histogram(Counts::Whole),
            2 => ValueKind::Histogram(Counts::Float),
            other => return Err(format!("values of kind {other}")),
        };
        self.is_custom = take_flag(cursor)?;
        let n_mapped = cursor.uvarint("chunks in files").map_err(short)?;
        // As many as it mostly has, and no more: many series have some.
        self.mapped
            .reserve_exact(usize::try_from(n_mapped).map_or(16, |n| n.min(16)));
        for _ in 0..n_mapped {
            self.mapped.push(take_mapped(cursor).map_err(short)?);
        }
        for _ in 0..cursor.uvarint("closed chunks").map_err(short)? {
            let (min_t, max_t) = take_times(cursor).map_err(short)?;
            let (encoding, data) = take_data(cursor)?;
            let data = Bytes::copy_from_slice(data);
            self.push_closed(ClosedChunk {
                min_t,
                max_t,
                encoding,
                data,
            });
        }
        if take_flag(cursor)? {
            let (min_t, max_t) = take_times(cursor).map_err(short)?;
            let next_at = cursor.varint("end of the chunk").map_err(short)?;
            let is_judged = take_flag(cursor)?;
            let last = cursor.f64_be("last value").map_err(short)?;
            let (encoding, data) = take_data(cursor)?;
            let saved = SavedChunk {
                encoding,
                data,
                min_t,
                max_t,
                next_at,
                is_judged,
                last,
            };
            let open = OpenChunk::restore(saved);
            self.open = Some(open.map_err(|error| error.to_string())?);
        }
        if take_flag(cursor)? {
            self.late = Some(Box::new(restore_late(cursor)?));
        }
        Ok(())
    }
}

fn save_late(late: &OutOfOrder, out: &mut Vec<u8>) -> Result<(), String> {
    put_uvarint(out, late.chunks.len() as u64);
    for chunk in &late.chunks {
        put_times(out, chunk.min_t, chunk.max_t);
        match &chunk.place {
            Place::Memory(data) => {
                out.push(0);
                put_data(out, chunk.encoding, data);
            }
            Place::File { file, offset } => {
                out.push(1);
                put_place(out, *file, *offset);
                put_data(out, chunk.encoding, &[]);
            }
        }
    }
    let waiting = encode(late.open.iter().map(|(sample, _)| sample));
    let waiting = waiting.map_err(|error| error.to_string())?;
    put_uvarint(out, waiting.len() as u64);
    for chunk in waiting {
        put_data(out, chunk.encoding, &chunk.data);
    }
    Ok(())
}

fn restore_late(cursor: &mut Cursor<'_>) -> Result<OutOfOrder, String> {
    let short = |error: ShortRead| error.to_string();
    let mut late = OutOfOrder::default();
    for _ in 0..cursor.uvarint("out-of-order chunks").map_err(short)? {
        let (min_t, max_t) = take_times(cursor).map_err(short)?;
        let place = match take_flag(cursor)? {
            true => {
                let (file, offset) = take_place(cursor).map_err(short)?;
                Some(Place::File { file, offset })
            }
            false => None,
        };
        let (encoding, data) = take_data(cursor)?;
        late.chunks.push(LateChunk {
            min_t,
            max_t,
            encoding,
            place: place.unwrap_or_else(|| Place::Memory(Bytes::copy_from_slice(data))),
            is_frozen: false,
            unseen: Vec::new(),
        });
    }
    for _ in 0..cursor.uvarint("chunks of waiting samples").map_err(short)? {
        let (encoding, data) = take_data(cursor)?;
        let waiting = waiting(encoding, data).map_err(|error| error.to_string())?;
        late.open
            .extend(waiting.into_iter().map(|sample| (sample, AT_START)));
    }
    if !late
        .open
        .is_sorted_by(|(left, _), (right, _)| left.at.t < right.at.t)
    {
        return Err("waiting samples are not in order".to_owned());
    }
    Ok(late)
}

fn waiting(encoding: Encoding, data: &[u8]) -> Result<Vec<LateSample>, crate::chunk::ChunkError> {
    let (mut times, mut starts) = (Vec::new(), Vec::new());
    let values: Vec<LateValue> = match ValueKind::of(encoding) {
        ValueKind::Float => {
            let mut values = Vec::new();
            decode_floats_with_starts(encoding, data, &mut times, &mut values, &mut starts)?;
            values.into_iter().map(LateValue::Float).collect()
        }
        ValueKind::Histogram(counts) => {
            let mut values = Vec::new();
            decode_histograms_with_starts(encoding, data, &mut times, &mut values, &mut starts)?;
            let values = values.into_iter();
            values
                .map(|histogram| LateValue::Histogram(counts, Arc::clone(&histogram)))
                .collect()
        }
    };
    let at = times.into_iter().zip(starts);
    let at = at.map(|(t, start_t)| SampleTime { t, start_t });
    let samples = at.zip(values);
    Ok(samples
        .map(|(at, value)| LateSample { at, value })
        .collect())
}

fn put_times(out: &mut Vec<u8>, min_t: TimestampMs, max_t: TimestampMs) {
    put_varint(out, min_t);
    put_varint(out, max_t);
}

fn take_times(cursor: &mut Cursor<'_>) -> Result<(TimestampMs, TimestampMs), ShortRead> {
    Ok((cursor.varint("first time")?, cursor.varint("last time")?))
}

fn put_place(out: &mut Vec<u8>, file: u32, offset: u32) {
    put_uvarint(out, u64::from(file));
    put_uvarint(out, u64::from(offset));
}

fn take_place(cursor: &mut Cursor<'_>) -> Result<(u32, u32), ShortRead> {
    Ok((cursor.uvarint32("file")?, cursor.uvarint32("offset")?))
}

fn take_mapped(cursor: &mut Cursor<'_>) -> Result<MappedChunk, ShortRead> {
    let (min_t, max_t) = take_times(cursor)?;
    let (file, offset) = take_place(cursor)?;
    Ok(MappedChunk {
        min_t,
        max_t,
        file,
        offset,
    })
}

fn put_data(out: &mut Vec<u8>, encoding: Encoding, data: &[u8]) {
    out.push(encoding.as_byte());
    put_uvarint_bytes(out, data);
}

fn take_data<'a>(cursor: &mut Cursor<'a>) -> Result<(Encoding, &'a [u8]), String> {
    let short = |error: ShortRead| error.to_string();
    let byte = cursor.u8("encoding").map_err(short)?;
    let encoding = Encoding::from_byte(byte).filter(|encoding| *encoding != Encoding::Aggregate);
    let encoding = encoding.ok_or_else(|| format!("encoding {byte}"))?;
    Ok((encoding, cursor.uvarint_bytes("chunk").map_err(short)?))
}

fn take_flag(cursor: &mut Cursor<'_>) -> Result<bool, String> {
    match cursor.u8("flag").map_err(|error| error.to_string())? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("flag {other}")),
    }
}
