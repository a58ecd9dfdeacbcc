//! The supervision table: who is kept, with which budget, and what its end means.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::{Mutex, mpsc};

use crate::actors::compactor::{CompactorActor, CompactorPorts};
use crate::actors::head_keeper::{HeadKeeper, HeadKeeperPorts};
use crate::actors::log_shipper::{LogShipperActor, LogShipperPorts};
use crate::actors::querier::{Querier, QuerierPorts, QueryDesk};
use crate::actors::released::ReleasedBlocks;
use crate::actors::scrape_sidecar::ScrapeSidecar;
use crate::actors::shipper::{BlockShipped, ShipperActor, ShipperPorts};
use crate::actors::steward::{DutyBoard, Steward};
use crate::actors::store_gateway::{StoreGateway, StoreGatewayPorts};
use crate::appliance::settings::Settings;
use crate::compactor::Compactor;
use crate::foundation::keeper::{Budget, Record, keep};
use crate::foundation::pool::Pool;
use crate::foundation::{Cancel, Clock};
use crate::gateway::Gateway;
use crate::scrape::ScrapeManager;
use crate::shipper::{LogShipper, Shipper};
use crate::tsdb::Tsdb;

/// Restarts in a row that an actor may need before it is given up; a minute of health earns them all back.
const RESTARTS_MAX: u32 = 10;

/// What the actors work with; everything here outlives their restarts.
pub(crate) struct Parts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tsdb: Tsdb,
    pub(crate) bulk: Pool,
    pub(crate) querier: QuerierPorts,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) shipper: Arc<Mutex<Shipper>>,
    pub(crate) foreign: Option<Arc<Mutex<Shipper>>>,
    pub(crate) log_shipper: Arc<LogShipper>,
    pub(crate) compactor: Compactor,
    pub(crate) scrape: Arc<ScrapeManager>,
}

/// The actors of the appliance. An address keeps its actor alive, also where nobody sends to it.
#[derive(Clone)]
#[cfg_attr(
    not(debug_assertions),
    expect(
        dead_code,
        reason = "only test builds send to every actor from outside"
    )
)]
pub(crate) struct Actors {
    pub(crate) steward: Addr<Steward>,
    pub(crate) store_gateway: Addr<StoreGateway>,
    pub(crate) shipper: Addr<ShipperActor>,
    pub(crate) log_shipper: Addr<LogShipperActor>,
    pub(crate) compactor: Addr<CompactorActor>,
    pub(crate) head_keeper: Addr<HeadKeeper>,
    pub(crate) querier: Addr<Querier>,
    pub(crate) desk: QueryDesk,
    pub(crate) scrape_sidecar: Addr<ScrapeSidecar>,
    pub(crate) duties: DutyBoard,
    pub(crate) records: Vec<Arc<Record>>,
}

