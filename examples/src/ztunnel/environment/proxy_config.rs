use serde::Deserialize;

use super::{EnvironmentError, variables::Variables};

/// What is used of the mesh's proxy configuration. Other keys are for other proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProxyConfig {
    pub(super) concurrency: Option<usize>,
    pub(super) stats_port: Option<u16>,
    pub(super) proxy_admin_port: Option<u16>,
}

impl ProxyConfig {
    /// Reads `PROXY_CONFIG`, which is YAML.
    pub(super) fn parse(variables: &Variables<'_>) -> Result<Self, EnvironmentError> {
        let accepted = "YAML with concurrency (a number), statsPort and proxyAdminPort (ports)";
        let read = |text: &str| serde_yaml_ng::from_str::<Option<Self>>(text).ok();
        Ok(variables.read("PROXY_CONFIG", accepted, read)?.flatten().unwrap_or_default())
    }
}
