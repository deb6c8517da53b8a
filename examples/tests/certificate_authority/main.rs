//! The certificate authority of `mesh-control` in this process, called over loopback by the client that proxies use.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod running;
mod service_account_tokens;

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use mesh_identity::{
    CertificateAuthority, IdentityManager, IdentitySource, IssueFuture, IstioCa, IstioCaError, ResponseError,
    RootSource, RotationSettings, SpiffeId, TokenSource,
};
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use tokio::sync::watch;

use running::{CART, Folder, HOUR, Running, STOCK, cause, id, issue, refused_with, workload};

#[tokio::test]
async fn certificates_are_as_istio_issues_them() {
    let authority = Running::start(&["--max-lifetime=48h"]).await;
    let ca = authority.client().impersonate(true).build().unwrap();
    let issued = issue(&ca, CART, HOUR).await.unwrap();
    let svid = issued.svid;
    assert_eq!(svid.id(), &id(CART));
    // An hour, and two minutes for clocks that are behind.
    assert_eq!(svid.not_after().duration_since(svid.not_before()).unwrap(), Duration::from_secs(3720));
    assert!(svid.not_before() < SystemTime::now());
    assert_eq!((svid.chain().len(), issued.bundle.certificates().len()), (1, 1));

    let two_days = issue(&ca, CART, 2 * 24 * HOUR).await.unwrap();
    assert!(two_days.svid.not_after() > svid.not_after());
    assert_eq!(
        refused_with(issue(&ca, CART, 2 * 24 * HOUR + Duration::from_secs(1)).await),
        "INVALID_ARGUMENT"
    );
    // Not positive is the default.
    let default = issue(&ca, CART, Duration::ZERO).await.unwrap();
    assert!(default.svid.not_after() > svid.not_after());
}

#[tokio::test]
async fn a_caller_without_a_token_has_no_identity_of_its_own() {
    let authority = Running::start(&[]).await;
    let ca = authority.client().build().unwrap();
    assert_eq!(refused_with(issue(&ca, CART, HOUR).await), "UNAUTHENTICATED");
}

