//! Opens, binds and constructs, in the order in which things need each other.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::actors::querier::QuerierPorts;
use crate::actors::scrape_sidecar::ApplyConfig;
use crate::api::grpc::GrpcServer;
use crate::api::http::{HttpMetrics, HttpState, not_found, observe, routes};
use crate::appliance::error::StartError;
use crate::appliance::exports::{Exported, export, export_process};
use crate::appliance::ports::{Opened, Ports};
use crate::appliance::reload::{read, tuned};
use crate::appliance::replay::replay;
use crate::appliance::settings::Settings;
use crate::appliance::spawn::{Actors, Parts, spawn};
use crate::appliance::status::Status;
use crate::bucket::{self, Bucket, MeteredBucket};
use crate::catalog::Catalog;
use crate::compactor::{Compactor, CompactorSettings};
use crate::config::HeadTuning;
use crate::config::appliance::GatewayKeys;
use crate::foundation::SystemClock;
use crate::foundation::permit::Gate;
use crate::foundation::pool::Pool;
use crate::gateway::{Gateway, GatewaySettings};
use crate::model::{BlockId, ExternalLabels};
use crate::promql::Engine;
use crate::scrape::{self, ScrapeManager};
use crate::shipper::{
    LogCounters, LogShipper, LogShipperSettings, ShipCounters, Shipper, ShipperSettings,
    default_external_labels,
};
use crate::tsdb::{Opening, Tsdb};

/// Jobs that may wait in a pool's queue; gates in front keep far fewer.
const POOL_QUEUE_MAX: usize = 4096;
/// Metas read from the bucket at once, as in Thanos.
const META_FETCHES: usize = 32;
/// The four duties of the compactor share one listing of the bucket.
const SURVEY_AGE_MS_MAX: i64 = 10 * 60_000;
/// How long actix waits for answers that are under way; the stage's deadline is shorter.
const HTTP_STOP_S: u64 = 60;

/// Everything that runs.
pub(crate) struct Built {
    pub(crate) ports: Arc<Ports>,
    pub(crate) http: ServerHandle,
    pub(crate) http_address: SocketAddr,
    pub(crate) grpc: GrpcServer,
    pub(crate) actors: Actors,
    pub(crate) query: Pool,
    pub(crate) bulk: Pool,
    pub(crate) tsdb: Tsdb,
    pub(crate) catalog: Catalog,
    /// The end of the replay, or why there is none.
    pub(crate) replaying: Option<oneshot::Receiver<Result<(), StartError>>>,
    scrapes: String,
    fatal: mpsc::Receiver<&'static str>,
    /// Kept, so that the receiver waits rather than ends when no watcher is left.
    _fatal_sender: mpsc::Sender<&'static str>,
}

impl Built {
    /// The name of an actor whose end is everybody's, once there is one.
    pub(crate) async fn fatal(&mut self) -> &'static str {
        match self.fatal.recv().await {
            Some(actor) => actor,
            // All watchers are gone only when the arbiter is: nothing more will be told.
            None => std::future::pending().await,
        }
    }

    /// Where everything is, for whoever started the process.
    pub(crate) fn announcement(&self) -> String {
        let settings = &self.ports.settings;
        format!(
            "gauntlet {} is ready\n  HTTP     http://{}  (API and landing page)\n  gRPC     {}  (StoreAPI, Info, health, reflection)\n  \
             data     {}  (a Prometheus data directory)\n  bucket   {}\n  scrapes  {}\n",
            env!("CARGO_PKG_VERSION"),
            self.http_address,
            self.grpc.address(),
            settings.data_dir.display(),
            bucket_text(settings),
            self.scrapes,
        )
    }
}

