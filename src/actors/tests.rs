//! The way of a block from actor to actor, full gates, and the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures::FutureExt;
use tokio::sync::Mutex;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::head_keeper::{
    Administer, BlockCut, HeadKeeper, HeadKeeperPorts, HeadKeeperSettings, HeadKeeperState, LookNow,
};
use crate::actors::querier::{
    AskError, Evaluate, Querier, QuerierPorts, QuerierState, QueryDesk, When,
};
use crate::actors::released::ReleasedBlocks;
use crate::actors::shipper::{
    BlockShipped, ShipperActor, ShipperPorts, ShipperState, StopShipping,
};
use crate::actors::store_gateway::{
    StopSyncing, StoreGateway, StoreGatewayPorts, StoreGatewayState,
};
use crate::actors::testing::{BLOCK_RANGE_MS, append, database, listener};
use crate::block::Block;
use crate::bucket::{Bucket, StoreBucket};
use crate::catalog::Catalog;
use crate::foundation::permit::Gate;
use crate::foundation::pool::Pool;
use crate::foundation::{Clock, ManualClock};
use crate::gateway::{Gateway, GatewaySettings};
use crate::model::{BlockId, ExternalLabels, Interval, Labels, Matcher};
use crate::promql::{Engine, EngineSettings, QueryOptions, QueryValue};
use crate::shipper::{Shipper, ShipperSettings};
use crate::storage::Appendable;
use crate::tsdb::{Tsdb, TsdbSettings};

const OFTEN: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_hours(1);

/// Looks again and again, in real time: pools and disks do not know the virtual one.
async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this never came true: {what}");
}

fn external() -> ExternalLabels {
    ExternalLabels(Labels::new(&[("replica", "a")]).unwrap())
}

fn head_keeper(
    tsdb: &Tsdb,
    shipper: Recipient<BlockCut>,
    steward: Recipient<DutyReport>,
    released: Option<ReleasedBlocks>,
) -> Addr<HeadKeeper> {
    let settings = HeadKeeperSettings {
        look_every: NEVER,
        sync_every: None,
        compacts: false,
    };
    let ports = HeadKeeperPorts {
        tsdb: tsdb.clone(),
        bulk: Pool::new("bulk", 1, 8).unwrap(),
        shipper,
        steward,
        released,
    };
    HeadKeeper::new(settings, ports).start()
}

fn gateway(
    bucket: Arc<dyn Bucket>,
    cache: &std::path::Path,
    clock: &Arc<dyn Clock>,
) -> Arc<Gateway> {
    let settings = GatewaySettings {
        mark_delay_ms: 0,
        fetch_concurrency: 4,
        cache_bytes_max: 1 << 20,
        ..GatewaySettings::new(external(), cache.to_owned())
    };
    let catalog = Catalog::absent("a test".to_owned());
    let runtime = tokio::runtime::Handle::current();
    Arc::new(Gateway::new(settings, bucket, catalog, Arc::clone(clock), runtime).unwrap())
}

#[actix::test]
async fn the_keeper_notes_from_where_on_the_log_is_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_000_000));
    let mut settings = TsdbSettings::default();
    settings.head.chunk_range_ms = 1 << 40;
    let shared: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let tsdb = Tsdb::open(dir.path(), settings, shared).unwrap();
    let keeper = head_keeper(
        &tsdb,
        listener::<BlockCut>().0,
        listener::<DutyReport>().0,
        None,
    );
    let note = dir.path().join("head-redo");
    keeper.send(LookNow).await.unwrap();
    let mut appender = tsdb.appender();
    let labels = Labels::new(&[("__name__", "x")]).unwrap();
    // About four bytes each, in chunks of 120.
    for t in 0..1_200_000 {
        let v = f64::from(t) * 0.1;
        appender.append_labels(&labels, i64::from(t), v).unwrap();
        if t % 1000 == 999 {
            appender.commit().unwrap();
            appender = tsdb.appender();
        }
    }
    drop(appender);
    assert!(!note.try_exists().unwrap());
    eventually("it is noted", async || {
        clock.advance(60_000);
        keeper.send(LookNow).await.unwrap();
        note.try_exists().unwrap()
    })
    .await;
    let stats = tsdb.stats();
    assert_eq!(stats.head.redo_points_total, 1);
    let n_bytes = std::fs::metadata(&note).unwrap().len();
    assert_eq!(stats.redo_point_bytes, n_bytes);
}

