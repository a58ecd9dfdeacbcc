//! What goes wrong: broken parts, panics, clients that stall or leave, the end of the process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gauntlet::api::grpc::GrpcServer;
use gauntlet::wire::thanos::series_response::Result as Frame;
use gauntlet::wire::thanos::{LabelNamesRequest, PartialResponseStrategy, SeriesResponse};
use tonic::{Code, Streaming};

use crate::source::{Fault, Memory};
use crate::{Fixture, SERIES, request};

#[tokio::test]
async fn a_broken_part_is_a_warning_or_the_end_as_the_client_wishes() {
    for (fault, text, code) in [
        (Fault::Unavailable, "the bucket is away", Code::Unavailable),
        (
            Fault::Corrupt,
            "chunks/000001 offset 8: checksum",
            Code::Aborted,
        ),
    ] {
        let fixture = Fixture::start(Memory::new(&SERIES, fault), |appliance, _| {
            appliance.others = Some(Arc::new(Memory::new(&["__name__=up"], Fault::None)));
        })
        .await;
        let warn = request(&[("__name__", "up")]);
        let frames = fixture.frames(warn.clone()).await.unwrap();
        assert!(matches!(&frames[0], Frame::Series(_)), "{frames:?}");
        let last = frames.last().unwrap();
        assert!(
            matches!(last, Frame::Warning(warning) if warning == text),
            "{last:?}"
        );
        let mut abort = warn;
        abort.set_partial_response_strategy(PartialResponseStrategy::Abort);
        let status = fixture.frames(abort).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_goes_on() {
    let fixture = Fixture::start(Memory::new(&SERIES, Fault::Panic), |_, _| ()).await;
    for _ in 0..4 {
        let status = fixture
            .frames(request(&[("__name__", "up")]))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Internal);
    }
    let ask = LabelNamesRequest {
        end: 299_000,
        ..LabelNamesRequest::default()
    };
    fixture.store().label_names(ask).await.unwrap();
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not after five seconds");
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_work_and_one_that_leaves_ends_it() {
    let endless = Memory::new(&[], Fault::Endless);
    let (n_taken, is_dropped) = (
        Arc::clone(&endless.n_taken),
        Arc::clone(&endless.is_dropped),
    );
    let fixture = Fixture::start(endless, |_, _| ()).await;
    let mut all = request(&[("__name__", "up")]);
    all.response_batch_size = 64;
    let mut stream = fixture.store().series(all).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let mut before = usize::MAX;
    // Stands still once the windows and the channel are full.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = n_taken.load(Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < 100_000, "{before} series were made for nobody");
    assert_eq!(n_taken.load(Ordering::SeqCst), before);
    assert!(!is_dropped.load(Ordering::SeqCst));
    drop(stream);
    wait_until("the set is dropped", || is_dropped.load(Ordering::SeqCst)).await;
}

/// A server, and an answer of it without end, of which the first frame was read.
async fn endless() -> (GrpcServer, Streaming<SeriesResponse>) {
    let fixture = Fixture::start(Memory::new(&[], Fault::Endless), |_, _| ()).await;
    let asked = fixture.store().series(request(&[("__name__", "up")])).await;
    let mut stream = asked.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    (fixture.server, stream)
}

/// What an answer ends with that its server does not wait for.
fn cut() -> (Code, String) {
    (Code::Unavailable, "shutting down".to_owned())
}

async fn end_of(stream: &mut Streaming<SeriesResponse>) -> (Code, String) {
    loop {
        match stream.message().await {
            Ok(Some(_)) => (),
            ended => {
                let status = ended.unwrap_err();
                return (status.code(), status.message().to_owned());
            }
        }
    }
}

#[tokio::test]
async fn stopping_ends_streams_and_says_so() {
    let (server, mut stream) = endless().await;
    let reading = tokio::spawn(async move { end_of(&mut stream).await });
    assert!(server.stop(Duration::from_secs(10)).await);
    assert_eq!(reading.await.unwrap(), cut());
}

#[tokio::test]
async fn a_client_that_reads_late_hears_that_its_answer_is_cut() {
    let (server, mut stream) = endless().await;
    let stopping = tokio::spawn(async move { server.stop(Duration::from_secs(10)).await });
    // By now the windows and the channel are full, and the answer has ended.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(end_of(&mut stream).await, cut());
    assert!(stopping.await.unwrap());
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_hold_up_the_end() {
    let fixture = Fixture::start(Memory::new(&[], Fault::Endless), |_, _| ()).await;
    let stalled = fixture
        .store()
        .series(request(&[("__name__", "up")]))
        .await
        .unwrap();
    let Fixture { server, channel } = fixture;
    let began = tokio::time::Instant::now();
    server.stop(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    drop((stalled, channel));
}
