//! The chunk files of a block: `chunks/000001`, `chunks/000002`, …

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::chunk::decode::n_samples;
use crate::chunk::error::ChunkError;
use crate::foundation::Cursor;
use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::put_uvarint;
use crate::foundation::mmap::map_file;
use crate::model::Encoding;

/// First bytes of every segment.
const SEGMENT_MAGIC: u32 = 0x85BD_40DD;

/// The only version there is.
const SEGMENT_VERSION: u8 = 1;

/// Where a segment ends and the next begins: Prometheus' number.
pub const SEGMENT_BYTES_MAX: u64 = 512 << 20;

/// What a segment begins with: magic, version, padding.
pub const SEGMENT_HEADER_BYTES: usize = 8;

/// What a chunk takes beside its data, at most: length, encoding, checksum.
pub const CHUNK_OVERHEAD_BYTES_MAX: usize = 5 + 1 + 4;

/// Where a chunk is: the segment, from zero, in the high half, the offset in the low half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRef(pub u64);

impl ChunkRef {
    /// The chunk at `offset` of segment number `segment`, counted from zero.
    pub fn new(segment: u32, offset: u32) -> Self {
        Self(u64::from(segment) << 32 | u64::from(offset))
    }

    /// Segment number from zero; the file's name is one more.
    pub fn segment(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(u32::MAX)
    }

    /// Offset of the chunk's first byte.
    pub fn offset(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }
}

/// A chunk as it lies in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// The chunk's bytes, a slice of the input.
    pub data: Bytes,
    /// Length of the whole entry with length, encoding and checksum.
    pub n_bytes: usize,
}

/// Appends one entry: length of the data, encoding, data, checksum over encoding and data.
pub fn encode_chunk(out: &mut Vec<u8>, encoding: Encoding, data: &[u8]) {
    put_uvarint(out, data.len() as u64);
    let start = out.len();
    out.push(encoding.as_byte());
    out.extend_from_slice(data);
    let crc = crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Mirror of [`encode_chunk`] at `offset` of `bytes`.
pub fn decode_chunk(bytes: &Bytes, offset: usize) -> Result<StoredChunk, ChunkError> {
    let (encoding, data, entry) = entry_at(bytes, offset)?;
    Ok(StoredChunk {
        encoding,
        data: bytes.slice_ref(data),
        n_bytes: entry.len(),
    })
}

/// Encoding and data of the entry at `offset`, its checksum verified, and the entry.
#[inline]
fn entry_at(bytes: &[u8], offset: usize) -> Result<(Encoding, &[u8], &[u8]), ChunkError> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let mut cursor = Cursor::at(rest, offset);
    let len = cursor.uvarint_len("chunk length")?;
    let body = cursor.bytes("encoding and data of a chunk", len.saturating_add(1))?;
    let stored = cursor.u32_be("chunk checksum")?;
    let computed = crc32c(body);
    if stored != computed {
        return Err(ChunkError::Checksum { stored, computed });
    }
    let (&encoding, data) = body.split_first().unwrap_or((&0, &[]));
    let encoding = Encoding::from_byte(encoding).ok_or(ChunkError::UnknownEncoding(encoding))?;
    let entry = rest.get(..cursor.offset() - offset).unwrap_or_default();
    Ok((encoding, data, entry))
}

/// A chunk as it lies in a segment, to be put into another one as it is.
#[derive(Debug, Clone, Copy)]
pub struct RawChunk<'a> {
    /// All of it: length, encoding, data, checksum, which was verified.
    pub entry: &'a [u8],
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// The chunk's bytes.
    pub data: &'a [u8],
    /// How many samples it says it has.
    pub n_samples: usize,
}

impl<'a> RawChunk<'a> {
    /// The chunk at `offset` of `bytes`.
    #[inline]
    pub fn read(bytes: &'a [u8], offset: usize) -> Result<Self, ChunkError> {
        if let Some(chunk) = Self::at_hand(bytes, offset) {
            return Ok(chunk);
        }
        let (encoding, data, entry) = entry_at(bytes, offset)?;
        Ok(Self {
            entry,
            encoding,
            data,
            n_samples: n_samples(encoding, data)?,
        })
    }

