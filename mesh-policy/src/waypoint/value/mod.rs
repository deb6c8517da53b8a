//! The forms that values of policies have.

mod glob;
mod host;
mod identity;
mod request_principal;
mod template;

pub(super) use glob::Glob;
pub(super) use host::{Authority, KeptHost};
pub(super) use identity::{Account, IstioIdentity, SCHEME, accounts_within, namespaces_within, trust_domain};
pub(crate) use request_principal::RequestPrincipal;
pub(crate) use template::PathTemplate;
