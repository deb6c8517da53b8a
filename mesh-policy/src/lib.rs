//! mesh-policy.
