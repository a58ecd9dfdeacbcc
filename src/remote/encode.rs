//! `prometheus.WriteRequest`, written.

use crate::foundation::cursor::put_uvarint;
use crate::model::{Label, Metadata, MetricType, Sample};

/// Puts a request together, part by part.
#[derive(Debug, Clone, Default)]
pub struct WriteRequestEncoder {
    out: Vec<u8>,
    message: Vec<u8>,
    part: Vec<u8>,
}

impl WriteRequestEncoder {
    /// An empty request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series; labels are written in the order given, which receivers expect to be by name.
    pub fn series<'a>(
        &mut self,
        labels: impl IntoIterator<Item = Label<'a>>,
        samples: &[Sample],
    ) -> &mut Self {
        self.message.clear();
        for (name, value) in labels {
            self.part.clear();
            put_text(&mut self.part, 1, name);
            put_text(&mut self.part, 2, value);
            put_bytes(&mut self.message, 1, &self.part);
        }
        for sample in samples {
            self.part.clear();
            // Proto3 leaves zeros out.
            if sample.v.to_bits() != 0 {
                self.part.push(1 << 3 | 1);
                self.part
                    .extend_from_slice(&sample.v.to_bits().to_le_bytes());
            }
            if sample.t != 0 {
                self.part.push(2 << 3);
                put_uvarint(&mut self.part, sample.t.cast_unsigned());
            }
            put_bytes(&mut self.message, 2, &self.part);
        }
        put_bytes(&mut self.out, 1, &self.message);
        self
    }

    /// Adds what a metric family is.
    pub fn metadata(&mut self, family: &str, metadata: &Metadata) -> &mut Self {
        self.message.clear();
        let metric_type = match metadata.metric_type {
            MetricType::Unknown => 0,
            MetricType::Counter => 1,
            MetricType::Gauge => 2,
            MetricType::Histogram => 3,
            MetricType::GaugeHistogram => 4,
            MetricType::Summary => 5,
            MetricType::Info => 6,
            MetricType::StateSet => 7,
        };
        if metric_type != 0 {
            self.message.push(1 << 3);
            put_uvarint(&mut self.message, metric_type);
        }
        put_text(&mut self.message, 2, family);
        put_text(&mut self.message, 4, &metadata.help);
        put_text(&mut self.message, 5, &metadata.unit);
        put_bytes(&mut self.out, 3, &self.message);
        self
    }

    /// The request, not compressed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }
}

fn put_text(out: &mut Vec<u8>, number: u8, text: &str) {
    if !text.is_empty() {
        put_bytes(out, number, text.as_bytes());
    }
}

fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
