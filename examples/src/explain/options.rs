use std::{ffi::OsString, net::IpAddr, path::PathBuf};

use mesh_policy::Semantics;
use thiserror::Error;

pub(super) const HELP: &str = "\
usage: explain -f PATH... --to NAMESPACE/NAME[:PORT] [--from ID] [--method M --path P ...]
       explain -f PATH... --lint
       explain -f PATH... --matrix [--method M --path P]
       explain -f PATH... --simulate PATH < ACCESS-LOG
       explain [-f PATH...] --batch < FACTS > DECISIONS

Reads Kubernetes manifests (AuthorizationPolicy, PeerAuthentication, RequestAuthentication, Pod and what makes
pods, Service, ServiceEntry, Gateway, Namespace, the mesh's ConfigMap `istio`) and local configuration files
of the node proxy, and tells who may reach what, and why.

  -f, --file PATH      a file, or a folder whose .yaml, .yml and .json files are read; may be repeated
  --to NAMESPACE/NAME[:PORT]
                       the service or workload that is reached; the port is the service's
  --from ID            the SPIFFE ID of who asks; without it, plaintext
  --source IP          the address of who asks
  --method M, --path P, --host H, --header 'NAME: VALUE', --claims JSON
                       the request; with any of them waypoints see HTTP, else a stream
  --sni NAME           the server name in the client's TLS hello
  --lint               list what is wrong, or not as it looks, with what to write instead
  --matrix             a table of who may reach what
  --simulate PATH      read the access log of node proxies and list the connections whose verdict other policies,
                       those of this file or folder, would change
  --batch              read facts as JSON lines and write decisions as JSON lines; the schema is in README.md
  --json               machine-readable output of --lint and of a question
  --semantics strict|istio
                       whose reading of policies is followed; strict refuses what Istio would silently
                       widen or drop, and is the default
  --fail-closed        go on with objects that fail closed in the place of those that are refused
  --trust-domain TD, --root-namespace NS
                       the mesh; else from its ConfigMap, else cluster.local and istio-system
  -h, --help           print this text

The exit code is 0 if allowed, clean, or all lines were answered; 1 if denied or something was found; 2 for a
wrong argument or input that cannot be used, of --batch if that was so of any line.
";

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    Help,
    Run(Box<Options>),
}

/// How to run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) files: Vec<PathBuf>,
    pub(super) job: Job,
    pub(super) semantics: Semantics,
    pub(super) fail_closed: bool,
    pub(super) json: bool,
    pub(super) trust_domain: Option<String>,
    pub(super) root_namespace: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Job {
    Batch,
    Lint,
    Matrix(Request),
    Query(Query),
    Simulate(PathBuf),
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Query {
    pub(super) to: String,
    pub(super) from: Option<String>,
    pub(super) source: Option<IpAddr>,
    pub(super) sni: Option<String>,
    pub(super) request: Request,
}

/// The HTTP of a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Request {
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) claims: Option<serde_json::Value>,
}

impl Request {
    pub(super) fn is_http(&self) -> bool {
        *self != Self::default()
    }
}

