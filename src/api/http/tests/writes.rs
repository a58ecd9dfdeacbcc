//! Remote write.

use actix_web::test::TestRequest;

use crate::api::http::WriteFailure;
use crate::api::http::tests::fake::Fake;
use crate::api::http::tests::{Answer, send};
use crate::remote::{Refusal, RefusalKind, SnappyError, WriteError, WriteReport, WriteVersion};
use crate::storage::AppendError;

fn request() -> TestRequest {
    TestRequest::post().uri("/api/v1/write").set_payload("body")
}

async fn write(answer: Result<WriteReport, WriteFailure>) -> Answer {
    let fake = Fake::default();
    *fake.memory.write_answer.lock() = Some(answer);
    send(&fake, request()).await
}

#[actix_web::test]
async fn a_request_that_is_taken_is_answered_with_nothing() {
    let fake = Fake::default();
    for path in ["/api/v1/write", "/api/v1/receive"] {
        *fake.memory.write_answer.lock() = Some(Ok(WriteReport::default()));
        let request = TestRequest::post()
            .uri(path)
            .insert_header((
                "content-type",
                "application/x-protobuf;proto=prometheus.WriteRequest",
            ))
            .insert_header(("content-encoding", "Snappy"))
            .insert_header(("thanos-tenant", "blue"))
            .set_payload("body");
        let answer = send(&fake, request).await;
        assert_eq!((answer.status, answer.text()), (204, ""));
        let asked = fake.memory.write.lock().take().unwrap();
        assert_eq!(
            (&asked.body[..], asked.tenant.as_deref()),
            (&b"body"[..], Some("blue"))
        );
        assert_eq!(asked.decoded_bytes_max, 32 << 20);
    }
}

#[actix_web::test]
async fn refusals_are_400_with_one_line_each() {
    let refusal = Refusal {
        kind: RefusalKind::OutOfOrder,
        text: "out of order sample".to_owned(),
        series: "{__name__=\"up\"}".to_owned(),
        t: Some(7),
        limit: Some("the newest sample of the series is at 9".to_owned()),
        count: 3,
    };
    let report = WriteReport {
        refusals: vec![refusal],
        n_more_refused: 2,
        ..WriteReport::default()
    };
    let answer = write(Ok(report)).await;
    assert_eq!(
        (answer.status, answer.text()),
        (
            400,
            "out of order sample: series {__name__=\"up\"}, timestamp 7, the newest sample of the series is at 9 \
             (and 2 more of it)\nand 2 more refusals\n"
        )
    );
}

#[actix_web::test]
async fn senders_of_version_2_are_told_what_was_taken_whatever_the_status() {
    let fake = Fake::default();
    let report = WriteReport {
        n_samples: 3,
        n_histograms: 2,
        n_exemplars: 1,
        n_more_refused: 1,
        ..WriteReport::default()
    };
    let busy = WriteFailure::Unavailable("stopping".to_owned());
    for (message, answered, status, expect) in [
        (
            "io.prometheus.write.v2.Request",
            Ok(report.clone()),
            400,
            ["3", "2", "1"],
        ),
        (
            "io.prometheus.write.v2.Request",
            Err(busy),
            503,
            ["0", "0", "0"],
        ),
        ("prometheus.WriteRequest", Ok(report), 400, ["", "", ""]),
    ] {
        *fake.memory.write_answer.lock() = Some(answered);
        let content_type = format!("application/x-protobuf;proto={message}");
        let answer = send(
            &fake,
            request().insert_header(("content-type", content_type)),
        )
        .await;
        assert_eq!(answer.status, status);
        let written = ["samples", "histograms", "exemplars"].map(|what| {
            answer
                .header(&format!("x-prometheus-remote-write-{what}-written"))
                .join("")
        });
        assert_eq!(written, expect, "{message}");
        let asked = fake.memory.write.lock().take().unwrap();
        assert_eq!(asked.version == WriteVersion::V2, message.contains("v2"));
        assert_eq!(asked.ahead_ms_max, 600_000);
    }
}

#[actix_web::test]
async fn failures_say_whether_to_come_back() {
    let too_large = WriteError::Snappy(SnappyError::TooLarge {
        decoded_bytes: 9,
        limit_bytes: 8,
    });
    let answer = write(Err(WriteFailure::Write(too_large))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("exceeds the limit of 8 bytes"));
    assert!(answer.header("retry-after").is_empty());

    let disk = WriteError::Storage(AppendError::Wal("disk full".to_owned()));
    let answer = write(Err(WriteFailure::Write(disk))).await;
    assert_eq!(
        (answer.status, answer.text()),
        (500, "write ahead log: disk full\n")
    );
    assert_eq!(answer.header("retry-after"), ["5"]);

    let busy = WriteFailure::Busy {
        text: "append gate is full".to_owned(),
        retry_after_s: 2,
    };
    let answer = write(Err(busy)).await;
    assert_eq!(
        (answer.status, answer.text()),
        (503, "append gate is full\n")
    );
    assert_eq!(answer.header("retry-after"), ["2"]);

    let answer = write(Err(WriteFailure::Unavailable("stopping".to_owned()))).await;
    assert_eq!((answer.status, answer.text()), (503, "stopping\n"));
    assert_eq!(answer.header("retry-after"), ["5"]);
}

#[actix_web::test]
async fn other_messages_and_encodings_are_415_and_say_what_is_taken() {
    let fake = Fake::default();
    for (name, value, expect) in [
        (
            "content-type",
            "application/json",
            "expected application/x-protobuf as the first (media) part, got application/json content-type\n",
        ),
        (
            "content-type",
            "application/x-protobuf;proto=io.prometheus.write.v3.Request",
            "io.prometheus.write.v3.Request protobuf message is not accepted by this server; accepted \
             [prometheus.WriteRequest io.prometheus.write.v2.Request]\n",
        ),
        (
            "content-type",
            "application/x-protobuf;proto",
            "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got proto in \
             application/x-protobuf;proto content-type\n",
        ),
        (
            "content-encoding",
            "gzip",
            "gzip encoding (compression) is not accepted by this server; only snappy is acceptable\n",
        ),
    ] {
        let answer = send(&fake, request().insert_header((name, value))).await;
        assert_eq!((answer.status, answer.text()), (415, expect));
        assert!(fake.memory.write.lock().is_none(), "not even looked at");
    }
}

#[actix_web::test]
async fn a_body_over_the_limit_is_413_and_a_panic_is_500() {
    let mut fake = Fake::default();
    fake.settings.write_bytes_max = 3;
    let answer = send(&fake, request()).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("exceeds the limit of 3 bytes"));
    fake.settings.write_bytes_max = 100;
    assert_eq!(send(&fake, request()).await.status, 500);
}
