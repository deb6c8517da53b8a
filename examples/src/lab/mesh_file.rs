use std::{fmt::Write, fs, io, net::IpAddr, path::Path};

/// Trust domain of every pod of the lab.
const TRUST_DOMAIN: &str = "cluster.local";

/// The state of a mesh, as the local configuration file of a node proxy says it.
#[derive(Clone, Debug, Default)]
pub struct MeshFile {
    pods: Vec<Pod>,
    services: Vec<Service>,
    policies: String,
}

impl MeshFile {
    /// Adds a pod.
    #[must_use]
    pub fn pod(mut self, pod: Pod) -> Self {
        self.pods.push(pod);
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Adds a policy: a YAML mapping, its lines not indented.
    #[must_use]
    pub fn policy(mut self, policy: &str) -> Self {
        for (index, line) in policy.trim().lines().enumerate() {
            self.policies.push_str(if index == 0 { "- " } else { "  " });
            self.policies.push_str(line);
            self.policies.push('\n');
        }
        self
    }

    /// Removes the policies.
    #[must_use]
    pub fn without_policies(mut self) -> Self {
        self.policies.clear();
        self
    }

    /// Writes the file so that a reader sees either the old or the new one.
    ///
    /// # Errors
    ///
    /// As [`fs::write`] and [`fs::rename`].
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("draft");
        fs::write(&draft, self.to_yaml())?;
        fs::rename(draft, path)
    }

    /// The text of the file.
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::from("workloads:\n");
        for pod in &self.pods {
            pod.write_yaml(&mut yaml, &self.services);
        }
        if !self.services.is_empty() {
            yaml.push_str("services:\n");
        }
        for service in &self.services {
            service.write_yaml(&mut yaml);
        }
        if !self.policies.is_empty() {
            yaml.push_str("policies:\n");
            yaml.push_str(&self.policies);
        }
        yaml
    }
}

/// A workload in the mesh; its service account has its name.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Name of the pod, of its deployment and of its service account.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    /// A pod.
    pub fn new(namespace: &str, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            addresses: addresses.into_iter().collect(),
        }
    }

    /// Its SPIFFE ID.
    pub fn identity(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}", self.namespace, self.name)
    }

    /// The value of `PROXY_WORKLOAD_INFO` for its proxy.
    pub fn proxy_workload_info(&self) -> String {
        format!("{ns}/{name}/{name}", ns = self.namespace, name = self.name)
    }

    fn write_yaml(&self, yaml: &mut String, services: &[Service]) {
        let Self { name, namespace, addresses } = self;
        // Debug quotes what YAML reads as a double-quoted string; a `String` takes every write.
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let _ = write!(
            yaml,
            "- uid: cluster1//Pod/{namespace}/{name}
  name: {name}
  namespace: {namespace}
  serviceAccount: {name}
  trustDomain: {TRUST_DOMAIN}
  workloadIps: {addresses:?}
  protocol: HBONE
  node: node-{name}
  network: \"\"
  clusterId: cluster1
  workloadName: {name}
  workloadType: deployment
  canonicalName: {name}
  canonicalRevision: v1
"
        );
        let memberships: Vec<_> = services.iter().filter(|service| service.backend == *name).collect();
        let _ = writeln!(yaml, "  services:{}", if memberships.is_empty() { " {}" } else { "" });
        for service in memberships {
            let _ =
                writeln!(yaml, "    \"{}/{}\": {}", service.namespace, service.hostname(), service.ports());
        }
    }
}

/// A service with one pod behind it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Virtual addresses.
    pub vips: Vec<IpAddr>,
    /// The service's port and the pod's.
    pub port: (u16, u16),
    /// Name of the pod.
    pub backend: String,
}

impl Service {
    /// Its full name.
    pub fn hostname(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }

    fn ports(&self) -> String {
        format!("{{{}: {}}}", self.port.0, self.port.1)
    }

    fn write_yaml(&self, yaml: &mut String) {
        let vips: Vec<_> = self.vips.iter().map(|vip| format!("/{vip}")).collect();
        let _ = write!(
            yaml,
            "- name: {name}\n  namespace: {namespace}\n  hostname: {hostname}\n  vips: {vips:?}\n  ports: {ports}\n",
            name = self.name,
            namespace = self.namespace,
            hostname = self.hostname(),
            ports = self.ports()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_was_added() {
        let server =
            Pod::new("default", "server", ["192.0.2.20".parse().unwrap(), "2001:db8::14".parse().unwrap()]);
        assert_eq!(server.identity(), "spiffe://cluster.local/ns/default/sa/server");
        assert_eq!(server.proxy_workload_info(), "default/server/server");
        let service = Service {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            vips: vec!["198.51.100.1".parse().unwrap()],
            port: (80, 8080),
            backend: "server".to_owned(),
        };
        let file = MeshFile::default().pod(server).service(service).policy("name: deny\nnamespace: default");
        let yaml = file.to_yaml();
        for expected in [
            "  workloadIps: [\"192.0.2.20\", \"2001:db8::14\"]\n",
            "  services:\n    \"default/web.default.svc.cluster.local\": {80: 8080}\n",
            "services:\n- name: web\n",
            "  vips: [\"/198.51.100.1\"]\n  ports: {80: 8080}\n",
            "policies:\n- name: deny\n  namespace: default\n",
        ] {
            assert!(yaml.contains(expected), "{expected} is missing in\n{yaml}");
        }
    }
}
