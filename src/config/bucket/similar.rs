//! Stores with names of their own for what is S3: `COS`, `ALIYUNOSS`, `OBS`, `BOS`, `OCI`.

use crate::bucket::{BucketKind, HttpSettings, S3Credentials, S3Settings};
use crate::config::bucket::http::http;
use crate::config::bucket::{optional, required, retries};
use crate::config::prometheus::reader::MapReader;

/// Tencent: the bucket's name ends in the number of its owner.
pub(super) fn cos(mut map: MapReader<'_>) -> Option<BucketKind> {
    let own = optional(&mut map, "endpoint");
    let (name, app_id) = (optional(&mut map, "bucket"), optional(&mut map, "app_id"));
    let region = optional(&mut map, "region");
    let credentials = keys(&mut map, "secret_id", "secret_key");
    let is_named = name.is_some() && app_id.is_some() && region.is_some();
    if own.is_none() && !is_named {
        map.complain_here("endpoint is missing, or bucket, app_id and region");
    }
    let bucket = match (&name, &app_id) {
        (Some(name), Some(app_id)) => format!("{name}-{app_id}"),
        _ => name.clone().unwrap_or_else(|| "bucket".to_owned()),
    };
    let host = format!("cos.{}.myqcloud.com", region.as_deref().unwrap_or_default());
    let mut http = http(&mut map, own.as_deref().map_or(&host, host_of));
    http.retries_max = retries(&mut map, "max_retries");
    map.finish();
    let region = region.or_else(|| own.as_deref().and_then(region_of_cos));
    // An endpoint is the bucket's own address there.
    let endpoint = own.map_or(host, |own| {
        if own.contains("://") {
            own
        } else {
            format!("https://{own}")
        }
    });
    kind(bucket, endpoint, region, credentials, http)
}

/// Alibaba: S3 is spoken by a host of its own beside each one that is not.
pub(super) fn oss(mut map: MapReader<'_>) -> Option<BucketKind> {
    let bucket = required(&mut map, "bucket").unwrap_or_default().to_owned();
    let endpoint = bare(required(&mut map, "endpoint").unwrap_or_default());
    let credentials = keys(&mut map, "access_key_id", "access_key_secret");
    map.finish();
    let host = if endpoint.starts_with("oss-") {
        format!("s3.{endpoint}")
    } else {
        endpoint.to_owned()
    };
    let region = endpoint
        .split('.')
        .find_map(|part| part.strip_prefix("oss-"));
    let region = region.map(|region| region.trim_end_matches("-internal").to_owned());
    kind(bucket, host, region, credentials, HttpSettings::default())
}

/// Huawei: `obs.<region>.myhuaweicloud.com` speaks S3 itself.
pub(super) fn obs(mut map: MapReader<'_>) -> Option<BucketKind> {
    let bucket = required(&mut map, "bucket").unwrap_or_default().to_owned();
    let endpoint = bare(required(&mut map, "endpoint").unwrap_or_default());
    let credentials = keys(&mut map, "access_key", "secret_key");
    let mut http = http(&mut map, endpoint);
    http.retries_max = retries(&mut map, "max_retries");
    map.finish();
    let region = endpoint
        .strip_prefix("obs.")
        .and_then(|rest| rest.split('.').next());
    let (host, region) = (endpoint.to_owned(), region.map(str::to_owned));
    kind(bucket, host, region, credentials, http)
}

/// Baidu: `<region>.bcebos.com`, and before it `s3.` for S3.
pub(super) fn bos(mut map: MapReader<'_>) -> Option<BucketKind> {
    let bucket = required(&mut map, "bucket").unwrap_or_default().to_owned();
    let endpoint = bare(required(&mut map, "endpoint").unwrap_or_default());
    let credentials = keys(&mut map, "access_key", "secret_key");
    map.finish();
    let region = endpoint.trim_start_matches("s3.").split('.').next();
    let region = region.map(str::to_owned);
    let host = if endpoint.starts_with("s3.") {
        endpoint.to_owned()
    } else {
        format!("s3.{endpoint}")
    };
    kind(bucket, host, region, credentials, HttpSettings::default())
}

/// What Thanos signs requests to Oracle with; S3 has keys of its own.
const ORACLES_OWN: [&str; 11] = [
    "provider",
    "compartment_ocid",
    "tenancy_ocid",
    "user_ocid",
    "fingerprint",
    "privatekey",
    "passphrase",
    "encryption_key",
    "max_request_retries",
    "request_retry_interval",
    "part_size",
];

/// Oracle: `<namespace>.compat.objectstorage.<region>.oraclecloud.com` speaks S3, for who has a customer secret key.
pub(super) fn oci(mut map: MapReader<'_>) -> Option<BucketKind> {
    let bucket = required(&mut map, "bucket").unwrap_or_default().to_owned();
    let region = optional(&mut map, "region");
    let namespace = optional(&mut map, "namespace");
    let access_key = optional(&mut map, "access_key");
    let secret_key = optional(&mut map, "secret_key");
    for key in ORACLES_OWN {
        optional(&mut map, key);
    }
    let host = format!(
        "{}.compat.objectstorage.{}.oraclecloud.com",
        namespace.as_deref().unwrap_or("<namespace>"),
        region.as_deref().unwrap_or("<region>"),
    );
    let http = http(&mut map, &host);
    let is_told = region.is_some() && namespace.is_some();
    let credentials = match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) if is_told => Some(S3Credentials {
            access_key,
            secret_key,
            session_token: None,
        }),
        _ => {
            let problem = format!(
                "Oracle is asked for S3, whose keys are not those of its own protocol: make a customer secret key \
                 (oci iam customer-secret-key create) and add region, namespace (oci os ns get), access_key and secret_key; \
                 or write {{type: S3, config: {{bucket: {bucket}, endpoint: {host}, region: {}, access_key: …, secret_key: …, \
                 bucket_lookup_type: path}}}}",
                region.as_deref().unwrap_or("<region>"),
            );
            map.complain_here(&problem);
            None
        }
    };
    map.finish();
    Some(BucketKind::S3(Box::new(S3Settings {
        bucket,
        endpoint: Some(host),
        region,
        credentials: Some(credentials?),
        http,
        ..S3Settings::default()
    })))
}

fn kind(
    bucket: String,
    endpoint: String,
    region: Option<String>,
    credentials: Option<S3Credentials>,
    http: HttpSettings,
) -> Option<BucketKind> {
    Some(BucketKind::S3(Box::new(S3Settings {
        bucket,
        endpoint: Some(endpoint),
        region,
        credentials: Some(credentials?),
        virtual_hosted: true,
        http,
        ..S3Settings::default()
    })))
}

fn keys(
    map: &mut MapReader<'_>,
    access: &'static str,
    secret: &'static str,
) -> Option<S3Credentials> {
    let access_key = required(map, access).map(str::to_owned);
    let secret_key = required(map, secret).map(str::to_owned);
    Some(S3Credentials {
        access_key: access_key?,
        secret_key: secret_key?,
        session_token: None,
    })
}

/// Without the scheme that these stores allow to be written.
fn bare(endpoint: &str) -> &str {
    let host = endpoint.trim_start_matches("https://");
    host.trim_start_matches("http://").trim_end_matches('/')
}

fn host_of(endpoint: &str) -> &str {
    bare(endpoint).split('/').next().unwrap_or_default()
}

/// `https://bucket-1250000000.cos.ap-guangzhou.myqcloud.com`
fn region_of_cos(endpoint: &str) -> Option<String> {
    let (_, behind) = endpoint.split_once(".cos.")?;
    behind.split('.').next().map(str::to_owned)
}