impl Options {
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Wish, ArgumentError> {
        let mut arguments = arguments.into_iter();
        let (mut files, mut query, mut mode) = (Vec::new(), Query::default(), None);
        let (mut semantics, mut fail_closed, mut json) = (Semantics::Strict, false, false);
        let (mut trust_domain, mut root_namespace, mut simulate) = (None, None, None);
        while let Some(argument) = arguments.next() {
            let argument =
                argument.into_string().map_err(|text| ArgumentError::unknown(&text.to_string_lossy()))?;
            // Both `--to X` and `--to=X`.
            let (name, mut inline) = match argument.split_once('=').filter(|_| argument.starts_with("--")) {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut value = || -> Result<String, ArgumentError> {
                let next = inline.take().or_else(|| arguments.next()?.into_string().ok());
                next.ok_or_else(|| ArgumentError::Missing { argument: name.clone() })
            };
            match name.as_str() {
                "-f" | "--file" | "--folder" => files.push(PathBuf::from(value()?)),
                "--to" => query.to = value()?,
                "--from" => query.from = Some(value()?).filter(|from| !from.is_empty()),
                "--source" => {
                    query.source =
                        Some(value()?.parse().map_err(|_| ArgumentError::bad(&name, "an address"))?)
                }
                "--sni" => query.sni = Some(value()?),
                "--method" => query.request.method = Some(value()?),
                "--path" => query.request.path = Some(value()?),
                "--host" => query.request.host = Some(value()?),
                "--header" => {
                    let header = value()?;
                    let (name, text) =
                        header.split_once(':').ok_or_else(|| ArgumentError::bad(&name, "NAME: VALUE"))?;
                    query.request.headers.push((name.trim().to_owned(), text.trim().to_owned()));
                }
                "--claims" => {
                    let claims = serde_json::from_str(&value()?)
                        .map_err(|_| ArgumentError::bad(&name, "a JSON object"))?;
                    query.request.claims = Some(claims);
                }
                "--semantics" => {
                    semantics = parse_semantics(&value()?)
                        .ok_or_else(|| ArgumentError::bad(&name, "strict or istio"))?
                }
                "--trust-domain" => trust_domain = Some(value()?),
                "--root-namespace" => root_namespace = Some(value()?),
                "--fail-closed" => fail_closed = true,
                "--json" => json = true,
                "--simulate" => simulate = Some(PathBuf::from(value()?)),
                "--batch" | "--lint" | "--matrix" => {
                    if mode.replace(name.clone()).is_some_and(|before| before != name) {
                        return Err(ArgumentError::Several);
                    }
                }
                "-h" | "--help" => return Ok(Wish::Help),
                _ => return Err(ArgumentError::unknown(&name)),
            }
            if inline.is_some() {
                return Err(ArgumentError::unknown(&format!("{name}=")));
            }
        }
        if mode.is_some() && simulate.is_some() {
            return Err(ArgumentError::Several);
        }
        let job = match mode.as_deref() {
            None if simulate.is_some() => Job::Simulate(simulate.unwrap_or_default()),
            Some("--batch") => Job::Batch,
            Some("--lint") => Job::Lint,
            Some(_) => Job::Matrix(query.request),
            None if query.to.is_empty() => return Err(ArgumentError::Missing { argument: "--to".into() }),
            None => Job::Query(query),
        };
        if files.is_empty() && job != Job::Batch {
            return Err(ArgumentError::Missing { argument: "-f".into() });
        }
        Ok(Wish::Run(Box::new(Self {
            files,
            job,
            semantics,
            fail_closed,
            json,
            trust_domain,
            root_namespace,
        })))
    }
}

pub(super) fn parse_semantics(text: &str) -> Option<Semantics> {
    match text.to_ascii_lowercase().as_str() {
        "istio" => Some(Semantics::Istio),
        "strict" => Some(Semantics::Strict),
        _ => None,
    }
}

/// Why the arguments make no sense.
#[derive(Debug, Error, PartialEq)]
pub(super) enum ArgumentError {
    #[error("{argument} needs {expected}")]
    Bad { argument: String, expected: &'static str },
    #[error("{argument} is missing, or has no value")]
    Missing { argument: String },
    #[error("only one of --batch, --lint, --matrix and --simulate can be asked for")]
    Several,
    #[error("unknown argument: {argument}")]
    Unknown { argument: String },
}

impl ArgumentError {
    fn bad(argument: &str, expected: &'static str) -> Self {
        Self::Bad { argument: argument.to_owned(), expected }
    }

    fn unknown(argument: &str) -> Self {
        Self::Unknown { argument: argument.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Wish, ArgumentError> {
        Options::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn a_question_is_read() {
        let Ok(Wish::Run(options)) = parse(&[
            "-f",
            "mesh",
            "--from=spiffe://example.org/ns/a/sa/b",
            "--to",
            "shop/cart:8080",
            "--method",
            "GET",
            "--path",
            "/a=b",
            "--header",
            "x-a: 1",
            "--semantics",
            "istio",
        ]) else {
            panic!("not read")
        };
        assert_eq!(options.semantics, Semantics::Istio);
        let Job::Query(query) = options.job else { panic!("not a question") };
        assert_eq!(query.to, "shop/cart:8080");
        assert_eq!(query.request.path.as_deref(), Some("/a=b"));
        assert_eq!(query.request.headers, [("x-a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            &["--to"][..],
            &["-f", "x"],
            &["--to", "a/b"],
            &["--batch", "--lint"],
            &["--batch=x"],
            &["-f", "x", "--lint", "--semantics", "lax"],
            &["--nope"],
            &["-f", "x", "--to", "a/b", "--source", "here"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        assert_eq!(parse(&["--batch", "-h"]), Ok(Wish::Help));
    }
}
