//! Which identities the workloads of which node have.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use mesh_identity::SpiffeId;
use mesh_proxy::{
    Report,
    config::local::{LocalConfig, LocalConfigError, LocalConfigFile},
    state::Change,
};
use tokio::{sync::watch, task::AbortHandle};

use super::line::line;

/// The workloads of a local configuration, indexed for an authority.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    by_node: HashMap<Arc<str>, HashSet<SpiffeId>>,
    all: HashSet<SpiffeId>,
    /// By namespace and name.
    pods: HashMap<(Arc<str>, Arc<str>), Pod>,
}

#[derive(Debug)]
struct Pod {
    node: Arc<str>,
    identity: SpiffeId,
}

impl Workloads {
    pub(super) fn of(config: LocalConfig) -> Self {
        let mut workloads = Self::default();
        for change in config.into_changes() {
            let Change::UpsertWorkload(workload) = change else { continue };
            let id = workload.identity().clone();
            workloads.by_node.entry(Arc::clone(&workload.node)).or_default().insert(id.clone());
            workloads.all.insert(id.clone());
            let name = (Arc::clone(workload.namespace()), Arc::clone(&workload.name));
            workloads.pods.insert(name, Pod { node: Arc::clone(&workload.node), identity: id });
        }
        workloads
    }

    /// Whether any workload has this identity.
    pub(super) fn has(&self, id: &SpiffeId) -> bool {
        self.all.contains(id)
    }

    /// Whether a workload on this node has this identity.
    pub(super) fn on_node(&self, node: &str, id: &SpiffeId) -> bool {
        self.by_node.get(node).is_some_and(|ids| ids.contains(id))
    }

    /// The node of a pod, if it runs as this service account.
    pub(super) fn node_of(&self, namespace: &str, name: &str, account: &SpiffeId) -> Option<&str> {
        let pod = self.pods.get(&(namespace.into(), name.into()))?;
        (pod.identity.path() == account.path()).then_some(&*pod.node)
    }
}

/// The workloads of a file, as it is now. Dropping it ends the looking.
#[derive(Debug)]
pub(super) struct WorkloadsFile {
    current: watch::Receiver<Arc<Workloads>>,
    following: AbortHandle,
}

impl WorkloadsFile {
    pub(super) async fn open(path: PathBuf) -> Result<Self, LocalConfigError> {
        let mut file = LocalConfigFile::new(path);
        let (sender, current) = watch::channel(Arc::new(Workloads::of(file.next().await?)));
        let following = tokio::spawn(async move {
            loop {
                match file.next().await {
                    Ok(config) => {
                        tracing::info!("the workloads changed");
                        sender.send_replace(Arc::new(Workloads::of(config)));
                    }
                    Err(error) => {
                        let error = line(&Report(&error));
                        tracing::warn!("the workloads changed and cannot be used: {error}");
                    }
                }
            }
        });
        Ok(Self { current, following: following.abort_handle() })
    }

    pub(super) fn get(&self) -> Arc<Workloads> {
        Arc::clone(&self.current.borrow())
    }
}

impl Drop for WorkloadsFile {
    fn drop(&mut self) {
        self.following.abort();
    }
}
