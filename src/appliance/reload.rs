//! Reading the scrape configuration again: everything is checked first, and applied as a whole or not at all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::actors::scrape_sidecar::ApplyConfig;
use crate::appliance::error::StartError;
use crate::appliance::ports::Ports;
use crate::config::prometheus::{Loaded, load};

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
    let Some(path) = ports.settings.scrape_config.clone() else {
        // Without a file there is nothing that could have changed.
        return Ok(());
    };
    let loaded = read(&path).await.map_err(|error| error.to_string())?;
    let applied = opened
        .actors
        .scrape_sidecar
        .send(ApplyConfig(Arc::new(loaded.settings)))
        .await;
    applied.map_err(|_lost| "scraping is being restarted: reload again".to_owned())?;
    ports.config_text.store(Arc::new(loaded.text));
    ports
        .last_config_ms
        .store(ports.clock.now_ms(), Ordering::SeqCst);
    Ok(())
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