    /// As [`Self::read`]. `None` where it is not whole in `bytes`, damaged, or one of the last of them: `read` says which.
    #[inline]
    pub fn at_hand(bytes: &'a [u8], offset: usize) -> Option<Self> {
        let rest = bytes.get(offset..)?;
        let mut cursor = Cursor::new(rest);
        let len = usize::try_from(cursor.quick_uvarint()?).ok()?;
        let (body, behind) = cursor.rest().split_at_checked(len.checked_add(1)?)?;
        if crc32c(body) != u32::from_be_bytes(*behind.first_chunk::<4>()?) {
            return None;
        }
        let (&encoding, data) = body.split_first()?;
        let encoding = Encoding::from_byte(encoding)?;
        let n_samples = match (encoding, data.first_chunk::<2>()) {
            (Encoding::Xor, Some(count)) => usize::from(u16::from_be_bytes(*count)),
            _ => n_samples(encoding, data).ok()?,
        };
        let entry = rest.get(..cursor.offset() + body.len() + 4)?;
        Some(Self {
            entry,
            encoding,
            data,
            n_samples,
        })
    }
}

/// Appends the header of a segment.
pub(super) fn encode_header() -> [u8; SEGMENT_HEADER_BYTES] {
    let [m0, m1, m2, m3] = SEGMENT_MAGIC.to_be_bytes();
    [m0, m1, m2, m3, SEGMENT_VERSION, 0, 0, 0]
}

/// What is wrong with the header of a segment that begins with these bytes, if anything.
pub fn header_flaw(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let read = |cursor: &mut Cursor<'_>| {
        Ok::<_, ChunkError>((
            cursor.u32_be("magic")?,
            cursor.u8("version")?,
            cursor.take::<3>("padding")?,
        ))
    };
    match read(&mut cursor) {
        Err(short) => Some(short.to_string()),
        Ok((SEGMENT_MAGIC, SEGMENT_VERSION, _)) => None,
        Ok((SEGMENT_MAGIC, version, _)) => Some(format!("unknown segment version {version}")),
        Ok((magic, _, _)) => Some(format!(
            "{magic:08x} is not the magic number of a chunk segment"
        )),
    }
}

/// The segments of one block, mapped. A damaged or missing file is an error to those who need it, not to the rest.
#[derive(Debug)]
pub struct SegmentReader {
    dir: PathBuf,
    segments: BTreeMap<u32, Segment>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: Bytes,
    flaw: Option<String>,
}

impl SegmentReader {
    /// Maps every file of `dir` whose name is a number.
    pub fn open(dir: &Path) -> Result<Self, ChunkError> {
        let mut segments = BTreeMap::new();
        let entries = fs::read_dir(dir).map_err(|source| file_error(dir, source))?;
        for entry in entries {
            let path = entry.map_err(|source| file_error(dir, source))?.path();
            let Some(number) = number_of(&path) else {
                continue;
            };
            let (bytes, flaw) = match map_file(&path) {
                Ok(bytes) => {
                    let flaw = header_flaw(&bytes);
                    (bytes, flaw)
                }
                Err(source) => (Bytes::new(), Some(source.to_string())),
            };
            segments.insert(number, Segment { path, bytes, flaw });
        }
        Ok(Self {
            dir: dir.to_owned(),
            segments,
        })
    }

    /// One chunk, its checksum verified; the data is a slice of the mapped file.
    pub fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, ChunkError> {
        self.read(at, decode_chunk)
    }

    /// As [`Self::chunk`], as it lies there.
    pub fn raw_chunk(&self, at: ChunkRef) -> Result<RawChunk<'_>, ChunkError> {
        self.read(at, |bytes, offset| RawChunk::read(bytes, offset))
    }

    /// The first byte of a chunk, if there is one: it is in memory afterwards.
    pub fn touch(&self, at: ChunkRef) -> u8 {
        let segment = self.segments.get(&at.segment().saturating_add(1));
        let byte = segment.and_then(|segment| segment.bytes.get(at.offset() as usize));
        byte.copied().unwrap_or(0)
    }

    fn read<'a, T>(
        &'a self,
        at: ChunkRef,
        read: impl FnOnce(&'a Bytes, usize) -> Result<T, ChunkError>,
    ) -> Result<T, ChunkError> {
        let number = at.segment().saturating_add(1);
        let Some(segment) = self.segments.get(&number) else {
            return Err(ChunkError::Damaged {
                path: self.dir.join(format!("{number:06}")),
                offset: u64::from(at.offset()),
                problem: "the file is missing".to_owned(),
            });
        };
        if let Some(flaw) = &segment.flaw {
            return Err(segment.damaged(0, flaw.clone()));
        }
        read(&segment.bytes, at.offset() as usize)
            .map_err(|flaw| segment.damaged(u64::from(at.offset()), flaw.to_string()))
    }

    /// Bytes of all files.
    pub fn n_bytes(&self) -> u64 {
        self.segments
            .values()
            .map(|segment| segment.bytes.len() as u64)
            .sum()
    }

    /// The files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.segments.values().map(|segment| segment.path.as_path())
    }
}

