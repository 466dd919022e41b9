//! The node's status: sent when it changes, and every five minutes.
//!
//! While the runtime's network is not ready the runtime is asked often, so that a node is ready a
//! moment after its CNI plug-in is there; afterwards rarely.
//!
//! Upstream: `pkg/kubelet/nodestatus/setters.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api_cri::v1;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
        NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::{debug, info};

use super::{Pressure, conditions, info};
use crate::{
    context::{Context, Network},
    cri::CriError,
    runtime_features::Handlers,
    shutdown,
};

/// While not ready, for so long and so often; then seldom.
const EAGER: Duration = Duration::from_millis(50);
const EAGER_FOR: Duration = Duration::from_secs(300);
const PATIENT: Duration = Duration::from_secs(1);
/// Upstream's period of runtime checks.
const SETTLED: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(10);
/// Upstream lists so many names of an image.
const MAX_NAMES: usize = 5;

/// Wakes the loop: something about the node changed.
#[derive(Clone, Default)]
pub(crate) struct StatusWake(Arc<Notify>);

impl StatusWake {
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }
}

pub(crate) struct NodeStatusLoop {
    pub context: Arc<Context>,
    pub pressure: watch::Receiver<Pressure>,
    pub wake: StatusWake,
    pub on_network: Box<dyn Fn() + Send + Sync>,
    conditions: Vec<NodeCondition>,
    info: NodeSystemInfo,
    sent: Option<Sent>,
    /// The problem that the API server knows of.
    told: watch::Sender<Option<String>>,
    in_use: watch::Receiver<BTreeSet<String>>,
}

struct Sent {
    volumes: BTreeSet<String>,
    at: Instant,
    problem: Option<String>,
    pressure: Pressure,
    images: usize,
    resources: Resources,
    runtime: String,
}

/// Capacity and allocatable, with what device plugins offer; what others have written into the capacity
/// is allocatable, and theirs to change.
type Resources = (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>);

fn resources(context: &Context) -> Resources {
    let config = &context.settings.config;
    let (mut capacity, mut allocatable) =
        (context.machine.capacity(config), context.machine.allocatable_list(config));
    if let Some(known) = context.node_object.known() {
        allocatable.extend(known.foreign.clone());
    }
    let (extended, usable) = context.cm.extended_resources();
    capacity.extend(extended);
    allocatable.extend(usable);
    (capacity, allocatable)
}

/// The status that the node registers with: known before anything was asked.
pub(super) async fn first(context: &Arc<Context>) -> NodeStatus {
    let info = info::collect(&context.settings, &context.runtime).await;
    let asked = context.runtime.status().await;
    let problem = problem(context, runtime_problem(&asked));
    let now = context.clock.now();
    let (capacity, allocatable) = resources(context);
    let conditions = conditions::all(&[], problem.as_deref(), Pressure::default(), now);
    NodeStatus {
        addresses: Some(addresses(context)),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        conditions: Some(conditions),
        node_info: Some(info),
        daemon_endpoints: Some(endpoints(context)),
        runtime_handlers: asked.as_ref().ok().and_then(handlers),
        features: asked.as_ref().ok().and_then(features),
        ..NodeStatus::default()
    }
}

/// The runtime's handlers; runtimes before containerd 2 do not say.
fn handlers(asked: &v1::StatusResponse) -> Option<Vec<NodeRuntimeHandler>> {
    let of = |it: &v1::RuntimeHandler| NodeRuntimeHandler {
        name: Some(it.name.clone()),
        features: it.features.as_ref().map(|it| NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(it.recursive_read_only_mounts),
            user_namespaces: Some(it.user_namespaces),
        }),
    };
    let list: Vec<_> = asked.runtime_handlers.iter().map(of).collect();
    (!list.is_empty()).then_some(list)
}

fn features(asked: &v1::StatusResponse) -> Option<NodeFeatures> {
    let features = asked.features?;
    Some(NodeFeatures { supplemental_groups_policy: Some(features.supplemental_groups_policy) })
}

/// Everything for which the node is not ready, in upstream's form of several errors.
fn problem(context: &Context, runtime: Option<String>) -> Option<String> {
    let shutdown = (*context.is_shutting_down.borrow()).then(|| shutdown::PROBLEM.to_owned());
    match (runtime, shutdown) {
        (Some(runtime), Some(shutdown)) => Some(format!("[{runtime}, {shutdown}]")),
        (one, other) => one.or(other),
    }
}

