use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use mesh_identity::TrustDomain;
use thiserror::Error;

use super::{callers::Account, failure::Failure};
use crate::duration;

pub(super) const HELP: &str = "\
usage: mesh-control [options]

A certificate authority for a mesh, with the gRPC API of Istio's. For tests and for meshes without a control plane.

  --listen PLACE             IP:PORT, over TLS, or unix:PATH, in plain text (127.0.0.1:15012)
  --ca-dir DIR               keep the authority in these files, as in Istio's secret `cacerts`: ca-cert.pem,
                             ca-key.pem, and optionally root-cert.pem (all roots) and cert-chain.pem (intermediates).
                             They are read again when they change. With no ca-cert.pem a new root is made and kept
                             there. Without this option a new root is made and kept in memory
  --write-root FILE          write the roots here when they change, for CA_ROOT_CA of clients
  --server-name NAME         a name or address in the certificate of this server; may be repeated
                             (istiod.istio-system.svc, localhost, 127.0.0.1, ::1)
  --trust-domain NAME        the trust domain of identities (cluster.local)
  --cluster-id NAME          the only cluster whose workloads can be asked for (Kubernetes)
  --default-lifetime TIME    of certificates for which no time is asked (24h)
  --max-lifetime TIME        above it, requests are refused (2160h)

Who may ask for what. Without --tokens and --jwks everybody may ask for everything in the trust domain, or for every
identity of the workloads file; then this server listens only on loopback or on a Unix socket.

  --tokens FILE              YAML or JSON, a list of callers; read again when it changes:
                               - token: a-long-secret
                                 identities: [spiffe://cluster.local/ns/istio-system/sa/ztunnel]
                                 node: node-1
                             The first identity is the caller's own. It may ask for the others too, and for those of
                             the workloads on its node
  --jwks FILE                the keys that sign service-account tokens (RS256, ES256); read again when it changes.
                             The caller is the token's service account. Its node is the token's, or that of its pod
                             in the workloads file, if it runs as this account there. Uids are not known, nor compared
  --jwt-audience NAME        what such a token is for (istio-ca)
  --jwt-issuer URL           who must have issued it (anybody with such a key)
  --node-account NS/NAME     a service account that may ask for the workloads on its node; may be repeated
                             (istio-system/ztunnel)
  --workloads FILE           workloads with their nodes, in Istio's local format; read again when it changes

Failures, to try how clients take them:

  --fail KIND                refuse, hang, slow=TIME, unavailable, wrong-identity, wrong-key, leaf-only
  --fail-first COUNT         only the first so many calls (all)

  --help                     print this text

A call ends after a minute, and a connection after 20 seconds in which nobody called who is known here, or later after
five minutes without a call. What is refused is explained in the log, on standard error; callers are told as little as by Istio. The first line on
standard output says where this server listens, once it does.
";

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Wish {
    Help,
    Run(Box<Options>),
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) listen: Listen,
    pub(super) ca_dir: Option<PathBuf>,
    pub(super) write_root: Option<PathBuf>,
    pub(super) server_names: Vec<String>,
    pub(super) trust_domain: TrustDomain,
    pub(super) cluster_id: String,
    pub(super) default_lifetime: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) tokens: Option<PathBuf>,
    pub(super) jwks: Option<PathBuf>,
    pub(super) jwt_audience: String,
    pub(super) jwt_issuer: Option<String>,
    pub(super) node_accounts: Vec<Account>,
    pub(super) workloads: Option<PathBuf>,
    pub(super) failure: Option<Failure>,
    pub(super) fail_first: Option<u64>,
}

/// Where to listen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.strip_prefix("unix:") {
            Some(path) => {
                let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
                if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(()) }
            }
            None => text.parse().map(Self::Tcp).map_err(drop),
        }
    }
}

