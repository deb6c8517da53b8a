use std::{path::PathBuf, time::Duration};

use mesh_identity::{KeyExchange, RevocationPolicy, TlsSettings};

use super::{EnvironmentError, Warning, variables::Variables};

/// How connections are made secure, beyond who they are between, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Security {
    tls12: bool,
    hybrid_only: bool,
    /// The revocation lists that peers are checked against.
    pub(crate) lists: Option<Lists>,
    /// The age at which an HBONE connection ends with all its tunnels.
    pub(crate) max_connection_age: Option<Duration>,
}

/// Where revocation lists are, and what is done about what they leave open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) path: PathBuf,
    pub(crate) policy: RevocationPolicy,
}

impl Security {
    pub(super) fn parse(variables: &Variables<'_>) -> Result<(Self, Option<Warning>), EnvironmentError> {
        let tls12 = variables.boolean("TLS12_ENABLED")?.unwrap_or(false);
        let (hybrid_only, warning) = match variables.text(COMPLIANCE) {
            None => (false, None),
            Some("pqc") => (true, None),
            // For Envoy; Istio's node proxy does nothing about them either.
            Some("fips-140-2" | "fips-140-3") => {
                (false, Some(Warning::NoEffect { variable: COMPLIANCE.to_owned() }))
            }
            Some(other) => {
                return Err(EnvironmentError::invalid(COMPLIANCE, other, "pqc, fips-140-2 or fips-140-3"));
            }
        };
        if tls12 && hybrid_only {
            return Err(EnvironmentError::unavailable("TLS12_ENABLED", "true", NO_HYBRID));
        }
        let max_connection_age = variables.duration("MAX_CONNECTION_AGE")?;
        if max_connection_age.is_some_and(|age| age.is_zero()) {
            let shown = variables.text("MAX_CONNECTION_AGE").unwrap_or_default();
            return Err(EnvironmentError::invalid("MAX_CONNECTION_AGE", shown, "a duration of more than 0s"));
        }
        let lists = Lists::parse(variables)?;
        Ok((Self { tls12, hybrid_only, lists, max_connection_age }, warning))
    }

    /// What a configuration does, but for revocation lists.
    pub(crate) fn tls(&self) -> TlsSettings {
        let settings = TlsSettings::default();
        match (self.tls12, self.hybrid_only) {
            (true, _) => settings.allow_tls12(),
            (false, true) => settings.key_exchange(KeyExchange::RequireHybrid),
            (false, false) => settings,
        }
    }
}

impl Lists {
    fn parse(variables: &Variables<'_>) -> Result<Option<Self>, EnvironmentError> {
        let policy = match variables.text("CRL_POLICY") {
            None => None,
            Some("fail-open") => Some(RevocationPolicy::FAIL_OPEN),
            Some("fail-closed") => Some(RevocationPolicy::FAIL_CLOSED),
            Some(other) => {
                return Err(EnvironmentError::invalid("CRL_POLICY", other, "fail-open or fail-closed"));
            }
        };
        match (variables.text("CRL_PATH"), policy) {
            (Some(path), policy) => {
                Ok(Some(Self { path: path.into(), policy: policy.unwrap_or(RevocationPolicy::FAIL_OPEN) }))
            }
            (None, Some(_)) => {
                Err(EnvironmentError::missing("CRL_PATH", "the file that CRL_POLICY is about"))
            }
            (None, None) => Ok(None),
        }
    }
}

const COMPLIANCE: &str = "COMPLIANCE_POLICY";
const NO_HYBRID: &str = "TLS 1.2 has no hybrid key exchange, which COMPLIANCE_POLICY=pqc requires";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<(Security, Option<Warning>), EnvironmentError> {
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Security::parse(&Variables::new(&variables))
    }

    // telemetry §6
    #[test]
    fn every_variable_takes_effect() {
        let (plain, warning) = parse(&[("COMPLIANCE_POLICY", ""), ("CRL_PATH", "")]).unwrap();
        assert_eq!((plain.clone(), warning), parse(&[]).unwrap());
        assert!(!plain.tls12 && !plain.hybrid_only);
        assert_eq!((plain.lists, plain.max_connection_age), (None, None));

        assert!(parse(&[("TLS12_ENABLED", "true")]).unwrap().0.tls12);
        assert!(parse(&[("COMPLIANCE_POLICY", "pqc")]).unwrap().0.hybrid_only);
        let lists =
            |more: &[_]| parse(&[&[("CRL_PATH", "/crl.pem")], more].concat()).unwrap().0.lists.unwrap();
        let open = lists(&[]);
        assert_eq!((open.path.to_str(), open.policy), (Some("/crl.pem"), RevocationPolicy::FAIL_OPEN));
        assert_eq!(lists(&[("CRL_POLICY", "fail-open")]), open);
        assert_eq!(lists(&[("CRL_POLICY", "fail-closed")]).policy, RevocationPolicy::FAIL_CLOSED);
        let aged = parse(&[("MAX_CONNECTION_AGE", "12h")]).unwrap().0;
        assert_eq!(aged.max_connection_age, Some(Duration::from_secs(12 * 60 * 60)));
    }

    // hbone#9
    #[test]
    fn policies_for_others_are_told_and_contradictions_refused() {
        for policy in ["fips-140-2", "fips-140-3"] {
            let (security, warning) =
                parse(&[("COMPLIANCE_POLICY", policy), ("TLS12_ENABLED", "true")]).unwrap();
            assert!(security.tls12 && matches!(warning, Some(Warning::NoEffect { .. })));
        }
        let both = parse(&[("COMPLIANCE_POLICY", "pqc"), ("TLS12_ENABLED", "true")]);
        assert!(matches!(both, Err(EnvironmentError::Unavailable { variable: "TLS12_ENABLED", .. })));
        let no_path = parse(&[("CRL_POLICY", "fail-closed")]);
        assert!(matches!(no_path, Err(EnvironmentError::Missing { variable: "CRL_PATH", .. })));
        for (variable, value) in [
            ("COMPLIANCE_POLICY", "PQC"),
            ("CRL_POLICY", "open"),
            ("MAX_CONNECTION_AGE", "0s"),
            ("MAX_CONNECTION_AGE", "old"),
            ("TLS12_ENABLED", "1"),
        ] {
            let error = parse(&[(variable, value)]).unwrap_err();
            assert!(
                matches!(&error, EnvironmentError::Invalid { variable: v, .. } if *v == variable),
                "{error}"
            );
        }
    }
}
