//! Label sets: sorted, unique, never empty-valued, in one allocation.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, LazyLock};

use thiserror::Error;
use xxhash_rust::xxh64::Xxh64;

use crate::foundation::touch;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// One name and its value, borrowed.
pub type Label<'a> = (&'a str, &'a str);

/// Longest label name or value that can be held; far above every limit that callers set.
const TEXT_BYTES_MAX: usize = (1 << 30) - 1;

/// Why pairs do not make a label set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelsError {
    /// The same name twice.
    #[error("label name {0:?} is not unique")]
    Duplicate(String),
    /// A name without characters.
    #[error("empty label name")]
    EmptyName,
    /// A name or value of a gibibyte or more.
    #[error("label {0:?} is longer than a label can be")]
    TooLong(String),
}

/// A series' identity: 128 bits of keyed hash over its labels, equal labels in one process give equal keys.
///
/// Keyed with a secret of this process, so nobody outside can make two series collide; never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey(pub u128);

/// Sorted unique labels with non-empty values. Cloning is cheap.
///
/// Inside it is one string: for each label the length of the name, the name, the length of the value, the value;
/// lengths are base-64 digits, low digit first, in ASCII, so the whole is valid UTF-8 and equal label sets are
/// equal strings.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

static EMPTY: LazyLock<Labels> = LazyLock::new(|| Labels(Arc::from("")));

impl Labels {
    /// No labels.
    pub fn empty() -> Self {
        EMPTY.clone()
    }

    /// Sorts, drops empty values, refuses duplicates: no caller has to remember to.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Result<Self, LabelsError> {
        let mut sorted: Vec<Label<'_>> = pairs
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
            .collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        Self::from_sorted(&sorted)
    }

    /// For pairs that are sorted by name already; checks that they are unique, drops empty values.
    pub fn from_sorted(pairs: &[Label<'_>]) -> Result<Self, LabelsError> {
        if pairs.is_empty() {
            return Ok(Self::empty());
        }
        let mut text = String::with_capacity(
            pairs
                .iter()
                .map(|(name, value)| name.len() + value.len() + 4)
                .sum(),
        );
        let mut previous: Option<&str> = None;
        for (name, value) in pairs {
            if name.is_empty() {
                return Err(LabelsError::EmptyName);
            }
            match previous.map(|previous| previous.cmp(name)) {
                Some(Ordering::Equal) => return Err(LabelsError::Duplicate((*name).to_owned())),
                Some(Ordering::Greater) => return Self::new(pairs),
                Some(Ordering::Less) | None => (),
            }
            previous = Some(name);
            if TEXT_BYTES_MAX < name.len() || TEXT_BYTES_MAX < value.len() {
                return Err(LabelsError::TooLong(name.chars().take(64).collect()));
            }
            if !value.is_empty() {
                push_text(&mut text, name);
                push_text(&mut text, value);
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// Appends a name or a value to the one string inside, as [`Labels::from_encoded`] takes it; `None` where it is too long.
    pub(crate) fn push_encoded(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
        let mut len = text.len();
        if TEXT_BYTES_MAX < len {
            return None;
        }
        while 0x3f < len {
            out.push((len & 0x3f).to_le_bytes()[0] | 0x40);
            len >>= 6;
        }
        out.push(len.to_le_bytes()[0]);
        out.extend_from_slice(text);
        Some(())
    }

    /// Labels of names that ascend, each with a value that is not empty, put together by [`Labels::push_encoded`]. `None`
    /// where one of them is not UTF-8: what stands between them is ASCII, so the whole tells.
    pub(crate) fn from_encoded(encoded: &[u8]) -> Option<Self> {
        let text = str::from_utf8(encoded).ok()?;
        Some(if text.is_empty() {
            Self::empty()
        } else {
            Self(Arc::from(text))
        })
    }

    /// The labels in name order.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter { rest: &self.0 }
    }

    /// The value of `name`, if the label is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        for (here, value) in self.iter() {
            match here.cmp(name) {
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
                Ordering::Less => (),
            }
        }
        None
    }

    /// The value of `name`, empty where the label is absent: the two mean the same.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The value of `__name__`, empty where there is none.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Reads where they begin, which is also where they are counted.
    pub(crate) fn touch_first(&self) -> u8 {
        self.0.as_bytes().first().copied().unwrap_or(0)
    }

    /// Reads a little of all the bytes: of no meaning, but to have them fetched.
    pub(crate) fn touch(&self) -> u8 {
        touch(self.0.as_bytes())
    }

    /// The one string inside.
    pub(super) fn encoded(&self) -> &str {
        &self.0
    }

    /// No labels at all?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes this set takes on the heap.
    pub fn n_bytes(&self) -> usize {
        self.0.len() + 2 * size_of::<usize>()
    }

    /// Prometheus' `labels.StableHash`: xxhash64 over `name 0xFF value 0xFF …`; the same everywhere and for ever.
    pub fn stable_hash(&self) -> u64 {
        let mut hasher = Xxh64::new(0);
        for (name, value) in self.iter() {
            hasher.update(name.as_bytes());
            hasher.update(&[0xff]);
            hasher.update(value.as_bytes());
            hasher.update(&[0xff]);
        }
        hasher.digest()
    }

    /// Prometheus' `labels.Hash` of the string representation, which `limit_ratio` is defined by: xxhash64 over, for
    /// each name and value, its length (one byte, or 255 and three bytes little-endian) and its bytes.
    pub fn prometheus_hash(&self) -> u64 {
        let mut hasher = Xxh64::new(0);
        for (name, value) in self.iter() {
            for text in [name, value] {
                let [b0, b1, b2, ..] = text.len().to_le_bytes();
                if text.len() < 255 {
                    hasher.update(&[b0]);
                } else {
                    hasher.update(&[255, b0, b1, b2]);
                }
                hasher.update(text.as_bytes());
            }
        }
        hasher.digest()
    }

    /// The key of this set; see [`SeriesKey::of`].
    pub fn key(&self) -> SeriesKey {
        SeriesKey::of(self.iter())
    }

    /// A builder that starts from these labels.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder {
            pairs: self
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// Only the labels whose name passes.
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        let mut text = String::with_capacity(self.0.len());
        for (name, value) in self.iter().filter(|(name, _)| keep(name)) {
            push_text(&mut text, name);
            push_text(&mut text, value);
        }
        if text.len() == self.0.len() {
            self.clone()
        } else {
            Self(Arc::from(text))
        }
    }

    /// Without `__name__`.
    pub fn without_name(&self) -> Self {
        self.filtered(|name| name != METRIC_NAME)
    }
}

