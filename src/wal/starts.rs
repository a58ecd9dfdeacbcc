//! Records whose samples say since when they count: 11, and what 12 and 13 share with it.

use crate::foundation::Cursor;
use crate::foundation::cursor::put_varint;
use crate::model::{SampleTime, TimestampMs};
use crate::wal::WalError;
use crate::wal::record::RefSample;

const SAMPLES_V2: u8 = 11;

/// How a start time is written: there is none, it is that of the entry before, or it follows.
const NONE: u8 = 0;
const SAME: u8 = 1;
const EXPLICIT: u8 = 2;

/// Series and times of the entries of one record: references relative to the entry before, times to the first.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chain {
    first: Option<SampleTime>,
    series: u64,
    start_t: TimestampMs,
}

impl Chain {
    pub(super) fn put(&mut self, body: &mut Vec<u8>, series: u64, at: SampleTime) {
        match self.first {
            None => {
                put_varint(body, series.cast_signed());
                put_varint(body, at.t);
                put_varint(body, at.start_t);
                self.first = Some(at);
            }
            Some(first) => {
                put_varint(body, series.wrapping_sub(self.series).cast_signed());
                put_varint(body, at.t.wrapping_sub(first.t));
                if at.start_t == 0 {
                    body.push(NONE);
                } else if at.start_t == self.start_t {
                    body.push(SAME);
                } else {
                    body.push(EXPLICIT);
                    put_varint(body, at.start_t.wrapping_sub(first.start_t));
                }
            }
        }
        self.series = series;
        self.start_t = at.start_t;
    }

    pub(super) fn take(&mut self, cursor: &mut Cursor<'_>) -> Result<(u64, SampleTime), WalError> {
        let at = match self.first {
            None => {
                self.series = cursor.varint("first reference")?.cast_unsigned();
                let at = SampleTime {
                    t: cursor.varint("first time")?,
                    start_t: cursor.varint("first start time")?,
                };
                self.first = Some(at);
                at
            }
            Some(first) => {
                let step = cursor.varint("reference")?.cast_unsigned();
                self.series = self.series.wrapping_add(step);
                SampleTime {
                    t: first.t.wrapping_add(cursor.varint("time")?),
                    start_t: self.take_start(cursor, first)?,
                }
            }
        };
        self.start_t = at.start_t;
        Ok((self.series, at))
    }

    fn take_start(
        &self,
        cursor: &mut Cursor<'_>,
        first: SampleTime,
    ) -> Result<TimestampMs, WalError> {
        let offset = cursor.offset();
        match cursor.u8("start time marker")? {
            NONE => Ok(0),
            SAME => Ok(self.start_t),
            EXPLICIT => Ok(first.start_t.wrapping_add(cursor.varint("start time")?)),
            marker => Err(WalError::Value {
                what: "start time marker",
                offset,
                value: marker.to_string(),
            }),
        }
    }
}

/// Collects a record of floats with start times; its buffer is reused.
#[derive(Debug, Default)]
pub struct StartedSamplesEncoder {
    body: Vec<u8>,
    chain: Chain,
}

impl StartedSamplesEncoder {
    /// Forgets everything, keeps the buffer.
    pub fn clear(&mut self) {
        self.body.clear();
        self.chain = Chain::default();
    }

    /// Adds one sample.
    pub fn push(&mut self, series: u64, at: SampleTime, v: f64) {
        if self.body.is_empty() {
            self.body.push(SAMPLES_V2);
        }
        self.chain.put(&mut self.body, series, at);
        self.body.extend_from_slice(&v.to_bits().to_be_bytes());
    }

    /// The record, unless nothing was added.
    pub fn record(&self) -> Option<&[u8]> {
        (!self.body.is_empty()).then_some(self.body.as_slice())
    }
}

/// `cursor` stands behind the record type.
pub(super) fn read_started(
    cursor: &mut Cursor<'_>,
    mut each: impl FnMut(&RefSample),
) -> Result<(), WalError> {
    let mut chain = Chain::default();
    while !cursor.is_empty() {
        let (series, at) = chain.take(cursor)?;
        each(&RefSample {
            series,
            t: at.t,
            start_t: at.start_t,
            v: cursor.f64_be("value")?,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::decode_samples;

    /// References 5, 7, 6 and 6 at 1000, 1010, 1020 and 1030, counting since 900, 900, nowhere and 950.
    const GOLDEN: &[u8] = &[
        11, 10, 0xd0, 0x0f, 0x88, 0x0e, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, // first
        4, 20, 1, 0x40, 0, 0, 0, 0, 0, 0, 0, // the same start
        1, 40, 0, 0x40, 0x08, 0, 0, 0, 0, 0, 0, // none
        0, 60, 2, 100, 0x40, 0x10, 0, 0, 0, 0, 0, 0, // told
    ];

    #[test]
    fn samples_with_start_times_have_the_bytes_prometheus_writes() {
        let samples = [
            (5, 1000, 900, 1.0),
            (7, 1010, 900, 2.0),
            (6, 1020, 0, 3.0),
            (6, 1030, 950, 4.0),
        ];
        let mut encoder = StartedSamplesEncoder::default();
        assert_eq!(encoder.record(), None);
        for (series, t, start_t, v) in samples {
            encoder.push(series, SampleTime { t, start_t }, v);
        }
        assert_eq!(encoder.record(), Some(GOLDEN));
        let mut decoded = Vec::new();
        decode_samples(GOLDEN, &mut decoded).unwrap();
        let got: Vec<_> = decoded
            .iter()
            .map(|s| (s.series, s.t, s.start_t, s.v))
            .collect();
        assert_eq!(got, samples);
    }

    #[test]
    fn an_unknown_marker_ends_the_record() {
        let mut body = GOLDEN.to_vec();
        body[16] = 3;
        let mut decoded = Vec::new();
        assert!(decode_samples(&body, &mut decoded).is_err());
        assert_eq!(decoded.len(), 1);
    }
}
