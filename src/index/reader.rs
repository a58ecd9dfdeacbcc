//! An index, mapped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::foundation::mmap::map_file;
use crate::foundation::{Cursor, ShortRead};
use crate::index::plan::PostingsPlan;
use crate::index::postings::{PostingsList, intersects};
use crate::index::series::SeriesEntry;
use crate::index::source::{IndexError, Source};
use crate::index::symbols::Symbols;
use crate::index::table::{PostingsRange, PostingsTable};
use crate::index::toc::{HEADER_BYTES, IndexVersion, MAGIC, Toc};
use crate::model::{Labels, Matcher};

/// Reads versions 1, 2 and 3.
#[derive(Debug, Clone)]
pub struct IndexReader {
    source: Source,
    version: IndexVersion,
    toc: Toc,
    symbols: Symbols,
    table: PostingsTable,
}

impl IndexReader {
    /// Maps the file.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let file = path.display().to_string();
        match map_file(path) {
            Ok(bytes) => Self::new(&file, bytes),
            Err(source) => Err(IndexError::File {
                file: Arc::from(file),
                source,
            }),
        }
    }

    /// Verifies header, contents, symbols and postings table; `file` is what errors call it.
    pub fn new(file: &str, bytes: Bytes) -> Result<Self, IndexError> {
        let source = Source::new(file, bytes);
        let version = read_header(&source)?;
        let toc = Toc::decode(&source)?;
        let symbols = Symbols::open(&source, toc.symbols, toc.symbols, version)?;
        let table = PostingsTable::open(&source, toc.postings_table, toc.postings_table)?;
        Ok(Self {
            source,
            version,
            toc,
            symbols,
            table,
        })
    }

    /// How references count.
    pub fn version(&self) -> IndexVersion {
        self.version
    }

    /// Where the sections are.
    pub fn toc(&self) -> Toc {
        self.toc
    }

    /// The strings.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Which list belongs to which label pair.
    pub fn table(&self) -> &PostingsTable {
        &self.table
    }

    /// The file's bytes.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// One list, its checksum verified.
    pub fn postings(&self, range: PostingsRange) -> Result<PostingsList<'_>, IndexError> {
        read_postings(&self.source, range)
    }

    /// Numbers of all series, ascending.
    pub fn all_series(&self) -> Result<Vec<u32>, IndexError> {
        match self.table.all_series()? {
            Some(range) => Ok(self.postings(range)?.to_vec()),
            None => Ok(Vec::new()),
        }
    }

    /// Numbers of the series that match all of `matchers`, ascending, which is label order.
    pub fn select(&self, matchers: &[Matcher]) -> Result<Vec<u32>, IndexError> {
        match PostingsPlan::new(&self.table, matchers)? {
            Some(plan) => plan.run(&mut |range| self.postings(range)),
            None => Ok(Vec::new()),
        }
    }

    /// Reads series `id` into `entry`.
    pub fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), IndexError> {
        let offset = self.version.series_offset(id);
        entry.read(&self.source, offset)?;
        Ok(())
    }

    /// The labels of a series that was read.
    pub fn labels(&self, id: u32, entry: &SeriesEntry) -> Result<Labels, IndexError> {
        entry.labels(&self.symbols)?.map_err(|flaw| {
            self.source
                .damaged(self.version.series_offset(id), flaw.to_string())
        })
    }

    /// Names of the labels of all series, or of those that match, sorted.
    pub fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<String>, IndexError> {
        if matchers.is_empty() {
            return self
                .table
                .names()
                .map(|name| Ok(name?.to_owned()))
                .collect();
        }
        let mut found = BTreeSet::new();
        let mut entry = SeriesEntry::default();
        for id in self.select(matchers)? {
            self.series(id, &mut entry)?;
            found.extend(entry.symbols.iter().map(|&(name, _)| name));
        }
        self.sorted_texts(&found)
    }

    /// Values of `name` over all series, or over those that match, sorted.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
    ) -> Result<Vec<String>, IndexError> {
        let values = self.table.values(name, "")?;
        if matchers.is_empty() {
            return values.map(|item| Ok(item?.0.to_owned())).collect();
        }
        let ids = self.select(matchers)?;
        if ids.len() < self.table.n_values(name)? {
            return self.values_of_series(name, &ids);
        }
        let mut found = Vec::new();
        for item in values {
            let (value, range) = item?;
            if intersects(&ids, &self.postings(range)?) {
                found.push(value.to_owned());
            }
        }
        Ok(found)
    }

    fn values_of_series(&self, name: &str, ids: &[u32]) -> Result<Vec<String>, IndexError> {
        let mut found = BTreeSet::new();
        let mut entry = SeriesEntry::default();
        for &id in ids {
            self.series(id, &mut entry)?;
            for &(here, value) in &entry.symbols {
                if self.symbols.get(here)? == name {
                    found.insert(value);
                }
            }
        }
        self.sorted_texts(&found)
    }

    /// Symbols are numbered in order; version 1 references rise with the file's order, which is sorted too.
    fn sorted_texts(&self, references: &BTreeSet<u32>) -> Result<Vec<String>, IndexError> {
        let mut texts = Vec::with_capacity(references.len());
        for &reference in references {
            texts.push(self.symbols.get(reference)?.to_owned());
        }
        texts.sort_unstable();
        Ok(texts)
    }
}

/// The five bytes at the start.
fn read_header(source: &Source) -> Result<IndexVersion, IndexError> {
    let mut cursor = Cursor::new(source.from(0)?);
    let read = |cursor: &mut Cursor<'_>| {
        Ok::<_, ShortRead>((cursor.u32_be("magic")?, cursor.u8("version")?))
    };
    let (magic, version) = read(&mut cursor).map_err(|short| source.short(0, &short))?;
    if magic != MAGIC {
        let problem = format!("{magic:08x} is not the magic number of an index");
        return Err(source.damaged(0, problem));
    }
    debug_assert_eq!(cursor.offset() as u64, HEADER_BYTES, "header length");
    IndexVersion::from_byte(version)
        .ok_or_else(|| source.damaged(4, format!("unknown index version {version}")))
}

/// Reads a list from `source`, which may be a part of the index; verifies checksum, count and order.
pub fn read_postings(
    source: &Source,
    range: PostingsRange,
) -> Result<PostingsList<'_>, IndexError> {
    let body = source.section(range.start, "postings list")?;
    let (count, list) = body
        .split_first_chunk::<4>()
        .ok_or_else(|| source.damaged(range.start, "postings list has no count"))?;
    let n = u32::from_be_bytes(*count) as usize;
    let (ids, rest) = list.as_chunks::<4>();
    if ids.len() != n || !rest.is_empty() {
        let problem = format!("postings list promises {n} series in {} bytes", list.len());
        return Err(source.damaged(range.start, problem));
    }
    Ok(PostingsList::new(ids))
}
