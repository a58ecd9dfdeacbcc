//! Which bucket, and how it is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use crate::bucket::error::BucketError;
use crate::bucket::port::Bucket;
use crate::bucket::store::{StoreBucket, file_error};

/// Which bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSettings {
    /// The store.
    pub kind: BucketKind,
    /// Everything happens below this path of the store; empty for the store's root.
    pub prefix: String,
}

/// The stores there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketKind {
    /// A directory of this machine, made if it is not there.
    Filesystem {
        /// The directory.
        directory: PathBuf,
    },
    /// S3 or something compatible.
    S3(Box<S3Settings>),
}

/// An S3 bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Settings {
    /// Name of the bucket.
    pub bucket: String,
    /// Host and port; `None` for Amazon's own by region.
    pub endpoint: Option<String>,
    /// Region; `None` for `us-east-1`.
    pub region: Option<String>,
    /// Key and secret; `None` asks the environment, the web identity or the instance.
    pub credentials: Option<S3Credentials>,
    /// Talk http instead of https.
    pub insecure: bool,
    /// The bucket is part of the host name, not of the path.
    pub virtual_hosted: bool,
    /// How objects are encrypted at rest.
    pub encryption: Option<S3Encryption>,
    /// File with certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
    /// How long a connection may idle.
    pub idle_timeout: Option<Duration>,
    /// How long a request may last without a byte of answer.
    pub response_timeout: Option<Duration>,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The key's name.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// For temporary keys.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secrets stay out of every log.
        f.debug_struct("S3Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Encryption at rest by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Encryption {
    /// With the store's own key.
    SseS3,
    /// With a key of the key service.
    SseKms {
        /// Its name.
        key_id: String,
    },
}

/// Opens the bucket. S3 is not asked anything yet: a bucket that cannot be reached now may be later.
pub fn open(settings: &BucketSettings) -> Result<Arc<dyn Bucket>, BucketError> {
    match &settings.kind {
        BucketKind::Filesystem { directory } => {
            std::fs::create_dir_all(directory).map_err(file_error("create", directory))?;
            let name = format!("file://{}", directory.display());
            let store = LocalFileSystem::new_with_prefix(directory)
                .map_err(|source| refused(&name, source))?
                .with_fsync(true)
                .with_automatic_cleanup(true);
            let bucket = StoreBucket::in_directory(name, store, &settings.prefix);
            Ok(Arc::new(bucket))
        }
        BucketKind::S3(s3) => {
            let name = format!("s3://{}", s3.bucket);
            let store = open_s3(s3, &name)?;
            let bucket = StoreBucket::new(name, Arc::new(store), &settings.prefix);
            Ok(Arc::new(bucket))
        }
    }
}

fn open_s3(s3: &S3Settings, name: &str) -> Result<AmazonS3, BucketError> {
    // The HTTP client needs a process-wide provider; somebody else may have installed the same one.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mut builder = match &s3.credentials {
        Some(keys) => {
            let keyed = AmazonS3Builder::new()
                .with_access_key_id(&keys.access_key)
                .with_secret_access_key(&keys.secret_key);
            match &keys.session_token {
                Some(token) => keyed.with_token(token),
                None => keyed,
            }
        }
        None => AmazonS3Builder::from_env(),
    };
    builder = builder
        .with_bucket_name(&s3.bucket)
        .with_region(s3.region.as_deref().unwrap_or("us-east-1"))
        .with_allow_http(s3.insecure)
        .with_virtual_hosted_style_request(s3.virtual_hosted)
        .with_retry(retries())
        .with_client_options(client_options(s3, name)?);
    if let Some(endpoint) = &s3.endpoint {
        let scheme = if s3.insecure { "http" } else { "https" };
        builder = builder.with_endpoint(if endpoint.contains("://") {
            endpoint.clone()
        } else if s3.virtual_hosted {
            format!("{scheme}://{}.{endpoint}", s3.bucket)
        } else {
            format!("{scheme}://{endpoint}")
        });
    }
    builder = match &s3.encryption {
        None => builder,
        Some(S3Encryption::SseKms { key_id }) => builder.with_sse_kms_encryption(key_id),
        Some(S3Encryption::SseS3) => {
            let key = "aws_server_side_encryption".parse::<AmazonS3ConfigKey>();
            builder.with_config(key.map_err(|source| refused(name, source))?, "AES256")
        }
    };
    builder.build().map_err(|source| refused(name, source))
}

fn client_options(s3: &S3Settings, name: &str) -> Result<ClientOptions, BucketError> {
    let mut options = ClientOptions::new()
        .with_allow_http(s3.insecure)
        .with_allow_invalid_certificates(s3.insecure_skip_verify)
        .with_connect_timeout(Duration::from_secs(10))
        .with_read_timeout(s3.response_timeout.unwrap_or(Duration::from_mins(2)))
        // A part of an upload over a slow line takes its time; silence is what the read timeout ends.
        .with_timeout_disabled();
    if let Some(idle) = s3.idle_timeout {
        options = options.with_pool_idle_timeout(idle);
    }
    if let Some(path) = &s3.ca_file {
        let pem = std::fs::read(path).map_err(file_error("read", path))?;
        let bundle = Certificate::from_pem_bundle(&pem).map_err(|source| refused(name, source))?;
        for certificate in bundle {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// The client repeats what is safe to repeat: server errors, throttling, broken connections.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_secs(30),
    }
}

fn refused(name: &str, source: impl std::error::Error + Send + Sync + 'static) -> BucketError {
    BucketError::Settings {
        bucket: name.to_owned(),
        source: Box::new(source),
    }
}
