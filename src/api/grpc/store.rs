//! `thanos.Store`: series, label names, label values.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::api::grpc::convert::{Aggregates, matchers};
use crate::api::grpc::port::Source;
use crate::api::grpc::series::{FrameMaker, Order, Shape};
use crate::api::grpc::server::GrpcSettings;
use crate::api::grpc::status::{guarded, of_busy, of_panic, of_storage, shutting_down};
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::foundation::pool::Pool;
use crate::model::{Interval, Labels, Matcher, Resolution};
use crate::storage::{
    Fanout, LabelAnswer, LabelHints, Queryable, ResolutionWish, SelectHints, SeriesSet,
    StorageError, WithExternalLabels, merge_label_lists, merge_series_sets,
    strip_external_matchers,
};
use crate::wire::hintspb::{LabelNamesRequestHints, LabelValuesRequestHints, SeriesRequestHints};
use crate::wire::thanos::store_server::Store;
use crate::wire::thanos::{
    LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse,
    PartialResponseStrategy, SeriesRequest, SeriesResponse,
};

/// Frames between the pool and the socket; a slow client stops the work here.
const FRAMES_WAITING_MAX: usize = 8;

pub(crate) struct StoreService {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) pool: Pool,
    pub(crate) settings: GrpcSettings,
    /// Streams that may be worked on at once; the others wait.
    pub(crate) room: Arc<Semaphore>,
    /// The process ends.
    pub(crate) ending: CancellationToken,
}

type Frame = Result<SeriesResponse, Status>;

#[tonic::async_trait]
impl Store for StoreService {
    type SeriesStream = BoxStream<'static, Frame>;

    async fn series(
        &self,
        request: Request<SeriesRequest>,
    ) -> Result<Response<Self::SeriesStream>, Status> {
        guarded(async {
            let question = SeriesQuestion::new(request.into_inner(), &self.settings)?;
            let sources = self.sources();
            sources.check_matchers(&question.matchers)?;
            let (frames, coming) = mpsc::channel(FRAMES_WAITING_MAX);
            let is_ended = Arc::new(AtomicBool::new(false));
            let answer = Answer {
                frames,
                is_ended: Arc::clone(&is_ended),
                cancel: question.hints.cancel.clone(),
                pool: self.pool.clone(),
                ending: self.ending.clone(),
            };
            let room = Arc::clone(&self.room);
            tokio::spawn(async move {
                // Closed only when the server is gone.
                let Ok(_permit) = room.acquire_owned().await else {
                    return;
                };
                answer.send(sources, question).await;
            });
            Ok(Response::new(whole_or_cut(coming, is_ended)))
        })
        .await
    }

    async fn label_names(
        &self,
        request: Request<LabelNamesRequest>,
    ) -> Result<Response<LabelNamesResponse>, Status> {
        guarded(async {
            let request = request.into_inner();
            let hints: Option<LabelNamesRequestHints> = decode_hints(request.hints.as_ref())?;
            refuse_block_matchers(hints.is_some_and(|hints| !hints.block_matchers.is_empty()))?;
            let matchers = matchers(&request.matchers)?;
            let hints = label_hints(request.start, request.end);
            let is_partial_allowed = is_partial_allowed(
                request.partial_response_strategy,
                request.partial_response_disabled,
            )?;
            let without = request.without_replica_labels;
            let answer = self
                .ask_labels(hints, is_partial_allowed, move |source, hints| {
                    source.label_names(&matchers, hints)
                })
                .await?;
            let mut names = answer.values;
            names.retain(|name| !without.contains(name));
            truncate(&mut names, request.limit);
            Ok(Response::new(LabelNamesResponse {
                names,
                warnings: answer.warnings,
                hints: None,
            }))
        })
        .await
    }

    async fn label_values(
        &self,
        request: Request<LabelValuesRequest>,
    ) -> Result<Response<LabelValuesResponse>, Status> {
        guarded(async {
            let request = request.into_inner();
            if request.label.is_empty() {
                let text = "label name parameter cannot be empty";
                return Err(Status::invalid_argument(text));
            }
            let hints: Option<LabelValuesRequestHints> = decode_hints(request.hints.as_ref())?;
            refuse_block_matchers(hints.is_some_and(|hints| !hints.block_matchers.is_empty()))?;
            let matchers = matchers(&request.matchers)?;
            if request.without_replica_labels.contains(&request.label) {
                return Ok(Response::new(LabelValuesResponse::default()));
            }
            let hints = label_hints(request.start, request.end);
            let is_partial_allowed = is_partial_allowed(
                request.partial_response_strategy,
                request.partial_response_disabled,
            )?;
            let label = request.label;
            let answer = self
                .ask_labels(hints, is_partial_allowed, move |source, hints| {
                    source.label_values(&label, &matchers, hints)
                })
                .await?;
            let mut values = answer.values;
            truncate(&mut values, request.limit);
            Ok(Response::new(LabelValuesResponse {
                values,
                warnings: answer.warnings,
                hints: None,
            }))
        })
        .await
    }
}

impl StoreService {
    fn sources(&self) -> Sources {
        Sources {
            external: self.source.external_labels(),
            own: self.source.own(),
            others: self.source.others(),
        }
    }

