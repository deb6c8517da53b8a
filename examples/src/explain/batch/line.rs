//! The schema of a line. Unknown names are refused: they may be an attribute that would be left out.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use mesh_policy::{
    Semantics,
    waypoint::{ClaimValue, Claims},
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;

use super::Fault;
use crate::explain::options::parse_semantics;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Line {
    pub(super) id: Option<Value>,
    /// For people.
    #[serde(rename = "comment", alias = "description", alias = "name", default)]
    _comment: Option<IgnoredAny>,
    semantics: Option<String>,
    #[serde(alias = "enforcementPoint", alias = "enforcement_point")]
    pub(super) point: Option<String>,
    #[serde(alias = "policy", alias = "objects")]
    pub(super) policies: Option<Value>,
    #[serde(alias = "fail_closed")]
    pub(super) fail_closed: Option<bool>,
    /// Whether the answer has the proof.
    #[serde(default)]
    pub(super) explain: bool,
    #[serde(default)]
    pub(super) mesh: MeshLine,
    #[serde(default)]
    pub(super) answers: BTreeMap<String, String>,

    // Whose policies are enforced.
    pub(super) workload: Option<Named>,
    pub(super) namespace: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) service: Option<Named>,
    pub(super) waypoint: Option<WaypointLine>,
    pub(super) gateway: Option<Named>,

    // The connection.
    #[serde(default)]
    pub(super) source: SourceLine,
    #[serde(default, alias = "sourcePrincipal", alias = "source_principal", alias = "from", alias = "peer")]
    principal: Option<String>,
    #[serde(alias = "source_ip", alias = "sourceAddress", alias = "sourceIP")]
    source_ip: Option<Address>,
    #[serde(alias = "remote_ip", alias = "remoteAddress", alias = "remoteIP")]
    remote_ip: Option<Address>,
    #[serde(default)]
    destination: DestinationLine,
    #[serde(alias = "destination_ip", alias = "destinationAddress", alias = "destinationIP")]
    destination_ip: Option<Address>,
    #[serde(alias = "destinationPort", alias = "destination_port")]
    port: Option<u16>,
    #[serde(alias = "serverName")]
    pub(super) sni: Option<String>,
    #[serde(default)]
    pub(super) metadata: Vec<MetadataLine>,

    // The request, here or in a map of its own.
    method: Option<String>,
    path: Option<String>,
    #[serde(alias = "authority")]
    host: Option<String>,
    #[serde(default)]
    headers: Option<Headers>,
    #[serde(alias = "jwt")]
    claims: Option<Claims>,
    #[serde(default)]
    request: RequestLine,
}

/// What decides besides policies, where it is not what the folder says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MeshLine {
    #[serde(alias = "trust_domain")]
    pub(super) trust_domain: Option<String>,
    #[serde(alias = "trust_domain_aliases")]
    pub(super) trust_domain_aliases: Option<Vec<String>>,
    #[serde(alias = "root_namespace")]
    pub(super) root_namespace: Option<String>,
    #[serde(alias = "path_normalization")]
    pub(super) path_normalization: Option<String>,
    #[serde(alias = "trusted_hops", alias = "numTrustedProxies")]
    pub(super) trusted_hops: Option<usize>,
    #[serde(alias = "use_remote_address")]
    pub(super) use_remote_address: Option<bool>,
    pub(super) providers: Option<BTreeMap<String, ProviderLine>>,
    #[serde(alias = "multiple_providers")]
    pub(super) multiple_providers: Option<bool>,
    #[serde(alias = "missing_policy")]
    pub(super) missing_policy: Option<String>,
}

/// A provider: `http` or `grpc`, or with its settings.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ProviderLine {
    Protocol(String),
    Settings(ProviderSettings),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProviderSettings {
    pub(super) protocol: String,
    #[serde(default, alias = "fail_open")]
    pub(super) fail_open: bool,
}

/// `namespace/name`, or with what is known about it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Named {
    Name(String),
    Described(Box<Described>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Described {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// Of a service: `Service` or `ServiceEntry`.
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) waypoint: Option<WaypointLine>,
    /// Policies that it lists, `namespace/name` each.
    #[serde(default)]
    pub(super) policies: Vec<String>,
    // Of no consequence to policies; descriptions of workloads have them.
    #[serde(rename = "serviceAccount", alias = "service_account", default)]
    _service_account: Option<String>,
    #[serde(rename = "ports", default)]
    _ports: IgnoredAny,
    #[serde(rename = "addresses", alias = "ip", default)]
    _addresses: IgnoredAny,
}

/// A waypoint by name; or whether there is one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum WaypointLine {
    Flag(bool),
    Named(Named),
}

/// The principal, or all that is known of the source.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum SourceLine {
    Text(String),
    Described(SourceDescribed),
    #[default]
    Nothing,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SourceDescribed {
    #[serde(alias = "identity", alias = "spiffe", alias = "spiffeId", alias = "spiffe_id", alias = "uri")]
    principal: Option<String>,
    #[serde(alias = "address")]
    ip: Option<Address>,
    #[serde(alias = "remote_ip", alias = "remoteIP")]
    remote_ip: Option<Address>,
    #[serde(rename = "port", default)]
    _port: IgnoredAny,
}

/// `address:port`, or a map.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum DestinationLine {
    Text(String),
    Described(DestinationDescribed),
    #[default]
    Nothing,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DestinationDescribed {
    #[serde(alias = "address")]
    ip: Option<Address>,
    port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RequestLine {
    method: Option<String>,
    path: Option<String>,
    #[serde(alias = "authority")]
    host: Option<String>,
    headers: Option<Headers>,
    #[serde(alias = "jwt")]
    claims: Option<Claims>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetadataLine {
    pub(super) filter: String,
    pub(super) key: String,
    pub(super) value: ClaimValue,
}

/// An address, with or without a port that is of no consequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
        address.map(Self).map_err(|_| serde::de::Error::custom(format_args!("`{text}` is not an address")))
    }
}

