//! An authority in a folder, in the files of Istio's secret `cacerts`.

use std::{
    fs::{self, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
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
    current: Reread<Ready>,
    folder: Option<PathBuf>,
    setup: Arc<Setup>,
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
        let setup = Arc::new(Setup { server_names, provider, write_root });
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
        let ready = setup.clone().make(pem.clone()).await?;
        Ok(Self { current: Reread::new("the authority", &pem, ready), folder, setup })
    }

    /// The authority as its files are now.
    pub(super) async fn get(&self) -> Arc<Ready> {
        let Some(folder) = &self.folder else {
            return self.current.last().await;
        };
        self.current.get(async || read(folder).await, async |pem| self.setup.clone().make(pem).await).await
    }

    /// The authority as its files were a moment ago: for who is not known yet.
    pub(super) async fn recent(&self) -> Arc<Ready> {
        let Some(folder) = &self.folder else {
            return self.current.last().await;
        };
        self.current.recent(async || read(folder).await, async |pem| self.setup.clone().make(pem).await).await
    }
}

impl Setup {
    /// Makes an authority, and writes its roots where they are wanted, on a thread that may wait.
    async fn make(self: Arc<Self>, pem: AuthorityPem) -> Result<Ready, AuthorityFilesError> {
        let made = tokio::task::spawn_blocking(move || {
            let authority = Authority::new(&pem)?;
            let server = authority.server_config(&self.server_names, &self.provider, SystemTime::now())?;
            if let Some(path) = &self.write_root {
                replace(path, authority.roots())
                    .map_err(|source| AuthorityFilesError::File { path: path.clone(), source })?;
            }
            Ok(Ready { authority, server })
        });
        made.await.unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
    }
}

/// Replaces a file at once: a reader sees the old text or the new one. No other file is touched.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", RandomState::new().hash_one(path)));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // What the error says is what matters.
        let _ = fs::remove_file(&draft);
    }
    written
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
        key: text(KEY).await?.into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_replaced_at_once_and_nothing_beside_them_is_touched() {
        let folder = std::env::temp_dir().join(format!("mesh-control-roots-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let path = folder.join("root.pem");
        fs::write(folder.join("root.draft"), "notes").unwrap();
        for text in ["one", "two"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(), ["root.draft", "root.pem"]);
        assert_eq!(fs::read_to_string(folder.join("root.draft")).unwrap(), "notes");
        // A folder is in the way.
        let taken = folder.join("taken");
        fs::create_dir(&taken).unwrap();
        replace(&taken, "three").unwrap_err();
        assert_eq!(names(), ["root.draft", "root.pem", "taken"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