/// Binds the sockets, opens the database, starts the actors.
pub(crate) async fn build(settings: Settings) -> Result<Built, StartError> {
    let query = Pool::new("query", settings.query_threads, POOL_QUEUE_MAX);
    let query = query.map_err(StartError::Threads)?;
    let bulk = Pool::with_low_priority("bulk", settings.bulk_threads, POOL_QUEUE_MAX);
    let bulk = bulk.map_err(StartError::Threads)?;
    // Bound before anything is opened: a second start on the same ports ends here and touches no data.
    let address = settings.http;
    let refused = |source| StartError::Http { address, source };
    let listener = TcpListener::bind(address).map_err(refused)?;
    let http_address = listener.local_addr().map_err(refused)?;
    let ports = Arc::new(Ports::new(settings, Arc::new(SystemClock)));
    let grpc = ports.settings.grpc.clone();
    let grpc = GrpcServer::start(grpc, Arc::clone(&ports) as _, query.clone()).await?;
    let http = serve_http(&ports, listener, &query).map_err(refused)?;
    export_process(&ports);
    say_where(http_address, grpc.address());
    let (scraped, tuning) = scrape_settings(&ports, http_address).await?;
    let (tsdb, opening) = open_database(&ports, tuning).await?;
    let (fatal_sender, fatal) = mpsc::channel(8);
    let (parts, constructed) = construct(&ports, &tsdb, (&query, &bulk), &scraped)?;
    let actors = spawn(&ports.settings, parts, &fatal_sender);
    let scrapes = describe(ports.settings.scrape_config.as_deref(), &scraped);
    let apply = ApplyConfig(Arc::new(scraped));
    actors.scrape_sidecar.send(apply).await.ok();
    let catalog = constructed.catalog.clone();
    open_rim(&ports, &tsdb, (&query, &bulk), (constructed, &actors));
    let replaying = Some(begin_replay(&ports, opening));
    Ok(Built {
        ports,
        http,
        http_address,
        grpc,
        actors,
        query,
        bulk,
        tsdb,
        catalog,
        replaying,
        scrapes,
        fatal,
        _fatal_sender: fatal_sender,
    })
}

/// The sockets are open, though nothing but health is answered yet.
fn say_where(http: SocketAddr, grpc: SocketAddr) {
    tracing::info!(%http, %grpc, "listening");
    for address in [http, grpc] {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "other machines reach this address and nothing asks for credentials");
        }
    }
}

/// From here on requests are answered.
fn open_rim(
    ports: &Arc<Ports>,
    tsdb: &Tsdb,
    (query, bulk): (&Pool, &Pool),
    (constructed, actors): (Constructed, &Actors),
) {
    let opened = Opened {
        external: constructed.external,
        tsdb: tsdb.clone(),
        appendable: ports.appendable(tsdb),
        gateway: constructed.gateway,
        scrape: constructed.scrape,
        compactor: constructed.compactor.clone(),
        actors: actors.clone(),
    };
    let exported = Exported {
        query: query.clone(),
        bulk: bulk.clone(),
        gate: constructed.gate,
        memory: ports.settings.engine.memory.clone(),
        writes: ports.writes.clone(),
        bucket: constructed.bucket,
        prices: ports.settings.prices,
        compactor: constructed.compactor,
        shipped: constructed.shipped,
        log_shipped: constructed.log_shipped,
    };
    export(&ports.metrics, &opened, actors, exported);
    ports.opened.set(opened).ok();
}

/// The rest of the log, beside everything else.
fn begin_replay(
    ports: &Arc<Ports>,
    opening: Option<Opening>,
) -> oneshot::Receiver<Result<(), StartError>> {
    let (sender, replayed) = oneshot::channel();
    let ports = Arc::clone(ports);
    actix::spawn(async move {
        let result = match opening {
            Some(opening) => replay(ports, opening).await,
            None => Ok(()),
        };
        // Whoever stops meanwhile does not wait for it.
        sender.send(result).ok();
    });
    replayed
}

/// What construction yields beside the actors' parts.
struct Constructed {
    external: crate::model::Labels,
    gateway: Arc<Gateway>,
    scrape: Arc<ScrapeManager>,
    bucket: Arc<MeteredBucket>,
    catalog: Catalog,
    gate: Gate,
    compactor: Compactor,
    shipped: Arc<ShipCounters>,
    log_shipped: Arc<LogCounters>,
}

