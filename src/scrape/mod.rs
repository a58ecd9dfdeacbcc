//! Targets to bytes.
//!
//! Owns: discovery, pools, loops, staleness, limits.
//! Never: knows where samples are kept.
//! Tested by: scripted targets beside the code and real exporters in `tests/appliance`.
mod discovery;
mod settings;

pub use discovery::{expand_glob, is_target_file_pattern};
pub use settings::{
    Auth, DiscoverySettings, HeaderValues, Honor, HttpDiscovery, HttpSettings, IngestSettings,
    JobSettings, Limits, PemSource, ProxySettings, RequestSettings, Secret, SecretSource, Settings,
    TargetGroup, TlsSettings, TlsVersion,
};
