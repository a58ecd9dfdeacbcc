//! What every bucket must do, whichever store is behind it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bucket::error::BucketError;
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::hedged::HedgeSettings;
use crate::bucket::http::HttpSettings;
use crate::bucket::metered::{MeteredBucket, Operation};
use crate::bucket::open::open;
use crate::bucket::port::Bucket;
use crate::bucket::requests::RequestSort;
use crate::bucket::retrying::RetryingBucket;
use crate::bucket::s3_server::S3Server;
use crate::bucket::settings::{BucketKind, BucketSettings};
use crate::bucket::store::StoreBucket;
use crate::foundation::buffers::Buffers;
use crate::foundation::durable::replace_file;
use crate::foundation::verdict::Verdict;

/// A bucket in a directory of its own.
pub(crate) fn in_directory(directory: &Path) -> Arc<dyn Bucket> {
    let kind = BucketKind::Filesystem {
        directory: directory.to_owned(),
    };
    let prefix = String::new();
    open(&BucketSettings { kind, prefix }).unwrap()
}

pub(crate) async fn check(bucket: &dyn Bucket) {
    objects_are_replaced_whole(bucket).await;
    reads_are_exact(bucket).await;
    files_go_up_and_come_down(bucket).await;
    listings_are_sorted_and_stop_at_directories(bucket).await;
    what_is_not_there_says_so(bucket).await;
}

async fn objects_are_replaced_whole(bucket: &dyn Bucket) {
    bucket
        .put("a/meta.json", Bytes::from_static(b"first version"))
        .await
        .unwrap();
    bucket
        .put("a/meta.json", Bytes::from_static(b"second"))
        .await
        .unwrap();
    assert_eq!(
        bucket.get("a/meta.json", 100).await.unwrap(),
        &b"second"[..]
    );
    let info = bucket.head("a/meta.json").await.unwrap();
    assert_eq!((info.key.as_str(), info.size), ("a/meta.json", 6));
    assert!(1_600_000_000_000 < info.modified_ms, "{info:?}");
    bucket.put("a/empty", Bytes::new()).await.unwrap();
    assert_eq!(bucket.get("a/empty", 0).await.unwrap(), Bytes::new());
    bucket.delete("a/empty").await.unwrap();
    bucket.delete("a/meta.json").await.unwrap();
    bucket.delete("a/meta.json").await.unwrap();
    assert_eq!(bucket.list("a").await.unwrap(), []);
}

async fn reads_are_exact(bucket: &dyn Bucket) {
    bucket
        .put("r/index", Bytes::from_static(b"0123456789"))
        .await
        .unwrap();
    assert_eq!(
        bucket.get_range("r/index", 2..5).await.unwrap(),
        &b"234"[..]
    );
    assert_eq!(
        bucket.get_range("r/index", 4..4).await.unwrap(),
        Bytes::new()
    );
    let buffers = Buffers::default();
    for (range, expect) in [(2..5, &b"234"[..]), (0..10, b"0123456789"), (4..4, b"")] {
        let part = bucket.get_part("r/index", range, &buffers).await;
        assert_eq!(part.unwrap(), expect);
    }
    for (range, expect) in [
        (8..12, (8, 4, 2)),
        (10..11, (10, 1, 0)),
        (70..80, (70, 10, 0)),
    ] {
        let buffers = Buffers::default();
        for result in [
            bucket.get_range("r/index", range.clone()).await,
            bucket.get_part("r/index", range, &buffers).await,
        ] {
            let Err(BucketError::Short {
                offset, need, have, ..
            }) = result
            else {
                panic!("{result:?}");
            };
            assert_eq!((offset, need, have), expect);
        }
    }
    let result = bucket.get("r/index", 9).await;
    assert!(
        matches!(
            result,
            Err(BucketError::TooLarge {
                size: 10,
                size_max: 9,
                ..
            })
        ),
        "{result:?}"
    );
    bucket.delete("r/index").await.unwrap();
}

