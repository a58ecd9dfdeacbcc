//! A stock `prometheus.yml` to the settings of scraping.
//!
//! Owns: its keys, their defaults and checks, what is recognised and ignored, and the text without secrets.
//! Never: opens a target file, asks a target, or applies anything.
//! Tested by: a table that is held against `promtool check config`, and refusals with their lines, in `tests`.
//!
//! Every file is read into a tree that knows its lines; then each mapping is taken apart key by key. A key that is
//! there and was never asked for is unknown, so that one pass finds everything that is wrong.
mod discovery;
mod global;
mod http;
mod job;
pub(crate) mod reader;
mod redact;
pub(crate) mod report;
pub(super) mod rules;
mod sections;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::prometheus::global::Global;
use crate::config::prometheus::job::read_jobs;
use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::prometheus::redact::redacted;
use crate::config::prometheus::report::Report;
use crate::config::prometheus::sections::{check_glob, read_sections, read_storage};
use crate::config::tuning::HeadTuning;
use crate::config::yaml::{Node, Value, parse};
use crate::scrape::{Settings, expand_glob};

pub use report::Complaint;

/// Larger files are refused; the largest configurations known have a few megabytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A configuration that can be applied.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is to be scraped, and how.
    pub settings: Settings,
    /// What it says of the head.
    pub tuning: HeadTuning,
    /// Keys that are recognised and not acted on.
    pub warnings: Vec<Complaint>,
    /// The text of the main file with every secret as `<secret>`.
    pub text: String,
    /// The files that were read, for those who look whether they changed.
    pub files: Vec<PathBuf>,
}

/// Reads `path` and the scrape configuration files it names; everything that is wrong at once.
pub fn load(path: &Path) -> Result<Loaded, Vec<Complaint>> {
    let report = Report::new(path.to_owned());
    let Some(root) = read_tree(&report) else {
        return Err(report.into_parts().0);
    };
    let dir = path.parent().map(absolute).unwrap_or_default();
    let text = redacted(&root);
    let item = Item {
        node: &root,
        key: String::new(),
    };
    let mut map = MapReader::new(&report, &item);
    let global = Global::read(global_section(&mut map));
    let mut seen = BTreeMap::new();
    let mut jobs = read_jobs(&mut map, &global, &dir, &mut seen);
    let mut more_files = Vec::new();
    for item in map.items("scrape_config_files").unwrap_or_default() {
        check_glob(&map, &item, "invalid scrape config file path");
        if let Some(pattern) = item.node.as_text() {
            more_files.extend(expand_glob(&dir.join(pattern)));
        }
    }
    let tuning = read_storage(&mut map);
    read_sections(&mut map);
    map.finish();
    let (mut complaints, mut warnings) = report.into_parts();
    for file in &more_files {
        let report = Report::new(file.clone());
        jobs.extend(read_jobs_file(&report, &global, &mut seen));
        let (more_complaints, more_warnings) = report.into_parts();
        complaints.extend(more_complaints);
        warnings.extend(more_warnings);
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    more_files.insert(0, path.to_owned());
    Ok(Loaded {
        settings: Settings {
            external_labels: global.external_labels,
            jobs,
        },
        tuning,
        warnings,
        text,
        files: more_files,
    })
}

/// The `global` mapping, or an empty one.
fn global_section<'a>(map: &mut MapReader<'a>) -> MapReader<'a> {
    static NOTHING: Node = Node {
        line: 0,
        value: Value::Null,
    };
    let item = map.take("global").unwrap_or(Item {
        node: &NOTHING,
        key: "global".to_owned(),
    });
    MapReader::new(map.report, &item)
}

/// A file that `scrape_config_files` names: nothing but `scrape_configs`.
fn read_jobs_file(
    report: &Report,
    global: &Global,
    seen: &mut BTreeMap<String, String>,
) -> Vec<crate::scrape::JobSettings> {
    let Some(root) = read_tree(report) else {
        return Vec::new();
    };
    let dir = report.file().parent().map(absolute).unwrap_or_default();
    let item = Item {
        node: &root,
        key: String::new(),
    };
    let mut map = MapReader::new(report, &item);
    let jobs = read_jobs(&mut map, global, &dir, seen);
    map.finish();
    jobs
}

pub(in crate::config) fn read_tree(report: &Report) -> Option<Node> {
    let text = match read_text(report.file()) {
        Ok(text) => text,
        Err(problem) => {
            report.complain(0, "", None, &problem);
            return None;
        }
    };
    match parse(&text) {
        Ok(root) => Some(root),
        Err(error) => {
            report.complain(error.line, "", None, &error.problem);
            None
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let read = || -> std::io::Result<String> {
        if FILE_BYTES_MAX < std::fs::metadata(path)?.len() {
            let problem = format!("larger than {FILE_BYTES_MAX} bytes");
            return Err(std::io::Error::other(problem));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|error| format!("read the file: {error}"))
}

/// Paths in a file count from its directory, wherever the process stands.
fn absolute(dir: &Path) -> PathBuf {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    std::path::absolute(dir).unwrap_or_else(|_no_current_dir| dir.to_owned())
}
