//! Waypoint policies read once more, slowly and from the text of the objects: with regular expressions and
//! strings, in the structure that Envoy's filter has, and sharing nothing with the crate but the objects.

use std::{cell::RefCell, collections::HashMap, net::IpAddr};

use mesh_policy::{
    PolicyName, Reason, Semantics,
    object::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source},
    waypoint::{Answer, ClaimValue, Mesh, ProviderProtocol, ServiceKind},
};
use regex::Regex;

use super::call::{Call, Place};

/// What was decided, by which rule of which policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    AllowedBy(PolicyName, usize),
    DeniedBy(PolicyName, usize),
    DeniedByProvider(PolicyName, usize, String),
    NoAllowPolicies,
    NoneAllowed,
    ProviderFailed(PolicyName, usize, String),
    ProviderUnusable(PolicyName, usize, String),
}

impl Outcome {
    pub(crate) fn of(reason: Reason<'_>) -> Self {
        match reason {
            Reason::AllowedBy { policy, rule } => Self::AllowedBy(policy.clone(), rule),
            Reason::DeniedBy { policy, rule } => Self::DeniedBy(policy.clone(), rule),
            Reason::DeniedByProvider { policy, rule, provider } => {
                Self::DeniedByProvider(policy.clone(), rule, provider.to_owned())
            }
            Reason::NoAllowPolicies => Self::NoAllowPolicies,
            Reason::NoneAllowed => Self::NoneAllowed,
            Reason::ProviderFailed { policy, rule, provider } => {
                Self::ProviderFailed(policy.clone(), rule, provider.to_owned())
            }
            Reason::ProviderUnusable { policy, rule, provider } => {
                Self::ProviderUnusable(policy.clone(), rule, provider.to_owned())
            }
            other => panic!("{other}"),
        }
    }
}

/// Where and by whose reading policies are enforced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point<'a> {
    pub(crate) semantics: Semantics,
    pub(crate) is_stream: bool,
    pub(crate) mesh: &'a Mesh,
}

