//! How a store is asked over HTTP: connections, patience, what it says about coming back later, and what is counted.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, Client, Identity, StatusCode};
use tokio::time::{Instant, Sleep};

use crate::bucket::error::BucketError;
use crate::bucket::hedged::HedgeSettings;
use crate::bucket::requests::{RequestSort, Requests};
use crate::bucket::store::file_error;
use crate::foundation::{Clock, SystemClock};

/// Silence that is waited for, as in Thanos.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);
/// Time for a connection and its TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Unused connections that are kept.
const IDLE_MAX: usize = 100;
/// A line slower than this is not waited for: content that is sent has so much more time for its answer.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// A store that wants to be left alone for longer is asked again after this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How a store is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpSettings {
    /// How long a connection may idle; 90 s without.
    pub idle_timeout: Option<Duration>,
    /// How long silence lasts before a request is given up; two minutes without.
    pub response_timeout: Option<Duration>,
    /// How long a connection and its TLS may take; ten seconds without.
    pub connect_timeout: Option<Duration>,
    /// Unused connections that are kept; a hundred without.
    pub idle_max: Option<usize>,
    /// Requests at once; without, as many as there are askers.
    pub connections_max: Option<usize>,
    /// File with certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Files with our certificate and its key, where the store asks for one.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
    /// How often a request is repeated; five times without.
    pub retries_max: Option<usize>,
    /// First pause between repetitions.
    pub retry_pause: Option<Duration>,
    /// Longest pause between repetitions.
    pub retry_pause_max: Option<Duration>,
    /// Each request is a line of the debug log.
    pub trace: bool,
    /// Reads that take longer than most are asked once more.
    pub hedging: Option<HedgeSettings>,
}

/// Makes the clients of one store.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    client: Client,
    response_timeout: Duration,
    trace: bool,
    requests: Arc<Requests>,
}

impl Connector {
    /// Reads certificates; connects to nobody yet.
    pub(crate) fn new(settings: &HttpSettings, name: &str) -> Result<Self, BucketError> {
        // The HTTP client needs a process-wide provider; somebody else may have installed the same one.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let refused = |source: reqwest::Error| BucketError::Settings {
            bucket: name.to_owned(),
            source: Box::new(source),
        };
        // Objects come as they are stored: an answer that was unpacked would not have the length it promised.
        let mut builder = Client::builder()
            .user_agent(concat!("gauntlet/", env!("CARGO_PKG_VERSION")))
            .no_gzip()
            .http1_only()
            .connect_timeout(settings.connect_timeout.unwrap_or(CONNECT_TIMEOUT))
            .pool_idle_timeout(settings.idle_timeout.unwrap_or(IDLE_TIMEOUT))
            .pool_max_idle_per_host(settings.idle_max.unwrap_or(IDLE_MAX))
            .tls_danger_accept_invalid_certs(settings.insecure_skip_verify);
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).map_err(file_error("read", path))?;
            let bundle = Certificate::from_pem_bundle(&pem).map_err(refused)?;
            builder = builder.tls_certs_merge(bundle);
        }
        if let Some((certificate, key)) = &settings.client_certificate {
            let mut pem = std::fs::read(key).map_err(file_error("read", key))?;
            pem.push(b'\n');
            pem.extend(std::fs::read(certificate).map_err(file_error("read", certificate))?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(refused)?);
        }
        Ok(Self {
            client: builder.build().map_err(refused)?,
            response_timeout: settings.response_timeout.unwrap_or(RESPONSE_TIMEOUT),
            trace: settings.trace,
            requests: Arc::default(),
        })
    }

    /// What is counted.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sort = RequestSort::of(request.method(), request.uri().query());
        let n_bytes = request.body().content_length() as u64;
        let traced = self.trace.then(|| {
            let path = request.uri().path().to_owned();
            (request.method().clone(), path, Instant::now())
        });
        self.requests.sent(sort, n_bytes);
        let patience = self.response_timeout + Duration::from_secs(n_bytes / BYTES_PER_SECOND_MIN);
        let answer = match tokio::time::timeout(patience, self.client.call(request)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(silent(patience)),
        };
        if let Some((method, path, began)) = traced {
            let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            let micros = began.elapsed().as_micros();
            tracing::debug!(%method, path, status, micros, "bucket request");
        }
        let Ok(response) = answer else {
            self.requests.failed(sort);
            return answer;
        };
        if response.status() == StatusCode::TOO_MANY_REQUESTS || response.status().is_server_error()
        {
            self.requests.failed(sort);
            // The client that gets this answer repeats the request after a pause of its own.
            if let Some(pause) = retry_after(&response, SystemClock.now_ms()) {
                tokio::time::sleep(pause).await;
            }
        }
        let (parts, body) = response.into_parts();
        let body = WatchedBody {
            body,
            patience: self.response_timeout,
            silence: Box::pin(tokio::time::sleep(self.response_timeout)),
            sort,
            requests: Arc::clone(&self.requests),
        };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Connector {
    fn call<'s, 'a>(
        &'s self,
        request: HttpRequest,
    ) -> BoxFuture<'a, Result<HttpResponse, HttpError>>
    where
        's: 'a,
        Self: 'a,
    {
        self.ask(request).boxed()
    }
}

/// How long the store wants to be left alone: seconds, or until a date.
fn retry_after(response: &HttpResponse, now_ms: i64) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_no_number) => {
            let until = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            let ms = Timestamp::as_millisecond(until).saturating_sub(now_ms);
            Duration::from_millis(u64::try_from(ms).unwrap_or(0))
        }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

fn silent(patience: Duration) -> HttpError {
    let text = format!("nothing came for {} ms", patience.as_millis());
    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
    HttpError::new(HttpErrorKind::Timeout, source)
}

/// The content of an answer: counted, and given up when nothing comes for too long.
struct WatchedBody {
    body: HttpResponseBody,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
    sort: RequestSort,
    requests: Arc<Requests>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                let n_bytes = frame.data_ref().map_or(0, Bytes::len);
                this.requests.received(this.sort, n_bytes as u64);
                let until = Instant::now() + this.patience;
                this.silence.as_mut().reset(until);
            }
            return Poll::Ready(frame);
        }
        match this.silence.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(silent(this.patience)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Option<Duration> {
        let body = HttpResponseBody::new(WatchedBody {
            body: String::new().into(),
            patience: Duration::ZERO,
            silence: Box::pin(tokio::time::sleep(Duration::ZERO)),
            sort: RequestSort::Read,
            requests: Arc::default(),
        });
        let mut response = HttpResponse::new(body);
        response
            .headers_mut()
            .insert(RETRY_AFTER, text.parse().unwrap());
        retry_after(&response, 1_700_000_000_000)
    }

    #[tokio::test]
    async fn a_store_says_when_to_come_back_in_seconds_or_as_a_date() {
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("86400"), Some(RETRY_AFTER_MAX));
        let date = "Tue, 14 Nov 2023 22:13:50 GMT";
        assert_eq!(after(date), Some(Duration::from_secs(30)));
        assert_eq!(after("Tue, 14 Nov 2023 22:13:10 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}
