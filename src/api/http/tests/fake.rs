//! Ports that answer from a script and remember what they were asked.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::pending;
use parking_lot::Mutex;

use crate::actors::duty::{Duty, DutyState};
use crate::api::http::{
    ActiveTarget, AdminPort, Answer, ApiError, BlockMark, BlocksView, BuildInfo, DroppedTarget,
    ErrorType, ExplainQuery, HttpSettings, HttpState, InstantQuery, LabelRequest, NamedCount,
    QueryPort, RangeQuery, Readiness, ReplayState, RuntimeInfo, SeriesAnswer, StatusPort,
    TargetHealth, TargetMetadata, TargetsPort, TargetsView, TsdbStatus, WalReplay, WriteFailure,
    WritePort, WriteRequest,
};
use crate::compactor::{self, DutyProgress, Work};
use crate::foundation::ManualClock;
use crate::model::{Exemplar, Interval, Labels, Matcher, Metadata, MetricType, Sample};
use crate::promql::explain::Operator;
use crate::promql::{
    Held, MatrixSeries, PointValue, QueryOutput, QueryStats, QueryValue, VectorSample,
};
use crate::remote::WriteReport;
use crate::storage::{LabelAnswer, SeriesExemplars};

/// What every port shares.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) instant: Mutex<Option<InstantQuery>>,
    pub(super) range: Mutex<Option<RangeQuery>>,
    pub(super) lookup: Mutex<Option<(String, LabelRequest)>>,
    pub(super) write: Mutex<Option<WriteRequest>>,
    pub(super) write_answer: Mutex<Option<Result<WriteReport, WriteFailure>>>,
    pub(super) admin: Mutex<Vec<String>>,
    pub(super) reload_error: Mutex<Option<String>>,
}

#[derive(Clone)]
pub(super) struct Fake {
    pub(super) memory: Arc<Memory>,
    pub(super) readiness: Readiness,
    pub(super) settings: HttpSettings,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            memory: Arc::default(),
            readiness: Readiness::Ready,
            settings: HttpSettings::default(),
        }
    }
}

impl Fake {
    pub(super) fn state(&self) -> HttpState {
        HttpState {
            clock: Arc::new(ManualClock::new(1_500)),
            settings: self.settings.clone(),
            query: Arc::new(self.clone()),
            write: Arc::new(self.clone()),
            targets: Arc::new(self.clone()),
            admin: Arc::new(self.clone()),
            helpers: None,
            status: Arc::new(self.clone()),
        }
    }
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).unwrap()
}

fn output(value: QueryValue) -> QueryOutput {
    QueryOutput {
        value,
        warnings: Vec::new(),
        infos: Vec::new(),
        stats: QueryStats::default(),
        analysis: None,
        held: Held::default(),
    }
}

fn sample(name: &str, v: f64) -> VectorSample {
    VectorSample {
        labels: labels(&[("__name__", name), ("job", "<a>")]),
        t: 1_500,
        value: PointValue::Float(v),
    }
}

/// The answer is named by the query.
fn scripted(text: &str) -> Result<QueryOutput, ApiError> {
    let vector = QueryValue::Vector(vec![sample("a", 1.0), sample("b", 0.5)]);
    let refused = |error_type| Err(ApiError::new(error_type, format!("as {text} as asked")));
    match text {
        "bad" => refused(ErrorType::BadData),
        "execution" => refused(ErrorType::Execution),
        "timeout" => refused(ErrorType::Timeout),
        "canceled" => refused(ErrorType::Canceled),
        "internal" => refused(ErrorType::Internal),
        "unavailable" => refused(ErrorType::Unavailable),
        "panic" => panic!("as asked"),
        "scalar" => Ok(output(QueryValue::Scalar { t: 1_500, v: 2.0 })),
        "remarks" => Ok(QueryOutput {
            warnings: (0..12).map(|n| format!("w{n:02}")).collect(),
            infos: vec!["i<".to_owned()],
            ..output(vector)
        }),
        _ => Ok(output(vector)),
    }
}

impl AdminPort for Fake {
    fn delete_series(
        &self,
        matcher_sets: Vec<Vec<Matcher>>,
        interval: Interval,
    ) -> Answer<Result<(), ApiError>> {
        let text = format!("{matcher_sets:?} {} {}", interval.min, interval.max);
        self.memory.admin.lock().push(text);
        async { Ok(()) }.boxed()
    }

    fn clean_tombstones(&self) -> Answer<Result<(), ApiError>> {
        self.memory.admin.lock().push("clean".to_owned());
        async { Err(ApiError::new(ErrorType::Internal, "disk full")) }.boxed()
    }

