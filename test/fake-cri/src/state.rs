//! What the runtime holds.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    path::PathBuf,
    time::Duration,
};

use api_cri::v1;
use lifecycle::Scope;
use tonic::Status;

use crate::Script;

const NAME: &str = "io.kubernetes.container.name";

#[derive(Default)]
pub(crate) struct State {
    pub sandboxes: BTreeMap<String, Sandbox>,
    pub containers: BTreeMap<String, Container>,
    pub images: BTreeMap<String, v1::Image>,
    pub scripts: HashMap<String, Script>,
    pub faults: HashMap<&'static str, VecDeque<Status>>,
    pub calls: Vec<(&'static str, String)>,
    /// How often sandboxes or containers were listed.
    pub lists: usize,
    /// How long containers of a name had to end, the last time that they were to.
    pub graces: HashMap<String, i64>,
    /// Images whose pull never ends.
    pub hanging: HashSet<String>,
    /// How long a pull takes.
    pub pull_takes: Duration,
    pub pulls: usize,
    /// The most pulls that there were at once.
    pub most_pulls: usize,
    /// Where images are, and the file of each that goes with it.
    pub image_fs: Option<PathBuf>,
    pub container_fs: Option<PathBuf>,
    pub image_files: HashMap<String, PathBuf>,
    /// What images were pulled with.
    pub pulled_with: Vec<(String, Option<v1::AuthConfig>)>,
    pub is_network_ready: bool,
    /// How long after an exit its own state still says that the container runs.
    pub exit_lag: Duration,
    /// Containers whose exit was told of and is not in the state yet, and those after.
    pub ending: HashSet<String>,
    /// The runtime's name and version, where it is another one.
    pub version: Option<(String, String)>,
    /// Runtime handlers beside the default one.
    pub handlers: Vec<String>,
    /// What is said of handlers, as containerd 2 does.
    pub announced: Vec<v1::RuntimeHandler>,
    /// What the runtime says of itself; runtimes before containerd 2 say nothing.
    pub features: Option<v1::RuntimeFeatures>,
    /// The owner of the connections.
    pub connections: Scope,
    next: u32,
}

pub(crate) struct Sandbox {
    pub config: v1::PodSandboxConfig,
    pub is_ready: bool,
    pub created_at: i64,
    pub ip: String,
}

pub(crate) struct Container {
    pub sandbox: String,
    pub config: v1::ContainerConfig,
    pub log_directory: String,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub state: v1::ContainerState,
    pub code: i32,
    pub reason: String,
}

impl State {
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    pub(crate) fn number(&self) -> u32 {
        self.next
    }

    pub(crate) fn running(&self, name: &str) -> Option<String> {
        let is_it =
            |it: &&Container| it.name() == name && it.state == v1::ContainerState::ContainerRunning;
        self.containers.iter().find(|(_, it)| is_it(it)).map(|(id, _)| id.clone())
    }

    pub(crate) fn add_image(&mut self, name: &str) {
        let image = v1::Image {
            id: format!("sha256:{name}"),
            repo_tags: vec![name.to_owned()],
            size: 1000,
            ..Default::default()
        };
        self.images.insert(name.to_owned(), image);
    }

    pub(crate) fn image(&self, name: &str) -> Option<&v1::Image> {
        self.images.values().find(|it| it.id == name || it.repo_tags.iter().any(|tag| tag == name))
    }
}

impl Sandbox {
    pub(crate) fn name(&self) -> &str {
        self.config.metadata.as_ref().map(|it| it.name.as_str()).unwrap_or_default()
    }
}

impl Container {
    pub(crate) fn name(&self) -> &str {
        self.config.labels.get(NAME).map(String::as_str).unwrap_or_default()
    }
}