    async fn ask_labels(
        &self,
        hints: LabelHints,
        is_partial_allowed: bool,
        ask: impl Fn(&dyn Queryable, &LabelHints) -> Result<LabelAnswer, StorageError> + Send + 'static,
    ) -> Result<LabelAnswer, Status> {
        let sources = self.sources();
        let raised_when_dropped = CancelOnDrop(hints.cancel.clone());
        let work = self.pool.run(move || {
            let mut answers = Vec::new();
            for source in sources.under_labels(&[]) {
                match ask(&*source, &hints) {
                    Ok(answer) => answers.push(answer),
                    Err(error) if is_partial_allowed => answers.push(LabelAnswer {
                        values: Vec::new(),
                        warnings: vec![error.to_string()],
                    }),
                    Err(error) => return Err(of_storage(&error)),
                }
            }
            Ok(merge_label_lists(answers, 0))
        });
        let answer = work.map_err(of_busy)?.await.map_err(of_panic)??;
        drop(raised_when_dropped);
        match answer.warnings.first() {
            Some(warning) if !is_partial_allowed => Err(Status::aborted(warning.clone())),
            _ => Ok(answer),
        }
    }
}

/// The client went away: whoever still computes for it stops.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::Canceled);
    }
}

/// One snapshot of everything, for one request.
struct Sources {
    external: Labels,
    own: Arc<dyn Queryable>,
    others: Option<Arc<dyn Queryable>>,
}

impl Sources {
    /// Something must be left to look for once external labels are settled.
    fn check_matchers(&self, matchers: &[Matcher]) -> Result<(), Status> {
        let rest = strip_external_matchers(matchers, &self.external);
        if matchers.is_empty() || rest.is_some_and(|rest| rest.is_empty()) {
            let text = "no matchers specified (excluding external labels)";
            return Err(Status::invalid_argument(text));
        }
        Ok(())
    }

    /// Both under external labels, except for those named.
    fn under_labels(&self, without: &[String]) -> Vec<Arc<dyn Queryable>> {
        let external = self
            .external
            .filtered(|name| !without.iter().any(|w| w == name));
        let own = WithExternalLabels::new(Arc::clone(&self.own), external);
        let mut sources: Vec<Arc<dyn Queryable>> = vec![Arc::new(own)];
        sources.extend(self.others.clone());
        sources
    }

    /// Do series themselves carry one of these labels?
    fn have_labels(&self, names: &[String], hints: &SelectHints) -> Result<bool, StorageError> {
        if names.is_empty() {
            return Ok(false);
        }
        let hints = LabelHints {
            interval: hints.interval,
            limit: 0,
            cancel: hints.cancel.clone(),
            tally: hints.tally.clone(),
        };
        let mut sources = vec![Arc::clone(&self.own)];
        sources.extend(self.others.clone());
        let have = Fanout::new(sources).label_names(&[], &hints)?.values;
        Ok(names.iter().any(|name| have.contains(name)))
    }

    fn select(&self, question: SeriesQuestion) -> Result<FrameMaker, Status> {
        let mut warnings = Vec::new();
        let mut sets: Vec<Box<dyn SeriesSet>> = Vec::new();
        let without = &question.shape.without;
        let is_order_lost = self.have_labels(without, &question.hints);
        let order = match is_order_lost.map_err(|error| of_storage(&error))? {
            true => Order::Lost,
            false => Order::Kept,
        };
        // The matchers are about all external labels, also about those left out of the answer.
        let own = strip_external_matchers(&question.matchers, &self.external);
        for (number, source) in self.under_labels(without).iter().enumerate() {
            let matchers = match (number, &own) {
                (0, None) => continue,
                (0, Some(stripped)) => stripped,
                _ => &question.matchers,
            };
            match source.select(matchers, &question.hints) {
                Ok(set) => sets.push(set),
                Err(error) if question.shape.is_partial_allowed => warnings.push(error.to_string()),
                Err(error) => return Err(of_storage(&error)),
            }
        }
        let set = merge_series_sets(sets, 0);
        Ok(FrameMaker::new(set, order, warnings, question.shape))
    }
}

/// A series request, understood.
struct SeriesQuestion {
    matchers: Vec<Matcher>,
    hints: SelectHints,
    shape: Shape,
}