fn construct(
    ports: &Arc<Ports>,
    tsdb: &Tsdb,
    (query, bulk): (&Pool, &Pool),
    scraped: &scrape::Settings,
) -> Result<(Parts, Constructed), StartError> {
    let settings = &ports.settings;
    let clock = Arc::clone(&ports.clock);
    let external = external_labels(settings, scraped);
    let opened = bucket::open(&settings.bucket).map_err(StartError::Bucket)?;
    let bucket = Arc::new(MeteredBucket::new(opened));
    let catalog = Catalog::open(&settings.data_dir.join("catalog"));
    let runtime = tokio::runtime::Handle::current();
    let shared: Arc<dyn Bucket> = Arc::clone(&bucket) as _;
    let gateway = open_gateway(ports, &shared, &catalog, external.clone())?;
    // What the catalog remembers is served from the first query on.
    tsdb.set_bucket(gateway.snapshot());
    let shippers = open_shippers(ports, &shared, &catalog, &external)?;
    let compactor = open_compactor(ports, &gateway)?;
    let scrape = Arc::new(ScrapeManager::new(
        ports.appendable(tsdb),
        Arc::clone(&clock),
        runtime,
        rand::random(),
    ));
    let gate = Gate::new(
        "queries",
        settings.queries_max,
        settings.queries_waiting_max,
    );
    let querier = QuerierPorts {
        tsdb: tsdb.clone(),
        gateway: Arc::clone(&gateway),
        engine: Engine::new(settings.engine.clone(), Some(query.clone())),
        pool: query.clone(),
        gate: gate.clone(),
        timeout: settings.query_timeout,
    };
    let parts = Parts {
        clock,
        tsdb: tsdb.clone(),
        bulk: bulk.clone(),
        querier,
        gateway: Arc::clone(&gateway),
        shipper: shippers.own,
        foreign: shippers.foreign,
        log_shipper: shippers.log,
        compactor: compactor.clone(),
        scrape: Arc::clone(&scrape),
    };
    Ok((
        parts,
        Constructed {
            external: external.0,
            gateway,
            scrape,
            bucket,
            catalog,
            gate,
            compactor,
            shipped: shippers.counters,
            log_shipped: shippers.log_counters,
        },
    ))
}