impl Point<'_> {
    pub(crate) fn decide(
        self,
        objects: &[AuthorizationPolicy],
        call: &Call,
        answer: fn(&str) -> Answer,
    ) -> Outcome {
        let mut applying: Vec<_> = objects.iter().filter(|object| self.applies(object, call)).collect();
        applying.sort_by_key(|object| object.metadata.policy_name());
        let enforced = |action| {
            applying.iter().copied().filter(move |object| object.action == action && !is_dry_run(object))
        };

        let before_tokens = Call { claims: None, ..call.clone() };
        let asked_about = if self.semantics == Semantics::Istio { &before_tokens } else { call };
        let mut asked: Vec<_> = enforced(Action::Custom)
            .filter(|object| !self.is_ignored(object))
            .filter_map(|object| Some((object, self.matching_rule(object, asked_about)?)))
            .collect();
        let name_of = |object: &AuthorizationPolicy| object.provider.clone().unwrap_or_default().name;
        let mut names: Vec<_> = enforced(Action::Custom).map(name_of).collect();
        names.sort();
        names.dedup();
        let too_many = self.semantics == Semantics::Istio && !self.mesh.multiple_providers && names.len() > 1;
        for (object, rule) in &asked {
            if too_many || !self.is_usable(&name_of(object)) {
                return Outcome::ProviderUnusable(object.metadata.policy_name(), *rule, name_of(object));
            }
        }
        asked.sort_by_key(|(object, _)| (name_of(object), object.metadata.policy_name()));
        asked.dedup_by_key(|(object, _)| name_of(object));
        for (object, rule) in asked {
            let (policy, provider) = (object.metadata.policy_name(), name_of(object));
            match answer(&provider) {
                Answer::Allow => {}
                Answer::Deny => return Outcome::DeniedByProvider(policy, rule, provider),
                Answer::Failed if self.mesh.providers[&provider].fail_open => {}
                Answer::Failed => return Outcome::ProviderFailed(policy, rule, provider),
            }
        }

        let first = |action| {
            enforced(action)
                .find_map(|object| Some((object.metadata.policy_name(), self.matching_rule(object, call)?)))
        };
        if let Some((policy, rule)) = first(Action::Deny) {
            return Outcome::DeniedBy(policy, rule);
        }
        if enforced(Action::Allow).next().is_none() {
            return Outcome::NoAllowPolicies;
        }
        match first(Action::Allow) {
            Some((policy, rule)) => Outcome::AllowedBy(policy, rule),
            None => Outcome::NoneAllowed,
        }
    }

    /// The policies in dry run that would deny, and the AUDIT policies that match.
    pub(crate) fn findings(
        self,
        objects: &[AuthorizationPolicy],
        call: &Call,
        outcome: &Outcome,
    ) -> (Vec<PolicyName>, Vec<(PolicyName, usize)>) {
        let mut applying: Vec<_> = objects.iter().filter(|object| self.applies(object, call)).collect();
        applying.sort_by_key(|object| object.metadata.policy_name());
        let of = |action, dry_run| {
            applying
                .iter()
                .copied()
                .filter(move |object| object.action == action && is_dry_run(object) == dry_run)
        };
        let matching = |action, dry_run| {
            of(action, dry_run)
                .filter_map(|object| Some((object.metadata.policy_name(), self.matching_rule(object, call)?)))
                .collect::<Vec<_>>()
        };
        let mut denials: Vec<_> = matching(Action::Deny, true).into_iter().map(|(name, _)| name).collect();
        if *outcome == Outcome::NoAllowPolicies && matching(Action::Allow, true).is_empty() {
            denials.extend(of(Action::Allow, true).map(|object| object.metadata.policy_name()));
        }
        denials.sort();
        (denials, matching(Action::Audit, false))
    }

    fn is_usable(self, provider: &str) -> bool {
        self.mesh.providers.get(provider).is_some_and(|settings| {
            !(self.is_stream
                && self.semantics == Semantics::Strict
                && settings.protocol == ProviderProtocol::Http)
        })
    }

    fn is_ignored(self, object: &AuthorizationPolicy) -> bool {
        let provider = object.provider.clone().unwrap_or_default().name;
        let settings = self.mesh.providers.get(&provider);
        self.is_stream
            && self.semantics == Semantics::Istio
            && settings.is_some_and(|settings| settings.protocol == ProviderProtocol::Http)
    }

    /// The table of part B6.
    pub(crate) fn applies(self, object: &AuthorizationPolicy, call: &Call) -> bool {
        let namespace = object.metadata.namespace.as_str();
        let root = self.mesh.root_namespace.as_str();
        let targets: Vec<_> = object.targets().collect();
        if targets.is_empty() {
            let (own, labels) = match &call.place {
                Place::Waypoint { .. } => return false,
                Place::Gateway { labels, .. } if !self.mesh.gateway_selectors => {
                    let _ = labels;
                    return false;
                }
                Place::Gateway { namespace, labels, .. } | Place::Workload { namespace, labels } => {
                    (namespace, labels)
                }
            };
            let selected = object
                .selector
                .iter()
                .flat_map(|selector| &selector.match_labels)
                .all(|(key, value)| labels.iter().any(|(other, label)| other == key && label == value));
            return (namespace == own || namespace == root) && selected;
        }
        targets.into_iter().any(|target| {
            if !target.namespace.is_empty() && target.namespace != namespace {
                return false;
            }
            match (target.group.as_str(), target.kind.as_str(), &call.place) {
                (
                    "gateway.networking.k8s.io",
                    "Gateway",
                    Place::Gateway { namespace: own, name, .. }
                    | Place::Waypoint { namespace: own, name, .. },
                ) => namespace == own && target.name == *name,
                ("gateway.networking.k8s.io", "GatewayClass", Place::Waypoint { .. }) => {
                    namespace == root && target.name == "istio-waypoint"
                }
                ("" | "core", "Service", Place::Waypoint { service: Some((kind, own, name)), .. }) => {
                    *kind == ServiceKind::Service && namespace == own && target.name == *name
                }
                (
                    "networking.istio.io",
                    "ServiceEntry",
                    Place::Waypoint { service: Some((kind, own, name)), .. },
                ) => *kind == ServiceKind::ServiceEntry && namespace == own && target.name == *name,
                _ => false,
            }
        })
    }

    pub(crate) fn matching_rule(self, object: &AuthorizationPolicy, call: &Call) -> Option<usize> {
        object.rules.iter().position(|rule| {
            let context =
                Context { point: self, call, action: object.action, namespace: &object.metadata.namespace };
            context.rule(rule).unwrap_or(false)
        })
    }
}

