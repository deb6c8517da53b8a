use std::{fmt, str::FromStr, sync::Arc};

/// The name of a service: a namespace and a fully qualified host name, written `namespace/hostname`.
///
/// Host names compare as DNS names do: they are kept in lower case and without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    namespace: Arc<str>,
    hostname: Arc<str>,
}

impl ServiceName {
    /// Joins a namespace and a host name, normalising the latter. Shares the given strings where it can.
    pub fn new(namespace: impl Into<Arc<str>>, hostname: impl Into<Arc<str>>) -> Self {
        let hostname: Arc<str> = hostname.into();
        let trimmed = hostname.strip_suffix('.').unwrap_or(&hostname);
        let is_normal = trimmed.len() == hostname.len() && !trimmed.bytes().any(|b| b.is_ascii_uppercase());
        let hostname = if is_normal { hostname } else { trimmed.to_ascii_lowercase().into() };
        Self { namespace: namespace.into(), hostname }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// The host name, in lower case; may start with `*.`.
    pub fn hostname(&self) -> &Arc<str> {
        &self.hostname
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

impl FromStr for ServiceName {
    type Err = ParseServiceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, hostname) = text.split_once('/').ok_or(ParseServiceNameError::NoSlash)?;
        if hostname.is_empty() {
            return Err(ParseServiceNameError::NoHostname);
        }
        if hostname.contains('/') {
            return Err(ParseServiceNameError::SecondSlash);
        }
        Ok(Self::new(namespace, hostname))
    }
}

/// Why a text is not a [`ServiceName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseServiceNameError {
    /// Nothing follows the slash.
    #[error("not `namespace/hostname`: no host name after the slash")]
    NoHostname,
    /// There is no slash between namespace and host name.
    #[error("not `namespace/hostname`: no slash")]
    NoSlash,
    /// The host name contains a slash.
    #[error("not `namespace/hostname`: more than one slash")]
    SecondSlash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_compare_without_case_and_trailing_dot() {
        let name: ServiceName = "shop/Cart.example.org.".parse().unwrap();
        assert_eq!(name.to_string(), "shop/cart.example.org");
    }

    #[test]
    fn malformed_names_are_refused() {
        assert_eq!("cart".parse::<ServiceName>(), Err(ParseServiceNameError::NoSlash));
        assert_eq!("shop/".parse::<ServiceName>(), Err(ParseServiceNameError::NoHostname));
        // control-plane#22: a workload's name never reads as a service's.
        assert_eq!("c1//Pod/shop/cart".parse::<ServiceName>(), Err(ParseServiceNameError::SecondSlash));
    }
}