/// What keys are keyed with.
static SECRETS: LazyLock<[foldhash::quality::RandomState; 2]> = LazyLock::new(Default::default);

impl SeriesKey {
    /// The key of labels that are sorted by name, unique and without empty values; no allocation.
    pub fn of<'a>(labels: impl IntoIterator<Item = Label<'a>>) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let [left, right] = &*SECRETS;
        let (mut left, mut right) = (left.build_hasher(), right.build_hasher());
        for (name, value) in labels {
            for text in [name, value] {
                left.write(text.as_bytes());
                left.write_u8(0xff);
                right.write(text.as_bytes());
                right.write_u8(0xff);
            }
        }
        Self(u128::from(left.finish()) << 64 | u128::from(right.finish()))
    }
}

/// How somebody writes a label set: 128 bits of keyed hash over the bytes. One set may be written in many ways.
///
/// Keyed with a secret of this process, as [`SeriesKey`] is; never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spelling(u128);

impl Spelling {
    /// The spelling that these bytes are.
    #[inline]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let [mut left, mut right] = SECRETS.each_ref().map(BuildHasher::build_hasher);
        left.write(bytes);
        right.write(bytes);
        Self(u128::from(left.finish()) << 64 | u128::from(right.finish()))
    }

    /// Both halves.
    #[expect(clippy::cast_possible_truncation, reason = "the two words")]
    pub fn words(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }
}

