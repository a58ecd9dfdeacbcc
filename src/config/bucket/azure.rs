//! `type: AZURE`

use crate::bucket::{AzureCredentials, AzureSettings, BucketKind, Secret};
use crate::config::bucket::http::{duration, http};
use crate::config::bucket::{optional, required, retries};
use crate::config::prometheus::reader::MapReader;

/// Where accounts are, if nothing else is said.
const ENDPOINT: &str = "blob.core.windows.net";

pub(super) fn read(mut map: MapReader<'_>) -> Option<BucketKind> {
    let account = required(&mut map, "storage_account")
        .unwrap_or_default()
        .to_owned();
    let container = required(&mut map, "container")
        .unwrap_or_default()
        .to_owned();
    let host = optional(&mut map, "endpoint").unwrap_or_else(|| ENDPOINT.to_owned());
    let mut azure = AzureSettings {
        endpoint: Some(format!("https://{account}.{host}")),
        http: http(&mut map, &format!("{account}.{host}")),
        account,
        container,
        credentials: AzureCredentials::Environment,
    };
    credentials(&mut map, &mut azure);
    azure.http.retries_max = retries(&mut map, "max_retries");
    pipeline(&mut map, &mut azure);
    if map.bool("storage_create_container") == Some(true) {
        let problem = "the container is not made, it has to be there";
        map.warn("storage_create_container", Some("true"), problem);
    }
    if optional(&mut map, "msi_resource").is_some() {
        let problem = "Thanos took it away; tokens are asked for Azure's storage";
        map.complain("msi_resource", None, problem);
    }
    map.finish();
    Some(BucketKind::Azure(Box::new(azure)))
}

fn credentials(map: &mut MapReader<'_>, azure: &mut AzureSettings) {
    let key = optional(map, "storage_account_key").map(Secret::new);
    let connection = optional(map, "storage_connection_string");
    let identity = optional(map, "user_assigned_id");
    let application = [
        optional(map, "az_tenant_id"),
        optional(map, "client_id"),
        optional(map, "client_secret"),
    ];
    let n_application = application.iter().flatten().count();
    if n_application != 0 && n_application != 3 {
        map.complain_here("az_tenant_id, client_id and client_secret must be set together");
    }
    let n_ways = usize::from(key.is_some())
        + usize::from(connection.is_some())
        + usize::from(identity.is_some())
        + usize::from(n_application != 0);
    if 1 < n_ways {
        map.complain_here(
            "storage_account_key, storage_connection_string, user_assigned_id and client_id exclude each other",
        );
    }
    if let Some(connection) = connection {
        connect(map, &connection, azure);
    }
    let [tenant_id, client_id, client_secret] = application;
    if let Some(key) = key {
        azure.credentials = AzureCredentials::AccountKey(key);
    } else if let Some(identity) = identity {
        azure.credentials = AzureCredentials::ManagedIdentity(identity);
    } else if let (Some(tenant_id), Some(client_id), Some(secret)) =
        (tenant_id, client_id, client_secret)
    {
        azure.credentials = AzureCredentials::Application {
            tenant_id,
            client_id,
            client_secret: Secret::new(secret),
        };
    }
}

/// `DefaultEndpointsProtocol=https;AccountName=a;AccountKey=k;EndpointSuffix=core.windows.net`
fn connect(map: &MapReader<'_>, text: &str, azure: &mut AzureSettings) {
    let part = |wanted: &str| {
        text.split(';')
            .filter_map(|part| part.split_once('='))
            .find_map(|(name, value)| (name.trim() == wanted).then(|| value.trim().to_owned()))
    };
    if let Some(account) = part("AccountName") {
        azure.account = account;
    }
    match (part("AccountKey"), part("SharedAccessSignature")) {
        (Some(key), _) => azure.credentials = AzureCredentials::AccountKey(Secret::new(key)),
        (None, Some(signature)) => {
            azure.credentials = AzureCredentials::SharedAccess(Secret::new(signature));
        }
        (None, None) => {
            let problem = "expected AccountKey=… or SharedAccessSignature=… in it";
            map.complain("storage_connection_string", None, problem);
        }
    }
    let scheme = part("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
    let suffix = part("EndpointSuffix").unwrap_or_else(|| "core.windows.net".to_owned());
    let own = format!("{scheme}://{}.blob.{suffix}", azure.account);
    azure.endpoint = Some(part("BlobEndpoint").unwrap_or(own));
}

fn pipeline(map: &mut MapReader<'_>, azure: &mut AzureSettings) {
    if let Some(mut pipeline) = map.map("pipeline_config") {
        let tries = retries(&mut pipeline, "max_tries");
        azure.http.retries_max = tries.or(azure.http.retries_max);
        let patience = duration(&mut pipeline, "try_timeout");
        azure.http.response_timeout = patience.or(azure.http.response_timeout);
        azure.http.retry_pause = duration(&mut pipeline, "retry_delay");
        azure.http.retry_pause_max = duration(&mut pipeline, "max_retry_delay");
        pipeline.finish();
    }
    if let Some(mut reader) = map.map("reader_config") {
        let tries = retries(&mut reader, "max_retry_requests");
        azure.http.retries_max = azure.http.retries_max.max(tries);
        reader.finish();
    }
}
