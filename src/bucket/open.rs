//! Opens a bucket: the store, what repeats and hedges its requests, and what counts them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::limit::LimitStore;
use object_store::local::LocalFileSystem;
use object_store::{Attribute, Attributes, BackoffConfig, ObjectStore, RetryConfig};

use crate::bucket::aws_profile::shared_keys;
use crate::bucket::error::BucketError;
use crate::bucket::hedged::HedgedBucket;
use crate::bucket::http::{Connector, HttpSettings};
use crate::bucket::port::Bucket;
use crate::bucket::retrying::RetryingBucket;
use crate::bucket::settings::{
    AzureCredentials, AzureSettings, BucketKind, BucketSettings, GcsSettings, PartSettings,
    S3Encryption, S3Settings,
};
use crate::bucket::store::{StoreBucket, Uploads, file_error};

/// One request is repeated so often, and for so long.
const RETRIES: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A whole operation, with all its requests, is begun so often, and ends at the latest then.
const ATTEMPTS_MAX: u32 = 3;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_mins(3);

/// The header that is a class of storage, not metadata.
const STORAGE_CLASS: &str = "x-amz-storage-class";

/// Opens the bucket. A store is not asked anything yet: a bucket that cannot be reached now may be later.
pub fn open(settings: &BucketSettings) -> Result<Arc<dyn Bucket>, BucketError> {
    let (name, prefix) = (settings.name(), settings.prefix.as_str());
    let (store, http, requests) = match &settings.kind {
        BucketKind::Filesystem { directory } => {
            return open_directory(directory, name, prefix);
        }
        BucketKind::S3(s3) => {
            let connector = Connector::new(&s3.http, &name)?;
            let requests = connector.requests();
            let store = open_s3(s3, connector, &name)?;
            let uploads = uploads(s3.parts, attributes(s3));
            (
                StoreBucket::new(name, store, prefix).with_uploads(uploads),
                &s3.http,
                requests,
            )
        }
        BucketKind::Gcs(gcs) => {
            let connector = Connector::new(&gcs.http, &name)?;
            let requests = connector.requests();
            let store = open_gcs(gcs, connector, &name)?;
            let uploads = uploads(gcs.parts, Attributes::new());
            (
                StoreBucket::new(name, store, prefix).with_uploads(uploads),
                &gcs.http,
                requests,
            )
        }
        BucketKind::Azure(azure) => {
            let connector = Connector::new(&azure.http, &name)?;
            let requests = connector.requests();
            let store = open_azure(azure, connector, &name)?;
            (StoreBucket::new(name, store, prefix), &azure.http, requests)
        }
    };
    let counted = Arc::new(store.counting(requests));
    let retrying =
        RetryingBucket::new(counted, ATTEMPTS_MAX, ATTEMPT_PAUSE).with_deadline(DEADLINE);
    Ok(match http.hedging {
        Some(hedging) => Arc::new(HedgedBucket::new(Arc::new(retrying), hedging)),
        None => Arc::new(retrying),
    })
}

fn open_directory(
    directory: &Path,
    name: String,
    prefix: &str,
) -> Result<Arc<dyn Bucket>, BucketError> {
    std::fs::create_dir_all(directory).map_err(file_error("create", directory))?;
    let store = LocalFileSystem::new_with_prefix(directory)
        .map_err(|source| refused(&name, source))?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(Arc::new(StoreBucket::in_directory(name, store, prefix)))
}

fn open_s3(
    s3: &S3Settings,
    connector: Connector,
    name: &str,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
    let shared = s3.credentials.is_none().then(shared_keys).flatten();
    let mut builder = match s3.credentials.as_ref().or(shared.as_ref()) {
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
        // Not everything that is like S3 deletes many at once, and here nobody asks for that.
        .with_disable_bulk_delete(true)
        .with_retry(retries(&s3.http))
        .with_http_connector(connector);
    if let Some(endpoint) = &s3.sts_endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, endpoint);
    }
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
        Some(S3Encryption::SseC { key_file }) => {
            let key = std::fs::read(key_file).map_err(file_error("read", key_file))?;
            builder.with_ssec_encryption(STANDARD.encode(key))
        }
        Some(S3Encryption::SseS3) => {
            let key = "aws_server_side_encryption".parse::<AmazonS3ConfigKey>();
            builder.with_config(key.map_err(|source| refused(name, source))?, "AES256")
        }
    };
    let store = builder.build().map_err(|source| refused(name, source))?;
    Ok(limited(store, &s3.http))
}

