use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    ConfigDump, Endpoint,
    answer::{self, HTML, JSON},
    logging,
};
use crate::telemetry::log::LogHandle;

/// Answers `/config_dump`, `/logging` and `/quitquitquit`, for operators and their tools.
///
/// Bind it to loopback only. At most two dumps are in memory at a time; further requests for one get 503.
#[derive(Clone)]
pub struct AdminEndpoint {
    dump: Arc<ConfigDump>,
    logging: LogHandle,
    quit: Arc<dyn Fn() + Send + Sync>,
    /// One permit per dump that is being written or read.
    dumps: Arc<Semaphore>,
}

impl AdminEndpoint {
    /// Shows `dump`, changes `logging`, and calls `quit` when the process shall end.
    pub fn new(dump: Arc<ConfigDump>, logging: LogHandle, quit: impl Fn() + Send + Sync + 'static) -> Self {
        Self { dump, logging, quit: Arc::new(quit), dumps: Arc::new(Semaphore::new(MAX_DUMPS)) }
    }

    /// The dump, unless as many as may be are in memory; it is gone from there when its reader is.
    fn render(&self) -> Response<Bytes> {
        let Ok(permit) = Arc::clone(&self.dumps).try_acquire_owned() else {
            return answer::text(StatusCode::SERVICE_UNAVAILABLE, "other dumps are being read\n");
        };
        match self.dump.render() {
            Ok(body) => {
                let body = Bytes::from_owner(Dump { body, _permit: permit });
                answer::typed(StatusCode::OK, JSON, body)
            }
            Err(error) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

impl Endpoint for AdminEndpoint {
    fn answer(&self, request: &Parts) -> Response<Bytes> {
        let is_post = request.method == Method::POST;
        match request.uri.path() {
            "/" => answer::typed(StatusCode::OK, HTML, INDEX),
            "/config_dump" => self.render(),
            "/logging" if is_post => logging::change(&self.logging, request.uri.query().unwrap_or_default()),
            "/logging" => answer::text(StatusCode::METHOD_NOT_ALLOWED, logging::USAGE),
            "/quitquitquit" if is_post => {
                (self.quit)();
                answer::text(StatusCode::OK, "shutdown now\n")
            }
            "/quitquitquit" => answer::empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => answer::empty(StatusCode::NOT_FOUND),
        }
    }
}

impl fmt::Debug for AdminEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminEndpoint").field("logging", &self.logging).finish_non_exhaustive()
    }
}

/// A dump in memory.
struct Dump {
    body: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Dump {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// With 100,000 workloads a dump takes more than 100 MB.
const MAX_DUMPS: usize = 2;

const INDEX: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>mesh proxy</title></head>
<body>
<h1>mesh proxy</h1>
<dl>
<dt><a href=\"config_dump\">config_dump</a></dt><dd>what the proxy knows of the mesh, as JSON</dd>
<dt>logging</dt><dd>POST: what is logged; <code>?level=debug</code>, <code>?level=access=debug,info</code>,
<code>?reset</code> change it</dd>
<dt>quitquitquit</dt><dd>POST: drain, then exit</dd>
</dl>
</body>
</html>
";
