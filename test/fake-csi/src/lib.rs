//! A small CSI driver for tests: a server of the public protocol whose volumes are folders.
//!
//! It stages a volume by binding its folder on the staging path, and publishes it by binding that on
//! the target; block volumes are devices that the volume's context names. It runs on threads of its
//! own, so [`FakeCsi::kill`] ends it as the death of a process does: connections break, its sockets
//! stay behind as files.
//!
//! [`FakeCsi::inject`] makes calls fail, [`FakeCsi::hang`] makes them never end, [`FakeCsi::calls`]
//! tells what was asked.
//!
//! **Invariant:** it refuses what a driver refuses: publishing what is not staged, unstaging what is in
//! use. A call that was answered before is answered again.

mod node;
mod registration;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use api_csi::{
    registration::registration_server::RegistrationServer,
    v1::{identity_server::IdentityServer, node_server::NodeServer},
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;

pub use api_csi::v1::node_service_capability::rpc::Type as Capability;

/// What a driver is like.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub node_id: String,
    pub topology: BTreeMap<String, String>,
    pub max_volumes: i64,
    pub capabilities: Vec<Capability>,
    pub versions: Vec<String>,
    /// Where the folders of volumes are made.
    pub storage: PathBuf,
    /// The driver's own socket.
    pub socket: PathBuf,
    /// The socket that makes it known, below the kubelet's `plugins_registry`.
    pub registration: PathBuf,
}

impl Config {
    /// A driver that can do all, below the root folder of a kubelet.
    pub fn new(name: &str, storage: &Path, kubelet: &Path) -> Self {
        Self {
            name: name.to_owned(),
            node_id: "node-1".to_owned(),
            topology: [(format!("topology.{name}/zone"), "a".to_owned())].into(),
            max_volumes: 8,
            capabilities: vec![
                Capability::StageUnstageVolume,
                Capability::GetVolumeStats,
                Capability::ExpandVolume,
                Capability::SingleNodeMultiWriter,
            ],
            versions: vec!["1.0.0".to_owned()],
            storage: storage.to_owned(),
            socket: kubelet.join("plugins").join(name).join("csi.sock"),
            registration: kubelet.join("plugins_registry").join(format!("{name}-reg.sock")),
        }
    }
}

/// A call, and the request as text.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: &'static str,
    pub volume: String,
    pub text: String,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    faults: HashMap<&'static str, VecDeque<Status>>,
    hanging: HashSet<&'static str>,
    /// What the kubelet said to the registration.
    registered: Option<Result<(), String>>,
}

/// See the module. The driver ends when this is dropped.
pub struct FakeCsi {
    config: Config,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

/// The driver as its servers see it.
#[derive(Clone)]
struct Driver {
    config: Arc<Config>,
    state: Arc<Mutex<State>>,
}

impl FakeCsi {
    pub fn start(config: Config) -> io::Result<Self> {
        let mut driver = Self { config, state: Arc::default(), runtime: None };
        driver.serve()?;
        Ok(driver)
    }

    /// Starts again what was killed; what it has mounted is still there.
    pub fn serve(&mut self) -> io::Result<()> {
        let driver = Driver { config: Arc::new(self.config.clone()), state: self.state.clone() };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        for path in [&self.config.socket, &self.config.registration] {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
        }
        let _entered = runtime.enter();
        let own = UnixListenerStream::new(transport::unix_listen(&self.config.socket)?);
        let serving = tonic::transport::Server::builder()
            .add_service(IdentityServer::new(driver.clone()))
            .add_service(NodeServer::new(driver.clone()))
            .serve_with_incoming(own);
        drop(runtime.spawn(serving));
        let own = UnixListenerStream::new(transport::unix_listen(&self.config.registration)?);
        let serving = tonic::transport::Server::builder()
            .add_service(RegistrationServer::new(driver))
            .serve_with_incoming(own);
        drop(runtime.spawn(serving));
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Takes the registration's socket away, as an orderly end does.
    pub fn remove_socket(&self) -> io::Result<()> {
        fs::remove_file(&self.config.registration)
    }

    /// The folder that is the volume.
    pub fn volume(&self, id: &str) -> PathBuf {
        self.config.storage.join(id)
    }

    /// Makes the next `call` (`NodeStageVolume`, …) fail. Several stand in line.
    pub fn inject(&self, call: &'static str, status: Status) {
        self.state.lock().faults.entry(call).or_default().push_back(status);
    }

    /// Makes every `call` wait for ever, or no more.
    pub fn hang(&self, call: &'static str, is_hanging: bool) {
        let mut state = self.state.lock();
        if is_hanging {
            state.hanging.insert(call);
        } else {
            state.hanging.remove(call);
        }
    }

    /// What was asked so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    pub fn count(&self, call: &str, volume: &str) -> usize {
        let state = self.state.lock();
        state.calls.iter().filter(|it| it.name == call && it.volume == volume).count()
    }

    /// What the kubelet said to the registration.
    pub fn registered(&self) -> Option<Result<(), String>> {
        self.state.lock().registered.clone()
    }
}

impl Drop for FakeCsi {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Driver {
    /// Notes a call, and fails it or lets it hang if that is wanted.
    async fn enter(
        &self,
        name: &'static str,
        volume: &str,
        request: &impl std::fmt::Debug,
    ) -> Result<(), Status> {
        let (fault, hangs) = {
            let mut state = self.state.lock();
            let text = format!("{request:?}");
            state.calls.push(Call { name, volume: volume.to_owned(), text });
            let fault = state.faults.get_mut(name).and_then(VecDeque::pop_front);
            (fault, state.hanging.contains(name))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        fault.map_or(Ok(()), Err)
    }
}
