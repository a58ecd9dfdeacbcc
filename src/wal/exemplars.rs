//! Records of exemplars.

use crate::foundation::Cursor;
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::model::{Exemplar, Label, Labels, TimestampMs};
use crate::wal::WalError;

const EXEMPLARS: u8 = 4;

/// An exemplar and the reference of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct RefExemplar {
    /// The series' reference in this log.
    pub series: u64,
    /// The log does not say whether the time was its own.
    pub exemplar: Exemplar,
}

/// Collects an exemplars record; its buffer is reused.
#[derive(Debug, Default)]
pub struct ExemplarsEncoder {
    body: Vec<u8>,
    first: Option<(u64, TimestampMs)>,
}

impl ExemplarsEncoder {
    /// Forgets everything, keeps the buffer.
    pub fn clear(&mut self) {
        self.body.clear();
        self.first = None;
    }

    /// Adds one exemplar.
    pub fn push(&mut self, series: u64, exemplar: &Exemplar) {
        let (first_series, first_t) = *self.first.get_or_insert_with(|| {
            self.body.push(EXEMPLARS);
            self.body.extend_from_slice(&series.to_be_bytes());
            self.body.extend_from_slice(&exemplar.t.to_be_bytes());
            (series, exemplar.t)
        });
        let body = &mut self.body;
        put_varint(body, series.wrapping_sub(first_series).cast_signed());
        put_varint(body, exemplar.t.wrapping_sub(first_t));
        body.extend_from_slice(&exemplar.v.to_bits().to_be_bytes());
        put_uvarint(body, exemplar.labels.len() as u64);
        for (name, value) in &exemplar.labels {
            put_uvarint_bytes(body, name.as_bytes());
            put_uvarint_bytes(body, value.as_bytes());
        }
    }

    /// The record, unless nothing was added.
    pub fn record(&self) -> Option<&[u8]> {
        self.first.map(|_| self.body.as_slice())
    }
}

/// The entries of an exemplars record. One whose labels are no label set is left out.
pub fn decode_exemplars(body: &[u8]) -> Result<Vec<RefExemplar>, WalError> {
    let mut cursor = Cursor::new(body);
    cursor.u8("record type")?;
    let mut entries = Vec::new();
    if cursor.is_empty() {
        return Ok(entries);
    }
    let first_series = cursor.u64_be("first reference")?;
    let first_t = cursor.i64_be("first time")?;
    let mut pairs: Vec<Label<'_>> = Vec::new();
    while !cursor.is_empty() {
        let series = cursor.varint("reference")?.cast_unsigned();
        let t = cursor.varint("time")?;
        let v = cursor.f64_be("value")?;
        pairs.clear();
        for _ in 0..cursor.uvarint_len("label count")? {
            let name = cursor.uvarint_str("label name")?;
            pairs.push((name, cursor.uvarint_str("label value")?));
        }
        let Ok(labels) = Labels::new(&pairs) else {
            continue;
        };
        entries.push(RefExemplar {
            series: first_series.wrapping_add(series),
            exemplar: Exemplar {
                labels,
                v,
                t: first_t.wrapping_add(t),
                has_own_time: false,
            },
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_have_the_bytes_prometheus_writes() {
        let exemplar = |t, v, labels: &[(&str, &str)]| Exemplar {
            labels: Labels::new(labels).unwrap(),
            v,
            t,
            has_own_time: false,
        };
        let entries = [
            RefExemplar {
                series: 10,
                exemplar: exemplar(1000, 1.5, &[("id", "x")]),
            },
            RefExemplar {
                series: 9,
                exemplar: exemplar(1015, 2.0, &[]),
            },
        ];
        let mut encoder = ExemplarsEncoder::default();
        assert_eq!(encoder.record(), None);
        for entry in &entries {
            encoder.push(entry.series, &entry.exemplar);
        }
        let mut golden = vec![4];
        golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0x03, 0xe8]);
        golden.extend_from_slice(b"\0\0\x3f\xf8\0\0\0\0\0\0\x01\x02id\x01x");
        golden.extend_from_slice(&[1, 30, 0x40, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encoder.record(), Some(golden.as_slice()));
        assert_eq!(decode_exemplars(&golden).unwrap(), entries);
        for n in 1..golden.len() {
            // Only between two entries is a record complete.
            let is_whole = [1, 17, 33].contains(&n);
            assert_eq!(decode_exemplars(&golden[..n]).is_ok(), is_whole, "{n}");
        }
        assert_eq!(decode_exemplars(&[4]).unwrap(), []);
    }
}
