//! Writes an index, version 2.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use crate::foundation::checksum::{crc32c, crc32c_append, crc32c_combine};
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes};
use crate::foundation::durable::DurableFile;
use crate::foundation::mmap::map_open_file;
use crate::index::lists::{Lists, POSTINGS_PER_PASS, Pair};
use crate::index::series::{ChunkMeta, SeriesEntry};
use crate::index::source::{IndexError, Source};
use crate::index::symbols::Symbols;
use crate::index::toc::{IndexVersion, MAGIC, Toc, VERSION_WRITTEN};

/// Series entries begin at multiples of this, and are numbered by it.
pub(super) const SERIES_ALIGN: u64 = 16;

/// Postings lists begin at multiples of this.
const POSTINGS_ALIGN: u64 = 4;

/// Postings that are encoded at once.
const POSTINGS_PER_WRITE: usize = 16 << 10;

/// Takes symbols, then series in label order, then derives the postings from what was written. In memory: four bytes for
/// every series, sixteen for every label pair once all series are there, and the postings of one pass.
#[derive(Debug)]
pub struct IndexWriter {
    file: BufWriter<DurableFile>,
    name: Arc<str>,
    n_bytes: u64,
    toc: Toc,
    /// The section of symbols, while there may be more of them.
    symbols: Option<Section>,
    n_symbols: u32,
    last_symbol: String,
    /// Numbers of all series.
    ids: Vec<u32>,
    /// How many series have a label of this name.
    n_per_name: BTreeMap<u32, u64>,
    last: SeriesEntry,
    series_bytes_max: usize,
    scratch: Vec<u8>,
    body: Vec<u8>,
}

/// A section that is written before it is known how long it becomes: length, number of items, items, checksum.
#[derive(Debug, Clone, Copy)]
struct Section {
    start: u64,
    n: u64,
    /// Of the items.
    crc: u32,
    n_bytes: u64,
}

impl IndexWriter {
    /// Makes the file, which must not be there, with these symbols, which must be sorted and unique.
    pub fn create(
        path: &Path,
        symbols: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, IndexError> {
        let mut writer = Self::begin(path)?;
        for symbol in symbols {
            writer.write_symbol(symbol.as_ref())?;
        }
        Ok(writer)
    }

    /// Makes the file, which must not be there; symbols come next.
    pub fn begin(path: &Path) -> Result<Self, IndexError> {
        let name: Arc<str> = Arc::from(path.display().to_string());
        let file = DurableFile::create_new(path).map_err(|source| IndexError::File {
            file: Arc::clone(&name),
            source,
        })?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            name,
            n_bytes: 0,
            toc: Toc {
                symbols: 0,
                series: 0,
                label_indices: 0,
                label_indices_table: 0,
                postings: 0,
                postings_table: 0,
            },
            symbols: None,
            n_symbols: 0,
            last_symbol: String::new(),
            ids: Vec::new(),
            n_per_name: BTreeMap::new(),
            last: SeriesEntry::default(),
            series_bytes_max: 0,
            scratch: Vec::new(),
            body: Vec::new(),
        };
        let [m0, m1, m2, m3] = MAGIC.to_be_bytes();
        writer.put(&[m0, m1, m2, m3, VERSION_WRITTEN])?;
        writer.toc.symbols = writer.n_bytes;
        writer.symbols = Some(writer.begin_section()?);
        Ok(writer)
    }

    /// Adds a symbol, which must be above the one before; series are added when all symbols are there.
    pub fn write_symbol(&mut self, text: &str) -> Result<(), IndexError> {
        let Some(mut section) = self.symbols else {
            return Err(IndexError::Unwritable(
                "symbols come before series".to_owned(),
            ));
        };
        if 0 < section.n && text <= self.last_symbol.as_str() {
            return Err(IndexError::Unwritable("symbols do not rise".to_owned()));
        }
        self.last_symbol.clear();
        self.last_symbol.push_str(text);
        self.scratch.clear();
        put_uvarint_bytes(&mut self.scratch, text.as_bytes());
        self.put_item(&mut section)?;
        self.symbols = Some(section);
        Ok(())
    }

    fn end_symbols(&mut self) -> Result<(), IndexError> {
        if let Some(section) = self.symbols.take() {
            self.n_symbols = self.n_u32("symbols", section.n)?;
            self.end_section(&section)?;
            self.toc.series = self.n_bytes;
        }
        Ok(())
    }

