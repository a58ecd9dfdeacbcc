//! Writes an index, version 2.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes};
use crate::foundation::durable::DurableFile;
use crate::foundation::mmap::map_open_file;
use crate::index::series::{ChunkMeta, SeriesEntry};
use crate::index::source::{IndexError, Source};
use crate::index::toc::{MAGIC, Toc, VERSION_WRITTEN};

/// Series entries begin at multiples of this, and are numbered by it.
const SERIES_ALIGN: u64 = 16;

/// Postings lists begin at multiples of this.
const POSTINGS_ALIGN: u64 = 4;

/// How many postings are held in memory at once; more than these take another pass over the series.
const POSTINGS_PER_PASS: u64 = 32 << 20;

/// Takes symbols, then series in label order, then derives the postings from what was written.
#[derive(Debug)]
pub struct IndexWriter {
    file: BufWriter<DurableFile>,
    name: Arc<str>,
    symbols: Vec<Arc<str>>,
    n_bytes: u64,
    toc: Toc,
    /// Numbers of all series.
    ids: Vec<u32>,
    /// How many series have a label of this name.
    n_per_name: BTreeMap<u32, u64>,
    last: SeriesEntry,
    scratch: Vec<u8>,
    body: Vec<u8>,
}

impl IndexWriter {
    /// Makes the file, which must not be there, and writes the symbols, which must be sorted and unique.
    pub fn create(path: &Path, symbols: Vec<Arc<str>>) -> Result<Self, IndexError> {
        let name: Arc<str> = Arc::from(path.display().to_string());
        let file = DurableFile::create_new(path).map_err(|source| IndexError::File {
            file: Arc::clone(&name),
            source,
        })?;
        if !symbols.is_sorted_by(|left, right| left < right) {
            return Err(IndexError::Unwritable("symbols do not rise".to_owned()));
        }
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            name,
            symbols,
            n_bytes: 0,
            toc: Toc {
                symbols: 0,
                series: 0,
                label_indices: 0,
                label_indices_table: 0,
                postings: 0,
                postings_table: 0,
            },
            ids: Vec::new(),
            n_per_name: BTreeMap::new(),
            last: SeriesEntry::default(),
            scratch: Vec::new(),
            body: Vec::new(),
        };
        let [m0, m1, m2, m3] = MAGIC.to_be_bytes();
        writer.put(&[m0, m1, m2, m3, VERSION_WRITTEN])?;
        writer.write_symbols()?;
        Ok(writer)
    }

    /// Adds a series and returns its number. Labels must rise from call to call, chunks within a series.
    pub fn write_series(&mut self, series: &SeriesEntry) -> Result<u32, IndexError> {
        self.check(series)?;
        self.align(SERIES_ALIGN)?;
        let id = u32::try_from(self.n_bytes / SERIES_ALIGN)
            .map_err(|_beyond| IndexError::Unwritable("an index ends at 64 GiB".to_owned()))?;
        self.body.clear();
        series.encode(&mut self.body);
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

    /// Writes postings, their table and the contents; afterwards every byte survives power loss.
    pub fn finish(mut self) -> Result<(), IndexError> {
        let series_end = self.n_bytes;
        self.toc.label_indices = series_end;
        self.toc.postings = series_end;
        let source = self.written()?;
        let mut table = Vec::new();
        let ids = std::mem::take(&mut self.ids);
        table.push((None, self.write_postings(&ids)?));
        for names in self.passes() {
            let lists = collect_postings(&source, &ids, &names)?;
            for (pair, ids) in lists {
                table.push((Some(pair), self.write_postings(&ids)?));
            }
        }
        self.toc.label_indices_table = self.n_bytes;
        self.toc.postings_table = self.n_bytes;
        self.write_table(&table)?;
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

    fn check(&self, series: &SeriesEntry) -> Result<(), IndexError> {
        let n_symbols = self.symbols.len();
        let is_known = |symbol: u32| (symbol as usize) < n_symbols;
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

    fn refused(&self, series: &SeriesEntry, problem: &str) -> IndexError {
        let text = |symbol: u32| self.symbols.get(symbol as usize).map_or("?", |text| text);
        let labels: Vec<String> = series
            .symbols
            .iter()
            .map(|&(name, value)| format!("{}={:?}", text(name), text(value)))
            .collect();
        IndexError::Unwritable(format!("series {{{}}}: {problem}", labels.join(", ")))
    }

    fn write_symbols(&mut self) -> Result<(), IndexError> {
        self.toc.symbols = self.n_bytes;
        let mut body = Vec::new();
        body.extend_from_slice(&self.n_u32("symbols", self.symbols.len())?.to_be_bytes());
        for symbol in &self.symbols {
            put_uvarint_bytes(&mut body, symbol.as_bytes());
        }
        self.write_section(&body)?;
        self.toc.series = self.n_bytes;
        Ok(())
    }

    fn write_postings(&mut self, ids: &[u32]) -> Result<u64, IndexError> {
        self.align(POSTINGS_ALIGN)?;
        let start = self.n_bytes;
        let mut body = Vec::with_capacity(4 + ids.len() * 4);
        body.extend_from_slice(&self.n_u32("postings", ids.len())?.to_be_bytes());
        for id in ids {
            body.extend_from_slice(&id.to_be_bytes());
        }
        self.write_section(&body)?;
        Ok(start)
    }

    fn write_table(&mut self, table: &[(Option<(u32, u32)>, u64)]) -> Result<(), IndexError> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.n_u32("postings lists", table.len())?.to_be_bytes());
        let text = |symbol: u32| {
            let text = self.symbols.get(symbol as usize);
            text.map_or(&b""[..], |text| text.as_bytes())
        };
        for &(pair, start) in table {
            put_uvarint(&mut body, 2);
            put_uvarint_bytes(&mut body, pair.map_or(b"", |(name, _)| text(name)));
            put_uvarint_bytes(&mut body, pair.map_or(b"", |(_, value)| text(value)));
            put_uvarint(&mut body, start);
        }
        self.write_section(&body)
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

    fn n_u32(&self, what: &str, n: usize) -> Result<u32, IndexError> {
        u32::try_from(n).map_err(|_too_many| {
            IndexError::Unwritable(format!("{}: {n} {what} do not fit 32 bits", self.name))
        })
    }

    fn write_section(&mut self, body: &[u8]) -> Result<(), IndexError> {
        let len = self.n_u32("bytes in a section", body.len())?;
        self.put(&len.to_be_bytes())?;
        self.put(body)?;
        self.put(&crc32c(body).to_be_bytes())
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

type PairPostings = ((u32, u32), Vec<u32>);

/// The postings of all pairs whose name is among `names` (sorted), in pair order, from the series as written.
fn collect_postings(
    source: &Source,
    ids: &[u32],
    names: &[u32],
) -> Result<Vec<PairPostings>, IndexError> {
    let mut lists: HashMap<(u32, u32), Vec<u32>, foldhash::fast::RandomState> = HashMap::default();
    let mut entry = SeriesEntry::default();
    for &id in ids {
        entry.read(source, u64::from(id) * SERIES_ALIGN)?;
        for &pair in &entry.symbols {
            if names.binary_search(&pair.0).is_ok() {
                lists.entry(pair).or_default().push(id);
            }
        }
    }
    let mut sorted: Vec<PairPostings> = lists.into_iter().collect();
    sorted.sort_unstable_by_key(|(pair, _)| *pair);
    Ok(sorted)
}
