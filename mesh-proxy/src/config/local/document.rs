use std::{
    collections::{BTreeMap, HashSet},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{LocalConfigError, PolicyDocument, ServiceDocument, WorkloadDocument, names::Names};
use crate::state::{Change, Workload};

/// A local configuration that was read and found valid.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    document: Arc<LocalDocument>,
    changes: Vec<Change>,
}

impl LocalConfig {
    /// The configuration as it is written.
    pub fn document(&self) -> &Arc<LocalDocument> {
        &self.document
    }

    /// What makes a store hold exactly this configuration, as one batch.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

impl FromStr for LocalConfig {
    type Err = LocalConfigError;

    /// Reads a configuration in YAML; an empty text is an empty configuration.
    fn from_str(text: &str) -> Result<Self, LocalConfigError> {
        let document: Option<LocalDocument> = serde_yaml_ng::from_str(text)
            .map_err(|error| LocalConfigError::Syntax { problem: error.to_string() })?;
        let document = document.unwrap_or_default();
        let changes = document.changes()?;
        Ok(Self { document: Arc::new(document), changes })
    }
}

/// The objects of a local configuration as written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalDocument {
    #[serde(default)]
    workloads: Vec<WorkloadDocument>,
    #[serde(default)]
    policies: Vec<PolicyDocument>,
    #[serde(default)]
    services: Vec<ServiceDocument>,
}

impl LocalDocument {
    fn changes(&self) -> Result<Vec<Change>, LocalConfigError> {
        let names = &mut Names::default();
        let mut workloads = self.workloads(names)?;
        let mut changes = vec![Change::Clear];
        let mut seen = HashSet::new();
        for service in &self.services {
            self.link(service, &mut workloads)?;
            let service = service.build(names);
            ensure_new(&mut seen, &service.id, "service")?;
            changes.push(Change::UpsertService(Arc::new(service)));
        }
        let mut seen = HashSet::new();
        for policy in &self.policies {
            let policy = policy.build();
            ensure_new(&mut seen, &policy.name, "policy")?;
            changes.push(Change::UpsertPolicy(policy));
        }
        changes.extend(workloads.into_values().map(|workload| Change::UpsertWorkload(Arc::new(workload))));
        changes.push(Change::Synced);
        Ok(changes)
    }

    fn workloads(&self, names: &mut Names) -> Result<BTreeMap<Arc<str>, Workload>, LocalConfigError> {
        let mut workloads = BTreeMap::new();
        for document in &self.workloads {
            let workload = document.build(names)?;
            let uid = Arc::clone(&workload.uid);
            if workloads.insert(Arc::clone(&uid), workload).is_some() {
                return Err(LocalConfigError::Duplicate { kind: "workload", name: uid.to_string() });
            }
        }
        Ok(workloads)
    }

    /// Takes endpoints that are listed with their service for what they amount to: services of their
    /// workloads.
    fn link(
        &self,
        service: &ServiceDocument,
        workloads: &mut BTreeMap<Arc<str>, Workload>,
    ) -> Result<(), LocalConfigError> {
        let id = service.id();
        for (uid, endpoint) in &service.endpoints {
            let problem = |problem| LocalConfigError::Endpoint {
                service: id.to_string(),
                uid: uid.to_string(),
                problem,
            };
            if endpoint.workload_uid != *uid {
                return Err(problem("workloadUid differs from the key"));
            }
            let Some(workload) = workloads.get_mut(uid) else { return Err(problem("no such workload")) };
            if endpoint.status != workload.status {
                return Err(problem("status differs from the workload's"));
            }
            if workload.ports_for(&id).is_none() {
                let ports = endpoint.port.iter().map(|(&port, &target)| (port, target)).collect();
                workload.services.push((id.clone(), ports));
            }
        }
        Ok(())
    }
}

fn ensure_new<K: Clone + Eq + std::hash::Hash + std::fmt::Display>(
    seen: &mut HashSet<K>,
    key: &K,
    kind: &'static str,
) -> Result<(), LocalConfigError> {
    if seen.insert(key.clone()) {
        return Ok(());
    }
    Err(LocalConfigError::Duplicate { kind, name: key.to_string() })
}
