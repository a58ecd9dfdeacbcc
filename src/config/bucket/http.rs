//! `http_config`: connections, patience and certificates, the same for every store.

use std::path::PathBuf;
use std::time::Duration;

use crate::bucket::HttpSettings;
use crate::config::bucket::optional;
use crate::config::prometheus::reader::MapReader;

/// Reads `http_config` in `map`, if it is there; `endpoint` is the host that is asked.
pub(super) fn http(map: &mut MapReader<'_>, endpoint: &str) -> HttpSettings {
    match map.map("http_config") {
        Some(http) => read(http, endpoint),
        None => HttpSettings::default(),
    }
}

fn read(mut map: MapReader<'_>, endpoint: &str) -> HttpSettings {
    let mut settings = HttpSettings {
        idle_timeout: duration(&mut map, "idle_conn_timeout"),
        response_timeout: duration(&mut map, "response_header_timeout"),
        connect_timeout: duration(&mut map, "tls_handshake_timeout"),
        insecure_skip_verify: map.bool("insecure_skip_verify").unwrap_or(false),
        ..HttpSettings::default()
    };
    // One host is asked, so the smaller of both limits is the limit.
    let idle = [
        map.count_or_negative("max_idle_conns"),
        map.count_or_negative("max_idle_conns_per_host"),
    ];
    settings.idle_max = idle.into_iter().flatten().filter(|n| *n != 0).min();
    settings.connections_max = map
        .count_or_negative("max_conns_per_host")
        .filter(|n| *n != 0);
    // Nobody is asked whether he expects a body, so the wait for that answer never happens.
    duration(&mut map, "expect_continue_timeout");
    // Compressed answers are never asked for.
    map.bool("disable_compression");
    if let Some(tls) = map.map("tls_config") {
        read_tls(tls, endpoint, &mut settings);
    }
    map.finish();
    settings
}

fn read_tls(mut tls: MapReader<'_>, endpoint: &str, settings: &mut HttpSettings) {
    settings.ca_file = optional(&mut tls, "ca_file").map(PathBuf::from);
    let certificate = optional(&mut tls, "cert_file").map(PathBuf::from);
    let key = optional(&mut tls, "key_file").map(PathBuf::from);
    settings.client_certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            tls.complain("cert_file", None, "key_file is missing");
            None
        }
        (None, Some(_)) => {
            tls.complain("key_file", None, "cert_file is missing");
            None
        }
    };
    let server_name = optional(&mut tls, "server_name");
    let host = endpoint.split(':').next().unwrap_or_default();
    if let Some(name) = server_name.filter(|name| name != host) {
        let problem = "certificates are checked against the endpoint's own name";
        tls.complain("server_name", Some(&name), problem);
    }
    settings.insecure_skip_verify |= tls.bool("insecure_skip_verify").unwrap_or(false);
    tls.finish();
}

/// Zero is no time-out in Go, and the default here: a request that waits for ever is never meant.
pub(super) fn duration(map: &mut MapReader<'_>, key: &'static str) -> Option<Duration> {
    let ms = u64::try_from(map.duration_ms(key)?).ok()?;
    (ms != 0).then(|| Duration::from_millis(ms))
}
