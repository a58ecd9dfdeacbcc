//! A real S3 server in the process of the test.

use std::path::{Path, PathBuf};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[path = "../peers/s3.rs"]
mod peer;

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
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let served = root.to_owned();
        runtime.spawn(async move { peer::serve(listener, &served, Some(peer::KEY), |_| ()).await });
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
