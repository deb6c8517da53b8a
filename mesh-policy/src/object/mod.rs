//! Policy objects as users write them.
//!
//! The structs mirror the fields of `security.istio.io/v1`, each text exactly as written: nothing is parsed,
//! defaulted or dropped here. What an object *means* depends on where it is enforced and is decided when it
//! is compiled or converted.
//!
//! With the feature `crd` the objects are read from YAML and JSON, where no unknown field is ignored
//! silently, and written with serde.

mod authorization_policy;
mod collection;
mod error;
mod extent;
mod metadata;
mod peer_authentication;
mod request_authentication;
mod target;

pub use authorization_policy::{Action, AuthorizationPolicy, Condition, Operation, Provider, Rule, Source};
pub use collection::{PolicyObject, PolicyObjects};
pub use error::ObjectError;
pub use extent::Extent;
pub use metadata::Metadata;
pub use peer_authentication::{MutualTlsMode, PeerAuthentication};
pub use request_authentication::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication};
pub use target::{Selector, TargetRef};