fn endpoints(context: &Context) -> NodeDaemonEndpoints {
    let port = i32::from(context.settings.config.port);
    NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port }) }
}

fn addresses(context: &Context) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let ips = context.node_ips.iter().map(|it| address("InternalIP", it.to_string()));
    ips.chain([address("Hostname", context.settings.node_name.clone())]).collect()
}

/// Why the node cannot run pods, in upstream's words.
fn runtime_problem(asked: &Result<v1::StatusResponse, CriError>) -> Option<String> {
    let status = match asked {
        Ok(reply) => reply.status.clone().unwrap_or_default(),
        Err(error) => {
            return Some(format!("container runtime is down: {error}"));
        }
    };
    let problem = |kind: &str| {
        let condition = status.conditions.iter().find(|it| it.r#type == kind)?;
        (!condition.status).then(|| {
            format!("{kind}=false reason:{} message:{}", condition.reason, condition.message)
        })
    };
    if let Some(text) = problem("RuntimeReady") {
        return Some(format!("container runtime not ready: {text}"));
    }
    problem("NetworkReady").map(|it| format!("container runtime network not ready: {it}"))
}

impl NodeStatusLoop {
    pub(crate) fn new(
        context: Arc<Context>,
        pressure: watch::Receiver<Pressure>,
        wake: StatusWake,
        on_network: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let in_use = context.volumes.csi.in_use.wanted();
        Self {
            in_use,
            context,
            pressure,
            wake,
            on_network,
            conditions: Vec::new(),
            info: NodeSystemInfo::default(),
            sent: None,
            told: watch::Sender::new(None),
        }
    }

    pub(crate) fn told(&self) -> watch::Receiver<Option<String>> {
        self.told.subscribe()
    }

    pub(super) async fn run(&mut self) {
        self.info = info::collect(&self.context.settings, &self.context.runtime).await;
        let started = Instant::now();
        loop {
            let asked = self.context.runtime.status().await;
            let runtime = runtime_problem(&asked);
            if let Ok(asked) = &asked {
                self.context.handlers.send_replace(Some(Handlers::of(asked)));
            }
            if runtime.is_none() {
                self.note_version().await;
            }
            self.note_network(runtime.as_deref());
            let problem = problem(&self.context, runtime);
            if !self.context.settings.is_standalone && self.is_due(problem.as_deref()).await {
                self.send(problem.clone(), asked.ok()).await;
            }
            let pause = match (&problem, started.elapsed() < EAGER_FOR) {
                (None, _) => SETTLED,
                (Some(_), true) => EAGER,
                (Some(_), false) => PATIENT,
            };
            let in_use = &mut self.in_use;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.0.notified() => {}
                // The sender lives as long as the kubelet.
                Ok(()) = in_use.changed() => {}
            }
        }
    }

    /// The runtime may be another one than before: it can be replaced under the kubelet.
    async fn note_version(&mut self) {
        if let Some(version) = info::runtime_version(&self.context.runtime).await {
            self.info.container_runtime_version = version;
        }
    }

    fn note_network(&self, problem: Option<&str>) {
        let network = match problem {
            None => Network::Ready,
            Some(problem) => Network::NotReady(problem.to_owned()),
        };
        let is_new = self.context.network.send_if_modified(|known| {
            let is_new = *known != network;
            known.clone_from(&network);
            is_new
        });
        if is_new {
            info!(?network, "the runtime's network");
            // Pods wait for it, or have to say why they wait.
            (self.on_network)();
        }
    }

    async fn is_due(&self, problem: Option<&str>) -> bool {
        let Some(sent) = &self.sent else { return true };
        let report = self.context.settings.config.node_status_report_frequency.0;
        sent.problem.as_deref() != problem
            || sent.pressure != *self.pressure.borrow()
            || sent.resources != resources(&self.context)
            || sent.volumes != *self.in_use.borrow()
            || sent.runtime != self.info.container_runtime_version
            || sent.at.elapsed() >= report
    }

    async fn send(&mut self, problem: Option<String>, asked: Option<v1::StatusResponse>) {
        let pressure = *self.pressure.borrow();
        let now = self.context.clock.now();
        let images = images(&self.context).await;
        let count = images.len();
        let resources = resources(&self.context);
        let volumes = self.in_use.borrow_and_update().clone();
        let patch = self.patch(&problem, pressure, (&resources, &volumes), images, asked, now);
        match tokio::time::timeout(LIMIT, patch).await {
            Ok(Ok(())) => {
                self.tell(&problem, pressure);
                self.told.send_replace(problem.clone());
                self.context.volumes.csi.in_use.set_told(volumes.clone());
                self.sent = Some(Sent {
                    volumes,
                    at: Instant::now(),
                    problem,
                    pressure,
                    images: count,
                    resources,
                    runtime: self.info.container_runtime_version.clone(),
                });
            }
            Ok(Err(error)) => {
                debug!(error = %telemetry::chain(&error), "the node's status was not sent");
            }
            Err(_) => debug!("the API server did not take the node's status in time"),
        }
    }

    async fn patch(
        &mut self,
        problem: &Option<String>,
        pressure: Pressure,
        (resources, volumes): (&Resources, &BTreeSet<String>),
        images: Vec<ContainerImage>,
        asked: Option<v1::StatusResponse>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let api = Api::<Node>::all(self.context.client.clone());
        let name = &self.context.settings.node_name;
        if self.conditions.is_empty() {
            let status = api.get_opt(name).await?.and_then(|it| it.status).unwrap_or_default();
            self.tell_reboot(status.node_info.as_ref());
            self.conditions = status.conditions.unwrap_or_default();
        }
        let conditions = conditions::all(&self.conditions, problem.as_deref(), pressure, now);
        let mut allocatable = json!(resources.1);
        if let Some(known) = self.context.node_object.known() {
            for name in known.stale.iter().filter(|it| !resources.1.contains_key(*it)) {
                allocatable[name] = serde_json::Value::Null;
            }
        }
        let mut status = json!({
            "capacity": resources.0,
            "allocatable": allocatable,
            "conditions": conditions,
            "nodeInfo": self.info,
            "daemonEndpoints": endpoints(&self.context),
            "images": images,
            "volumesInUse": volumes,
            "runtimeHandlers": asked.as_ref().and_then(handlers),
            "features": asked.as_ref().and_then(features),
        });
        // With a cloud provider of its own the addresses are the cloud's once it has set them.
        if !self.context.settings.has_external_cloud {
            status["addresses"] = json!(addresses(&self.context));
        }
        let patch = Patch::Strategic(json!({ "status": status }));
        api.patch_status(name, &PatchParams::default(), &patch).await?;
        self.conditions = conditions;
        Ok(())
    }

    /// The node is another boot's than the one that the API server knows.
    fn tell_reboot(&self, known: Option<&NodeSystemInfo>) {
        let Some(known) = known.map(|it| &it.boot_id).filter(|it| !it.is_empty()) else { return };
        let own = &self.info.boot_id;
        if known != own && !own.is_empty() {
            let name = &self.context.settings.node_name;
            let text = format!("Node {name} has been rebooted, boot id: {own}");
            self.context.recorder.node_warning("Rebooted", text);
        }
    }

    /// Events for what has changed.
    fn tell(&self, problem: &Option<String>, pressure: Pressure) {
        let recorder = &self.context.recorder;
        let name = &self.context.settings.node_name;
        let tell = |reason: &str| {
            recorder.node_normal(reason, format!("Node {name} status is now: {reason}"));
        };
        let before = self.sent.as_ref();
        let was = |of: fn(&Pressure) -> bool| before.map(|it| of(&it.pressure));
        type Kind = (fn(&Pressure) -> bool, &'static str, &'static str);
        let kinds: [Kind; 3] = [
            (|it| it.memory, "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
            (|it| it.disk, "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
            (|it| it.pids, "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ];
        for (of, yes, no) in kinds {
            if was(of) != Some(of(&pressure)) {
                tell(if of(&pressure) { yes } else { no });
            }
        }
        let was_ready = before.map(|it| it.problem.is_none());
        match (was_ready, problem.is_none()) {
            (Some(true), false) => tell("NodeNotReady"),
            (None | Some(false), true) => tell("NodeReady"),
            _ => {}
        }
        debug!(images = before.map_or(0, |it| it.images), "the node's status was sent");
    }
}

async fn images(context: &Context) -> Vec<ContainerImage> {
    let mut images = context.runtime.list_images().await.unwrap_or_default();
    images.sort_by_key(|it| std::cmp::Reverse(it.size));
    // A negative number is no limit.
    let limit = usize::try_from(context.settings.config.node_status_max_images);
    let listed = images.into_iter().take(limit.unwrap_or(usize::MAX)).map(|it| ContainerImage {
        names: Some(it.repo_digests.into_iter().chain(it.repo_tags).take(MAX_NAMES).collect()),
        size_bytes: i64::try_from(it.size).ok(),
    });
    listed.collect()
}
