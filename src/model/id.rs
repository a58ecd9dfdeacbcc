//! Names of blocks.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

/// A block's ULID: 48 bits of milliseconds, then 80 random bits; as text, 26 characters that sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(Ulid);

impl BlockId {
    /// A new id from a time and 80 random bits (higher bits of `random` are cut off).
    pub fn from_parts(ms: u64, random: u128) -> Self {
        Self(Ulid::from_parts(ms, random))
    }

    /// When the id was made, in milliseconds.
    pub fn created_ms(self) -> u64 {
        self.0.timestamp_ms()
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The text is not 26 characters of Crockford's base 32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a block id (26 characters of base 32)")]
pub struct NotABlockId(pub String);

impl FromStr for BlockId {
    type Err = NotABlockId;

    fn from_str(text: &str) -> Result<Self, NotABlockId> {
        Ulid::from_string(text)
            .map(Self)
            .map_err(|_malformed| NotABlockId(text.to_owned()))
    }
}

impl serde::Serialize for BlockId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BlockId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