async fn files_go_up_and_come_down(bucket: &dyn Bucket) {
    let dir = tempfile::tempdir().unwrap();
    // In one request, and one byte more than fits into a part.
    for size in [0_usize, 70_000, (16 << 20) + 1] {
        let content: Vec<u8> = (0..=250).cycle().take(size).collect();
        let (file, back) = (dir.path().join("000001"), dir.path().join("back"));
        replace_file(&file, &content).unwrap();
        let n_bytes = bucket.upload("u/chunks/000001", &file).await.unwrap();
        assert_eq!(n_bytes, size as u64);
        assert_eq!(
            bucket.head("u/chunks/000001").await.unwrap().size,
            size as u64
        );
        assert_eq!(
            bucket.download("u/chunks/000001", &back).await.unwrap(),
            size as u64
        );
        assert!(std::fs::read(&back).unwrap() == content, "size {size}");
        // Again over the same object: as a shipper does that starts anew.
        bucket.upload("u/chunks/000001", &file).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        let first = bucket.get("u/chunks/000001", 1 << 30).await.unwrap();
        assert!(first == content, "size {size}");
    }
    assert_eq!(bucket.list("u").await.unwrap().len(), 1);
    bucket.delete("u/chunks/000001").await.unwrap();
}

async fn listings_are_sorted_and_stop_at_directories(bucket: &dyn Bucket) {
    for key in [
        "l2/z",
        "l2/chunks/000002",
        "l2/chunks/000001",
        "l22/a",
        "top",
    ] {
        bucket.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    let keys = |infos: Vec<crate::bucket::port::ObjectInfo>| {
        infos.into_iter().map(|info| info.key).collect::<Vec<_>>()
    };
    let expect = ["l2/chunks/000001", "l2/chunks/000002", "l2/z"];
    assert_eq!(keys(bucket.list("l2").await.unwrap()), expect);
    assert_eq!(bucket.list_dirs().await.unwrap(), ["l2", "l22"]);
    assert_eq!(keys(bucket.list("").await.unwrap()).len(), 5);
    for key in [
        "l2/z",
        "l2/chunks/000002",
        "l2/chunks/000001",
        "l22/a",
        "top",
    ] {
        bucket.delete(key).await.unwrap();
    }
    assert_eq!(bucket.list_dirs().await.unwrap(), Vec::<String>::new());
}

async fn what_is_not_there_says_so(bucket: &dyn Bucket) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("absent");
    for result in [
        bucket.get("n/a", 10).await.map(|_| ()),
        bucket.get_range("n/a", 0..1).await.map(|_| ()),
        bucket
            .get_part("n/a", 0..1, &Buffers::default())
            .await
            .map(|_| ()),
        bucket.head("n/a").await.map(|_| ()),
        bucket.download("n/a", &file).await.map(|_| ()),
    ] {
        assert!(
            matches!(&result, Err(error) if error.is_not_found()),
            "{result:?}"
        );
    }
    assert!(!file.try_exists().unwrap());
    let result = bucket.upload("n/a", &file).await;
    assert!(
        matches!(result, Err(BucketError::File { .. })),
        "{result:?}"
    );
    let result = bucket.get("../etc/passwd", 10).await;
    assert!(matches!(result, Err(BucketError::Key { .. })), "{result:?}");
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    check(&*in_directory(dir.path())).await;
}

#[tokio::test]
async fn a_prefix_in_a_directory_keeps_the_contract_and_stays_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let kind = BucketKind::Filesystem {
        directory: dir.path().join("made/here"),
    };
    let prefix = "tenant/one/".to_owned();
    let bucket = open(&BucketSettings { kind, prefix }).unwrap();
    check(&*bucket).await;
    bucket
        .put("x/index", Bytes::from_static(b"x"))
        .await
        .unwrap();
    let path = dir.path().join("made/here/tenant/one/x/index");
    assert_eq!(bucket.local_path("x/index").unwrap(), path);
    assert_eq!(std::fs::read(path).unwrap(), b"x");
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    check(&StoreBucket::in_memory()).await;
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let server = S3Server::start().await;
    check(&*server.bucket("")).await;
    let below = server.bucket("some/prefix");
    objects_are_replaced_whole(&*below).await;
    listings_are_sorted_and_stop_at_directories(&*below).await;
    assert_eq!(server.bucket("").local_path("x/index"), None);
}

