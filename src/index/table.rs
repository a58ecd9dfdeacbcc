//! Which postings list belongs to which label pair.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::foundation::{Cursor, ShortRead};
use crate::index::source::{IndexError, Source};

/// The place of every so many-th value of a name is kept, as Prometheus does.
const STRIDE: usize = 32;

/// Keys of an entry: name and value.
const N_KEYS: u64 = 2;

/// Where a postings list lies in the index: from its length field to behind its checksum, perhaps with padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PostingsRange {
    /// First byte.
    pub start: u64,
    /// Behind the last byte; never less than the list takes.
    pub end: u64,
}

/// The postings offset table over mapped bytes. In memory: one offset per 32 values.
#[derive(Debug, Clone)]
pub struct PostingsTable {
    source: Source,
    /// Offset of the table, for errors.
    offset: u64,
    /// The entries, without frame and count.
    entries: Bytes,
    names: Vec<NameValues>,
    /// Offsets in `entries`.
    samples: Vec<u32>,
    /// Distance of samples: one where the file is not sorted (version 1).
    stride: usize,
    /// Where lists begin, sorted; only where the file is not sorted.
    starts: Vec<u64>,
    /// Where the last list ends.
    lists_end: u64,
}

/// The values of one name.
#[derive(Debug, Clone, Copy)]
struct NameValues {
    first_sample: usize,
    n_values: usize,
}

#[derive(Debug, Clone, Copy)]
struct TableEntry<'a> {
    name: &'a str,
    value: &'a str,
    start: u64,
}

impl TableEntry<'_> {
    fn key(&self) -> (&str, &str) {
        (self.name, self.value)
    }
}

fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<TableEntry<'a>, ShortRead> {
    let offset = cursor.offset();
    if cursor.uvarint("postings key count")? != N_KEYS {
        let what = "postings key count";
        return Err(ShortRead::Overlong {
            what,
            offset,
            bits: 2,
        });
    }
    Ok(TableEntry {
        name: cursor.uvarint_str("label name")?,
        value: cursor.uvarint_str("label value")?,
        start: cursor.uvarint("postings offset")?,
    })
}

impl PostingsTable {
    /// Reads the section at `offset`; lists end at `lists_end` of the index.
    pub(super) fn open(source: &Source, offset: u64, lists_end: u64) -> Result<Self, IndexError> {
        let body = source.section(offset, "postings offset table")?;
        let mut cursor = Cursor::new(body);
        let fail = |short: ShortRead| source.short(offset, &short);
        let n = cursor.u32_be("postings count").map_err(fail)?;
        let entries = cursor.rest();
        let mut table = Self {
            entries: source.bytes().slice_ref(entries),
            source: source.clone(),
            offset,
            names: Vec::new(),
            samples: Vec::new(),
            stride: STRIDE,
            starts: Vec::new(),
            lists_end,
        };
        let mut cursor = Cursor::new(entries);
        let mut previous: Option<TableEntry<'_>> = None;
        for _ in 0..n {
            let at = cursor.offset();
            let here = entry(&mut cursor).map_err(fail)?;
            let order = previous.map(|previous| previous.key().cmp(&here.key()));
            if matches!(order, Some(Ordering::Greater | Ordering::Equal)) {
                return table.sort_entries(n);
            }
            let is_same_name = previous.is_some_and(|previous| previous.name == here.name);
            table.note(at, is_same_name);
            previous = Some(here);
        }
        Ok(table)
    }

    fn note(&mut self, at: usize, is_same_name: bool) {
        // The section's length is a u32.
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let stride = self.stride;
        match self.names.last_mut() {
            Some(values) if is_same_name => {
                if values.n_values.is_multiple_of(stride) {
                    self.samples.push(at);
                }
                values.n_values += 1;
            }
            _ => {
                self.names.push(NameValues {
                    first_sample: self.samples.len(),
                    n_values: 1,
                });
                self.samples.push(at);
            }
        }
    }

    /// Version 1 files may list their entries in any order: keeps the place of each.
    fn sort_entries(mut self, n: u32) -> Result<Self, IndexError> {
        let entries = self.entries.clone();
        let mut cursor = Cursor::new(&entries);
        let mut all = Vec::new();
        for _ in 0..n {
            let at = cursor.offset();
            let here =
                entry(&mut cursor).map_err(|short| self.source.short(self.offset, &short))?;
            self.starts.push(here.start);
            all.push((here, at));
        }
        all.sort_by(|(left, _), (right, _)| left.key().cmp(&right.key()));
        self.starts.sort_unstable();
        self.names.clear();
        self.samples.clear();
        self.stride = 1;
        let mut previous: Option<TableEntry<'_>> = None;
        for (here, at) in all {
            if previous.is_some_and(|previous| previous.key() == here.key()) {
                let problem = format!("{}={:?} has two postings lists", here.name, here.value);
                return Err(self.source.damaged(self.offset, problem));
            }
            let is_same_name = previous.is_some_and(|previous| previous.name == here.name);
            self.note(at, is_same_name);
            previous = Some(here);
        }
        Ok(self)
    }

