//! A bucket that panics, and a log shipper that does: passes and upkeep go on, and what was acknowledged is in the bucket.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::actors::Observe;
use crate::actors::duty::{DutyReport, DutyState};
use crate::actors::log_shipper::{LogShipperActor, LogShipperPorts, LogShipperState};
use crate::actors::testing::{append, database_in_memory, listener};
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::{Bucket, StoreBucket};
use crate::catalog::Catalog;
use crate::foundation::keeper::{Budget, Kept, keep};
use crate::model::{BlockId, Labels};
use crate::shipper::{
    LogShipper, LogShipperSettings, RestorePlan, Shipper, ShipperSettings, plan_restore, restore,
};
use crate::tsdb::Tsdb;

const EVERY: Duration = Duration::from_secs(10);
/// Some passes, and the upkeep beside them.
const A_WHILE: Duration = Duration::from_secs(20);

fn instance(n: u128) -> BlockId {
    BlockId::from_parts(1_700_000_000_000, n)
}

/// A database whose blocks are shipped when a test says so, and whose log is shipped every ten seconds of virtual time.
struct Host {
    _dir: tempfile::TempDir,
    tsdb: Tsdb,
    /// What the bucket has whatever fails.
    inner: Arc<dyn Bucket>,
    faulty: Arc<FaultyBucket>,
    blocks: Shipper,
    /// Where the blocks end that are in the bucket.
    in_bucket_ms: i64,
    log: Kept<LogShipperActor>,
    duties: Arc<Mutex<Vec<DutyReport>>>,
    /// There is a sample at every second before this one.
    next_s: i64,
}

impl Host {
    fn start() -> Self {
        let (dir, tsdb, clock) = database_in_memory();
        let inner: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
        let faulty = Arc::new(FaultyBucket::new(Arc::clone(&inner)));
        let external = Labels::new(&[("cluster", "c1")]).unwrap();
        let settings = ShipperSettings {
            directory: dir.path().to_owned(),
            external: crate::model::ExternalLabels(external.clone()),
            source: "sidecar".to_owned(),
            upload_compacted: false,
            is_foreign: false,
            counters: Arc::default(),
        };
        let catalog = Catalog::absent("a test".to_owned());
        let blocks = Shipper::new(settings, Arc::clone(&inner), catalog, Arc::clone(&clock));
        let settings = LogShipperSettings {
            directory: dir.path().to_owned(),
            external,
            new_instance: instance(1),
            abandoned_after_ms: None,
            counters: Arc::default(),
        };
        let (steward, duties) = listener::<DutyReport>();
        let ports = LogShipperPorts {
            shipper: LogShipper::new(settings, Arc::clone(&faulty) as _, clock),
            tsdb: tsdb.clone(),
            steward,
        };
        let actor = LogShipperActor::new(Some(EVERY), ports);
        Self {
            _dir: dir,
            tsdb,
            inner,
            faulty,
            blocks,
            in_bucket_ms: 0,
            log: keep("log shipper", Budget::new(3), actor),
            duties,
            next_s: 0,
        }
    }

    fn append(&mut self, n: i64) {
        append(&self.tsdb, self.next_s, self.next_s + n);
        self.next_s += n;
    }

    /// Cuts what is due, and ships it.
    async fn cut(&mut self) {
        while self.tsdb.cut().unwrap().is_some() {}
        let report = self.blocks.sync().await;
        assert!(report.failed.is_none(), "{:?}", report.failed);
        self.in_bucket_ms = self.tsdb.blocks_end().unwrap_or(0);
    }

    /// Samples, blocks and checkpoints, with passes and upkeep in between.
    async fn live(&mut self) {
        for step in 0..10 {
            self.append(6);
            tokio::time::sleep(A_WHILE).await;
            if step % 2 == 1 {
                self.cut().await;
                tokio::time::sleep(A_WHILE).await;
            }
        }
    }

    async fn state(&self) -> LogShipperState {
        let asked = Observe::<LogShipperState>::default();
        self.log.address.send(asked).await.unwrap()
    }