#[tokio::test]
async fn s3_that_is_hedged_and_bounded_keeps_the_contract() {
    let server = S3Server::start().await;
    let http = HttpSettings {
        hedging: Some(HedgeSettings {
            up_to: 3,
            quantile: 0.5,
        }),
        connections_max: Some(2),
        trace: true,
        ..HttpSettings::default()
    };
    let bucket = server.bucket_at(&server.endpoint(), http);
    check(&*bucket).await;
    let requests = bucket.requests().unwrap();
    for (sort, counts) in requests.counts() {
        assert!(0 < counts.n_sent, "{sort:?}");
        // Reads behind the end of an object are answered as the store likes.
        if sort != RequestSort::Read {
            assert_eq!(counts.n_failed, 0, "{sort:?}");
        }
    }
}

#[tokio::test]
async fn metering_and_retrying_keep_the_contract() {
    let retrying = RetryingBucket::new(
        Arc::new(StoreBucket::in_memory()),
        3,
        Duration::from_millis(1),
    );
    let metered = MeteredBucket::new(Arc::new(retrying));
    check(&metered).await;
    let counts = metered.counts();
    let count = |wanted| {
        counts
            .iter()
            .find(|(operation, _)| *operation == wanted)
            .unwrap()
            .1
    };
    // The read over the limit and the three short ones.
    assert_eq!(count(Operation::Get).n_failed, 2);
    assert_eq!(count(Operation::GetRange).n_failed, 2 * 3);
    assert_eq!(count(Operation::Delete).n_failed, 0);
    assert_eq!(count(Operation::GetRange).bytes, 3 + 3 + 10);
    assert_eq!(
        count(Operation::Upload).bytes,
        2 * (70_000 + (16 << 20) + 1)
    );
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_asked_again_and_one_that_refuses_is_not() {
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    let inner = Arc::clone(&faulty) as Arc<dyn Bucket>;
    let bucket = RetryingBucket::new(inner, 3, Duration::from_millis(1));
    for fault in [Fault::Refused, Fault::Unheard, Fault::Torn] {
        faulty.fail(0..2, fault);
        bucket.put("a", Bytes::from_static(b"whole")).await.unwrap();
        assert_eq!(faulty.n_operations(), 3);
        assert_eq!(faulty.get("a", 9).await.unwrap(), &b"whole"[..]);
    }
    faulty.fail(0..3, Fault::Refused);
    let error = bucket.head("a").await.unwrap_err();
    assert!(
        matches!(error.verdict(), Verdict::RetryAfter(_)),
        "{error:?}"
    );
    faulty.heal();
    faulty.fail(9..9, Fault::Refused);
    assert!(bucket.head("absent").await.unwrap_err().is_not_found());
    assert_eq!(faulty.n_operations(), 1);
}

#[tokio::test]
async fn a_wrong_key_is_refused_at_once_and_the_error_names_the_bucket() {
    let server = S3Server::start().await;
    let bucket = server.bucket_with_secret("wrong");
    let result = bucket.put("a", Bytes::from_static(b"x")).await;
    let error = result.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Refuse);
    let text = error.chain();
    assert!(
        text.starts_with("write a in s3://blocks: access denied: "),
        "{text}"
    );
    for error in [
        bucket.list_dirs().await.unwrap_err(),
        bucket.list("a").await.unwrap_err(),
        bucket.head("a").await.unwrap_err(),
        bucket.get("a", 1).await.unwrap_err(),
    ] {
        assert_eq!(error.verdict(), Verdict::Refuse, "{error:?}");
    }
}

#[tokio::test]
async fn an_upload_into_a_directory_takes_no_second_copy() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let bucket = in_directory(&dir.path().join("bucket"));
    let file = dir.path().join("index");
    replace_file(&file, b"content").unwrap();
    bucket.upload("b/index", &file).await.unwrap();
    let placed = bucket.local_path("b/index").unwrap();
    let (here, there) = (
        std::fs::metadata(&file).unwrap(),
        std::fs::metadata(placed).unwrap(),
    );
    assert_eq!((here.ino(), here.nlink()), (there.ino(), 2));
}
