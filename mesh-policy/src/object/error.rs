//! Why an object is refused.

use std::fmt;

use super::Metadata;

/// An object that cannot be used as it is written: which one, the field, the value, and what to write instead.
///
/// Whoever gets one keeps the last good version of the object; to go on without it may widen access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {object}: {path}: {problem}")]
pub struct ObjectError {
    kind: ObjectKind,
    object: String,
    path: String,
    value: String,
    problem: Problem,
}

impl ObjectError {
    /// Refuses an object because of a value. The path is that of the field, from the object's root:
    /// `spec.rules[0].to[0].operation.ports[1]`.
    pub fn new(
        problem: Problem,
        path: impl Into<String>,
        value: impl Into<String>,
        object: &Metadata,
        kind: ObjectKind,
    ) -> Self {
        Self { kind, object: object.to_string(), path: path.into(), value: value.into(), problem }
    }

    /// The kind of the object.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The namespace and name of the object, joined by a slash.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The field, from the object's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value as it is written; empty if there is none.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// What to write instead.
    pub fn fix(&self) -> &'static str {
        self.problem.fix()
    }
}

/// The kinds of policy objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// Who may do what.
    AuthorizationPolicy,
    /// Whether peers have to prove an identity.
    PeerAuthentication,
    /// Which tokens of a request are accepted.
    RequestAuthentication,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::RequestAuthentication => "RequestAuthentication",
        })
    }
}

/// What is wrong with a value of an object. Displayed as what it is, without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Problem {
    /// Not an IP address, nor a range of them.
    Address,
    /// An attribute that is not known yet when a provider is asked.
    CustomAttribute,
    /// Two objects have the same name.
    Duplicate,
    /// The annotation is neither true nor false.
    DryRun,
    /// A text without characters.
    EmptyText,
    /// A list of alternatives has one that restricts nothing.
    EmptyAlternative,
    /// Not the name of a header.
    HeaderName,
    /// An asterisk where it is neither first nor last, or one at either end: it is read literally, and no
    /// value has one.
    InnerWildcard,
    /// The brackets of a key do not pair.
    KeyBrackets,
    /// An IPv4 address in the form of IPv6, which no peer has.
    MappedAddress,
    /// The action needs a provider.
    MissingProvider,
    /// The action does nothing without rules.
    MissingRules,
    /// A condition with neither values nor negated values.
    MissingValues,
    /// A text with more than one namespace or service account.
    PrincipalParts,
    /// A path template that breaks the rules for them.
    PathTemplate,
    /// Not a port.
    Port,
    /// A provider that the mesh does not have.
    Provider,
    /// Not an issuer and a subject, or with wildcards that are read literally.
    RequestPrincipal,
    /// Both a selector and targets.
    SelectorAndTarget,
    /// Not a service account, or with a wildcard, which is read literally.
    ServiceAccount,
    /// A target in another namespace than the policy.
    TargetNamespace,
    /// A target of a kind that policies cannot have.
    TargetKind,
    /// Not a trust domain.
    TrustDomain,
    /// Only the action CUSTOM has a provider.
    UnexpectedProvider,
    /// Not the name of an attribute.
    UnknownKey,
}

impl Problem {
    /// What to write instead.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Address => "write an address such as 192.0.2.1 or a range such as 192.0.2.0/24",
            Self::CustomAttribute => {
                "use attributes of the request line, headers, addresses and ports; peer identity and token \
                 are checked by DENY and ALLOW policies"
            }
            Self::Duplicate => "rename or remove one of them",
            Self::DryRun => "write \"true\" or \"false\"",
            Self::EmptyAlternative => "remove it, or say what it restricts",
            Self::EmptyText => "remove it, or write `*` for any text that is not empty",
            Self::HeaderName => "write request.headers[name] with the name of a header",
            Self::InnerWildcard => "write a value with one `*`, at its beginning or its end",
            Self::KeyBrackets => "write each name in brackets of its own: request.auth.claims[a][b]",
            Self::MappedAddress => "write the IPv4 address: 192.0.2.1 for ::ffff:192.0.2.1",
            Self::MissingProvider => "name an extension provider in spec.provider.name",
            Self::MissingRules => "add a rule; `rules: [{}]` matches everything",
            Self::MissingValues => "add values or notValues",
            Self::PathTemplate => {
                "use {*} for one whole segment and {**} once, after every {*}, with literal segments between"
            }
            Self::Port => "write a number from 0 to 65535 in quotes",
            Self::PrincipalParts => "write trust-domain/ns/namespace/sa/account",
            Self::Provider => "name an extension provider that the mesh has",
            Self::RequestPrincipal => {
                "write issuer/subject with at most one `*`, or `*` for any token; to match an issuer alone, \
                 write issuer/*"
            }
            Self::SelectorAndTarget => "keep one of selector, targetRef and targetRefs",
            Self::ServiceAccount => "write account or namespace/account, without wildcards",
            Self::TargetKind => {
                "target a Gateway, the GatewayClass istio-waypoint, a Service or a ServiceEntry"
            }
            Self::TargetNamespace => "move the policy to the namespace of its target",
            Self::TrustDomain => "write a trust domain without a path, such as example.org",
            Self::UnexpectedProvider => "remove the provider, or write the action CUSTOM",
            Self::UnknownKey => "use a documented key, such as source.namespace or request.headers[name]",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an address or range",
            Self::CustomAttribute => "not known when a provider is asked",
            Self::Duplicate => "the name of more than one object",
            Self::DryRun => "neither true nor false",
            Self::EmptyAlternative => "restricts nothing",
            Self::EmptyText => "empty",
            Self::HeaderName => "not the name of a header",
            Self::InnerWildcard => "has an asterisk that would be read literally",
            Self::KeyBrackets => "brackets do not pair",
            Self::MappedAddress => "an IPv4 address in the form of IPv6, which no peer has",
            Self::MissingProvider => "no provider to ask",
            Self::MissingRules => "no rules, so it does nothing",
            Self::MissingValues => "neither values nor notValues",
            Self::PathTemplate => "not a path template",
            Self::Port => "not a port",
            Self::PrincipalParts => "more than one namespace or service account",
            Self::Provider => "not a provider of the mesh",
            Self::RequestPrincipal => "would not match the tokens it seems to",
            Self::SelectorAndTarget => "both a selector and targets",
            Self::ServiceAccount => "not a service account",
            Self::TargetKind => "not a kind of target",
            Self::TargetNamespace => "in another namespace than the policy",
            Self::TrustDomain => "not a trust domain",
            Self::UnexpectedProvider => "a provider without the action CUSTOM",
            Self::UnknownKey => "not an attribute",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_object_the_field_and_the_problem() {
        let metadata = Metadata::named("shop", "ports");
        let error = ObjectError::new(
            Problem::Port,
            "spec.rules[0].to[0].operation.ports[1]",
            "65616",
            &metadata,
            ObjectKind::AuthorizationPolicy,
        );
        assert_eq!((error.problem(), error.value()), (Problem::Port, "65616"));
        assert_eq!(
            error.to_string(),
            "AuthorizationPolicy shop/ports: spec.rules[0].to[0].operation.ports[1]: not a port"
        );
        assert_eq!(error.fix(), "write a number from 0 to 65535 in quotes");
    }
}