fn open_gcs(
    gcs: &GcsSettings,
    connector: Connector,
    name: &str,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
    let mut builder = match (&gcs.service_account, gcs.is_public) {
        (Some(account), _) => {
            GoogleCloudStorageBuilder::new().with_service_account_key(account.reveal())
        }
        // Writes are signed whatever is said; an empty token keeps them from asking a machine that is not there.
        (None, true) => GoogleCloudStorageBuilder::new()
            .with_skip_signature(true)
            .with_bearer_token(""),
        (None, false) => GoogleCloudStorageBuilder::from_env(),
    };
    if let Some(url) = &gcs.base_url {
        builder = builder.with_base_url(url);
    }
    let store = builder
        .with_bucket_name(&gcs.bucket)
        .with_retry(retries(&gcs.http))
        .with_http_connector(connector)
        .build()
        .map_err(|source| refused(name, source))?;
    Ok(limited(store, &gcs.http))
}

fn open_azure(
    azure: &AzureSettings,
    connector: Connector,
    name: &str,
) -> Result<Arc<dyn ObjectStore>, BucketError> {
    let mut builder = match &azure.credentials {
        AzureCredentials::Environment => MicrosoftAzureBuilder::from_env(),
        AzureCredentials::AccountKey(key) => {
            MicrosoftAzureBuilder::new().with_access_key(key.reveal())
        }
        AzureCredentials::SharedAccess(signature) => {
            let text = signature.reveal().trim_start_matches('?');
            let pairs: Vec<(String, String)> = url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect();
            MicrosoftAzureBuilder::new().with_sas_authorization(pairs)
        }
        AzureCredentials::ManagedIdentity(client_id) => {
            MicrosoftAzureBuilder::new().with_client_id(client_id)
        }
        AzureCredentials::Application {
            tenant_id,
            client_id,
            client_secret,
        } => MicrosoftAzureBuilder::new().with_client_secret_authorization(
            client_id,
            client_secret.reveal(),
            tenant_id,
        ),
    };
    if let Some(endpoint) = &azure.endpoint {
        builder = builder
            .with_endpoint(endpoint.clone())
            .with_allow_http(endpoint.starts_with("http://"));
    }
    let store = builder
        .with_account(&azure.account)
        .with_container_name(&azure.container)
        .with_retry(retries(&azure.http))
        .with_http_connector(connector)
        .build()
        .map_err(|source| refused(name, source))?;
    Ok(limited(store, &azure.http))
}

/// At most so many requests at once, where that is asked for.
fn limited(store: impl ObjectStore, http: &HttpSettings) -> Arc<dyn ObjectStore> {
    match http.connections_max {
        Some(n) => Arc::new(LimitStore::new(store, n)),
        None => Arc::new(store),
    }
}

fn attributes(s3: &S3Settings) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, value) in &s3.metadata {
        let attribute = if name.eq_ignore_ascii_case(STORAGE_CLASS) {
            Attribute::StorageClass
        } else {
            Attribute::Metadata(name.clone().into())
        };
        attributes.insert(attribute, value.clone().into());
    }
    attributes
}

fn uploads(parts: PartSettings, attributes: Attributes) -> Uploads {
    Uploads {
        part_bytes: parts.part_bytes,
        is_whole: parts.is_whole,
        attributes,
    }
}

/// The client repeats what is safe to repeat: server errors, throttling, broken connections.
fn retries(http: &HttpSettings) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: http.retry_pause.unwrap_or(RETRY_PAUSE),
            max_backoff: http.retry_pause_max.unwrap_or(RETRY_PAUSE_MAX),
            base: 2.0,
        },
        max_retries: http.retries_max.unwrap_or(RETRIES),
        retry_timeout: RETRY_TIMEOUT,
    }
}

fn refused(name: &str, source: impl std::error::Error + Send + Sync + 'static) -> BucketError {
    BucketError::Settings {
        bucket: name.to_owned(),
        source: Box::new(source),
    }
}
