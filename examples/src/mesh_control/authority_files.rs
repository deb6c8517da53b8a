//! An authority in a folder, in the files of Istio's secret `cacerts`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use mesh_identity::TrustDomain;
use rustls::{ServerConfig, crypto::CryptoProvider};
use thiserror::Error;

use super::{
    authority::{Authority, AuthorityError, AuthorityPem},
    reread::Reread,
};

/// An authority with its server's certificate, and again when its files change.
pub(super) struct AuthoritySource {
    current: Reread<AuthorityPem, Ready>,
    folder: Option<PathBuf>,
    setup: Setup,
}

/// What does not change.
struct Setup {
    server_names: Vec<String>,
    provider: Arc<CryptoProvider>,
    write_root: Option<PathBuf>,
}

/// An authority and how its own server proves its names.
pub(super) struct Ready {
    pub(super) authority: Authority,
    pub(super) server: Arc<ServerConfig>,
}

impl AuthoritySource {
    /// Reads the authority in `folder`, makes one there if there is none, or makes one in memory.
    pub(super) async fn open(
        folder: Option<PathBuf>,
        trust_domain: &TrustDomain,
        server_names: Vec<String>,
        provider: Arc<CryptoProvider>,
        write_root: Option<PathBuf>,
    ) -> Result<Self, AuthorityFilesError> {
        let setup = Setup { server_names, provider, write_root };
        let generate = || {
            AuthorityPem::generate(trust_domain, SystemTime::now())
                .map_err(|error| AuthorityFilesError::Authority(AuthorityError::Issuer(error)))
        };
        let pem = match &folder {
            None => generate()?,
            Some(folder) => match read(folder).await {
                Err(AuthorityFilesError::File { path, source })
                    if source.kind() == io::ErrorKind::NotFound && path.ends_with(CERTIFICATE) =>
                {
                    let pem = generate()?;
                    keep(folder, &pem).await?;
                    pem
                }
                read => read?,
            },
        };
        let ready = setup.make(&pem)?;
        Ok(Self { current: Reread::new("the authority", pem, ready), folder, setup })
    }

    /// The authority as its files are now.
    pub(super) async fn get(&self) -> Arc<Ready> {
        let Some(folder) = &self.folder else {
            return self.current.last().await;
        };
        self.current.get(read(folder).await, |pem| self.setup.make(pem)).await
    }
}

impl Setup {
    fn make(&self, pem: &AuthorityPem) -> Result<Ready, AuthorityFilesError> {
        let authority = Authority::new(pem)?;
        let server = authority.server_config(&self.server_names, &self.provider, SystemTime::now())?;
        if let Some(path) = &self.write_root {
            // A reader sees the old roots or the new ones.
            let draft = path.with_extension("draft");
            std::fs::write(&draft, authority.roots())
                .and_then(|()| std::fs::rename(&draft, path))
                .map_err(|source| AuthorityFilesError::File { path: path.clone(), source })?;
        }
        Ok(Ready { authority, server })
    }
}

async fn read(folder: &Path) -> Result<AuthorityPem, AuthorityFilesError> {
    let text = |name: &str| {
        let path = folder.join(name);
        async move {
            tokio::fs::read_to_string(&path)
                .await
                .map_err(|source| AuthorityFilesError::File { path, source })
        }
    };
    let optional = |read: Result<String, AuthorityFilesError>| match read {
        Err(AuthorityFilesError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        read => read,
    };
    Ok(AuthorityPem {
        certificate: text(CERTIFICATE).await?,
        key: text(KEY).await?,
        roots: optional(text(ROOTS).await)?,
        chain: optional(text(CHAIN).await)?,
    })
}

/// Writes a new authority; its key first, readable by nobody else.
async fn keep(folder: &Path, pem: &AuthorityPem) -> Result<(), AuthorityFilesError> {
    let failed = |path: PathBuf| move |source| AuthorityFilesError::File { path, source };
    tokio::fs::create_dir_all(folder).await.map_err(failed(folder.to_owned()))?;
    let key = folder.join(KEY);
    let mut options = tokio::fs::OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(&key).await.map_err(failed(key.clone()))?;
    let write = async {
        tokio::io::AsyncWriteExt::write_all(&mut file, pem.key.as_bytes()).await?;
        file.sync_all().await
    };
    write.await.map_err(failed(key))?;
    for name in [ROOTS, CERTIFICATE] {
        let path = folder.join(name);
        tokio::fs::write(&path, &pem.certificate).await.map_err(failed(path))?;
    }
    Ok(())
}

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOTS: &str = "root-cert.pem";
const CHAIN: &str = "cert-chain.pem";

/// Why there is no authority.
#[derive(Debug, Error)]
pub enum AuthorityFilesError {
    /// Its files are no good.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A file cannot be read or written.
    #[error("{}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
