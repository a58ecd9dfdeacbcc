//! One series in a snapshot: what is guarded by its lock, there and back.

use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::{decode_floats_with_starts, decode_histograms_with_starts};
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::foundation::{Cursor, ShortRead};
use crate::head::closed::ClosedChunk;
use crate::head::open_chunk::{OpenChunk, SavedChunk, ValueKind};
use crate::head::out_of_order::{LateChunk, LateSample, LateValue, OutOfOrder, Place, encode};
use crate::head::replay::extend;
use crate::head::series::{CommitId, MappedChunk, SeriesState};
use crate::model::{Counts, Encoding, Interval, SampleTime, TimestampMs};

/// What was there at the start is visible to all.
const AT_START: CommitId = 0;

impl SeriesState {
    /// Everything that the next process needs of it.
    pub(crate) fn save(&self, out: &mut Vec<u8>) -> Result<(), String> {
        self.save_kind(out);
        put_uvarint(out, self.mapped.len() as u64);
        for chunk in &self.mapped {
            put_times(out, chunk.min_t, chunk.max_t);
            put_place(out, chunk.file, chunk.offset);
        }
        self.save_chunks(out);
        out.push(u8::from(self.late.is_some()));
        self.late
            .as_ref()
            .map_or(Ok(()), |late| save_late(late, out))
    }

    fn save_kind(&self, out: &mut Vec<u8>) {
        out.push(match self.kind {
            ValueKind::Float => 0,
            ValueKind::Histogram(Counts::Whole) => 1,
            ValueKind::Histogram(Counts::Float) => 2,
        });
        out.push(u8::from(self.is_custom));
    }

    /// Those that no file has.
    fn save_chunks(&self, out: &mut Vec<u8>) {
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
    }

    /// The chunks in order that no file has, if there are any: what a redo point needs of it.
    pub(crate) fn save_newest(&self, out: &mut Vec<u8>) {
        self.save_kind(out);
        self.save_chunks(out);
    }

    /// The time of the newest sample of those chunks.
    pub(crate) fn newest_max_t(&self) -> Option<TimestampMs> {
        let closed = self.closed().last().map(|chunk| chunk.max_t);
        self.open.as_ref().map(|open| open.max_t).or(closed)
    }

    /// Takes the chunks of [`SeriesState::save_newest`] that end at `floor` or later and are newer than those in files: how
    /// many, and the time they span.
    pub(crate) fn restore_newest(
        &mut self,
        body: &[u8],
        floor: TimestampMs,
    ) -> Result<(usize, Option<Interval>), String> {
        if !self.closed().is_empty() || self.open.is_some() {
            return Err("a series has newer chunks already".to_owned());
        }
        let mut cursor = Cursor::new(body);
        let mut saved = Self::default();
        saved.restore_kind(&mut cursor)?;
        saved.restore_chunks(&mut cursor)?;
        if !cursor.is_empty() {
            return Err("bytes behind the chunks of a series".to_owned());
        }
        let mut behind = self.last_mapped().map(|last| last.max_t);
        let mut is_wanted = |min: TimestampMs, max: TimestampMs| {
            if max < floor || behind.is_some_and(|behind| max <= behind) {
                return Ok(false);
            }
            match behind.replace(max) {
                Some(behind) if min <= behind => Err("chunks of a series overlap".to_owned()),
                _ if max < min => Err("a chunk ends before it begins".to_owned()),
                _ => Ok(true),
            }
        };
        let (mut n, mut span) = (0, None);
        for chunk in saved.closed() {
            if is_wanted(chunk.min_t, chunk.max_t)? {
                extend(&mut span, chunk.min_t, chunk.max_t);
                self.push_closed(chunk.clone());
                n += 1;
            }
        }
        if let Some(open) = saved.open
            && is_wanted(open.min_t, open.max_t)?
        {
            extend(&mut span, open.min_t, open.max_t);
            self.open = Some(open);
            n += 1;
        }
        if 0 < n {
            (self.kind, self.is_custom) = (saved.kind, saved.is_custom);
        }
        Ok((n, span))
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
        self.restore_kind(cursor)?;
        let n_mapped = cursor.uvarint("chunks in files").map_err(short)?;
        // As many as it mostly has, and no more: many series have some.
        self.mapped
            .reserve_exact(usize::try_from(n_mapped).map_or(16, |n| n.min(16)));
        for _ in 0..n_mapped {
            self.mapped.push(take_mapped(cursor).map_err(short)?);
        }
        self.restore_chunks(cursor)?;
        if take_flag(cursor)? {
            self.late = Some(Box::new(restore_late(cursor)?));
        }
        Ok(())
    }

