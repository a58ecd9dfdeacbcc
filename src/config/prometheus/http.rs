//! How an HTTP client is configured: credentials, certificates, headers, proxy.

use std::path::Path;

use crate::config::prometheus::reader::MapReader;
use crate::scrape::{
    Auth, HeaderValues, HttpSettings, PemSource, ProxySettings, Secret, SecretSource, TlsSettings,
    TlsVersion,
};

/// Headers that the client sets itself.
const RESERVED_HEADERS: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Reads the client keys that stand among the keys of a job or of a discovery.
pub(super) fn read_http(map: &mut MapReader<'_>, dir: &Path) -> HttpSettings {
    let defaults = HttpSettings::default();
    HttpSettings {
        auth: read_auth(map, dir),
        tls: map
            .map("tls_config")
            .map(|tls| read_tls(tls, dir))
            .unwrap_or_default(),
        headers: read_headers(map, dir),
        proxy: read_proxy(map),
        follow_redirects: map
            .bool("follow_redirects")
            .unwrap_or(defaults.follow_redirects),
        http2: map.bool("enable_http2").unwrap_or(defaults.http2),
    }
}

fn read_auth(map: &mut MapReader<'_>, dir: &Path) -> Auth {
    let basic = map.map("basic_auth").map(|basic| read_basic(basic, dir));
    let header = map
        .map("authorization")
        .map(|authorization| read_authorization(authorization, dir));
    let token = map.text("bearer_token");
    let token_file = map.text("bearer_token_file");
    map.ignore(&["oauth2"]);
    let has_oauth2 = map.has("oauth2");
    let has_token = token.is_some_and(|token| !token.is_empty());
    let has_token_file = token_file.is_some_and(|file| !file.is_empty());
    if has_token && has_token_file {
        let problem = "at most one of bearer_token & bearer_token_file must be configured";
        map.complain("bearer_token_file", None, problem);
    }
    let has_bearer = has_token || has_token_file;
    let n_kinds = [basic.is_some(), has_oauth2, has_bearer]
        .iter()
        .filter(|configured| **configured)
        .count();
    if n_kinds > 1 {
        map.complain_here(
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        );
    }
    if header.is_some() && has_bearer {
        let problem = "authorization is not compatible with bearer_token & bearer_token_file";
        map.complain("authorization", None, problem);
    }
    if header.is_some() && (basic.is_some() || has_oauth2) {
        let problem = "at most one of basic_auth, oauth2 & authorization must be configured";
        map.complain("authorization", None, problem);
    }
    if let Some(auth) = basic.or(header) {
        return auth;
    }
    let credentials = match (token, token_file) {
        (Some(token), _) if has_token => SecretSource::Inline(Secret::new(token)),
        (_, Some(file)) if has_token_file => SecretSource::File(dir.join(file)),
        _ => return Auth::None,
    };
    Auth::Header {
        scheme: "Bearer".to_owned(),
        credentials,
    }
}

fn read_basic(mut map: MapReader<'_>, dir: &Path) -> Auth {
    let auth = Auth::Basic {
        user: read_secret(&mut map, dir, ["username", "username_file"]),
        password: read_secret(&mut map, dir, ["password", "password_file"]),
    };
    map.ignore(&["username_ref", "password_ref"]);
    map.finish();
    auth
}

fn read_authorization(mut map: MapReader<'_>, dir: &Path) -> Auth {
    let credentials = read_secret(&mut map, dir, ["credentials", "credentials_file"]);
    let scheme = map.text("type").unwrap_or_default().trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let problem = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
        map.complain("type", Some(scheme), problem);
    }
    let scheme = if scheme.is_empty() { "Bearer" } else { scheme };
    map.ignore(&["credentials_ref"]);
    map.finish();
    Auth::Header {
        scheme: scheme.to_owned(),
        credentials,
    }
}

/// A value given directly or by file, not both; neither is the empty value.
fn read_secret(map: &mut MapReader<'_>, dir: &Path, keys: [&'static str; 2]) -> SecretSource {
    let [inline, file] = keys;
    let text = map.text(inline).filter(|text| !text.is_empty());
    let path = map.text(file).filter(|path| !path.is_empty());
    match (text, path) {
        (Some(_), Some(_)) => {
            let problem = format!("at most one of {inline} & {file} must be configured");
            map.complain(file, None, &problem);
            SecretSource::Inline(Secret::default())
        }
        (None, Some(path)) => SecretSource::File(dir.join(path)),
        (text, None) => SecretSource::Inline(Secret::new(text.unwrap_or_default())),
    }
}

