//! How a chunk's bytes are to be read.

/// The encoding byte of a chunk (Prometheus `chunkenc.Encoding`, and the one that Thanos adds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Gorilla floats; the default.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
    /// Floats with optional start timestamps.
    Xor2 = 4,
    /// Integer histograms with start timestamps.
    HistogramSt = 5,
    /// Float histograms with start timestamps.
    FloatHistogramSt = 6,
    /// Aggregates of windows, each a chunk of its own (Thanos `ChunkEncAggr`): no samples of either kind.
    Aggregate = 0xff,
}

impl Encoding {
    /// The byte as it stands in files.
    pub fn as_byte(self) -> u8 {
        self as u8
    }

    /// Does it hold native histograms? All others hold floats, but for aggregates, whose parts have encodings of their own.
    pub fn has_histograms(self) -> bool {
        match self {
            Self::Histogram | Self::FloatHistogram | Self::HistogramSt | Self::FloatHistogramSt => {
                true
            }
            Self::Xor | Self::Xor2 | Self::Aggregate => false,
        }
    }

    /// The encoding a byte names, if any.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramSt,
            6 => Self::FloatHistogramSt,
            0xff => Self::Aggregate,
            _ => return None,
        })
    }
}
