//! An appliance without data: queries are parsed and find nothing, nothing is scraped.

use std::net::TcpListener;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::pending;
use gauntlet::actors::duty::Duty;
use gauntlet::api::http::{
    AdminPort, Answer, ApiError, BlockMark, BlocksView, BuildInfo, ExplainQuery, HttpSettings,
    HttpState, InstantQuery, LabelRequest, QueryPort, RangeQuery, Readiness, RuntimeInfo,
    SeriesAnswer, StatusPort, TargetMetadata, TargetsPort, TargetsView, TsdbStatus, WalReplay,
    WriteFailure, WritePort, WriteRequest, serve,
};
use gauntlet::compactor::DutyProgress;
use gauntlet::foundation::pool::Pool;
use gauntlet::foundation::{Cancel, SystemClock};
use gauntlet::model::{
    Counts, Exemplar, Histogram, Interval, Labels, LabelsError, Matcher, Metadata, SampleTime,
    SeriesKey,
};
use gauntlet::promql::explain::Operator;
use gauntlet::promql::testing::MemoryStore;
use gauntlet::promql::{Engine, EngineSettings, QueryOptions, QueryOutput};
use gauntlet::remote::{WriteLimits, WriteReport, append_write_request};
use gauntlet::storage::{
    AppendError, Appendable, Appender, LabelAnswer, SeriesExemplars, SeriesRef,
};
use parking_lot::Mutex;

/// Holds nothing and takes everything.
#[derive(Clone, Default)]
pub(crate) struct Empty {
    /// The flag of the query that was asked for last.
    pub(crate) last_cancel: Arc<Mutex<Option<Cancel>>>,
}

/// Serves until the test's runtime ends; tells the port.
pub(crate) fn start(empty: &Empty) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = HttpState {
        clock: Arc::new(SystemClock),
        settings: HttpSettings::default(),
        query: Arc::new(empty.clone()),
        write: Arc::new(empty.clone()),
        targets: Arc::new(empty.clone()),
        admin: Arc::new(empty.clone()),
        helpers: None,
        status: Arc::new(empty.clone()),
    };
    actix_web::rt::spawn(serve(state, listener, 2).unwrap());
    port
}

/// Where queries find nothing.
fn nothing() -> Arc<MemoryStore> {
    Arc::default()
}

fn engine() -> Engine {
    Engine::new(EngineSettings::default(), None::<Pool>)
}

impl QueryPort for Empty {
    fn instant(&self, query: InstantQuery) -> Answer<Result<QueryOutput, ApiError>> {
        *self.last_cancel.lock() = Some(query.params.cancel.clone());
        async move {
            if query.text == "forever" {
                pending::<()>().await;
            }
            let options = QueryOptions::default();
            Ok(engine().instant(nothing(), &query.text, query.t, &options)?)
        }
        .boxed()
    }

    fn range(&self, query: RangeQuery) -> Answer<Result<QueryOutput, ApiError>> {
        async move {
            let options = QueryOptions::default();
            let RangeQuery {
                text,
                start,
                end,
                step_ms,
                ..
            } = query;
            Ok(engine().range(nothing(), &text, start, end, step_ms, &options)?)
        }
        .boxed()
    }

    fn explain(&self, query: ExplainQuery) -> Answer<Result<Operator, ApiError>> {
        async move {
            let (text, times) = match query {
                ExplainQuery::Instant(query) => (query.text, (query.t, query.t, 0)),
                ExplainQuery::Range(query) => (query.text, (query.start, query.end, query.step_ms)),
            };
            let options = QueryOptions::default();
            Ok(engine().explain(&*nothing(), &text, times, &options)?)
        }
        .boxed()
    }

    fn series(&self, _request: LabelRequest) -> Answer<Result<SeriesAnswer, ApiError>> {
        async { Ok(SeriesAnswer::default()) }.boxed()
    }

    fn label_names(&self, _request: LabelRequest) -> Answer<Result<LabelAnswer, ApiError>> {
        async { Ok(LabelAnswer::default()) }.boxed()
    }