fn read_tls(mut map: MapReader<'_>, dir: &Path) -> TlsSettings {
    let ca = read_pem(&mut map, dir, ["ca", "ca_file"]);
    let cert = read_pem(&mut map, dir, ["cert", "cert_file"]);
    let key = read_pem(&mut map, dir, ["key", "key_file"]);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) => {
            map.complain_here(
                "exactly one of key or key_file must be configured when a client certificate is configured",
            );
            None
        }
        (None, Some(_)) => {
            map.complain_here(
                "exactly one of cert or cert_file must be configured when a client key is configured",
            );
            None
        }
        (None, None) => None,
    };
    map.ignore(&["ca_ref", "cert_ref", "key_ref"]);
    let settings = TlsSettings {
        ca,
        identity,
        server_name: map
            .text("server_name")
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
        insecure_skip_verify: map.bool("insecure_skip_verify").unwrap_or(false),
        min_version: read_tls_version(&mut map, "min_version"),
        max_version: read_tls_version(&mut map, "max_version"),
    };
    if settings
        .max_version
        .is_some_and(|max| Some(max) < settings.min_version)
    {
        let problem = "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified";
        map.complain("max_version", None, problem);
    }
    map.finish();
    settings
}

fn read_tls_version(map: &mut MapReader<'_>, key: &'static str) -> Option<TlsVersion> {
    map.choice(
        key,
        &[
            ("TLS10", TlsVersion::V10),
            ("TLS11", TlsVersion::V11),
            ("TLS12", TlsVersion::V12),
            ("TLS13", TlsVersion::V13),
        ],
    )
}

fn read_pem(map: &mut MapReader<'_>, dir: &Path, keys: [&'static str; 2]) -> Option<PemSource> {
    let [inline, file] = keys;
    let text = map.text(inline).filter(|text| !text.is_empty());
    let path = map.text(file).filter(|path| !path.is_empty());
    match (text, path) {
        (Some(_), Some(_)) => {
            let problem = format!("at most one of {inline} and {file} must be configured");
            map.complain(file, None, &problem);
            None
        }
        (Some(text), None) => Some(PemSource::Inline(Secret::new(text))),
        (None, path) => path.map(|path| PemSource::File(dir.join(path))),
    }
}

fn read_headers(map: &mut MapReader<'_>, dir: &Path) -> Vec<(String, HeaderValues)> {
    let mut headers = Vec::new();
    for (entry, item) in map.entries("http_headers").unwrap_or_default() {
        if RESERVED_HEADERS.contains(&entry.key.to_ascii_lowercase().as_str()) {
            let problem = format!("setting header {:?} is not allowed", entry.key);
            map.report.complain(entry.line, &item.key, None, &problem);
        }
        let mut values = MapReader::new(map.report, &item);
        let owned = |texts: Option<Vec<&str>>| -> Vec<String> {
            texts
                .unwrap_or_default()
                .into_iter()
                .map(str::to_owned)
                .collect()
        };
        let plain = owned(values.texts("values"));
        let secrets = owned(values.texts("secrets"));
        let files = owned(values.texts("files"));
        values.finish();
        headers.push((
            entry.key.clone(),
            HeaderValues {
                values: plain,
                secrets: secrets.into_iter().map(Secret::new).collect(),
                files: files.iter().map(|file| dir.join(file)).collect(),
            },
        ));
    }
    headers
}

fn read_proxy(map: &mut MapReader<'_>) -> ProxySettings {
    let url = map.text("proxy_url").filter(|url| !url.is_empty());
    let no_proxy = map.text("no_proxy").filter(|hosts| !hosts.is_empty());
    let from_environment = map.bool("proxy_from_environment").unwrap_or(false);
    map.ignore(&["proxy_connect_header"]);
    if from_environment {
        for (key, is_set) in [
            ("proxy_url", url.is_some()),
            ("no_proxy", no_proxy.is_some()),
        ] {
            if is_set {
                let problem = format!(
                    "if proxy_from_environment is configured, {key} must not be configured"
                );
                map.complain(key, None, &problem);
            }
        }
        return ProxySettings::Environment;
    }
    let Some(url) = url else {
        if no_proxy.is_some() {
            let problem = "if no_proxy is configured, proxy_url must also be configured";
            map.complain("no_proxy", None, problem);
        }
        return ProxySettings::None;
    };
    if url::Url::parse(url).is_err() {
        map.complain(
            "proxy_url",
            None,
            "not a URL, expected one such as http://proxy:3128",
        );
    }
    ProxySettings::Url {
        url: Secret::new(url),
        no_proxy: no_proxy.unwrap_or_default().to_owned(),
    }
}
