use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::ACCEPT, request::Parts};

use super::{
    Endpoint,
    answer::{self, TEXT},
};
use crate::telemetry::Telemetry;

const OPENMETRICS: &str = "application/openmetrics-text";

/// Answers `/metrics` and `/stats/prometheus` with every metric.
///
/// The body is OpenMetrics text always, as from Istio's proxy; it is called so only for clients that ask for it.
#[derive(Clone, Debug)]
pub struct MetricsEndpoint(Arc<Telemetry>);

impl MetricsEndpoint {
    /// Answers from `telemetry`.
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self(telemetry)
    }
}

impl Endpoint for MetricsEndpoint {
    fn answer(&self, request: &Parts) -> Response<Bytes> {
        if !matches!(request.uri.path(), "/metrics" | "/stats/prometheus") {
            return answer::empty(StatusCode::NOT_FOUND);
        }
        let content_type = if accepts_openmetrics(&request.headers) {
            "application/openmetrics-text;charset=utf-8;version=1.0.0"
        } else {
            TEXT
        };
        match self.0.encode() {
            Ok(body) => answer::typed(StatusCode::OK, content_type, body),
            Err(_) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n"),
        }
    }
}

/// Any mention counts, whatever its quality.
fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut media_types =
        values.flat_map(|value| value.split(',')).map(|item| item.split(';').next().unwrap_or(item));
    media_types.any(|media_type| media_type.trim().eq_ignore_ascii_case(OPENMETRICS))
}
