//! Deciding allocates nothing, whatever the answer.

mod support;

use mesh_policy::{Match, Scope, StringMatch};
use support::*;

// policy#50
#[test]
fn decisions_allocate_nothing() {
    let every_field = Match {
        namespaces: vec![prefix("s")],
        not_principals: vec![exact("x"), suffix("x")],
        service_accounts: vec![account("shop", "cart")],
        not_source_ips: vec!["198.51.100.0/24".parse().unwrap()],
        destination_ports: vec![8080],
        ..Match::default()
    };
    let set = set([
        allow("bank/a", vec![vec![vec![ports(&[1])]], vec![vec![every_field]]]),
        deny("bank/b", vec![vec![vec![not_principals(vec![StringMatch::Presence])]]]),
        scoped(Scope::Global, deny("root/c", vec![vec![vec![ports(&[9090])]]])),
        scoped(Scope::WorkloadSelector, deny("bank/d", nothing())),
        // Found by each form of value.
        deny(
            "bank/found",
            vec![
                vec![vec![principals(vec![prefix("example.net"), suffix("/till"), exact("x")])]],
                vec![vec![namespaces(vec![prefix("b"), suffix("k"), exact("x")])]],
                vec![vec![source_ips(&["198.51.100.0/24", "2001:db8::/32"])]],
                vec![vec![not_ports(&[8080]), ports(&[1])]],
                vec![vec![not_ports(&[8080, 9090, 1])]],
            ],
        ),
        dry_run(deny("bank/e", everything())),
        dry_run(allow("bank/f", nothing())),
    ]);
    let calls = [
        Call::default().listing(&["bank/d"]),
        Call::plaintext(),
        Call::default().on_port(1),
        Call::default().on_port(9090),
        Call::default().in_namespace("shop").listing(&["bank/absent"]),
        Call::default().in_namespace("shop"),
        Call::default().from("::ffff:192.0.2.1"),
    ];
    for call in &calls {
        let mut denials = 0;
        let allocated = allocation_counter::measure(|| {
            denials = call.decide(&set).dry_run_denials().count();
        });
        assert_eq!(allocated.count_total, 0, "{call:?} {denials}");
    }
}
