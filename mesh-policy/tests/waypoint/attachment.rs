//! To which targets policies apply.

use mesh_policy::{
    Semantics::Strict,
    object::{AuthorizationPolicy, Metadata, Rule, Selector, TargetRef},
    waypoint::{Mesh, RequestPolicySet, ServiceKind},
};

use crate::support::*;

fn workload(labels: &[(&str, &str)]) -> Place {
    Place::Workload { namespace: "shop".to_owned(), labels: owned(labels) }
}

fn ingress(labels: &[(&str, &str)]) -> Place {
    Place::Gateway { namespace: "shop".to_owned(), name: "ingress".to_owned(), labels: owned(labels) }
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn denying(
    namespace: &str,
    selector: Option<(&str, &str)>,
    target_refs: Vec<TargetRef>,
) -> AuthorizationPolicy {
    let selector =
        selector.map(|(key, value)| Selector { match_labels: [(key.to_owned(), value.to_owned())].into() });
    AuthorizationPolicy {
        metadata: Metadata::named(namespace, "deny"),
        selector,
        target_refs,
        rules: vec![Rule::default()],
        action: mesh_policy::object::Action::Deny,
        ..AuthorizationPolicy::default()
    }
}

/// Whether a policy is enforced, which has to be what the pure function says.
fn applies(policy: &AuthorizationPolicy, place: Place) -> bool {
    let set = RequestPolicySet::istio(mesh()).replaced([policy]).unwrap();
    let call = Call { place, ..get("/") };
    call.with_facts(|facts| {
        let denied = set.evaluate_request(facts).without_providers().reason().policy().is_some();
        assert_eq!(denied, policy.applies_to(&facts.stream.target, &mesh()), "{policy:?}");
        denied
    })
}

// policy#18 to policy#20, policy#96
#[test]
fn selectors_are_for_workloads_and_gateways_that_are_no_waypoints() {
    let app = [("app", "cart"), ("version", "1")];
    for (namespace, selector, place, expected) in [
        ("shop", None, workload(&app), true),
        ("shop", Some(("app", "cart")), workload(&app), true),
        ("shop", Some(("app", "other")), workload(&app), false),
        ("shop", Some(("app", "cart")), workload(&[]), false),
        ("bank", None, workload(&app), false),
        ("istio-system", None, workload(&app), true),
        ("istio-system", Some(("app", "cart")), workload(&app), true),
        ("shop", None, ingress(&app), true),
        ("shop", Some(("app", "cart")), ingress(&app), true),
        ("istio-system", None, ingress(&app), true),
        ("shop", None, waypoint(Some("cart")), false),
        ("istio-system", None, waypoint(None), false),
        ("shop", Some(("app", "cart")), waypoint(Some("cart")), false),
    ] {
        assert_eq!(
            applies(&denying(namespace, selector, vec![]), place.clone()),
            expected,
            "{namespace} {selector:?} {place:?}"
        );
    }
}

#[test]
fn gateways_may_be_kept_from_selectors() {
    let policy = denying("shop", None, vec![]);
    let without = Mesh { gateway_selectors: false, ..mesh() };
    Call { place: ingress(&[]), ..get("/") }.with_facts(|facts| {
        assert!(policy.applies_to(&facts.stream.target, &mesh()));
        assert!(!policy.applies_to(&facts.stream.target, &without));
    });
}

// policy#96, policy#97, policy#98
#[test]
fn targets_are_for_what_they_name() {
    let entry = || Place::Waypoint {
        namespace: "shop".to_owned(),
        name: "waypoint".to_owned(),
        service: Some((ServiceKind::ServiceEntry, "shop".to_owned(), "cart".to_owned())),
    };
    let service_entry = || TargetRef {
        group: "networking.istio.io".to_owned(),
        kind: "ServiceEntry".to_owned(),
        name: "cart".to_owned(),
        ..TargetRef::default()
    };
    let core = || TargetRef { group: "core".to_owned(), ..service("cart") };
    let elsewhere = || TargetRef { namespace: "bank".to_owned(), ..service("cart") };
    for (namespace, target, place, expected) in [
        ("shop", service("cart"), waypoint(Some("cart")), true),
        ("shop", core(), waypoint(Some("cart")), true),
        ("shop", service("cart"), waypoint(Some("other")), false),
        ("shop", service("cart"), waypoint(None), false),
        ("shop", service("cart"), entry(), false),
        ("shop", service("cart"), workload(&[]), false),
        ("bank", service("cart"), waypoint(Some("cart")), false),
        ("shop", elsewhere(), waypoint(Some("cart")), false),
        ("shop", service_entry(), entry(), true),
        ("shop", service_entry(), waypoint(Some("cart")), false),
        ("shop", gateway("Gateway", "waypoint"), waypoint(Some("cart")), true),
        ("shop", gateway("Gateway", "waypoint"), waypoint(None), true),
        ("shop", gateway("Gateway", "ingress"), ingress(&[]), true),
        ("shop", gateway("Gateway", "ingress"), waypoint(None), false),
        ("bank", gateway("Gateway", "waypoint"), waypoint(None), false),
        ("istio-system", gateway("GatewayClass", "istio-waypoint"), waypoint(Some("cart")), true),
        ("istio-system", gateway("GatewayClass", "istio-waypoint"), ingress(&[]), false),
        ("shop", gateway("GatewayClass", "istio-waypoint"), waypoint(Some("cart")), false),
        ("istio-system", gateway("GatewayClass", "istio"), waypoint(Some("cart")), false),
        ("istio-system", gateway("Gateway", "waypoint"), waypoint(Some("cart")), false),
    ] {
        let policy = denying(namespace, None, vec![target]);
        assert_eq!(applies(&policy, place.clone()), expected, "{policy:?} {place:?}");
    }
    let one = AuthorizationPolicy { target_ref: Some(service("cart")), ..denying("shop", None, vec![]) };
    assert!(applies(&one, waypoint(Some("cart"))));
}

// policy#99
#[test]
fn allows_of_gateway_and_service_add_up() {
    let mut of_gateway = allow(vec![to(vec![paths(&["/gateway"])])]);
    of_gateway.metadata.name = "gateway".to_owned();
    of_gateway.target_refs = vec![gateway("Gateway", "waypoint")];
    let policies = [of_gateway, allow(vec![to(vec![paths(&["/service"])])])];
    for semantics in BOTH {
        for (path, expected) in [("/gateway", true), ("/service", true), ("/other", false)] {
            assert_eq!(admits(semantics, &policies, &get(path)), expected, "{path}");
        }
        let other = Call { place: waypoint(Some("other")), ..get("/service") };
        assert!(!admits(semantics, &policies, &other), "the service's policy is not for others");
    }
}

#[test]
fn a_policy_with_a_broken_target_is_enforced_in_all_of_its_namespace() {
    let unknown = TargetRef { kind: "Deployment".to_owned(), ..service("cart") };
    let mut set = RequestPolicySet::strict(mesh());
    assert!(set.insert_closed(&denying("shop", None, vec![unknown])).is_some());
    for place in [waypoint(Some("cart")), waypoint(None), workload(&[]), ingress(&[])] {
        let call = Call { place, ..get("/") };
        call.with_facts(|facts| {
            assert!(set.evaluate_request(facts).without_providers().reason().policy().is_some());
        });
    }
    assert_eq!(set.semantics(), Strict);
}
