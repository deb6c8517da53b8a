//! Connections as the access log of a node proxy tells them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use mesh_identity::SpiffeId;

use crate::{ConnectionFacts, PolicyName};

/// An inbound connection of an access log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessRecord {
    /// Where it came from.
    pub source: IpAddr,
    /// The identity that the peer proved.
    pub peer: Option<SpiffeId>,
    /// The address and port of the workload.
    pub destination: SocketAddr,
    /// The namespace of the workload.
    pub namespace: String,
    /// The name of the workload.
    pub workload: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl AccessRecord {
    /// Reads a line in one of the formats of Istio's node proxy and ours: text or, with the feature `crd`, JSON. Nothing
    /// for a line that is not about an inbound connection whose workload is known: the destination's node decides, and
    /// only it tells.
    ///
    /// # Errors
    ///
    /// If the line is about one and a value of it cannot be read, or if it begins like JSON and is none.
    pub fn parse(line: &str) -> Result<Option<Self>, AccessLogError> {
        if line.trim_start().starts_with('{') {
            let fields = json(line)?;
            return Self::of(|name| fields.get(name).cloned());
        }
        Self::of(|name| fields(line).find(|(key, _)| *key == name).map(|(_, value)| value))
    }

    fn of(field: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, AccessLogError> {
        if field("direction").as_deref() != Some("inbound") {
            return Ok(None);
        }
        let Some(namespace) = field("dst.namespace") else { return Ok(None) };
        let address = |name: &'static str| {
            let text = field(name).ok_or(AccessLogError::Missing { field: name })?;
            text.parse::<SocketAddr>().map_err(|_| AccessLogError::Value { field: name, value: text })
        };
        let source = address("src.addr")?.ip();
        let mut destination = address("dst.addr")?;
        // In a tunnel, the port is the one that the tunnel names.
        if let Some(named) = field("dst.hbone_addr") {
            let (_, port) = named.rsplit_once(':').unwrap_or_default();
            match (named.parse(), port.parse()) {
                (Ok(address), _) => destination = address,
                (_, Ok(port)) => destination.set_port(port),
                _ => return Err(AccessLogError::Value { field: "dst.hbone_addr", value: named }),
            }
        }
        let peer = field("src.identity").map(|text| {
            text.parse().map_err(|_| AccessLogError::Value { field: "src.identity", value: text })
        });
        Ok(Some(Self {
            source,
            peer: peer.transpose()?,
            destination,
            namespace,
            workload: field("dst.workload").unwrap_or_default(),
            error: field("error"),
        }))
    }

    /// The facts of the connection, for a workload that lists these policies.
    pub fn facts<'a>(&'a self, listed: &'a [PolicyName]) -> ConnectionFacts<'a> {
        ConnectionFacts {
            source: self.source,
            peer: self.peer.as_ref(),
            destination: self.destination,
            namespace: &self.namespace,
            policies: listed,
        }
    }
}

/// The fields of a line of JSON that are texts.
#[cfg(feature = "crd")]
fn json(line: &str) -> Result<BTreeMap<String, String>, AccessLogError> {
    let fields: serde_json::Map<_, _> = serde_json::from_str(line).map_err(|_| AccessLogError::Json)?;
    let texts = fields.into_iter().filter_map(|(name, value)| match value {
        serde_json::Value::String(text) => Some((name, text)),
        _ => None,
    });
    Ok(texts.collect())
}

#[cfg(not(feature = "crd"))]
fn json(_: &str) -> Result<BTreeMap<String, String>, AccessLogError> {
    Err(AccessLogError::Json)
}

/// The fields of a line: `name=value`, or `name="value"` with escapes.
fn fields(line: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            let (word, after) = rest.split_at(rest.find([' ', '\t', '=']).filter(|at| *at < rest.len())?);
            if !after.starts_with('=') {
                rest = after.get(1..)?;
                continue;
            }
            let value = after.get(1..)?;
            let Some(quoted) = value.strip_prefix('"') else {
                let end = value.find([' ', '\t']).unwrap_or(value.len());
                rest = value.get(end..)?.trim_start();
                return Some((word, value.get(..end)?.to_owned()));
            };
            let mut text = String::new();
            let mut characters = quoted.char_indices();
            while let Some((at, character)) = characters.next() {
                match character {
                    '"' => {
                        rest = quoted.get(at + 1..)?.trim_start();
                        return Some((word, text));
                    }
                    '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                    _ => text.push(character),
                }
            }
            return None;
        }
    })
}

