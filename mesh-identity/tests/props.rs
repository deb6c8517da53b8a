//! What holds for every SPIFFE ID, and for every text that is none.

use mesh_identity::{ExpectedPeer, SpiffeId, TrustDomain};
use proptest::prelude::*;

fn segment() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,20}".prop_filter("relative", |segment| segment != "." && segment != "..")
}

fn spiffe_id() -> impl Strategy<Value = String> {
    ("[a-z0-9._-]{1,30}", prop::collection::vec(segment(), 0..6)).prop_map(|(trust_domain, path)| {
        path.iter().fold(format!("spiffe://{trust_domain}"), |id, segment| format!("{id}/{segment}"))
    })
}

proptest! {
    // identity#1
    #[test]
    fn an_id_prints_back_as_it_was_read(text in spiffe_id()) {
        let id: SpiffeId = text.parse().unwrap();
        prop_assert_eq!(id.as_str(), &text);
        prop_assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id.clone());
        prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
    }

    #[test]
    fn a_service_account_is_read_as_it_was_made(
        trust_domain in "[a-z0-9._-]{1,30}",
        namespace in segment(),
        name in segment(),
    ) {
        let id = SpiffeId::for_service_account(&trust_domain, &namespace, &name).unwrap();
        let account = id.service_account().unwrap();
        prop_assert_eq!(account.trust_domain.as_str(), &trust_domain);
        prop_assert_eq!((account.namespace, account.name), (namespace.as_str(), name.as_str()));
    }

    #[test]
    fn no_text_breaks_the_parsers(text in ".{0,80}", tail in ".{0,40}") {
        let _ = text.parse::<TrustDomain>();
        let _ = SpiffeId::for_service_account(&text, &tail, &text);
        for text in [text.clone(), format!("spiffe://{text}"), format!("spiffe://example.org/{tail}")] {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert!(!id.path().contains("//") && !id.path().ends_with('/'));
            }
        }
    }

    // identity#16
    #[test]
    fn an_expected_set_is_the_same_in_any_order(
        ids in prop::collection::vec(spiffe_id(), 0..8).prop_shuffle(),
        other in spiffe_id(),
    ) {
        let ids: Vec<SpiffeId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let other: SpiffeId = other.parse().unwrap();
        let forwards = ExpectedPeer::exact(ids.iter().cloned());
        let backwards = ExpectedPeer::exact(ids.iter().rev().cloned());
        prop_assert_eq!(&forwards, &backwards);
        prop_assert!(ids.iter().all(|id| forwards.matches(id)));
        prop_assert_eq!(forwards.matches(&other), ids.contains(&other));
    }
}