    /// Everything that was acknowledged and is in no block of the bucket comes back, once.
    async fn check(&self) -> RestorePlan {
        let plan = plan_restore(&*self.inner, instance(1)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let target = (dir.path(), instance(2));
        let log = restore(&*self.inner, &plan, target, &mut |_| ()).await;
        let report = log.unwrap().publish().unwrap();
        assert_eq!(report.missing, [""; 0]);
        let (first, last) = report.span.unwrap();
        assert!(first <= self.in_bucket_ms, "{first} {}", self.in_bucket_ms);
        assert_eq!(last, (self.next_s - 1) * 1000);
        assert_eq!(
            i64::try_from(report.n_samples),
            Ok((last - first) / 1000 + 1)
        );
        assert!(plan.floor_ms.is_none_or(|floor| floor <= self.in_bucket_ms));
        plan
    }

    /// As if nothing had happened: nothing is under way for long, and the log begins where the blocks end.
    async fn check_goes_on(&mut self) {
        self.faulty.heal();
        self.append(12);
        self.cut().await;
        let before = self.state().await.n_passes;
        tokio::time::sleep(2 * A_WHILE).await;
        let state = self.state().await;
        assert!(before + 2 < state.n_passes, "{state:?}");
        assert_eq!((state.last_error, state.disorder), (None, None));
        assert!(!state.is_keeping);
        let plan = self.check().await;
        assert_eq!(plan.floor_ms, Some(self.in_bucket_ms));
    }

    /// Panics that were told of: in passes, and in upkeep.
    fn told_of(&self) -> (usize, usize) {
        let duties = self.duties.lock();
        let panics = duties.iter().filter_map(|duty| match &duty.state {
            DutyState::Blocked { reason, .. } if reason.contains("panicked") => Some(reason),
            DutyState::Ok | DutyState::Behind { .. } | DutyState::Blocked { .. } => None,
        });
        let (passes, upkeep): (Vec<_>, Vec<_>) =
            panics.partition(|reason| reason.contains("on this host only"));
        (passes.len(), upkeep.len())
    }
}

#[actix::test]
async fn whichever_operation_of_the_bucket_panics_passes_and_upkeep_go_on_and_nothing_is_missing() {
    tokio::time::pause();
    let (mut n_passes, mut n_upkeep) = (0, 0);
    for number in 0.. {
        // Once, and now and then until the end.
        let lasts = if number % 16 == 0 { u64::MAX } else { 1 };
        let mut host = Host::start();
        host.faulty
            .fail(number..number.saturating_add(lasts), Fault::Panic);
        host.live().await;
        let is_over = host.faulty.n_operations() <= number;
        if lasts == 1 && !is_over {
            host.check().await;
        }
        host.check_goes_on().await;
        assert_eq!(host.log.record.n_panics(), 0, "it is told, and goes on");
        let (passes, upkeep) = host.told_of();
        assert!(is_over || 0 < passes + upkeep, "operation {number}");
        n_passes += passes;
        n_upkeep += upkeep;
        if is_over {
            break;
        }
    }
    assert!(10 < n_passes && 10 < n_upkeep, "{n_passes} {n_upkeep}");
}

#[cfg(debug_assertions)]
#[actix::test]
async fn a_log_shipper_that_panics_goes_on_beside_the_passes_and_the_upkeep_of_its_life_before() {
    const LATE: Duration = Duration::from_secs(60);
    tokio::time::pause();
    let mut host = Host::start();
    host.live().await;
    // A block and a checkpoint more, and every answer comes late.
    host.faulty.fail(0..u64::MAX, Fault::Late(LATE));
    host.append(12);
    host.cut().await;
    let is_busy = |state: &LogShipperState| state.is_keeping && 3 < state.n_under_way;
    for _ in 0..600 {
        if is_busy(&host.state().await) {
            break;
        }
        host.append(1);
        tokio::time::sleep(EVERY).await;
    }
    let state = host.state().await;
    assert!(is_busy(&state), "{state:?}");
    let panic = host.log.address.send(crate::actors::PanicNow).await;
    assert_eq!(panic, Err(actix::MailboxError::Closed));
    // What was under way arrives, though nobody of this life has sent it.
    host.faulty.heal();
    tokio::time::sleep(3 * LATE).await;
    host.check().await;
    host.live().await;
    host.check().await;
    host.check_goes_on().await;
    let record = &host.log.record;
    assert_eq!((record.n_panics(), record.n_restarts()), (1, 1));
}
