//! What identities cost in memory.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::HashSet;

use mesh_identity::{IdentityManager, IdentitySource, SpiffeId, testing::Authority};

fn ids(prefix: &str, count: usize) -> HashSet<SpiffeId> {
    (0..count).map(|n| format!("spiffe://example.org/ns/shop/sa/{prefix}-{n}").parse().unwrap()).collect()
}

/// What is in memory of this process. The library for cryptography allocates keys by itself, so that counting
/// allocations of Rust would not see them.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn ten_thousand_identities_take_at_most_30_mib() {
    let manager = IdentityManager::builder(Authority::new("example.org")).spawn();
    let available = async |ids: &HashSet<SpiffeId>| {
        manager.permit_only(ids).unwrap();
        for id in ids {
            manager.svid(id).await.unwrap();
        }
    };
    // What is allocated once is not what an identity costs.
    available(&ids("first", 10)).await;
    let wanted = ids("cart", 10_000);
    let before = resident_kib();
    available(&wanted).await;
    let taken = resident_kib() - before;
    println!("{taken} KiB for 10,000 identities");
    assert!(taken <= 30 * 1024, "{taken} KiB");
}
