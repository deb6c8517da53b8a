//! Policy objects as Kubernetes has them, in YAML and JSON.
//!
//! [`read`] takes a text of any number of documents, lists included, and returns every object in it with
//! everything that is wrong with each. What becomes of objects that something is wrong with is the caller's
//! choice, and never a wider set: [`Reading::into_objects`] gives all of them or an error, so that the last
//! good set stays, and [`Reading::fail_closed`] replaces a broken ALLOW by one that matches nothing and a
//! broken DENY by one that matches everything in its scope.

mod document;
mod fields;
mod kind;
mod node;
mod reading;
mod write;

pub use document::cut;
pub use node::{EffectiveMutualTls, NodePolicies, NodeSettings};
pub use reading::{Reading, read, read_file};