/// Starts every actor on this thread, downstream first, so that each gets the addresses it tells things to.
///
/// | actor | budget | what its end means |
/// | --- | --- | --- |
/// | steward | 10 | nobody judges duties; the rest goes on |
/// | store gateway | 10 | the served set of bucket blocks stays as it is |
/// | shipper | 10 | blocks stay local |
/// | log shipper | 10 | a lost host loses what the log got since |
/// | compactor | 10 | blocks of the bucket stay as they are |
/// | head keeper | 0 | the appliance stops in order: the service manager restarts it on a recoverable log |
/// | querier | 10 | the appliance stops in order: a database that cannot be asked is down |
/// | scrape-sidecar | 10 | targets are scraped on, the configuration stays as it is |
pub(crate) fn spawn(
    settings: &Settings,
    parts: Parts,
    fatal: &mpsc::Sender<&'static str>,
) -> Actors {
    let mut watch = Watch {
        records: Vec::new(),
        fatal,
    };
    let duties = DutyBoard::default();
    let steward = Steward::new(parts.clock, Arc::clone(&duties));
    let steward = watch.over("steward", RESTARTS_MAX, steward);
    let released = ReleasedBlocks::default();
    let ports = StoreGatewayPorts {
        gateway: parts.gateway,
        tsdb: parts.tsdb.clone(),
        released: released.clone(),
        steward: steward.clone().recipient(),
    };
    let store_gateway = StoreGateway::new(settings.bucket_sync_every, ports);
    let store_gateway = watch.over("store_gateway", RESTARTS_MAX, store_gateway);
    let ports = ShipperPorts {
        shipper: parts.shipper,
        foreign: parts.foreign,
        gateway: store_gateway.clone().recipient(),
        steward: steward.clone().recipient(),
    };
    let shipper = ShipperActor::new(settings.ship_every, ports);
    let shipper = watch.over("shipper", RESTARTS_MAX, shipper);
    let ports = LogShipperPorts {
        shipper: parts.log_shipper,
        tsdb: parts.tsdb.clone(),
        steward: steward.clone().recipient(),
    };
    let log_shipper = LogShipperActor::new(settings.ship_log_every, ports);
    let log_shipper = watch.over("log_shipper", RESTARTS_MAX, log_shipper);
    let gateway = store_gateway.clone().recipient();
    let compactor = compactor_actor(settings, parts.compactor, gateway, &steward);
    let compactor = watch.over("compactor", RESTARTS_MAX, compactor);
    let ports = HeadKeeperPorts {
        tsdb: parts.tsdb,
        bulk: parts.bulk,
        shipper: shipper.clone().recipient(),
        steward: steward.clone().recipient(),
        released: settings.ship_every.map(|_| released),
    };
    let head_keeper = HeadKeeper::new(settings.head_keeper, ports);
    let head_keeper = watch.over_vital("head_keeper", 0, head_keeper);
    let desk = QueryDesk::new(parts.querier);
    let querier = watch.over_vital("querier", RESTARTS_MAX, Querier::new(desk.clone()));
    let scrape_sidecar = ScrapeSidecar::new(parts.scrape, steward.clone().recipient());
    let scrape_sidecar = watch.over("scrape_sidecar", RESTARTS_MAX, scrape_sidecar);
    Actors {
        steward,
        store_gateway,
        shipper,
        log_shipper,
        compactor,
        head_keeper,
        querier,
        desk,
        scrape_sidecar,
        duties,
        records: watch.records,
    }
}

fn compactor_actor(
    settings: &Settings,
    compactor: Compactor,
    gateway: Recipient<BlockShipped>,
    steward: &Addr<Steward>,
) -> CompactorActor {
    let ports = CompactorPorts {
        compactor,
        cancel: Cancel::new(),
        running: Arc::default(),
        gateway,
        steward: steward.clone().recipient(),
    };
    let keys = &settings.compactor;
    CompactorActor::new(keys.is_enabled.then_some(keys.interval), ports)
}

/// Starts actors and books them.
struct Watch<'a> {
    records: Vec<Arc<Record>>,
    fatal: &'a mpsc::Sender<&'static str>,
}

impl Watch<'_> {
    /// Keeps an actor without which the rest goes on.
    fn over<A>(&mut self, name: &'static str, restarts_max: u32, actor: A) -> Addr<A>
    where
        A: Supervised + Actor<Context = Context<A>>,
    {
        let kept = keep(name, Budget::new(restarts_max), actor);
        self.records.push(kept.record);
        kept.address
    }

    /// Keeps an actor whose end is everybody's.
    fn over_vital<A>(&mut self, name: &'static str, restarts_max: u32, actor: A) -> Addr<A>
    where
        A: Supervised + Actor<Context = Context<A>>,
    {
        let kept = keep(name, Budget::new(restarts_max), actor);
        self.records.push(kept.record);
        let (end, fatal) = (kept.end, self.fatal.clone());
        actix::spawn(async move {
            if end.await.is_ok() {
                fatal.send(name).await.ok();
            }
        });
        kept.address
    }
}
