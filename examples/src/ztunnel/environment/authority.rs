use std::{fmt, time::Duration};

use mesh_identity::{CaAddress, RootSource, TokenSource};

use super::{EnvironmentError, Warning, variables::Variables};

/// Where identities come from.
#[derive(Clone, Debug)]
pub(crate) enum Identities {
    /// A certificate authority.
    Authority(Box<Authority>),
    /// The root whose private key is public.
    Development,
}

/// A certificate authority and how it is called.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) address: CaAddress,
    /// The address as text.
    pub(crate) shown: String,
    pub(crate) roots: RootSource,
    pub(crate) alternate_host_name: Option<String>,
    /// Without one it is in the usual file, if that exists.
    pub(crate) token: Option<TokenSource>,
    pub(crate) cluster_id: String,
    pub(crate) headers: Vec<Header>,
    pub(crate) lifetime: Duration,
}

/// A header for each call. Its value may be a secret, and is not printed.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identities {
    pub(super) fn parse(
        variables: &Variables<'_>,
        cluster_id: &str,
    ) -> Result<(Self, Option<Warning>), EnvironmentError> {
        if variables.boolean("FAKE_CA")?.unwrap_or(false) {
            development(variables).map(|warning| (Self::Development, Some(warning)))
        } else {
            Ok((Self::Authority(Box::new(Authority::parse(variables, cluster_id)?)), None))
        }
    }

    /// The address of the authority, if there is one.
    pub(super) fn address(&self) -> Option<&str> {
        match self {
            Self::Authority(authority) => Some(&authority.shown),
            Self::Development => None,
        }
    }
}

impl Authority {
    fn parse(variables: &Variables<'_>, cluster_id: &str) -> Result<Self, EnvironmentError> {
        let in_cluster = variables.raw("KUBERNETES_SERVICE_HOST").is_some();
        let default = if in_cluster { IN_CLUSTER } else { OUTSIDE };
        let shown = match variables.raw("CA_ADDRESS") {
            Some("") => return Err(EnvironmentError::unavailable("CA_ADDRESS", "", NO_AUTHORITY)),
            address => address.unwrap_or(default),
        };
        let accepted = "https://host:port, host:port or unix:///path";
        let address = shown.parse().map_err(|_| EnvironmentError::invalid("CA_ADDRESS", shown, accepted))?;
        let lifetime = variables.duration("SECRET_TTL")?.unwrap_or(LIFETIME);
        if lifetime.as_secs() == 0 {
            let shown = variables.text("SECRET_TTL").unwrap_or_default();
            return Err(EnvironmentError::invalid("SECRET_TTL", shown, "a duration of 1s or more"));
        }
        let headers = variables
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(HEADER)?, value)))
            .map(|(name, value)| Header { name: name.to_ascii_lowercase(), value: value.to_owned() });
        Ok(Self {
            address,
            shown: shown.to_owned(),
            roots: roots(variables.text("CA_ROOT_CA").unwrap_or(ROOT_FILE)),
            alternate_host_name: variables.text("ALT_CA_HOSTNAME").map(str::to_owned),
            token: variables.text("AUTH_TOKEN").map(token),
            cluster_id: cluster_id.to_owned(),
            headers: headers.collect(),
            lifetime,
        })
    }
}

/// What is neither a word nor PEM is a path, whether or not there is a file yet: a mount may come later, and a
/// path that is taken for a certificate fails in no way that an operator understands.
fn roots(value: &str) -> RootSource {
    if value == "SYSTEM" {
        RootSource::system()
    } else if value.contains("-----BEGIN") {
        RootSource::pem(value)
    } else {
        RootSource::file(value)
    }
}

/// Tokens have no slash, and paths of mounts do.
fn token(value: &str) -> TokenSource {
    if value.contains('/') { TokenSource::file(value) } else { TokenSource::fixed(value) }
}

