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
    UnknownKind = "unknown-kind", Refused, "no policy is of this kind, so whatever it says is lost",
        "write AuthorizationPolicy, PeerAuthentication or RequestAuthentication";
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
    ProviderUnknown = "provider-unknown", Refused, "the mesh has no provider of this name, so what matches is denied",
        "define it among the mesh's extensionProviders";
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
        "write a number from 0 to 65535";
    InnerWildcard = "inner-wildcard", Refused,
        "a `*` counts only alone, as the first or as the last character; this one is compared literally, and nothing has one there",
        "keep one `*`, at an end";
    MappedAddress = "mapped-address", Refused, "peers have IPv4 addresses, never in this form, so this matches none", "write the IPv4 address";
    PrincipalParts = "principal-parts", Refused,
        "more than one namespace or service account; waypoints of Istio take each of them, node proxies take it for nobody",
        "write `trust-domain/ns/namespace/sa/service-account`";
    RequestPrincipalForm = "request-principal-form", Refused,
        "the value is cut at its last slash into issuer and subject, each with a wildcard of its own, and does not match the tokens it seems to",
        "write `issuer/subject` or `issuer/*`, or `*` for any token";
    BadTemplate = "bad-template", Refused, "this is not a path template",
        "let each `{*}` or `{**}` be a whole segment, `{**}` the last of them, and use no other `*`, `{` or `}`";
    UnknownKey = "unknown-key", Refused, "no attribute has this key; Istio drops the whole rule, of a DENY too",
        "use one of the keys that AuthorizationPolicy documents";
    KeyBrackets = "key-brackets", Refused, "the brackets of the key do not pair; Istio drops the condition, of an ALLOW the rule",
        "write each name in brackets of its own: `request.auth.claims[a][b]`";
    WithoutValues = "without-values", Refused, "a condition needs `values` or `notValues`", "list a value";
    SeveralTargets = "several-targets", Refused, "only one of `selector`, `targetRef` and `targetRefs` may be set",
        "keep one of them";
    TargetForm = "target-form", Refused, "this does not name a Gateway, GatewayClass, Service or ServiceEntry",
        "write `group`, `kind` and `name`; the group of a Service is empty, that of a Gateway `gateway.networking.k8s.io`, that of a ServiceEntry `networking.istio.io`";
    TargetClass = "target-class", Refused, "only the class `istio-waypoint` is looked at, and only in the root namespace", "move the policy to the root namespace, or target a Gateway";
    TargetNamespace = "target-namespace", Refused, "a target in another namespace is ignored",
        "put the policy into the namespace of its target";
    SelectorEmpty = "selector-empty", Refused, "an empty selector attaches the policy to nobody at node proxies, and to everybody elsewhere",
        "remove the selector to mean all, or name labels";
    SelectorForm = "selector-form", Refused, "labels are compared with texts that are not empty and have no wildcards",
        "write the label as the workload has it";
    DryRunForm = "dry-run-form", Refused, "this is not true or false, so the policy is enforced",
        "write `istio.io/dry-run: \"true\"` or remove the annotation";
    RootSelector = "root-selector", Refused, "a PeerAuthentication with a selector in the root namespace applies to nobody", "move it to the namespace of the workloads";
    PortLevelWithoutSelector = "port-level-without-selector", Refused, "ports are only looked at beside a selector",
        "add a selector";
    PeerPort = "peer-port", Refused, "this is not the number of a port", "write a number from 1 to 65535";
    IssuerMissing = "issuer-missing", Refused, "a rule for tokens has to name their issuer", "write `issuer`";
    KeysTwice = "keys-twice", Refused, "only one of `jwks` and `jwksUri` may be set", "keep one of them";
    KeysUri = "keys-uri", Refused, "keys are fetched over HTTP", "write a URL that starts with `https://`";
    HeaderName = "header-name", Refused, "this is not the name of a header", "write the name of a header";
    Timeout = "timeout", Refused, "this is not a time of at least one millisecond", "write a time such as `5s`";

    // Values that match nothing, or not what they seem to.
    PrincipalScheme = "principal-scheme", Warning, "principals are compared without their scheme, so this matches nobody",
        "leave `spiffe://` out";
    PrincipalForm = "principal-form", Warning, "no identity of a workload looks like this, so it matches nobody",
        "write `trust-domain/ns/namespace/sa/service-account`";
    PrincipalForeign = "principal-foreign", Note, "the trust domain is neither the mesh's nor one of its aliases",
        "write the trust domain of the mesh, or add this one to its aliases";
    ClusterLocal = "cluster-local", Warning, "waypoints take `cluster.local` for the mesh's trust domain, node proxies do not",
        "write the trust domain of the mesh";
    NamespaceForm = "namespace-form", Warning, "no namespace looks like this", "write the name of a namespace alone";
    LiteralWildcard = "literal-wildcard", Warning,
        "a `*` counts only alone, as the first or as the last character; this one is compared literally",
        "keep one `*`, at an end";
    ClaimBrackets = "claim-brackets", Warning, "the brackets do not pair, so all of it is the name of one claim",
        "write each name in brackets of its own: `request.auth.claims[a][b]`";
    NamespaceWildcard = "namespace-wildcard", Warning,
        "waypoints take every `*` in a namespace for a wildcard, node proxies only one at an end", "keep one `*`, at an end";
    HostForm = "host-form", Warning, "an authority has neither scheme nor path, and nothing but ASCII, so this matches no request",
        "write the name alone, such as `example.org`";
    HostPort = "host-port", Warning, "a request that names a port in its authority, or ends the name in a dot, is not matched, which is a way around the rule",
        "list what the host may end in, or restrict the rule by ports";
    MethodCase = "method-case", Warning, "methods are compared in upper case", "write it in upper case";
    PathForm = "path-form", Warning, "paths begin with `/` and are compared without query and fragment, so this matches no request",
        "write the path alone";
    PathNotNormal = "path-not-normal", Warning, "paths are normalised before they are compared, so this matches no request",
        "write the path in its normal form";
    PathSlashes = "path-slashes", Note, "with this path normalisation, `//` and `%2F` in a path are ways around the rule",
        "set the mesh's pathNormalization to DECODE_AND_MERGE_SLASHES";
    PathRest = "path-rest", Note, "`{**}` matches what follows the slash, not the path without it", "list the path without `/{**}` as well";
    PathRestSlash = "path-rest-slash", Warning, "with a `/` behind `{**}` only paths that end in a slash match", "remove the last `/`";
    ServerNameCase = "server-name-case", Warning, "server names arrive in lower case, so this matches none", "write it in lower case";
    HostBits = "host-bits", Note, "the address has bits behind the prefix, which are ignored", "write the first address of the range";
    ClaimNotText = "claim-not-text", Note, "only claims that are texts match; numbers and true or false never do",
        "let the issuer write the claim as a text";
    HeaderComma = "header-comma", Note, "each line of a header is compared by itself and as a whole, never cut at commas",
        "list every value that a line may have";
    PortZero = "port-zero", Warning, "nothing goes to port 0", "write the number of a port";
    ServicePort = "service-port", Warning, "node proxies compare the workload's port, and no workload selected here has this one",
        "write the target port of the service";

    // What an enforcement point cannot see.
    AllowNeedsRequest = "allow-needs-request", Warning,
        "node proxies see no requests and drop the rule, so that it allows nothing there",
        "attach the policy to the service or its waypoint with `targetRefs`";
    DenyNeedsRequest = "deny-needs-request", Warning,
        "node proxies see no requests, so the rule denies nothing there in Istio's reading, and whatever the rest of it matches in the strict one",
        "attach the policy to the service or its waypoint with `targetRefs`";
    DenyWiderAtNode = "deny-wider-at-node", Warning,
        "node proxies see no requests, so the rule denies there whatever the rest of it matches",
        "attach the policy to the service or its waypoint with `targetRefs`";
    TrustDomainAtNode = "trust-domain-at-node", Warning,
        "Istio's node proxies never receive trust domains: alone they match nobody, beside other fields those decide",
        "write principals such as `example.org/*`";
    NotAtNode = "not-at-node", Warning, "node proxies know neither AUDIT nor CUSTOM, so the policy does nothing there",
        "attach the policy to the service or its waypoint with `targetRefs`";
    DryRun = "dry-run", Note, "the policy is in dry run and enforces nothing", "remove the annotation to enforce it";
    DenyWiderOnTcp = "deny-wider-on-tcp", Warning,
        "on ports that are not HTTP the waypoint sees no requests, so the rule denies whatever the rest of it matches, which may be everything",
        "restrict the rule with `ports`";
    AllowNeedsRequestOnTcp = "allow-needs-request-on-tcp", Warning,
        "on ports that are not HTTP the waypoint sees no requests, so the rule allows nothing there",
        "add a rule for those ports without attributes of requests";
    ProviderOnTcp = "provider-on-tcp", Warning, "a provider that speaks HTTP cannot be asked about ports that are not; Istio lets them pass unasked",
        "use a provider that speaks gRPC";

    // Attachment.
    SelectsNobody = "selects-nobody", Warning, "no workload has these labels", "write the labels that the workloads have";
    SelectsWaypoint = "selects-waypoint", Warning, "waypoints ignore policies with selectors", "attach the policy with `targetRefs`";
    Unlabelled = "unlabelled", Warning, "a workload without any label gets every policy with a selector of its namespace in Istio's reading", "give the workload a label";
    TargetMissing = "target-missing", Warning, "the target is not there", "write the name of one that is";
    NeedsWaypoint = "needs-waypoint", Warning, "the service uses no waypoint, so nothing enforces the policy", "label the service or its namespace with `istio.io/use-waypoint`";
    WaypointHidesClient = "waypoint-hides-client", Warning,
        "traffic to workloads selected here comes from their waypoint, so the node proxy sees the waypoint instead of the client",
        "attach the policy with `targetRefs`, and allow the waypoint's identity here";

    // What rules amount to.
    NegativeOnly = "negative-only", Warning, "a rule that allows all but some also allows plaintext, which has no identity",
        "add `principals: [\"*\"]` to the source";
    NegativeOnlyToken = "negative-only-token", Warning, "a rule that allows all tokens but some also allows requests without a token",
        "add `requestPrincipals: [\"*\"]` to the source";
    AllowsNothing = "allows-nothing", Note, "without rules the policy matches nothing, so everything that no other policy allows is denied", "nothing, if that is meant";
    MatchesEverything = "matches-everything", Note, "a rule without restrictions matches everything, plaintext too", "nothing, if that is meant";
    Contradiction = "contradiction", Warning, "no value can match and be excluded as well, so the rule never matches", "remove one of them";
    Shadowed = "shadowed", Warning, "an earlier rule matches all that this one does", "remove it";
    AlwaysDenied = "always-denied", Warning, "a DENY policy with the same target matches all that this rule allows", "remove it, or narrow the DENY policy";
    DefeatsIndex = "defeats-index", Note, "nothing that the rule asks for narrows down who matches, so it is asked about every connection", "add a positive restriction, such as a namespace or a port";

    // Authentication.
    DisableIsPermissive = "disable-is-permissive", Note, "DISABLE does what PERMISSIVE does in ambient mode: mutual TLS is still accepted", "write PERMISSIVE";
    Younger = "younger", Warning, "an older PeerAuthentication for the same workloads decides, and this one does not count", "keep one of them";
    PortModeRedundant = "port-mode-redundant", Note, "the port is treated as all others are", "remove it";
    TokenOptional = "token-optional", Note, "a request without a token passes; only one with a bad token is refused", "require one with a DENY policy on `notRequestPrincipals: [\"*\"]`";
    TokenNeverValidated = "token-never-validated", Warning, "no RequestAuthentication in this namespace or the root namespace validates tokens, so nobody has claims", "add a RequestAuthentication";
    KeysMissing = "keys-missing", Note, "without `jwks` and `jwksUri` the keys are looked for in the issuer's OpenID configuration", "write `jwksUri`";
    KeysPlaintext = "keys-plaintext", Warning, "keys that are fetched in plaintext can be replaced on the way", "write a URL that starts with `https://`";
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