/// Why a line of an access log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessLogError {
    /// The line begins like JSON and is none, or JSON cannot be read without the feature `crd`.
    #[error("access record that is no JSON that can be read")]
    Json,
    /// A field is not there.
    #[error("access record without {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A value is not of the kind of its field.
    #[error("access record with {field} {value:?}")]
    Value {
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: &str = "2026-11-23T01:10:41.135934Z\terror\taccess\tconnection complete\tsrc.addr=10.99.0.1:61210 \
        src.workload=\"client\" src.namespace=\"default\" src.identity=\"spiffe://cluster.local/ns/default/sa/client\" \
        dst.addr=10.99.0.2:15008 dst.hbone_addr=10.99.0.2:9999 dst.workload=\"server\" dst.namespace=\"default\" \
        direction=\"inbound\" bytes_sent=0 error=\"a \\\"quoted\\\" reason\"";

    #[test]
    fn reads_what_the_node_proxy_writes() {
        let record = AccessRecord::parse(TUNNEL).unwrap().unwrap();
        assert_eq!(record.source, "10.99.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(record.destination, "10.99.0.2:9999".parse().unwrap());
        assert_eq!(record.peer.unwrap().as_str(), "spiffe://cluster.local/ns/default/sa/client");
        assert_eq!((record.namespace.as_str(), record.workload.as_str()), ("default", "server"));
        assert_eq!(record.error.as_deref(), Some("a \"quoted\" reason"));
        let by_name = TUNNEL.replace("10.99.0.2:9999", "server.default.svc:9999");
        assert_eq!(
            AccessRecord::parse(&by_name).unwrap().unwrap().destination,
            "10.99.0.2:9999".parse().unwrap()
        );
        let plaintext = TUNNEL.replace("src.identity", "x").replace("dst.hbone_addr", "y");
        let record = AccessRecord::parse(&plaintext).unwrap().unwrap();
        assert_eq!((record.peer, record.destination.port()), (None, 15008));
    }

    #[cfg(feature = "crd")]
    #[test]
    fn both_formats_say_the_same() {
        let json = r#"{"level":"error","time":"2026-11-23T01:10:41.135934Z","scope":"access","message":"connection complete","src.addr":"10.99.0.1:61210","src.workload":"client","src.namespace":"default","src.identity":"spiffe://cluster.local/ns/default/sa/client","dst.addr":"10.99.0.2:15008","dst.hbone_addr":"10.99.0.2:9999","dst.workload":"server","dst.namespace":"default","direction":"inbound","bytes_sent":0,"error":"a \"quoted\" reason"}"#;
        assert_eq!(AccessRecord::parse(json), AccessRecord::parse(TUNNEL));
        assert_eq!(AccessRecord::parse(&json.replace("inbound", "outbound")), Ok(None));
        assert_eq!(AccessRecord::parse(&json[..json.len() - 1]), Err(AccessLogError::Json));
        assert!(AccessRecord::parse(&json.replace("10.99.0.1:61210", "here")).is_err());
    }

    #[test]
    fn other_lines_are_passed_over_and_broken_ones_refused() {
        for line in ["", "# server node", "info\tstate\tready", &TUNNEL.replace("inbound", "outbound")] {
            assert_eq!(AccessRecord::parse(line), Ok(None), "{line}");
        }
        for (from, to) in [
            ("src.addr=10.99.0.1:61210", ""),
            ("10.99.0.1:61210", "here"),
            ("spiffe://", ""),
            ("10.99.0.2:9999", "x"),
        ] {
            assert!(AccessRecord::parse(&TUNNEL.replace(from, to)).is_err(), "{from}");
        }
        for cut in 0..TUNNEL.len() {
            let _ = AccessRecord::parse(&TUNNEL[..cut]);
        }
    }
}
