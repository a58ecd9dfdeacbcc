//! What only shows on a real connection.

use std::time::Duration;

use gauntlet::foundation::cancel::CancelReason;
use gauntlet::model::Sample;
use gauntlet::remote::{WriteRequestEncoder, compress};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Ask, send};
use crate::fake::{Empty, start};

/// How soon after the client is gone its query must know.
const NOTICED_MS: u64 = 100;

async fn wait_for<T>(mut look: impl FnMut() -> Option<T>, ms_max: u64) -> Option<T> {
    for _ in 0..ms_max {
        if let Some(found) = look() {
            return Some(found);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    look()
}

#[actix_web::test]
async fn a_client_that_goes_away_takes_its_query_along() {
    for closes_half in [false, true] {
        let empty = Empty::default();
        let port = start(&empty);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream
            .write_all(b"GET /api/v1/query?query=forever HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let cancel = wait_for(|| empty.last_cancel.lock().clone(), 5_000)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(cancel.reason(), None, "somebody is waiting");
        // The half that is kept would still take an answer; that nobody speaks any more is enough.
        let kept = if closes_half {
            stream.shutdown().await.unwrap();
            Some(stream)
        } else {
            drop(stream);
            None
        };
        let reason = wait_for(|| cancel.reason(), NOTICED_MS).await;
        assert_eq!(reason, Some(CancelReason::Canceled), "{kept:?}");
    }
}

#[actix_web::test]
async fn a_written_request_comes_through_whole() {
    let port = start(&Empty::default());
    let mut encoder = WriteRequestEncoder::new();
    for n in 0..10_000 {
        let instance = n.to_string();
        let labels = [("__name__", "up"), ("instance", instance.as_str())];
        encoder.series(labels, &[Sample { t: n, v: 1.0 }]);
    }
    let body = compress(encoder.as_bytes()).unwrap();
    let headers = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
                   X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
    let ask = Ask {
        method: "POST",
        target: "/api/v1/write",
        headers,
        body: &body,
    };
    let reply = send(port, ask).await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
}
