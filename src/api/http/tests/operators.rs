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

#[actix_web::test]
async fn the_block_viewer_finds_metas_and_when_they_were_listed() {
    let fake = Fake::default();
    for (uri, expect) in [
        (
            "/api/v1/blocks?view=loaded",
            r#"{"label":"l","blocks":[{"loaded":true},{"loaded":true}],"refreshedAt":"2023-11-14T22:13:20Z","err":null}"#,
        ),
        (
            "/api/v1/blocks",
            r#"{"label":"l","blocks":[{"loaded":false},{"loaded":false}],"refreshedAt":"2023-11-14T22:13:20Z","err":"away"}"#,
        ),
    ] {
        let answer = send(&fake, TestRequest::get().uri(uri)).await;
        assert_eq!(
            (answer.status, answer.text().to_owned()),
            ok(expect),
            "{uri}"
        );
    }
}

#[actix_web::test]
async fn blocks_are_marked_where_that_is_switched_on_and_the_wish_is_whole() {
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let asked = async |fake: &Fake, query: &str| {
        let uri = format!("/api/v1/blocks/mark?{query}");
        let answer = send(fake, TestRequest::post().uri(&uri)).await;
        (answer.status, answer.text().to_owned())
    };
    let whole = format!("id={id}&action=DELETION&detail=old");
    let disabled = refused(400, "bad_data", "Admin operations are disabled");
    assert_eq!(asked(&Fake::default(), &whole).await, disabled);
    let fake = enabled();
    for (query, why) in [
        ("action=DELETION".to_owned(), "ID cannot be empty"),
        (format!("id={id}"), "Action cannot be empty"),
        (format!("id={id}&action=KEEP"), "not supported marker KEEP"),
    ] {
        let expect = refused(400, "bad_data", why);
        assert_eq!(asked(&fake, &query).await, expect, "{query}");
    }
    let (status, text) = asked(&fake, "id=x&action=DELETION").await;
    assert!(status == 400 && text.contains("is not valid"), "{text}");
    assert_eq!(asked(&fake, &whole).await, ok("null"));
    let noted = fake.memory.admin.lock().join(" ");
    assert!(
        noted.contains("Deletion") && noted.contains("old"),
        "{noted}"
    );
}
