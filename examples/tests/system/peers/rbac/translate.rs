//! AuthorizationPolicies as Istio turns them into Envoy's filter, written from its rules and not from our library.

use mesh_policy::object::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source};
use serde_json::{Map, Value, json};

use super::Set;

/// What the filter sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    Http,
    Tcp,
}

/// The rules of the filter for one action, or nothing if there is no policy with it.
pub(super) fn rules(set: &Set, action: Action, chain: Chain) -> Option<Value> {
    rules_of(set, action, chain, |_| true)
}

/// The rules of CUSTOM that choose what this provider is asked about, or that deny since nobody can be asked.
pub(super) fn custom_rules(set: &Set, provider: Option<&str>) -> Option<Value> {
    let all = set.policies.iter().filter(|policy| policy.action == Action::Custom && !policy.is_dry_run());
    let mut names = all.map(asked);
    let first = names.next();
    let is_clear = set.mesh.multiple_providers || names.all(|name| Some(name) == first);
    rules_of(set, Action::Custom, Chain::Http, |policy| {
        let name = asked(policy);
        let usable = is_clear && set.mesh.providers.contains_key(name);
        usable.then_some(name) == provider
    })
}

fn asked(policy: &AuthorizationPolicy) -> &str {
    policy.provider.as_ref().map_or("", |provider| &provider.name)
}

fn rules_of(
    set: &Set,
    action: Action,
    chain: Chain,
    wanted: impl Fn(&AuthorizationPolicy) -> bool,
) -> Option<Value> {
    let mut compiled = Map::new();
    // One in dry run decides nothing, a CUSTOM one neither: that Istio's own translation has it deny is a fault of that.
    let mut chosen: Vec<_> =
        set.policies.iter().filter(|policy| policy.action == action && !policy.is_dry_run()).collect();
    chosen.retain(|policy| wanted(policy));
    let domains: Vec<_> =
        std::iter::once(&set.mesh.trust_domain).chain(&set.mesh.trust_domain_aliases).cloned().collect();
    for policy in &chosen {
        let translate = Translate { action, chain, namespace: &policy.metadata.namespace, domains: &domains };
        let provider = policy
            .provider
            .as_ref()
            .map_or(String::new(), |asked| format!("istio-ext-authz-{}-", asked.name));
        let name = |index: usize| {
            let (namespace, name) = (&policy.metadata.namespace, &policy.metadata.name);
            format!("{provider}ns[{namespace}]-policy[{name}]-rule[{index}]")
        };
        if policy.rules.is_empty() {
            let never =
                json!({ "permissions": [not("not_rule", any())], "principals": [not("not_id", any())] });
            compiled.insert(name(0), never);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            if let Some(rule) = translate.rule(rule) {
                compiled.insert(name(index), rule);
            }
        }
    }
    let kind = if action == Action::Allow { "ALLOW" } else { "DENY" };
    (!chosen.is_empty()).then(|| json!({ "action": kind, "policies": compiled }))
}

struct Translate<'a> {
    action: Action,
    chain: Chain,
    namespace: &'a str,
    /// The mesh's own, and its aliases.
    domains: &'a [String],
}

/// A rule that is left out.
struct Dropped;

/// What is asked of a permission or a principal, all of it.
type All = Vec<Value>;

