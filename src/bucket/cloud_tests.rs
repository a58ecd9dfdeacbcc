//! The contract over stores that are neither S3 nor a directory: Azure's own emulator, and Google's API, whose requests are
//! those of S3 without their signatures. What S3 is asked to encrypt.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use parking_lot::Mutex;
use ring::hmac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bucket::contract::check;
use crate::bucket::http::HttpSettings;
use crate::bucket::open::open;
use crate::bucket::port::Bucket;
use crate::bucket::s3_server::S3Server;
use crate::bucket::secret::Secret;
use crate::bucket::settings::{
    AzureCredentials, AzureSettings, BucketKind, BucketSettings, GcsSettings, PartSettings,
    S3Encryption, S3Settings,
};
use crate::foundation::durable::replace_file;
use crate::foundation::ports::free_port;
use crate::foundation::verdict::Verdict;

const ACCOUNT: &str = "gauntlet";
const CONTAINER: &str = "blocks";
/// Of the protocol, as object-store clients of 2023 ask for it.
const VERSION: &str = "2023-11-03";

/// Microsoft's emulator of the blob store, in memory; ends with the test.
struct Azurite {
    child: Child,
    address: String,
    key: Vec<u8>,
}

#[expect(
    clippy::print_stderr,
    reason = "who runs the tests must hear what was left out"
)]
fn could_not_run() {
    eprintln!("COULD NOT RUN: azurite-blob is not installed");
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Azurite {
    /// `None` where it is not installed, which `tests/run` says at its end.
    async fn start() -> Option<Self> {
        let port = free_port();
        let key = b"not a secret".to_vec();
        let started = Command::new("azurite-blob")
            .args(["--inMemoryPersistence", "--disableTelemetry", "--silent"])
            .args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()])
            .env(
                "AZURITE_ACCOUNTS",
                format!("{ACCOUNT}:{}", STANDARD.encode(&key)),
            )
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "azurite-blob is not installed"
            );
            could_not_run();
            return None;
        };
        let azurite = Self {
            child,
            address: format!("127.0.0.1:{port}"),
            key,
        };
        azurite.make_container().await;
        Some(azurite)
    }

    /// Waits for the emulator, and has it make the container: a bucket is used, not made.
    async fn make_container(&self) {
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let date = date.to_string();
        let headers = format!("x-ms-date:{date}\nx-ms-version:{VERSION}\n");
        let resource = format!("/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container");
        let text = format!("PUT{}{headers}{resource}", "\n".repeat(12));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let request = format!(
            "PUT /{ACCOUNT}/{CONTAINER}?restype=container HTTP/1.1\r\nhost: {}\r\nx-ms-date: {date}\r\nx-ms-version: {VERSION}\r\nauthorization: SharedKey {ACCOUNT}:{signature}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.address
        );
        let mut n_tries = 0;
        let mut stream = loop {
            match TcpStream::connect(&self.address).await {
                Ok(stream) => break stream,
                Err(error) => {
                    n_tries += 1;
                    assert!(n_tries < 600, "{error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    fn bucket(&self, key: &[u8], prefix: &str) -> Arc<dyn Bucket> {
        let kind = BucketKind::Azure(Box::new(AzureSettings {
            account: ACCOUNT.to_owned(),
            container: CONTAINER.to_owned(),
            endpoint: Some(format!("http://{}/{ACCOUNT}", self.address)),
            credentials: AzureCredentials::AccountKey(Secret::new(STANDARD.encode(key))),
            http: HttpSettings::default(),
        }));
        let prefix = prefix.to_owned();
        open(&BucketSettings { kind, prefix }).unwrap()
    }
}

#[tokio::test]
async fn azure_keeps_the_contract_and_refuses_a_wrong_key() {
    let Some(azurite) = Azurite::start().await else {
        return;
    };
    check(&*azurite.bucket(&azurite.key, "")).await;
    check(&*azurite.bucket(&azurite.key, "some/prefix")).await;
    let stranger = azurite.bucket(b"another", "");
    let refused = [
        stranger.list_dirs().await.unwrap_err(),
        stranger.put("a", Bytes::new()).await.unwrap_err(),
        stranger.get("a", 1).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.verdict(), Verdict::Refuse, "{error:?}");
    }
}

#[tokio::test]
async fn google_keeps_the_contract() {
    let server = S3Server::start_open().await;
    let bucket = |prefix: &str| {
        let kind = BucketKind::Gcs(Box::new(GcsSettings {
            bucket: CONTAINER.to_owned(),
            service_account: None,
            is_public: true,
            base_url: Some(format!("http://{}", server.endpoint())),
            parts: PartSettings::default(),
            http: HttpSettings::default(),
        }));
        let prefix = prefix.to_owned();
        open(&BucketSettings { kind, prefix }).unwrap()
    };
    check(&*bucket("")).await;
    check(&*bucket("some/prefix")).await;
}

const ENCRYPTION: &str = "x-amz-server-side-encryption";

/// Of a request: its method, `part` where it is one, and its headers about encryption.
type Heard = (String, Vec<(String, String)>);

fn about_encryption(request: &Request<Incoming>) -> Heard {
    let headers = request.headers().iter();
    let about = headers.filter(|(name, _)| name.as_str().starts_with(ENCRYPTION));
    let mut about: Vec<_> = about
        .map(|(name, value)| {
            let name = name.as_str().trim_start_matches(ENCRYPTION);
            (name.to_owned(), value.to_str().unwrap().to_owned())
        })
        .collect();
    about.sort_unstable();
    let query = request.uri().query().unwrap_or_default();
    let what = if query.contains("partNumber") {
        "part"
    } else if query.contains("uploads") {
        "begin"
    } else {
        request.method().as_str()
    };
    (what.to_owned(), about)
}

/// What S3 hears of encryption while a file goes up in parts and in one piece, and comes back.
async fn heard_of(encryption: S3Encryption) -> Vec<Heard> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let hear = move |request: &Request<Incoming>| ear.lock().push(about_encryption(request));
    let server = S3Server::start_heard(hear).await;
    let kind = BucketKind::S3(Box::new(S3Settings {
        encryption: Some(encryption),
        ..server.settings("secret")
    }));
    let prefix = String::new();
    let bucket = open(&BucketSettings { kind, prefix }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("000001");
    replace_file(&file, &vec![7; (16 << 20) + 1]).unwrap();
    bucket
        .put("meta.json", Bytes::from_static(b"{}"))
        .await
        .unwrap();
    bucket.upload("000001", &file).await.unwrap();
    assert_eq!(bucket.get("meta.json", 9).await.unwrap(), &b"{}"[..]);
    assert_eq!(bucket.get_range("000001", 3..5).await.unwrap(), &[7, 7][..]);
    assert_eq!(bucket.head("000001").await.unwrap().size, (16 << 20) + 1);
    let heard = std::mem::take(&mut *heard.lock());
    for what in ["PUT", "begin", "part", "GET", "HEAD"] {
        assert!(heard.iter().any(|heard| heard.0 == what), "{what}");
    }
    heard
}

#[tokio::test]
async fn s3_is_told_how_to_encrypt_where_it_begins_an_object() {
    let told = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        let owned = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let key_id = "arn:aws:kms:eu-central-1:1:key/2".to_owned();
    for (encryption, expect) in [
        (S3Encryption::SseS3, told(&[("", "AES256")])),
        (
            S3Encryption::SseKms {
                key_id: key_id.clone(),
            },
            told(&[("", "aws:kms"), ("-aws-kms-key-id", &key_id)]),
        ),
    ] {
        for (what, about) in heard_of(encryption).await {
            match what.as_str() {
                "PUT" | "begin" => assert_eq!(about, expect, "{what}"),
                // S3 refuses these headers where nothing is begun.
                _ => assert_eq!(about, [], "{what}"),
            }
        }
    }
}

#[tokio::test]
async fn a_key_of_the_customer_goes_with_every_request_for_content() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    replace_file(&key_file, b"0123456789abcdef0123456789abcdef").unwrap();
    for (what, about) in heard_of(S3Encryption::SseC { key_file }).await {
        let expect = [
            ("-customer-algorithm", "AES256"),
            (
                "-customer-key",
                "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
            ),
            ("-customer-key-md5", "hRasmdxgYDKV3nvbahU1MA=="),
        ];
        if ["PUT", "begin", "part", "GET", "HEAD"].contains(&what.as_str()) {
            let about: Vec<_> = about
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            assert_eq!(about, expect, "{what}");
        }
    }
}
