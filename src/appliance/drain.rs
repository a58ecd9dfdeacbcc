//! The end as a list: producers first, durable state last.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use tokio_util::sync::CancellationToken;

use crate::actors::compactor::{CompactorActor, StopCompacting};
use crate::actors::log_shipper::{LogShipperActor, StopShippingLog};
use crate::actors::scrape_sidecar::{ScrapeSidecar, StopScraping};
use crate::actors::shipper::{ShipperActor, StopShipping};
use crate::actors::store_gateway::{StopSyncing, StoreGateway};
use crate::appliance::build::Built;
use crate::catalog::Catalog;
use crate::foundation::shutdown::{Stage, Unfinished, run};

/// Stops everything in order; returns what did not end in time.
///
/// | stage | why here |
/// | --- | --- |
/// | api | nobody new is let in; answers that are under way are finished |
/// | scrape | the last samples are in the head before it closes |
/// | compactor | what is being made is given up; the next start removes what it left and begins anew |
/// | shipper | the upload that runs is finished; what is cut off would be taken up again; the end of the log goes to the bucket |
/// | gateway | the sync that runs is finished, and the catalog is on the disk |
/// | pools | queries that run are finished; a cut is given up, and its samples stay in the log |
/// | head | the log is synced: what was acknowledged survives the machine; the head is saved for the next start |
pub(crate) async fn drain(
    built: Built,
    deadline: Duration,
    hasten: &CancellationToken,
) -> Unfinished {
    let Built {
        ports,
        http,
        grpc,
        actors,
        query,
        bulk,
        tsdb,
        catalog,
        ..
    } = built;
    ports.is_stopping.store(true, Ordering::SeqCst);
    // It may take minutes, compactions hours, and the next start begins it anew.
    tsdb.stop_making_blocks();
    let stages = vec![
        Stage::new("api", deadline)
            .part("http", async move {
                http.stop(true).await;
            })
            .part("grpc", async move {
                grpc.stop(deadline).await;
            }),
        Stage::new("scrape", deadline).part(
            "targets",
            stop_scraping(actors.scrape_sidecar.clone(), deadline),
        ),
        Stage::new("compactor", deadline).part("blocks", stop_compacting(actors.compactor.clone())),
        Stage::new("shipper", deadline)
            .part("upload", stop_shipping(actors.shipper.clone()))
            .part("log", stop_shipping_log(actors.log_shipper.clone())),
        Stage::new("gateway", deadline)
            .part("sync", stop_syncing(actors.store_gateway.clone()))
            .part("catalog", flush(catalog)),
        Stage::new("pools", deadline)
            .part("query", stop_pool(query))
            .part("bulk", stop_pool(bulk)),
        Stage::new("head", deadline)
            .durable()
            .part("log", async move {
                let closed = tokio::task::spawn_blocking(move || tsdb.close()).await;
                match closed {
                    Ok(Ok(())) => (),
                    Ok(Err(error)) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "sync the log");
                    }
                    Err(panic) => {
                        tracing::error!(error = &panic as &dyn std::error::Error, "sync the log");
                    }
                }
            }),
    ];
    run(stages, hasten).await
}

async fn stop_scraping(sidecar: Addr<ScrapeSidecar>, deadline: Duration) {
    if sidecar.send(StopScraping(deadline)).await.is_err() {
        tracing::warn!("scraping was being restarted and is cut off");
    }
}

/// A compactor that is being restarted begins nothing before it is told.
async fn stop_compacting(compactor: Addr<CompactorActor>) {
    compactor.send(StopCompacting).await.ok();
}

/// A shipper that is being restarted ships nothing.
async fn stop_shipping(shipper: Addr<ShipperActor>) {
    shipper.send(StopShipping).await.ok();
}

/// A log shipper that is being restarted ships nothing.
async fn stop_shipping_log(shipper: Addr<LogShipperActor>) {
    shipper.send(StopShippingLog).await.ok();
}

/// A gateway that is being restarted syncs nothing.
async fn stop_syncing(gateway: Addr<StoreGateway>) {
    gateway.send(StopSyncing).await.ok();
}

async fn flush(catalog: Catalog) {
    let flushed = tokio::task::spawn_blocking(move || catalog.flush()).await;
    if flushed.is_err() {
        tracing::error!("the catalog was not flushed");
    }
}

async fn stop_pool(pool: crate::foundation::pool::Pool) {
    let stopped = tokio::task::spawn_blocking(move || pool.stop()).await;
    if stopped.is_err() {
        tracing::error!("a pool did not stop");
    }
}
