//! A real S3 server in the process of the test.

use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Serves the directories below one as buckets; ends with the test.
pub(crate) struct S3Server {
    root: PathBuf,
    endpoint: String,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Listens on a port of its own; the bucket `blocks` exists.
    pub(crate) fn start(root: &Path) -> Self {
        std::fs::create_dir_all(root.join("blocks")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        service.set_auth(SimpleAuth::from_single("key", "secret"));
        let service = service.build();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await
                        .ok();
                });
            }
        });
        Self {
            root: root.to_owned(),
            endpoint,
            runtime: Some(runtime),
        }
    }

    /// Where the objects of the bucket `blocks` are files.
    pub(crate) fn directory(&self) -> PathBuf {
        self.root.join("blocks")
    }

    /// The bucket `blocks`, as Thanos' YAML says it.
    pub(crate) fn yaml(&self) -> String {
        format!(
            "type: S3\nconfig:\n  bucket: blocks\n  endpoint: {}\n  access_key: key\n  secret_key: secret\n  insecure: true\n",
            self.endpoint
        )
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
