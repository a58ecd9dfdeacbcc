//! Blocks of a bucket are looked at where they are.

use std::sync::Arc;

use bytes::Bytes;

use crate::block::{CHUNKS_DIR, INDEX_FILE};
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::{Bucket, keys};
use crate::chunk::SEGMENT_HEADER_BYTES;
use crate::maintenance::tests::{memory, upload, write};
use crate::maintenance::{Issue, check_block};

fn flipped(bytes: &[u8], at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    Bytes::from(bytes)
}

#[tokio::test]
async fn a_sound_block_has_no_findings_and_each_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = memory();
    let meta = write(dir.path(), 1, 0);
    upload(&*bucket, dir.path(), &meta).await;
    let scratch = dir.path().join("scratch");
    let mut n_bytes = 0;
    let found = check_block(&bucket, meta.ulid, &scratch, |n| n_bytes += n).await;
    assert_eq!(found.unwrap(), None);
    let listed = bucket.list(&meta.ulid.to_string()).await.unwrap();
    let n_whole: u64 = listed.iter().map(|info| info.size).sum();
    // All but the header of the segment.
    assert_eq!(n_bytes, n_whole - SEGMENT_HEADER_BYTES as u64);
    let here = std::fs::read_dir(scratch.join(CHUNKS_DIR)).unwrap();
    assert_eq!(here.count(), 0, "chunks stay where they are");
    let index = bucket
        .get(&keys::in_block(meta.ulid, INDEX_FILE), 1 << 20)
        .await
        .unwrap();
    for (n, damaged) in [
        index.slice(..index.len() - 9),
        index.slice(..0),
        flipped(&index, index.len() / 2),
    ]
    .into_iter()
    .enumerate()
    {
        let key = keys::in_block(meta.ulid, INDEX_FILE);
        bucket.put(&key, damaged).await.unwrap();
        let scratch = dir.path().join(format!("scratch{n}"));
        let found = check_block(&bucket, meta.ulid, &scratch, |_| ()).await;
        let finding = found.unwrap().unwrap();
        assert_eq!((finding.issue, finding.block), (Issue::Index, meta.ulid));
        assert!(!finding.problems.is_empty(), "damage {n}");
    }
    bucket
        .put(&keys::in_block(meta.ulid, INDEX_FILE), index)
        .await
        .unwrap();
    let key = keys::in_block(meta.ulid, "chunks/000001");
    let chunks = bucket.get(&key, 1 << 20).await.unwrap();
    for (n, damaged, says) in [
        (
            0,
            flipped(&chunks, 0),
            "000001: 84bd40dd is not the magic number",
        ),
        (1, flipped(&chunks, chunks.len() - 30), "checksum"),
        (2, chunks.slice(..chunks.len() - 5), "meta.json says"),
    ] {
        bucket.put(&key, damaged).await.unwrap();
        let scratch = dir.path().join(format!("chunks{n}"));
        let found = check_block(&bucket, meta.ulid, &scratch, |_| ()).await;
        let text = found.unwrap().unwrap().problems.join("\n");
        assert!(text.contains(says), "{text}");
    }
    bucket
        .delete(&keys::in_block(meta.ulid, "chunks/000001"))
        .await
        .unwrap();
    let scratch = dir.path().join("scratch9");
    let found = check_block(&bucket, meta.ulid, &scratch, |_| ()).await;
    let text = found.unwrap().unwrap().problems.join("\n");
    assert!(text.contains("chunks/000001 is not there"), "{text}");
}

#[tokio::test]
async fn what_the_bucket_does_not_give_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let inner = memory();
    let meta = write(dir.path(), 1, 0);
    upload(&*inner, dir.path(), &meta).await;
    let faulty = Arc::new(FaultyBucket::new(inner));
    let bucket: Arc<dyn Bucket> = Arc::clone(&faulty) as _;
    let whole = dir.path().join("whole");
    faulty.fail(0..0, Fault::Refused);
    let found = check_block(&bucket, meta.ulid, &whole, |_| ()).await;
    assert_eq!(found.unwrap(), None);
    let n_operations = faulty.n_operations();
    assert!(4 < n_operations, "{n_operations}");
    for n in 0..n_operations {
        faulty.fail(n..n + 1, Fault::Refused);
        let scratch = dir.path().join(format!("scratch{n}"));
        let found = check_block(&bucket, meta.ulid, &scratch, |_| ()).await;
        let error = found.unwrap_err().to_string();
        assert!(error.contains("000001") || n < 4, "{n}: {error}");
    }
}
