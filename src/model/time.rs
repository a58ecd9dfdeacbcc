//! Times, ranges and resolutions.

/// Milliseconds since the Unix epoch; the only time unit below the HTTP layer.
pub type TimestampMs = i64;

/// Half-open, as in `meta.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Inclusive.
    pub min: TimestampMs,
    /// Exclusive.
    pub max: TimestampMs,
}

impl TimeRange {
    /// Do the two share a millisecond?
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min < other.max && other.min < self.max
    }

    /// The same, closed; `None` where it is empty.
    pub fn closed(&self) -> Option<Interval> {
        (self.min < self.max).then(|| Interval {
            min: self.min,
            max: self.max - 1,
        })
    }

    /// Does it hold any millisecond of the closed interval?
    pub fn intersects(&self, interval: Interval) -> bool {
        self.min <= interval.max && interval.min < self.max
    }
}

/// Closed on both ends, as queries and tombstones are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Inclusive.
    pub min: TimestampMs,
    /// Inclusive.
    pub max: TimestampMs,
}

impl Interval {
    /// All of time.
    pub const ALL: Self = Self {
        min: i64::MIN,
        max: i64::MAX,
    };

    /// Is `t` inside?
    pub fn contains(&self, t: TimestampMs) -> bool {
        self.min <= t && t <= self.max
    }

    /// Do the two share a millisecond?
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// What the two share, if anything.
    #[must_use]
    pub fn common(self, other: Self) -> Option<Self> {
        let common = Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        };
        (common.min <= common.max).then_some(common)
    }

    /// From where the first of the two begins to where the last ends.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// Sample distance of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// As scraped.
    Raw,
    /// One aggregate per five minutes.
    FiveMinutes,
    /// One aggregate per hour.
    OneHour,
}

impl Resolution {
    /// All of them.
    pub const COARSEST_FIRST: [Self; 3] = [Self::OneHour, Self::FiveMinutes, Self::Raw];

    /// The coarsest that is no coarser than `ms`.
    pub fn at_most(ms: i64) -> Self {
        Self::COARSEST_FIRST
            .into_iter()
            .find(|resolution| resolution.as_ms() <= ms)
            .unwrap_or(Self::Raw)
    }

    /// As people write several.
    pub fn list(levels: &[Self]) -> String {
        let texts: Vec<_> = levels.iter().map(|level| level.as_str()).collect();
        texts.join(",")
    }

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::FiveMinutes => "5m",
            Self::OneHour => "1h",
        }
    }

    /// Milliseconds, as `thanos.downsample.resolution` in `meta.json` says it.
    pub fn as_ms(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::FiveMinutes => 300_000,
            Self::OneHour => 3_600_000,
        }
    }

    /// The resolution written as `ms`, if there is one.
    pub fn from_ms(ms: i64) -> Option<Self> {
        [Self::Raw, Self::FiveMinutes, Self::OneHour]
            .into_iter()
            .find(|resolution| resolution.as_ms() == ms)
    }
}