pub(crate) fn is_dry_run(object: &AuthorizationPolicy) -> bool {
    let value = object.metadata.annotations.get("istio.io/dry-run");
    value.is_some_and(|value| ["1", "t", "T", "TRUE", "true", "True"].contains(&value.as_str()))
}

struct Context<'a> {
    point: Point<'a>,
    call: &'a Call,
    action: Action,
    namespace: &'a str,
}

/// A rule that counts for nothing.
struct Dropped;

/// A value that counts for nothing.
pub(crate) struct Unusable;

impl Context<'_> {
    /// Envoy's shape: any permission and any principal, each with all conditions copied into it.
    fn rule(&self, rule: &Rule) -> Result<bool, Dropped> {
        let (mut of_permission, mut of_principal) = (Vec::new(), Vec::new());
        for condition in &rule.when {
            match side(&condition.key) {
                Some(Side::Permission) => of_permission.push(condition),
                Some(Side::Principal) => of_principal.push(condition),
                None => return Err(Dropped),
            }
        }
        let mut permission = false;
        let none = [Operation::default()];
        for operation in if rule.to.is_empty() { &none[..] } else { &rule.to } {
            let fields = [
                ("ports", &operation.ports, &operation.not_ports),
                ("methods", &operation.methods, &operation.not_methods),
                ("paths", &operation.paths, &operation.not_paths),
                ("hosts", &operation.hosts, &operation.not_hosts),
            ];
            permission |= self.all(&fields, &of_permission)?;
        }
        let mut principal = false;
        let none = [Source::default()];
        for source in if rule.from.is_empty() { &none[..] } else { &rule.from } {
            let fields = [
                ("source.ip", &source.ip_blocks, &source.not_ip_blocks),
                ("remote.ip", &source.remote_ip_blocks, &source.not_remote_ip_blocks),
                ("source.namespace", &source.namespaces, &source.not_namespaces),
                ("source.principal", &source.principals, &source.not_principals),
                ("source.serviceAccount", &source.service_accounts, &source.not_service_accounts),
                ("source.trustDomain", &source.trust_domains, &source.not_trust_domains),
                ("request.auth.principal", &source.request_principals, &source.not_request_principals),
            ];
            principal |= self.all(&fields, &of_principal)?;
        }
        Ok(permission && principal)
    }

    fn all(
        &self,
        fields: &[(&str, &Vec<String>, &Vec<String>)],
        conditions: &[&Condition],
    ) -> Result<bool, Dropped> {
        let mut all = true;
        let whens = conditions.iter().map(|one| (one.key.as_str(), &one.values, &one.not_values));
        for (key, values, not_values) in fields.iter().copied().chain(whens) {
            let is_named = !values.is_empty() || !not_values.is_empty();
            if is_named && self.is_unseen(key) {
                all &= self.action != Action::Allow;
                continue;
            }
            if let Some(any) = self.any(key, values)? {
                all &= any;
            }
            let negated = if key == "hosts" { "notHosts" } else { key };
            if let Some(any) = self.any(negated, not_values)? {
                all &= !any;
            }
        }
        Ok(all)
    }

    /// Whether any of the values that can be used fits; nothing if none of them can.
    fn any(&self, key: &str, values: &[String]) -> Result<Option<bool>, Dropped> {
        let mut found = None;
        for value in values {
            match self.fits(key, value) {
                Ok(fits) => found = Some(found.unwrap_or(false) || fits),
                Err(Unusable) if self.action == Action::Allow => return Err(Dropped),
                Err(Unusable) => {}
            }
        }
        Ok(found)
    }

    fn fits(&self, key: &str, value: &str) -> Result<bool, Unusable> {
        let call = self.call;
        let of_requests =
            ["methods", "paths", "hosts", "notHosts"].contains(&key) || key.starts_with("request.");
        if of_requests && self.point.is_stream {
            return Err(Unusable);
        }
        let claims = || call.claims.as_ref();
        let claim_fits = |claim: Option<&ClaimValue>| match claim {
            Some(ClaimValue::Text(text)) => string(value, text),
            Some(ClaimValue::List(list)) => {
                list.iter().any(|one| matches!(one, ClaimValue::Text(text) if string(value, text)))
            }
            _ => false,
        };
        Ok(match key {
            "ports" | "destination.port" => {
                let port: u32 = Some(value)
                    .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|value| value.parse().ok())
                    .ok_or(Unusable)?;
                if port > 65535 {
                    return Err(Unusable);
                }
                u32::from(call.destination.port()) == port
            }
            "source.ip" => in_range(call.source, value)?,
            "remote.ip" => in_range(call.remote, value)?,
            "destination.ip" => in_range(call.destination.ip(), value)?,
            "methods" => value == "*" || string(value, &call.method),
            "paths" => self.path(value)?,
            "hosts" | "notHosts" => call.authority.as_ref().is_some_and(|host| {
                let (value, host) = (value.to_lowercase(), host.to_lowercase());
                let lets_in = (key == "hosts") == (self.action == Action::Allow);
                let keeps_out = self.point.semantics == Semantics::Strict && !lets_in;
                value == "*" || string(&value, &host) || keeps_out && is_way_to_write(&value, &host)
            }),
            "connection.sni" => call.sni.as_ref().is_some_and(|sni| match self.point.semantics {
                Semantics::Istio => string(value, &sni.to_lowercase()),
                Semantics::Strict => string(&value.to_lowercase(), &sni.to_lowercase()),
            }),
            "source.namespace" => self.namespace(value),
            "source.principal" => self.principals(value).iter().any(|value| self.principal(value)),
            "source.serviceAccount" => self.service_account(value),
            "source.trustDomain" => self.trust_domain(value),
            "request.auth.principal" => {
                claims().is_some_and(|claims| match (claims.get("iss"), claims.get("sub")) {
                    (Some(ClaimValue::Text(iss)), Some(ClaimValue::Text(sub))) => {
                        request_principal(value, iss, sub)
                    }
                    _ => false,
                })
            }
            "request.auth.audiences" => claim_fits(claims().and_then(|claims| claims.get("aud"))),
            "request.auth.presenter" => claim_fits(claims().and_then(|claims| claims.get("azp"))),
            _ if key.starts_with("request.auth.claims") => {
                let names = key
                    .strip_prefix("request.auth.claims[")
                    .and_then(|key| key.strip_suffix(']'))
                    .ok_or(Unusable)?;
                let parts: Vec<_> = names.split("][").collect();
                match *parts.as_slice() {
                    [one] => claim_fits(claims().and_then(|claims| claims.get(one))),
                    [outer, inner] => {
                        let outer = claims().and_then(|claims| claims.get(outer));
                        claim_fits(match outer {
                            Some(ClaimValue::Object(claims)) => claims.get(inner),
                            _ => None,
                        })
                    }
                    _ => unreachable!("the generator nests twice"),
                }
            }
            _ if key.starts_with("request.headers") => {
                let name = key
                    .strip_prefix("request.headers[")
                    .and_then(|key| key.strip_suffix(']'))
                    .ok_or(Unusable)?;
                let mut lines: Vec<Vec<u8>> = match name.to_lowercase().as_str() {
                    "host" | ":authority" => {
                        call.authority.iter().map(|text| text.clone().into_bytes()).collect()
                    }
                    name => call
                        .headers
                        .iter()
                        .filter(|(other, _)| other.to_lowercase() == name)
                        .map(|(_, line)| line.clone())
                        .collect(),
                };
                if name.eq_ignore_ascii_case("user-agent")
                    && self.point.semantics == Semantics::Istio
                    && !lines.is_empty()
                {
                    lines = vec![lines.join(&b","[..])];
                }
                lines.iter().any(|line| value == "*" || string(value, &String::from_utf8_lossy(line)))
            }
            _ => {
                let (filter, key) = key
                    .strip_prefix("experimental.")
                    .and_then(|key| key.strip_suffix(']'))
                    .and_then(|key| key.split_once('['))
                    .ok_or(Unusable)?;
                let note = call
                    .metadata
                    .iter()
                    .find(|(of, name, _)| of == filter && name == key)
                    .map(|(.., note)| note);
                match (value.strip_prefix('[').and_then(|value| value.strip_suffix(']')), note) {
                    (Some(value), Some(ClaimValue::List(list))) => {
                        list.iter().any(|one| matches!(one, ClaimValue::Text(text) if string(value, text)))
                    }
                    (None, Some(ClaimValue::Text(text))) => string(value, text),
                    _ => false,
                }
            }
        })
    }

    fn path(&self, value: &str) -> Result<bool, Unusable> {
        let path = self.call.path.split(['?', '#']).next().unwrap();
        if !value.contains("{*}") && !value.contains("{**}") {
            return Ok(string(value, path));
        }
        let literal = regex(r"^[A-Za-z0-9\-._~%!$&'()+,;:@=]+$");
        let trimmed = value.strip_prefix('/').ok_or(Unusable)?;
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let segments: Vec<_> = trimmed.split('/').collect();
        let is_operator = |segment: &str| ["{*}", "{**}"].contains(&segment);
        if !segments.iter().all(|segment| is_operator(segment) || literal.is_match(segment)) {
            return Err(Unusable);
        }
        let any = segments.iter().position(|segment| *segment == "{**}").unwrap_or(segments.len());
        if segments.iter().skip(any + 1).any(|segment| is_operator(segment)) {
            return Err(Unusable);
        }
        let taken = r"a-zA-Z0-9\-._~%!$&'()+,;:@=*";
        let pattern = regex::escape(value)
            .replace(&regex::escape("{**}"), &format!("[{taken}/]*"))
            .replace(&regex::escape("{*}"), &format!("[{taken}]+"));
        Ok(regex(&format!("^{pattern}$")).is_match(path))
    }

    /// Whether the peer is known, and what the key is about is not, since it is not in its URI.
    fn is_unseen(&self, key: &str) -> bool {
        let is_istios = |uri: &str| regex("^spiffe://[^/]+/ns/[^/]+/sa/[^/]+$").is_match(uri);
        self.point.semantics == Semantics::Strict
            && ["source.namespace", "source.serviceAccount"].contains(&key)
            && self.uri().is_some_and(|uri| !is_istios(uri))
    }

    fn uri(&self) -> Option<&str> {
        let uri = self.call.peer.as_deref()?;
        (self.point.semantics == Semantics::Istio || !uri.is_empty()).then_some(uri)
    }

    fn namespace(&self, value: &str) -> bool {
        let pattern = regex::escape(value).replace(r"\*", ".*");
        self.uri().is_some_and(|uri| match self.point.semantics {
            Semantics::Istio => regex(&format!("^.*/ns/{pattern}/.*$")).is_match(uri),
            Semantics::Strict => regex(&format!("^{pattern}$")).is_match(uri.split('/').nth(4).unwrap()),
        })
    }

    fn principals(&self, value: &str) -> Vec<String> {
        let parts: Vec<_> = value.split('/').collect();
        let own: Vec<_> = [&self.point.mesh.trust_domain]
            .into_iter()
            .chain(&self.point.mesh.trust_domain_aliases)
            .collect();
        if parts.len() != 5
            || !(parts[0] == "cluster.local" || own.iter().any(|domain| string(parts[0], domain)))
            || parts[0] == "*"
        {
            return vec![value.to_owned()];
        }
        own.iter()
            .map(|domain| match parts[0].starts_with('*') && string(parts[0], domain) {
                true => value.to_owned(),
                false => [&[domain.as_str()], &parts[1..]].concat().join("/"),
            })
            .collect()
    }

    fn principal(&self, value: &str) -> bool {
        self.uri().is_some_and(|uri| match value {
            "*" => !uri.is_empty(),
            _ => match value.strip_prefix('*') {
                Some(suffix) => regex(&format!("^spiffe://.*{}$", regex::escape(suffix))).is_match(uri),
                None => string(&format!("spiffe://{value}"), uri),
            },
        })
    }

    fn service_account(&self, value: &str) -> bool {
        let (namespace, name) = value.split_once('/').unwrap_or((self.namespace, value));
        let (namespace, name) = (regex::escape(namespace), regex::escape(name));
        self.uri().is_some_and(|uri| {
            regex(&format!("^spiffe://.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?$")).is_match(uri)
        })
    }

    fn trust_domain(&self, value: &str) -> bool {
        let Some(uri) = self.uri() else { return false };
        let own: Vec<_> = [&self.point.mesh.trust_domain]
            .into_iter()
            .chain(&self.point.mesh.trust_domain_aliases)
            .collect();
        if value == "*" {
            return uri.starts_with("spiffe://");
        }
        let values = if own.iter().any(|domain| *domain == value) {
            own.iter().map(|domain| domain.as_str()).collect()
        } else {
            vec![value]
        };
        values.iter().any(|value| {
            let pattern = regex::escape(value).replace(r"\*", "[^/]*");
            regex(&format!("^spiffe://{pattern}/.*$")).is_match(uri)
        })
    }
}