#[actix::test]
async fn blocks_that_nobody_ships_are_compacted_and_operators_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_000_000));
    let mut settings = TsdbSettings::default();
    settings.head.chunk_range_ms = BLOCK_RANGE_MS;
    let tsdb = Tsdb::open(dir.path(), settings, clock).unwrap();
    append(&tsdb, 0, 60);
    let settings = HeadKeeperSettings {
        look_every: NEVER,
        sync_every: None,
        compacts: true,
    };
    let ports = HeadKeeperPorts {
        tsdb: tsdb.clone(),
        bulk: Pool::new("bulk", 1, 8).unwrap(),
        shipper: listener::<BlockCut>().0,
        steward: listener::<DutyReport>().0,
        released: None,
    };
    let keeper = HeadKeeper::new(settings, ports).start();
    keeper.send(LookNow).await.unwrap();
    let levels = || -> Vec<u32> {
        let blocks = tsdb.blocks();
        let metas = blocks.iter().map(Block::meta);
        metas.map(|meta| meta.compaction.level).collect()
    };
    eventually("three blocks are one", async || levels() == [2, 1, 1]).await;
    let matcher_sets = vec![vec![Matcher::equal("__name__", "x")]];
    let interval = Interval { min: 0, max: 9999 };
    let wish = Administer::DeleteSeries {
        matcher_sets,
        interval,
    };
    assert_eq!(keeper.send(wish).await.unwrap(), Ok(None));
    assert_eq!(tsdb.blocks()[0].meta().stats.num_tombstones, 1);
    let done = keeper.send(Administer::CleanTombstones).await.unwrap();
    assert_eq!(done, Ok(None));
    assert_eq!(tsdb.blocks()[0].meta().stats.num_samples, 20);
    let wish = Administer::Snapshot { skip_head: true };
    let name = keeper.send(wish).await.unwrap().unwrap().unwrap();
    let made = dir.path().join("snapshots").join(name);
    assert_eq!(std::fs::read_dir(made).unwrap().count(), 3);
}

#[actix::test]
async fn a_block_is_cut_when_due_told_to_the_shipper_and_kept_until_it_is_released() {
    let (_dir, tsdb, _clock) = database();
    append(&tsdb, 0, 60);
    let (shipper, cut) = listener::<BlockCut>();
    let (steward, duties) = listener::<DutyReport>();
    let released = ReleasedBlocks::default();
    let keeper = head_keeper(&tsdb, shipper, steward, Some(released.clone()));
    keeper.send(LookNow).await.unwrap();
    eventually("blocks are cut", async || {
        let state = keeper
            .send(Observe::<HeadKeeperState>::default())
            .await
            .unwrap();
        state.n_cut == 5 && !state.is_cutting
    })
    .await;
    let told: Vec<BlockId> = cut
        .lock()
        .iter()
        .flat_map(|cut| cut.blocks.clone())
        .collect();
    assert_eq!(told.len(), 5);
    assert!(
        duties
            .lock()
            .iter()
            .any(|duty| duty.duty == "cut blocks" && duty.state == DutyState::Ok)
    );
    assert_eq!(
        tsdb.blocks().len(),
        5,
        "nothing is released, so nothing goes"
    );

    released.set(told.iter().copied().collect::<BTreeSet<_>>());
    keeper.send(LookNow).await.unwrap();
    eventually("old local copies are gone", async || {
        tsdb.blocks().len() == 2
    })
    .await;
}

#[actix::test]
async fn where_nothing_is_shipped_retention_waits_for_nobody() {
    let (_dir, tsdb, _clock) = database();
    append(&tsdb, 0, 60);
    let (shipper, _cut) = listener::<BlockCut>();
    let (steward, _duties) = listener::<DutyReport>();
    let keeper = head_keeper(&tsdb, shipper, steward, None);
    keeper.send(LookNow).await.unwrap();
    eventually("old blocks are gone", async || tsdb.blocks().len() == 2).await;
}

#[actix::test]
async fn a_cut_block_is_shipped_served_and_released() {
    let (dir, tsdb, clock) = database();
    append(&tsdb, 0, 20);
    let block = tsdb.cut().unwrap().unwrap().ulid;
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let (steward, duties) = listener::<DutyReport>();
    let released = ReleasedBlocks::default();
    let ports = StoreGatewayPorts {
        gateway: gateway(Arc::clone(&bucket), &dir.path().join("cache"), &clock),
        tsdb: tsdb.clone(),
        released: released.clone(),
        steward: steward.clone(),
    };
    let gateway = StoreGateway::new(NEVER, ports).start();
    let settings = ShipperSettings {
        directory: dir.path().to_owned(),
        external: external(),
        source: "sidecar".to_owned(),
        upload_compacted: false,
        is_foreign: false,
        counters: Arc::default(),
    };
    let catalog = Catalog::absent("a test".to_owned());
    let shipper = Shipper::new(settings, Arc::clone(&bucket), catalog, clock);
    let ports = ShipperPorts {
        shipper: Arc::new(Mutex::new(shipper)),
        foreign: None,
        gateway: gateway.clone().recipient::<BlockShipped>(),
        steward,
    };
    let shipper = ShipperActor::new(Some(NEVER), ports).start();
    shipper
        .send(BlockCut {
            blocks: vec![block],
        })
        .await
        .unwrap();
    eventually("the block is released", async || released.contains(block)).await;
    let shipped = shipper
        .send(Observe::<ShipperState>::default())
        .await
        .unwrap();
    assert_eq!((shipped.n_shipped, shipped.last_error), (1, None));
    let served = gateway
        .send(Observe::<StoreGatewayState>::default())
        .await
        .unwrap();
    assert_eq!(served.n_served, 1);
    assert!(duties.lock().iter().all(|duty| duty.state == DutyState::Ok));

    // The end: both answer, and neither works any more.
    shipper.send(StopShipping).await.unwrap();
    gateway.send(StopSyncing).await.unwrap();
    let n_synced = served.n_synced;
    gateway
        .send(BlockShipped {
            blocks: vec![block],
        })
        .await
        .unwrap();
    tokio::time::sleep(OFTEN).await;
    let served = gateway
        .send(Observe::<StoreGatewayState>::default())
        .await
        .unwrap();
    assert_eq!(served.n_synced, n_synced);
}

