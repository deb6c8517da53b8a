//! Which tokens of a request are accepted.

use super::{Metadata, Selector, TargetRef};

/// A RequestAuthentication. A request with a token that no rule accepts is refused; one without is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// What it is called.
    pub metadata: Metadata,
    /// The workloads it applies to; if absent, and no target is named, all of its namespace or, in the root
    /// namespace, of the mesh.
    pub selector: Option<Selector>,
    /// The one target of `targetRef`, which `targetRefs` replaced.
    pub target_ref: Option<TargetRef>,
    /// The gateways and services it applies to.
    pub target_refs: Vec<TargetRef>,
    /// Whose tokens are accepted.
    pub jwt_rules: Vec<JwtRule>,
}

impl RequestAuthentication {
    /// All targets, whichever field names them.
    pub fn targets(&self) -> impl Iterator<Item = &TargetRef> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

/// Accepts the tokens of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct JwtRule {
    /// The claim `iss` that a token has to have.
    pub issuer: String,
    /// One of them has to be in the claim `aud`; if empty, any may be.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub audiences: Vec<String>,
    /// Where the issuer's keys are found.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub jwks_uri: Option<String>,
    /// The issuer's keys themselves.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub jwks: Option<String>,
    /// Headers that may hold a token.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that may hold a token.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub from_params: Vec<String>,
    /// Cookies that may hold a token.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub from_cookies: Vec<String>,
    /// A header that receives the token's payload.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub output_payload_to_header: Option<String>,
    /// Claims that are copied into headers.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the token is passed on.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "std::ops::Not::not"))]
    pub forward_original_token: bool,
    /// How long keys may take to arrive, as written: `5s`.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub timeout: Option<String>,
    /// Claims whose text is a list separated by spaces.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub space_delimited_claims: Vec<String>,
}

/// A header that may hold a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct JwtHeader {
    /// The name of the header.
    pub name: String,
    /// What precedes the token, with any space: `Bearer `.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "String::is_empty"))]
    pub prefix: String,
}

/// A claim that is copied into a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct ClaimToHeader {
    /// The name of the header.
    pub header: String,
    /// The name of the claim.
    pub claim: String,
}
