//! Thanos' bucket YAML to the settings of a bucket.
//!
//! `type`, `config` and `prefix` as Thanos reads them, for `FILESYSTEM` and `S3`. What would change where data goes or
//! how it is kept and cannot be honoured is refused; what only tunes a client is recognised and warned about.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bucket::{BucketKind, BucketSettings, S3Credentials, S3Encryption, S3Settings};
use crate::config::prometheus::Complaint;
use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::prometheus::report::Report;
use crate::config::yaml::parse;

/// Longest file that is read; a bucket takes some twenty lines.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which kind of store the file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Filesystem,
    S3,
}

/// Reads a bucket file: the settings and what was ignored, or everything that is wrong with it.
pub fn load_bucket(path: &Path) -> Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>> {
    let report = Report::new(path.to_owned());
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        let mut limited = file.take(FILE_BYTES_MAX + 1);
        limited.read_to_string(&mut text)
    });
    match read {
        Err(error) => {
            report.complain(0, "", None, &error.to_string());
            Err(report.into_parts().0)
        }
        Ok(n_bytes) if FILE_BYTES_MAX < n_bytes as u64 => {
            let problem = format!("longer than {FILE_BYTES_MAX} bytes");
            report.complain(0, "", None, &problem);
            Err(report.into_parts().0)
        }
        Ok(_) => read_bucket(report, &text),
    }
}

/// Reads the text of such a file; complaints name it `name`.
pub fn parse_bucket(
    name: &str,
    text: &str,
) -> Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>> {
    read_bucket(Report::new(PathBuf::from(name)), text)
}

fn read_bucket(
    report: Report,
    text: &str,
) -> Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>> {
    let settings = match parse(text) {
        Ok(node) => {
            let key = String::new();
            settings(MapReader::new(&report, &Item { node: &node, key }))
        }
        Err(error) => {
            report.complain(error.line, "", None, &error.problem);
            None
        }
    };
    let (complaints, warnings) = report.into_parts();
    match settings {
        Some(settings) if complaints.is_empty() => Ok((settings, warnings)),
        _ => Err(complaints),
    }
}

fn settings(mut map: MapReader<'_>) -> Option<BucketSettings> {
    let kind = kind(&mut map);
    let prefix = map.text("prefix").unwrap_or_default().trim_matches('/');
    if prefix.split('/').any(|part| part == "." || part == "..") {
        map.complain("prefix", Some(prefix), "must not contain . or .. as a part");
    }
    map.ignore(&["hedging_config"]);
    let config = map.map("config");
    if config.is_none() && kind.is_some() {
        map.complain_here("config is missing");
    }
    let kind = match (kind, config) {
        (Some(Kind::Filesystem), Some(config)) => filesystem(config),
        (Some(Kind::S3), Some(config)) => s3(config),
        _ => None,
    };
    let prefix = prefix.to_owned();
    map.finish();
    Some(BucketSettings {
        kind: kind?,
        prefix,
    })
}

fn kind(map: &mut MapReader<'_>) -> Option<Kind> {
    let Some(text) = map.text("type") else {
        map.complain_here("type is missing, expected FILESYSTEM or S3");
        return None;
    };
    match text.to_ascii_uppercase().as_str() {
        "FILESYSTEM" => Some(Kind::Filesystem),
        "S3" => Some(Kind::S3),
        "GCS" | "AZURE" | "SWIFT" | "COS" | "ALIYUNOSS" | "BOS" | "OCI" | "OBS" => {
            let problem = "this store is not supported, expected FILESYSTEM or S3 (many stores also speak S3)";
            map.complain("type", Some(text), problem);
            None
        }
        _ => {
            map.complain("type", Some(text), "expected FILESYSTEM or S3");
            None
        }
    }
}

fn filesystem(mut map: MapReader<'_>) -> Option<BucketKind> {
    let directory = required(&mut map, "directory");
    map.finish();
    Some(BucketKind::Filesystem {
        directory: PathBuf::from(directory?),
    })
}

fn required<'a>(map: &mut MapReader<'a>, key: &'static str) -> Option<&'a str> {
    let text = map.text(key).filter(|text| !text.is_empty());
    if text.is_none() {
        map.complain_here(&format!("{key} is missing"));
    }
    text
}

