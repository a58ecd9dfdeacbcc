//! Golden bytes, round trips, damage, and matchers against a plain scan.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::chunk::ChunkRef;
use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::index::{
    ChunkMeta, HeaderParts, IndexError, IndexHeader, IndexReader, IndexWriter, PostingsPlan,
    SeriesEntry,
};
use crate::model::{Labels, MatchType, Matcher};

type Series = (Labels, Vec<ChunkMeta>);

fn chunk(min_t: i64, max_t: i64, at: u64) -> ChunkMeta {
    ChunkMeta {
        min_t,
        max_t,
        at: ChunkRef(at),
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).unwrap()
}

fn two_series() -> Vec<Series> {
    vec![
        (
            labels(&[("a", "1")]),
            vec![chunk(-5, 10, 8), chunk(12, 20, 40)],
        ),
        (labels(&[("a", "1"), ("b", "2")]), vec![chunk(0, 0, 80)]),
    ]
}

fn write(path: &Path, series: &[Series]) -> Result<(), IndexError> {
    let mut symbols: Vec<Arc<str>> = vec![Arc::from("")];
    for (labels, _) in series {
        for (name, value) in labels {
            symbols.push(Arc::from(name));
            symbols.push(Arc::from(value));
        }
    }
    symbols.sort();
    symbols.dedup();
    let number = |text: &str| {
        let position = symbols.binary_search_by(|symbol| symbol.as_ref().cmp(text));
        u32::try_from(position.unwrap()).unwrap()
    };
    let entries: Vec<SeriesEntry> = series
        .iter()
        .map(|(labels, chunks)| SeriesEntry {
            symbols: labels
                .iter()
                .map(|(name, value)| (number(name), number(value)))
                .collect(),
            chunks: chunks.clone(),
        })
        .collect();
    let mut writer = IndexWriter::create(path, symbols.clone())?;
    for entry in &entries {
        writer.write_series(entry)?;
    }
    writer.finish()
}

fn written(series: &[Series]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    write(&path, series).unwrap();
    std::fs::read(path).unwrap()
}

fn open(bytes: &[u8]) -> Result<IndexReader, IndexError> {
    IndexReader::new("index", Bytes::copy_from_slice(bytes))
}

/// Everything an index says.
fn read_all(index: &IndexReader) -> Result<Vec<Series>, IndexError> {
    let mut all = Vec::new();
    index.verify(&mut |series| {
        all.push((series.labels().unwrap(), series.entry.chunks.clone()));
    })?;
    for name in index.label_names(&[])? {
        index.label_values(&name, &[])?;
    }
    for symbol in index.symbols().iter() {
        symbol?;
    }
    Ok(all)
}

