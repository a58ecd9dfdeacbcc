//! `type: S3`

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::bucket::{BucketKind, PartSettings, S3Credentials, S3Encryption, S3Settings};
use crate::config::bucket::http::http;
use crate::config::bucket::{optional, required, retries};
use crate::config::prometheus::reader::MapReader;

/// S3 takes no smaller part, and memory holds four of them.
const PART_BYTES: std::ops::RangeInclusive<u64> = (5 << 20)..=(1 << 30);

const ENDPOINT_FORM: &str = "expected host or host:port without a scheme; insecure chooses http";

pub(super) fn read(mut map: MapReader<'_>) -> Option<BucketKind> {
    let bucket = required(&mut map, "bucket").unwrap_or_default().to_owned();
    let endpoint = required(&mut map, "endpoint").unwrap_or_default();
    if endpoint.contains("://") {
        map.complain("endpoint", Some(endpoint), ENDPOINT_FORM);
    }
    let mut s3 = S3Settings {
        bucket,
        endpoint: Some(endpoint.to_owned()),
        region: optional(&mut map, "region").or_else(|| region_of_amazon(endpoint)),
        insecure: map.bool("insecure").unwrap_or(false),
        sts_endpoint: optional(&mut map, "sts_endpoint"),
        metadata: metadata(&mut map),
        parts: parts(&mut map),
        http: http(&mut map, endpoint),
        ..S3Settings::default()
    };
    s3.virtual_hosted = is_virtual_hosted(&mut map, &s3);
    s3.credentials = credentials(&mut map);
    s3.encryption = map.map("sse_config").and_then(encryption);
    s3.http.retries_max = retries(&mut map, "max_retries");
    if let Some(mut trace) = map.map("trace") {
        s3.http.trace = trace.bool("enable").unwrap_or(false);
        trace.finish();
    }
    refuse(&mut map, endpoint);
    map.finish();
    Some(BucketKind::S3(Box::new(s3)))
}

/// What cannot be honoured, and what has nothing to do here.
fn refuse(map: &mut MapReader<'_>, endpoint: &str) {
    if map.bool("signature_version2") == Some(true) {
        let problem = "Amazon ended version 2 of its signatures, only version 4 is spoken";
        map.complain("signature_version2", Some("true"), problem);
    }
    let list = optional(map, "list_objects_version");
    match list.as_deref() {
        None | Some("v2") => (),
        Some("v1") => {
            let problem = "only version 2 of listings is spoken, which every S3 answers since 2016";
            map.complain("list_objects_version", Some("v1"), problem);
        }
        Some(other) => map.complain("list_objects_version", Some(other), "expected v1 or v2"),
    }
    // Every request is signed over the SHA-256 of its content, which a store checks as it would an MD5.
    map.bool("send_content_md5");
    let is_dual = map.bool("disable_dualstack") == Some(false);
    if is_dual && endpoint.ends_with(".amazonaws.com") && !endpoint.contains(".dualstack.") {
        let problem = "the endpoint is asked as it stands here, name the dualstack one for IPv6";
        map.warn("disable_dualstack", Some("false"), problem);
    }
}

fn parts(map: &mut MapReader<'_>) -> PartSettings {
    let mut part_bytes = None;
    if let Some(n) = map.count_or_negative("part_size").filter(|n| *n != 0) {
        part_bytes = Some(n as u64);
        if !PART_BYTES.contains(&(n as u64)) {
            let problem = "expected from 5242880 (5 MiB) to 1073741824 (1 GiB) bytes";
            map.complain("part_size", Some(&n.to_string()), problem);
        }
    }
    PartSettings {
        part_bytes,
        is_whole: map.bool("disable_multipart").unwrap_or(false),
    }
}

fn metadata(map: &mut MapReader<'_>) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    for (entry, item) in map.entries("put_user_metadata").unwrap_or_default() {
        match item.node.as_text() {
            Some(value) => {
                metadata.insert(entry.key.clone(), value.to_owned());
            }
            None => map.wrong_value(&item, "expected a plain value"),
        }
    }
    metadata
}

/// `aws_sdk_auth` and no keys mean the same here: the environment, the web identity or the instance says who asks.
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

/// `auto` is by host name for the endpoints of Amazon, Google and Alibaba, and by path for all others. No certificate
/// covers a host name with another dot in it.
fn is_virtual_hosted(map: &mut MapReader<'_>, s3: &S3Settings) -> bool {
    let endpoint = s3.endpoint.as_deref().unwrap_or_default();
    let is_known = [".amazonaws.com", ".amazonaws.com.cn", ".aliyuncs.com"]
        .iter()
        .any(|suffix| endpoint.ends_with(suffix))
        || endpoint == "storage.googleapis.com";
    let auto = is_known && (s3.insecure || !s3.bucket.contains('.'));
    let choices = [
        ("auto", auto),
        ("virtual-hosted", true),
        ("path", false),
        ("", auto),
    ];
    map.choice("bucket_lookup_type", &choices).unwrap_or(auto)
}

/// `s3.eu-west-1.amazonaws.com`, `s3-eu-west-1.…`, `s3.dualstack.eu-west-1.…`; others do not say it.
fn region_of_amazon(endpoint: &str) -> Option<String> {
    let host = endpoint.split(':').next()?;
    let host = host.strip_suffix(".cn").unwrap_or(host);
    let rest = host.strip_suffix(".amazonaws.com")?.strip_prefix("s3")?;
    let region = rest.trim_start_matches(['.', '-']);
    let region = region.strip_prefix("dualstack.").unwrap_or(region);
    (!region.is_empty() && region != "accelerate" && !region.contains('.'))
        .then(|| region.to_owned())
}

fn encryption(mut map: MapReader<'_>) -> Option<S3Encryption> {
    let choices = [("", 0_u8), ("SSE-S3", 1), ("SSE-KMS", 2), ("SSE-C", 3)];
    let kind = map.choice("type", &choices).unwrap_or(0);
    let key_id = optional(&mut map, "kms_key_id");
    let key_file = optional(&mut map, "encryption_key").map(PathBuf::from);
    if map
        .entries("kms_encryption_context")
        .is_some_and(|entries| !entries.is_empty())
    {
        let problem = "a context cannot be sent; without one the bucket's default applies";
        map.complain("kms_encryption_context", None, problem);
    }
    if kind == 2 && key_id.is_none() {
        map.complain_here("kms_key_id is missing");
    }
    if kind == 3 && key_file.is_none() {
        map.complain_here("encryption_key is missing, expected a file with 32 bytes");
    }
    map.finish();
    match kind {
        1 => Some(S3Encryption::SseS3),
        2 => key_id.map(|key_id| S3Encryption::SseKms { key_id }),
        3 => key_file.map(|key_file| S3Encryption::SseC { key_file }),
        _ => None,
    }
}
