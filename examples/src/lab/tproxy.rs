use super::{
    capture::{CaptureError, MARK_MASK, PROXY_MARK, RETURN_MARK, return_route},
    host::Host,
    tool::Tool,
};

/// The second way to capture a pod's traffic: incoming connections are handed to the proxy as they are (TPROXY) instead
/// of being rewritten and remembered by the connection tracker.
///
/// The proxy's accepted socket has the original destination as its local address. Connections that start in the pod go
/// to 15001 by redirection as ever: TPROXY acts only on packets that arrive.
///
/// Needs `nft`: the TPROXY of `iptables` drops what belongs to sockets other than the proxy's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tproxy;

impl Tproxy {
    /// Captures a host's traffic.
    ///
    /// # Errors
    ///
    /// If `ip` or `nft` is missing, or the kernel refuses the rules.
    pub fn capture(self, host: &Host) -> Result<(), CaptureError> {
        let namespace = host.namespace();
        Tool::Ip.run(namespace, ["-4", "-batch", "-"], &return_route("0.0.0.0/0"))?;
        Tool::Ip.run(namespace, ["-6", "-batch", "-"], &return_route("::/0"))?;
        Ok(Tool::Nft.run(namespace, ["-f", "-"], &rules())?)
    }
}

/// One transaction of `nft`.
///
/// A packet handed to a proxy's socket carries the return mark, whose route delivers it here whatever its destination.
/// `tproxy` looks for a connection first, so later packets find theirs, and lets pass what belongs to anybody else.
fn rules() -> String {
    let proxy = format!("meta mark & {MARK_MASK:#x} == {PROXY_MARK:#x}");
    let not_proxy = format!("meta mark & {MARK_MASK:#x} != {PROXY_MARK:#x}");
    let captured = format!("tcp dport != 15008 {not_proxy}");
    let ours = format!("meta mark set meta mark & 0xfffff000 | {RETURN_MARK:#x} accept");
    format!(
        "table inet mesh-tproxy {{
  chain prerouting {{
    type filter hook prerouting priority -150; policy accept;
    {proxy} ct mark set ct mark & 0xfffff000 | {RETURN_MARK:#x}
    ip daddr != 127.0.0.0/8 {captured} tproxy ip to :15006 {ours}
    ip6 daddr != ::1 {captured} tproxy ip6 to :15006 {ours}
  }}
  chain output {{
    type route hook output priority -150; policy accept;
    ct mark & {MARK_MASK:#x} == {RETURN_MARK:#x} meta mark set ct mark
  }}
  chain outgoing {{
    type nat hook output priority -100; policy accept;
    meta l4proto tcp meta mark & {MARK_MASK:#x} == {RETURN_MARK:#x} accept
    oifname \"lo\" accept
    meta l4proto tcp {not_proxy} redirect to :15001
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_over() -> Vec<String> {
        rules().lines().filter(|line| line.contains("tproxy ip")).map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn incoming_connections_of_both_families_are_handed_to_15006() {
        assert_eq!(
            handed_over(),
            [
                "ip daddr != 127.0.0.0/8 tcp dport != 15008 meta mark & 0xfff != 0x539 tproxy ip to :15006 \
                 meta mark set meta mark & 0xfffff000 | 0x111 accept",
                "ip6 daddr != ::1 tcp dport != 15008 meta mark & 0xfff != 0x539 tproxy ip6 to :15006 \
                 meta mark set meta mark & 0xfffff000 | 0x111 accept",
            ]
        );
    }

    #[test]
    fn nothing_incoming_is_rewritten() {
        let rules = rules();
        let incoming = rules.split("chain output").next().unwrap();
        assert!(!incoming.contains("redirect"));
        assert_eq!(rules.matches("redirect to :15001").count(), 1);
    }

    // sockets#67: a packet marked 0x1539 is the proxy's as well.
    #[test]
    fn every_mark_is_compared_under_the_mask() {
        for line in rules().lines().filter(|line| line.contains("0x539")) {
            assert!(line.contains("meta mark & 0xfff "), "{line}");
        }
    }
}
