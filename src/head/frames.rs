//! Files of frames, each with its checksum: what the head leaves beside its logs for the next start. See `FORMAT.md`.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

use crate::foundation::checksum::{crc32c, crc32c_append};
use crate::foundation::cursor::put_uvarint;
use crate::foundation::durable::DurableFile;
use crate::foundation::{Cursor, ShortRead};

/// Kind, length and checksum.
const FRAME_OVERHEAD_BYTES: usize = 1 + 4 + 4;
/// A frame of several entries is closed when it is longer than this.
const FRAME_BYTES: usize = 256 << 10;

/// What a file of frames begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileKind {
    pub(crate) magic: &'static [u8; 8],
    pub(crate) version: u8,
    /// What it is called in messages.
    pub(crate) what: &'static str,
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// The first one of a snapshot: where it belongs.
    Position = 1,
    Series = 2,
    Aliases = 3,
    Removed = 4,
    Tombstones = 5,
    Metadata = 6,
    Exemplars = 7,
    /// The last one, with the number of frames before it.
    End = 8,
    /// Chunks that no file has.
    Chunks = 9,
    /// The last but one of a redo point: where it belongs.
    Redo = 10,
}

impl FrameKind {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Position,
            Self::Series,
            Self::Aliases,
            Self::Removed,
            Self::Tombstones,
            Self::Metadata,
            Self::Exemplars,
            Self::End,
            Self::Chunks,
            Self::Redo,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Writes frames to a file; nobody reads it before it has its name.
pub(crate) struct FrameWriter {
    file: io::BufWriter<DurableFile>,
    n_frames: u64,
    n_bytes: u64,
}

impl FrameWriter {
    pub(crate) fn create(path: &Path, file_kind: FileKind) -> io::Result<Self> {
        let mut file = io::BufWriter::with_capacity(1 << 18, DurableFile::create(path)?);
        file.write_all(file_kind.magic)?;
        file.write_all(&[file_kind.version])?;
        Ok(Self {
            file,
            n_frames: 0,
            n_bytes: (file_kind.magic.len() + 1) as u64,
        })
    }

    pub(crate) fn frame(&mut self, kind: FrameKind, body: &[u8]) -> io::Result<()> {
        let n_bytes = u32::try_from(body.len()).map_err(io::Error::other)?;
        let [a, b, c, d] = n_bytes.to_be_bytes();
        let head = [kind as u8, a, b, c, d];
        self.file.write_all(&head)?;
        self.file.write_all(body)?;
        let crc = crc32c_append(crc32c(&head), body);
        self.file.write_all(&crc.to_be_bytes())?;
        self.n_frames += 1;
        self.n_bytes += (body.len() + FRAME_OVERHEAD_BYTES) as u64;
        Ok(())
    }

    /// Everything is there; how many bytes that is. `is_synced` says whether it has to be on the disk too.
    pub(crate) fn finish(mut self, is_synced: bool) -> io::Result<u64> {
        let mut body = Vec::new();
        put_uvarint(&mut body, self.n_frames);
        self.frame(FrameKind::End, &body)?;
        let file = self.file.into_inner().map_err(io::Error::from)?;
        if is_synced {
            file.sync_all()?;
        }
        Ok(self.n_bytes)
    }
}

/// Frames of one kind, filled entry by entry.
pub(crate) struct Frames<'a> {
    file: &'a mut FrameWriter,
    kind: FrameKind,
    body: Vec<u8>,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(file: &'a mut FrameWriter, kind: FrameKind) -> Self {
        Self {
            file,
            kind,
            body: Vec::new(),
        }
    }

    pub(crate) fn entry(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        put(&mut self.body);
        if self.body.len() >= FRAME_BYTES {
            self.file.frame(self.kind, &self.body)?;
            self.body.clear();
        }
        Ok(())
    }

    /// How long the file is with what waits for its frame.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.file.n_bytes + self.body.len() as u64
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        match self.body.is_empty() {
            true => Ok(()),
            false => self.file.frame(self.kind, &self.body),
        }
    }
}