    fn snapshot(&self, skip_head: bool) -> Answer<Result<String, ApiError>> {
        async move { Ok(format!("snap-{skip_head}")) }.boxed()
    }

    fn mark_block(&self, mark: BlockMark) -> Answer<Result<(), ApiError>> {
        self.memory.admin.lock().push(format!("{mark:?}"));
        async { Ok(()) }.boxed()
    }
}

impl QueryPort for Fake {
    fn instant(&self, query: InstantQuery) -> Answer<Result<QueryOutput, ApiError>> {
        let text = query.text.clone();
        *self.memory.instant.lock() = Some(query);
        async move {
            if text == "forever" {
                pending::<()>().await;
            }
            scripted(&text)
        }
        .boxed()
    }

    fn explain(&self, query: ExplainQuery) -> Answer<Result<Operator, ApiError>> {
        let (name, text) = match query {
            ExplainQuery::Instant(query) => ("instant", query.text),
            ExplainQuery::Range(query) => ("range", query.text),
        };
        let leaf = Operator {
            name: "select #0".to_owned(),
            selector: Some(text),
            estimated_series: Some(3),
            ..Operator::default()
        };
        let root = Operator {
            name: name.to_owned(),
            children: vec![leaf],
            ..Operator::default()
        };
        async move { Ok(root) }.boxed()
    }

    fn range(&self, query: RangeQuery) -> Answer<Result<QueryOutput, ApiError>> {
        let text = query.text.clone();
        *self.memory.range.lock() = Some(query);
        async move {
            let points = [(1_000, 1.0), (2_500, f64::NAN)].map(|(t, v)| Sample { t, v });
            let series = MatrixSeries {
                labels: labels(&[("job", "x")]),
                floats: points.to_vec(),
                histograms: Vec::new(),
            };
            scripted(&text)?;
            Ok(output(QueryValue::Matrix(vec![series])))
        }
        .boxed()
    }

    fn series(&self, request: LabelRequest) -> Answer<Result<SeriesAnswer, ApiError>> {
        *self.memory.lookup.lock() = Some((String::new(), request));
        async {
            Ok(SeriesAnswer {
                series: vec![labels(&[("__name__", "a")]), labels(&[("__name__", "b")])],
                warnings: Vec::new(),
            })
        }
        .boxed()
    }

    fn label_names(&self, request: LabelRequest) -> Answer<Result<LabelAnswer, ApiError>> {
        self.label_values(String::new(), request)
    }

    fn label_values(
        &self,
        name: String,
        request: LabelRequest,
    ) -> Answer<Result<LabelAnswer, ApiError>> {
        *self.memory.lookup.lock() = Some((name, request));
        async {
            Ok(LabelAnswer {
                values: vec!["<a>".to_owned(), "b".to_owned()],
                warnings: Vec::new(),
            })
        }
        .boxed()
    }

    fn exemplars(
        &self,
        matcher_sets: Vec<Vec<Matcher>>,
        interval: Interval,
    ) -> Answer<Result<Vec<SeriesExemplars>, ApiError>> {
        let names = matcher_sets.iter().flatten().map(|matcher| &*matcher.value);
        let labels = Labels::new(&[
            ("__name__", "<up>"),
            ("asked", names.collect::<Vec<_>>().join(" ").as_str()),
        ]);
        let exemplar = |t, v, pairs: &[(&str, &str)]| Exemplar {
            labels: Labels::new(pairs).unwrap(),
            v,
            t,
            has_own_time: true,
        };
        let found = SeriesExemplars {
            labels: labels.unwrap(),
            exemplars: vec![
                exemplar(interval.min, 0.5, &[("trace_id", "\"x")]),
                exemplar(interval.max, f64::INFINITY, &[]),
            ],
        };
        async move { Ok(vec![found]) }.boxed()
    }
}

impl WritePort for Fake {
    fn write(&self, request: WriteRequest) -> Answer<Result<WriteReport, WriteFailure>> {
        *self.memory.write.lock() = Some(request);
        let answer = self.memory.write_answer.lock().take();
        async move { answer.unwrap_or_else(|| panic!("as asked")) }.boxed()
    }
}

impl TargetsPort for Fake {
    fn targets(&self) -> Answer<TargetsView> {
        let active = ActiveTarget {
            discovered_labels: labels(&[("__address__", "h:1")]),
            labels: labels(&[("instance", "h:1")]),
            scrape_pool: "node".to_owned(),
            scrape_url: "http://h:1/metrics".to_owned(),
            global_url: "http://h:1/metrics".to_owned(),
            last_error: "it's <down>".to_owned(),
            last_scrape_ms: Some(1_500),
            last_scrape_duration_seconds: 0.25,
            health: TargetHealth::Down,
            scrape_interval: "15s".to_owned(),
            scrape_timeout: "10s".to_owned(),
        };
        let dropped = DroppedTarget {
            discovered_labels: labels(&[("__address__", "h:2")]),
            scrape_pool: "gone".to_owned(),
        };
        let view = TargetsView {
            pools: vec!["gone".to_owned(), "node".to_owned()],
            active: vec![active],
            dropped: vec![dropped],
            dropped_counts: vec![("gone".to_owned(), 1), ("node".to_owned(), 0)],
        };
        async move { view }.boxed()
    }

