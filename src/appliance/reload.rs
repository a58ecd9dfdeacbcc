//! Reading the scrape configuration again: everything is checked first, and applied as a whole or not at all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::actors::scrape_sidecar::ApplyConfig;
use crate::appliance::error::StartError;
use crate::appliance::ports::Ports;
use crate::config::HeadTuning;
use crate::config::prometheus::{Loaded, load};
use crate::model::Labels;
use crate::shipper::default_external_labels;

/// Settings that need no restart.
const RELOADED: [&str; 2] = ["head.exemplars_max", "head.out_of_order_window"];

/// Reads, checks, applies; an error says what is wrong and changes nothing.
pub(crate) async fn reload(ports: &Arc<Ports>) -> Result<(), String> {
    let result = try_reload(ports).await;
    ports
        .reload_succeeded
        .store(result.is_ok(), Ordering::SeqCst);
    match &result {
        Ok(()) => tracing::info!("configuration reloaded"),
        Err(reason) => tracing::error!(reason, "configuration is not reloaded, the old one stays"),
    }
    result
}

async fn try_reload(ports: &Arc<Ports>) -> Result<(), String> {
    let Some(opened) = ports.opened() else {
        return Err("starting or stopping: nothing is reloaded now".to_owned());
    };
    let reread = ports.settings.reread.clone();
    let read_again = tokio::task::spawn_blocking(move || reread.settings()).await;
    let now = read_again.map_err(|panic| panic.to_string())??;
    let mut waiting = changed(&ports.settings.flags, &now.flags);
    waiting.retain(|key| !RELOADED.contains(&key.as_str()));
    if !waiting.is_empty() {
        let keys = waiting.join(", ");
        tracing::warn!(keys, "settings have changed that need a restart");
    }
    let Some(path) = ports.settings.scrape_config.clone() else {
        opened.tsdb.tune(|head| now.tuning.apply(head));
        // Without a file there is nothing to scrape that could have changed.
        return Ok(());
    };
    let mut loaded = read(&path).await.map_err(|error| error.to_string())?;
    loaded.settings.set_start_times(ports.settings.start_times);
    if ports.settings.external.0.is_empty() && is_renamed(&loaded, &opened.external) {
        tracing::warn!("external labels have changed, which needs a restart");
    }
    let applied = opened
        .actors
        .scrape_sidecar
        .send(ApplyConfig(Arc::new(loaded.settings)))
        .await;
    applied.map_err(|_lost| "scraping is being restarted: reload again".to_owned())?;
    let tuning = tuned(now.tuning, &loaded.tuning);
    opened.tsdb.tune(|head| tuning.apply(head));
    ports.config_text.store(Arc::new(loaded.text));
    ports
        .last_config_ms
        .store(ports.clock.now_ms(), Ordering::SeqCst);
    Ok(())
}

/// What holds where both files speak of the head: the appliance's own settings come first.
pub(crate) fn tuned(own: HeadTuning, of_scraping: &HeadTuning) -> HeadTuning {
    for key in own.contradictions(*of_scraping) {
        tracing::warn!(key, "not followed, because the settings say otherwise");
    }
    own.or(*of_scraping)
}

/// Keys whose values differ.
fn changed(running: &[(String, String)], read: &[(String, String)]) -> Vec<String> {
    let differs = |(key, value): &&(String, String)| {
        let now = running.iter().find(|(running, _)| running == key);
        now.is_none_or(|(_, now)| now != value)
    };
    let gone = |(key, _): &&(String, String)| !read.iter().any(|(read, _)| read == key);
    let mut keys: Vec<String> = read
        .iter()
        .filter(differs)
        .chain(running.iter().filter(gone))
        .map(|(key, _)| key.clone())
        .collect();
    keys.sort_unstable();
    keys
}

/// Does the configuration name this appliance by other labels than it runs under?
fn is_renamed(loaded: &Loaded, running: &Labels) -> bool {
    let labels = &loaded.settings.external_labels.0;
    let default = default_external_labels();
    let named = if labels.is_empty() {
        &default.0
    } else {
        labels
    };
    named != running
}

/// Reads a scrape configuration away from the actors' thread, and logs what it does not act on.
pub(crate) async fn read(path: &Path) -> Result<Loaded, StartError> {
    let file = path.to_owned();
    let loaded = tokio::task::spawn_blocking(move || load(&file)).await;
    let loaded = loaded.map_err(|panic| StartError::Threads(std::io::Error::other(panic)))?;
    let loaded = loaded.map_err(StartError::Scrape)?;
    for warning in &loaded.warnings {
        tracing::warn!(key = %warning, "configuration key is not acted on");
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_came_or_went_are_named_once() {
        let flags = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let running = flags(&[("a", "1"), ("b", "2"), ("labels.x", "y")]);
        let read = flags(&[("a", "1"), ("b", "3"), ("labels.z", "y")]);
        assert_eq!(changed(&running, &read), ["b", "labels.x", "labels.z"]);
        assert!(changed(&running, &running).is_empty());
    }
}
