//! What goes over the wire: statuses, headers, compression, limits, redirects, credentials, TLS.

use std::io::Write;
use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::foundation::durable::replace_file;
use crate::foundation::ports::free_port;
use crate::scrape::client::{FetchError, HttpClient, Request};
use crate::scrape::settings::{
    Auth, HeaderValues, HttpSettings, PemSource, Secret, SecretSource, TlsSettings,
};
use crate::scrape::testing::{Reply, Scripted};

async fn fetch(
    settings: HttpSettings,
    url: &str,
    body_bytes_max: Option<u64>,
) -> Result<(String, Vec<u8>), FetchError> {
    fetch_in(settings, url, body_bytes_max, Duration::from_secs(10)).await
}

async fn fetch_in(
    settings: HttpSettings,
    url: &str,
    body_bytes_max: Option<u64>,
    timeout: Duration,
) -> Result<(String, Vec<u8>), FetchError> {
    let client = HttpClient::new(settings, true);
    let mut body = b"left over".to_vec();
    let request = Request {
        url,
        headers: HeaderMap::new(),
        timeout,
        body_bytes_max,
    };
    let fetched = client.fetch(request, &mut body).await?;
    Ok((fetched.content_type, body))
}

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_good_answer_comes_back_whole() {
    let server = Scripted::start(Reply::text("a 1\n")).await;
    let (content_type, body) = fetch(HttpSettings::default(), &server.url(), None)
        .await
        .unwrap();
    assert_eq!(
        (content_type.as_str(), body.as_slice()),
        ("text/plain; version=0.0.4", &b"a 1\n"[..])
    );
    let request = server.requests().remove(0).to_ascii_lowercase();
    assert!(
        request.starts_with("get /metrics http/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("accept-encoding: gzip\r\n"), "{request}");
    assert!(request.contains("user-agent: gauntlet/"), "{request}");
}

#[test]
fn a_machine_without_authorities_scrapes_what_needs_none() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args([
            "--exact",
            "scrape::tests::fetching::a_good_answer_comes_back_whole",
        ])
        .envs([
            ("SSL_CERT_FILE", "/nonexistent"),
            ("SSL_CERT_DIR", "/nonexistent"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn every_other_status_is_an_error_that_names_it() {
    let server = Scripted::start(Reply::text("")).await;
    for status in [
        "201 Created",
        "204 No Content",
        "304 Not Modified",
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ] {
        server.say(Reply::status(status));
        let error = fetch(HttpSettings::default(), &server.url(), None)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("server returned HTTP status {status}")
        );
    }
}

#[tokio::test]
async fn compressed_bodies_are_unpacked_and_their_limit_counts_unpacked_bytes() {
    let text = "a 1\n".repeat(10_000);
    let reply = Reply {
        body: gzipped(text.as_bytes()),
        ..Reply::text("").with("Content-Encoding", "gzip")
    };
    assert!(reply.body.len() < 1_000);
    let server = Scripted::start(reply).await;
    let (_, body) = fetch(HttpSettings::default(), &server.url(), Some(40_000))
        .await
        .unwrap();
    assert_eq!(body, text.as_bytes());
    let error = fetch(HttpSettings::default(), &server.url(), Some(39_999))
        .await
        .unwrap_err();
    assert_eq!(error, FetchError::BodySize);
    assert_eq!(error.to_string(), "body size limit exceeded");
}

#[tokio::test]
async fn a_slow_body_ends_at_the_timeout() {
    let server = Scripted::start(Reply {
        hangs: true,
        ..Reply::text("a 1\nb 2\n")
    })
    .await;
    let url = server.url();
    let short = Duration::from_millis(50);
    let error = fetch_in(HttpSettings::default(), &url, None, short)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get {url:?}: context deadline exceeded")
    );
}

#[tokio::test]
async fn nobody_there_is_said_in_plain_words() {
    let url = format!("http://127.0.0.1:{}/metrics", free_port());
    let error = fetch(HttpSettings::default(), &url, None)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(&format!("Get {url:?}: ")), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_only_when_allowed() {
    let goal = Scripted::start(Reply::text("a 1\n")).await;
    let server = Scripted::start(Reply::status("302 Found").with("Location", &goal.url())).await;
    let (_, body) = fetch(HttpSettings::default(), &server.url(), None)
        .await
        .unwrap();
    assert_eq!(body, b"a 1\n");
    let settings = HttpSettings {
        follow_redirects: false,
        ..HttpSettings::default()
    };
    let error = fetch(settings, &server.url(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "server returned HTTP status 302 Found");
}

#[tokio::test]
async fn credentials_and_headers_are_sent_and_files_are_read_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let server = Scripted::start(Reply::text("")).await;
    let header = |scheme: &str, credentials| Auth::Header {
        scheme: scheme.to_owned(),
        credentials,
    };
    let secret = |text: &str| SecretSource::Inline(Secret::new(text));
    let basic = Auth::Basic {
        user: secret("me"),
        password: secret("p:w"),
    };
    let expect = [
        (basic, "authorization: Basic bWU6cDp3"),
        (header("Bearer", secret("t1")), "authorization: Bearer t1"),
        (
            header("Bearer", SecretSource::File(path.clone())),
            "authorization: Bearer t2",
        ),
    ];
    replace_file(&path, b"t2\n").unwrap();
    for (auth, line) in expect {
        let headers = HeaderValues {
            values: vec!["one".to_owned()],
            secrets: vec![Secret::new("two")],
            files: vec![path.clone()],
        };
        let settings = HttpSettings {
            auth,
            headers: vec![("X-Team".to_owned(), headers)],
            ..HttpSettings::default()
        };
        fetch(settings, &server.url(), None).await.unwrap();
        let request = server.requests().pop().unwrap();
        for line in [line, "x-team: one", "x-team: two", "x-team: t2"] {
            assert!(
                request.contains(&format!("{line}\r\n")),
                "{line} not in {request}"
            );
        }
    }
    std::fs::remove_file(&path).unwrap();
    let settings = HttpSettings {
        auth: header("Bearer", SecretSource::File(path)),
        ..HttpSettings::default()
    };
    let error = fetch(settings, &server.url(), None).await.unwrap_err();
    assert!(matches!(error, FetchError::Setup(_)), "{error:?}");
}

/// Answers one TLS connection; hands back what was asked for and the name of the handshake.
fn answer_tls(
    listener: &std::net::TcpListener,
    config: std::sync::Arc<rustls::ServerConfig>,
) -> Option<(String, Option<String>)> {
    use std::io::Read;
    let (mut socket, _) = listener.accept().ok()?;
    let mut session = rustls::ServerConnection::new(config).ok()?;
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    stream
        .write_all(&Reply::text("tls 1\n").with("Connection", "close").bytes())
        .ok()?;
    stream.flush().ok()?;
    session.send_close_notify();
    session.complete_io(&mut socket).ok();
    let name = session.server_name().map(str::to_owned);
    Some((String::from_utf8(head).ok()?, name))
}

#[tokio::test]
async fn tls_checks_authority_and_name_unless_told_otherwise() {
    let signed = rcgen::generate_simple_self_signed(vec!["target.example".to_owned()]).unwrap();
    let pem = PemSource::Inline(Secret::new(signed.cert.pem()));
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = std::sync::Arc::new(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}/metrics");
    let trusted = |server_name: Option<&str>, ca: Option<PemSource>| HttpSettings {
        tls: TlsSettings {
            ca,
            server_name: server_name.map(str::to_owned),
            ..TlsSettings::default()
        },
        ..HttpSettings::default()
    };
    let unchecked = HttpSettings {
        tls: TlsSettings {
            insecure_skip_verify: true,
            ..TlsSettings::default()
        },
        ..HttpSettings::default()
    };
    let cases = [
        (unchecked, true),
        (trusted(Some("target.example"), Some(pem.clone())), true),
        (trusted(None, Some(pem.clone())), false),
        (trusted(Some("other.example"), Some(pem)), false),
        (trusted(Some("target.example"), None), false),
    ];
    for (settings, is_good) in cases {
        let has_name = settings.tls.server_name.clone();
        let (listener, config) = (
            std::sync::Arc::clone(&listener),
            std::sync::Arc::clone(&config),
        );
        let server = tokio::task::spawn_blocking(move || answer_tls(&listener, config));
        let fetched = fetch(settings, &url, None).await;
        let served = server.await.unwrap();
        assert_eq!(fetched.is_ok(), is_good, "{has_name:?} {fetched:?}");
        let Some((head, name)) = served.filter(|_| is_good) else {
            continue;
        };
        assert_eq!(fetched.unwrap().1, b"tls 1\n");
        assert_eq!(name, has_name);
        assert!(head.contains(&format!("127.0.0.1:{port}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_certificate_file_that_changes_is_read_again() {
    let make = || rcgen::generate_simple_self_signed(vec!["target.example".to_owned()]).unwrap();
    let (old, new) = (make(), make());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(new.signing_key.serialize_der());
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![new.cert.der().clone()], key.into())
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = std::sync::Arc::new(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://{}/metrics", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let tls = TlsSettings {
        ca: Some(PemSource::File(path.clone())),
        server_name: Some("target.example".to_owned()),
        ..TlsSettings::default()
    };
    let client = HttpClient::new(
        HttpSettings {
            tls,
            ..HttpSettings::default()
        },
        true,
    );
    for (pem, is_good) in [(old.cert.pem(), false), (new.cert.pem() + "\n", true)] {
        replace_file(&path, pem.as_bytes()).unwrap();
        let (listener, config) = (
            std::sync::Arc::clone(&listener),
            std::sync::Arc::clone(&config),
        );
        let server = tokio::task::spawn_blocking(move || answer_tls(&listener, config));
        let request = Request {
            url: &url,
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(10),
            body_bytes_max: None,
        };
        let fetched = client.fetch(request, &mut Vec::new()).await;
        assert_eq!(fetched.is_ok(), is_good, "{fetched:?}");
        server.await.unwrap();
    }
}