/// The frames of a file of which every byte was looked at, without the last one, in the order in which they were written.
pub(crate) fn read_frames(
    bytes: &Bytes,
    file_kind: FileKind,
) -> Result<Vec<(FrameKind, Bytes)>, String> {
    let short = |error: ShortRead| error.to_string();
    let FileKind {
        magic,
        version,
        what,
    } = file_kind;
    let mut cursor = Cursor::new(bytes);
    if cursor.take("magic number").map_err(short)? != *magic {
        return Err(format!("no {what}"));
    }
    let found = cursor.u8("version").map_err(short)?;
    if found != version {
        return Err(format!("version {found} is not known"));
    }
    let mut frames = Vec::new();
    loop {
        let (kind, start, body) = read_frame(bytes, &mut cursor)?;
        if kind != FrameKind::End {
            frames.push((kind, bytes.slice(start..start + body.len())));
            continue;
        }
        let said = Cursor::new(body).uvarint("frame count").map_err(short)?;
        return match said == frames.len() as u64 && cursor.is_empty() {
            true => Ok(frames),
            false => Err("frames are missing, or too many".to_owned()),
        };
    }
}

fn read_frame<'a>(
    bytes: &'a [u8],
    cursor: &mut Cursor<'a>,
) -> Result<(FrameKind, usize, &'a [u8]), String> {
    let short = |error: ShortRead| error.to_string();
    let at = cursor.offset();
    let kind = cursor.u8("frame kind").map_err(short)?;
    let n_bytes = cursor.u32_be("frame length").map_err(short)?;
    let n_bytes = usize::try_from(n_bytes).map_err(|error| error.to_string())?;
    let start = cursor.offset();
    let body = cursor.bytes("frame", n_bytes).map_err(short)?;
    let crc = cursor.u32_be("frame checksum").map_err(short)?;
    let checked = bytes.get(at..start + n_bytes).unwrap_or_default();
    if crc32c(checked) != crc {
        return Err(format!("the frame at offset {at} has a wrong checksum"));
    }
    let kind = FrameKind::of(kind).ok_or_else(|| format!("unknown frame at offset {at}"))?;
    Ok((kind, start, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FileKind = FileKind {
        magic: b"testtest",
        version: 3,
        what: "test",
    };

    /// Frames of 1, 2 and 3 bytes.
    fn written() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frames");
        let mut file = FrameWriter::create(&path, KIND).unwrap();
        for n in 1..=3 {
            file.frame(FrameKind::Series, &vec![7; n]).unwrap();
        }
        let n_bytes = file.finish(true).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, n_bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(FrameKind, Bytes)>, String> {
        read_frames(&Bytes::copy_from_slice(bytes), KIND)
    }

    #[test]
    fn frames_come_back_as_they_were_written_and_not_otherwise() {
        let bytes = written();
        let frames = read(&bytes).unwrap();
        let lengths: Vec<usize> = frames.iter().map(|(_, body)| body.len()).collect();
        assert_eq!(lengths, [1, 2, 3]);
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        let too_many = "frames are missing, or too many";
        assert_eq!(read(&[&bytes[..], &[0]].concat()).unwrap_err(), too_many);
        // Magic number and version, then a frame of one byte, then one of two.
        let (first, second) = (9, 9 + FRAME_OVERHEAD_BYTES + 1);
        let without = [&bytes[..first], &bytes[second..]].concat();
        assert_eq!(read(&without).unwrap_err(), too_many);
        let twice = [&bytes[..second], &bytes[first..]].concat();
        assert_eq!(read(&twice).unwrap_err(), too_many);
        let other = FileKind { version: 4, ..KIND };
        let refused = read_frames(&Bytes::from(bytes), other).unwrap_err();
        assert_eq!(refused, "version 3 is not known");
    }

    #[test]
    fn entries_fill_frames_and_the_last_one_is_shorter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frames");
        let mut file = FrameWriter::create(&path, KIND).unwrap();
        let mut frames = Frames::new(&mut file, FrameKind::Chunks);
        for n in 0..10u8 {
            frames
                .entry(|out| out.extend_from_slice(&[n; 100_000]))
                .unwrap();
        }
        assert_eq!(
            frames.n_bytes(),
            9 + 1_000_000 + 3 * FRAME_OVERHEAD_BYTES as u64
        );
        frames.finish().unwrap();
        file.finish(false).unwrap();
        let lengths: Vec<usize> = read(&std::fs::read(&path).unwrap())
            .unwrap()
            .iter()
            .map(|(_, body)| body.len())
            .collect();
        assert_eq!(lengths, [300_000, 300_000, 300_000, 100_000]);
    }
}