    fn label_values(
        &self,
        _name: String,
        _request: LabelRequest,
    ) -> Answer<Result<LabelAnswer, ApiError>> {
        async { Ok(LabelAnswer::default()) }.boxed()
    }

    fn exemplars(
        &self,
        _matcher_sets: Vec<Vec<Matcher>>,
        _interval: Interval,
    ) -> Answer<Result<Vec<SeriesExemplars>, ApiError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

impl Appendable for Empty {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(Nowhere)
    }
}

struct Nowhere;

impl Appender for Nowhere {
    fn series(
        &mut self,
        _key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        labels()?;
        Ok(SeriesRef(1))
    }

    fn append_at(
        &mut self,
        _series: SeriesRef,
        _at: SampleTime,
        _v: f64,
    ) -> Result<(), AppendError> {
        Ok(())
    }

    fn append_histogram(
        &mut self,
        _series: SeriesRef,
        _at: SampleTime,
        _counts: Counts,
        _histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        Ok(())
    }

    fn discard_out_of_order(&mut self, _discards: bool) {}

    fn exemplar(&mut self, _series: SeriesRef, _exemplar: &Exemplar) -> Result<(), AppendError> {
        Ok(())
    }

    fn metadata(&mut self, _series: SeriesRef, _metadata: &Metadata) -> Result<(), AppendError> {
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

/// Nothing is there to delete or to copy.
impl AdminPort for Empty {
    fn delete_series(
        &self,
        _matcher_sets: Vec<Vec<Matcher>>,
        _interval: Interval,
    ) -> Answer<Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }

    fn clean_tombstones(&self) -> Answer<Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }

    fn snapshot(&self, _skip_head: bool) -> Answer<Result<String, ApiError>> {
        async { Ok("nothing".to_owned()) }.boxed()
    }

    fn mark_block(&self, _mark: BlockMark) -> Answer<Result<(), ApiError>> {
        async { Ok(()) }.boxed()
    }
}

impl WritePort for Empty {
    fn write(&self, request: WriteRequest) -> Answer<Result<WriteReport, WriteFailure>> {
        let limits = WriteLimits {
            decoded_bytes_max: request.decoded_bytes_max,
            now_ms: i64::MAX,
            ahead_ms_max: 0,
        };
        let written = append_write_request(
            (&request.body, request.version),
            limits,
            self,
            &mut Vec::new(),
        );
        async move { written.map_err(WriteFailure::Write) }.boxed()
    }
}

impl TargetsPort for Empty {
    fn targets(&self) -> Answer<TargetsView> {
        async { TargetsView::default() }.boxed()
    }

    fn metadata(&self) -> Answer<Vec<TargetMetadata>> {
        async { Vec::new() }.boxed()
    }
}

impl StatusPort for Empty {
    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    fn config_yaml(&self) -> String {
        String::new()
    }

    fn flags(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn runtime(&self) -> RuntimeInfo {
        RuntimeInfo::default()
    }

    fn build(&self) -> BuildInfo {
        BuildInfo::default()
    }

    fn tsdb(&self, _limit: usize) -> Answer<Result<TsdbStatus, ApiError>> {
        async { Ok(TsdbStatus::default()) }.boxed()
    }

    fn blocks(&self, _is_loaded: bool) -> Answer<Result<BlocksView, ApiError>> {
        async { Ok(BlocksView::default()) }.boxed()
    }

    fn duties(&self) -> Vec<(Duty, Option<DutyProgress>)> {
        Vec::new()
    }

    fn wal_replay(&self) -> WalReplay {
        WalReplay::default()
    }

    fn features(&self) -> Vec<(String, Vec<(String, bool)>)> {
        Vec::new()
    }

    fn metrics(&self, _: &str) -> (String, String) {
        (String::new(), "text/plain".to_owned())
    }

    fn reload(&self) -> Answer<Result<(), String>> {
        async { Ok(()) }.boxed()
    }
}
