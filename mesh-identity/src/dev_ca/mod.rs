//! An authority for development, whose private key everybody knows.

use std::{
    collections::HashMap,
    fmt,
    future::ready,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{Issuer, KeyPair, SerialNumber};
use rustls::{
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};

use crate::{
    IdentityError, IdentitySource, PemSvid, SpiffeId, SvidFuture, TrustBundle, TrustBundles, TrustDomain,
    X509Svid,
    issue::{Issued, leaf_params},
};

/// A certificate authority for development: **its private key is published with this crate**, so that whoever
/// reaches a mesh which trusts it can be anybody there.
///
/// It issues an identity for whatever id it is asked for, in any trust domain, when it is first asked, and
/// again past half of its 24 hours. All processes that use it trust each other without any set-up: that is
/// its purpose.
pub struct DevCa {
    issuer: Issuer<'static, KeyPair>,
    bundles: Arc<TrustBundles>,
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
    issued: Mutex<HashMap<SpiffeId, Entry>>,
    generation: AtomicU64,
    /// When the first of the issued certificates is to be renewed, in seconds since the epoch.
    due: AtomicU64,
}

struct Entry {
    svid: Arc<X509Svid>,
    issued: Issued,
    renew_at: u64,
}

impl DevCa {
    /// Makes the authority; all values have the same root.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        let key = KeyPair::from_pem(ROOT_KEY).expect("the committed key is a key");
        let issuer = Issuer::from_ca_cert_pem(ROOT, key).expect("the committed root is a certificate");
        let nominal = NOMINAL_TRUST_DOMAIN.parse().expect("the constant is a trust domain");
        Self {
            issuer,
            bundles: Arc::new(TrustBundles::for_any_trust_domain(root_of(nominal))),
            provider,
            time: Arc::new(DefaultTimeProvider),
            issued: Mutex::default(),
            generation: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
        }
    }

    /// Reads the time from here instead of the system's clock.
    #[must_use]
    pub fn time_provider(self, time: Arc<dyn TimeProvider>) -> Self {
        Self { time, ..self }
    }

    /// The root certificate, for other programs that are to trust this authority.
    pub fn root_pem() -> &'static str {
        ROOT
    }

    /// The current SVID of `id` with its private key, for other programs that are to be `id`.
    ///
    /// # Errors
    ///
    /// If there is no source of time or randomness.
    pub fn export(&self, id: &SpiffeId) -> Result<PemSvid, IdentityError> {
        self.with_current(id, |entry| entry.issued.pem())
    }

    fn with_current<T>(&self, id: &SpiffeId, read: impl FnOnce(&Entry) -> T) -> Result<T, IdentityError> {
        let unavailable =
            |reason: String| IdentityError::Unavailable { id: id.clone(), reason: reason.into() };
        let now = self.now().ok_or_else(|| unavailable("the time is unknown".into()))?;
        self.retire(now);
        let mut issued = self.lock();
        if let Some(entry) = issued.get(id) {
            return Ok(read(entry));
        }
        let entry = self.issue_for_cache(id, now).map_err(unavailable)?;
        self.due.fetch_min(entry.renew_at, Ordering::Relaxed);
        Ok(read(issued.entry(id.clone()).or_insert(entry)))
    }

    /// A certificate outside of the cache, for whoever keeps certificates himself.
    pub(crate) fn sign(&self, id: &SpiffeId, lifetime: Duration) -> Result<X509Svid, String> {
        let now = self.now().ok_or("the time is unknown")?;
        let issued = self.issue(id, UNIX_EPOCH + Duration::from_secs(now), lifetime)?;
        issued.svid(&self.provider).map_err(|error| error.to_string())
    }

    /// The root, as that of one trust domain.
    pub(crate) fn bundle_of(&self, trust_domain: &TrustDomain) -> TrustBundle {
        root_of(trust_domain.clone())
    }

    fn issue_for_cache(&self, id: &SpiffeId, now: u64) -> Result<Entry, String> {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        let issued = self.issue(id, now, LIFETIME)?;
        let svid = issued.svid(&self.provider).map_err(|error| error.to_string())?;
        let half = now + LIFETIME / 2;
        let renew_at = half.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Entry { svid: Arc::new(svid), issued, renew_at })
    }

    fn issue(&self, id: &SpiffeId, now: SystemTime, lifetime: Duration) -> Result<Issued, String> {
        let not_before = now.checked_sub(CLOCK_SKEW).unwrap_or(UNIX_EPOCH);
        let not_after = now.checked_add(lifetime.min(MAX_LIFETIME)).ok_or("no such time")?;
        let mut params =
            leaf_params(id.as_str(), not_before, not_after).map_err(|error| error.to_string())?;
        params.serial_number = Some(self.serial()?);
        KeyPair::generate()
            .and_then(|key| Issued::sign(&params, key, &self.issuer, &[]))
            .map_err(|error| error.to_string())
    }

    /// 127 random bits: positive, and of one length.
    fn serial(&self) -> Result<SerialNumber, String> {
        let mut serial = [0; 16];
        self.provider.secure_random.fill(&mut serial).map_err(|_| "no random numbers".to_owned())?;
        let [first, ..] = &mut serial;
        *first = *first & 0x7f | 0x40;
        Ok(SerialNumber::from_slice(&serial))
    }

    /// Drops what is past half of its life, to be issued anew when it is next asked for; who never asks again
    /// costs nothing.
    fn retire(&self, now: u64) {
        if now < self.due.load(Ordering::Relaxed) {
            return;
        }
        let mut issued = self.lock();
        let before = issued.len();
        issued.retain(|_, entry| now < entry.renew_at);
        let due = issued.values().map(|entry| entry.renew_at).min().unwrap_or(u64::MAX);
        self.due.store(due, Ordering::Relaxed);
        if issued.len() != before {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    fn now(&self) -> Option<u64> {
        self.time.current_time().map(|now| now.as_secs())
    }

    /// A panic while the lock was held leaves the map whole: an entry is there or not.
    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, Entry>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdentitySource for DevCa {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        Box::pin(ready(self.with_current(id, |entry| Arc::clone(&entry.svid))))
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.with_current(id, |entry| Arc::clone(&entry.svid)).ok()
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        Arc::clone(&self.bundles)
    }

    fn generation(&self) -> u64 {
        // Whoever caches by generation asks for nothing else meanwhile: a renewal that is due has to show
        // here.
        if let Some(now) = self.now() {
            self.retire(now);
        }
        self.generation.load(Ordering::Acquire)
    }
}

impl fmt::Debug for DevCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevCa").field("issued", &self.lock().len()).finish_non_exhaustive()
    }
}

fn root_of(trust_domain: TrustDomain) -> TrustBundle {
    TrustBundle::from_pem(trust_domain, ROOT.as_bytes()).expect("the committed root is a root")
}

const ROOT: &str = include_str!("publicly-known-development-root.crt.pem");
const ROOT_KEY: &str = include_str!("publicly-known-development-root.key.pem");

/// What the one bundle is listed under; it vouches for all trust domains.
const NOMINAL_TRUST_DOMAIN: &str = "development.invalid";

/// As a mesh authority issues by default.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// As a mesh authority allows by default.
const MAX_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How far a peer's clock may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(2 * 60);

#[cfg(test)]
mod tests;