impl SeriesQuestion {
    fn new(request: SeriesRequest, settings: &GrpcSettings) -> Result<Self, Status> {
        let asked: Option<SeriesRequestHints> = decode_hints(request.hints.as_ref())?;
        let asked = asked.unwrap_or_default();
        refuse_block_matchers(!asked.block_matchers.is_empty())?;
        let mut hints = SelectHints::new(Interval {
            min: request.min_time,
            max: request.max_time,
        });
        hints.skip_chunks = request.skip_chunks;
        let aggregates = Aggregates::new(&request.aggregates)?;
        let coarsest = if aggregates == Aggregates::RawOnly && !request.skip_chunks {
            Resolution::Raw
        } else {
            Resolution::at_most(request.max_resolution_window)
        };
        hints.resolutions = ResolutionWish::AtMost(coarsest).bounds(0);
        if let Some(query) = &request.query_hints {
            hints.step_ms = query.step_millis;
            hints.range_ms = query.range.as_ref().map_or(0, |range| range.millis);
            hints.func = query
                .func
                .as_ref()
                .map_or_else(String::new, |func| func.name.clone());
        }
        let limit = u64::try_from(request.limit).unwrap_or(0);
        let shape = Shape {
            without: request.without_replica_labels,
            shard: request.shard_info.filter(|shard| 0 < shard.total_shards),
            limit,
            series_per_frame: Shape::series_per_frame(request.response_batch_size),
            aggregates,
            with_hashes: settings.chunk_hashes,
            with_stats: asked.enable_query_stats,
            is_partial_allowed: is_partial_allowed(
                request.partial_response_strategy,
                request.partial_response_disabled,
            )?,
            series_max: settings.series_max,
            samples_max: settings.samples_max,
        };
        if shape.shard.is_none() && shape.without.is_empty() {
            hints.limit = usize::try_from(limit).unwrap_or(0);
        }
        Ok(Self {
            matchers: matchers(&request.matchers)?,
            hints,
            shape,
        })
    }
}

/// The frames that come, and an error where they end before their end was said: nobody may take half an answer for a whole one.
fn whole_or_cut(
    coming: mpsc::Receiver<Frame>,
    is_ended: Arc<AtomicBool>,
) -> BoxStream<'static, Frame> {
    let cut = stream::once(async move {
        let is_cut = !is_ended.load(Ordering::Acquire);
        stream::iter(is_cut.then(|| Err(shutting_down())))
    });
    ReceiverStream::new(coming).chain(cut.flatten()).boxed()
}

/// Carries frames from the pool to the client.
struct Answer {
    frames: mpsc::Sender<Frame>,
    /// The last frame, or the error that is the last, was handed over.
    is_ended: Arc<AtomicBool>,
    cancel: Cancel,
    pool: Pool,
    ending: CancellationToken,
}

impl Answer {
    async fn send(self, sources: Sources, question: SeriesQuestion) {
        let raised_when_dropped = CancelOnDrop(self.cancel.clone());
        let selected = self.compute(move || sources.select(question)).await;
        match selected {
            Some(Ok(maker)) => self.send_frames(maker).await,
            Some(Err(status)) => self.fail(status).await,
            None => (),
        }
        drop(raised_when_dropped);
    }

    async fn fail(&self, status: Status) {
        if self.frames.send(Err(status)).await.is_ok() {
            self.is_ended.store(true, Ordering::Release);
        }
    }

    async fn send_frames(&self, mut maker: FrameMaker) {
        loop {
            let made = self.compute(move || {
                let batch = maker.next_batch();
                Ok((maker, batch))
            });
            let batch = match made.await {
                Some(Ok((back, batch))) => {
                    maker = back;
                    batch
                }
                Some(Err(status)) => return self.fail(status).await,
                None => return,
            };
            for frame in batch.frames {
                tokio::select! {
                    sent = self.frames.send(frame) => if sent.is_err() { return },
                    // A client that reads nothing is not waited for; if it reads on, it hears of it.
                    () = self.ending.cancelled() => return,
                }
            }
            if batch.is_last {
                self.is_ended.store(true, Ordering::Release);
                return;
            }
        }
    }

    /// The result of `work`, or `None` where nobody waits for it any more.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Option<Result<T, Status>> {
        let running = match self.pool.run(work) {
            Ok(running) => running,
            Err(busy) => return Some(Err(of_busy(busy))),
        };
        tokio::select! {
            done = running => Some(done.map_err(of_panic).and_then(|result| result)),
            () = self.frames.closed() => None,
            () = self.ending.cancelled() => Some(Err(shutting_down())),
        }
    }
}

fn is_partial_allowed(strategy: i32, is_disabled: bool) -> Result<bool, Status> {
    match PartialResponseStrategy::try_from(strategy) {
        Ok(PartialResponseStrategy::Warn) => Ok(!is_disabled),
        Ok(PartialResponseStrategy::Abort) => Ok(false),
        Err(unknown) => Err(Status::invalid_argument(format!(
            "unknown partial response strategy: {unknown}"
        ))),
    }
}

fn label_hints(start: i64, end: i64) -> LabelHints {
    LabelHints::new(Interval {
        min: start,
        max: end,
    })
}

fn truncate(values: &mut Vec<String>, limit: i64) {
    if let Ok(limit @ 1..) = usize::try_from(limit) {
        values.truncate(limit);
    }
}

fn decode_hints<M: Message + Default>(
    hints: Option<&prost_types::Any>,
) -> Result<Option<M>, Status> {
    let Some(any) = hints else { return Ok(None) };
    M::decode(any.value.as_slice())
        .map(Some)
        .map_err(|error| Status::invalid_argument(format!("unmarshal request hints: {error}")))
}

/// A timeline is not a set of blocks: head, local and bucket blocks answer as one.
fn refuse_block_matchers(has_any: bool) -> Result<(), Status> {
    if has_any {
        let text = "block matchers are not supported: this store answers from one timeline";
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}