fn s3(mut map: MapReader<'_>) -> Option<BucketKind> {
    let bucket = required(&mut map, "bucket");
    let endpoint = required(&mut map, "endpoint");
    let mut s3 = S3Settings {
        bucket: bucket.unwrap_or_default().to_owned(),
        endpoint: endpoint.map(str::to_owned),
        region: optional(&mut map, "region"),
        credentials: credentials(&mut map),
        insecure: map.bool("insecure").unwrap_or(false),
        virtual_hosted: is_virtual_hosted(&mut map, endpoint.unwrap_or_default()),
        ..S3Settings::default()
    };
    if endpoint.is_some_and(|endpoint| endpoint.contains("://")) {
        let problem = "expected host or host:port without a scheme; insecure chooses http";
        map.complain("endpoint", endpoint, problem);
    }
    if let Some(sse) = map.map("sse_config") {
        s3.encryption = encryption(sse);
    }
    if let Some(http) = map.map("http_config") {
        http_config(http, &mut s3);
    }
    if map.bool("signature_version2") == Some(true) {
        map.complain(
            "signature_version2",
            Some("true"),
            "only version 4 is supported",
        );
    }
    if map.bool("disable_multipart") == Some(true) {
        let problem = "files above 16 MiB go up in parts, this cannot be switched off";
        map.complain("disable_multipart", Some("true"), problem);
    }
    map.ignore(&[
        "put_user_metadata",
        "trace",
        "list_objects_version",
        "part_size",
        "send_content_md5",
        "disable_dualstack",
        "sts_endpoint",
        "max_retries",
    ]);
    map.finish();
    Some(BucketKind::S3(Box::new(s3)))
}

