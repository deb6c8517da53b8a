//! An identity in files, as Kubernetes mounts them, and what becomes of it when they change.
#![cfg(feature = "files")]

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use mesh_identity::{
    CredentialFiles, FileError, FileSource, IdentitySource, Revocation, RevocationFile, RevocationPolicy,
    VerifyError,
    testing::{Authority, Leaf, provider},
};
use support::*;

/// A mounted secret: its files are links into a directory that a link stands for.
struct Mount {
    directory: PathBuf,
    versions: usize,
}

impl Mount {
    fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        Self { directory, versions: 0 }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Swaps all files at once.
    fn swap(&mut self, files: &[(&str, &str)]) {
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        fs::create_dir(self.file(&version)).expect("a directory");
        for (name, content) in files {
            fs::write(self.file(&version).join(name), content).expect("a file");
            if fs::symlink_metadata(self.file(name)).is_err() {
                symlink(Path::new("..data").join(name), self.file(name)).expect("a link");
            }
        }
        symlink(&version, self.file("..data_tmp")).expect("a link");
        fs::rename(self.file("..data_tmp"), self.file("..data")).expect("a rename");
    }

    fn identity(&mut self, ca: &Authority, leaf: &Leaf) {
        let pem = leaf.pem();
        let root = ca.root_pem();
        self.swap(&[("cert-chain.pem", pem.chain()), ("key.pem", pem.key()), ("root-cert.pem", &root)]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.directory);
    }
}

/// Waits on the paused clock, which stands while files are read.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..100 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within ten seconds");
}

#[test]
fn of_two_readings_at_once_the_later_one_stays() {
    let ca = Authority::new("example.org");
    let mut mount = Mount::new("readings");
    mount.identity(&ca, &ca.leaf(CLIENT).issue());
    let source = FileSource::open(CredentialFiles::istio(&mount.directory), provider()).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..300).for_each(|_| _ = source.reload()));
        }
        for _ in 0..120 {
            let leaf = ca.leaf(CLIENT).issue();
            mount.identity(&ca, &leaf);
            while source.reload().is_err() {}
            let serial = leaf.svid().unwrap().serial().to_owned();
            // Nor may it come back while the others go on.
            for _ in 0..20 {
                assert_eq!(*source.status().serial, *serial);
                thread::yield_now();
            }
        }
    });
}

// identity#80
#[tokio::test(start_paused = true)]
async fn a_swapped_mount_replaces_key_chain_and_roots_together() {
    let (old, new) = (Authority::new("example.org"), Authority::new("example.org"));
    let mut mount = Mount::new("swap");
    mount.identity(&old, &old.leaf(CLIENT).issue());
    let source = FileSource::open(CredentialFiles::istio(&mount.directory), provider()).expect("an identity");
    let following = tokio::spawn({
        let source = source.clone();
        async move { source.follow().await }
    });
    let (before, generation) = (source.status().serial, source.generation());
    mount.identity(&new, &new.leaf(CLIENT).issue());
    until(|| source.generation() != generation).await;
    assert_ne!(source.status().serial, before);
    let bundles = source.bundles();
    assert_eq!(bundles.get(&domain("example.org")).expect("a bundle").certificates(), [new.root()]);
    following.abort();
}

// identity#80
#[tokio::test(start_paused = true)]
async fn a_key_of_another_certificate_keeps_the_identity_before_and_is_reported() {
    let ca = Authority::new("example.org");
    let mut mount = Mount::new("mismatch");
    mount.identity(&ca, &ca.leaf(CLIENT).issue());
    let source = FileSource::open(CredentialFiles::istio(&mount.directory), provider()).expect("an identity");
    let following = tokio::spawn({
        let source = source.clone();
        async move { source.follow().await }
    });
    let before = source.status();
    let (one, other) = (ca.leaf(CLIENT).issue().pem(), ca.leaf(CLIENT).issue().pem());
    let root = ca.root_pem();
    mount.swap(&[("cert-chain.pem", one.chain()), ("key.pem", other.key()), ("root-cert.pem", &root)]);
    until(|| source.status().failed_loads == 1).await;
    assert_eq!((source.status().serial, source.status().loads), (before.serial, before.loads));
    assert!(source.status().last_error.is_some());
    assert!(matches!(source.reload(), Err(FileError::Svid { .. })));

    mount.identity(&ca, &ca.leaf(CLIENT).issue());
    until(|| source.status().loads == before.loads + 1).await;
    assert_eq!(source.status().last_error, None);
    following.abort();
}