    /// Adds a series and returns its number. Labels must rise from call to call, chunks within a series.
    pub fn write_series(&mut self, series: &SeriesEntry) -> Result<u32, IndexError> {
        self.end_symbols()?;
        self.check(series)?;
        self.align(SERIES_ALIGN)?;
        let id = u32::try_from(self.n_bytes / SERIES_ALIGN)
            .map_err(|_beyond| IndexError::Unwritable("an index ends at 64 GiB".to_owned()))?;
        self.body.clear();
        series.encode(&mut self.body);
        self.series_bytes_max = self.series_bytes_max.max(self.body.len());
        let crc = crc32c(&self.body);
        self.scratch.clear();
        put_uvarint_bytes(&mut self.scratch, &self.body);
        self.scratch.extend_from_slice(&crc.to_be_bytes());
        self.put_scratch()?;
        self.ids.push(id);
        for &(name, _) in &series.symbols {
            *self.n_per_name.entry(name).or_default() += 1;
        }
        self.last.symbols.clone_from(&series.symbols);
        if let Some(last) = series.chunks.last() {
            self.last.chunks.clear();
            self.last.chunks.push(*last);
        }
        Ok(id)
    }

    /// The largest entry of a series so far, without length and checksum.
    pub fn series_bytes_max(&self) -> usize {
        self.series_bytes_max
    }

    /// Writes postings, their table and the contents; afterwards every byte survives power loss.
    pub fn finish(mut self) -> Result<(), IndexError> {
        self.end_symbols()?;
        let series_end = self.n_bytes;
        self.toc.label_indices = series_end;
        self.toc.postings = series_end;
        let source = self.written()?;
        let ids = std::mem::take(&mut self.ids);
        let all = self.write_postings(&ids)?;
        let mut table: Vec<(Pair, u64)> = Vec::new();
        for names in self.passes() {
            let lists = Lists::gather(&source, &ids, &names)?;
            for (pair, ids) in lists.iter() {
                table.push((pair, self.write_postings(ids)?));
            }
        }
        drop(ids);
        self.toc.label_indices_table = self.n_bytes;
        self.toc.postings_table = self.n_bytes;
        self.write_table(&source, all, &table)?;
        self.scratch.clear();
        self.toc.encode(&mut self.scratch);
        let crc = crc32c(&self.scratch);
        self.scratch.extend_from_slice(&crc.to_be_bytes());
        self.put_scratch()?;
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(|source| self.file_error(source))
    }

    fn check(&mut self, series: &SeriesEntry) -> Result<(), IndexError> {
        let n_symbols = self.n_symbols;
        let is_known = |symbol: u32| symbol < n_symbols;
        let is_named = series
            .symbols
            .iter()
            .all(|&(name, value)| is_known(name) && is_known(value));
        let is_rising = series.symbols.is_sorted_by(|left, right| left.0 < right.0);
        if !is_named || !is_rising {
            return Err(self.refused(series, "its labels are not sorted symbols"));
        }
        if !self.ids.is_empty() && series.symbols <= self.last.symbols {
            return Err(self.refused(
                series,
                "its labels are not above those of the series before",
            ));
        }
        let mut previous: Option<&ChunkMeta> = None;
        for chunk in &series.chunks {
            let is_behind = previous
                .is_none_or(|previous| previous.max_t < chunk.min_t && previous.at <= chunk.at);
            if !is_behind || chunk.max_t < chunk.min_t {
                return Err(self.refused(series, "its chunks overlap or are out of order"));
            }
            previous = Some(chunk);
        }
        Ok(())
    }

    fn refused(&mut self, series: &SeriesEntry, problem: &str) -> IndexError {
        let symbols = match self.written().and_then(|source| self.symbols(&source)) {
            Ok(symbols) => symbols,
            Err(error) => return error,
        };
        let text = |symbol: u32| symbols.get(symbol).unwrap_or("?");
        let labels: Vec<String> = series
            .symbols
            .iter()
            .map(|&(name, value)| format!("{}={:?}", text(name), text(value)))
            .collect();
        IndexError::Unwritable(format!("series {{{}}}: {problem}", labels.join(", ")))
    }

    /// The symbols as they were written.
    fn symbols(&self, source: &Source) -> Result<Symbols, IndexError> {
        let start = self.toc.symbols;
        Symbols::open(source, start, start, IndexVersion::V2)
    }

    fn write_postings(&mut self, ids: &[u32]) -> Result<u64, IndexError> {
        self.align(POSTINGS_ALIGN)?;
        let start = self.n_bytes;
        let n = self.n_u32("postings", ids.len() as u64)?.to_be_bytes();
        let len = 4 + 4 * ids.len() as u64;
        let len = self.n_u32("bytes in a section", len)?;
        self.put(&len.to_be_bytes())?;
        self.put(&n)?;
        let mut crc = crc32c(&n);
        for some in ids.chunks(POSTINGS_PER_WRITE) {
            self.scratch.clear();
            for id in some {
                self.scratch.extend_from_slice(&id.to_be_bytes());
            }
            crc = crc32c_append(crc, &self.scratch);
            self.put_scratch()?;
        }
        self.put(&crc.to_be_bytes())?;
        Ok(start)
    }