// identity §4.3, identity#29, identity#86
#[tokio::test]
async fn tokens_say_who_may_ask_for_whom() {
    let folder = Folder::new();
    let workloads = format!("workloads:\n{}{}", workload("cart", "node-1"), workload("stock", "node-2"));
    folder.write("workloads.yaml", &workloads);
    let entry = |token: &str, node: &str| {
        format!(
            "- token: {token}\n  identities: [spiffe://cluster.local/ns/istio-system/sa/ztunnel]\n  node: {node}\n"
        )
    };
    folder.write("tokens.yaml", &entry("one", "node-1"));
    let arguments = ["--tokens=DIR/tokens.yaml", "--workloads=DIR/workloads.yaml"];
    let authority = Running::start_in(folder, &arguments).await;
    let client = |token: &str| authority.client().impersonate(true).token(TokenSource::fixed(token));
    let one = client("one").build().unwrap();
    issue(&one, CART, HOUR).await.unwrap();
    assert_eq!(refused_with(issue(&one, STOCK, HOUR).await), "UNAUTHENTICATED");
    assert_eq!(refused_with(issue(&client("x").build().unwrap(), CART, HOUR).await), "UNAUTHENTICATED");
    let none = authority.client().impersonate(true).build().unwrap();
    assert_eq!(refused_with(issue(&none, CART, HOUR).await), "UNAUTHENTICATED");
    let elsewhere = client("one").cluster_id("other").build().unwrap();
    assert_eq!(refused_with(issue(&elsewhere, CART, HOUR).await), "UNAUTHENTICATED");

    // A new token counts from the next call, and the old one no more.
    authority.folder.write("tokens.yaml", &entry("two", "node-2"));
    let two = client("two").build().unwrap();
    issue(&two, STOCK, HOUR).await.unwrap();
    assert_eq!(refused_with(issue(&one, CART, HOUR).await), "UNAUTHENTICATED");

    // What is no list changes nothing, and one that is taken away admits nobody.
    authority.folder.write("tokens.yaml", "nonsense");
    issue(&two, STOCK, HOUR).await.unwrap();
    fs::remove_file(authority.folder.0.join("tokens.yaml")).unwrap();
    assert_eq!(refused_with(issue(&two, STOCK, HOUR).await), "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_kept_authority_is_the_same_after_a_restart() {
    let first = Running::start(&["--ca-dir=DIR/ca", "--write-root=DIR/root.pem"]).await;
    let written = fs::read_to_string(first.folder.0.join("root.pem")).unwrap();
    assert_eq!(written, first.roots);
    let folder = first.folder.0.to_str().unwrap().to_owned();
    let second = Running::start(&[&format!("--ca-dir={folder}/ca")]).await;
    assert_eq!(first.roots, second.roots);
    let path = RootSource::file(first.folder.0.join("root.pem"));
    let ca = second.client().roots(path).impersonate(true).build().unwrap();
    issue(&ca, CART, HOUR).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_needs_no_tls() {
    let authority = Running::start(&["--listen=unix:DIR/ca.sock"]).await;
    let ca = authority.client().impersonate(true).build().unwrap();
    issue(&ca, CART, HOUR).await.unwrap();
}

// identity#34, identity#36
#[tokio::test]
async fn failures_on_purpose_are_what_they_say() {
    type Right = fn(&IstioCaError) -> bool;
    let cases: [(&str, Right); 7] = [
        ("refuse", |error| matches!(error, IstioCaError::Refused { code: "UNAUTHENTICATED", .. })),
        ("unavailable", |error| matches!(error, IstioCaError::Refused { code: "UNAVAILABLE", .. })),
        ("wrong-identity", |error| matches!(error, IstioCaError::Response(ResponseError::Identity { .. }))),
        ("wrong-key", |error| matches!(error, IstioCaError::Response(ResponseError::Svid(_)))),
        ("leaf-only", |error| matches!(error, IstioCaError::Response(ResponseError::NoRoots))),
        ("hang", |error| matches!(error, IstioCaError::Deadline { .. })),
        ("slow=10m", |error| matches!(error, IstioCaError::Deadline { .. })),
    ];
    for (failure, is_right) in cases {
        let authority = Running::start(&["--fail", failure, "--fail-first=1"]).await;
        let builder = authority.client().impersonate(true);
        let ca = match failure {
            "hang" | "slow=10m" => builder.call_timeout(Duration::from_millis(300)).build().unwrap(),
            _ => builder.build().unwrap(),
        };
        let error = issue(&ca, CART, HOUR).await.unwrap_err();
        assert!(is_right(cause(&error)), "{failure}: {error:?}");
        issue(&ca, CART, HOUR).await.unwrap();
    }
}

// identity#39, identity#45
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_identities_that_expire_at_once_are_renewed_in_time() {
    let authority = Running::start(&[]).await;
    let ca = authority.client().impersonate(true).build().unwrap();
    let (clock, issued) = (Arc::new(Clock::default()), watch::Sender::new(0));
    let manager = IdentityManager::builder(Counted { ca, issued: issued.clone() })
        .settings(RotationSettings::default().lifetime(HOUR))
        .time_provider(Arc::clone(&clock) as Arc<dyn TimeProvider>)
        .spawn();
    let ids: HashSet<_> =
        (0..500).map(|number| id(&format!("spiffe://cluster.local/ns/shop/sa/account-{number}"))).collect();
    manager.permit_only(&ids).unwrap();
    let mut first = Vec::new();
    for id in &ids {
        first.push(manager.svid(id).await.unwrap());
    }
    // A minute before the end of all of them, which the manager notices when it is next asked for anything.
    clock.advance(HOUR - Duration::from_secs(60));
    manager.permit_only(&ids).unwrap();
    let mut issued = issued.subscribe();
    let renewed = async {
        loop {
            let now = clock.now();
            let mut renewed = 0;
            for before in &first {
                let svid = manager.try_svid(before.id()).expect("there is a certificate at every moment");
                assert!(now < svid.not_after());
                renewed += usize::from(svid.serial() != before.serial());
            }
            if renewed == first.len() {
                return;
            }
            // What is issued is there a moment later, and more comes if it was not the last.
            tokio::select! {
                changed = issued.changed() => changed.unwrap(),
                () = tokio::task::yield_now(), if *issued.borrow() >= 2 * first.len() => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.expect("they are renewed in time");
    assert!(manager.metrics().calls_in_flight <= 8);
    manager.shut_down().await;
}

/// Counts what an authority issues.
#[derive(Debug)]
struct Counted {
    ca: IstioCa,
    issued: watch::Sender<usize>,
}

impl CertificateAuthority for Counted {
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a> {
        Box::pin(async move {
            let issued = self.ca.issue(id, lifetime).await;
            self.issued.send_modify(|count| *count += 1);
            issued
        })
    }
}

/// A clock that is set forward.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl Clock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}
