//! What each store's YAML means, and what is wrong with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bucket::{
    AzureCredentials, BucketKind, BucketSettings, HedgeSettings, HttpSettings, PartSettings,
    S3Credentials, S3Encryption, S3Settings,
};
use crate::config::bucket::{load_bucket, parse_bucket};
use crate::config::prometheus::Complaint;

/// Every key that Thanos documents for S3.
const DOCUMENTED: &str = r#"
type: S3
config:
  bucket: "blocks"
  endpoint: "minio.example:9000"
  region: "eu-1"
  disable_dualstack: false
  aws_sdk_auth: false
  access_key: "key"
  insecure: true
  signature_version2: false
  secret_key: "secret"
  session_token: ""
  put_user_metadata: {}
  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 2m
    insecure_skip_verify: false
    tls_handshake_timeout: 10s
    expect_continue_timeout: 1s
    max_idle_conns: 100
    max_idle_conns_per_host: 100
    max_conns_per_host: 0
    tls_config:
      ca_file: "/etc/ca.pem"
      cert_file: ""
      key_file: ""
      server_name: ""
      insecure_skip_verify: false
    disable_compression: false
  trace:
    enable: false
  list_objects_version: ""
  bucket_lookup_type: auto
  send_content_md5: true
  disable_multipart: false
  part_size: 67108864
  sse_config:
    type: "SSE-S3"
  sts_endpoint: ""
  max_retries: 0
prefix: ""
"#;

fn read(text: &str) -> Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>> {
    parse_bucket("bucket.yml", text)
}

#[track_caller]
fn check_refused(text: &str, expect: &[&str]) {
    let complaints = read(text).unwrap_err();
    let complaints: Vec<_> = complaints.iter().map(ToString::to_string).collect();
    assert_eq!(complaints, expect);
}

#[track_caller]
fn s3(text: &str) -> S3Settings {
    let (settings, _) = read(text).unwrap();
    let BucketKind::S3(s3) = settings.kind else {
        panic!("{settings:?}");
    };
    *s3
}

#[test]
fn a_directory_is_named_with_its_prefix() {
    let text = "type: FILESYSTEM\nconfig:\n  directory: /var/lib/bucket\nprefix: /tenant/one/\n";
    let (settings, warnings) = read(text).unwrap();
    let expect = BucketSettings {
        kind: BucketKind::Filesystem {
            directory: PathBuf::from("/var/lib/bucket"),
        },
        prefix: "tenant/one".to_owned(),
    };
    assert_eq!((settings, warnings), (expect, Vec::new()));
}

#[test]
fn an_s3_bucket_as_thanos_documents_it_is_read_without_a_warning() {
    let (settings, warnings) = read(DOCUMENTED).unwrap();
    let BucketKind::S3(s3) = settings.kind else {
        panic!("{settings:?}");
    };
    let expect = S3Settings {
        bucket: "blocks".to_owned(),
        endpoint: Some("minio.example:9000".to_owned()),
        region: Some("eu-1".to_owned()),
        credentials: Some(S3Credentials {
            access_key: "key".to_owned(),
            secret_key: "secret".to_owned(),
            session_token: None,
        }),
        insecure: true,
        virtual_hosted: false,
        encryption: Some(S3Encryption::SseS3),
        sts_endpoint: None,
        metadata: std::collections::BTreeMap::new(),
        parts: PartSettings {
            part_bytes: Some(64 << 20),
            is_whole: false,
        },
        http: HttpSettings {
            idle_timeout: Some(Duration::from_secs(90)),
            response_timeout: Some(Duration::from_secs(120)),
            connect_timeout: Some(Duration::from_secs(10)),
            idle_max: Some(100),
            ca_file: Some(PathBuf::from("/etc/ca.pem")),
            ..HttpSettings::default()
        },
    };
    assert_eq!(*s3, expect);
    assert_eq!(warnings, []);
}

