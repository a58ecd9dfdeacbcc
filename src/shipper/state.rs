//! `thanos.shipper.json`: which local blocks are in the bucket. The file Thanos' own shipper keeps, so either may go on
//! where the other stopped.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::foundation::durable::replace_file;
use crate::model::BlockId;

/// The file's name in the data directory.
pub const STATE_FILE: &str = "thanos.shipper.json";

/// The only version there is.
const VERSION: u64 = 1;
/// Longest text that is read: some hundred thousand blocks.
const STATE_BYTES_MAX: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct StateText {
    version: u64,
    #[serde(default)]
    uploaded: Option<Vec<BlockId>>,
}

/// The text as Thanos writes it.
fn encode(uploaded: &[BlockId]) -> Vec<u8> {
    let text = StateText {
        version: VERSION,
        uploaded: (!uploaded.is_empty()).then(|| uploaded.to_vec()),
    };
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing ids into memory cannot fail.
    text.serialize(&mut serializer).ok();
    out.push(b'\n');
    out
}

/// Mirror of [`encode`]; the error says what is wrong.
fn decode(text: &[u8]) -> Result<BTreeSet<BlockId>, String> {
    let state: StateText = serde_json::from_slice(text).map_err(|flaw| flaw.to_string())?;
    if state.version != VERSION {
        return Err(format!("version {} is not {VERSION}", state.version));
    }
    Ok(state.uploaded.unwrap_or_default().into_iter().collect())
}

/// Reads the state in `dir`. A file that is absent or does not decode means nothing was uploaded, because what is in
/// the bucket is noticed there anyway; the second result says what was wrong with it.
pub(crate) fn read(dir: &Path) -> (BTreeSet<BlockId>, Option<String>) {
    let mut text = Vec::new();
    let opened = File::open(dir.join(STATE_FILE));
    match opened.and_then(|file| file.take(STATE_BYTES_MAX).read_to_end(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (BTreeSet::new(), None),
        Err(error) => (BTreeSet::new(), Some(error.to_string())),
        Ok(_) => match decode(&text) {
            Ok(uploaded) => (uploaded, None),
            Err(flaw) => (BTreeSet::new(), Some(flaw)),
        },
    }
}

/// Replaces the state in `dir`; oldest data first.
pub(crate) fn write(dir: &Path, uploaded: &[BlockId]) -> io::Result<()> {
    replace_file(&dir.join(STATE_FILE), &encode(uploaded))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str =
        "{\n\t\"version\": 1,\n\t\"uploaded\": [\n\t\t\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"\n\t]\n}\n";

    fn one() -> BTreeSet<BlockId> {
        BTreeSet::from(["01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()])
    }

    #[test]
    fn the_text_is_the_one_thanos_writes() {
        let list: Vec<BlockId> = one().into_iter().collect();
        assert_eq!(String::from_utf8(encode(&list)).unwrap(), GOLDEN);
        assert_eq!(decode(GOLDEN.as_bytes()), Ok(one()));
        let empty = "{\n\t\"version\": 1,\n\t\"uploaded\": null\n}\n";
        assert_eq!(String::from_utf8(encode(&[])).unwrap(), empty);
        assert_eq!(decode(empty.as_bytes()), Ok(BTreeSet::new()));
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_an_error_or_a_state() {
        for len in 0..GOLDEN.len() - 1 {
            assert!(decode(&GOLDEN.as_bytes()[..len]).is_err(), "len {len}");
        }
        for bit in 0..GOLDEN.len() * 8 {
            let mut damaged = GOLDEN.as_bytes().to_vec();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            if let Ok(state) = decode(&damaged) {
                let list: Vec<BlockId> = state.iter().copied().collect();
                assert_eq!(decode(&encode(&list)), Ok(state), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_state_that_does_not_decode_is_nothing_uploaded_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), (BTreeSet::new(), None));
        let list: Vec<BlockId> = one().into_iter().collect();
        write(dir.path(), &list).unwrap();
        assert_eq!(read(dir.path()), (one(), None));
        for (text, expect) in [
            ("{\"version\": 2}", "version 2 is not 1"),
            ("", "EOF while parsing a value at line 1 column 0"),
        ] {
            replace_file(&dir.path().join(STATE_FILE), text.as_bytes()).unwrap();
            assert_eq!(read(dir.path()), (BTreeSet::new(), Some(expect.to_owned())));
        }
    }
}
