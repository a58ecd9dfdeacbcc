//! `gauntlet check`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::bucket::BucketSettings;
use crate::cli::Output;
use crate::cli::config_options::ConfigOptions;
use crate::cli::exit::{Failure, note, print};
use crate::config::appliance::Settings;
use crate::config::bucket::load_bucket;
use crate::config::prometheus;

/// Checks of files.
#[derive(Debug, Subcommand)]
pub(super) enum Check {
    /// Check the configuration and the files it names, or one prometheus.yml.
    Config(CheckConfig),
}

/// Check the configuration and the files it names, or one prometheus.yml.
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    /// A prometheus.yml to check by itself.
    #[arg(value_name = "PROMETHEUS_YML", conflicts_with_all = ["config", "data_dir", "http", "grpc", "set"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOptions,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    files: Vec<String>,
    warnings: Vec<String>,
    complaints: Vec<String>,
}

impl Check {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Config(check) => check.run(),
        }
    }
}

impl CheckConfig {
    fn run(&self) -> Result<(), Failure> {
        let mut findings = Findings::default();
        match &self.file {
            Some(file) => findings.check_scraping(file),
            None => self.check_all(&mut findings)?,
        }
        match self.output {
            Output::Json => {
                let is_valid = findings.complaints.is_empty();
                let Findings {
                    files,
                    warnings,
                    complaints,
                } = findings;
                let result = json!({ "valid": is_valid, "files": files, "warnings": warnings, "errors": complaints });
                print(&result.to_string())?;
                if is_valid {
                    return Ok(());
                }
                Err(Failure::Failed(Vec::new()))
            }
            Output::Text => findings.report(),
        }
    }

    fn check_all(&self, findings: &mut Findings) -> Result<(), Failure> {
        let settings = match self.config.load() {
            Ok(settings) => settings,
            Err(Failure::Wrong(complaints)) => {
                findings.complaints = complaints;
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        findings.files.extend(
            self.config
                .config
                .iter()
                .map(|file| file.display().to_string()),
        );
        if let Some(file) = &settings.scrape_config_file {
            findings.check_scraping(file);
        }
        if let Some(file) = &settings.bucket.config_file {
            findings.files.push(file.display().to_string());
        }
        match read_bucket(&settings) {
            Ok(Some((_, warnings))) => findings.warnings.extend(lines(&warnings)),
            Ok(None) => (),
            Err(Failure::Wrong(complaints)) => findings.complaints.extend(complaints),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

impl Findings {
    fn check_scraping(&mut self, file: &Path) {
        match prometheus::load(file) {
            Ok(loaded) => {
                self.files
                    .extend(loaded.files.iter().map(|file| file.display().to_string()));
                self.warnings.extend(lines(&loaded.warnings));
            }
            Err(complaints) => {
                self.files.push(file.display().to_string());
                self.complaints.extend(lines(&complaints));
            }
        }
    }

    fn report(self) -> Result<(), Failure> {
        for warning in &self.warnings {
            note(&format!("warning: {warning}"));
        }
        if !self.complaints.is_empty() {
            return Err(Failure::Failed(self.complaints));
        }
        for file in &self.files {
            print(&format!("{file}: valid"))?;
        }
        if self.files.is_empty() {
            print("the compiled-in configuration is valid")?;
        }
        Ok(())
    }
}

/// What `bucket.config_file` says and what of it is ignored, if there is such a file.
pub(super) fn read_bucket(
    settings: &Settings,
) -> Result<Option<(BucketSettings, Vec<prometheus::Complaint>)>, Failure> {
    let Some(file) = &settings.bucket.config_file else {
        return Ok(None);
    };
    match load_bucket(file) {
        Ok(bucket) => Ok(Some(bucket)),
        Err(complaints) => Err(Failure::Wrong(lines(&complaints))),
    }
}

fn lines(complaints: &[prometheus::Complaint]) -> Vec<String> {
    complaints.iter().map(ToString::to_string).collect()
}