/// The development root, which nothing may take for a real authority.
fn development(variables: &Variables<'_>) -> Result<Warning, EnvironmentError> {
    let refused = |why| Err(EnvironmentError::unavailable("FAKE_CA", "true", why));
    match variables.raw("CA_ADDRESS") {
        Some("") if variables.raw("KUBERNETES_SERVICE_HOST").is_some() => {
            refused("the private key of the development root is public, so it is refused inside Kubernetes")
        }
        Some("") if !cfg!(feature = "dev-ca") => refused("this program was built without the feature dev-ca"),
        Some("") => Ok(Warning::DevelopmentCa),
        _ => refused("set CA_ADDRESS to the empty text too, so that nothing takes this for a real authority"),
    }
}

const NO_AUTHORITY: &str = "there is no authority at the empty address; leave it out for the default, or set \
                            FAKE_CA=true too, for development only";
const IN_CLUSTER: &str = "https://istiod.istio-system.svc:15012";
const OUTSIDE: &str = "https://localhost:15012";
const ROOT_FILE: &str = "./var/run/secrets/istio/root-cert.pem";
/// The token if `AUTH_TOKEN` does not say otherwise.
pub(crate) const TOKEN_FILE: &str = "./var/run/secrets/tokens/istio-token";
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const HEADER: &str = "CA_HEADER_";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Authority, EnvironmentError> {
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match Identities::parse(&Variables::new(&variables), "c1")?.0 {
            Identities::Authority(authority) => Ok(*authority),
            Identities::Development => panic!("development"),
        }
    }

    // identity §4.2
    #[test]
    fn defaults_are_istios() {
        let outside = parse(&[]).unwrap();
        assert_eq!(outside.shown, "https://localhost:15012");
        assert_eq!(outside.roots.path().unwrap().to_str(), Some("./var/run/secrets/istio/root-cert.pem"));
        assert_eq!(outside.lifetime, Duration::from_secs(86_400));
        assert_eq!(outside.cluster_id, "c1");
        assert!(
            outside.token.is_none() && outside.alternate_host_name.is_none() && outside.headers.is_empty()
        );
        let inside = parse(&[("KUBERNETES_SERVICE_HOST", "192.0.2.1")]).unwrap();
        assert_eq!(inside.shown, "https://istiod.istio-system.svc:15012");
    }

    #[test]
    fn every_variable_takes_effect() {
        let authority = parse(&[
            ("ALT_CA_HOSTNAME", "istiod.istio-system.svc"),
            ("AUTH_TOKEN", "abc.def"),
            ("CA_ADDRESS", "192.0.2.1:15012"),
            ("CA_HEADER_X_Route", "blue"),
            ("CA_ROOT_CA", "SYSTEM"),
            ("SECRET_TTL", "20s"),
        ])
        .unwrap();
        assert_eq!(authority.address, "https://192.0.2.1:15012".parse().unwrap());
        assert_eq!(authority.alternate_host_name.as_deref(), Some("istiod.istio-system.svc"));
        assert_eq!(authority.headers, [Header { name: "x_route".to_owned(), value: "blue".to_owned() }]);
        assert_eq!(authority.lifetime, Duration::from_secs(20));
        assert!(authority.token.is_some() && authority.roots.path().is_none());
        assert!(!format!("{authority:?}").contains("abc"));
    }

    // identity#32
    #[test]
    fn roots_are_a_word_or_pem_or_a_path() {
        let path = |value| roots(value).path().map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(path("SYSTEM"), None);
        assert_eq!(path("-----BEGIN CERTIFICATE-----"), None);
        assert_eq!(path("/not/there/yet.pem").as_deref(), Some("/not/there/yet.pem"));
    }

    // identity#81
    #[test]
    fn an_empty_address_is_an_error() {
        for fake in [&[][..], &[("FAKE_CA", "false")]] {
            let error = parse(&[&[("CA_ADDRESS", "")], fake].concat()).unwrap_err();
            assert!(matches!(error, EnvironmentError::Unavailable { variable: "CA_ADDRESS", .. }));
        }
    }

    #[test]
    fn wrong_values_are_named() {
        for (variable, value) in
            [("CA_ADDRESS", "http://192.0.2.1:15012"), ("SECRET_TTL", "0s"), ("SECRET_TTL", "1 day")]
        {
            let error = parse(&[(variable, value)]).unwrap_err();
            assert!(
                matches!(&error, EnvironmentError::Invalid { variable: v, .. } if *v == variable),
                "{error}"
            );
        }
    }
}
