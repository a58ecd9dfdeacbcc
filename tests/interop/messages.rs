//! Protobuf messages, field by field.

/// A message in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

fn put(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push((value & 0x7f | 0x80).to_le_bytes()[0]);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

impl Message {
    pub(crate) fn varint(mut self, number: u64, value: u64) -> Self {
        put(&mut self.0, number << 3);
        put(&mut self.0, value);
        self
    }

    /// A `sint32` or `sint64`.
    pub(crate) fn signed(self, number: u64, value: i64) -> Self {
        self.varint(number, zigzag(value))
    }

    pub(crate) fn double(mut self, number: u64, value: f64) -> Self {
        put(&mut self.0, number << 3 | 1);
        self.0.extend(value.to_bits().to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, number: u64, bytes: &[u8]) -> Self {
        put(&mut self.0, number << 3 | 2);
        put(&mut self.0, bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(crate) fn text(self, number: u64, text: &str) -> Self {
        self.bytes(number, text.as_bytes())
    }

    pub(crate) fn message(self, number: u64, inner: &Self) -> Self {
        self.bytes(number, &inner.0)
    }

    /// Packed `sint64`s.
    pub(crate) fn packed(self, number: u64, values: &[i64]) -> Self {
        let mut packed = Vec::new();
        for value in values {
            put(&mut packed, zigzag(*value));
        }
        self.bytes(number, &packed)
    }

    /// Itself, behind its length.
    pub(crate) fn delimited(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.0.len() as u64);
        out.extend(&self.0);
        out
    }
}