#[test]
fn every_choice_of_an_s3_bucket_means_something() {
    let read = s3("type: S3
config:
  bucket: b
  endpoint: s3.eu-1.amazonaws.com
  aws_sdk_auth: true
  put_user_metadata: {team: metrics, X-Amz-Storage-Class: STANDARD_IA}
  disable_multipart: true
  sse_config: {type: SSE-C, encryption_key: /etc/key}
  sts_endpoint: https://sts.example
  max_retries: 7
  trace: {enable: true}
  http_config:
    max_idle_conns: 50
    max_idle_conns_per_host: 20
    max_conns_per_host: 8
    tls_config: {cert_file: /c, key_file: /k, server_name: s3.eu-1.amazonaws.com}
hedging_config: {enabled: true}
");
    assert!(read.virtual_hosted);
    assert_eq!(read.credentials, None);
    assert_eq!(read.metadata.len(), 2);
    assert!(read.parts.is_whole);
    let key_file = PathBuf::from("/etc/key");
    assert_eq!(read.encryption, Some(S3Encryption::SseC { key_file }));
    assert_eq!(read.sts_endpoint.as_deref(), Some("https://sts.example"));
    let files = (PathBuf::from("/c"), PathBuf::from("/k"));
    let expect = HttpSettings {
        idle_max: Some(20),
        connections_max: Some(8),
        client_certificate: Some(files),
        retries_max: Some(7),
        trace: true,
        hedging: Some(HedgeSettings {
            up_to: 3,
            quantile: 0.9,
        }),
        ..HttpSettings::default()
    };
    assert_eq!(read.http, expect);
    let kms = s3(
        "{type: s3, config: {bucket: b, endpoint: e, bucket_lookup_type: virtual-hosted, sse_config: {type: SSE-KMS, kms_key_id: k}}}",
    );
    assert!(kms.virtual_hosted);
    let key_id = "k".to_owned();
    assert_eq!(kms.encryption, Some(S3Encryption::SseKms { key_id }));
}

#[test]
fn an_endpoint_says_its_region_and_how_a_bucket_is_named() {
    let read = |bucket: &str, endpoint: &str, more: &str| {
        let s3 = s3(&format!(
            "{{type: S3, config: {{bucket: {bucket}, endpoint: \"{endpoint}\"{more}}}}}"
        ));
        (s3.region, s3.virtual_hosted)
    };
    for (bucket, endpoint, more, region, is_virtual) in [
        (
            "b",
            "s3.eu-west-1.amazonaws.com",
            "",
            Some("eu-west-1"),
            true,
        ),
        (
            "b",
            "s3-eu-west-1.amazonaws.com",
            "",
            Some("eu-west-1"),
            true,
        ),
        (
            "b",
            "s3.dualstack.eu-1.amazonaws.com",
            "",
            Some("eu-1"),
            true,
        ),
        ("b", "s3.cn-1.amazonaws.com.cn", "", Some("cn-1"), true),
        ("b.c", "s3.eu-1.amazonaws.com", "", Some("eu-1"), false),
        ("b", "s3.amazonaws.com", "", None, true),
        (
            "b",
            "s3.eu-1.amazonaws.com",
            ", region: us-2",
            Some("us-2"),
            true,
        ),
        ("b", "minio.example:9000", "", None, false),
        ("b", "storage.googleapis.com", "", None, true),
    ] {
        let expect = (region.map(str::to_owned), is_virtual);
        assert_eq!(read(bucket, endpoint, more), expect, "{endpoint} {more}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_key() {
    check_refused(
        "type: S3\nprefix: a/../b\nconfig:\n  bucket: b\n  endpoint: http://x\n  acces_key: a\n  secret_key: s\n  signature_version2: true\n  list_objects_version: v1\n  part_size: 1000\n  sse_config: {type: SSE-C, kms_encryption_context: {a: b}}\n  http_config:\n    tls_config: {cert_file: c, server_name: other}\n",
        &[
            "bucket.yml:2: prefix = \"a/../b\": must not contain . or .. as a part",
            "bucket.yml:5: config.endpoint = \"http://x\": expected host or host:port without a scheme; insecure chooses http",
            "bucket.yml:6: config.acces_key: unknown key, did you mean access_key?",
            "bucket.yml:7: config.secret_key: access_key is missing",
            "bucket.yml:8: config.signature_version2 = \"true\": Amazon ended version 2 of its signatures, only version 4 is spoken",
            "bucket.yml:9: config.list_objects_version = \"v1\": only version 2 of listings is spoken, which every S3 answers since 2016",
            "bucket.yml:10: config.part_size = \"1000\": expected from 5242880 (5 MiB) to 1073741824 (1 GiB) bytes",
            "bucket.yml:11: config.sse_config.kms_encryption_context: a context cannot be sent; without one the bucket's default applies",
            "bucket.yml:11: config.sse_config: encryption_key is missing, expected a file with 32 bytes",
            "bucket.yml:13: config.http_config.tls_config.cert_file: key_file is missing",
            "bucket.yml:13: config.http_config.tls_config.server_name = \"other\": certificates are checked against the endpoint's own name",
        ],
    );
}

#[test]
fn what_is_missing_is_named() {
    let kinds = "expected one of FILESYSTEM, S3, GCS, AZURE, COS, ALIYUNOSS, OBS, BOS, OCI";
    check_refused("", &[&format!("bucket.yml:1: type is missing, {kinds}")]);
    check_refused(
        "type: FTP\nconfig: {}",
        &[&format!("bucket.yml:1: type = \"FTP\": {kinds}")],
    );
    check_refused("type: S3", &["bucket.yml:1: config is missing"]);
    check_refused(
        "type: FILESYSTEM\nconfig: {}",
        &["bucket.yml:2: config: directory is missing"],
    );
    check_refused(
        "type: [",
        &["bucket.yml:1: unclosed bracket '[' at line 1, column 7"],
    );
    let complaints = read("{type: SWIFT, config: {a: b}}").unwrap_err();
    let text = complaints[0].to_string();
    assert!(text.contains("its S3 API"), "{text}");
}

#[test]
fn a_google_bucket_is_read() {
    let text = "type: GCS\nconfig:\n  bucket: b\n  service_account: |-\n    {\"private_key\": \"hidden\"}\n  chunk_size_bytes: 16000000\n  max_retries: 2\n";
    let (settings, warnings) = read(text).unwrap();
    assert_eq!(settings.name(), "gs://b");
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hidden"), "{shown}");
    let BucketKind::Gcs(gcs) = settings.kind else {
        panic!("{shown}");
    };
    assert!(gcs.service_account.is_some() && !gcs.is_public);
    assert_eq!(gcs.parts.part_bytes, Some(16_252_928));
    assert_eq!(gcs.http.retries_max, Some(2));
    assert_eq!(warnings, []);
    check_refused(
        "type: GCS\nconfig: {use_grpc: true, no_auth: true, service_account: a}",
        &[
            "bucket.yml:2: config: bucket is missing",
            "bucket.yml:2: config.no_auth = \"true\": no_auth and service_account exclude each other",
            "bucket.yml:2: config.use_grpc = \"true\": only Google's HTTP interface is spoken",
        ],
    );
}

#[test]
fn an_azure_container_is_read_whoever_asks() {
    let azure = |keys: &str| {
        let text =
            format!("{{type: AZURE, config: {{storage_account: acc, container: c, {keys}}}}}");
        let (settings, _) = read(&text).unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hidden"), "{shown}");
        let BucketKind::Azure(azure) = settings.kind else {
            panic!("{shown}");
        };
        azure
    };
    let keyed = azure("storage_account_key: hidden");
    let own = "https://acc.blob.core.windows.net";
    assert_eq!(keyed.endpoint.as_deref(), Some(own));
    assert!(matches!(keyed.credentials, AzureCredentials::AccountKey(_)));
    let china = azure("endpoint: blob.core.chinacloudapi.cn, user_assigned_id: me");
    let own = "https://acc.blob.core.chinacloudapi.cn";
    assert_eq!(china.endpoint.as_deref(), Some(own));
    let me = AzureCredentials::ManagedIdentity("me".to_owned());
    assert_eq!(china.credentials, me);
    let connected = azure(
        "storage_connection_string: \"DefaultEndpointsProtocol=http;AccountName=dev;AccountKey=hidden==;BlobEndpoint=http://127.0.0.1:10000/dev;\"",
    );
    assert_eq!(connected.account, "dev");
    let own = "http://127.0.0.1:10000/dev";
    assert_eq!(connected.endpoint.as_deref(), Some(own));
    let application = azure(
        "az_tenant_id: t, client_id: i, client_secret: hidden, pipeline_config: {max_tries: 4, try_timeout: 9s}, reader_config: {max_retry_requests: 2}",
    );
    assert!(matches!(
        application.credentials,
        AzureCredentials::Application { .. }
    ));
    assert_eq!(application.http.retries_max, Some(4));
    let patience = Some(Duration::from_secs(9));
    assert_eq!(application.http.response_timeout, patience);
    check_refused(
        "type: AZURE\nconfig: {storage_account: a, container: c, client_id: i, storage_account_key: k, msi_resource: r}",
        &[
            "bucket.yml:2: config: az_tenant_id, client_id and client_secret must be set together",
            "bucket.yml:2: config: storage_account_key, storage_connection_string, user_assigned_id and client_id exclude each other",
            "bucket.yml:2: config.msi_resource: Thanos took it away; tokens are asked for Azure's storage",
        ],
    );
}

#[test]
fn stores_that_speak_s3_under_names_of_their_own_are_asked_for_s3() {
    let cos = "{type: COS, config: {bucket: b, app_id: \"125\", region: ap-1, secret_id: i, secret_key: k}}";
    let cos_own = "{type: COS, config: {endpoint: https://b-125.cos.ap-1.myqcloud.com, secret_id: i, secret_key: k}}";
    let oss = "{type: ALIYUNOSS, config: {bucket: b, endpoint: oss-cn-1.aliyuncs.com, access_key_id: i, access_key_secret: k}}";
    let obs = "{type: OBS, config: {bucket: b, endpoint: https://obs.cn-4.myhuaweicloud.com, access_key: i, secret_key: k}}";
    let bos =
        "{type: BOS, config: {bucket: b, endpoint: bj.bcebos.com, access_key: i, secret_key: k}}";
    for (text, bucket, endpoint, region) in [
        (cos, "b-125", "cos.ap-1.myqcloud.com", "ap-1"),
        (
            cos_own,
            "bucket",
            "https://b-125.cos.ap-1.myqcloud.com",
            "ap-1",
        ),
        (oss, "b", "s3.oss-cn-1.aliyuncs.com", "cn-1"),
        (obs, "b", "obs.cn-4.myhuaweicloud.com", "cn-4"),
        (bos, "b", "s3.bj.bcebos.com", "bj"),
    ] {
        let s3 = s3(text);
        let found = (
            s3.bucket.as_str(),
            s3.endpoint.as_deref(),
            s3.region.as_deref(),
        );
        assert_eq!(found, (bucket, Some(endpoint), Some(region)));
        let keys = s3.credentials.unwrap();
        assert_eq!(
            (keys.access_key.as_str(), keys.secret_key.as_str()),
            ("i", "k")
        );
        assert!(s3.virtual_hosted && !s3.insecure);
    }
    check_refused(
        "type: COS\nconfig: {bucket: b, secret_id: i}",
        &[
            "bucket.yml:2: config: secret_key is missing",
            "bucket.yml:2: config: endpoint is missing, or bucket, app_id and region",
        ],
    );
}

#[test]
fn oracle_is_asked_for_s3_or_the_refusal_says_what_to_write() {
    let told = "{type: OCI, config: {provider: raw, bucket: b, region: eu-1, namespace: ns, tenancy_ocid: t, access_key: i, secret_key: k}}";
    let s3 = s3(told);
    let host = "ns.compat.objectstorage.eu-1.oraclecloud.com";
    assert_eq!(
        (s3.bucket.as_str(), s3.endpoint.as_deref()),
        ("b", Some(host))
    );
    assert_eq!(
        (s3.region.as_deref(), s3.virtual_hosted),
        (Some("eu-1"), false)
    );
    assert_eq!(s3.credentials.unwrap().access_key, "i");
    let thanos = "{type: OCI, config: {provider: raw, bucket: b, region: eu-1, tenancy_ocid: t, user_ocid: u, fingerprint: f, privatekey: p}}";
    let complaints = read(thanos).unwrap_err();
    assert_eq!(complaints.len(), 1);
    let text = complaints[0].to_string();
    for part in [
        "customer secret key",
        "{type: S3, config: {bucket: b, endpoint: <namespace>.compat.objectstorage.eu-1.oraclecloud.com, region: eu-1,",
        "bucket_lookup_type: path}}",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn hedging_is_checked_and_off_unless_enabled() {
    let text = |hedging: &str| {
        format!("type: S3\nconfig: {{bucket: b, endpoint: e}}\nhedging_config: {hedging}\n")
    };
    assert_eq!(s3(&text("{up_to: 5}")).http.hedging, None);
    let hedging = s3(&text("{enabled: true, up_to: 2, quantile: 0.5}"))
        .http
        .hedging;
    assert_eq!(hedging.unwrap().up_to, 2);
    check_refused(
        &text("{enabled: true, quantile: 9, upto: 1}"),
        &[
            "bucket.yml:3: hedging_config.quantile = \"9\": expected a number from 0 to 1",
            "bucket.yml:3: hedging_config.upto: unknown key, did you mean up_to?",
        ],
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let complaints = load_bucket(Path::new("/nonexistent/bucket.yml")).unwrap_err();
    let text = complaints.first().unwrap().to_string();
    assert!(
        text.starts_with(
            "/nonexistent/bucket.yml: read the configuration of the bucket: No such file"
        ),
        "{text}"
    );
}