    /// Lists and where they begin: of all series, and of each pair.
    fn write_table(
        &mut self,
        source: &Source,
        all: u64,
        table: &[(Pair, u64)],
    ) -> Result<(), IndexError> {
        let symbols = self.symbols(source)?;
        let mut section = self.begin_section()?;
        self.put_table_entry(&mut section, ("", "", all))?;
        for &((name, value), start) in table {
            let entry = (symbols.get(name)?, symbols.get(value)?, start);
            self.put_table_entry(&mut section, entry)?;
        }
        self.end_section(&section)
    }

    fn put_table_entry(
        &mut self,
        section: &mut Section,
        (name, value, start): (&str, &str, u64),
    ) -> Result<(), IndexError> {
        self.scratch.clear();
        put_uvarint(&mut self.scratch, 2);
        put_uvarint_bytes(&mut self.scratch, name.as_bytes());
        put_uvarint_bytes(&mut self.scratch, value.as_bytes());
        put_uvarint(&mut self.scratch, start);
        self.put_item(section)
    }

    /// Names in order, in groups that fit one pass.
    fn passes(&self) -> Vec<Vec<u32>> {
        let mut passes: Vec<Vec<u32>> = Vec::new();
        let mut n_open = 0;
        for (&name, &n) in &self.n_per_name {
            match passes.last_mut() {
                Some(open) if n_open + n <= POSTINGS_PER_PASS => {
                    open.push(name);
                    n_open += n;
                }
                _ => {
                    passes.push(vec![name]);
                    n_open = n;
                }
            }
        }
        passes
    }

    /// What is in the file so far.
    fn written(&mut self) -> Result<Source, IndexError> {
        let mapped = self
            .file
            .flush()
            .and_then(|()| map_open_file(self.file.get_ref().as_file()));
        match mapped {
            Ok(bytes) => Ok(Source::new(&self.name, bytes)),
            Err(source) => Err(self.file_error(source)),
        }
    }

    fn n_u32(&self, what: &str, n: u64) -> Result<u32, IndexError> {
        u32::try_from(n).map_err(|_too_many| {
            IndexError::Unwritable(format!("{}: {n} {what} do not fit 32 bits", self.name))
        })
    }

    fn begin_section(&mut self) -> Result<Section, IndexError> {
        let start = self.n_bytes;
        // Length and number of items, when they are known.
        self.put(&[0; 8])?;
        Ok(Section {
            start,
            n: 0,
            crc: crc32c(&[]),
            n_bytes: 0,
        })
    }

    /// What is in `scratch` is the next item.
    fn put_item(&mut self, section: &mut Section) -> Result<(), IndexError> {
        section.crc = crc32c_append(section.crc, &self.scratch);
        section.n_bytes += self.scratch.len() as u64;
        section.n += 1;
        self.put_scratch()
    }

    fn end_section(&mut self, section: &Section) -> Result<(), IndexError> {
        let n = self.n_u32("items in a section", section.n)?.to_be_bytes();
        let len = self.n_u32("bytes in a section", section.n_bytes + 4)?;
        let n_bytes = usize::try_from(section.n_bytes).unwrap_or(usize::MAX);
        let crc = crc32c_combine(crc32c(&n), section.crc, n_bytes);
        self.put(&crc.to_be_bytes())?;
        let [l0, l1, l2, l3] = len.to_be_bytes();
        let [n0, n1, n2, n3] = n;
        let start = [l0, l1, l2, l3, n0, n1, n2, n3];
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().write_over(section.start, &start))
            .map_err(|source| self.file_error(source))
    }

    fn align(&mut self, to: u64) -> Result<(), IndexError> {
        while !self.n_bytes.is_multiple_of(to) {
            self.put(&[0])?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        self.file
            .write_all(bytes)
            .map_err(|source| self.file_error(source))?;
        self.n_bytes += bytes.len() as u64;
        Ok(())
    }

    fn put_scratch(&mut self) -> Result<(), IndexError> {
        let scratch = std::mem::take(&mut self.scratch);
        let result = self.put(&scratch);
        self.scratch = scratch;
        result
    }

    fn file_error(&self, source: std::io::Error) -> IndexError {
        IndexError::File {
            file: Arc::clone(&self.name),
            source,
        }
    }
}
