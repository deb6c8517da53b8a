use std::{fmt, sync::Arc};

/// The right to one tunnel on a connection, given back when the tunnel is gone.
pub(crate) struct Permit(Arc<dyn Release>);

/// Counts the tunnels on a connection.
pub(crate) trait Release: Send + Sync {
    /// A tunnel is gone. Called from wherever it was dropped.
    fn release(&self);
}

impl Permit {
    /// Takes charge of one tunnel that `counter` has counted.
    #[cfg(feature = "pool")]
    pub(crate) fn new(counter: Arc<dyn Release>) -> Self {
        Self(counter)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
