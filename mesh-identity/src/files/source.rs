//! An identity that lives in files.

use std::{
    convert::Infallible,
    fmt,
    future::ready,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;

use super::{
    CredentialFiles, FileError, FileWatch,
    read::{Looks, read},
    retry::Retry,
};
use crate::{
    IdentityError, IdentitySource, IdentityStatus, Revocation, SpiffeId, SvidFuture, TrustBundle,
    TrustBundles, TrustDomain, VerifyError, X509Svid, verify::check_own,
};

/// One identity from files, and the roots beside it: read as a unit, and again when they change.
///
/// A reading counts as a whole or not at all: a key that is not the certificate's, a broken root, a certificate that no peer
/// would take or files that are replaced meanwhile leave the identity before in place, and show in the
/// [status](Self::status). What may pass by itself, as that a file could not be read, is tried again. Clones share
/// everything. Somebody has to drive [`follow`](Self::follow), or call [`reload`](Self::reload).
///
/// ```no_run
/// # async fn example(provider: std::sync::Arc<rustls::crypto::CryptoProvider>) -> Result<(), Box<dyn std::error::Error>> {
/// use mesh_identity::{CertSelector, CredentialFiles, ExpectedPeer, FileSource, ServerConfigBuilder};
///
/// let source = FileSource::open(CredentialFiles::istio("/etc/certs"), provider.clone())?;
/// tokio::spawn({
///     let source = source.clone();
///     async move { source.follow().await }
/// });
/// let id = source.id();
/// let config = ServerConfigBuilder::new(provider)
///     .identity(source, CertSelector::fixed(id.clone()))
///     .expect_peer(ExpectedPeer::trust_domain(id.trust_domain().clone()))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileSource(Arc<Shared>);

struct Shared {
    files: CredentialFiles,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Credentials>,
    generation: AtomicU64,
    /// Held from before the files are read until what they say counts: of two readings the later one is to stay.
    reading: Mutex<()>,
    status: Mutex<Outcome>,
}

struct Credentials {
    svid: Arc<X509Svid>,
    bundles: Arc<TrustBundles>,
}

#[derive(Default)]
struct Outcome {
    failed_loads: u64,
    last_error: Option<Arc<str>>,
    /// What was read last, well or ill.
    looks: Option<Looks>,
}

impl FileSource {
    /// Reads the files, which blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// If they make no identity: an identity that is wrong at start is a mistake somebody wants to hear of.
    pub fn open(files: CredentialFiles, provider: Arc<CryptoProvider>) -> Result<Self, FileError> {
        let (credentials, looks) = load(&files, &provider)?;
        Ok(Self(Arc::new(Shared {
            files,
            provider,
            current: ArcSwap::from_pointee(credentials),
            generation: AtomicU64::new(0),
            reading: Mutex::default(),
            status: Mutex::new(Outcome { looks: Some(looks), ..Outcome::default() }),
        })))
    }

    /// Whose identity it is. May change when the files do.
    pub fn id(&self) -> SpiffeId {
        self.0.current.load().svid.id().clone()
    }

    /// Reads the files now, which blocks for as long as that takes, and for as long as somebody else's reading.
    ///
    /// # Errors
    ///
    /// If they make no identity. The one before stays.
    pub fn reload(&self) -> Result<(), FileError> {
        let _reading = self.0.reading.lock().unwrap_or_else(PoisonError::into_inner);
        match load(&self.0.files, &self.0.provider) {
            Ok((credentials, looks)) => {
                self.0.current.store(Arc::new(credentials));
                self.0.generation.fetch_add(1, Ordering::Release);
                let mut outcome = self.outcome();
                outcome.last_error = None;
                outcome.looks = Some(looks);
                Ok(())
            }
            Err(error) => {
                let mut outcome = self.outcome();
                outcome.failed_loads += 1;
                outcome.last_error = Some(error.chain().into());
                Err(error)
            }
        }
    }

    /// Reads the files whenever they change, for as long as it is polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops it; a later call begins with what changed meanwhile.
    pub async fn follow(&self) -> Infallible {
        self.follow_with(FileWatch::new(self.0.files.paths())).await
    }

    /// The same with a watch of other timing. What it was made to watch is not looked at.
    ///
    /// # Cancel safety
    ///
    /// As [`follow`](Self::follow).
    pub async fn follow_with(&self, watch: FileWatch) -> Infallible {
        let mut watch = watch.watching(self.0.files.paths());
        if let Some(looks) = self.outcome().looks.clone() {
            watch.was_read(looks);
        }
        let mut retry = Retry::default();
        loop {
            retry.next(&mut watch).await;
            let source = self.clone();
            match tokio::task::spawn_blocking(move || source.reload()).await {
                Ok(Err(FileError::Changing)) | Err(_) => watch.read_again(),
                Ok(Err(error)) if error.may_pass() => retry.failed(),
                Ok(_) => retry.done(),
            }
        }
    }

    /// How it stands, for people and metrics.
    pub fn status(&self) -> FileStatus {
        let current = self.0.current.load();
        let outcome = self.outcome();
        FileStatus {
            id: current.svid.id().clone(),
            serial: current.svid.serial().into(),
            not_before: current.svid.not_before(),
            not_after: current.svid.not_after(),
            loads: self.generation() + 1,
            failed_loads: outcome.failed_loads,
            last_error: outcome.last_error.clone(),
        }
    }

    /// Whether the identity itself is revoked, which its peers will refuse it for: the reason, if so.
    pub fn revoked_by(&self, revocation: &Revocation) -> Option<VerifyError> {
        let current = self.0.current.load();
        revocation.revokes(&current.svid, &current.bundles, &self.0.provider, SystemTime::now())
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdentitySource for FileSource {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        Box::pin(ready(self.try_svid(id).ok_or_else(|| IdentityError::Unknown { id: id.clone() })))
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        let current = self.0.current.load();
        (current.svid.id() == id).then(|| Arc::clone(&current.svid))
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        Arc::clone(&self.0.current.load().bundles)
    }

    fn statuses(&self) -> Option<Vec<IdentityStatus>> {
        let svid = Arc::clone(&self.0.current.load().svid);
        let mut status = IdentityStatus::at(svid.id().clone(), Some(svid), SystemTime::now());
        status.last_error.clone_from(&self.outcome().last_error);
        Some(vec![status])
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("files", &self.0.files)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// How an identity from files stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStatus {
    /// Whose it is.
    pub id: SpiffeId,
    /// The leaf's serial number in decimal.
    pub serial: Box<str>,
    /// The first moment it is valid.
    pub not_before: SystemTime,
    /// The last moment it is valid.
    pub not_after: SystemTime,
    /// How often the files were read and taken.
    pub loads: u64,
    /// How often they were refused, and the identity before stayed.
    pub failed_loads: u64,
    /// Why, if that was the last that happened.
    pub last_error: Option<Arc<str>>,
}

fn load(files: &CredentialFiles, provider: &CryptoProvider) -> Result<(Credentials, Looks), FileError> {
    let paths = files.paths();
    let before = Looks::now(&paths);
    let chain = read(&files.chain, LIMIT)?;
    let key = read(&files.key, LIMIT)?;
    let svid = X509Svid::from_pem(&chain, &key, provider).map_err(|source| {
        if Looks::now(&paths) != before {
            return FileError::Changing;
        }
        FileError::Svid { chain: files.chain.clone(), key: files.key.clone(), source }
    })?;
    let own = svid.id().trust_domain().clone();
    let mut bundles = TrustBundles::new([bundle(own.clone(), &files.roots)?]);
    for (trust_domain, path) in &files.federated {
        bundles.add(bundle(trust_domain.clone(), path)?);
    }
    for alias in &files.aliases {
        bundles = bundles.alias(alias.clone(), &own);
    }
    if Looks::now(&paths) != before {
        return Err(FileError::Changing);
    }
    if svid.not_after() < SystemTime::now() {
        return Err(FileError::Expired { path: files.chain.clone(), not_after: svid.not_after() });
    }
    let bundles = Arc::new(bundles);
    check_own(&svid, &bundles, provider, SystemTime::now())
        .map_err(|source| FileError::Unacceptable { path: files.chain.clone(), source })?;
    Ok((Credentials { svid: Arc::new(svid), bundles }, before))
}

fn bundle(trust_domain: TrustDomain, path: &Path) -> Result<TrustBundle, FileError> {
    let text = read(path, LIMIT)?;
    let roots = |source| FileError::Roots { path: path.to_owned(), source };
    TrustBundle::from_pem(trust_domain, &text).map_err(roots)
}

/// Bytes of a file: some hundred certificates.
const LIMIT: u64 = 1024 * 1024;
