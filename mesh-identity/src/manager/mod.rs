//! Identities kept current: certificates fetched before they are needed and renewed before they end.

mod driver;
mod metrics;
mod moment;
mod roots;
mod rotation;
mod settings;
mod shared;
mod view;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::time_provider::TimeProvider;
use tokio::task::JoinHandle;

pub use self::{
    metrics::{FailureCounts, QueueLengths, RotationMetrics},
    settings::{RenewalWindow, RenewalWindowError, RotationSettings},
};

use self::{
    driver::Driver,
    shared::{Shared, Wait},
};
use crate::{
    CertificateAuthority, IdentityError, IdentitySource, IdentityStatus, SpiffeId, SvidFuture, TrustBundles,
    X509Svid, clock::SystemClock,
};

/// An [`IdentitySource`] that obtains certificates from an authority and keeps them current.
///
/// It serves the identities that were permitted, and asks for no others: nothing is permitted at first. A certificate is
/// fetched when its identity is permitted, or sooner if somebody waits for it; renewed at a random point of the
/// [renewal window](RotationSettings::renewal_window); and served until it ends, however often its renewal fails. Errors
/// are answers to those who waited while they happened, and to nobody later: whoever asks next has the authority asked
/// again, at most once per [`min_interval`](RotationSettings::min_interval).
///
/// Clones share everything. Dropping the last one ends the work at once, calls under way included.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let authority = mesh_identity::testing::Authority::new("example.org");
/// use mesh_identity::{IdentityManager, IdentitySource, SpiffeId};
///
/// let cart: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse()?;
/// let manager = IdentityManager::builder(authority).spawn();
/// manager.permit(&cart)?;
/// let svid = manager.svid(&cart).await?;
/// assert_eq!(svid.id(), &cart);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "testing"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct IdentityManager(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    request_timeout: std::time::Duration,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl IdentityManager {
    /// Starts to describe a manager that obtains certificates from `authority`.
    pub fn builder(authority: impl CertificateAuthority + 'static) -> IdentityManagerBuilder {
        IdentityManagerBuilder {
            authority: Arc::new(authority),
            settings: RotationSettings::default(),
            bundles: TrustBundles::default(),
            time: Arc::new(SystemClock),
            seed: None,
        }
    }

    /// Permits an identity and has its certificate fetched. One that is permitted already stays as it is.
    ///
    /// # Errors
    ///
    /// If there are [too many](RotationSettings::max_identities).
    pub fn permit(&self, id: &SpiffeId) -> Result<(), TooManyIdentities> {
        if self.0.shared.permit(id) { Ok(()) } else { Err(TooManyIdentities { refused: 1 }) }
    }

    /// Withdraws an identity: no more calls are made for it, and whoever waits for one hears that it is unknown. Its
    /// certificate serves what is still open for the [grace period](RotationSettings::grace).
    pub fn withdraw(&self, id: &SpiffeId) {
        self.0.shared.withdraw(id);
    }

    /// Permits exactly these identities, and withdraws all others. Costs time in proportion to the number of both.
    ///
    /// # Errors
    ///
    /// If there are [too many](RotationSettings::max_identities): some are not permitted.
    pub fn permit_only(&self, ids: &HashSet<SpiffeId>) -> Result<(), TooManyIdentities> {
        match self.0.shared.permit_only(ids) {
            0 => Ok(()),
            refused => Err(TooManyIdentities { refused }),
        }
    }

    /// How an identity is; `None` if it is none of ours.
    pub fn status(&self, id: &SpiffeId) -> Option<IdentityStatus> {
        self.0.shared.status_of(id)
    }

    /// Numbers for operators. Costs time in proportion to the number of identities.
    pub fn metrics(&self) -> RotationMetrics {
        self.0.shared.metrics()
    }

    /// Ends the work, and waits until calls under way have been dropped. Certificates stay readable until they expire.
    ///
    /// # Cancel safety
    ///
    /// The work ends even if the future is dropped.
    pub async fn shut_down(&self) {
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // Aborted, which is what was asked for.
            let _ = task.await;
        }
    }
}

impl IdentitySource for IdentityManager {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        Box::pin(async move {
            let shared = &self.0.shared;
            if let Some(svid) = shared.current(id) {
                return Ok(svid);
            }
            let mut outcome = match shared.request(id) {
                Wait::Over(outcome) => return outcome,
                Wait::For(outcome) => outcome,
            };
            let unavailable =
                |reason: String| Err(IdentityError::Unavailable { id: id.clone(), reason: reason.into() });
            let limit = self.0.request_timeout;
            match tokio::time::timeout(limit, outcome.wait_for(Option::is_some)).await {
                Ok(Ok(outcome)) => match &*outcome {
                    Some(outcome) => outcome.clone(),
                    None => unavailable("no answer".to_owned()),
                },
                Ok(Err(_closed)) => unavailable("the identity manager has been shut down".to_owned()),
                Err(_elapsed) => unavailable(format!("none came within {} ms", limit.as_millis())),
            }
        })
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.0.shared.current(id)
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        self.0.shared.view.bundles()
    }

    fn generation(&self) -> u64 {
        self.0.shared.view.generation()
    }

    fn statuses(&self) -> Option<Vec<IdentityStatus>> {
        Some(self.0.shared.statuses())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for IdentityManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityManager").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

/// Collects what an [`IdentityManager`] works with.
#[derive(Debug)]
#[must_use = "a builder does nothing until it spawns"]
pub struct IdentityManagerBuilder {
    authority: Arc<dyn CertificateAuthority>,
    settings: RotationSettings,
    bundles: TrustBundles,
    time: Arc<dyn TimeProvider>,
    seed: Option<u64>,
}

impl IdentityManagerBuilder {
    /// Sets how certificates are rotated.
    pub fn settings(self, settings: RotationSettings) -> Self {
        Self { settings, ..self }
    }

    /// Trusts these besides what the authority names, for instance the bundles of federated trust domains.
    pub fn bundles(self, bundles: TrustBundles) -> Self {
        Self { bundles, ..self }
    }

    /// Reads the wall clock, by which certificates are valid, from here instead of the system.
    pub fn time_provider(self, time: Arc<dyn TimeProvider>) -> Self {
        Self { time, ..self }
    }

    /// Draws jitter from this seed instead of a random one.
    pub fn jitter_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// Starts the manager, as one task on the present tokio runtime, beside one for each call.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its clock enabled.
    pub fn spawn(self) -> IdentityManager {
        let Self { authority, settings, bundles, time, seed } = self;
        let random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let (lifetime, call_timeout) = (settings.lifetime, settings.call_timeout);
        let request_timeout = settings.request_timeout;
        let shared = Arc::new(Shared::new(settings, &bundles, time, random));
        let driver = Driver { shared: Arc::clone(&shared), authority, lifetime, call_timeout };
        let task = Mutex::new(Some(tokio::spawn(driver.run())));
        IdentityManager(Arc::new(Handle { shared, request_timeout, task }))
    }
}

/// More identities than a manager may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{refused} identities are too many")]
pub struct TooManyIdentities {
    refused: usize,
}
