//! An HTTP service that names targets.

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::model::number::format_f;
use crate::scrape::client::{HttpClient, Request};
use crate::scrape::discovery::groups::parse_json;
use crate::scrape::settings::{HttpDiscovery, TargetGroup};

static REFRESH_INTERVAL: HeaderName =
    HeaderName::from_static("x-prometheus-refresh-interval-seconds");
const META_LABEL: &str = "__meta_url";
/// A longer list is refused.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Asks at once and after every interval; while there is no good answer, the last one holds.
pub(super) async fn poll(settings: HttpDiscovery, publish: impl Fn(Vec<TargetGroup>) + Send) {
    let HttpDiscovery {
        url,
        refresh_ms,
        http,
    } = settings;
    let refresh = Duration::from_millis(u64::try_from(refresh_ms).unwrap_or(u64::MAX));
    let client = HttpClient::new(http, true);
    let mut ticks = tokio::time::interval(refresh.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        match ask(&client, &url, refresh).await {
            Ok(groups) => publish(groups),
            Err(error) => {
                tracing::warn!(url, error, "kept the targets of the last good answer");
            }
        }
    }
}

async fn ask(
    client: &HttpClient,
    url: &str,
    refresh: Duration,
) -> Result<Vec<TargetGroup>, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::from_str(&format_f(refresh.as_secs_f64())) {
        headers.insert(REFRESH_INTERVAL.clone(), value);
    }
    let request = Request {
        url,
        headers,
        timeout: refresh,
        body_bytes_max: Some(BODY_BYTES_MAX),
    };
    let mut body = Vec::new();
    let fetched = client
        .fetch(request, &mut body)
        .await
        .map_err(|error| error.to_string())?;
    if !is_json(&fetched.content_type) {
        return Err(format!(
            "unsupported content type {:?}",
            fetched.content_type
        ));
    }
    parse_json(&body, (META_LABEL, url))
}

/// `application/json`, alone or in UTF-8.
fn is_json(content_type: &str) -> bool {
    let text = content_type.trim().to_ascii_lowercase();
    let Some(parameters) = text.strip_prefix("application/json") else {
        return false;
    };
    matches!(
        parameters.trim_start_matches([';', ' ']),
        "" | "charset=utf-8" | "charset=\"utf-8\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_in_utf_8_is_read() {
        for (content_type, expect) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON;charset=\"UTF-8\"", true),
            ("application/json; charset=latin1", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(is_json(content_type), expect, "{content_type}");
        }
    }
}