/// Headers in their order: `[["name", "value"], …]`, `[{"name": …, "value": …}, …]`, `["name: value", …]`, or
/// `{"name": "value" or ["value", …]}`.
#[derive(Debug, Default)]
pub(super) struct Headers(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            List(Vec<One>),
            Map(serde_json::Map<String, Value>),
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum One {
            Line(String),
            Pair(String, String),
            Named(NameAndValue),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct NameAndValue {
            #[serde(alias = "key")]
            name: String,
            value: String,
        }
        let problem = |text: &str| {
            serde::de::Error::custom(format_args!("header `{text}` has no value that is a text"))
        };
        let mut lines = Vec::new();
        match Form::deserialize(deserializer)? {
            Form::List(list) => {
                for one in list {
                    lines.push(match one {
                        One::Line(line) => {
                            // The name of a pseudo-header begins with a colon.
                            let colon = line
                                .get(1..)
                                .and_then(|rest| rest.find(':'))
                                .ok_or_else(|| problem(&line))?
                                + 1;
                            let (name, value) = line.split_at(colon);
                            (name.trim().to_owned(), value.get(1..).unwrap_or_default().trim().to_owned())
                        }
                        One::Named(NameAndValue { name, value }) | One::Pair(name, value) => (name, value),
                    });
                }
            }
            Form::Map(map) => {
                for (name, value) in map {
                    let values = match value {
                        Value::Array(values) => values,
                        one => vec![one],
                    };
                    for value in values {
                        let value = value.as_str().ok_or_else(|| problem(&name))?;
                        lines.push((name.clone(), value.to_owned()));
                    }
                }
            }
        }
        Ok(Self(lines))
    }
}

/// What of a line is about HTTP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Http<'a> {
    pub(super) method: Option<&'a str>,
    pub(super) path: Option<&'a str>,
    pub(super) host: Option<&'a str>,
    pub(super) headers: &'a [(String, String)],
    pub(super) claims: Option<&'a Claims>,
}

impl Line {
    pub(super) fn semantics(&self) -> Result<Option<Semantics>, Fault> {
        let parse = |text: &String| {
            parse_semantics(text)
                .ok_or_else(|| Fault::new(format!("semantics `{text}`: write strict or istio")))
        };
        self.semantics.as_ref().map(parse).transpose()
    }

    pub(super) fn http(&self) -> Http<'_> {
        let RequestLine { method, path, host, headers, claims } = &self.request;
        let own = self.headers.as_ref().or(headers.as_ref()).map_or(&[][..], |headers| &headers.0);
        let pseudo = |wanted: &str| {
            let found = own.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.as_str())
        };
        let host = self.host.as_deref().or(host.as_deref());
        Http {
            method: self.method.as_deref().or(method.as_deref()).or_else(|| pseudo(":method")),
            path: self.path.as_deref().or(path.as_deref()).or_else(|| pseudo(":path")),
            host: host.or_else(|| pseudo(":authority")).or_else(|| pseudo("host")),
            headers: own,
            claims: self.claims.as_ref().or(claims.as_ref()),
        }
    }

    /// Whether anything in the line is about HTTP.
    pub(super) fn is_http(&self) -> bool {
        let Http { method, path, host, headers, claims } = self.http();
        method.is_some() || path.is_some() || host.is_some() || claims.is_some() || !headers.is_empty()
    }

    /// The identity that the peer proved, as a URI.
    pub(super) fn peer(&self) -> Option<String> {
        let inner = match &self.source {
            SourceLine::Described(described) => described.principal.as_ref(),
            SourceLine::Text(text) if text.parse::<IpAddr>().is_err() => Some(text),
            SourceLine::Nothing | SourceLine::Text(_) => None,
        };
        let text = self.principal.as_ref().or(inner).filter(|text| !text.is_empty())?;
        // A principal as policies write it.
        Some(if text.contains("://") { text.clone() } else { format!("spiffe://{text}") })
    }

    pub(super) fn source_ip(&self) -> Option<IpAddr> {
        let inner = match &self.source {
            SourceLine::Described(described) => described.ip.map(|address| address.0),
            SourceLine::Text(text) => text.parse().ok(),
            SourceLine::Nothing => None,
        };
        self.source_ip.map(|address| address.0).or(inner)
    }

    pub(super) fn remote_ip(&self) -> Option<IpAddr> {
        let inner = match &self.source {
            SourceLine::Described(described) => described.remote_ip,
            SourceLine::Nothing | SourceLine::Text(_) => None,
        };
        self.remote_ip.or(inner).map(|address| address.0)
    }

    pub(super) fn destination(&self) -> Result<(Option<IpAddr>, Option<u16>), Fault> {
        let (ip, port) = match &self.destination {
            DestinationLine::Described(described) => (described.ip.map(|address| address.0), described.port),
            DestinationLine::Nothing => (None, None),
            DestinationLine::Text(text) => match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
                (Ok(address), _) => (Some(address.ip()), Some(address.port())),
                (_, Ok(address)) => (Some(address), None),
                _ => {
                    return Err(Fault::new(format!(
                        "destination `{text}` is not an address, nor one with a port"
                    )));
                }
            },
        };
        Ok((self.destination_ip.map(|address| address.0).or(ip), self.port.or(port)))
    }
}
