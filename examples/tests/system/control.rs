use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use examples::lab::{Host, Pod, Process, Workspace, ZtunnelSpec};

use crate::runner::Family;

const PORT: u16 = 15012;
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority on a host of its own, for the proxies of some pods.
#[derive(Debug)]
pub(crate) struct Control {
    host: Host,
    process: Option<Process>,
    arguments: Vec<String>,
    folder: PathBuf,
}

impl Control {
    /// Makes the files it needs and starts it.
    pub(crate) fn start(workspace: &Workspace, host: Host, pods: &[&Pod], more: &[&str]) -> Self {
        let folder = workspace.scratch().join(format!("control-{}", crate::fixture::next_number()));
        fs::create_dir(&folder).unwrap();
        let mut tokens = String::new();
        for pod in pods {
            fs::write(folder.join(&pod.name), format!("token-of-{}\n", pod.name)).unwrap();
            tokens += &format!("- token: token-of-{}\n  identities: [{}]\n", pod.name, pod.identity());
        }
        let path = |name: &str| folder.join(name).into_os_string().into_string().unwrap();
        fs::write(path("tokens.yaml"), tokens).unwrap();
        let mut arguments = vec![
            format!("--listen=[::]:{PORT}"),
            format!("--tokens={}", path("tokens.yaml")),
            format!("--ca-dir={}", path("ca")),
            format!("--write-root={}", path("root.pem")),
        ];
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut control = Self { host, process: None, arguments, folder };
        control.restart();
        control
    }

    /// Ends it, if it runs, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let mut command = self.host.command(env!("CARGO_BIN_EXE_mesh-control")).unwrap();
        command.args(&self.arguments).env_clear();
        let process = self.host.spawn(command).unwrap();
        let listens =
            process.output().wait_for(PATIENCE, |line| line.strip_prefix("listening on ").map(drop));
        assert!(listens.is_some(), "{:?}", process.output().lines());
        self.process = Some(process);
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate().unwrap();
            assert!(process.wait(PATIENCE).unwrap().success());
        }
    }

    /// What it has written.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.process.as_ref().map(|process| process.output().lines()).unwrap_or_default()
    }

    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Lets a proxy take its identity from here.
    pub(crate) fn set_up(&self, spec: ZtunnelSpec, pod: &Pod, family: Family) -> ZtunnelSpec {
        let address: IpAddr = match family {
            Family::V4 => self.host.v4(),
            Family::V6 => self.host.v6(),
        };
        spec.variable("FAKE_CA", "false")
            .variable("CA_ADDRESS", std::net::SocketAddr::new(address, PORT).to_string())
            .variable("ALT_CA_HOSTNAME", "istiod.istio-system.svc")
            .variable("CA_ROOT_CA", self.file("root.pem"))
            .variable("AUTH_TOKEN", self.file(&pod.name))
    }
}
