//! Every kind of finding.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Level {
    /// Nothing is wrong, and somebody may expect something else.
    Note,
    /// The object does not do what it seems to say.
    Warning,
    /// The object says something that nothing can act on, which Istio would widen or drop. `Strict` semantics
    /// refuse it.
    Refused,
    /// What the object says cannot be told.
    Unreadable,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
        })
    }
}

macro_rules! codes {
    ($($name:ident = $id:literal, $level:ident, $summary:literal, $instead:literal;)*) => {
        /// Which kind of thing a [`Finding`](super::Finding) is about. Displayed in the form of `unknown-field`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $id, "`: ", $summary, ".")] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name of the code, which does not change: `unknown-field`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// How bad it is.
            pub fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)* }
            }

            /// What is the case.
            pub fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }

            /// What to write instead, in general.
            pub fn instead(self) -> &'static str {
                match self { $(Self::$name => $instead,)* }
            }
        }
    };
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(feature = "crd")]
impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

codes! {
    // Reading.
    Syntax = "syntax", Unreadable, "the text is neither YAML nor JSON", "mend the text";
    NotAnObject = "not-an-object", Unreadable, "this is not a Kubernetes object",
        "write a map with `apiVersion`, `kind`, `metadata` and `spec`";
    ApiVersion = "api-version", Unreadable, "the version of this kind is unknown",
        "write `apiVersion: security.istio.io/v1`";
    Nameless = "nameless", Unreadable, "the object has no name", "write `metadata.name`";
    WrongType = "wrong-type", Unreadable, "the value is of another type", "write the type that is expected";
    UnknownValue = "unknown-value", Unreadable, "the value is not one of those known", "write one of those known";
    Duplicate = "duplicate", Unreadable, "another object has this kind and name, and which was meant is unknown",
        "give one of them another name, or remove it";
    TooLarge = "too-large", Unreadable, "the input is larger than is read", "split it";
    UnknownField = "unknown-field", Refused, "the field is unknown; an API server would drop it, and what it restricts with it",
        "correct its name, or remove it";

    // Admission.
    DenyWithoutRules = "deny-without-rules", Refused, "a DENY policy without rules denies nothing",
        "write `rules: [{}]` to deny everything, or remove the policy";
    CustomWithoutRules = "custom-without-rules", Refused, "a CUSTOM policy without rules never asks its provider",
        "write `rules: [{}]` to ask about everything, or remove the policy";
    CustomWithoutProvider = "custom-without-provider", Refused, "a CUSTOM policy has to name whom to ask",
        "write `provider: {name: …}`";
    ProviderName = "provider-name", Refused, "the name of a provider has to be a DNS label",
        "write up to 63 lower-case letters, digits and inner dashes";
    ProviderWithoutCustom = "provider-without-custom", Refused, "only a CUSTOM policy asks a provider",
        "write `action: CUSTOM`, or remove the provider";
    CustomAttribute = "custom-attribute", Refused,
        "a CUSTOM policy is evaluated before tokens and identities are known and cannot use this attribute",
        "use addresses, ports, hosts, methods, paths or headers, and let the provider check the rest";
    EmptyList = "empty-list", Refused, "the list is empty, which reads as a restriction and is none",
        "list something, or remove the field";
    EmptySource = "empty-source", Refused, "the source restricts nothing, so it matches everybody",
        "restrict something, or remove `from`";
    EmptyOperation = "empty-operation", Refused, "the operation restricts nothing, so it matches everything",
        "restrict something, or remove `to`";
    EmptyValue = "empty-value", Refused, "the value is empty", "write a value, or remove it";
    ServiceAccountsMixed = "service-accounts-mixed", Refused,
        "service accounts cannot be combined with principals or namespaces in one source",
        "write `namespace/name` as the service account, or use two sources";
    ServiceAccountForm = "service-account-form", Refused, "this is not a service account",
        "write `name` or `namespace/name`, without wildcards, in at most 320 characters";
    TooMany = "too-many", Refused, "there are more entries than are admitted", "split the policy";
    TrustDomainForm = "trust-domain-form", Refused, "this is not a trust domain", "write a name without a slash";
    BadAddress = "bad-address", Refused,
        "this is neither an IP address nor a range; Istio drops it, and where no other is left the whole restriction",
        "write an address or a range such as `10.0.0.0/8`";
    BadPort = "bad-port", Refused,
        "this is not the number of a port; Istio drops it, and where no other is left the whole restriction",
        "write a number from 1 to 65535";
    BadTemplate = "bad-template", Refused, "this is not a path template",
        "let each `{*}` or `{**}` be a whole segment, `{**}` the last of them, and use no other `*`, `{` or `}`";
    UnknownKey = "unknown-key", Refused, "no attribute has this key; Istio drops the whole rule, of a DENY too",
        "use one of the keys that AuthorizationPolicy documents";
    WithoutValues = "without-values", Refused, "a condition needs `values` or `notValues`", "list a value";
    SeveralTargets = "several-targets", Refused, "only one of `selector`, `targetRef` and `targetRefs` may be set",
        "keep one of them";
    TargetForm = "target-form", Refused, "this does not name a Gateway, GatewayClass, Service or ServiceEntry",
        "write `group`, `kind` and `name`; the group of a Service is empty, that of a Gateway `gateway.networking.k8s.io`, that of a ServiceEntry `networking.istio.io`";
    TargetNamespace = "target-namespace", Refused, "a target in another namespace is ignored",
        "put the policy into the namespace of its target";
    SelectorForm = "selector-form", Refused, "labels are compared with texts that are not empty and have no wildcards",
        "write the label as the workload has it";
    DryRunForm = "dry-run-form", Refused, "this is not true or false, so the policy is enforced",
        "write `istio.io/dry-run: \"true\"` or remove the annotation";
    PortLevelWithoutSelector = "port-level-without-selector", Refused, "ports are only looked at beside a selector",
        "add a selector";
    PeerPort = "peer-port", Refused, "this is not the number of a port", "write a number from 1 to 65535";
    IssuerMissing = "issuer-missing", Refused, "a rule for tokens has to name their issuer", "write `issuer`";
    KeysTwice = "keys-twice", Refused, "only one of `jwks` and `jwksUri` may be set", "keep one of them";
    KeysUri = "keys-uri", Refused, "keys are fetched over HTTP", "write a URL that starts with `https://`";
    HeaderName = "header-name", Refused, "this is not the name of a header", "write the name of a header";
    Timeout = "timeout", Refused, "this is not a time of at least one millisecond", "write a time such as `5s`";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_texts_have_no_full_stop() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.id()), "{code}");
            assert!(code.id().chars().all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()));
            assert!(!code.summary().ends_with('.') && !code.instead().ends_with('.'), "{code}");
        }
    }
}
