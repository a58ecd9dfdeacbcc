//! A real S3 server in the process that tests it.
//!
//! Shared by test binaries, benches and the unit tests of the library through `#[path = "…/peers/s3.rs"]`.

use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

/// The only access key, and its secret.
pub(crate) const KEY: (&str, &str) = ("key", "secret");

/// Serves the directories below `root` as buckets to whoever connects, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, root: &Path) {
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a directory"));
    service.set_auth(SimpleAuth::from_single(KEY.0, KEY.1));
    let service = service.build();
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
    }
}