#[test]
fn what_is_wrong_at_start_is_named() {
    let ca = Authority::new("example.org");
    let mut mount = Mount::new("start");
    let open =
        |mount: &Mount| FileSource::open(CredentialFiles::istio(&mount.directory), provider()).map(drop);
    assert!(matches!(open(&mount), Err(FileError::Read { path, .. }) if path.ends_with("cert-chain.pem")));
    mount.identity(&ca, &ca.leaf(CLIENT).expired().issue());
    assert!(matches!(open(&mount), Err(FileError::Expired { .. })));
    let pem = ca.leaf(CLIENT).issue().pem();
    mount.swap(&[("cert-chain.pem", pem.chain()), ("key.pem", pem.key()), ("root-cert.pem", "")]);
    assert!(matches!(open(&mount), Err(FileError::Roots { path, .. }) if path.ends_with("root-cert.pem")));
    let large = "x".repeat(2 * 1024 * 1024);
    mount.swap(&[("cert-chain.pem", &large), ("key.pem", pem.key()), ("root-cert.pem", "")]);
    assert!(
        matches!(open(&mount), Err(FileError::TooLarge { path, .. }) if path.ends_with("cert-chain.pem"))
    );
}

#[test]
fn what_no_peer_would_take_is_not_taken() {
    let (ca, other) = (Authority::new("example.org"), Authority::new("example.org"));
    let mut mount = Mount::new("unacceptable");
    let mut refused = |ca: &Authority, leaf: &Leaf| {
        mount.identity(ca, leaf);
        match FileSource::open(CredentialFiles::istio(&mount.directory), provider()).map(drop) {
            Err(FileError::Unacceptable { source, .. }) => source,
            taken => panic!("{taken:?}"),
        }
    };
    assert!(matches!(
        refused(&ca, &ca.leaf(CLIENT).not_yet_valid().issue()),
        VerifyError::NotYetValid { .. }
    ));
    assert!(matches!(refused(&ca, &ca.leaf(CLIENT).client_only().issue()), VerifyError::Purpose { .. }));
    assert!(matches!(refused(&ca, &other.leaf(CLIENT).issue()), VerifyError::Chain { .. }));
}

// identity#80
#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_used_for_a_while_are_read_again_though_they_stay_the_same() {
    let ca = Authority::new("example.org");
    let mut mount = Mount::new("passing");
    mount.identity(&ca, &ca.leaf(CLIENT).issue());
    let source = FileSource::open(CredentialFiles::istio(&mount.directory), provider()).unwrap();
    let following = tokio::spawn({
        let source = source.clone();
        async move { source.follow().await }
    });
    // Some clock is wrong.
    mount.identity(&ca, &ca.leaf(CLIENT).not_yet_valid().issue());
    until(|| source.status().failed_loads >= 2).await;
    assert_eq!(source.status().loads, 1);
    // What stays wrong is read once.
    mount.identity(&ca, &ca.leaf(CLIENT).client_only().issue());
    let before = source.status().failed_loads;
    until(|| source.status().failed_loads > before).await;
    let after = source.status().failed_loads;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(source.status().failed_loads, after);
    following.abort();
}

// identity#72, identity#73, identity#74, identity#90
#[tokio::test(start_paused = true)]
async fn revocation_lists_follow_their_file_through_absence_and_nonsense() {
    let ca = Authority::new("example.org");
    let mut mount = Mount::new("lists");
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    let file = RevocationFile::open(mount.file("ca-crl.pem"), revocation.clone());
    assert_eq!((revocation.status().failed_loads, revocation.status().lists), (1, 0));
    let following = tokio::spawn(async move { file.follow().await });
    mount.swap(&[("ca-crl.pem", "nonsense")]);
    let failed = revocation.status().failed_loads;
    until(|| revocation.status().failed_loads > failed).await;
    let leaf = ca.leaf(CLIENT).issue();
    let list = ca.revocation_list().revoke(&leaf.chain()[0]).pem();
    mount.swap(&[("ca-crl.pem", &list)]);
    until(|| revocation.status().lists == 1).await;
    assert_eq!(revocation.status().last_error, None);
    mount.swap(&[("ca-crl.pem", "nonsense again")]);
    until(|| revocation.status().last_error.is_some()).await;
    assert_eq!(revocation.status().lists, 1);
    following.abort();
}

// identity §8: what the reference does not detect.
#[tokio::test]
async fn a_file_identity_that_is_revoked_says_so_until_it_is_replaced() {
    let ca = Authority::new("example.org");
    let mut mount = Mount::new("revoked");
    let leaf = ca.leaf(CLIENT).issue();
    mount.identity(&ca, &leaf);
    let source = FileSource::open(CredentialFiles::istio(&mount.directory), provider()).unwrap();
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    assert_eq!(source.revoked_by(&revocation), None);
    revocation.load(ca.revocation_list().revoke(&leaf.chain()[0]).pem().as_bytes()).unwrap();
    assert!(source.revoked_by(&revocation).unwrap().is_revocation());
    mount.identity(&ca, &ca.leaf(CLIENT).issue());
    source.reload().unwrap();
    assert_eq!(source.revoked_by(&revocation), None);
}