enum Side {
    Permission,
    Principal,
}

fn side(key: &str) -> Option<Side> {
    match key {
        "destination.ip" | "destination.port" | "connection.sni" => Some(Side::Permission),
        "source.ip"
        | "remote.ip"
        | "source.namespace"
        | "source.principal"
        | "source.serviceAccount"
        | "source.trustDomain"
        | "request.auth.principal"
        | "request.auth.audiences"
        | "request.auth.presenter" => Some(Side::Principal),
        _ if key.starts_with("experimental.envoy.filters.") => Some(Side::Permission),
        _ if key.starts_with("request.headers") || key.starts_with("request.auth.claims") => {
            Some(Side::Principal)
        }
        _ => None,
    }
}

/// Exact, prefix, suffix or presence.
pub(crate) fn string(value: &str, text: &str) -> bool {
    if value == "*" {
        !text.is_empty()
    } else if let Some(suffix) = value.strip_prefix('*') {
        text.ends_with(suffix)
    } else if let Some(prefix) = value.strip_suffix('*') {
        text.starts_with(prefix)
    } else {
        text == value
    }
}

/// The table of part B3.
fn request_principal(value: &str, iss: &str, sub: &str) -> bool {
    if value == "*" {
        return !iss.is_empty() && !sub.is_empty();
    }
    let (of_iss, of_sub) = value.rsplit_once('/').unwrap_or((value, ""));
    let has_slash = value.contains('/');
    match (value.starts_with('*'), value.ends_with('*'), has_slash) {
        (true, _, true) => string(of_iss, iss) && sub == of_sub,
        (true, _, false) => !iss.is_empty() && string(value, sub),
        (false, true, true) => iss == of_iss && string(of_sub, sub),
        (false, true, false) => string(value, iss) && !sub.is_empty(),
        (false, false, _) => iss == of_iss && sub == of_sub,
    }
}

