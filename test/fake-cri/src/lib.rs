//! A CRI runtime in memory: a server of the public protocol whose containers follow scripts.
//!
//! Tests of a kubelet run against it in virtual time: a container that lives for an hour costs
//! nothing. [`FakeCri::inject`] makes the next call of a kind fail, [`FakeCri::calls`] tells what was
//! asked, in order.
//!
//! It serves containerd's event stream too, so a kubelet that listens to events does, and containerd's
//! signals.
//!
//! **Invariant:** it refuses what containerd refuses: starting twice, removing what runs, a container
//! in a sandbox that is not ready.

mod images;
mod process;
mod runtime;
mod script;
mod state;
mod tasks;

use std::{collections::VecDeque, io, path::Path, sync::Arc, time::Duration};

use api_cri::{
    Channel,
    containerd::{self, events_server::EventsServer},
    tasks::tasks_server::TasksServer,
    v1::{image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer},
};
use clock::Clock;
use lifecycle::Scope;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

pub use self::script::Script;
use self::state::State;

/// See the module. Clones share the runtime.
#[derive(Clone)]
pub struct FakeCri {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) clock: Clock,
    pub(crate) scope: Scope,
    pub(crate) events: broadcast::Sender<containerd::Envelope>,
}

impl FakeCri {
    pub fn new(clock: Clock, scope: Scope) -> Self {
        let events = broadcast::channel(1024).0;
        let mut state = State::default();
        state.connections = scope.child();
        Self { state: Arc::new(Mutex::new(state)), clock, scope, events }
    }

    /// What containers of this name do, from now on. Without a script they run until stopped.
    pub fn script(&self, container: &str, script: Script) {
        self.state.lock().scripts.insert(container.to_owned(), script);
    }

    /// Makes the next `call` (`RunPodSandbox`, `PullImage`, …) fail. Several stand in line.
    pub fn inject(&self, call: &'static str, status: Status) {
        self.state.lock().faults.entry(call).or_default().push_back(status);
    }

