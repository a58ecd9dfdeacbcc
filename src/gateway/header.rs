//! The index header of a remote block: here, or made of ranges of its index.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use crate::bucket::{Bucket, BucketError};
use crate::foundation::mmap::map_file;
use crate::gateway::pages::{PageCache, RemoteFile};
use crate::gateway::remote::RemoteError;
use crate::index::{HeaderParts, IndexHeader};

/// Read at first, at both ends of an index: start, contents, and all that small ones have besides.
const EDGE_BYTES: u64 = 64 << 10;
/// Table of contents of an index: its last bytes.
const CONTENTS_BYTES: u64 = 52;
/// Magic number and version of an index: its first bytes.
const START_BYTES: u64 = 5;
/// Bytes of one request.
const PIECE_BYTES: u64 = 4 << 20;
/// Symbols and postings table of one index.
const HEADER_BYTES_MAX: u64 = 64 << 30;
/// A header up to this length is kept in memory where the disk does not take it.
const UNWRITTEN_BYTES_MAX: u64 = 16 << 20;

/// The header as it was kept, mapped; made anew where there is none or it is damaged.
pub(crate) async fn open_header(
    pages: &PageCache,
    index: &RemoteFile,
    index_name: &str,
) -> Result<IndexHeader, RemoteError> {
    let store = pages.store();
    let path = store.header_path(index.block);
    if let Some((header, n_bytes)) = open_kept(&path) {
        store.note_header(index.block, n_bytes);
        return Ok(header);
    }
    let ends = read_ends(&**pages.bucket(), index).await?;
    let parts = HeaderParts::new(index_name, &ends.start, index.n_bytes, ends.contents())?;
    pages.stats().headers_built.add(1);
    let total = length(parts.symbols()).saturating_add(length(parts.tail()));
    if HEADER_BYTES_MAX < total {
        let text = format!("{index_name}: header of {total} bytes, at most {HEADER_BYTES_MAX}");
        return Err(RemoteError::Damaged(text));
    }
    let source = Pieces {
        bucket: &**pages.bucket(),
        key: index.key(),
        ends,
    };
    if UNWRITTEN_BYTES_MAX < total {
        let disk = |source| RemoteError::Disk {
            block: index.block,
            source,
        };
        let mut file = create(&path).map_err(disk)?;
        file.write_all(&parts.encode_start()).map_err(disk)?;
        for piece in source
            .pieces(parts.symbols())
            .chain(source.pieces(parts.tail()))
        {
            file.write_all(&source.read(piece).await?).map_err(disk)?;
        }
        file.write_all(&parts.encode_end()).map_err(disk)?;
        let mapped = map_file(&path).map_err(disk)?;
        store.note_header(index.block, mapped.len() as u64);
        return Ok(IndexHeader::new(index_name, mapped)?);
    }
    let mut encoded = parts.encode_start();
    for piece in source
        .pieces(parts.symbols())
        .chain(source.pieces(parts.tail()))
    {
        encoded.extend_from_slice(&source.read(piece).await?);
    }
    encoded.extend_from_slice(&parts.encode_end());
    // Verified before it is kept.
    let header = IndexHeader::new(index_name, Bytes::from(encoded.clone()))?;
    let kept = create(&path).and_then(|mut file| file.write_all(&encoded));
    match kept.and_then(|()| map_file(&path)) {
        Ok(mapped) => {
            store.note_header(index.block, mapped.len() as u64);
            Ok(IndexHeader::new(index_name, mapped)?)
        }
        Err(error) => {
            tracing::warn!(block = %index.block, error = %error, "index header kept in memory");
            Ok(header)
        }
    }
}

/// Whatever is wrong with the copy, the bucket has the original.
fn open_kept(path: &Path) -> Option<(IndexHeader, u64)> {
    let mapped = map_file(path).ok()?;
    let n_bytes = mapped.len() as u64;
    let header = IndexHeader::new(&path.display().to_string(), mapped).ok()?;
    Some((header, n_bytes))
}

/// A file of its own, even where one was: somebody may have that one mapped. It is not synced: a header that power loss
/// cut or emptied does not verify.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    File::create_new(path)
}

fn length((start, end): (u64, u64)) -> u64 {
    end.saturating_sub(start)
}