fn section(out: &mut Vec<u8>, body: &[u8]) {
    out.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    out.extend(body);
    out.extend(crc32c(body).to_be_bytes());
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

#[test]
fn an_index_of_two_series_has_these_bytes() {
    let mut expect = vec![0xba, 0xaa, 0xd7, 0x00, 2];
    // "", "1", "2", "a", "b" are symbols 0 to 4.
    section(
        &mut expect,
        &[0, 0, 0, 5, 0, 1, b'1', 1, b'2', 1, b'a', 1, b'b'],
    );
    let series_at = expect.len() as u64;
    let series = |out: &mut Vec<u8>, body: &[u8]| {
        pad(out, 16);
        let id = u32::try_from(out.len() / 16).unwrap();
        put_uvarint_bytes(out, body);
        out.extend(crc32c(body).to_be_bytes());
        id
    };
    // One label (3, 1); two chunks: -5 zig-zag 9, span 15, reference 8; gap 2, span 8, +32 zig-zag 64.
    let first = series(&mut expect, &[1, 3, 1, 2, 9, 15, 8, 2, 8, 64]);
    let second = series(&mut expect, &[2, 3, 1, 4, 2, 1, 0, 0, 80]);
    let series_end = expect.len() as u64;
    let mut starts = Vec::new();
    for ids in [&[first, second][..], &[first, second], &[second]] {
        pad(&mut expect, 4);
        starts.push(expect.len() as u64);
        let mut body = u32::try_from(ids.len()).unwrap().to_be_bytes().to_vec();
        ids.iter().for_each(|id| body.extend(id.to_be_bytes()));
        section(&mut expect, &body);
    }
    let table_at = expect.len() as u64;
    let mut table = vec![0, 0, 0, 3];
    for (start, (name, value)) in starts.into_iter().zip([("", ""), ("a", "1"), ("b", "2")]) {
        table.push(2);
        put_uvarint_bytes(&mut table, name.as_bytes());
        put_uvarint_bytes(&mut table, value.as_bytes());
        put_uvarint(&mut table, start);
    }
    section(&mut expect, &table);
    let contents: Vec<u8> = [5, series_at, series_end, table_at, series_end, table_at]
        .into_iter()
        .flat_map(u64::to_be_bytes)
        .collect();
    expect.extend(&contents);
    expect.extend(crc32c(&contents).to_be_bytes());
    assert_eq!(written(&two_series()), expect);
    assert_eq!(read_all(&open(&expect).unwrap()).unwrap(), two_series());
    expect[4] = 3;
    assert_eq!(read_all(&open(&expect).unwrap()).unwrap(), two_series());
    expect[4] = 4;
    let text = open(&expect).unwrap_err().to_string();
    assert_eq!(text, "index: offset 4: unknown index version 4");
}

/// Version 1: symbols and series by offset, the table in no order.
fn version_1() -> Vec<u8> {
    let mut out = vec![0xba, 0xaa, 0xd7, 0x00, 1];
    let texts = ["", "1", "2", "a", "b"];
    let mut body = vec![0, 0, 0, 5];
    let mut at = Vec::new();
    for text in texts {
        at.push(5 + 4 + body.len() as u64);
        put_uvarint_bytes(&mut body, text.as_bytes());
    }
    section(&mut out, &body);
    let mut contents = vec![5, out.len() as u64];
    let mut ids = Vec::new();
    for (labels, chunks) in two_series() {
        let mut body = Vec::new();
        put_uvarint(&mut body, labels.len() as u64);
        for (name, value) in &labels {
            for text in [name, value] {
                let number = texts.iter().position(|here| *here == text).unwrap();
                put_uvarint(&mut body, at[number]);
            }
        }
        put_uvarint(&mut body, chunks.len() as u64);
        put_varint(&mut body, chunks[0].min_t);
        put_uvarint(
            &mut body,
            (chunks[0].max_t - chunks[0].min_t).cast_unsigned(),
        );
        put_uvarint(&mut body, chunks[0].at.0);
        for pair in chunks.windows(2) {
            put_uvarint(&mut body, (pair[1].min_t - pair[0].max_t).cast_unsigned());
            put_uvarint(&mut body, (pair[1].max_t - pair[1].min_t).cast_unsigned());
            put_varint(&mut body, (pair[1].at.0 - pair[0].at.0).cast_signed());
        }
        ids.push(u32::try_from(out.len()).unwrap());
        put_uvarint_bytes(&mut out, &body);
        out.extend(crc32c(&body).to_be_bytes());
    }
    contents.extend([out.len() as u64; 3]);
    let mut table = vec![0, 0, 0, 3];
    for (name, value, ids) in [
        ("b", "2", &ids[1..]),
        ("", "", &ids[..]),
        ("a", "1", &ids[..]),
    ] {
        table.push(2);
        put_uvarint_bytes(&mut table, name.as_bytes());
        put_uvarint_bytes(&mut table, value.as_bytes());
        put_uvarint(&mut table, out.len() as u64);
        let mut body = u32::try_from(ids.len()).unwrap().to_be_bytes().to_vec();
        ids.iter().for_each(|id| body.extend(id.to_be_bytes()));
        section(&mut out, &body);
    }
    contents.push(out.len() as u64);
    section(&mut out, &table);
    let contents: Vec<u8> = contents.into_iter().flat_map(u64::to_be_bytes).collect();
    out.extend(&contents);
    out.extend(crc32c(&contents).to_be_bytes());
    out
}

#[test]
fn version_1_is_read() {
    let index = open(&version_1()).unwrap();
    assert_eq!(read_all(&index).unwrap(), two_series());
    assert_eq!(index.label_names(&[]).unwrap(), ["a", "b"]);
    assert_eq!(index.select(&[Matcher::equal("b", "2")]).unwrap().len(), 1);
    assert_eq!(
        index
            .label_values("a", &[Matcher::equal("b", "2")])
            .unwrap(),
        ["1"]
    );
}

/// Changes what lies behind a length of `n_length` bytes at `start`, and makes its checksum right again.
fn change(bytes: &mut [u8], (start, n_length): (usize, usize), how: impl FnOnce(&mut [u8])) {
    let length = bytes[start..start + n_length].iter();
    let n = length.fold(0, |n, byte| n << 8 | usize::from(*byte));
    let (body, behind) = bytes[start + n_length..].split_at_mut(n);
    how(body);
    behind[..4].copy_from_slice(&crc32c(body).to_be_bytes());
}

/// Where the list of `b="2"` begins, and the two series.
fn places(index: &IndexReader) -> (usize, [u32; 2]) {
    let list = index.table().find("b", "2").unwrap().unwrap();
    let ids = index.all_series().unwrap();
    (usize::try_from(list.start).unwrap(), [ids[0], ids[1]])
}

#[test]
fn postings_of_another_series_are_damage_in_every_version() {
    for mut bytes in [written(&two_series()), version_1()] {
        let (list, [first, second]) = places(&open(&bytes).unwrap());
        change(&mut bytes, (list, 4), |list| {
            assert_eq!(list[4..], second.to_be_bytes());
            list[4..].copy_from_slice(&first.to_be_bytes());
        });
        let error = read_all(&open(&bytes).unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("postings and series disagree"), "{text}");
    }
}

#[test]
fn series_with_other_symbols_are_damage() {
    let good = written(&two_series());
    let (_, ids) = places(&open(&good).unwrap());
    // "", "1", "2", "a", "b" are symbols 0 to 4; labels begin behind their number.
    for (series, at, symbol, expect) in [
        (1, 4, 1, "postings and series disagree"),
        (0, 2, 2, "series {a=\"1\", b=\"2\"} is not above {a=\"2\"}"),
        (1, 1, 4, "label name \"b\" is not unique"),
        (1, 4, 0, "series {a=\"1\"} is not above {a=\"1\"}"),
        (1, 4, 5, "symbol 5 of 5 does not exist"),
    ] {
        let mut bytes = good.clone();
        let start = ids[series] as usize * 16;
        change(&mut bytes, (start, 1), |entry| entry[at] = symbol);
        let text = read_all(&open(&bytes).unwrap()).unwrap_err().to_string();
        assert!(text.contains(expect), "{text}");
    }
}

#[test]
fn where_a_text_has_two_symbols_texts_are_compared() {
    let mut bytes = written(&two_series());
    // The count, then "", "1" and "2".
    change(&mut bytes, (5, 4), |symbols| {
        assert_eq!(symbols[7..9], [1, b'2']);
        symbols[8] = b'1';
    });
    let text = read_all(&open(&bytes).unwrap()).unwrap_err().to_string();
    assert!(text.contains("postings and series disagree"), "{text}");
    let toc = open(&bytes).unwrap().toc();
    let table = usize::try_from(toc.postings_table).unwrap();
    change(&mut bytes, (table, 4), |table| {
        let place = table.iter().rposition(|byte| *byte == b'2').unwrap();
        table[place] = b'1';
    });
    let all = read_all(&open(&bytes).unwrap()).unwrap();
    assert_eq!(all[1].0, labels(&[("a", "1"), ("b", "1")]));
}

#[test]
fn every_symbol_has_a_number_and_other_texts_have_none() {
    let index = open(&written(&many_series())).unwrap();
    let symbols = index.symbols();
    assert!(symbols.are_numbered());
    for (number, text) in (0..).zip(symbols.iter()) {
        let text = text.unwrap();
        assert_eq!(symbols.number_of(text).unwrap(), Some(number), "{text}");
        assert_eq!(symbols.number_of(&format!("{text}!")).unwrap(), None);
    }
    assert!(!open(&version_1()).unwrap().symbols().are_numbered());
}

#[test]
fn what_would_break_a_reader_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let good = two_series();
    for (number, (series, expect)) in [
        (vec![good[1].clone(), good[0].clone()], "not above"),
        (vec![good[0].clone(), good[0].clone()], "not above"),
        (
            vec![(labels(&[("a", "1")]), vec![chunk(0, 5, 8), chunk(5, 9, 20)])],
            "overlap",
        ),
        (
            vec![(labels(&[("a", "1")]), vec![chunk(0, 5, 20), chunk(6, 9, 8)])],
            "out of order",
        ),
        (
            vec![(labels(&[("a", "1")]), vec![chunk(5, 0, 8)])],
            "out of order",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let text = write(&dir.path().join(number.to_string()), &series)
            .unwrap_err()
            .to_string();
        assert!(text.contains(expect), "{text}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    for whole in [written(&two_series()), version_1()] {
        for len in 0..whole.len() {
            let result = open(&whole[..len]);
            assert!(
                matches!(result, Err(IndexError::Damaged { .. })),
                "len {len}: {result:?}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_changes_nothing() {
    for whole in [written(&two_series()), version_1()] {
        let mut n_errors = 0;
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            match open(&damaged).and_then(|index| read_all(&index)) {
                Ok(series) => assert_eq!(series, two_series(), "bit {bit}"),
                Err(error) => {
                    n_errors += 1;
                    assert!(error.to_string().starts_with("index: offset "), "{error}");
                }
            }
        }
        // Only padding, and one bit between versions 2 and 3, go unnoticed.
        assert!(
            whole.len() * 8 - n_errors <= 40 * 8,
            "{n_errors} of {}",
            whole.len() * 8
        );
    }
}

fn header_of(index: &[u8]) -> Vec<u8> {
    let len = index.len();
    let end = Bytes::copy_from_slice(&index[len - 52..]);
    let parts = HeaderParts::new("index", &index[..5], len as u64, end).unwrap();
    let cut = |(start, end): (u64, u64)| {
        &index[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]
    };
    parts.encode(cut(parts.symbols()), cut(parts.tail()))
}

#[test]
fn an_index_header_finds_what_the_index_finds() {
    for whole in [written(&many_series()), version_1()] {
        let index = open(&whole).unwrap();
        let bytes = header_of(&whole);
        assert_eq!(bytes[..6], [0xba, 0xaa, 0xd7, 0x92, 1, whole[4]]);
        let header = IndexHeader::new("index-header", Bytes::from(bytes)).unwrap();
        let matchers = [Matcher::new(MatchType::Regex, "a", ".+").unwrap()];
        let plan = PostingsPlan::new(header.table(), &matchers)
            .unwrap()
            .unwrap();
        let ids = plan.run(&mut |range| index.postings(range)).unwrap();
        assert_eq!(ids, index.select(&matchers).unwrap());
        assert!(!ids.is_empty());
        let mut entry = SeriesEntry::default();
        for id in ids {
            index.series(id, &mut entry).unwrap();
            let here = entry.labels(header.symbols()).unwrap().unwrap();
            assert_eq!(here, index.labels(id, &entry).unwrap());
        }
        for range in plan.ranges() {
            let list = &whole[usize::try_from(range.start).unwrap()..];
            let n_bytes = 8 + u64::from(u32::from_be_bytes(*list.first_chunk().unwrap()));
            assert!(range.start + n_bytes <= range.end);
            assert!(
                range.end <= range.start + n_bytes + 3,
                "only padding may follow"
            );
        }
    }
}

#[test]
fn a_damaged_index_header_is_an_error() {
    let whole = header_of(&written(&two_series()));
    for len in 0..whole.len() {
        let result = IndexHeader::new("index-header", Bytes::copy_from_slice(&whole[..len]));
        assert!(result.is_err(), "len {len}");
    }
    let n_contents = 52;
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 0x80 >> (bit % 8);
        let result = IndexHeader::new("index-header", Bytes::from(damaged));
        let byte = bit / 8;
        // Unread here: the index's own version and contents, and where its lists end.
        let is_unread = (5..14).contains(&byte)
            || (whole.len() - 20 - n_contents..whole.len() - 20).contains(&byte);
        assert!(result.is_err() || is_unread, "bit {bit}");
    }
}

/// Enough values to need sampling, some labels missing here and there.
fn many_series() -> Vec<Series> {
    let mut all = Vec::new();
    for number in 0..100u32 {
        let job = ["api", "db", "web"][number as usize % 3];
        let instance = format!("host-{number:03}");
        let mut pairs = vec![("job", job), ("instance", instance.as_str())];
        let zone = format!("z{}", number % 7);
        if number % 2 == 0 {
            pairs.push(("zone", &zone));
        }
        if number % 5 == 0 {
            pairs.push(("a", "x"));
        }
        all.push((labels(&pairs), vec![chunk(0, 9, u64::from(number) * 100)]));
    }
    all.sort_by(|left, right| left.0.cmp(&right.0));
    all
}

#[track_caller]
fn check_select(index: &IndexReader, all: &[Series], matchers: &[Matcher]) {
    let expect: Vec<&Labels> = all
        .iter()
        .map(|(labels, _)| labels)
        .filter(|labels| matchers.iter().all(|m| m.matches(labels.value(&m.name))))
        .collect();
    let mut entry = SeriesEntry::default();
    let found: Vec<Labels> = index
        .select(matchers)
        .unwrap()
        .into_iter()
        .map(|id| {
            index.series(id, &mut entry).unwrap();
            index.labels(id, &entry).unwrap()
        })
        .collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), expect, "{matchers:?}");
    for name in ["job", "zone", "instance", "nothing"] {
        let mut values: Vec<&str> = expect
            .iter()
            .filter_map(|labels| labels.get(name))
            .collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(
            index.label_values(name, matchers).unwrap(),
            values,
            "{name} {matchers:?}"
        );
    }
    let mut names: Vec<&str> = expect
        .iter()
        .flat_map(|labels| labels.iter())
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(index.label_names(matchers).unwrap(), names, "{matchers:?}");
}

fn every_matcher() -> Vec<Matcher> {
    let mut all = Vec::new();
    for name in ["job", "zone", "instance", "a", "nothing"] {
        for match_type in [MatchType::Equal, MatchType::NotEqual] {
            for value in ["", "api", "z3", "host-042", "x", "other"] {
                all.push(Matcher::new(match_type, name, value).unwrap());
            }
        }
        for match_type in [MatchType::Regex, MatchType::NotRegex] {
            for value in [
                "",
                ".*",
                ".+",
                "api|db",
                "a|",
                "z.*",
                "z[1-3]",
                "host-0(1|2).*",
                "(?i:API)",
                "host-09.",
                "zzz.*",
                "z.+|",
            ] {
                all.push(Matcher::new(match_type, name, value).unwrap());
            }
        }
    }
    all
}

#[test]
fn every_kind_of_matcher_selects_what_a_scan_selects() {
    let all = many_series();
    let index = open(&written(&all)).unwrap();
    check_select(&index, &all, &[]);
    for matcher in every_matcher() {
        check_select(&index, &all, &[matcher]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn matchers_together_select_what_a_scan_selects(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        static MADE: std::sync::LazyLock<(Vec<Series>, IndexReader, Vec<Matcher>)> =
            std::sync::LazyLock::new(|| {
                let all = many_series();
                let index = open(&written(&all)).unwrap();
                (all, index, every_matcher())
            });
        let (all, index, matchers) = &*MADE;
        let picked: Vec<Matcher> = picks.iter().map(|pick| pick.get(matchers).clone()).collect();
        check_select(index, all, &picked);
    }

    #[test]
    fn what_is_written_is_read(
        series in prop::collection::btree_map(
            prop::collection::btree_map("[a-d]{1,2}", "[a-c]{1,3}", 1..5),
            prop::collection::vec((0i64..1000, 0i64..1000, 0u64..1 << 40), 0..5),
            0..30,
        ),
    ) {
        let mut all: Vec<Series> = series
            .into_iter()
            .map(|(pairs, steps)| {
                let pairs: Vec<_> = pairs.iter().collect();
                let (mut t, mut at) = (-500, 8);
                let chunks = steps
                    .into_iter()
                    .map(|(gap, span, distance)| {
                        let min_t = t + 1 + gap;
                        t = min_t + span;
                        at += distance;
                        chunk(min_t, t, at)
                    })
                    .collect();
                (Labels::new(&pairs).unwrap(), chunks)
            })
            .collect();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        prop_assert_eq!(read_all(&open(&written(&all)).unwrap()).unwrap(), all);
    }
}
