//! Indexes of blocks, and the headers of indexes that lie in a bucket.

use std::sync::Arc;

use bytes::Bytes;
use gauntlet::chunk::ChunkRef;
use gauntlet::foundation::Cursor;
use gauntlet::foundation::checksum::crc32c;
use gauntlet::foundation::cursor::put_uvarint_bytes;
use gauntlet::index::{
    ChunkMeta, HeaderParts, IndexHeader, IndexReader, IndexWriter, PostingsPlan, SeriesEntry,
};
use gauntlet::model::{MatchType, Matcher};

use crate::dice::Dice;
use crate::harness::{Target, run};
use crate::mutate::{broken, odd_number};
use crate::samples::{START, series};

const TOC_BYTES: usize = 6 * 8 + 4;

/// An index taken apart, so that a broken part can be put back under a checksum that holds.
#[derive(Debug, Clone)]
struct Parts {
    version: u8,
    symbols: Vec<u8>,
    series: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
    table: Vec<u8>,
    toc: [u64; 6],
}

fn section_at(bytes: &[u8], offset: u64) -> Vec<u8> {
    let mut cursor = Cursor::new(&bytes[usize::try_from(offset).unwrap()..]);
    let len = cursor.u32_be("length").unwrap();
    cursor
        .bytes("body", usize::try_from(len).unwrap())
        .unwrap()
        .to_vec()
}

fn put_section(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32c(body).to_be_bytes());
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

impl Parts {
    fn new(bytes: &[u8]) -> Self {
        let index = IndexReader::new("index", Bytes::copy_from_slice(bytes)).unwrap();
        let toc = index.toc();
        let all: Vec<u32> = index.all_series().unwrap();
        let body = |id: &u32| {
            let offset = usize::try_from(u64::from(*id) * 16).unwrap();
            let mut cursor = Cursor::new(&bytes[offset..]);
            cursor.uvarint_bytes("series").unwrap().to_vec()
        };
        let mut lists = Vec::new();
        for name in std::iter::once(Ok("")).chain(index.table().names()) {
            for item in index.table().values(name.unwrap(), "").unwrap() {
                lists.push(section_at(bytes, item.unwrap().1.start));
            }
        }
        Self {
            version: bytes[4],
            symbols: section_at(bytes, toc.symbols),
            series: all.iter().map(body).collect(),
            lists,
            table: section_at(bytes, toc.postings_table),
            toc: [0; 6],
        }
    }

    /// Breaks one part or two; the table of contents is told as numbers to be added.
    fn break_one(&mut self, dice: &mut Dice) {
        let other = self.table.clone();
        match dice.below(8) {
            0 | 1 => self.symbols = broken(dice, &self.symbols, &other),
            2 | 3 => {
                let at = dice.below(self.series.len());
                self.series[at] = broken(dice, &self.series[at], &other);
            }
            4 => {
                let at = dice.below(self.lists.len());
                self.lists[at] = broken(dice, &self.lists[at], &other);
            }
            5 => self.table = broken(dice, &other, &self.symbols),
            6 => self.toc[dice.below(6)] = odd_number(dice),
            _ => self.version = [1, 1, 2, 3, 4][dice.below(5)],
        }
    }

    /// The symbols as they stand in a file, and everything from the postings table on.
    fn put(&self) -> (Vec<u8>, [u64; 6]) {
        let mut out = vec![0xba, 0xaa, 0xd7, 0x00, self.version];
        let mut toc = [0; 6];
        let here = |out: &Vec<u8>| out.len() as u64;
        toc[0] = here(&out);
        put_section(&mut out, &self.symbols);
        toc[1] = here(&out);
        for body in &self.series {
            align(&mut out, 16);
            put_uvarint_bytes(&mut out, body);
            out.extend_from_slice(&crc32c(body).to_be_bytes());
        }
        toc[2] = here(&out);
        toc[4] = here(&out);
        for body in &self.lists {
            align(&mut out, 4);
            put_section(&mut out, body);
        }
        toc[3] = here(&out);
        toc[5] = here(&out);
        put_section(&mut out, &self.table);
        for (offset, wrong) in toc.iter_mut().zip(self.toc) {
            *offset = offset.wrapping_add(wrong);
        }
        let contents: Vec<u8> = toc.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        out.extend_from_slice(&contents);
        out.extend_from_slice(&crc32c(&contents).to_be_bytes());
        (out, toc)
    }
}