impl Translate<'_> {
    fn rule(&self, rule: &Rule) -> Option<Value> {
        self.try_rule(rule).ok()
    }

    fn try_rule(&self, rule: &Rule) -> Result<Value, Dropped> {
        let (mut permissions, mut principals) = (All::new(), All::new());
        for condition in &rule.when {
            self.condition(condition, &mut permissions, &mut principals)?;
        }
        let to = rule.to.iter().map(|operation| {
            let mut all = self.operation(operation)?;
            all.extend(permissions.iter().cloned());
            Ok(and("and_rules", "rules", all))
        });
        let mut to = to.collect::<Result<Vec<_>, _>>()?;
        let from = rule.from.iter().map(|source| {
            let mut all = self.source(source)?;
            all.extend(principals.iter().cloned());
            Ok(and("and_ids", "ids", all))
        });
        let mut from = from.collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            to.push(and("and_rules", "rules", permissions.clone()));
        }
        if from.is_empty() {
            from.push(and("and_ids", "ids", principals.clone()));
        }
        Ok(json!({ "permissions": to, "principals": from }))
    }

    fn operation(&self, operation: &Operation) -> Result<All, Dropped> {
        let host = |text: &str| Some(json!({ "header": header(":authority", text, true) }));
        let method = |text: &str| Some(json!({ "header": header(":method", text, false) }));
        let mut all = All::new();
        self.permission(&operation.hosts, &operation.not_hosts, true, &host, &mut all)?;
        self.permission(&operation.ports, &operation.not_ports, false, &port, &mut all)?;
        self.permission(&operation.methods, &operation.not_methods, true, &method, &mut all)?;
        self.permission(&operation.paths, &operation.not_paths, true, &path, &mut all)?;
        Ok(all)
    }

    fn source(&self, source: &Source) -> Result<All, Dropped> {
        let account = |text: &str| Some(self.account(text));
        let direct = |text: &str| Some(json!({ "direct_remote_ip": range(text)? }));
        let remote = |text: &str| Some(json!({ "remote_ip": range(text)? }));
        let mut all = All::new();
        let [principals, not_principals] =
            [&source.principals, &source.not_principals].map(|all| self.aliased(all));
        self.id(&principals, &not_principals, false, &principal, &mut all)?;
        self.id(&source.namespaces, &source.not_namespaces, false, &namespace, &mut all)?;
        self.id(&source.service_accounts, &source.not_service_accounts, false, &account, &mut all)?;
        let [domains, not_domains] =
            [&source.trust_domains, &source.not_trust_domains].map(|all| self.own(all));
        self.id(&domains, &not_domains, false, &trust_domain, &mut all)?;
        self.id(&source.ip_blocks, &source.not_ip_blocks, false, &direct, &mut all)?;
        self.id(&source.remote_ip_blocks, &source.not_remote_ip_blocks, false, &remote, &mut all)?;
        let token = |text: &str| Some(request_principal(text));
        self.id(&source.request_principals, &source.not_request_principals, true, &token, &mut all)?;
        Ok(all)
    }

    fn condition(
        &self,
        condition: &Condition,
        permissions: &mut All,
        principals: &mut All,
    ) -> Result<(), Dropped> {
        let Condition { key, values, not_values } = condition;
        let account = |text: &str| Some(self.account(text));
        let direct = |text: &str| Some(json!({ "direct_remote_ip": range(text)? }));
        let remote = |text: &str| Some(json!({ "remote_ip": range(text)? }));
        let destination = |text: &str| Some(json!({ "destination_ip": range(text)? }));
        let sni = |text: &str| Some(json!({ "requested_server_name": string(text) }));
        let token = |text: &str| Some(request_principal(text));
        let presenter = |text: &str| Some(claim(&["azp"], string(text), false));
        let audience = |text: &str| Some(claim(&["aud"], string(text), true));
        match key.as_str() {
            "connection.sni" => self.permission(values, not_values, false, &sni, permissions),
            "destination.ip" => self.permission(values, not_values, false, &destination, permissions),
            "destination.port" => self.permission(values, not_values, false, &port, permissions),
            "remote.ip" => self.id(values, not_values, false, &remote, principals),
            "request.auth.audiences" => self.id(values, not_values, true, &audience, principals),
            "request.auth.presenter" => self.id(values, not_values, true, &presenter, principals),
            "request.auth.principal" => self.id(values, not_values, true, &token, principals),
            "source.ip" => self.id(values, not_values, false, &direct, principals),
            "source.namespace" => self.id(values, not_values, false, &namespace, principals),
            "source.principal" => {
                self.id(&self.aliased(values), &self.aliased(not_values), false, &principal, principals)
            }
            "source.serviceAccount" => self.id(values, not_values, false, &account, principals),
            "source.trustDomain" => {
                self.id(&self.own(values), &self.own(not_values), false, &trust_domain, principals)
            }
            _ => {
                if let Some(name) = bracketed(key, "request.headers") {
                    let line = |text: &str| Some(json!({ "header": header(name, text, false) }));
                    return self.id(values, not_values, true, &line, principals);
                }
                let Some(names) = bracketed(key, "request.auth.claims") else { return Err(Dropped) };
                let names: Vec<_> = names.split("][").collect();
                let claimed = |text: &str| Some(claim(&names, string(text), true));
                self.id(values, not_values, true, &claimed, principals)
            }
        }
    }

    fn permission(
        &self,
        values: &[String],
        not_values: &[String],
        is_http: bool,
        build: &dyn Fn(&str) -> Option<Value>,
        all: &mut All,
    ) -> Result<(), Dropped> {
        self.field(values, not_values, is_http, build, all, ["or_rules", "rules", "not_rule"])
    }

    fn id(
        &self,
        values: &[String],
        not_values: &[String],
        is_http: bool,
        build: &dyn Fn(&str) -> Option<Value>,
        all: &mut All,
    ) -> Result<(), Dropped> {
        self.field(values, not_values, is_http, build, all, ["or_ids", "ids", "not_id"])
    }

    fn field(
        &self,
        values: &[String],
        not_values: &[String],
        is_http: bool,
        build: &dyn Fn(&str) -> Option<Value>,
        all: &mut All,
        [or, list, negation]: [&str; 3],
    ) -> Result<(), Dropped> {
        if values.is_empty() && not_values.is_empty() {
            return Ok(());
        }
        let allows = self.action == Action::Allow;
        if is_http && self.chain == Chain::Tcp {
            // What cannot be seen: an ALLOW loses the rule, a DENY the attribute.
            return if allows { Err(Dropped) } else { Ok(()) };
        }
        for (values, negated) in [(values, false), (not_values, true)] {
            let built: Vec<_> = values.iter().filter_map(|text| build(text)).collect();
            if built.len() < values.len() && allows {
                return Err(Dropped);
            }
            if built.is_empty() {
                continue;
            }
            let any_of = json!({ or: { list: built } });
            all.push(if negated { not(negation, any_of) } else { any_of });
        }
        Ok(())
    }

    /// Principals of one of the mesh's trust domains are those of all of them.
    fn aliased(&self, values: &[String]) -> Vec<String> {
        let expand = |value: &String| match value.split('/').collect::<Vec<_>>()[..] {
            [domain, ns, namespace, sa, account]
                if domain == "cluster.local" || self.domains.iter().any(|own| own == domain) =>
            {
                let of = |own: &String| [own, ns, namespace, sa, account].join("/");
                self.domains.iter().map(of).collect()
            }
            _ => vec![value.clone()],
        };
        values.iter().flat_map(expand).collect()
    }

    /// And so are the trust domains themselves.
    fn own(&self, values: &[String]) -> Vec<String> {
        let expand = |value: &String| match self.domains.contains(value) {
            true => self.domains.to_vec(),
            false => vec![value.clone()],
        };
        values.iter().flat_map(expand).collect()
    }

    fn account(&self, text: &str) -> Value {
        let (namespace, name) = text.split_once('/').unwrap_or((self.namespace, text));
        let (namespace, name) = (escape(namespace), escape(name));
        peer(
            json!({ "safe_regex": { "regex": format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?") } }),
        )
    }
}

fn any() -> Value {
    json!({ "any": true })
}

fn not(negation: &str, value: Value) -> Value {
    json!({ negation: value })
}

fn and(name: &str, list: &str, all: All) -> Value {
    if all.is_empty() { any() } else { json!({ name: { list: all } }) }
}

fn string(text: &str) -> Value {
    string_with(text, "")
}

fn string_with(text: &str, before: &str) -> Value {
    if text == "*" {
        return json!({ "safe_regex": { "regex": ".+" } });
    }
    if let Some(suffix) = text.strip_prefix('*') {
        return match before {
            "" => json!({ "suffix": suffix }),
            before => json!({ "safe_regex": { "regex": format!("{before}.*{}", escape(suffix)) } }),
        };
    }
    match text.strip_suffix('*') {
        Some(prefix) => json!({ "prefix": format!("{before}{prefix}") }),
        None => json!({ "exact": format!("{before}{text}") }),
    }
}

fn header(name: &str, text: &str, ignore_case: bool) -> Value {
    if text == "*" {
        return json!({ "name": name, "present_match": true });
    }
    let mut matcher = string(text);
    if ignore_case {
        matcher["ignore_case"] = true.into();
    }
    json!({ "name": name, "string_match": matcher })
}

fn path(text: &str) -> Option<Value> {
    if text.contains("{*}") || text.contains("{**}") {
        let template = text.replace("{**}", "**").replace("{*}", "*");
        let kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
        let config = json!({ "@type": kind, "path_template": template });
        return Some(json!({ "uri_template": { "name": "uri-template", "typed_config": config } }));
    }
    Some(json!({ "url_path": { "path": string(text) } }))
}

fn port(text: &str) -> Option<Value> {
    Some(json!({ "destination_port": text.parse::<u16>().ok()? }))
}

fn range(text: &str) -> Option<Value> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, length.parse().ok()?),
        None => (text, if text.contains(':') { 128 } else { 32 }),
    };
    address.parse::<std::net::IpAddr>().ok()?;
    Some(json!({ "address_prefix": address, "prefix_len": length }))
}

