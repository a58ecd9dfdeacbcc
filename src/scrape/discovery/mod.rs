//! Where targets come from.
//!
//! Owns: files and HTTP services that name targets, and the last good answer of each.
//! Never: relabels or scrapes a target.
//! Tested by: files that change and services that fail, beside the code.
mod file;
mod glob;
mod groups;
mod http;

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::scrape::pool::Tasks;
use crate::scrape::settings::{DiscoverySettings, TargetGroup};

pub use glob::{expand_glob, is_target_file_pattern};

/// Hands over everything a source knows, under the source's id.
pub(super) type Publish = Box<dyn Fn(u64, Vec<TargetGroup>) + Send + Sync>;

/// A discovery at work.
#[derive(Debug)]
pub(super) struct Source {
    id: u64,
    stop: CancellationToken,
}

impl Source {
    /// What it publishes under; never used twice.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Publishes nothing more.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

/// Starts a discovery. What is known at once comes back with it.
pub(super) fn start(
    settings: &DiscoverySettings,
    publish: Publish,
    stop: CancellationToken,
    tasks: &Tasks,
) -> (Source, Option<Vec<TargetGroup>>) {
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let source = Source {
        id,
        stop: stop.clone(),
    };
    let groups = match settings {
        DiscoverySettings::Static(groups) => Some(groups.clone()),
        DiscoverySettings::File {
            patterns,
            refresh_ms,
        } => {
            let mut files = file::Files::new(patterns.clone());
            let groups = files.read();
            let watch = file::watch(files, *refresh_ms, move |groups| publish(id, groups));
            spawn(tasks, stop, watch);
            Some(groups)
        }
        DiscoverySettings::Http(http) => {
            let poll = http::poll(http.as_ref().clone(), move |groups| publish(id, groups));
            spawn(tasks, stop, poll);
            None
        }
    };
    (source, groups)
}

fn spawn(tasks: &Tasks, stop: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    tasks.tracker.spawn_on(
        async move {
            stop.run_until_cancelled(work).await;
        },
        &tasks.handle,
    );
}
