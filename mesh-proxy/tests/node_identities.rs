//! A node's proxy asks for the identities of the workloads on its node, and no others.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh_identity::{
    CertificateAuthority, IdentityError, IdentityManager, IdentitySource, IssueFuture, RotationSettings,
    SpiffeId, testing::Authority,
};
use mesh_policy::MissingPolicy;
use mesh_proxy::state::{Change, Protocol, StateStore, Workload, follow_local_identities};
use tokio::{task::JoinHandle, time::sleep};

const NODE: &str = "node-1";
const GRACE: Duration = Duration::from_secs(5);
/// Longer than anything that is due takes.
const A_WHILE: Duration = Duration::from_secs(1);

/// An authority that counts for whom it was called.
#[derive(Debug)]
struct Counting {
    authority: Authority,
    calls: Arc<Mutex<BTreeMap<SpiffeId, usize>>>,
}

impl CertificateAuthority for Counting {
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a> {
        *self.calls.lock().unwrap().entry(id.clone()).or_default() += 1;
        self.authority.issue(id, lifetime)
    }
}

struct Node {
    state: Arc<StateStore>,
    manager: IdentityManager,
    calls: Arc<Mutex<BTreeMap<SpiffeId, usize>>>,
    following: JoinHandle<std::convert::Infallible>,
}

impl Node {
    fn new(local_node: Option<&str>) -> Self {
        let calls = Arc::<Mutex<_>>::default();
        let authority = Counting { authority: Authority::new("example.org"), calls: Arc::clone(&calls) };
        let settings = RotationSettings::default().grace(GRACE);
        let manager = IdentityManager::builder(authority).settings(settings).spawn();
        let state = Arc::new(StateStore::new(local_node.map(Into::into), MissingPolicy::Deny));
        let permit = manager.clone();
        let follow = follow_local_identities(Arc::clone(&state), move |ids| permit.permit_only(ids).unwrap());
        Self { state, manager, calls, following: tokio::spawn(follow) }
    }

    /// The accounts that were asked for, each with the number of calls.
    fn calls(&self) -> Vec<(String, usize)> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|(id, count)| (id.as_str().rsplit('/').next().unwrap().to_owned(), *count)).collect()
    }

    fn knows(&self, account: &str) -> bool {
        self.manager.status(&id(account)).is_some()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.following.abort();
    }
}

fn id(account: &str) -> SpiffeId {
    format!("spiffe://example.org/ns/shop/sa/{account}").parse().unwrap()
}

fn pod(name: &str, account: &str, node: &str) -> Workload {
    let mut workload = Workload::new(format!("c//Pod/shop/{name}"), "example.org", "shop", account).unwrap();
    (workload.name, workload.node, workload.protocol) = (name.into(), node.into(), Protocol::Hbone);
    workload
}

fn upsert(workload: Workload) -> Change {
    Change::UpsertWorkload(Arc::new(workload))
}

fn remove(name: &str) -> Change {
    Change::RemoveWorkload(format!("c//Pod/shop/{name}").into())
}

// identity#59, identity#64
#[tokio::test(start_paused = true)]
async fn only_workloads_that_speak_hbone_on_this_node_are_asked_for() {
    let node = Node::new(Some(NODE));
    let mut plain = pod("plain-0", "plain", NODE);
    plain.protocol = Protocol::Tcp;
    let mut native = pod("native-0", "native", NODE);
    (native.protocol, native.native_tunnel) = (Protocol::Tcp, true);
    let nowhere = pod("nowhere-0", "nowhere", "");
    let workloads = [pod("cart-0", "cart", NODE), pod("stock-0", "stock", "node-2"), plain, native, nowhere];
    node.state.apply(workloads.map(upsert));
    sleep(A_WHILE).await;
    assert_eq!(node.calls(), [("cart".to_owned(), 1), ("native".to_owned(), 1)]);
    for account in ["stock", "plain", "nowhere", "made-up"] {
        let refused = node.manager.svid(&id(account)).await.unwrap_err();
        assert!(matches!(refused, IdentityError::Unknown { .. }), "{refused:?}");
    }
    assert_eq!(node.calls().len(), 2);
}

// identity#64
#[tokio::test(start_paused = true)]
async fn without_a_node_nothing_is_asked_for() {
    let node = Node::new(None);
    node.state.apply([upsert(pod("cart-0", "cart", NODE)), upsert(pod("stock-0", "stock", ""))]);
    sleep(A_WHILE).await;
    assert!(node.calls().is_empty());
}

// identity#61
#[tokio::test(start_paused = true)]
async fn an_account_is_asked_for_once_and_forgotten_with_its_last_workload() {
    let node = Node::new(Some(NODE));
    node.state.apply([upsert(pod("cart-0", "cart", NODE))]);
    sleep(A_WHILE).await;
    node.state.apply([upsert(pod("cart-1", "cart", NODE))]);
    sleep(A_WHILE).await;
    node.state.apply([remove("cart-0")]);
    sleep(GRACE * 2).await;
    assert!(node.knows("cart"));
    node.state.apply([remove("cart-1")]);
    sleep(GRACE / 2).await;
    assert!(node.knows("cart"));
    sleep(GRACE).await;
    assert!(!node.knows("cart"));
    assert_eq!(node.calls(), [("cart".to_owned(), 1)]);
}

// identity#62
#[tokio::test(start_paused = true)]
async fn another_service_account_in_place_forgets_the_one_before() {
    let node = Node::new(Some(NODE));
    node.state.apply([upsert(pod("cart-0", "cart", NODE))]);
    sleep(A_WHILE).await;
    node.state.apply([upsert(pod("cart-0", "other", NODE))]);
    sleep(GRACE * 2).await;
    assert!(!node.knows("cart") && node.knows("other"));
    // And so does another node.
    node.state.apply([upsert(pod("cart-0", "other", "node-2"))]);
    sleep(GRACE * 2).await;
    assert!(!node.knows("other"));
}

// identity#63
#[tokio::test(start_paused = true)]
async fn however_fast_workloads_come_and_go_none_is_missed() {
    let node = Node::new(Some(NODE));
    for round in 0..20 {
        for number in 0..200 {
            node.state.apply([upsert(pod(&format!("pod-{number}"), &format!("account-{number}"), NODE))]);
        }
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        for number in 1..200 {
            node.state.apply([remove(&format!("pod-{number}"))]);
        }
    }
    sleep(GRACE * 2).await;
    let statuses = node.manager.statuses().unwrap();
    assert_eq!(statuses.iter().map(|status| status.id.clone()).collect::<Vec<_>>(), [id("account-0")]);
}
