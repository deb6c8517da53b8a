//! The client's address as proxies tell it.

use std::net::IpAddr;

/// How far `X-Forwarded-For` is believed, in the terms of Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ForwardedFor {
    /// How many proxies in front are trusted (Istio's `numTrustedProxies`).
    pub trusted_hops: usize,
    /// Whether the peer is a client, or a proxy that adds its own client to the header. For a client without
    /// trusted hops, the header counts for nothing.
    pub use_remote_address: bool,
}

impl ForwardedFor {
    /// The client's address, given that of the peer and the lines of the header in their order.
    ///
    /// Entries are counted from the end, and only as many as proxies that are trusted added. What is not an
    /// address there, or one with a port, means the peer: whoever wrote it is not told from a client.
    ///
    /// ```
    /// use mesh_policy::waypoint::ForwardedFor;
    ///
    /// let gateway = ForwardedFor { trusted_hops: 1, use_remote_address: true };
    /// let (peer, spoofed) = ("192.0.2.1".parse()?, "198.51.100.66, 203.0.113.9");
    /// assert_eq!(gateway.client(peer, [spoofed]), "203.0.113.9".parse::<std::net::IpAddr>()?);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn client<'a, L>(&self, peer: IpAddr, lines: L) -> IpAddr
    where
        L: IntoIterator<Item = &'a str, IntoIter: DoubleEndedIterator>,
    {
        let skipped = match self.use_remote_address {
            true => self.trusted_hops.checked_sub(1),
            false => Some(self.trusted_hops),
        };
        let Some(skipped) = skipped else { return peer };
        let mut entries = lines.into_iter().rev().flat_map(|line| line.rsplit(','));
        entries.nth(skipped).and_then(|entry| entry.trim().parse().ok()).unwrap_or(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // policy#90, and part D 10
    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        for (trusted_hops, use_remote_address, lines, expected) in [
            (0, true, &["203.0.113.9"][..], "192.0.2.1"),
            (1, true, &["203.0.113.9"], "203.0.113.9"),
            (1, true, &["198.51.100.66, 203.0.113.9"], "203.0.113.9"),
            (1, true, &["198.51.100.66", "203.0.113.9"], "203.0.113.9"),
            (2, true, &["198.51.100.66,203.0.113.9", "203.0.113.10"], "203.0.113.9"),
            (2, true, &["203.0.113.9"], "192.0.2.1"),
            (1, true, &[], "192.0.2.1"),
            (1, true, &["203.0.113.9:443"], "192.0.2.1"),
            (1, true, &["203.0.113.9, unknown"], "192.0.2.1"),
            (1, true, &["[2001:db8::1]"], "192.0.2.1"),
            (1, true, &["2001:db8::1"], "2001:db8::1"),
            (1, true, &["203.0.113.9,"], "192.0.2.1"),
            (1, false, &["203.0.113.9,"], "203.0.113.9"),
            (0, false, &["198.51.100.66, 203.0.113.9"], "203.0.113.9"),
            (0, false, &[], "192.0.2.1"),
        ] {
            let found = ForwardedFor { trusted_hops, use_remote_address }
                .client("192.0.2.1".parse().unwrap(), lines.iter().copied());
            assert_eq!(found.to_string(), expected, "{trusted_hops} {use_remote_address} {lines:?}");
        }
    }
}
