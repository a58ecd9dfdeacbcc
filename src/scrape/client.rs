//! HTTP requests to targets and discovery services.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::tls::Version;
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy, redirect};
use thiserror::Error;

use crate::scrape::settings::{
    Auth, HttpSettings, PemSource, ProxySettings, SecretSource, TlsSettings, TlsVersion,
};

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("Gauntlet/", env!("CARGO_PKG_VERSION"));
const REDIRECTS_MAX: usize = 10;
/// A file with a secret or a certificate is not larger than this.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Why nothing was fetched. The texts are Prometheus' where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The client could not be made of its settings.
    #[error("set up HTTP client: {0}")]
    Setup(String),
    /// No answer.
    #[error("Get {url:?}: {reason}")]
    Request {
        /// What was asked for.
        url: String,
        /// Why there is no answer.
        reason: String,
    },
    /// Not in time.
    #[error("Get {url:?}: context deadline exceeded")]
    TimedOut {
        /// What was asked for.
        url: String,
    },
    /// Another status than 200.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// More bytes than allowed.
    #[error("body size limit exceeded")]
    BodySize,
}

/// What came back; the body is in the caller's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetched {
    /// `Content-Type`, empty when absent.
    pub(super) content_type: String,
}

/// What to ask for.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) body_bytes_max: Option<u64>,
}

/// A client for one job, or for one target where the target's name is replaced.
#[derive(Debug)]
pub(super) struct HttpClient {
    settings: HttpSettings,
    compression: bool,
    built: Mutex<Option<Built>>,
}

/// A client and the state of the files it was made of.
#[derive(Debug, Clone)]
struct Built {
    client: Client,
    files: Vec<Option<(SystemTime, u64)>>,
    /// Host and port it connects to, where every name is replaced by the one of the certificate.
    host: Option<String>,
}

/// Chooses ring for all of TLS; once per process.
fn install_crypto() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // An error means that somebody else was first, with the same provider: there is no other in this build.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
    });
}

impl HttpClient {
    pub(super) fn new(settings: HttpSettings, compression: bool) -> Self {
        install_crypto();
        Self {
            settings,
            compression,
            built: Mutex::new(None),
        }
    }

    /// Do two targets need two clients?
    pub(super) fn is_per_target(&self) -> bool {
        self.settings.tls.server_name.is_some()
    }

    /// The same settings with nothing built yet.
    pub(super) fn fresh(&self) -> Self {
        Self::new(self.settings.clone(), self.compression)
    }