/// Walks labels in name order.
#[derive(Debug, Clone)]
pub struct LabelsIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = Label<'a>;

    fn next(&mut self) -> Option<Label<'a>> {
        let (name, rest) = take_text(self.rest)?;
        let (value, rest) = take_text(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = Label<'a>;
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

fn push_text(out: &mut String, text: &str) {
    let mut len = text.len();
    loop {
        let digit = u8::try_from(len & 0x3f).unwrap_or(0);
        len >>= 6;
        out.push(char::from(if len == 0 { digit } else { digit | 0x40 }));
        if len == 0 {
            break;
        }
    }
    out.push_str(text);
}

pub(super) fn take_text(rest: &str) -> Option<(&str, &str)> {
    let mut len = 0usize;
    let mut shift = 0u32;
    for (n_digits, digit) in rest.bytes().take(6).enumerate() {
        len |= usize::from(digit & 0x3f) << shift;
        shift += 6;
        if digit & 0x40 == 0 {
            return rest.get(n_digits + 1..)?.split_at_checked(len);
        }
    }
    None
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Prometheus' `labels.Compare`: pair by pair, name before value; a prefix sorts first.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (self.0.as_bytes(), other.0.as_bytes());
        let differ = n_common(left, right);
        let (Some(left_byte), Some(right_byte)) = (left.get(differ), right.get(differ)) else {
            return left.len().cmp(&right.len());
        };
        // The texts before the one with the first difference have equal lengths: only these are walked.
        let mut start = 0;
        loop {
            let mut len = 0usize;
            let mut shift = 0u32;
            let mut text = start;
            while let Some(digit) = left.get(text) {
                len |= usize::from(digit & 0x3f).wrapping_shl(shift);
                shift = shift.wrapping_add(6);
                text += 1;
                if digit & 0x40 == 0 {
                    break;
                }
            }
            if differ < text {
                // Two lengths: at least one text is longer, so the bytes alone do not decide.
                let texts = [&self.0, &other.0].map(|all| {
                    let rest = all.get(start..).and_then(take_text);
                    rest.map(|(text, _)| text)
                });
                return texts[0].cmp(&texts[1]);
            }
            start = text.saturating_add(len);
            if differ < start {
                return left_byte.cmp(right_byte);
            }
        }
    }
}

/// How many bytes at the start are the same.
pub(super) fn n_common(left: &[u8], right: &[u8]) -> usize {
    let (left_words, right_words) = (left.chunks_exact(8), right.chunks_exact(8));
    let same_words = left_words
        .zip(right_words)
        .take_while(|(left, right)| left == right)
        .count();
    let from = same_words * 8;
    let rest = left.iter().skip(from).zip(right.iter().skip(from));
    from + rest.take_while(|(left, right)| left == right).count()
}

/// `{__name__="up", job="node"}`, as Prometheus logs label sets.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (position, (name, value)) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_label_name(name) {
                f.write_str(name)?;
            } else {
                f.write_str(&go_quote(name))?;
            }
            write!(f, "={}", go_quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Is `name` a label name in the old alphabet, `[a-zA-Z_][a-zA-Z0-9_]*`, so that it prints without quotes?
pub fn is_legacy_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// Is `name` a metric name in the old alphabet, `[a-zA-Z_:][a-zA-Z0-9_:]*`?
pub fn is_legacy_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b == b'_' || b == b':' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b == b':' || b.is_ascii_alphanumeric())
}

/// `text` in double quotes, escaped as Go's `strconv.Quote` does.
pub fn go_quote(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => {
                write!(out, "\\x{:02x}", u32::from(c)).ok();
            }
            c if c.is_control()
                || matches!(
                    c,
                    '\u{a0}' | '\u{ad}' | '\u{2028}' | '\u{2029}' | '\u{feff}'
                ) =>
            {
                write!(out, "\\u{:04x}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Changes labels one by one; [`LabelsBuilder::build`] sorts and checks.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// No labels yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name`; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.iter_mut().find(|(here, _)| here == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(here, _)| here != name);
        self
    }

    /// The value set for `name`, empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.pairs
            .iter()
            .find(|(here, _)| here == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// The pairs as they stand, in no particular order; values may be empty.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The finished set.
    pub fn build(&self) -> Result<Labels, LabelsError> {
        Labels::new(&self.pairs)
    }
}

/// The labels that name this appliance, added to every block and series that leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExternalLabels(pub Labels);

#[cfg(test)]
mod tests;
