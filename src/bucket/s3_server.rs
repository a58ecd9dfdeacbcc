//! A real S3 server in this process.

use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::bucket::http::HttpSettings;
use crate::bucket::open::open;
use crate::bucket::port::Bucket;
use crate::bucket::settings::{BucketKind, BucketSettings, S3Credentials, S3Settings};

#[path = "../../tests/peers/s3.rs"]
mod peer;

/// Ends with the test.
pub(crate) struct S3Server {
    root: tempfile::TempDir,
    endpoint: String,
    accepting: JoinHandle<()>,
}

impl S3Server {
    /// Listens on a port of its own; the bucket `blocks` exists.
    pub(crate) async fn start() -> Self {
        Self::start_heard(|_| ()).await
    }

    /// The same for everybody, without signatures.
    pub(crate) async fn start_open() -> Self {
        Self::start_with(None, |_| ()).await
    }

    /// [`Self::start`], where somebody is told of each request.
    pub(crate) async fn start_heard(
        hear: impl Fn(&Request<Incoming>) + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(peer::KEY), hear).await
    }

    async fn start_with(
        key: Option<(&'static str, &'static str)>,
        hear: impl Fn(&Request<Incoming>) + Clone + Send + Sync + 'static,
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("blocks")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let served = root.path().to_owned();
        let accepting =
            tokio::spawn(async move { peer::serve(listener, &served, key, hear).await });
        Self {
            root,
            endpoint,
            accepting,
        }
    }

    /// Where the objects of the bucket `blocks` are files.
    pub(crate) fn directory(&self) -> std::path::PathBuf {
        self.root.path().join("blocks")
    }

    /// The bucket `blocks`, below `prefix`.
    pub(crate) fn bucket(&self, prefix: &str) -> Arc<dyn Bucket> {
        self.open("secret", prefix)
    }

    /// The bucket `blocks` for somebody who holds this key.
    pub(crate) fn bucket_with_secret(&self, secret_key: &str) -> Arc<dyn Bucket> {
        self.open(secret_key, "")
    }

    /// The bucket `blocks` behind another address.
    pub(crate) fn bucket_at(&self, endpoint: &str, http: HttpSettings) -> Arc<dyn Bucket> {
        let s3 = S3Settings {
            endpoint: Some(endpoint.to_owned()),
            http,
            ..self.settings("secret")
        };
        let kind = BucketKind::S3(Box::new(s3));
        let prefix = String::new();
        open(&BucketSettings { kind, prefix }).unwrap()
    }

    /// Host and port.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// The bucket `blocks` for somebody who holds this key.
    pub(crate) fn settings(&self, secret_key: &str) -> S3Settings {
        S3Settings {
            bucket: "blocks".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            credentials: Some(S3Credentials {
                access_key: "key".to_owned(),
                secret_key: secret_key.to_owned(),
                session_token: None,
            }),
            insecure: true,
            ..S3Settings::default()
        }
    }

    fn open(&self, secret_key: &str, prefix: &str) -> Arc<dyn Bucket> {
        let kind = BucketKind::S3(Box::new(self.settings(secret_key)));
        let prefix = prefix.to_owned();
        open(&BucketSettings { kind, prefix }).unwrap()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