    /// The list of one pair, if the pair is there.
    pub fn find(&self, name: &str, value: &str) -> Result<Option<PostingsRange>, IndexError> {
        let Some(values) = self.values_of(name)? else {
            return Ok(None);
        };
        for item in self.values_from(values, value)? {
            let (here, range) = item?;
            match here.cmp(value) {
                Ordering::Less => (),
                Ordering::Equal => return Ok(Some(range)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// The list of all series.
    pub fn all_series(&self) -> Result<Option<PostingsRange>, IndexError> {
        self.find("", "")
    }

    /// Label names, sorted; without the empty one, which stands for all series.
    pub fn names(&self) -> impl Iterator<Item = Result<&str, IndexError>> {
        self.names
            .iter()
            .map(|values| Ok(self.sampled(values.first_sample)?.0.name))
            .filter(|name| !matches!(name, Ok("")))
    }

    /// How many values a name has.
    pub fn n_values(&self, name: &str) -> Result<usize, IndexError> {
        Ok(self.values_of(name)?.map_or(0, |values| values.n_values))
    }

    /// Values of `name` and their lists in order, from about `from` on: at most 32 smaller ones come first.
    pub fn values<'a>(
        &'a self,
        name: &str,
        from: &str,
    ) -> Result<
        impl Iterator<Item = Result<(&'a str, PostingsRange), IndexError>> + use<'a>,
        IndexError,
    > {
        let values = self.values_of(name)?.unwrap_or(NameValues {
            first_sample: 0,
            n_values: 0,
        });
        self.values_from(values, from)
    }

    /// How many label pairs have a list, and how many bytes finding them takes.
    pub fn n_bytes(&self) -> usize {
        self.samples.len() * size_of::<u32>()
            + self.names.len() * size_of::<NameValues>()
            + self.starts.len() * size_of::<u64>()
    }

    fn values_of(&self, name: &str) -> Result<Option<NameValues>, IndexError> {
        let (mut low, mut high) = (0, self.names.len());
        while low < high {
            let middle = low.midpoint(high);
            let Some(values) = self.names.get(middle) else {
                break;
            };
            match self.sampled(values.first_sample)?.0.name.cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Some(*values)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    fn values_from(&self, values: NameValues, from: &str) -> Result<ValuesIter<'_>, IndexError> {
        // The last sample that is not above `from`.
        let (mut low, mut high) = (0, values.n_values.div_ceil(self.stride));
        while low + 1 < high {
            let middle = low.midpoint(high);
            if self.sampled(values.first_sample + middle)?.0.value <= from {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(ValuesIter {
            table: self,
            values,
            number: low * self.stride,
            cursor: Cursor::new(&[]),
            has_failed: false,
        })
    }

    /// The entry of a sample, and the cursor behind it.
    fn sampled(&self, sample: usize) -> Result<(TableEntry<'_>, Cursor<'_>), IndexError> {
        let at = self.samples.get(sample).copied().unwrap_or(u32::MAX);
        let mut cursor = Cursor::new(self.entries.get(at as usize..).unwrap_or_default());
        let here = entry(&mut cursor).map_err(|short| self.source.short(self.offset, &short))?;
        Ok((here, cursor))
    }

    /// Where the list that begins at `start` ends, given the entry that follows in the table.
    fn range(&self, start: u64, behind: &Cursor<'_>) -> PostingsRange {
        let next = if self.stride == 1 {
            let position = self.starts.partition_point(|&other| other <= start);
            self.starts.get(position).copied()
        } else {
            entry(&mut behind.clone()).ok().map(|next| next.start)
        };
        let end = next.filter(|&next| start < next).unwrap_or(self.lists_end);
        PostingsRange { start, end }
    }
}

#[derive(Debug)]
struct ValuesIter<'a> {
    table: &'a PostingsTable,
    values: NameValues,
    number: usize,
    cursor: Cursor<'a>,
    has_failed: bool,
}

impl<'a> ValuesIter<'a> {
    fn advance(&mut self) -> Result<(&'a str, PostingsRange), IndexError> {
        let stride = self.table.stride;
        let here = if self.number.is_multiple_of(stride) || self.cursor.is_empty() {
            let sample = self.values.first_sample + self.number / stride;
            let (here, cursor) = self.table.sampled(sample)?;
            self.cursor = cursor;
            here
        } else {
            let table = self.table;
            entry(&mut self.cursor).map_err(|short| table.source.short(table.offset, &short))?
        };
        self.number += 1;
        Ok((here.value, self.table.range(here.start, &self.cursor)))
    }
}

impl<'a> Iterator for ValuesIter<'a> {
    type Item = Result<(&'a str, PostingsRange), IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed || self.values.n_values <= self.number {
            return None;
        }
        let item = self.advance();
        self.has_failed = item.is_err();
        Some(item)
    }
}
