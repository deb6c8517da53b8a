use std::{fmt, str::FromStr};

use super::{NetworkAddress, ServiceName};

/// Where a waypoint or an east-west gateway is found, and the port on which it takes HBONE.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayReference {
    /// The gateway, by address or by name.
    pub destination: GatewayDestination,
    /// Its HBONE port.
    pub port: u16,
}

impl GatewayReference {
    /// The address, if the gateway is named by one.
    pub fn address(&self) -> Option<&NetworkAddress> {
        match &self.destination {
            GatewayDestination::Address(address) => Some(address),
            GatewayDestination::Hostname(_) => None,
        }
    }
}

impl fmt::Display for GatewayReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.destination, self.port)
    }
}

/// Names a gateway by address or by host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// A service address or a workload address.
    Address(NetworkAddress),
    /// A service, or else a workload, with this namespace and host name.
    Hostname(ServiceName),
}

impl fmt::Display for GatewayDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname(name) => name.fmt(f),
        }
    }
}

impl FromStr for GatewayDestination {
    type Err = ParseGatewayDestinationError;

    /// Reads `network/address`, or else `namespace/hostname`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        text.parse().map(Self::Hostname).map_err(|_| ParseGatewayDestinationError)
    }
}

/// The text is neither `network/address` nor `namespace/hostname`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither `network/address` nor `namespace/hostname`")]
pub struct ParseGatewayDestinationError;

/// One of several waypoints of a service, with its share of the connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightedWaypoint {
    /// The waypoint.
    pub destination: GatewayReference,
    /// Its share, relative to the sum of all weights; 0 means never.
    pub weight: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    // control-plane#64
    #[test]
    fn destination_is_an_address_where_it_can_be_and_a_name_otherwise() {
        let address = "net/192.0.2.4".parse::<GatewayDestination>().unwrap();
        assert!(matches!(address, GatewayDestination::Address(_)));
        let name = "shop/wp.example.org".parse::<GatewayDestination>().unwrap();
        assert!(matches!(name, GatewayDestination::Hostname(_)));
        assert_eq!("wp".parse::<GatewayDestination>(), Err(ParseGatewayDestinationError));
    }
}