fn written() -> Vec<u8> {
    let mut all: Vec<_> = (0..40).map(series).collect();
    all.sort();
    let mut symbols: Vec<Arc<str>> = all
        .iter()
        .flat_map(|labels| labels.iter().flat_map(|(name, value)| [name, value]))
        .map(Arc::from)
        .collect();
    symbols.sort();
    symbols.dedup();
    let number = |text: &str| {
        let found = symbols.binary_search_by(|symbol| (**symbol).cmp(text));
        u32::try_from(found.unwrap()).unwrap()
    };
    let dir = crate::directories::scratch();
    let path = dir.path().join("index");
    let mut writer = IndexWriter::create(&path, symbols.clone()).unwrap();
    for (n, labels) in all.iter().enumerate() {
        let chunks = (0..i64::try_from(n % 5).unwrap() + 1).map(|i| ChunkMeta {
            min_t: START + i * 1_800_000,
            max_t: START + i * 1_800_000 + 1_785_000,
            at: ChunkRef(8 + u64::try_from(n).unwrap() * 1000 + i.cast_unsigned() * 200),
        });
        let entry = SeriesEntry {
            symbols: labels.iter().map(|(n, v)| (number(n), number(v))).collect(),
            chunks: chunks.collect(),
        };
        writer.write_series(&entry).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(&path).unwrap()
}

fn matchers() -> Vec<Vec<Matcher>> {
    let of = |kind, name, value| Matcher::new(kind, name, value).unwrap();
    vec![
        Vec::new(),
        vec![Matcher::equal("__name__", "up")],
        vec![
            of(MatchType::Regex, "instance", "host-(1|2|3):.*"),
            of(MatchType::NotEqual, "__name__", "up"),
        ],
        vec![
            of(MatchType::NotRegex, "instance", ".*0.*"),
            of(MatchType::Regex, "job", ".+"),
        ],
    ]
}

/// Asks an index everything that a query asks.
fn read_index(bytes: &[u8], matchers: &[Vec<Matcher>]) -> usize {
    let Ok(index) = IndexReader::new("index", Bytes::copy_from_slice(bytes)) else {
        return 0;
    };
    let symbols = index.symbols();
    let n_symbols = symbols.iter().take_while(Result::is_ok).count();
    symbols
        .references()
        .take_while(Result::is_ok)
        .for_each(drop);
    symbols.get(u32::MAX).err().unwrap();
    let mut n_read = n_symbols;
    let mut entry = SeriesEntry::default();
    for wanted in matchers {
        let Ok(ids) = index.select(wanted) else {
            continue;
        };
        for id in ids {
            if index.series(id, &mut entry).is_ok() && index.labels(id, &entry).is_ok() {
                n_read += 1;
            }
        }
        index.label_names(wanted).ok();
        for name in ["__name__", "instance", "", "nothing"] {
            index.label_values(name, wanted).ok();
        }
    }
    index
        .verify(&mut |series| {
            series.labels().ok();
        })
        .ok();
    n_read
}

#[test]
fn broken_indexes_are_read_or_refused() {
    let bytes = written();
    let (parts, matchers) = (Parts::new(&bytes), matchers());
    assert_eq!(parts.put().0, bytes, "what was taken apart is put together");
    assert!(
        40 * 2 < read_index(&bytes, &matchers),
        "a seed without series"
    );
    let make = |dice: &mut Dice| {
        let mut parts = parts.clone();
        for _ in 0..=dice.below(2) {
            parts.break_one(dice);
        }
        let (mut bytes, _) = parts.put();
        if dice.chance(15) {
            bytes = broken(dice, &bytes, &[0; 64]);
        }
        bytes
    };
    let target = Target::new("index", 40).rounds(1_000);
    run(target, make, |bytes| read_index(bytes, &matchers));
}

/// Asks a header everything that a query asks of it.
fn read_header(bytes: &[u8], matchers: &[Vec<Matcher>]) -> usize {
    let Ok(header) = IndexHeader::new("header", Bytes::copy_from_slice(bytes)) else {
        return 0;
    };
    let mut n_read = header.symbols().iter().take_while(Result::is_ok).count();
    for wanted in matchers {
        if let Ok(Some(plan)) = PostingsPlan::new(header.table(), wanted) {
            n_read += plan
                .ranges()
                .filter(|range| range.start < range.end)
                .count();
        }
    }
    for name in header.table().names() {
        let Ok(name) = name else { break };
        if let Ok(values) = header.table().values(name, "h") {
            n_read += values.take_while(Result::is_ok).count();
        }
    }
    n_read
}

#[test]
fn broken_index_headers_are_read_or_refused() {
    let (parts, matchers) = (Parts::new(&written()), matchers());
    let make = |dice: &mut Dice| {
        let mut parts = parts.clone();
        if dice.chance(80) {
            parts.break_one(dice);
        }
        let (index, toc) = parts.put();
        let n_bytes = index.len() as u64;
        let mut end = index[index.len() - TOC_BYTES..].to_vec();
        if dice.chance(5) {
            end = broken(dice, &end, &[0; 64]);
        }
        let told = if dice.chance(5) {
            odd_number(dice)
        } else {
            n_bytes
        };
        let Ok(header) = HeaderParts::new("index", &index[..5], told, Bytes::from(end)) else {
            return Vec::new();
        };
        let cut = |(start, end): (u64, u64)| {
            let at = |offset| usize::try_from(offset).ok();
            index.get(at(start)?..at(end)?)
        };
        assert!(
            header.symbols().0 <= toc[1] || toc[1] < toc[0],
            "{header:?}"
        );
        let (symbols, tail) = (cut(header.symbols()), cut(header.tail()));
        let mut bytes = header.encode(symbols.unwrap_or_default(), tail.unwrap_or_default());
        if dice.chance(15) {
            bytes = broken(dice, &bytes, &[0; 64]);
        }
        bytes
    };
    let target = Target::new("index header", 41).rounds(2_000);
    run(target, make, |bytes| read_header(bytes, &matchers));
}
