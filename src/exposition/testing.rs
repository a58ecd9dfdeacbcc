//! Protobuf messages put together field by field.

use crate::foundation::cursor::put_uvarint;

/// A message in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn varint(mut self, number: u64, value: u64) -> Self {
        put_uvarint(&mut self.0, number << 3);
        put_uvarint(&mut self.0, value);
        self
    }

    /// A `sint32` or `sint64`.
    pub(crate) fn signed(self, number: u64, value: i64) -> Self {
        self.varint(number, zigzag(value))
    }

    pub(crate) fn double(mut self, number: u64, value: f64) -> Self {
        put_uvarint(&mut self.0, number << 3 | 1);
        self.0.extend(value.to_bits().to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, number: u64, bytes: &[u8]) -> Self {
        put_uvarint(&mut self.0, number << 3 | 2);
        put_uvarint(&mut self.0, bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(crate) fn text(self, number: u64, text: &str) -> Self {
        self.bytes(number, text.as_bytes())
    }

    pub(crate) fn message(self, number: u64, inner: Self) -> Self {
        let Self(inner) = inner;
        self.bytes(number, &inner)
    }

    /// Packed `sint64`s.
    pub(crate) fn packed(self, number: u64, values: &[i64]) -> Self {
        let mut packed = Vec::new();
        for value in values {
            put_uvarint(&mut packed, zigzag(*value));
        }
        self.bytes(number, &packed)
    }

    /// The label of a metric or an exemplar.
    pub(crate) fn label(self, name: &str, value: &str) -> Self {
        self.message(1, Self::default().text(1, name).text(2, value))
    }

    /// A span of buckets.
    pub(crate) fn span(self, number: u64, offset: i64, length: u64) -> Self {
        self.message(number, Self::default().signed(1, offset).varint(2, length))
    }

    /// A classic bucket.
    pub(crate) fn bucket(self, upper_bound: f64, count: u64) -> Self {
        let bucket = Self::default().varint(1, count).double(2, upper_bound);
        self.message(3, bucket)
    }

    pub(crate) fn timestamp(self, number: u64, seconds: u64, nanos: u64) -> Self {
        self.message(number, Self::default().varint(1, seconds).varint(2, nanos))
    }

    /// Its fields.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Itself, behind its length.
    pub(crate) fn delimited(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uvarint(&mut out, self.0.len() as u64);
        out.extend(&self.0);
        out
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// A metric family of `kind` that holds these metrics.
pub(crate) fn family(name: &str, kind: u64, metrics: Vec<Message>) -> Vec<u8> {
    let head = Message::default()
        .text(1, name)
        .text(2, "Help.")
        .varint(3, kind);
    metrics
        .into_iter()
        .fold(head, |family, metric| family.message(4, metric))
        .delimited()
}

pub(crate) const COUNTER: u64 = 0;
pub(crate) const GAUGE: u64 = 1;
pub(crate) const SUMMARY: u64 = 2;
pub(crate) const UNTYPED: u64 = 3;
pub(crate) const HISTOGRAM: u64 = 4;
pub(crate) const GAUGE_HISTOGRAM: u64 = 5;
