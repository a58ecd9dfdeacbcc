//! Stores that answer late, half, wrongly or not at all: nothing is lost, and nothing is half there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::bucket::error::BucketError;
use crate::bucket::fault_proxy::{FaultProxy, WireFault};
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::hedged::{HedgeSettings, HedgedBucket};
use crate::bucket::http::HttpSettings;
use crate::bucket::open::open;
use crate::bucket::port::Bucket;
use crate::bucket::requests::RequestSort;
use crate::bucket::retrying::RetryingBucket;
use crate::bucket::s3_server::S3Server;
use crate::bucket::secret::Secret;
use crate::bucket::settings::{
    AzureCredentials, AzureSettings, BucketKind, BucketSettings, GcsSettings, PartSettings,
    S3Encryption, S3Settings,
};
use crate::bucket::store::StoreBucket;
use crate::foundation::durable::replace_file;

/// Impatient, so that a test of slow answers is quick.
fn impatient() -> HttpSettings {
    HttpSettings {
        response_timeout: Some(Duration::from_millis(300)),
        retry_pause: Some(Duration::from_millis(1)),
        retry_pause_max: Some(Duration::from_millis(20)),
        ..HttpSettings::default()
    }
}

fn content(n: usize, size: usize) -> Bytes {
    let seed = u8::try_from(n % 251).unwrap();
    (0..=250_u8)
        .cycle()
        .skip(usize::from(seed))
        .take(size)
        .collect::<Vec<_>>()
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_all_requests_fail_and_nothing_is_lost_or_half_there() {
    let server = S3Server::start().await;
    let clean = server.bucket("");
    for seed in 0..3 {
        let proxy = FaultProxy::at_random(server.endpoint(), 30, seed).await;
        let s3 = S3Settings {
            endpoint: Some(proxy.endpoint.clone()),
            // A busy machine answers within this time; what never answers is given up after it.
            http: HttpSettings {
                response_timeout: Some(Duration::from_secs(2)),
                ..impatient()
            },
            parts: PartSettings {
                part_bytes: Some(5 << 20),
                is_whole: false,
            },
            ..server.settings("secret")
        };
        let bucket = open(&BucketSettings {
            kind: BucketKind::S3(Box::new(s3)),
            prefix: String::new(),
        })
        .unwrap();
        write_and_read(&bucket, &clean, seed).await;
        let counts = bucket.requests().unwrap().counts();
        let n_sent: u64 = counts.iter().map(|(_, counts)| counts.n_sent).sum();
        let n_failed: u64 = counts.iter().map(|(_, counts)| counts.n_failed).sum();
        assert!(proxy.n_requests() <= n_sent, "{counts:?}");
        assert!(n_sent / 10 < n_failed, "{counts:?}");
    }
}

/// Every operation of the bucket, while somebody with a good line looks at what is there.
async fn write_and_read(bucket: &Arc<dyn Bucket>, clean: &Arc<dyn Bucket>, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 900, 70_000, (11 << 20) + 7];
    let expect: BTreeMap<String, Bytes> = (0..15)
        .map(|n| {
            let size = if n == 0 { sizes[4] } else { sizes[n % 4] };
            (format!("s{seed}/{n:02}"), content(n, size))
        })
        .collect();
    let is_done = Arc::new(AtomicBool::new(false));
    let looking = tokio::spawn({
        let (clean, expect) = (Arc::clone(clean), expect.clone());
        let is_done = Arc::clone(&is_done);
        async move {
            while !is_done.load(Ordering::SeqCst) {
                for (key, expect) in &expect {
                    match clean.get(key, 1 << 30).await {
                        Ok(found) => assert!(found == expect, "{key} is half there"),
                        Err(error) => assert!(error.is_not_found(), "{error:?}"),
                    }
                    sleep(Duration::from_millis(2)).await;
                }
            }
        }
    });
    let written = expect.iter().enumerate().map(|(n, (key, content))| {
        let file = dir.path().join(n.to_string());
        async move {
            if n % 2 == 0 {
                replace_file(&file, content).unwrap();
                bucket.upload(key, &file).await.unwrap();
            } else {
                bucket.put(key, content.clone()).await.unwrap();
            }
        }
    });
    join_all(written).await;
    is_done.store(true, Ordering::SeqCst);
    looking.await.unwrap();
    for (key, content) in &expect {
        assert!(clean.get(key, 1 << 30).await.unwrap() == content, "{key}");
        assert!(bucket.get(key, 1 << 30).await.unwrap() == content, "{key}");
        let back = dir.path().join("back");
        bucket.download(key, &back).await.unwrap();
        assert!(std::fs::read(&back).unwrap() == *content, "{key}");
        let (len, half) = (content.len() as u64, content.len() / 2);
        assert_eq!(bucket.head(key).await.unwrap().size, len);
        let range = bucket.get_range(key, half as u64..len).await.unwrap();
        assert!(range == content.slice(half..), "{key}");
    }
    let listed = bucket.list(&format!("s{seed}")).await.unwrap();
    let keys: Vec<_> = listed.into_iter().map(|info| info.key).collect();
    assert_eq!(keys, expect.keys().cloned().collect::<Vec<_>>());
    for key in expect.keys() {
        bucket.delete(key).await.unwrap();
    }
    assert_eq!(clean.list(&format!("s{seed}")).await.unwrap(), []);
}

