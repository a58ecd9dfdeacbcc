//! `gauntlet serve`

use clap::Args;

use crate::appliance;
use crate::cli::check::read_bucket;
use crate::cli::config_options::ConfigOptions;
use crate::cli::exit::{Failure, note};
use crate::cli::logging;
use crate::foundation::{Clock, SystemClock};

/// Run the appliance until SIGTERM or SIGINT; SIGHUP reads the configuration again.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigOptions,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let started_ms = SystemClock.now_ms();
        let config = self.config.load()?;
        logging::start(&config.log)?;
        let bucket = read_bucket(&config)?.map(|(bucket, warnings)| {
            for warning in warnings {
                tracing::warn!(%warning, "bucket setting ignored");
            }
            bucket
        });
        let again = move || self.config.load().map_err(|failure| failure.to_string());
        let reread = appliance::Reread::new(again);
        let settings = appliance::Settings::new(config, bucket, started_ms, reread);
        appliance::run(settings, note).map_err(|error| Failure::of(&error))
    }
}