struct Asking {
    _dir: tempfile::TempDir,
    gate: Gate,
    querier: Addr<Querier>,
    desk: QueryDesk,
    pool: Pool,
}

fn asking(timeout: Duration) -> Asking {
    let (dir, tsdb, clock) = database();
    append(&tsdb, 0, 5);
    let gate = Gate::new("queries", 1, 1);
    let pool = Pool::new("query", 1, 8).unwrap();
    let ports = QuerierPorts {
        gateway: gateway(
            Arc::new(StoreBucket::in_memory()),
            &dir.path().join("cache"),
            &clock,
        ),
        tsdb,
        engine: Engine::new(EngineSettings::default(), None),
        pool: pool.clone(),
        gate: gate.clone(),
        timeout,
    };
    let desk = QueryDesk::new(ports);
    let querier = Querier::new(desk.clone()).start();
    Asking {
        _dir: dir,
        gate,
        querier,
        desk,
        pool,
    }
}

fn count() -> Evaluate {
    Evaluate {
        text: "count_over_time(x[10s])".to_owned(),
        when: When::Instant(4_500),
        options: QueryOptions::default(),
    }
}

#[actix::test]
async fn a_query_reads_what_was_committed_and_gives_its_place_back() {
    let Asking {
        _dir,
        gate,
        querier,
        desk,
        ..
    } = asking(Duration::from_secs(60));
    let output = desk.evaluate(count()).await.unwrap();
    let QueryValue::Vector(vector) = output.value else {
        panic!("{:?}", output.value);
    };
    assert_eq!(vector.len(), 1);
    assert_eq!(gate.n_used(), 0);
    let state = querier
        .send(Observe::<QuerierState>::default())
        .await
        .unwrap();
    assert_eq!((state.n_asked, state.n_running, state.n_refused), (1, 0, 0));
}

#[actix::test]
async fn a_turn_that_does_not_come_is_a_timeout_and_a_full_queue_a_refusal() {
    tokio::time::pause();
    let Asking {
        _dir, gate, desk, ..
    } = asking(Duration::from_secs(60));
    let held = gate.try_admit(1).unwrap();
    let started = tokio::time::Instant::now();
    let (waited, refused) = tokio::join!(desk.evaluate(count()), desk.evaluate(count()));
    assert_eq!(waited.unwrap_err(), AskError::NoTurn);
    assert!(matches!(refused.unwrap_err(), AskError::Full(_)));
    assert_eq!(started.elapsed().as_secs(), 60);
    drop(held);
    assert_eq!(
        (gate.n_used(), gate.n_waiting(), gate.n_refused()),
        (0, 0, 1)
    );
}

/// Whether `text` is answered while the only thread of the pool is busy; it is answered afterwards at the latest.
async fn is_brief(text: &str) -> bool {
    let Asking {
        _dir, desk, pool, ..
    } = asking(Duration::from_secs(60));
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    pool.try_spawn(move || {
        released.recv().ok();
    })
    .unwrap();
    let mut answer = desk.evaluate(Evaluate {
        text: text.to_owned(),
        ..count()
    });
    let (is_brief, output) = match (&mut answer).now_or_never() {
        Some(output) => (true, output),
        None => {
            release.send(()).unwrap();
            (false, answer.await)
        }
    };
    assert_eq!(output.unwrap().stats.series, 1, "{text}");
    is_brief
}

#[actix::test]
async fn a_brief_query_is_computed_where_it_is_asked_and_any_other_in_the_pool() {
    assert!(is_brief("count_over_time(x[10s])").await);
    // How many series match is not known at once.
    assert!(!is_brief("count_over_time({__name__=~\"x.*\"}[10s])").await);
    // Every point of the subquery is looked at, and there are many.
    assert!(!is_brief("quantile_over_time(0.5, x[1h:100ms])").await);
    // What is planned from it may be nested deeply.
    assert!(!is_brief(&format!("x{}", " ".repeat(512))).await);
}
