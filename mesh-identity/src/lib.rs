//! mesh-identity.
