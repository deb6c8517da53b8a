use std::{collections::HashSet, sync::Arc};

use crate::state::ServiceName;

/// Shares equal names: namespaces, nodes and host names recur in thousands of objects.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// The one copy of a name.
    pub(super) fn share(&mut self, name: &Arc<str>) -> Arc<str> {
        match self.0.get(name) {
            Some(shared) => Arc::clone(shared),
            None => {
                self.0.insert(Arc::clone(name));
                Arc::clone(name)
            }
        }
    }

    /// A service's name made of the one copy of each part.
    pub(super) fn share_service(&mut self, name: &ServiceName) -> ServiceName {
        ServiceName::new(self.share(name.namespace()), self.share(name.hostname()))
    }
}
