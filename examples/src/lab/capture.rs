use thiserror::Error;

use super::{
    namespace::Namespace,
    tool::{Tool, ToolError},
};

/// Mark of packets that the proxy sends.
pub(super) const PROXY_MARK: u32 = 0x539;
/// Mark of packets that must come back to the proxy, although they are addressed to a client elsewhere.
pub(super) const RETURN_MARK: u32 = 0x111;
/// Marks share the word with others: only these bits are ours.
pub(super) const MARK_MASK: u32 = 0xfff;
/// Routing table that declares every address local.
const RETURN_TABLE: u32 = 100;
/// Priority of the routing rule for [`RETURN_MARK`].
const RULE_PRIORITY: u32 = 32764;

/// Redirection of a pod's traffic to its proxy, with the rules that Istio's CNI agent programs inside a pod.
///
/// Outgoing connections go to 15001, incoming ones to 15006, except those to 15008; what the proxy sends (mark
/// 0x539) passes. Answers to connections that the proxy made from a client's address come back to the proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capture {
    backend: Tool,
}

impl Capture {
    /// Captures with `nft`, or with `iptables` where that is missing.
    ///
    /// # Errors
    ///
    /// If neither is installed.
    pub fn find() -> Result<Self, CaptureError> {
        if Tool::Nft.find().is_some() {
            return Ok(Self { backend: Tool::Nft });
        }
        if Tool::Iptables.find().is_some() && Tool::Ip6tables.find().is_some() {
            return Ok(Self { backend: Tool::Iptables });
        }
        Err(CaptureError::NoBackend)
    }

    /// Captures with `iptables`, whatever else is installed.
    pub fn iptables() -> Self {
        Self { backend: Tool::Iptables }
    }

    /// The program that loads the rules.
    pub fn backend(&self) -> Tool {
        self.backend
    }

    pub(super) fn apply(self, namespace: &Namespace) -> Result<(), CaptureError> {
        Tool::Ip.run(namespace, ["-4", "-batch", "-"], &return_route("0.0.0.0/0"))?;
        Tool::Ip.run(namespace, ["-6", "-batch", "-"], &return_route("::/0"))?;
        if self.backend == Tool::Nft {
            return Ok(Tool::Nft.run(namespace, ["-f", "-"], &nft_rules())?);
        }
        Tool::Iptables.run(namespace, ["--noflush"], &iptables_rules("127.0.0.1/32"))?;
        Ok(Tool::Ip6tables.run(namespace, ["--noflush"], &iptables_rules("::1/128"))?)
    }
}

/// Why traffic is not captured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// No program that loads rules.
    #[error("neither `nft` nor `iptables` is installed")]
    NoBackend,
    /// The program that loads rules.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// `ip -batch` script for one family: packets with the return mark are delivered locally.
pub(super) fn return_route(everything: &str) -> String {
    format!(
        "rule add fwmark {RETURN_MARK:#x}/{MARK_MASK:#x} pref {RULE_PRIORITY} lookup {RETURN_TABLE}\n\
         route add local {everything} dev lo table {RETURN_TABLE}\n"
    )
}

/// One transaction of `nft`; rules that test an address have a twin for the other family.
fn nft_rules() -> String {
    let proxy = format!("meta mark & {MARK_MASK:#x} == {PROXY_MARK:#x}");
    let not_proxy = format!("meta mark & {MARK_MASK:#x} != {PROXY_MARK:#x}");
    let [v4, v6] = ["ip daddr != 127.0.0.1", "ip6 daddr != ::1"];
    format!(
        "table inet istio-ambient-mangle {{
  chain prerouting {{
    type filter hook prerouting priority -150; policy accept;
    {proxy} ct mark set ct mark & 0xfffff000 | {RETURN_MARK:#x}
  }}
  chain output {{
    type route hook output priority -150; policy accept;
    ct mark & {MARK_MASK:#x} == {RETURN_MARK:#x} meta mark set ct mark
  }}
}}
table inet istio-ambient-nat {{
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    {v4} tcp dport != 15008 {not_proxy} redirect to :15006
    {v6} tcp dport != 15008 {not_proxy} redirect to :15006
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    meta l4proto tcp meta mark & {MARK_MASK:#x} == {RETURN_MARK:#x} accept
    oifname \"lo\" {v4} accept
    oifname \"lo\" {v6} accept
    meta l4proto tcp {v4} {not_proxy} redirect to :15001
    meta l4proto tcp {v6} {not_proxy} redirect to :15001
  }}
}}
"
    )
}

/// The same for `iptables-restore` and `ip6tables-restore`; `loopback` is the family's one loopback address.
fn iptables_rules(loopback: &str) -> String {
    let proxy = format!("-m mark --mark {PROXY_MARK:#x}/{MARK_MASK:#x}");
    let not_proxy = format!("-m mark ! --mark {PROXY_MARK:#x}/{MARK_MASK:#x}");
    format!(
        "*mangle
:ISTIO_PRERT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_PRERT {proxy} -j CONNMARK --set-xmark {RETURN_MARK:#x}/{MARK_MASK:#x}
-A ISTIO_OUTPUT -m connmark --mark {RETURN_MARK:#x}/{MARK_MASK:#x} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
*nat
:ISTIO_PRERT - [0:0]
:ISTIO_OUTPUT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_PRERT -p tcp ! -d {loopback} ! --dport 15008 {not_proxy} -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -p tcp -m mark --mark {RETURN_MARK:#x}/{MARK_MASK:#x} -j ACCEPT
-A ISTIO_OUTPUT -o lo ! -d {loopback} -j ACCEPT
-A ISTIO_OUTPUT -p tcp ! -d {loopback} {not_proxy} -j REDIRECT --to-ports 15001
COMMIT
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of<'a>(rules: &'a str, chain: &str) -> Vec<&'a str> {
        let body = rules.split(chain).nth(1).unwrap().split('}').next().unwrap();
        body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['{', 't'])).collect()
    }

    // sockets#67: a packet marked 0x1539 is the proxy's as well.
    #[test]
    fn every_mark_is_compared_under_the_mask() {
        for rules in [nft_rules(), iptables_rules("127.0.0.1/32")] {
            for line in rules.lines().filter(|line| line.contains("0x539") || line.contains("== 0x111")) {
                assert!(line.contains("0xfff"), "{line}");
            }
        }
    }

    #[test]
    fn outgoing_order_lets_the_proxy_and_its_answers_pass_first() {
        let nat = nft_rules();
        let output = rules_of(nat.split("istio-ambient-nat").nth(1).unwrap(), "chain output");
        let redirect = output.iter().position(|rule| rule.contains("15001")).unwrap();
        let accepts = output.iter().rposition(|rule| rule.ends_with("accept")).unwrap();
        assert!(accepts < redirect, "{output:?}");
    }

    #[test]
    fn hbone_is_never_redirected() {
        for rules in [nft_rules(), iptables_rules("::1/128")] {
            for line in rules.lines().filter(|line| line.contains("15006")) {
                assert!(line.contains("15008"), "{line}");
            }
        }
    }

    #[test]
    fn the_answers_have_a_route() {
        assert_eq!(
            return_route("::/0"),
            "rule add fwmark 0x111/0xfff pref 32764 lookup 100\nroute add local ::/0 dev lo table 100\n"
        );
    }
}
