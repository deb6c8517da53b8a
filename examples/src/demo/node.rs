//! A node proxy inside this process.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
};

use mesh_identity::DevCa;
use mesh_policy::MissingPolicy;
use mesh_proxy::{
    DrainHandle, ListenAddresses, OriginalSource, Proxy, Settings,
    config::local::LocalConfig,
    state::{StateStore, WorkloadKey},
    telemetry::{
        Telemetry,
        log::{LogFormat, LogFormatter},
    },
};
use tracing_subscriber::{filter::LevelFilter, fmt, layer::SubscriberExt};

use super::{
    error::{DemoError, during},
    story::Story,
    tour::Side,
};
use crate::{
    crypto,
    lab::{Metric, Output},
};

/// A proxy on threads of its own. Dropping it drains it in the background.
#[derive(Debug)]
pub(super) struct Node {
    listening: ListenAddresses,
    drain: DrainHandle,
    telemetry: Arc<Telemetry>,
    running: Option<JoinHandle<bool>>,
}

impl Node {
    /// Starts the proxy of a pod, which accepts HBONE at `hbone` and SOCKS5 at another port there.
    pub(super) fn start(side: Side, story: &Story, hbone: SocketAddr) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Proxy { pod: side.pod(), source };
        let config: LocalConfig = story.file.to_yaml().parse().map_err(DemoError::Mesh)?;
        let state = Arc::new(StateStore::new(None, MissingPolicy::default()));
        state.apply(config.into_changes());

        let pod = story.pod(side);
        let workload = WorkloadKey {
            name: pod.name.as_str().into(),
            namespace: pod.namespace.as_str().into(),
            service_account: pod.name.as_str().into(),
        };
        let provider = crypto::provider();
        let identities = Arc::new(DevCa::new(Arc::new(provider.clone())));
        let telemetry = Arc::new(Telemetry::builder().build());
        let listen = ListenAddresses {
            inbound_hbone: Some(hbone),
            socks5: Some(SocketAddr::new(hbone.ip(), 0)),
            ..ListenAddresses::default()
        };
        let proxy = Proxy::builder(workload, state, identities, &provider)
            .settings(Settings::default().listen(listen).original_source(OriginalSource::Off))
            .observer(Arc::clone(&telemetry) as _)
            .build()
            .map_err(|error| failed(error.into()))?;

        let (listening, drain) = (proxy.listening(), proxy.drain_handle());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.into()))?;
        let running = thread::Builder::new()
            .name(format!("demo-{}", side.pod()))
            .spawn(move || runtime.block_on(proxy.run()).is_ok())
            .map_err(during("starting a proxy"))?;
        Ok(Self { listening, drain, telemetry, running: Some(running) })
    }

    /// Where it accepts HBONE.
    pub(super) fn hbone(&self) -> SocketAddr {
        bound(self.listening.inbound_hbone)
    }

    /// Where it accepts SOCKS5.
    pub(super) fn socks5(&self) -> SocketAddr {
        bound(self.listening.socks5)
    }

    /// The samples of its metrics page.
    pub(super) fn metrics(&self) -> io::Result<Vec<Metric>> {
        Ok(Metric::parse_page(&self.telemetry.encode().map_err(io::Error::other)?))
    }

    /// Drains it and waits for its end; whether it ended in good order.
    pub(super) fn end(&mut self) -> bool {
        self.drain.drain();
        self.running.take().and_then(|running| running.join().ok()).unwrap_or(false)
    }
}

/// Collects what the proxies of this process log from now on.
pub(super) fn log() -> Output {
    let output = Output::default();
    let lines = Lines(output.clone());
    let format = LogFormatter::new(LogFormat::Plain);
    let layer = fmt::layer().event_format(format).fmt_fields(format).with_writer(move || lines.clone());
    // It fails only where somebody else logs for this process.
    let _ = tracing::subscriber::set_global_default(
        tracing_subscriber::registry().with(LevelFilter::INFO).with(layer),
    );
    output
}

/// Takes log lines as they are written: whole, and each at once.
#[derive(Clone, Debug)]
struct Lines(Output);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.0.push(line.to_owned()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The address of a listener that was asked for.
fn bound(listener: Option<SocketAddr>) -> SocketAddr {
    listener.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
}
