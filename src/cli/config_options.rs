//! Options that choose and change the configuration; shared by all commands that read it.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::Failure;
use crate::config::appliance::{Given, Settings, load};

/// Where settings come from, later over earlier: defaults, file, conf.d, environment, these.
#[derive(Debug, Args)]
pub(super) struct ConfigOptions {
    /// Configuration file; conf.d/*.toml beside it is read too.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where data lives (storage.data_dir).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where HTTP is served (http.address).
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where gRPC is served (grpc.address).
    #[arg(long, value_name = "ADDR")]
    grpc: Option<String>,
    /// Sets one key; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl ConfigOptions {
    /// Reads all layers.
    pub(super) fn load(&self) -> Result<Settings, Failure> {
        let flags = [
            ("storage.data_dir", &self.data_dir),
            ("http.address", &self.http),
            ("grpc.address", &self.grpc),
        ];
        let mut set = self.set.clone();
        for (key, value) in flags {
            set.extend(value.clone().map(|value| (key.to_owned(), value)));
        }
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let given = Given {
            file: self.config.clone(),
            environment,
            set,
        };
        load(&given).map_err(|complaints| {
            Failure::Wrong(complaints.iter().map(ToString::to_string).collect())
        })
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err("expected section.key=value".to_owned()),
    }
}