    fn metadata(&self) -> Answer<Vec<TargetMetadata>> {
        let entry = |instance: &str, metric: &str| TargetMetadata {
            target: labels(&[("instance", instance)]),
            metric: metric.to_owned(),
            metadata: Metadata {
                metric_type: MetricType::Gauge,
                help: format!("About {metric}."),
                unit: String::new(),
            },
        };
        let all = vec![entry("h:1", "down"), entry("h:1", "up"), entry("h:2", "up")];
        async move { all }.boxed()
    }
}

impl StatusPort for Fake {
    fn readiness(&self) -> Readiness {
        self.readiness
    }

    fn config_yaml(&self) -> String {
        "global: {}\n".to_owned()
    }

    fn flags(&self) -> Vec<(String, String)> {
        vec![
            ("b".to_owned(), "2".to_owned()),
            ("a".to_owned(), "1".to_owned()),
        ]
    }

    fn runtime(&self) -> RuntimeInfo {
        RuntimeInfo {
            start_ms: 1_000,
            cwd: "/".to_owned(),
            hostname: "h".to_owned(),
            reload_succeeded: true,
            last_config_ms: 1_250,
            corruption_count: 0,
            n_actors: 3,
            n_threads: 2,
            memory_limit_bytes: 0,
            storage_retention: "15d".to_owned(),
        }
    }

    fn build(&self) -> BuildInfo {
        BuildInfo {
            version: "3.14.0".to_owned(),
            ..BuildInfo::default()
        }
    }

    fn tsdb(&self, limit: usize) -> Answer<Result<TsdbStatus, ApiError>> {
        let status = TsdbStatus {
            n_series: 7,
            max_t: 9,
            series_by_metric: vec![NamedCount {
                name: "up".to_owned(),
                value: u64::try_from(limit).unwrap(),
            }],
            ..TsdbStatus::default()
        };
        async move { Ok(status) }.boxed()
    }

    fn blocks(&self, is_loaded: bool) -> Answer<Result<BlocksView, ApiError>> {
        let meta = format!("{{\"loaded\":{is_loaded}}}").into_bytes();
        let view = BlocksView {
            label: "l".to_owned(),
            metas: vec![meta.clone(), meta],
            refreshed_ms: Some(1_700_000_000_000),
            error: (!is_loaded).then(|| "away".to_owned()),
        };
        async { Ok(view) }.boxed()
    }

    fn duties(&self) -> Vec<(Duty, Option<DutyProgress>)> {
        let duty = |name, state| Duty {
            name,
            state,
            since_ms: 1_000,
            due_ms: 2_000,
        };
        let progress = DutyProgress {
            duty: compactor::Duty::Compact,
            since_ms: Some(60_000),
            works: vec![Work {
                what: "2 blocks of {a=\"b\"}".to_owned(),
                n_bytes_done: 5,
                n_bytes: 9,
            }],
            n_blocks_done: 1,
            n_blocks_left: 2,
            n_bytes_done: 3,
            n_bytes_left: 4,
            eta_ms: Some(90_500),
            last: Some((50_000, 1_500)),
        };
        let blocked = DutyState::Blocked {
            reason: "no bucket".to_owned(),
            what_to_do: "wait".to_owned(),
        };
        vec![
            (duty("compact bucket blocks", DutyState::Ok), Some(progress)),
            (duty("ship blocks", blocked), None),
        ]
    }

    fn wal_replay(&self) -> WalReplay {
        WalReplay {
            min: 1,
            max: 3,
            current: 2,
            n_read: 4,
            n_segments: 6,
            state: ReplayState::InProgress,
        }
    }

    fn features(&self) -> Vec<(String, Vec<(String, bool)>)> {
        vec![("api".to_owned(), vec![("admin".to_owned(), false)])]
    }

    fn metrics(&self, _: &str) -> (String, String) {
        (
            "up 1\n".to_owned(),
            "text/plain; version=0.0.4; charset=utf-8".to_owned(),
        )
    }

    fn reload(&self) -> Answer<Result<(), String>> {
        let error = self.memory.reload_error.lock().take();
        async move { error.map_or(Ok(()), Err) }.boxed()
    }
}
