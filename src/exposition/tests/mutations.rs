//! What nobody wrote on purpose.

use crate::exposition::{
    Entry, Exemplar, LabelBuffer, MediaType, ParseError, Parser, ParserOptions, Place,
};

/// SplitMix64: a seed in, the same numbers out.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }
}

const SEEDS: [&str; 3] = [
    "# HELP a_seconds Help \\n text.\n# TYPE a_seconds summary\na_seconds{quantile=\"0.5\",x=\"y\\\"z\"} 1.5 1520879607789\n",
    "# TYPE h histogram\nh_bucket{le=\"1\"} 4\n{\"http.x\",\"é\"=\"v\"} 2e3\n\n# comment\nplain NaN\n",
    "# TYPE c counter\n# UNIT c_seconds seconds\nc_total{a=\"b\"} 17.0 1520.789 # {id=\"K\"} 0.67 1520.9\nc_created 1.5\n# EOF\n",
];

const FRAGMENTS: [&str; 16] = [
    "\0", "\"", "\\", "{", "}", ",", "=", "\n", " ", "\t", "#", "# EOF\n", "1e999", "é", "-", "{}",
];

/// Places a syntax error where nothing can make it valid again, after other mutations.
fn malformed(seeded: &mut Seeded) -> Vec<u8> {
    let seed = SEEDS[seeded.below(SEEDS.len())];
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..=seeded.below(4) {
        let at = seeded.below(bytes.len());
        match seeded.below(4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] = u8::try_from(seeded.below(256)).unwrap(),
            2 => {
                bytes.remove(at);
                bytes.push(b'\n');
            }
            _ => {
                let fragment = FRAGMENTS[seeded.below(FRAGMENTS.len())];
                bytes.splice(at..at, fragment.bytes());
            }
        }
    }
    bytes
}

#[test]
fn five_hundred_malformed_expositions_are_refused_at_a_place_inside_them() {
    let mut seeded = Seeded(42);
    let (mut n_refused, mut n_tried) = (0, 0);
    while n_refused < 500 {
        n_tried += 1;
        assert!(
            n_tried < 20_000,
            "mutations hardly break anything: {n_refused}"
        );
        let input = malformed(&mut seeded);
        for media_type in [MediaType::Text, MediaType::OpenMetrics] {
            let Some(error) = dump_error(&input, media_type) else {
                continue;
            };
            n_refused += 1;
            assert!(!error.message.is_empty());
            let Place::Line { line, column } = error.place else {
                panic!("{error} is in a text");
            };
            let len = input.split(|b| *b == b'\n').nth(line - 1).map(<[u8]>::len);
            assert!(
                len.is_some_and(|len| 1 <= column && column <= len + 1),
                "{error} is outside of {}",
                input.escape_ascii()
            );
        }
    }
}

/// Like `dump`, without the finished label sets, which mutated names can make impossible.
fn dump_error(input: &[u8], media_type: MediaType) -> Option<ParseError> {
    let mut parser = Parser::new(input, media_type, ParserOptions::default());
    let mut labels = LabelBuffer::new();
    let mut exemplar = Exemplar::default();
    loop {
        match parser.next_entry() {
            Ok(Some(Entry::Series(_))) => {
                parser.labels(&mut labels);
                parser.next_exemplar(&mut exemplar);
                parser.start_timestamp();
            }
            Ok(Some(_)) => (),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

#[test]
fn every_truncation_ends_in_an_error_or_a_clean_line() {
    for (seed, media_type) in
        SEEDS
            .iter()
            .zip([MediaType::Text, MediaType::Text, MediaType::OpenMetrics])
    {
        for len in 0..seed.len() {
            let error = dump_error(&seed.as_bytes()[..len], media_type);
            let is_whole = seed.len() - 1 == len;
            assert_eq!(
                error.is_none() && media_type == MediaType::OpenMetrics,
                is_whole && media_type == MediaType::OpenMetrics,
                "{len} of {seed:?}: {error:?}"
            );
        }
    }
}
