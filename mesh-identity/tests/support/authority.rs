//! An authority that does as it is told, on tokio's clock.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_identity::{
    CertificateAuthority, IssueError, IssueFault, IssueFuture, IssuedSvid, SpiffeId, TrustBundle,
    testing::Authority,
};
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use tokio::time::Instant;

/// A wall clock that goes with tokio's, and counts how often it is read.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    stepped: AtomicI64,
    readings: AtomicUsize,
}

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), stepped: AtomicI64::new(0), readings: AtomicUsize::new(0) })
    }

    pub(crate) fn now(&self) -> SystemTime {
        let stepped = self.stepped.load(Ordering::Relaxed);
        let seconds = 1_800_000_000_i64 + stepped;
        UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap()) + self.start.elapsed()
    }

    pub(crate) fn step(&self, seconds: i64) {
        self.stepped.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn readings(&self) -> usize {
        self.readings.load(Ordering::Relaxed)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.readings.fetch_add(1, Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(self.now().duration_since(UNIX_EPOCH).unwrap()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Hangs,
    Issues,
    IssuesFor(&'static str),
    Panics,
    Refuses,
    Unreachable,
}

#[derive(Debug)]
pub(crate) struct ScriptedAuthority {
    pub(crate) clock: Arc<Clock>,
    script: Mutex<Script>,
    /// Calls under way, and the most there were.
    under_way: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Debug)]
struct Script {
    signer: Arc<Authority>,
    roots: TrustBundle,
    mood: Mood,
    latency: Duration,
    lifetime: Option<Duration>,
    calls: HashMap<SpiffeId, usize>,
}

impl ScriptedAuthority {
    pub(crate) fn new() -> Arc<Self> {
        let signer = Arc::new(Authority::new("example.org"));
        let script = Script {
            roots: signer.bundle(),
            signer,
            mood: Mood::Issues,
            latency: Duration::from_millis(10),
            lifetime: None,
            calls: HashMap::new(),
        };
        Arc::new(Self {
            clock: Clock::new(),
            script: Mutex::new(script),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.script.lock().unwrap().mood = mood;
    }

    pub(crate) fn latency(&self, latency: Duration) {
        self.script.lock().unwrap().latency = latency;
    }

    pub(crate) fn lifetime(&self, lifetime: Duration) {
        self.script.lock().unwrap().lifetime = Some(lifetime);
    }

    pub(crate) fn signer(&self) -> Arc<Authority> {
        Arc::clone(&self.script.lock().unwrap().signer)
    }

    /// Signs with this from now on, and names these roots.
    pub(crate) fn rotate(&self, signer: &Arc<Authority>, roots: &[&Authority]) {
        let mut script = self.script.lock().unwrap();
        script.signer = Arc::clone(signer);
        let domain = "example.org".parse().unwrap();
        script.roots = TrustBundle::from_der(domain, roots.iter().map(|root| root.root())).unwrap();
    }

    pub(crate) fn calls(&self, id: &SpiffeId) -> usize {
        self.script.lock().unwrap().calls.get(id).copied().unwrap_or(0)
    }

    pub(crate) fn all_calls(&self) -> usize {
        self.script.lock().unwrap().calls.values().sum()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(crate) fn most_under_way(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn answer(&self, id: &SpiffeId, lifetime: Duration) -> Result<IssuedSvid, IssueError> {
        let (signer, roots, mood, fixed) = {
            let script = self.script.lock().unwrap();
            (Arc::clone(&script.signer), script.roots.clone(), script.mood.clone(), script.lifetime)
        };
        let name = match mood {
            Mood::Issues => id.as_str(),
            Mood::IssuesFor(other) => other,
            Mood::Panics => panic!("as told"),
            Mood::Refuses => return Err(IssueError::new(IssueFault::Refused, "no such account")),
            Mood::Hangs | Mood::Unreachable => {
                return Err(IssueError::new(IssueFault::Unreachable, "connection refused"));
            }
        };
        let now = self.clock.now();
        let leaf = signer.leaf(name).valid(now, now + fixed.unwrap_or(lifetime));
        Ok(IssuedSvid { svid: leaf.issue().svid().unwrap(), bundle: roots })
    }
}

impl CertificateAuthority for ScriptedAuthority {
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a> {
        let under_way = UnderWay::new(self);
        let (latency, mood) = {
            let mut script = self.script.lock().unwrap();
            *script.calls.entry(id.clone()).or_default() += 1;
            (script.latency, script.mood.clone())
        };
        Box::pin(async move {
            let _under_way = under_way;
            if mood == Mood::Hangs {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(latency).await;
            self.answer(id, lifetime)
        })
    }
}

struct UnderWay<'a>(&'a ScriptedAuthority);

impl<'a> UnderWay<'a> {
    fn new(authority: &'a ScriptedAuthority) -> Self {
        let now = authority.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        authority.most.fetch_max(now, Ordering::Relaxed);
        Self(authority)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
