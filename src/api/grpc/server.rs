//! The listening server: services, health, reflection, and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::grpc::info::InfoService;
use crate::api::grpc::port::Source;
use crate::api::grpc::store::StoreService;
use crate::foundation::pool::Pool;
use crate::wire::FILE_DESCRIPTOR_SET;
use crate::wire::thanos::info::info_server::InfoServer;
use crate::wire::thanos::store_server::StoreServer;

/// Largest request that is read; matchers and hints take kilobytes.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// Streams on one connection; more wait at the client.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_000;
/// Clients that are silent for this long are asked whether they live.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How StoreAPI is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcSettings {
    /// Where to listen.
    pub address: SocketAddr,
    /// Series a single request may return.
    pub series_max: Option<u64>,
    /// Samples a single request may return, estimated as 120 per chunk.
    pub samples_max: Option<u64>,
    /// Series requests worked on at once; the others wait.
    pub series_concurrency_max: usize,
    /// Send hashes of chunks, so that a querier need not compute them.
    pub chunk_hashes: bool,
}

impl GrpcSettings {
    /// No limits on answers, twenty at once.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            series_max: None,
            samples_max: None,
            series_concurrency_max: 20,
            chunk_hashes: false,
        }
    }
}

/// Why the server does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrpcServerError {
    /// The address is taken or not ours.
    #[error("listen on {address} for gRPC")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The compiled-in descriptors do not decode.
    #[error("read the compiled-in descriptors")]
    Descriptors(#[source] tonic_reflection::server::Error),
}

/// A running server.
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    health: HealthReporter,
    ending: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl GrpcServer {
    /// Listens and serves until [`GrpcServer::stop`]; health says `NOT_SERVING` until [`GrpcServer::set_serving`].
    pub async fn start(
        settings: GrpcSettings,
        source: Arc<dyn Source>,
        pool: Pool,
    ) -> Result<Self, GrpcServerError> {
        let address = settings.address;
        let refused = |source| GrpcServerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let ending = CancellationToken::new();
        let (health, health_service) = tonic_health::server::health_reporter();
        let store = StoreService {
            source: Arc::clone(&source),
            pool,
            room: Arc::new(Semaphore::new(settings.series_concurrency_max.max(1))),
            settings,
            ending: ending.clone(),
        };
        let store = StoreServer::new(store)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let info = InfoServer::new(InfoService { source })
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let routes = Routes::default()
            .add_service(health_service)
            .add_service(
                reflection()
                    .build_v1()
                    .map_err(GrpcServerError::Descriptors)?,
            )
            .add_service(
                reflection()
                    .build_v1alpha()
                    .map_err(GrpcServerError::Descriptors)?,
            )
            .add_service(info)
            .add_service(store);
        let serving = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                ending.clone().cancelled_owned(),
            );
        let server = Self {
            address,
            health,
            ending,
            serving: tokio::spawn(serving),
        };
        server.set_serving(false).await;
        Ok(server)
    }

    /// Where it listens: with port 0 in the settings, the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What health answers, for the whole server and for each service.
    pub async fn set_serving(&self, is_serving: bool) {
        let status = if is_serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", "thanos.Store", "thanos.info.Info"] {
            self.health.set_service_status(service, status).await;
        }
    }

    /// Takes no more requests and ends streams with `UNAVAILABLE`; after `deadline` connections are cut.
    /// Says whether all had ended by then.
    pub async fn stop(self, deadline: Duration) -> bool {
        self.set_serving(false).await;
        self.ending.cancel();
        let abort = self.serving.abort_handle();
        let is_done = tokio::time::timeout(deadline, self.serving).await.is_ok();
        // A client that reads nothing keeps its connection open for ever.
        abort.abort();
        is_done
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
