//! A containerd of its own, an API server in this process, and a kubelet between them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ::kubelet::{Kubelet, KubeletConfiguration, Settings};
use api_cri::{RuntimeClient, v1};
use clock::Clock;
use free_port::free_port;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, PodStatus, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, Delegate, request::UserInfo};
use lifecycle::Scope;
use oci_archive::{Image, Layer};
use pki::Ca;
use serde_json::{Value, json};
use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};
use transport::{Place, tls::Identity};

mod kubelet;
mod objects;
mod runtime;
mod swap;

pub(crate) use kubelet::{args, build};
pub(crate) use objects::{restarts, waiting};

pub(crate) const IMAGE: &str = "nst.test/busybox:1";
const PAUSE: &str = "nst.test/pause:1";
/// The node on an API server of the test's own; another may have a node of this name.
pub(crate) const NODE: &str = "nst-node";
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Everything that one test needs; taken down when it is dropped.
pub(crate) struct Bed {
    folder: PathBuf,
    name: String,
    containerd: Child,
    server: Server,
    client: Client,
    pub(crate) port: u16,
    scope: Scope,
    ca: Ca,
    turn: Turn,
}

/// The API server that the kubelet has.
enum Server {
    /// In this process, with all that a test may do to it.
    Own(Box<ApiServer>),
    /// `NODESTEAD_SWAP_KUBECONFIG`
    Given(Box<swap::Given>),
}

/// Tests run side by side, but for those that count what this process holds.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

static TURNS: RwLock<()> = RwLock::const_new(());

pub(crate) struct Running {
    scope: Scope,
}

impl Running {
    /// Ends at once, like a process that is killed.
    pub(crate) async fn kill(self) {
        self.scope.drain(Duration::from_secs(2)).await;
    }
}

impl Bed {
    /// One for a test that needs powers over the API server: over what the whole cluster shares, what
    /// it signs with, or how it reaches this node.
    pub(crate) async fn own(name: &str) -> Option<Self> {
        if has_powers(name) { Self::new(name).await } else { None }
    }

    pub(crate) async fn own_alone(name: &str) -> Option<Self> {
        if has_powers(name) { Self::alone(name).await } else { None }
    }

    /// `None` where it cannot be had.
    pub(crate) async fn new(name: &str) -> Option<Self> {
        Self::with(name, Turn::Shared { _guard: TURNS.read().await }).await
    }

    /// A bed beside which no other is used, so that the process's descriptors are those of this one.
    pub(crate) async fn alone(name: &str) -> Option<Self> {
        Self::with(name, Turn::Alone { _guard: TURNS.write().await }).await
    }

    async fn with(name: &str, turn: Turn) -> Option<Self> {
        let has = |path: &str| Path::new(path).exists();
        if !nix::unistd::geteuid().is_root() || !has("/usr/bin/containerd") || !has("/bin/busybox")
        {
            println!("{name}: not run: needs root, containerd and busybox-static");
            return None;
        }
        telemetry::init("error");
        let mut name = format!("nst-t-kubelet-{name}-{}", std::process::id());
        if swap::kubeconfig().is_some() {
            // Other machines may try theirs on the same server.
            name = format!("{name}-{}", entropy::hex(4));
        }
        let folder = PathBuf::from(format!("/var/tmp/{name}"));
        fs::create_dir_all(&folder).unwrap();
        runtime::write_configuration(&folder);
        let ca = Ca::new("kubernetes").unwrap();
        let (server, client) = match swap::kubeconfig() {
            Some(path) => {
                let (given, client) = swap::Given::prepare(&path, &name).await;
                (Server::Given(Box::new(given)), client)
            }
            None => {
                let (api, client) = serve(&ca).await;
                (Server::Own(Box::new(api)), client)
            }
        };
        let port = free_port();
        let containerd = runtime::start_containerd(&folder);
        let scope = Scope::new();
        let bed = Self { folder, name, containerd, server, client, port, scope, ca, turn };
        bed.until_runtime().await;
        bed.import_images();
        bed.create_service_account().await;
        Some(bed)
    }

    /// The kubelet's folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("kubelet")
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Open descriptors of this process, which is the kubelet here; for a bed that is alone.
    pub(crate) fn descriptors(&self) -> usize {
        assert!(matches!(self.turn, Turn::Alone { .. }), "other tests have descriptors too");
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    pub(crate) fn pod_memory_limit(&self, class: &str, uid: &str) -> i64 {
        memory_limit(&self.pod_group(class, uid)).unwrap()
    }

    /// The least limit of the pod's containers: the pause container has none.
    pub(crate) fn container_memory_limit(&self, class: &str, uid: &str) -> i64 {
        let groups = fs::read_dir(self.pod_group(class, uid)).unwrap().flatten();
        groups.filter_map(|it| memory_limit(&it.path())).min().unwrap()
    }

    /// What a file of a pod's group says of its processes.
    pub(crate) fn pids_file(&self, class: &str, uid: &str, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.pod_group_of("pids", class, uid).join(file)).ok()?;
        Some(text.trim().to_owned())
    }

