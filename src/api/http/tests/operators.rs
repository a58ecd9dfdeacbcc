//! `/api/v1/admin/tsdb/`: switched off, switched on, and asked wrongly.

use actix_web::test::TestRequest;

use crate::api::http::HttpSettings;
use crate::api::http::tests::fake::Fake;
use crate::api::http::tests::{ok, refused, send};

fn enabled() -> Fake {
    Fake {
        settings: HttpSettings {
            has_admin: true,
            ..HttpSettings::default()
        },
        ..Fake::default()
    }
}

async fn asked(fake: &Fake, request: TestRequest, path: &str) -> (u16, String) {
    let uri = format!("/api/v1/admin/tsdb/{path}");
    let answer = send(fake, request.uri(&uri)).await;
    (answer.status, answer.text().to_owned())
}

#[actix_web::test]
async fn nothing_works_that_was_not_switched_on() {
    let fake = Fake::default();
    let expect = refused(500, "unavailable", "admin APIs disabled");
    for path in ["delete_series?match[]=up", "clean_tombstones", "snapshot"] {
        let found = asked(&fake, TestRequest::post(), path).await;
        assert_eq!(found, expect, "{path}");
    }
    assert!(fake.memory.admin.lock().is_empty());
}

#[actix_web::test]
async fn deleting_needs_matchers_and_says_nothing_when_it_is_done() {
    let fake = enabled();
    for (query, expect) in [
        (
            "",
            refused(400, "bad_data", "no match[] parameter provided"),
        ),
        (
            "?match[]=up&start=x",
            refused(
                400,
                "bad_data",
                "invalid parameter \\\"start\\\": Invalid time value for 'start': cannot parse \\\"x\\\" to a valid timestamp",
            ),
        ),
    ] {
        let found = asked(&fake, TestRequest::put(), &format!("delete_series{query}")).await;
        assert_eq!(found, expect);
    }
    let (status, text) = asked(&fake, TestRequest::post(), "delete_series?match[]=up%7B").await;
    assert!(
        status == 400 && text.contains("invalid parameter \\\"match[]\\\""),
        "{text}"
    );
    let query = "delete_series?match[]=up&match[]=%7Ba=~%22b%22%7D&start=1&end=2.5";
    let found = asked(&fake, TestRequest::post(), query).await;
    assert_eq!(found, (204, String::new()));
    let heard = fake.memory.admin.lock().join("");
    assert!(
        heard.ends_with(" 1000 2500") && heard.contains("up"),
        "{heard}"
    );
    let found = asked(&fake, TestRequest::get(), "delete_series?match[]=up").await;
    assert_eq!(found.0, 405);
}

#[actix_web::test]
async fn a_snapshot_is_named_and_failures_are_internal() {
    let fake = enabled();
    for (query, name) in [
        ("", "snap-false"),
        ("?skip_head=true", "snap-true"),
        ("?skip_head=0", "snap-false"),
        ("?skip_head=T", "snap-true"),
    ] {
        let found = asked(&fake, TestRequest::post(), &format!("snapshot{query}")).await;
        assert_eq!(found, ok(&format!("{{\"name\":\"{name}\"}}")));
    }
    let found = asked(&fake, TestRequest::post(), "snapshot?skip_head=yes").await;
    let reason = "invalid parameter \\\"skip_head\\\": unable to parse boolean: \
                  strconv.ParseBool: parsing \\\"yes\\\": invalid syntax";
    assert_eq!(found, refused(400, "bad_data", reason));
    let found = asked(&fake, TestRequest::post(), "clean_tombstones").await;
    assert_eq!(found, refused(500, "internal", "disk full"));
}
