//! An authority to call, and how.

use std::{
    error::Error,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use examples::mesh_control::{Options, Server};
use mesh_identity::{
    CertificateAuthority, IssueError, IssueFault, IssuedSvid, IstioCa, IstioCaBuilder, IstioCaError,
    RootSource, SpiffeId, testing::provider,
};
use tokio::task::JoinHandle;

pub(crate) const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
pub(crate) const STOCK: &str = "spiffe://cluster.local/ns/shop/sa/stock";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// An authority that runs, and a folder for its files; both end with the value.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) roots: String,
    task: JoinHandle<()>,
    pub(crate) folder: Folder,
}

impl Running {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_in(Folder::new(), arguments).await
    }

    /// `DIR` in an argument is the folder.
    pub(crate) async fn start_in(folder: Folder, arguments: &[&str]) -> Self {
        let folder_name = folder.0.to_str().unwrap();
        let arguments = arguments.iter().map(|argument| argument.replace("DIR", folder_name).into());
        let options = Options::from_arguments(["--listen=127.0.0.1:0".into()].into_iter().chain(arguments));
        let server = Server::bind(options.unwrap(), provider()).await.unwrap();
        let (address, roots) = (server.address().unwrap(), server.roots().await);
        Self { address, roots, task: tokio::spawn(server.run()), folder }
    }

    pub(crate) fn client(&self) -> IstioCaBuilder {
        IstioCa::builder(self.address.parse().unwrap(), provider()).roots(RootSource::pem(self.roots.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("mesh-control-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub(crate) async fn issue(ca: &IstioCa, of: &str, lifetime: Duration) -> Result<IssuedSvid, IssueError> {
    ca.issue(&id(of), lifetime).await
}

pub(crate) fn cause(error: &IssueError) -> &IstioCaError {
    error.source().unwrap().downcast_ref().unwrap()
}

pub(crate) fn refused_with(result: Result<IssuedSvid, IssueError>) -> &'static str {
    let error = result.unwrap_err();
    assert_eq!(error.fault(), IssueFault::Refused, "{error:?}");
    match cause(&error) {
        IstioCaError::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn workload(name: &str, node: &str) -> String {
    format!(
        "- uid: Kubernetes//Pod/shop/{name}\n  name: {name}\n  namespace: shop\n  serviceAccount: {name}\n  \
         node: {node}\n  workloadIps: []\n  services: {{}}\n"
    )
}