    fn restore_kind(&mut self, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let kind = cursor.u8("kind of values");
        self.kind = match kind.map_err(|error| error.to_string())? {
            0 => ValueKind::Float,
            1 => ValueKind::Histogram(Counts::Whole),
            2 => ValueKind::Histogram(Counts::Float),
            other => return Err(format!("values of kind {other}")),
        };
        self.is_custom = take_flag(cursor)?;
        Ok(())
    }

    fn restore_chunks(&mut self, cursor: &mut Cursor<'_>) -> Result<(), String> {
        let short = |error: ShortRead| error.to_string();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::open_chunk::{ChunkRules, Value};
    use crate::head::series::CommitPoint;

    /// A series with two closed chunks and an open one.
    fn three_chunks() -> SeriesState {
        let rules = ChunkRules {
            range_ms: 1 << 40,
            writes_xor2: false,
            keeps_starts: false,
        };
        let at = CommitPoint {
            id: AT_START,
            oldest_view: AT_START,
        };
        let mut state = SeriesState::default();
        for t in 0..300 {
            let v = f64::from(i32::try_from(t).unwrap()) * 0.3;
            state
                .push(SampleTime::from(1000 + t), Value::Float(v), at, rules)
                .unwrap();
        }
        assert_eq!((state.closed().len(), state.open.is_some()), (2, true));
        state
    }

    /// The first `n` of its chunks are in files.
    fn with_mapped(state: &SeriesState, n: usize) -> SeriesState {
        let mut other = SeriesState::default();
        for chunk in state.closed().iter().take(n) {
            other.attach(MappedChunk {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                file: 1,
                offset: 8,
            });
        }
        other
    }

    #[test]
    fn of_the_newest_chunks_those_count_that_neither_files_nor_blocks_have() {
        let state = three_chunks();
        assert_eq!(state.newest_max_t(), Some(1299));
        let mut saved = Vec::new();
        state.save_newest(&mut saved);
        let min_of = |chunk: usize| state.closed()[chunk].min_t;
        let open_min = state.open.as_ref().unwrap().min_t;
        let mins = [min_of(0), min_of(1), open_min];
        for (n_mapped, floor, n) in [
            (0, 0, 3),
            (1, 0, 2),
            (2, 0, 1),
            (0, min_of(0) + 5, 3),
            (0, min_of(1), 2),
            (1, open_min, 1),
            (0, 1299, 1),
            (0, 1300, 0),
        ] {
            let mut found = with_mapped(&state, n_mapped);
            let (n_taken, span) = found.restore_newest(&saved, floor).unwrap();
            assert_eq!(n_taken, n, "{n_mapped} {floor}");
            let expect = (0 < n).then(|| Interval {
                min: mins[3 - n],
                max: 1299,
            });
            assert_eq!(span, expect);
            let n_closed = n.saturating_sub(1);
            assert_eq!(found.closed().len(), n_closed);
            assert_eq!(found.open.is_some(), 0 < n);
            if let Some(open) = &found.open {
                let expect = state.open.as_ref().map(OpenChunk::saved);
                assert_eq!(format!("{:?}", Some(open.saved())), format!("{expect:?}"));
            }
        }
    }

    #[test]
    fn newest_chunks_that_do_not_fit_are_refused_and_change_nothing() {
        let state = three_chunks();
        let mut saved = Vec::new();
        state.save_newest(&mut saved);
        for len in 0..saved.len() {
            let mut empty = SeriesState::default();
            assert!(empty.restore_newest(&saved[..len], 0).is_err(), "{len}");
            assert_eq!(empty.n_chunks(), 0);
        }
        let longer = [saved.as_slice(), &[0]].concat();
        assert!(SeriesState::default().restore_newest(&longer, 0).is_err());
        let mut again = SeriesState::default();
        again.restore_newest(&saved, 0).unwrap();
        assert!(again.restore_newest(&saved, 0).is_err(), "taken already");
        // A file ends in the middle of a chunk.
        let mut overlapping = SeriesState::default();
        overlapping.attach(MappedChunk {
            min_t: 900,
            max_t: 1010,
            file: 1,
            offset: 8,
        });
        assert!(overlapping.restore_newest(&saved, 0).is_err());
    }
}