    /// Fetches into `body`, which is emptied first.
    pub(super) async fn fetch(
        &self,
        request: Request<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Fetched, FetchError> {
        body.clear();
        let (url, timeout) = (request.url.to_owned(), request.timeout);
        match tokio::time::timeout(timeout, self.fetch_unhurried(request, body)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(FetchError::TimedOut { url }),
        }
    }

    async fn fetch_unhurried(
        &self,
        request: Request<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Fetched, FetchError> {
        let Request {
            url,
            mut headers,
            timeout: _,
            body_bytes_max,
        } = request;
        let failed = |error: reqwest::Error| FetchError::Request {
            url: url.to_owned(),
            reason: innermost(&error),
        };
        let (client, sent_url) = self.client_for(url, &mut headers)?;
        if !self.compression {
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
        }
        self.add_configured(&mut headers)?;
        let mut response = client
            .get(&sent_url)
            .headers(headers)
            .send()
            .await
            .map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().to_string()));
        }
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            let n_bytes = u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX);
            if body_bytes_max.is_some_and(|max| max < n_bytes) {
                return Err(FetchError::BodySize);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { content_type })
    }

    /// The client, made anew when a certificate file changed, and the URL it has to be given.
    fn client_for(
        &self,
        url: &str,
        headers: &mut HeaderMap,
    ) -> Result<(Client, String), FetchError> {
        let setup = |error: &dyn Error| FetchError::Setup(innermost(error));
        let mut parsed = reqwest::Url::parse(url).map_err(|error| setup(&error))?;
        let host = parsed.host_str().map(|host| match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        });
        let files = self.settings.tls.file_states();
        let mut built = self.built.lock();
        let is_current = built.as_ref().is_some_and(|built| {
            built.files == files && (!self.is_per_target() || built.host == host)
        });
        if !is_current {
            let resolve_as = parsed.host_str().unwrap_or_default();
            let client = self.build(resolve_as)?;
            *built = Some(Built {
                client,
                files,
                host: host.clone(),
            });
        }
        let Some(client) = built.as_ref().map(|built| built.client.clone()) else {
            return Err(FetchError::Setup("no client".to_owned()));
        };
        drop(built);
        if let Some(server_name) = &self.settings.tls.server_name
            && parsed.scheme() == "https"
        {
            // The name goes into the handshake through the URL; the target still hears its own name.
            let host = host.unwrap_or_default();
            let value = HeaderValue::from_str(&host).map_err(|error| setup(&error))?;
            headers.insert(header::HOST, value);
            parsed
                .set_host(Some(server_name))
                .map_err(|error| setup(&error))?;
            return Ok((client, parsed.to_string()));
        }
        Ok((client, url.to_owned()))
    }

    fn build(&self, host: &str) -> Result<Client, FetchError> {
        let failed = |error: reqwest::Error| FetchError::Setup(innermost(&error));
        match self.builder(host)?.build() {
            Ok(client) => Ok(client),
            // A machine without authorities can still scrape what needs none; the rest fails its own handshake.
            Err(error) if self.settings.tls.ca.is_none() => {
                tracing::warn!(error = %innermost(&error), "trusts no certificate authority");
                let builder = self.builder(host)?.tls_certs_only([]);
                builder.build().map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn builder(&self, host: &str) -> Result<ClientBuilder, FetchError> {
        let HttpSettings {
            auth: _,
            tls,
            headers: _,
            proxy,
            follow_redirects,
            http2,
        } = &self.settings;
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .gzip(self.compression)
            .redirect(if *follow_redirects {
                redirect::Policy::limited(REDIRECTS_MAX)
            } else {
                redirect::Policy::none()
            });
        if !http2 || tls.server_name.is_some() {
            builder = builder.http1_only();
        }
        if tls.server_name.is_some() {
            builder = builder.dns_resolver(Arc::new(OneHost(Arc::from(host))));
        }
        let builder = with_proxy(builder, proxy)?;
        with_tls(builder, tls)
    }

    /// Credentials and configured headers; files are read now.
    fn add_configured(&self, headers: &mut HeaderMap) -> Result<(), FetchError> {
        let invalid =
            |name: &str| FetchError::Setup(format!("header {name} holds a control character"));
        let authorization = match &self.settings.auth {
            Auth::None => None,
            Auth::Basic { user, password } => {
                use base64::Engine;
                let pair = format!("{}:{}", user.read()?, password.read()?);
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(format!("Basic {encoded}"))
            }
            Auth::Header {
                scheme,
                credentials,
            } => Some(format!("{scheme} {}", credentials.read()?)),
        };
        if let Some(text) = authorization {
            let mut value =
                HeaderValue::from_str(&text).map_err(|_control| invalid("Authorization"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        for (name, values) in &self.settings.headers {
            let header_name =
                HeaderName::try_from(name.as_str()).map_err(|_control| invalid(name))?;
            let mut texts = values.values.clone();
            texts.extend(
                values
                    .secrets
                    .iter()
                    .map(|secret| secret.reveal().to_owned()),
            );
            for file in &values.files {
                texts.push(read_secret_file(file)?);
            }
            for text in texts {
                let value = HeaderValue::from_str(&text).map_err(|_control| invalid(name))?;
                headers.append(header_name.clone(), value);
            }
        }
        Ok(())
    }
}

/// Resolves every name to the addresses of one host.
#[derive(Debug)]
struct OneHost(Arc<str>);

impl Resolve for OneHost {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            let bare = host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, 0)).await?.collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

fn with_proxy(builder: ClientBuilder, proxy: &ProxySettings) -> Result<ClientBuilder, FetchError> {
    match proxy {
        ProxySettings::None => Ok(builder.no_proxy()),
        ProxySettings::Environment => Ok(builder),
        ProxySettings::Url { url, no_proxy } => {
            let proxy =
                Proxy::all(url.reveal()).map_err(|error| FetchError::Setup(innermost(&error)))?;
            Ok(builder.proxy(proxy.no_proxy(NoProxy::from_string(no_proxy))))
        }
    }
}

fn with_tls(mut builder: ClientBuilder, tls: &TlsSettings) -> Result<ClientBuilder, FetchError> {
    let TlsSettings {
        ca,
        identity,
        server_name: _,
        insecure_skip_verify,
        min_version,
        max_version,
    } = tls;
    let setup = |error: reqwest::Error| FetchError::Setup(innermost(&error));
    if let Some(ca) = ca {
        let certificates = Certificate::from_pem_bundle(&ca.read()?).map_err(setup)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((certificate, key)) = identity {
        let mut pem = certificate.read()?;
        pem.push(b'\n');
        pem.extend(key.read()?);
        builder = builder.identity(Identity::from_pem(&pem).map_err(setup)?);
    }
    if *insecure_skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    // TLS below 1.2 is never spoken, so asking for at least 1.0 or 1.1 changes nothing.
    if let Some(version) = min_version.and_then(version_of) {
        builder = builder.tls_version_min(version);
    }
    if let Some(version) = max_version {
        let version = version_of(*version).ok_or_else(|| {
            FetchError::Setup(
                "tls_config.max_version is below TLS 1.2, the oldest spoken".to_owned(),
            )
        })?;
        builder = builder.tls_version_max(version);
    }
    Ok(builder)
}

fn version_of(version: TlsVersion) -> Option<Version> {
    match version {
        TlsVersion::V10 | TlsVersion::V11 => None,
        TlsVersion::V12 => Some(Version::TLS_1_2),
        TlsVersion::V13 => Some(Version::TLS_1_3),
    }
}

impl TlsSettings {
    /// When each file changed and how long it is.
    fn file_states(&self) -> Vec<Option<(SystemTime, u64)>> {
        let pair = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca
            .iter()
            .chain(pair)
            .map(|source| match source {
                PemSource::Inline(_) => None,
                PemSource::File(path) => {
                    let metadata = std::fs::metadata(path).ok()?;
                    Some((metadata.modified().ok()?, metadata.len()))
                }
            })
            .collect()
    }
}

impl PemSource {
    fn read(&self) -> Result<Vec<u8>, FetchError> {
        match self {
            Self::Inline(text) => Ok(text.reveal().as_bytes().to_vec()),
            Self::File(path) => read_secret_file(path).map(String::into_bytes),
        }
    }
}

impl SecretSource {
    fn read(&self) -> Result<String, FetchError> {
        match self {
            Self::Inline(text) => Ok(text.reveal().to_owned()),
            Self::File(path) => read_secret_file(path),
        }
    }
}

fn read_secret_file(path: &Path) -> Result<String, FetchError> {
    let failed = |reason: String| FetchError::Setup(format!("read {}: {reason}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if SECRET_BYTES_MAX < metadata.len() {
        return Err(failed(format!("larger than {SECRET_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Ok(text.trim().to_owned())
}

/// The error that caused the error: the outer ones only say that a request failed.
fn innermost(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