/// What keeps the bucket in order, with threads of its own: a compaction may take hours, and cutting does not wait for it.
fn open_compactor(ports: &Ports, gateway: &Gateway) -> Result<Compactor, StartError> {
    let keys = ports.settings.compactor.clone();
    let directory = ports.settings.data_dir.join("compact");
    let settings = CompactorSettings {
        replica_labels: keys.replica_labels,
        deduplication: keys.deduplication,
        retention: keys.retention,
        downsamples: keys.downsamples,
        delete_delay_ms: millis(keys.delete_delay),
        consistency_delay_ms: millis(keys.consistency_delay),
        concurrency: keys.concurrency,
        survey_age_ms_max: SURVEY_AGE_MS_MAX,
        ..CompactorSettings::new(directory)
    };
    // Compactions, blocks that are downsampled, and one that is read through.
    let pool = Pool::with_low_priority("compactor", 2 * keys.concurrency + 1, POOL_QUEUE_MAX);
    let pool = pool.map_err(StartError::Threads)?;
    let runtime = tokio::runtime::Handle::current();
    let clock = Arc::clone(&ports.clock);
    let inventory = Arc::clone(gateway.inventory());
    Ok(Compactor::new(settings, inventory, clock, (runtime, pool)))
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What takes blocks and the log to the bucket.
struct Shippers {
    own: Arc<Mutex<Shipper>>,
    foreign: Option<Arc<Mutex<Shipper>>>,
    log: Arc<LogShipper>,
    counters: Arc<ShipCounters>,
    log_counters: Arc<LogCounters>,
}

fn open_shippers(
    ports: &Ports,
    bucket: &Arc<dyn Bucket>,
    catalog: &Catalog,
    external: &ExternalLabels,
) -> Result<Shippers, StartError> {
    let (settings, clock) = (&ports.settings, &ports.clock);
    let counters = Arc::<ShipCounters>::default();
    let log_counters = Arc::<LogCounters>::default();
    let shipper = |directory: &std::path::Path, external: &ExternalLabels, is_foreign: bool| {
        let settings = ShipperSettings {
            directory: directory.to_owned(),
            external: external.clone(),
            source: "sidecar".to_owned(),
            upload_compacted: settings.ships_compacted,
            is_foreign,
            counters: Arc::clone(&counters),
        };
        let clock = Arc::clone(clock);
        let shipper = Shipper::new(settings, Arc::clone(bucket), catalog.clone(), clock);
        Arc::new(Mutex::new(shipper))
    };
    let foreign = match &settings.attached {
        Some((_, labels)) if labels == external => return Err(StartError::SameLabels),
        Some((directory, labels)) => Some(shipper(directory, labels, true)),
        None => None,
    };
    let now_ms = u64::try_from(clock.now_ms()).unwrap_or(0);
    let log = LogShipperSettings {
        directory: settings.data_dir.clone(),
        external: external.0.clone(),
        new_instance: BlockId::from_parts(now_ms, rand::random()),
        abandoned_after_ms: settings.log_abandoned_after.map(millis),
        counters: Arc::clone(&log_counters),
    };
    let log = LogShipper::new(log, Arc::clone(bucket), Arc::clone(clock));
    Ok(Shippers {
        own: shipper(&settings.data_dir, external, false),
        foreign,
        log,
        counters,
        log_counters,
    })
}

fn open_gateway(
    ports: &Ports,
    bucket: &Arc<dyn Bucket>,
    catalog: &Catalog,
    external: ExternalLabels,
) -> Result<Arc<Gateway>, StartError> {
    // No `..`: a key added there does not compile until it means something here.
    let GatewayKeys {
        memory_max,
        disk_max,
        idle_timeout,
        requests_max,
        limits,
        partition,
        mark_delay,
    } = ports.settings.gateway.clone();
    let settings = GatewaySettings {
        external,
        mark_delay_ms: i64::try_from(mark_delay.as_millis()).unwrap_or(i64::MAX),
        fetch_concurrency: META_FETCHES,
        cache_directory: ports.settings.data_dir.join("cache"),
        cache_bytes_max: disk_max,
        memory_bytes_max: memory_max,
        requests_max,
        idle_timeout,
        limits,
        partition,
        list_requests_per_hour_max: ports.settings.list_requests_per_hour_max,
    };
    let gateway = Gateway::new(
        settings,
        Arc::clone(bucket),
        catalog.clone(),
        Arc::clone(&ports.clock),
        tokio::runtime::Handle::current(),
    );
    Ok(Arc::new(gateway.map_err(StartError::Threads)?))
}

/// Those of the settings, else those of the scrape configuration, else the name of this machine.
fn external_labels(settings: &Settings, scraped: &scrape::Settings) -> ExternalLabels {
    let given = [&settings.external, &scraped.external_labels];
    match given.into_iter().find(|labels| !labels.0.is_empty()) {
        Some(labels) => labels.clone(),
        None => default_external_labels(),
    }
}

async fn scrape_settings(
    ports: &Arc<Ports>,
    own: SocketAddr,
) -> Result<(scrape::Settings, HeadTuning), StartError> {
    let tuning = ports.settings.tuning;
    let Some(path) = &ports.settings.scrape_config else {
        let mut settings = scrape::default_settings(&own.to_string());
        settings.set_start_times(ports.settings.start_times);
        return Ok((settings, tuning));
    };
    let mut loaded = read(path).await?;
    loaded.settings.set_start_times(ports.settings.start_times);
    ports.config_text.store(Arc::new(loaded.text));
    ports
        .last_config_ms
        .store(ports.clock.now_ms(), Ordering::SeqCst);
    Ok((loaded.settings, tuned(tuning, &loaded.tuning)))
}

/// Opens the database on a thread that may wait for the disk, but for what its log holds; the rim answers meanwhile that
/// it is not ready.
async fn open_database(
    ports: &Arc<Ports>,
    tuning: HeadTuning,
) -> Result<(Tsdb, Option<Opening>), StartError> {
    let shared = Arc::clone(ports);
    let opened = tokio::task::spawn_blocking(move || {
        let settings = &shared.settings;
        let mut tsdb = settings.tsdb;
        tsdb.head = tuning.in_settings(tsdb.head);
        Tsdb::open_at_once(
            &settings.data_dir,
            tsdb,
            Arc::clone(&shared.clock),
            &shared.replay,
        )
    });
    let opened = opened
        .await
        .map_err(|panic| StartError::Threads(std::io::Error::other(panic)))?;
    let (tsdb, opening) = opened.map_err(|source| ports.cannot_open(source))?;
    for bad in tsdb.quarantined() {
        tracing::warn!(path = %bad.path.display(), reason = bad.reason, "set aside in quarantine");
    }
    if opening.is_some() {
        tracing::info!(
            "the log is to be replayed; samples are taken meanwhile, and queries say what is missing"
        );
    }
    Ok((tsdb, opening))
}

fn serve_http(
    ports: &Arc<Ports>,
    listener: TcpListener,
    query: &Pool,
) -> std::io::Result<ServerHandle> {
    let status = Arc::new(Status(Arc::clone(ports)));
    let state = web::Data::new(HttpState {
        clock: Arc::clone(&ports.clock),
        settings: ports.settings.http_settings.clone(),
        query: Arc::clone(ports) as _,
        write: Arc::clone(ports) as _,
        targets: Arc::clone(&status) as _,
        admin: Arc::clone(ports) as _,
        helpers: Some(query.clone()),
        status,
    });
    let workers = ports.settings.http_workers;
    let counted = web::Data::new(HttpMetrics::new(&ports.metrics));
    let ports = web::Data::from(Arc::clone(ports));
    let server = HttpServer::new(move || {
        let app = App::new()
            .app_data(web::Data::clone(&state))
            .app_data(web::Data::clone(&ports))
            .app_data(web::Data::clone(&counted))
            .wrap(from_fn(observe));
        #[cfg(debug_assertions)]
        let app = app.configure(crate::appliance::panics::routes);
        app.configure(routes).default_service(web::to(not_found))
    })
    .workers(workers)
    .disable_signals()
    // The end of an answer does not wait for its beginning to be acknowledged.
    .tcp_nodelay(true)
    .shutdown_timeout(HTTP_STOP_S)
    .h1_allow_half_closed(false)
    .listen(listener)?
    .run();
    let handle = server.handle();
    actix::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the HTTP server ended"
            );
        }
    });
    Ok(handle)
}

fn describe(file: Option<&std::path::Path>, scraped: &scrape::Settings) -> String {
    let Some(file) = file else {
        return "itself, and a node exporter on localhost:9100 while one answers".to_owned();
    };
    let names: Vec<&str> = scraped
        .jobs
        .iter()
        .map(|job| job.job_name.as_str())
        .collect();
    match names.as_slice() {
        [] => format!("nothing: {} has no scrape_configs", file.display()),
        names => format!(
            "{} job(s) of {}: {}",
            names.len(),
            file.display(),
            names.join(", ")
        ),
    }
}

fn bucket_text(settings: &Settings) -> String {
    match &settings.bucket.kind {
        bucket::BucketKind::Filesystem { directory } => directory.display().to_string(),
        bucket::BucketKind::S3(_) | bucket::BucketKind::Gcs(_) | bucket::BucketKind::Azure(_) => {
            settings.bucket.name()
        }
    }
}