impl Segment {
    fn damaged(&self, offset: u64, problem: String) -> ChunkError {
        ChunkError::Damaged {
            path: self.path.clone(),
            offset,
            problem,
        }
    }
}

/// The number that names a segment file, if `path` is one.
fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok())?
}

pub(super) fn file_error(path: &Path, source: io::Error) -> ChunkError {
    ChunkError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::SegmentWriter;
    use crate::foundation::durable::replace_file;

    const GOLDEN: [u8; 17] = [
        0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0, // header
        3, 1, 7, 8, 9, // length, encoding, data
        0x04, 0x74, 0x9d, 0x62, // crc32c of 01 07 08 09
    ];

    fn written(dir: &Path, n_bytes_max: u64, chunks: &[&[u8]]) -> Vec<ChunkRef> {
        let mut writer = SegmentWriter::create(dir, n_bytes_max).unwrap();
        let refs = chunks
            .iter()
            .map(|data| writer.write(Encoding::Xor, data).unwrap())
            .collect();
        writer.finish().unwrap();
        refs
    }

    #[test]
    fn a_segment_of_one_chunk_has_these_bytes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("chunks");
        let refs = written(&dir, SEGMENT_BYTES_MAX, &[&[7, 8, 9]]);
        assert_eq!(refs, [ChunkRef(8)]);
        assert_eq!(fs::read(dir.join("000001")).unwrap(), GOLDEN);
    }

    #[test]
    fn a_full_segment_is_followed_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("chunks");
        let (small, large) = ([1u8; 10], [2u8; 100]);
        // Header, and two small chunks counted at their largest size: 8 + 16 + 20.
        let refs = written(&dir, 44, &[&small, &small, &small, &large, &small]);
        let expect = [(0, 8), (0, 24), (1, 8), (2, 8), (3, 8)];
        assert_eq!(
            refs,
            expect.map(|(segment, offset)| ChunkRef::new(segment, offset))
        );
        let reader = SegmentReader::open(&dir).unwrap();
        assert_eq!(reader.paths().count(), 4);
        for (at, data) in refs
            .iter()
            .zip([&small[..], &small, &small, &large, &small])
        {
            assert_eq!(reader.chunk(*at).unwrap().data, data);
        }
    }

    #[test]
    fn every_truncation_names_the_file_and_the_offset() {
        for len in 0..GOLDEN.len() {
            let root = tempfile::tempdir().unwrap();
            replace_file(&root.path().join("000001"), &GOLDEN[..len]).unwrap();
            let reader = SegmentReader::open(root.path()).unwrap();
            let text = reader.chunk(ChunkRef(8)).unwrap_err().to_string();
            let place = if len < 8 {
                "000001: offset 0: "
            } else {
                "000001: offset 8: "
            };
            assert!(text.contains(place), "len {len}: {text}");
        }
    }

    #[test]
    fn every_flipped_bit_is_an_error() {
        for bit in 0..GOLDEN.len() * 8 {
            let mut damaged = GOLDEN;
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            let root = tempfile::tempdir().unwrap();
            replace_file(&root.path().join("000001"), &damaged).unwrap();
            let result = SegmentReader::open(root.path()).unwrap().chunk(ChunkRef(8));
            let is_padding = (5 * 8..8 * 8).contains(&bit);
            assert_eq!(result.is_ok(), is_padding, "bit {bit}: {result:?}");
        }
    }

    #[test]
    fn a_missing_segment_and_an_offset_beyond_the_end_are_named() {
        let root = tempfile::tempdir().unwrap();
        replace_file(&root.path().join("000002"), &GOLDEN).unwrap();
        replace_file(&root.path().join("notes"), b"text").unwrap();
        let reader = SegmentReader::open(root.path()).unwrap();
        assert!(reader.chunk(ChunkRef::new(1, 8)).is_ok());
        for (at, expect) in [
            (ChunkRef::new(0, 8), "000001: offset 8: the file is missing"),
            (
                ChunkRef::new(1, 99),
                "000002: offset 99: chunk header: chunk length at offset 99",
            ),
            (ChunkRef(u64::MAX), "4294967295"),
        ] {
            let text = reader.chunk(at).unwrap_err().to_string();
            assert!(text.contains(expect), "{text}");
        }
    }
}
