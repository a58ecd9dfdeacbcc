//! Why the appliance does not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::api::grpc::GrpcServerError;
use crate::bucket::BucketError;
use crate::config::prometheus::Complaint;
use crate::tsdb::TsdbError;

/// Why the appliance does not start, or ended without being asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The HTTP address is taken or not ours.
    #[error("listen on {address} for HTTP")]
    Http {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The gRPC server.
    #[error(transparent)]
    Grpc(#[from] GrpcServerError),
    /// A runtime or pool could not be started.
    #[error("start threads")]
    Threads(#[source] std::io::Error),
    /// The data directory.
    #[error("open the database in {directory}")]
    Database {
        /// Where.
        directory: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<TsdbError>,
    },
    /// The bucket's settings; a bucket that is away does not stop the start.
    #[error("open the bucket")]
    Bucket(#[source] BucketError),
    /// Blocks of two databases would be taken for those of one.
    #[error(
        "bucket.prometheus_labels are this appliance's own labels: name that Prometheus differently"
    )]
    SameLabels,
    /// What is to be scraped.
    #[error("{}", list(.0))]
    Scrape(Vec<Complaint>),
    /// An actor that cannot be restarted has ended.
    #[error("{actor} ended and cannot be restarted; the log says why")]
    Ended {
        /// Which.
        actor: &'static str,
    },
}

fn list(complaints: &[Complaint]) -> String {
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
