use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

/// An IP address within a named network: the same address may exist once per network.
///
/// Written `network/address`; the default network has an empty name, so its addresses start with the slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    network: Arc<str>,
    address: IpAddr,
}

impl NetworkAddress {
    /// Joins a network's name and an address; an IPv4-mapped IPv6 address becomes the IPv4 address it
    /// carries.
    pub fn new(network: impl Into<Arc<str>>, address: IpAddr) -> Self {
        Self { network: network.into(), address: address.to_canonical() }
    }

    /// The network's name, empty for the default network.
    pub fn network(&self) -> &Arc<str> {
        &self.network
    }

    /// The address within that network.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.address)
    }
}

impl FromStr for NetworkAddress {
    type Err = ParseNetworkAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (network, address) = text.split_once('/').ok_or(ParseNetworkAddressError::NoSlash)?;
        let address = address.parse::<IpAddr>().map_err(|_| ParseNetworkAddressError::Address)?;
        Ok(Self::new(network, address))
    }
}

/// Why a text is not a [`NetworkAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseNetworkAddressError {
    /// The part after the slash is not an IP address.
    #[error("not `network/address`: no IP address after the slash")]
    Address,
    /// There is no slash between network and address.
    #[error("not `network/address`: no slash")]
    NoSlash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_for_default_and_named_networks() {
        for text in ["/192.0.2.1", "net-b/2001:db8::1"] {
            assert_eq!(text.parse::<NetworkAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mapped_address_equals_the_ipv4_address_it_carries() {
        assert_eq!("/::ffff:192.0.2.1".parse::<NetworkAddress>(), "/192.0.2.1".parse());
    }

    #[test]
    fn text_without_slash_or_address_is_refused() {
        assert_eq!("192.0.2.1".parse::<NetworkAddress>(), Err(ParseNetworkAddressError::NoSlash));
        assert_eq!("net/host".parse::<NetworkAddress>(), Err(ParseNetworkAddressError::Address));
    }
}