impl Options {
    /// Reads a command line that asks to run.
    ///
    /// # Errors
    ///
    /// If an argument is wrong, or asks for help.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ArgumentError> {
        match Self::parse(arguments)? {
            Wish::Run(options) => Ok(*options),
            Wish::Help => Err(ArgumentError::Unknown { argument: "--help".to_owned() }),
        }
    }

    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Wish, ArgumentError> {
        let mut options = Self::default();
        let (mut server_names, mut node_accounts) = (Vec::new(), Vec::new());
        let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
        while let Some(argument) = arguments.next() {
            if matches!(argument.as_str(), "--help" | "-h") {
                return Ok(Wish::Help);
            }
            // `--name value` and `--name=value`.
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            if !NAMES.contains(&name.as_str()) {
                return Err(ArgumentError::Unknown { argument: name });
            }
            let Some(value) = value.or_else(|| arguments.next()) else {
                return Err(ArgumentError::NoValue { argument: name });
            };
            let taken = match name.as_str() {
                "--listen" => set(&mut options.listen, value.parse().ok()),
                "--ca-dir" => set(&mut options.ca_dir, Some(Some(value.clone().into()))),
                "--write-root" => set(&mut options.write_root, Some(Some(value.clone().into()))),
                "--server-name" => {
                    server_names.push(value.clone());
                    Some(())
                }
                "--trust-domain" => set(&mut options.trust_domain, value.parse().ok()),
                "--cluster-id" => set(&mut options.cluster_id, Some(value.clone())),
                "--default-lifetime" => set(&mut options.default_lifetime, lifetime(&value)),
                "--max-lifetime" => set(&mut options.max_lifetime, lifetime(&value)),
                "--tokens" => set(&mut options.tokens, Some(Some(value.clone().into()))),
                "--jwks" => set(&mut options.jwks, Some(Some(value.clone().into()))),
                "--jwt-audience" => set(&mut options.jwt_audience, Some(value.clone())),
                "--jwt-issuer" => set(&mut options.jwt_issuer, Some(Some(value.clone()))),
                "--node-account" => value.parse().ok().map(|account| node_accounts.push(account)),
                "--workloads" => set(&mut options.workloads, Some(Some(value.clone().into()))),
                "--fail" => set(&mut options.failure, value.parse().ok().map(Some)),
                _ => set(&mut options.fail_first, value.parse().ok().map(Some)),
            };
            if taken.is_none() {
                return Err(ArgumentError::Value { argument: name, value });
            }
        }
        if !server_names.is_empty() {
            options.server_names = server_names;
        }
        if !node_accounts.is_empty() {
            options.node_accounts = node_accounts;
        }
        options.check()?;
        Ok(Wish::Run(Box::new(options)))
    }

    /// Whether callers prove who they are.
    pub(super) fn authenticates(&self) -> bool {
        self.tokens.is_some() || self.jwks.is_some()
    }

    fn check(&self) -> Result<(), ArgumentError> {
        match self.listen {
            Listen::Tcp(address) if !self.authenticates() && !address.ip().is_loopback() => {
                Err(ArgumentError::Open { address })
            }
            _ => Ok(()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Listen::Tcp(([127, 0, 0, 1], 15012).into()),
            ca_dir: None,
            write_root: None,
            server_names: ["istiod.istio-system.svc", "localhost", "127.0.0.1", "::1"]
                .map(str::to_owned)
                .to_vec(),
            trust_domain: "cluster.local".parse().expect("the constant is a trust domain"),
            cluster_id: "Kubernetes".to_owned(),
            default_lifetime: HOUR * 24,
            max_lifetime: HOUR * 24 * 90,
            tokens: None,
            jwks: None,
            jwt_audience: "istio-ca".to_owned(),
            jwt_issuer: None,
            node_accounts: vec![Account::new("istio-system", "ztunnel")],
            workloads: None,
            failure: None,
            fail_first: None,
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

const NAMES: [&str; 16] = [
    "--listen",
    "--ca-dir",
    "--write-root",
    "--server-name",
    "--trust-domain",
    "--cluster-id",
    "--default-lifetime",
    "--max-lifetime",
    "--tokens",
    "--jwks",
    "--jwt-audience",
    "--jwt-issuer",
    "--node-account",
    "--workloads",
    "--fail",
    "--fail-first",
];

/// Takes a value if it could be read.
fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn lifetime(text: &str) -> Option<Duration> {
    duration::parse(text).filter(|lifetime| lifetime.as_secs() > 0)
}

/// Why the command line asks for nothing that can be done.
#[derive(Debug, Eq, Error, PartialEq)]
pub enum ArgumentError {
    /// An option lacks its value.
    #[error("{argument} needs a value")]
    NoValue {
        /// The option.
        argument: String,
    },
    /// Everybody could reach an authority that gives everything to everybody.
    #[error("without --tokens or --jwks this server listens only on loopback or unix:PATH, not on {address}")]
    Open {
        /// Where it should listen.
        address: SocketAddr,
    },
    /// There is no such option.
    #[error("unknown argument: {argument}")]
    Unknown {
        /// What was given.
        argument: String,
    },
    /// An option has a value that it cannot have.
    #[error("{argument} cannot be {value:?}")]
    Value {
        /// The option.
        argument: String,
        /// Its value.
        value: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, ArgumentError> {
        Options::from_arguments(arguments.iter().map(OsString::from))
    }

    #[test]
    fn values_may_follow_or_be_joined() {
        let options =
            parse(&["--default-lifetime", "20s", "--server-name=ca.example.org", "--fail", "slow=2s"])
                .unwrap();
        assert_eq!(options.default_lifetime, Duration::from_secs(20));
        assert_eq!(options.server_names, ["ca.example.org"]);
        assert_eq!(options.failure, Some(Failure::Slow(Duration::from_secs(2))));
        assert!(matches!(Options::parse(["--help".into()]), Ok(Wish::Help)));
    }

    #[test]
    fn every_option_is_described() {
        for name in NAMES {
            assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        let value = |argument: &str, value: &str| ArgumentError::Value {
            argument: argument.into(),
            value: value.into(),
        };
        for (arguments, error) in [
            (&["--jwsk", "x"][..], ArgumentError::Unknown { argument: "--jwsk".into() }),
            (&["listen"], ArgumentError::Unknown { argument: "listen".into() }),
            (&["--listen"], ArgumentError::NoValue { argument: "--listen".into() }),
            (&["--listen", "localhost:1"], value("--listen", "localhost:1")),
            (&["--listen", "unix:ca.sock"], value("--listen", "unix:ca.sock")),
            (&["--max-lifetime", "0s"], value("--max-lifetime", "0s")),
            (&["--fail", "loudly"], value("--fail", "loudly")),
            (&["--node-account", "ztunnel"], value("--node-account", "ztunnel")),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), error);
        }
    }

    #[test]
    fn an_open_authority_stays_on_this_machine() {
        let open = "192.0.2.1:15012";
        assert_eq!(
            parse(&["--listen", open]).unwrap_err(),
            ArgumentError::Open { address: open.parse().unwrap() }
        );
        for (arguments, listen) in [
            (&["--listen", "unix:///run/ca.sock"][..], Listen::Unix("/run/ca.sock".into())),
            (&["--listen", "[::1]:0"], Listen::Tcp("[::1]:0".parse().unwrap())),
            (&["--listen", open, "--tokens", "t"], Listen::Tcp(open.parse().unwrap())),
            (&["--listen", open, "--jwks", "k"], Listen::Tcp(open.parse().unwrap())),
        ] {
            assert_eq!(parse(arguments).unwrap().listen, listen);
        }
    }
}
