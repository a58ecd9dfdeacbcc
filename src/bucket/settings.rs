//! Which bucket: the stores there are and what each has to be told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::bucket::http::HttpSettings;
use crate::bucket::secret::Secret;

/// Which bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSettings {
    /// The store.
    pub kind: BucketKind,
    /// Everything happens below this path of the store; empty for the store's root.
    pub prefix: String,
}

impl BucketSettings {
    /// How the bucket is called in messages: `s3://name`, `file:///path`.
    pub fn name(&self) -> String {
        match &self.kind {
            BucketKind::Filesystem { directory } => format!("file://{}", directory.display()),
            BucketKind::S3(s3) => format!("s3://{}", s3.bucket),
            BucketKind::Gcs(gcs) => format!("gs://{}", gcs.bucket),
            BucketKind::Azure(azure) => format!("az://{}/{}", azure.account, azure.container),
        }
    }
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
    /// Google Cloud Storage.
    Gcs(Box<GcsSettings>),
    /// Azure Blob Storage.
    Azure(Box<AzureSettings>),
}

/// An S3 bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Settings {
    /// Name of the bucket.
    pub bucket: String,
    /// Host and port, or with a scheme the bucket's own address; `None` for Amazon's own by region.
    pub endpoint: Option<String>,
    /// Region; `None` for `us-east-1`.
    pub region: Option<String>,
    /// Key and secret; `None` asks the environment, `~/.aws/credentials`, the web identity or the instance.
    pub credentials: Option<S3Credentials>,
    /// Talk http instead of https.
    pub insecure: bool,
    /// The bucket is part of the host name, not of the path.
    pub virtual_hosted: bool,
    /// How objects are encrypted at rest.
    pub encryption: Option<S3Encryption>,
    /// Who exchanges a web identity for keys, where it is not Amazon by region.
    pub sts_endpoint: Option<String>,
    /// Said of every object that is written: user metadata, and `X-Amz-Storage-Class`.
    pub metadata: BTreeMap<String, String>,
    /// How files are cut into parts.
    pub parts: PartSettings,
    /// How the store is asked.
    pub http: HttpSettings,
}

/// How files are uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartSettings {
    /// Bytes of one part, and largest file that goes up in one request; 16 MiB without.
    pub part_bytes: Option<u64>,
    /// All files go up in one request.
    pub is_whole: bool,
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
    /// With a key that goes with every request.
    SseC {
        /// File with the 32 bytes of it.
        key_file: PathBuf,
    },
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcsSettings {
    /// Name of the bucket.
    pub bucket: String,
    /// The JSON of a service account; `None` asks the environment or the instance.
    pub service_account: Option<Secret>,
    /// Ask without credentials: the bucket is public.
    pub is_public: bool,
    /// Where the store is, when it is not Google.
    pub base_url: Option<String>,
    /// How files are cut into parts.
    pub parts: PartSettings,
    /// How the store is asked.
    pub http: HttpSettings,
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AzureSettings {
    /// Name of the storage account.
    pub account: String,
    /// Name of the container.
    pub container: String,
    /// The account's address with its scheme; `None` for Azure's own.
    pub endpoint: Option<String>,
    /// Who asks.
    pub credentials: AzureCredentials,
    /// How the store is asked.
    pub http: HttpSettings,
}

/// Who asks Azure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AzureCredentials {
    /// The environment, the workload or the machine's own identity says.
    #[default]
    Environment,
    /// The account's key.
    AccountKey(Secret),
    /// A shared access signature.
    SharedAccess(Secret),
    /// An identity of the machine by its client id.
    ManagedIdentity(String),
    /// An application.
    Application {
        /// Its tenant.
        tenant_id: String,
        /// Its name.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
}
