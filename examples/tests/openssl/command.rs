//! The command line of OpenSSL, and an authority made with it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    sync::atomic::{AtomicUsize, Ordering},
};

use mesh_identity::{IdentityStore, SvidError, TrustBundle, TrustBundles, X509Svid, testing::provider};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The program in a folder of its own, which goes with the value.
pub(crate) struct OpenSsl {
    folder: PathBuf,
}

impl OpenSsl {
    /// `None`, with a banner, if it is not installed.
    pub(crate) fn find() -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let path = env::var_os("PATH").unwrap_or_default();
        if !env::split_paths(&path).any(|directory| directory.join("openssl").is_file()) {
            let required = env::var_os("MESH_REQUIRE").unwrap_or_default();
            let required = required.to_string_lossy().split(',').any(|it| it == "peers");
            assert!(
                !required,
                "openssl is missing and MESH_REQUIRE wants it: install the Debian package openssl"
            );
            let line = "!".repeat(100);
            eprintln!(
                "\n{line}\nNOT TESTED: openssl is missing; it comes with the Debian package openssl\n{line}"
            );
            return None;
        }
        let name = format!("mesh-openssl-{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Some(Self { folder })
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) {
        let output = self.command().args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    /// Makes `<name>.key`, as OpenSSL writes keys by itself: PKCS#8.
    pub(crate) fn key(&self, name: &str, kind: Key) {
        self.run(&format!("genpkey -quiet {} -out {name}.key", kind.options()));
    }

    /// Makes a root: `<name>.pem` and its key.
    pub(crate) fn root(&self, name: &str, kind: Key) {
        self.key(name, kind);
        let extensions =
            "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign";
        let subject = format!("/O=example.org/CN={name}");
        self.run(&format!("req -x509 -key {name}.key -days 30 -subj {subject} {extensions} -out {name}.pem"));
    }

    /// Makes a certificate, `<name>.pem`, for a key that is there, valid for a day, signed by `issuer`.
    pub(crate) fn certificate(
        &self,
        name: &str,
        issuer: &str,
        subject: &str,
        extensions: &str,
        options: &str,
    ) {
        self.write(&format!("{name}.ext"), extensions);
        self.run(&format!("req -new -key {name}.key -subj {subject} -out {name}.csr"));
        let signer = format!("-CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial");
        let out = format!("-extfile {name}.ext -out {name}.pem");
        self.run(&format!("x509 -req -in {name}.csr {signer} -days 1 {out}{options}"));
    }

    /// Makes a workload's certificate that obeys all rules, with a new key.
    pub(crate) fn workload(&self, name: &str, issuer: &str, uri: &str) {
        self.key(name, Key::P256);
        self.certificate(name, issuer, "/", &workload_extensions(uri), "");
    }

    pub(crate) fn chain(&self, names: &[&str]) -> Vec<CertificateDer<'static>> {
        let text: Vec<u8> = names.iter().flat_map(|name| self.read(&format!("{name}.pem"))).collect();
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().unwrap()
    }

    /// The identity of the first of these, which the others lead to its root.
    pub(crate) fn svid(&self, names: &[&str]) -> Result<X509Svid, SvidError> {
        let chain: Vec<u8> = names.iter().flat_map(|name| self.read(&format!("{name}.pem"))).collect();
        X509Svid::from_pem(&chain, &self.read(&format!("{}.key", names[0])), &provider())
    }

    pub(crate) fn bundles(&self, root: &str) -> TrustBundles {
        let bundle =
            TrustBundle::from_pem("example.org".parse().unwrap(), &self.read(&format!("{root}.pem")));
        TrustBundles::new([bundle.unwrap()])
    }

    /// What a process holds that has these identities and trusts this root.
    pub(crate) fn store(&self, root: &str, names: &[&str]) -> IdentityStore {
        let store = IdentityStore::new(self.bundles(root));
        names.iter().for_each(|name| store.insert(self.svid(&[name]).unwrap()));
        store
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    Ed25519,
    P256,
    P384,
    Rsa(u16),
    Secp256k1,
}

impl Key {
    fn options(self) -> String {
        match self {
            Self::Ed25519 => "-algorithm ED25519".into(),
            Self::P256 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-256".into(),
            Self::P384 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-384".into(),
            Self::Rsa(bits) => format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}"),
            Self::Secp256k1 => "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1".into(),
        }
    }
}

/// What the certificate of a workload says, one extension per line.
pub(crate) fn workload_extensions(uri: &str) -> String {
    format!(
        "basicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\n\
         extendedKeyUsage=serverAuth,clientAuth\n\
         subjectAltName=critical,URI:{uri}\n"
    )
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
