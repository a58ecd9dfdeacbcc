//! A real S3 server in the process that tests it.
//!
//! Shared by test binaries, benches and the unit tests of the library through `#[path = "…/peers/s3.rs"]`.

use std::path::Path;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

/// An access key, and its secret.
pub(crate) const KEY: (&str, &str) = ("key", "secret");

/// Serves the directories below `root` as buckets to whoever has the key, until it is dropped; without a key to everybody.
/// `hear` is told of each request.
pub(crate) async fn serve(
    listener: TcpListener,
    root: &Path,
    key: Option<(&str, &str)>,
    hear: impl Fn(&Request<Incoming>) + Clone + Send + 'static,
) {
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a directory"));
    if let Some((access_key, secret_key)) = key {
        service.set_auth(SimpleAuth::from_single(access_key, secret_key));
    }
    let service = service.build();
    let is_open = key.is_none();
    while let Ok((socket, _)) = listener.accept().await {
        let (service, hear) = (service.clone(), hear.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            hear(&request);
            if is_open {
                // What is said all the same may be of another kind.
                request.headers_mut().remove(AUTHORIZATION);
            }
            Service::call(&service, request)
        });
        tokio::spawn(async move {
            Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await
                .ok();
        });
    }
}
