use std::path::PathBuf;

use examples::lab::Workspace;
use mesh_identity::{
    DevCa, PemSvid,
    testing::{Authority, provider},
};

use super::program::file;

/// The trust domain of the lab's pods.
pub(super) const TRUST_DOMAIN: &str = "cluster.local";

/// An SVID that every proxy of the lab trusts.
pub(super) fn trusted(id: &str) -> PemSvid {
    DevCa::new(provider()).export(&id.parse().unwrap()).unwrap()
}

/// An SVID that says the same, from an authority nobody knows.
pub(super) fn foreign(id: &str) -> PemSvid {
    Authority::new(TRUST_DOMAIN).leaf(id).issue().pem()
}

/// An SVID as files, for programs that take files.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Files {
    pub(super) fn of(workspace: &Workspace, svid: &PemSvid) -> Self {
        let write = |text: &str| name(file(workspace, text.as_bytes()));
        Self { chain: write(svid.chain()), key: write(svid.key()) }
    }
}

/// The file of the root that signs every SVID of the lab.
pub(super) fn root(workspace: &Workspace) -> String {
    name(file(workspace, DevCa::root_pem().as_bytes()))
}

fn name(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}