#[tokio::test]
async fn a_store_that_asks_to_come_back_later_is_left_alone_for_so_long() {
    let server = S3Server::start().await;
    let plan = |n| match n {
        0 => WireFault::Unavailable(1),
        _ => WireFault::None,
    };
    let proxy = FaultProxy::start(server.endpoint(), plan).await;
    let bucket = server.bucket_at(&proxy.endpoint, impatient());
    let began = Instant::now();
    bucket.put("a", Bytes::from_static(b"x")).await.unwrap();
    assert!(Duration::from_secs(1) <= began.elapsed());
    assert_eq!(proxy.n_requests(), 2);
    let counts = bucket.requests().unwrap().counts();
    let writes = counts.iter().find(|(sort, _)| *sort == RequestSort::Write);
    assert_eq!(writes.unwrap().1.n_sent, 2);
    assert_eq!(writes.unwrap().1.n_failed, 1);
    assert_eq!(writes.unwrap().1.bytes_sent, 2);
}

#[tokio::test]
async fn a_store_that_is_silent_is_given_up_and_named() {
    let server = S3Server::start().await;
    let late = |_| WireFault::Slow(Duration::from_secs(60));
    let proxy = FaultProxy::start(server.endpoint(), late).await;
    let http = HttpSettings {
        response_timeout: Some(Duration::from_millis(20)),
        retries_max: Some(1),
        ..impatient()
    };
    let bucket = server.bucket_at(&proxy.endpoint, http);
    let error = bucket.get("a", 9).await.unwrap_err();
    let text = error.chain();
    assert!(text.starts_with("read a in s3://blocks: "), "{text}");
    assert!(text.contains("nothing came for 20 ms"), "{text}");
    // Two requests each of three attempts.
    assert_eq!(proxy.n_requests(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_operation_ends_at_its_deadline_and_a_copy_has_time_for_its_bytes() {
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    let inner = Arc::clone(&faulty) as Arc<dyn Bucket>;
    let bucket = RetryingBucket::new(inner, 100, Duration::from_millis(10))
        .with_deadline(Duration::from_secs(9));
    faulty.fail(0..u64::MAX, Fault::Late(Duration::from_secs(3_600)));
    let began = Instant::now();
    let error = bucket.get("a", 9).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 9);
    let text = error.chain();
    assert_eq!(text, "wait for a in memory: not done within 9 s");
    let began = Instant::now();
    let megabyte = Bytes::from(vec![0; 1 << 20]);
    bucket.put("a", megabyte).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_late_is_asked_again_and_the_first_answer_is_taken() {
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    let settings = HedgeSettings {
        up_to: 2,
        quantile: 0.9,
    };
    let bucket = HedgedBucket::new(Arc::clone(&faulty) as Arc<dyn Bucket>, settings);
    bucket.put("a", Bytes::from_static(b"abc")).await.unwrap();
    let late = Fault::Late(Duration::from_secs(10));
    // Nobody knows yet what late means.
    faulty.fail(0..1, late);
    let began = Instant::now();
    bucket.get("a", 9).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
    for _ in 0..30 {
        bucket.get_range("a", 0..2).await.unwrap();
    }
    faulty.fail(0..1, late);
    let began = Instant::now();
    assert_eq!(bucket.get_range("a", 1..3).await.unwrap(), &b"bc"[..]);
    assert!(began.elapsed() < Duration::from_millis(10));
    assert_eq!(faulty.n_operations(), 2);
    // Both are late: no third is asked, and the first of them is waited for.
    faulty.fail(0..9, late);
    let began = Instant::now();
    bucket.head("a").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(faulty.n_operations(), 2);
    // An error is an answer only when nobody else is on the way.
    faulty.fail(0..1, Fault::Refused);
    bucket.head("a").await.unwrap_err();
    assert!(bucket.head("b").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn what_is_said_of_objects_reaches_the_store() {
    let server = S3Server::start().await;
    let metadata = [("team".to_owned(), "metrics".to_owned())];
    let s3 = S3Settings {
        metadata: metadata.into_iter().collect(),
        ..server.settings("secret")
    };
    let (requests, bucket) = recorded(|endpoint| {
        let endpoint = Some(endpoint.to_owned());
        BucketKind::S3(Box::new(S3Settings {
            endpoint,
            encryption: Some(S3Encryption::SseS3),
            ..s3.clone()
        }))
    })
    .await;
    bucket.put("a/b", Bytes::from_static(b"x")).await.unwrap();
    let request = requests.await.unwrap();
    assert!(
        request.starts_with("PUT /blocks/a/b HTTP/1.1\r\n"),
        "{request}"
    );
    for header in [
        "x-amz-meta-team: metrics",
        "x-amz-server-side-encryption: AES256",
        "authorization: AWS4-HMAC-SHA256 Credential=key/",
    ] {
        assert!(request.contains(header), "{header} in {request}");
    }
    assert!(!request.contains("secret"), "{request}");
}

#[tokio::test]
async fn google_and_azure_are_asked_in_their_own_dialects() {
    let (request, bucket) = recorded(|endpoint| {
        BucketKind::Gcs(Box::new(GcsSettings {
            bucket: "blocks".to_owned(),
            is_public: true,
            base_url: Some(format!("http://{endpoint}")),
            ..GcsSettings::default()
        }))
    })
    .await;
    assert_eq!(bucket.name(), "gs://blocks");
    bucket.put("a/b", Bytes::from_static(b"x")).await.unwrap();
    let request = request.await.unwrap();
    assert!(
        request.starts_with("PUT /blocks/a%2Fb HTTP/1.1\r\n"),
        "{request}"
    );
    let (request, bucket) = recorded(|endpoint| {
        BucketKind::Azure(Box::new(AzureSettings {
            account: "acc".to_owned(),
            container: "blocks".to_owned(),
            endpoint: Some(format!("http://{endpoint}/acc")),
            credentials: AzureCredentials::AccountKey(Secret::new("c2VjcmV0")),
            ..AzureSettings::default()
        }))
    })
    .await;
    assert_eq!(bucket.name(), "az://acc/blocks");
    bucket.put("a/b", Bytes::from_static(b"x")).await.unwrap();
    let request = request.await.unwrap();
    assert!(
        request.starts_with("PUT /acc/blocks/a/b HTTP/1.1\r\n"),
        "{request}"
    );
    for header in [
        "x-ms-blob-type: BlockBlob",
        "x-ms-version: ",
        "authorization: SharedKey acc:",
    ] {
        assert!(request.contains(header), "{header} in {request}");
    }
    assert!(!request.contains("c2VjcmV0"), "{request}");
}

/// A bucket before a server that writes down one request and says that it is done.
async fn recorded(
    kind: impl FnOnce(&str) -> BucketKind,
) -> (tokio::task::JoinHandle<String>, Arc<dyn Bucket>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let request = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\nx") {
            assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0);
        }
        let answer = "HTTP/1.1 201 Created\r\nETag: \"1\"\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(bytes).unwrap()
    });
    let prefix = String::new();
    let kind = kind(&endpoint);
    (request, open(&BucketSettings { kind, prefix }).unwrap())
}

#[tokio::test]
async fn no_setting_and_no_error_shows_a_secret() {
    const HIDDEN: &str = "Zm9yIG5vYm9keSdzIGV5ZXM=";
    let hidden = || Secret::new(HIDDEN);
    let server = S3Server::start().await;
    let s3 = server.settings(HIDDEN);
    let gcs = GcsSettings {
        bucket: "b".to_owned(),
        service_account: Some(hidden()),
        ..GcsSettings::default()
    };
    let azure = |credentials| {
        BucketKind::Azure(Box::new(AzureSettings {
            account: "a".to_owned(),
            container: "c".to_owned(),
            endpoint: Some(format!("http://{}", server.endpoint())),
            credentials,
            http: HttpSettings {
                retries_max: Some(1),
                ..impatient()
            },
        }))
    };
    let application = AzureCredentials::Application {
        tenant_id: "t".to_owned(),
        client_id: "i".to_owned(),
        client_secret: hidden(),
    };
    // Two of them would ask hosts of the real world who they are.
    for (kind, is_asked) in [
        (BucketKind::S3(Box::new(s3)), true),
        (BucketKind::Gcs(Box::new(gcs)), false),
        (azure(AzureCredentials::AccountKey(hidden())), true),
        (azure(AzureCredentials::SharedAccess(hidden())), true),
        (azure(application), false),
    ] {
        let settings = BucketSettings {
            kind,
            prefix: String::new(),
        };
        let mut texts = vec![format!("{settings:?}"), settings.name()];
        match open(&settings) {
            Ok(bucket) => {
                texts.push(format!("{bucket:?}"));
                if is_asked {
                    let error = bucket.get("a", 9).await.unwrap_err();
                    texts.push(format!("{error:?}"));
                    texts.push(error.chain());
                }
            }
            Err(error) => texts.extend([format!("{error:?}"), error.chain()]),
        }
        for text in texts {
            assert!(!text.contains(HIDDEN), "{text}");
        }
    }
}

#[tokio::test]
async fn a_key_for_encryption_has_thirty_two_bytes_in_a_file() {
    let settings = |key_file: PathBuf| BucketSettings {
        kind: BucketKind::S3(Box::new(S3Settings {
            bucket: "b".to_owned(),
            encryption: Some(S3Encryption::SseC { key_file }),
            endpoint: Some("127.0.0.1:1".to_owned()),
            ..S3Settings::default()
        })),
        prefix: String::new(),
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    replace_file(&file, &[7; 32]).unwrap();
    open(&settings(file)).unwrap();
    let error = open(&settings(dir.path().join("absent"))).unwrap_err();
    assert!(matches!(error, BucketError::File { .. }), "{error:?}");
}
