use std::sync::Arc;

/// Which port of an endpoint serves which port of a service; cheap to clone.
///
/// A target of 0 stands for a named port, which only the single endpoint can resolve.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortMap(Arc<[(u16, u16)]>);

impl PortMap {
    /// The target of a service port.
    pub fn get(&self, service_port: u16) -> Option<u16> {
        let position = self.0.binary_search_by_key(&service_port, |&(port, _)| port).ok()?;
        self.0.get(position).map(|&(_, target)| target)
    }

    /// Whether there is no port at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Service ports with their targets, ascending by service port.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<(u16, u16)> for PortMap {
    /// Collects pairs of service port and target; of several targets for one port the last counts.
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(pairs: I) -> Self {
        let sorted: std::collections::BTreeMap<u16, u16> = pairs.into_iter().collect();
        Self(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_target_of_a_port_counts() {
        let ports: PortMap = [(443, 8443), (80, 1), (80, 8080)].into_iter().collect();
        assert_eq!(ports.get(80), Some(8080));
        assert_eq!(ports.get(81), None);
        assert_eq!(ports.iter().collect::<Vec<_>>(), [(80, 8080), (443, 8443)]);
    }
}