fn optional(map: &mut MapReader<'_>, key: &'static str) -> Option<String> {
    map.text(key)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn credentials(map: &mut MapReader<'_>) -> Option<S3Credentials> {
    let access_key = optional(map, "access_key");
    let secret_key = optional(map, "secret_key");
    let session_token = optional(map, "session_token");
    let is_from_environment = map.bool("aws_sdk_auth").unwrap_or(false);
    match (access_key, secret_key) {
        (Some(_), Some(_)) if is_from_environment => {
            let problem = "aws_sdk_auth and access_key exclude each other";
            map.complain("aws_sdk_auth", Some("true"), problem);
            None
        }
        (Some(access_key), Some(secret_key)) => Some(S3Credentials {
            access_key,
            secret_key,
            session_token,
        }),
        (None, None) => None,
        (Some(_), None) => {
            map.complain("access_key", None, "secret_key is missing");
            None
        }
        (None, Some(_)) => {
            map.complain("secret_key", None, "access_key is missing");
            None
        }
    }
}

/// `auto` is by host name for Amazon's own endpoints and by path for all others.
fn is_virtual_hosted(map: &mut MapReader<'_>, endpoint: &str) -> bool {
    let is_amazon = endpoint.ends_with(".amazonaws.com");
    let choices = [
        ("auto", is_amazon),
        ("virtual-hosted", true),
        ("path", false),
    ];
    map.choice("bucket_lookup_type", &choices)
        .unwrap_or(is_amazon)
}

fn encryption(mut map: MapReader<'_>) -> Option<S3Encryption> {
    let choices = [("SSE-S3", 0_u8), ("SSE-KMS", 1), ("SSE-C", 2)];
    let key_id = optional(&mut map, "kms_key_id");
    let chosen = match map.choice("type", &choices) {
        None => {
            if !map.has("type") {
                map.complain_here("type is missing, expected SSE-S3 or SSE-KMS");
            }
            None
        }
        Some(0) => Some(S3Encryption::SseS3),
        Some(1) => {
            if key_id.is_none() {
                map.complain_here("kms_key_id is missing");
            }
            key_id.map(|key_id| S3Encryption::SseKms { key_id })
        }
        Some(_) => {
            map.complain(
                "type",
                Some("SSE-C"),
                "not supported, expected SSE-S3 or SSE-KMS",
            );
            None
        }
    };
    for key in ["kms_encryption_context", "encryption_key"] {
        if map.has(key) {
            map.complain(key, None, "not supported");
        }
    }
    map.finish();
    chosen
}

fn http_config(mut map: MapReader<'_>, s3: &mut S3Settings) {
    let mut duration = |key| {
        let ms = u64::try_from(map.duration_ms(key)?).ok()?;
        // Zero is no time-out in Go.
        (ms != 0).then(|| Duration::from_millis(ms))
    };
    s3.idle_timeout = duration("idle_conn_timeout");
    s3.response_timeout = duration("response_header_timeout");
    let skip_verify = map.bool("insecure_skip_verify").unwrap_or(false);
    let mut tls_skip_verify = false;
    if let Some(mut tls) = map.map("tls_config") {
        s3.ca_file = optional(&mut tls, "ca_file").map(PathBuf::from);
        tls_skip_verify = tls.bool("insecure_skip_verify").unwrap_or(false);
        for key in ["cert_file", "key_file", "server_name"] {
            if optional(&mut tls, key).is_some() {
                tls.complain(key, None, "not supported");
            }
        }
        tls.finish();
    }
    s3.insecure_skip_verify = skip_verify || tls_skip_verify;
    map.ignore(&[
        "tls_handshake_timeout",
        "expect_continue_timeout",
        "max_idle_conns",
        "max_idle_conns_per_host",
        "max_conns_per_host",
        "disable_compression",
    ]);
    map.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

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
        read_bucket(Report::new(PathBuf::from("bucket.yml")), text)
    }

    #[track_caller]
    fn check_refused(text: &str, expect: &[&str]) {
        let complaints = read(text).unwrap_err();
        let complaints: Vec<_> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(complaints, expect);
    }

    #[test]
    fn a_directory_is_named_with_its_prefix() {
        let text =
            "type: FILESYSTEM\nconfig:\n  directory: /var/lib/bucket\nprefix: /tenant/one/\n";
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
    fn an_s3_bucket_as_thanos_documents_it_is_read() {
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
            ca_file: Some(PathBuf::from("/etc/ca.pem")),
            insecure_skip_verify: false,
            idle_timeout: Some(Duration::from_secs(90)),
            response_timeout: Some(Duration::from_secs(120)),
        };
        assert_eq!(*s3, expect);
        let text = format!("{s3:?}");
        assert!(!text.contains("secret\""), "{text}");
        assert!(
            warnings
                .iter()
                .all(|warning| warning.problem == "not supported, ignored")
        );
    }

    #[test]
    fn amazon_is_asked_by_host_name_and_the_environment_for_keys() {
        let text =
            "type: s3\nconfig: {bucket: b, endpoint: s3.eu-1.amazonaws.com, aws_sdk_auth: true}";
        let (settings, _) = read(text).unwrap();
        let BucketKind::S3(s3) = settings.kind else {
            panic!("{settings:?}");
        };
        assert!(s3.virtual_hosted);
        assert_eq!(s3.credentials, None);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_key() {
        check_refused(
            "type: S3\nprefix: a/../b\nconfig:\n  bucket: b\n  endpoint: http://x\n  acces_key: a\n  secret_key: s\n  signature_version2: true\n  sse_config: {type: SSE-C}\n  http_config:\n    tls_config: {cert_file: c}\n",
            &[
                "bucket.yml:2: prefix = \"a/../b\": must not contain . or .. as a part",
                "bucket.yml:5: config.endpoint = \"http://x\": expected host or host:port without a scheme; insecure chooses http",
                "bucket.yml:6: config.acces_key: unknown key, did you mean access_key?",
                "bucket.yml:7: config.secret_key: access_key is missing",
                "bucket.yml:8: config.signature_version2 = \"true\": only version 4 is supported",
                "bucket.yml:9: config.sse_config.type = \"SSE-C\": not supported, expected SSE-S3 or SSE-KMS",
                "bucket.yml:11: config.http_config.tls_config.cert_file: not supported",
            ],
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        check_refused(
            "",
            &["bucket.yml:1: type is missing, expected FILESYSTEM or S3"],
        );
        check_refused("type: S3", &["bucket.yml:1: config is missing"]);
        check_refused(
            "type: FILESYSTEM\nconfig: {}",
            &["bucket.yml:2: config: directory is missing"],
        );
        check_refused(
            "type: GCS\nconfig: {bucket: b}",
            &[
                "bucket.yml:1: type = \"GCS\": this store is not supported, expected FILESYSTEM or S3 (many stores also speak S3)",
            ],
        );
        check_refused(
            "type: [",
            &["bucket.yml:1: unclosed bracket '[' at line 1, column 7"],
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let complaints = load_bucket(Path::new("/nonexistent/bucket.yml")).unwrap_err();
        let text = complaints.first().unwrap().to_string();
        assert!(
            text.starts_with("/nonexistent/bucket.yml: No such file"),
            "{text}"
        );
    }
}
