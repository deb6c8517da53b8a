use std::fmt;

use super::{authority::HEADER, variables::Variables};

/// Something that is no error, but that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Warning {
    /// Identities come from an authority whose private key is public.
    DevelopmentCa,
    /// A variable of Istio's node proxy is set that has no effect here yet.
    NoEffect {
        /// The variable.
        variable: String,
    },
}

impl Warning {
    /// One warning for each variable that is known and has no effect.
    pub(super) fn unsupported(variables: &Variables<'_>, with_authority: bool) -> Vec<Self> {
        let ineffective = variables
            .iter()
            .filter(|(name, _)| !(with_authority && is_for_an_authority(name)))
            .filter(|(name, value)| has_no_effect(name, value));
        ineffective.map(|(name, _)| Self::NoEffect { variable: name.to_owned() }).collect()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DevelopmentCa => f.write_str(
                "FAKE_CA is true: identities come from a development root whose PRIVATE KEY IS PUBLIC, so anybody \
                 can be any workload",
            ),
            Self::NoEffect { variable } => write!(f, "{variable} is set, but has no effect yet"),
        }
    }
}

/// Whether a variable says how an authority is called.
fn is_for_an_authority(name: &str) -> bool {
    matches!(name, "ALT_CA_HOSTNAME" | "AUTH_TOKEN" | "CA_ROOT_CA" | "SECRET_TTL") || name.starts_with(HEADER)
}

fn has_no_effect(name: &str, value: &str) -> bool {
    let known = KNOWN.iter().find(|(known, _)| *known == name);
    let in_family = || FAMILIES.iter().any(|family| name.starts_with(family)) && !EFFECTIVE.contains(&name);
    known.map_or_else(in_family, |(_, already_so)| *already_so != Some(value))
}

/// Variables without effect, each with the value that describes what is done anyway.
const KNOWN: [(&str, Option<&str>); 24] = [
    ("ALT_CA_HOSTNAME", None),
    ("ALT_XDS_HOSTNAME", None),
    ("AUTHZ_POLICY_INFO_LOGGING", Some("false")),
    ("AUTH_TOKEN", None),
    ("CA_ROOT_CA", None),
    ("CLUSTER_DOMAIN", None),
    ("ENABLE_PROXY", Some("true")),
    ("HTTP2_CONNECTION_WINDOW_SIZE", None),
    ("HTTP2_FRAME_SIZE", None),
    ("HTTP2_STREAM_WINDOW_SIZE", None),
    ("INPOD_PORT_REUSE", None),
    ("INPOD_UDS", None),
    ("INSTANCE_IP", None),
    ("ISTIO_META_DNS_CAPTURE", Some("false")),
    ("ISTIO_META_DNS_PROXY_ADDR", None),
    ("LOCALHOST_APP_TUNNEL", None),
    ("POD_NAME", None),
    ("POD_NAMESPACE", None),
    ("PREFERED_SERVICE_NAMESPACE", None),
    ("SECRET_TTL", None),
    ("SERVICE_ACCOUNT", None),
    ("TRUST_DOMAIN", None),
    ("XDS_ON_DEMAND", Some("false")),
    ("XDS_ROOT_CA", None),
];

/// Beginnings of names that belong to Istio.
const FAMILIES: [&str; 4] = ["CA_HEADER_", "ISTIO_META_", "ISTIO_METAJSON_", "XDS_HEADER_"];

/// Those of them that do have an effect.
const EFFECTIVE: [&str; 2] = ["ISTIO_META_CLUSTER_ID", "ISTIO_META_ISTIO_VERSION"];