/// Compares bit by bit.
pub(crate) fn in_range(address: IpAddr, value: &str) -> Result<bool, Unusable> {
    let (base, length) = match value.split_once('/') {
        Some((base, length)) => (base, Some(length.parse::<usize>().map_err(|_| Unusable)?)),
        None => (value, None),
    };
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect()
    };
    let base = bits(base.parse().map_err(|_| Unusable)?);
    let length = length.unwrap_or(base.len());
    if length > base.len() {
        return Err(Unusable);
    }
    let address = bits(address.to_canonical());
    Ok(address.len() == base.len() && address[..length] == base[..length])
}

/// Compiled once for each text.
pub(crate) fn regex(pattern: &str) -> Regex {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).clone()
    })
}

/// Whether a host is what a value says, if the authority were written otherwise.
fn is_way_to_write(value: &str, host: &str) -> bool {
    let cut = |text: &str| {
        let parts = regex(r"^(?<name>\[.*\]|[^:]*):0*(?<port>[0-9]+)$");
        let (name, port) = match parts.captures(text) {
            Some(parts) => (parts["name"].to_owned(), Some(parts["port"].to_owned())),
            None => {
                let without_colon = regex(r"^(\[.*\]|[^:]*):$").is_match(text);
                (text[..text.len() - usize::from(without_colon)].to_owned(), None)
            }
        };
        (regex(r"\.*$").replace(&name, "").into_owned(), port)
    };
    let (host, port) = cut(host);
    let ports = port.map_or_else(|| vec!["80".to_owned(), "443".to_owned()], |port| vec![port]);
    if let Some(prefix) = value.strip_suffix('*').filter(|_| !value.starts_with('*')) {
        return ports.iter().any(|port| format!("{host}:{port}").starts_with(prefix));
    }
    let (name, wanted) = cut(value.strip_prefix('*').unwrap_or(value));
    let fits = if value.starts_with('*') { host.ends_with(&name) } else { host == name };
    fits && wanted.is_none_or(|wanted| ports.contains(&wanted))
}