    /// What was asked so far: the call and the name that it was about.
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        self.state.lock().calls.clone()
    }

    /// How often `call` was asked about `name`.
    pub fn count(&self, call: &str, name: &str) -> usize {
        self.state.lock().calls.iter().filter(|it| it.0 == call && it.1 == name).count()
    }

    /// How often sandboxes or containers were listed.
    pub fn lists(&self) -> usize {
        self.state.lock().lists
    }

    /// How many seconds a container of this name had to end, the last time that it was to.
    pub fn grace(&self, container: &str) -> Option<i64> {
        self.state.lock().graces.get(container).copied()
    }

    /// The names of the containers that run.
    pub fn running(&self) -> Vec<String> {
        let state = self.state.lock();
        let running = state
            .containers
            .values()
            .filter(|it| it.state == api_cri::v1::ContainerState::ContainerRunning);
        running.map(|it| it.name().to_owned()).collect()
    }

    /// How many sandboxes and containers there are, in whatever state.
    pub fn held(&self) -> usize {
        let state = self.state.lock();
        state.sandboxes.len() + state.containers.len()
    }

    /// The configuration that the newest container of this name was made with; its resources are those
    /// of the last update.
    pub fn container_config(&self, name: &str) -> Option<api_cri::v1::ContainerConfig> {
        let state = self.state.lock();
        let own = state.containers.values().filter(|it| it.name() == name);
        own.max_by_key(|it| it.created_at).map(|it| it.config.clone())
    }

    /// Ends all connections, as a runtime that is killed and started again does. What runs goes on.
    pub fn break_connections(&self) {
        self.state.lock().connections.cancel();
        self.state.lock().connections = self.scope.child();
    }

    /// Which runtime it says it is.
    pub fn set_version(&self, name: &str, version: &str) {
        self.state.lock().version = Some((name.to_owned(), version.to_owned()));
    }

    /// Whether the CNI plug-in is there.
    pub fn set_network_ready(&self, is_ready: bool) {
        self.state.lock().is_network_ready = is_ready;
    }

    /// A runtime handler that is configured.
    pub fn add_handler(&self, name: &str) {
        self.state.lock().handlers.push(name.to_owned());
    }

    /// A runtime handler that is configured, and what it announces; the default one's name is empty.
    pub fn announce_handler(&self, name: &str, features: api_cri::v1::RuntimeHandlerFeatures) {
        let handler =
            api_cri::v1::RuntimeHandler { name: name.to_owned(), features: Some(features) };
        self.add_handler(name);
        self.state.lock().announced.push(handler);
    }

    /// The runtime says that it can leave out the groups of images, and whose a process is.
    pub fn announce_groups_policy(&self) {
        let features = api_cri::v1::RuntimeFeatures { supplemental_groups_policy: true };
        self.state.lock().features = Some(features);
    }

    /// How the newest sandbox of this pod was configured.
    pub fn sandbox_config(&self, pod: &str) -> Option<api_cri::v1::PodSandboxConfig> {
        let state = self.state.lock();
        let own = state.sandboxes.values().filter(|it| it.name() == pod);
        own.max_by_key(|it| it.created_at).map(|it| it.config.clone())
    }

    /// An image that need not be pulled.
    pub fn add_image(&self, name: &str) {
        self.state.lock().add_image(name);
    }

    /// Makes pulls of this image last for ever: its registry accepts, and never answers.
    pub fn hang_pull(&self, name: &str) {
        self.state.lock().hanging.insert(name.to_owned());
    }

    /// From now on a pull takes this long.
    pub fn set_pull_takes(&self, time: Duration) {
        self.state.lock().pull_takes = time;
    }

    /// Which user and password each pull of an image had.
    pub fn pulled_with(&self, name: &str) -> Vec<(String, String)> {
        let state = self.state.lock();
        let own = state.pulled_with.iter().filter(|it| it.0 == name);
        own.map(|(_, auth)| auth.clone().unwrap_or_default())
            .map(|it| (it.username, it.password))
            .collect()
    }

    /// The most pulls that there were at once.
    pub fn most_pulls(&self) -> usize {
        self.state.lock().most_pulls
    }

    /// Where images are said to be.
    pub fn set_image_fs(&self, path: &Path) {
        self.state.lock().image_fs = Some(path.to_owned());
    }

    /// Where containers write; who does not say has it where images are.
    pub fn set_container_fs(&self, path: &Path) {
        self.state.lock().container_fs = Some(path.to_owned());
    }

    /// An image of which this is a file: it goes with the image.
    pub fn add_image_with(&self, name: &str, file: &Path) {
        let mut state = self.state.lock();
        state.add_image(name);
        if let Some(id) = state.image(name).map(|it| it.id.clone()) {
            state.image_files.insert(id, file.to_owned());
        }
    }

    /// Ends the running container of this name with a code.
    pub fn exit(&self, container: &str, code: i32) {
        let running = self.state.lock().running(container);
        if let Some(id) = running {
            self.finish(&id, code, if code == 0 { "Completed" } else { "Error" });
        }
    }

    /// From now on an exit is told at once, and in the runtime's own state so much later.
    pub fn set_exit_lag(&self, lag: Duration) {
        self.state.lock().exit_lag = lag;
    }

    /// A client of this runtime, over memory.
    pub fn channel(&self) -> Channel {
        let (connections, incoming) = mpsc::channel::<io::Result<tokio::io::DuplexStream>>(8);
        let server = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(self.clone()))
            .add_service(ImageServiceServer::new(self.clone()))
            .add_service(EventsServer::new(self.clone()))
            .add_service(TasksServer::new(self.clone()))
            .serve_with_incoming(ReceiverStream::new(incoming));
        drop(self.scope.spawn("fake-cri", server));
        let state = self.state.clone();
        api_cri::channel(move || {
            let (connections, state) = (connections.clone(), state.clone());
            async move {
                let (ours, theirs) = transport::memory();
                let gone = |_| io::Error::other("the runtime is gone");
                // The pipe in between is what can be broken.
                let (mut near, far) = transport::memory();
                connections.send(Ok(theirs)).await.map_err(gone)?;
                let (mut inner, scope) = (ours, state.lock().connections.clone());
                let pipe = async move {
                    drop(tokio::io::copy_bidirectional(&mut near, &mut inner).await);
                };
                drop(scope.spawn("connection", pipe));
                Ok(far)
            }
        })
    }

    /// Notes a call, and fails it if a fault is waiting.
    pub(crate) fn enter(&self, call: &'static str, name: &str) -> Result<(), Status> {
        self.state.lock().calls.push((call, name.to_owned()));
        self.fail(call)
    }

    /// Fails a call that is not noted: what is asked of the node as a whole, again and again.
    pub(crate) fn fail(&self, call: &'static str) -> Result<(), Status> {
        match self.state.lock().faults.get_mut(call).and_then(VecDeque::pop_front) {
            Some(status) => Err(status),
            None => Ok(()),
        }
    }
}
