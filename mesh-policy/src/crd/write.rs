//! Objects through serde: written as Kubernetes has them, and read as strictly as texts.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::Error,
    ser::{SerializeMap, SerializeStruct},
};
use serde_yaml_ng::Value;

use super::reading::Reading;
use crate::{
    Semantics,
    object::{
        Action, AuthorizationPolicy, JwtRule, Metadata, MutualTlsMode, Operation, PeerAuthentication,
        PolicyObject, Provider, RequestAuthentication, Rule, Selector, Source, TargetRef,
    },
};

/// What all objects have.
fn envelope<S: Serializer>(
    serializer: S,
    kind: &'static str,
    metadata: &Metadata,
    spec: &impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_struct(kind, 4)?;
    object.serialize_field("apiVersion", "security.istio.io/v1")?;
    object.serialize_field("kind", kind)?;
    object.serialize_field("metadata", metadata)?;
    object.serialize_field("spec", spec)?;
    object.end()
}

impl Serialize for AuthorizationPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            selector: Option<&'a Selector>,
            #[serde(skip_serializing_if = "Option::is_none")]
            target_ref: Option<&'a TargetRef>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            target_refs: &'a [TargetRef],
            action: Action,
            #[serde(skip_serializing_if = "Option::is_none")]
            provider: Option<&'a Provider>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            rules: &'a [Rule],
        }
        // What stands in for another object is not written as what it is: no field of Kubernetes says it.
        let Self { metadata, selector, target_ref, target_refs, action, provider, rules, extent: _ } = self;
        let (selector, target_ref, provider) = (selector.as_ref(), target_ref.as_ref(), provider.as_ref());
        let spec = Spec { selector, target_ref, target_refs, action: *action, provider, rules };
        envelope(serializer, Self::KIND, metadata, &spec)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct From<'a> {
            source: &'a Source,
        }
        #[derive(Serialize)]
        struct To<'a> {
            operation: &'a Operation,
        }
        let Self { from, to, when } = self;
        let mut rule = serializer.serialize_map(None)?;
        if !from.is_empty() {
            rule.serialize_entry("from", &from.iter().map(|source| From { source }).collect::<Vec<_>>())?;
        }
        if !to.is_empty() {
            rule.serialize_entry("to", &to.iter().map(|operation| To { operation }).collect::<Vec<_>>())?;
        }
        if !when.is_empty() {
            rule.serialize_entry("when", when)?;
        }
        rule.end()
    }
}

impl Serialize for PeerAuthentication {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Mode {
            mode: MutualTlsMode,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            selector: Option<&'a Selector>,
            mtls: Mode,
            #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
            port_level_mtls: Vec<(u32, Mode)>,
        }
        fn as_map<S: Serializer>(ports: &[(u32, Mode)], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(ports.iter().map(|(port, mode)| (port.to_string(), mode)))
        }
        let Self { metadata, selector, mtls, port_level_mtls, extent: _ } = self;
        let port_level_mtls =
            port_level_mtls.iter().map(|(port, mode)| (*port, Mode { mode: *mode })).collect();
        let spec = Spec { selector: selector.as_ref(), mtls: Mode { mode: *mtls }, port_level_mtls };
        envelope(serializer, Self::KIND, metadata, &spec)
    }
}

impl Serialize for RequestAuthentication {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            selector: Option<&'a Selector>,
            #[serde(skip_serializing_if = "Option::is_none")]
            target_ref: Option<&'a TargetRef>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            target_refs: &'a [TargetRef],
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            jwt_rules: &'a [JwtRule],
        }
        let Self { metadata, selector, target_ref, target_refs, jwt_rules } = self;
        let (selector, target_ref) = (selector.as_ref(), target_ref.as_ref());
        envelope(serializer, Self::KIND, metadata, &Spec { selector, target_ref, target_refs, jwt_rules })
    }
}

impl Serialize for PolicyObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Authorization(policy) => policy.serialize(serializer),
            Self::Peer(policy) => policy.serialize(serializer),
            Self::Request(policy) => policy.serialize(serializer),
        }
    }
}

/// Reads one object; whatever strict semantics refuse is an error, unknown fields too.
impl<'de> Deserialize<'de> for PolicyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let objects = Reading::of(&value).into_objects(Semantics::Strict).map_err(D::Error::custom)?;
        let all = objects.authorization.into_iter().map(Self::Authorization);
        let all = all.chain(objects.peer.into_iter().map(Self::Peer));
        let mut all = all.chain(objects.request.into_iter().map(Self::Request));
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(D::Error::custom("not one policy object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::read;

    const EVERY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: a, labels: {a: b}, annotations: {istio.io/dry-run: "false"}}
spec:
  selector: {matchLabels: {app: cart}}
  action: DENY
  rules:
  - from: [{source: {principals: ["*"], notIpBlocks: ["::1"]}}, {source: {serviceAccounts: [a]}}]
    to: [{operation: {hosts: [a], notPorts: ["81"], paths: ["/b/{*}"]}}]
    when: [{key: "request.headers[x-a]", values: [a], notValues: [b]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {namespace: shop, name: b, creationTimestamp: "2026-01-31T12:00:00Z"}
spec: {selector: {matchLabels: {app: cart}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {namespace: shop, name: c}
spec:
  targetRefs: [{kind: Service, group: "", name: cart}]
  jwtRules: [{issuer: a, jwksUri: "https://a.example.org", fromHeaders: [{name: x, prefix: y}], timeout: 5s}]
"#;

    #[test]
    fn what_is_written_reads_back() {
        let objects = read(EVERY).into_objects(Semantics::Strict).unwrap();
        let written = serde_yaml_ng::to_string(&objects.authorization[0]).unwrap();
        assert_eq!(
            read(&written).into_objects(Semantics::Strict).unwrap().authorization,
            objects.authorization
        );
        let json = serde_json::to_string(&objects.peer[0]).unwrap();
        let Ok(PolicyObject::Peer(peer)) = serde_json::from_str(&json) else { panic!("{json}") };
        assert_eq!(peer, objects.peer[0]);
        let json = serde_json::to_string(&objects.request[0]).unwrap();
        let Ok(PolicyObject::Request(request)) = serde_json::from_str(&json) else { panic!("{json}") };
        assert_eq!(request, objects.request[0]);
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        let json = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"a"},"spec":{"rule":[]}}"#;
        let error = serde_json::from_str::<PolicyObject>(json).unwrap_err().to_string();
        assert!(error.contains("spec.rule"), "{error}");
    }
}