/// At a waypoint the identity is a note of the tunnel's end.
fn peer(matcher: Value) -> Value {
    json!({ "filter_state": { "key": super::PEER, "string_match": matcher } })
}

fn principal(text: &str) -> Option<Value> {
    Some(peer(string_with(text, "spiffe://")))
}

fn namespace(text: &str) -> Option<Value> {
    let parts: Vec<_> = text.split('*').map(escape).collect();
    Some(peer(json!({ "safe_regex": { "regex": format!(".*/ns/{}/.*", parts.join(".*")) } })))
}

fn trust_domain(text: &str) -> Option<Value> {
    let matcher = match text {
        "*" => json!({ "prefix": "spiffe://" }),
        text if text.contains('*') => {
            let parts: Vec<_> = text.split('*').map(escape).collect();
            json!({ "safe_regex": { "regex": format!("spiffe://{}/.*", parts.join("[^/]*")) } })
        }
        text => json!({ "prefix": format!("spiffe://{text}/") }),
    };
    Some(peer(matcher))
}

fn request_principal(text: &str) -> Value {
    let is = |name: &str, matcher: Value| claim(&[name], matcher, false);
    if text == "*" {
        return json!({ "and_ids": { "ids": [is("iss", string("*")), is("sub", string("*"))] } });
    }
    let (issuer, subject) = match text.rsplit_once('/') {
        Some(("*", subject)) => (string("*"), json!({ "exact": subject })),
        Some((issuer, subject)) if issuer.starts_with('*') => (string(issuer), json!({ "exact": subject })),
        Some((issuer, subject)) => (json!({ "exact": issuer }), string(subject)),
        None if text.starts_with('*') => (string("*"), string(text)),
        None if text.ends_with('*') => (string(text), string("*")),
        None => (json!({ "exact": text }), json!({ "exact": "" })),
    };
    json!({ "and_ids": { "ids": [is("iss", issuer), is("sub", subject)] } })
}

fn claim(names: &[&str], matcher: Value, may_be_list: bool) -> Value {
    let keys = ["payload"].iter().chain(names).map(|name| json!({ "key": name }));
    let text = json!({ "string_match": matcher });
    let value = match may_be_list {
        true => json!({ "or_match": { "value_matchers": [text, { "list_match": { "one_of": text } }] } }),
        false => text,
    };
    json!({ "metadata": { "filter": super::TOKENS, "path": keys.collect::<Vec<_>>(), "value": value } })
}

fn bracketed<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        if r"\.+*?()|[]{}^$".contains(c) {
            all.push('\\');
        }
        all.push(c);
        all
    })
}
