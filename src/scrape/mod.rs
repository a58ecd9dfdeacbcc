//! Targets to samples.
//!
//! Owns: discovery, pools, loops, staleness, limits.
//! Never: knows where samples are kept, or reads a configuration file of ours.
//! Tested by: scripted targets in `tests`, real exporters in `tests::real`.
//!
//! A job is a pool; a pool asks its discoveries for addresses, relabels them into targets and runs one task per
//! target. A task waits for its place in the interval, fetches, and hands the bytes to a thread that may block, where
//! one transaction takes the samples, the stale markers and the report about the scrape.
mod cache;
mod client;
mod counters;
mod discovery;
mod error;
mod ingest;
mod limits;
mod looping;
mod manager;
mod metadata;
mod pages;
mod pool;
mod report;
mod sample;
mod settings;
mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tick;
mod view;

pub use client::FetchError;
pub use counters::{Count, ScrapeCounters};
pub use discovery::{expand_glob, is_target_file_pattern};
pub use error::ScrapeError;
pub use manager::{ScrapeManager, StopTimedOut, default_settings};
pub use pages::PageIngest;
pub use settings::{
    Auth, DiscoverySettings, HeaderValues, HistogramSettings, Honor, HttpDiscovery, HttpSettings,
    IngestSettings, JobSettings, Limits, PemSource, ProxySettings, RequestSettings, Secret,
    SecretSource, Settings, StartTimes, TargetGroup, TlsSettings, TlsVersion,
};
pub use target::{Target, TargetError};
pub use view::{DroppedTarget, Health, TargetMetadata, TargetView, TargetsView};