/// First and last bytes of an index; where it is short, all of them twice.
struct Ends {
    start: Bytes,
    end: Bytes,
    /// Where `end` begins.
    end_at: u64,
}

impl Ends {
    fn contents(&self) -> Bytes {
        let n_bytes = usize::try_from(CONTENTS_BYTES).unwrap_or(usize::MAX);
        self.end.slice(self.end.len().saturating_sub(n_bytes)..)
    }
}

async fn read_ends(bucket: &dyn Bucket, index: &RemoteFile) -> Result<Ends, RemoteError> {
    let (key, n_bytes) = (index.key(), index.n_bytes);
    if n_bytes < START_BYTES + CONTENTS_BYTES {
        let text = format!(
            "{}/{key}: offset 0: {n_bytes} bytes are no index",
            bucket.name()
        );
        return Err(RemoteError::Damaged(text));
    }
    if n_bytes <= 2 * EDGE_BYTES {
        let whole = bucket.get_range(&key, 0..n_bytes).await?;
        return Ok(Ends {
            start: whole.clone(),
            end: whole,
            end_at: 0,
        });
    }
    let end_at = n_bytes - EDGE_BYTES;
    let start = bucket.get_range(&key, 0..EDGE_BYTES);
    let end = bucket.get_range(&key, end_at..n_bytes);
    let (start, end) = futures::try_join!(start, end)?;
    Ok(Ends { start, end, end_at })
}

/// An index in pieces, of which both ends are here.
struct Pieces<'a> {
    bucket: &'a dyn Bucket,
    key: String,
    ends: Ends,
}

impl Pieces<'_> {
    /// A range cut where what is here ends and begins, and into requests of a bounded length.
    fn pieces(&self, (start, end): (u64, u64)) -> impl Iterator<Item = Range<u64>> + use<> {
        let edges = [self.ends.start.len() as u64, self.ends.end_at];
        let mut at = start;
        std::iter::from_fn(move || {
            let from = at;
            let edge = edges.into_iter().filter(|edge| from < *edge).min();
            at = end.min(from + PIECE_BYTES).min(edge.unwrap_or(end));
            (from < at).then_some(from..at)
        })
    }

    async fn read(&self, piece: Range<u64>) -> Result<Bytes, BucketError> {
        let part = |bytes: &Bytes, base: u64| {
            let from = usize::try_from(piece.start.checked_sub(base)?).ok()?;
            let to = usize::try_from(piece.end.checked_sub(base)?).ok()?;
            (to <= bytes.len()).then(|| bytes.slice(from..to))
        };
        let here = part(&self.ends.start, 0).or_else(|| part(&self.ends.end, self.ends.end_at));
        match here {
            Some(bytes) => Ok(bytes),
            None => self.bucket.get_range(&self.key, piece).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::StoreBucket;

    #[tokio::test]
    async fn pieces_are_the_range_and_only_what_is_not_here_is_read() {
        let content: Vec<u8> = (0..=250).cycle().take(10 << 20).collect();
        let bucket = StoreBucket::in_memory();
        bucket.put("index", content.clone().into()).await.unwrap();
        let here = 1_000;
        let end_at = content.len() - here;
        let pieces = Pieces {
            bucket: &bucket,
            key: "index".to_owned(),
            ends: Ends {
                start: Bytes::copy_from_slice(&content[..here]),
                end: Bytes::copy_from_slice(&content[end_at..]),
                end_at: end_at as u64,
            },
        };
        let len = content.len();
        for (start, end, n) in [
            (0, 10, 1),
            (5, 1_500, 2),
            (999, 1_000, 1),
            (7, len, 5),
            (len - 2_000, len - 52, 2),
            (len - 10, len, 1),
            (9, 9, 0),
        ] {
            let ranges: Vec<_> = pieces.pieces((start as u64, end as u64)).collect();
            assert_eq!(ranges.len(), n, "{start} {end} {ranges:?}");
            let mut read = Vec::new();
            for range in ranges {
                read.extend_from_slice(&pieces.read(range).await.unwrap());
            }
            assert!(read == content[start..end], "{start} {end}");
        }
        bucket.delete("index").await.unwrap();
        assert!(pieces.read(0..1_000).await.is_ok());
        assert!(pieces.read(999..1_001).await.is_err());
    }
}