    /// How often a fork was refused in a pod: older kernels count it where it was tried, in the
    /// container's group, whichever limit it met.
    pub(crate) fn refused_forks(&self, class: &str, uid: &str) -> u64 {
        let pod = self.pod_group_of("pids", class, uid);
        let containers = fs::read_dir(&pod).into_iter().flatten().flatten().map(|it| it.path());
        let count = |folder: PathBuf| -> Option<u64> {
            let text = fs::read_to_string(folder.join("pids.events")).ok()?;
            text.split_whitespace().nth(1)?.parse().ok()
        };
        containers.chain([pod.clone()]).filter_map(count).sum()
    }

    fn pod_group(&self, class: &str, uid: &str) -> PathBuf {
        self.pod_group_of("memory", class, uid)
    }

    fn pod_group_of(&self, controller: &str, class: &str, uid: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        let of_v1 = root.join(controller);
        let root = if of_v1.exists() { of_v1 } else { root.into() };
        root.join(&self.name).join("kubepods").join(class).join(format!("pod{uid}"))
    }

    /// The node's name: its own where others have theirs.
    pub(crate) fn node_name(&self) -> &str {
        match self.server {
            Server::Own(_) => NODE,
            Server::Given(_) => &self.name,
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        match self.server {
            Server::Own(_) => "default",
            Server::Given(_) => &self.name,
        }
    }

    /// The server that a test has powers over.
    fn api(&self) -> &ApiServer {
        match &self.server {
            Server::Own(api) => api,
            Server::Given(_) => panic!("the test has no powers over this server: use `Bed::own`"),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A folder that goes with the test; the kubelet's root is `kubelet` in it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tries until it works.
    pub(crate) async fn eventually<T>(&self, work: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(done) = work().await {
                return done;
            }
            assert!(Instant::now() < deadline, "it never works:\n{}", self.events().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether the API server is the test's own.
fn has_powers(name: &str) -> bool {
    let is_own = swap::kubeconfig().is_none();
    if !is_own {
        println!("{name}: not run: it needs powers over the API server, which is given");
    }
    is_own
}

/// An API server in this process, with a metrics server behind it.
async fn serve(ca: &Ca) -> (ApiServer, Client) {
    let mut config = kube_apiserver::Config::new(mvcc::Store::memory(), Clock::system());
    config.endpoints.push([192, 0, 2, 1].into());
    config.authn.service_accounts = Some(kube_apiserver::authn::ServiceAccounts {
        issuer: "https://nst.test".to_owned(),
        audiences: vec!["https://nst.test".to_owned()],
        jwks_uri: "https://nst.test/keys".to_owned(),
        keys: kube_apiserver::authn::SigningKeys::new(vec![
            pki::ServiceAccountKey::generate().unwrap(),
        ]),
        legacy_keys: kube_apiserver::authn::SigningKeys::default(),
    });
    let identity = kubelet::issue(ca, "kube-apiserver-kubelet-client", "system:masters", &[]);
    let tls = transport::tls::client(ca.certificate_pem(), Some(&identity)).unwrap();
    config.proxy.kubelet_tls = Some(tls);
    let metrics = metrics_server::MetricsServer::new(Clock::system());
    let (group, version) = (metrics_server::GROUP, metrics_server::VERSION);
    config.delegates.push(Delegate::new(group, version, metrics.service()));
    let api = ApiServer::start(config).await.unwrap();
    let client = api.client(UserInfo::master("admin"));
    metrics.connect(client.clone());
    (api, client)
}

fn memory_limit(group: &Path) -> Option<i64> {
    let files = ["memory.limit_in_bytes", "memory.max"];
    let text = files.iter().find_map(|it| fs::read_to_string(group.join(it)).ok())?;
    text.trim().parse().ok()
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.scope.cancel();
        if let Server::Given(given) = &self.server {
            given.clean_up(&self.name);
        }
        self.remove_sandboxes();
        drop(self.containerd.kill());
        drop(self.containerd.wait());
        self.kill_shims();
        let at = self.folder.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|it| it.split(' ').nth(4));
        for point in points.filter(|it| it.starts_with(&at)).collect::<Vec<_>>().into_iter().rev() {
            drop(Command::new("umount").args(["-l", point]).status());
        }
        drop(fs::remove_dir_all(&self.folder));
        let mount = PathBuf::from("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(&mount).into_iter().flatten().flatten();
        // With cgroup v2 the mount is the one hierarchy that there is.
        for hierarchy in hierarchies.map(|it| it.path()).chain([mount]) {
            remove_groups(&hierarchy.join(&self.name));
        }
    }
}

/// Runs something to its end beside the runtime of the test, which cannot wait in `drop`.
fn elsewhere(work: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        drop(runtime.block_on(async { tokio::time::timeout(LIMIT, work).await }));
    });
    drop(thread.join());
}

fn remove_groups(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    drop(fs::remove_dir(path));
}
