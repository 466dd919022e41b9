//! The node's status: sent when it changes, and every five minutes.
//!
//! While the runtime's network is not ready the runtime is asked often, so that a node is ready a
//! moment after its CNI plug-in is there; afterwards rarely.
//!
//! Upstream: `pkg/kubelet/nodestatus/setters.go`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeRuntimeHandler, NodeStatus, NodeSystemInfo,
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
use crate::context::{Context, Network};

/// While not ready, for so long and so often; then seldom.
const EAGER: Duration = Duration::from_millis(50);
const EAGER_FOR: Duration = Duration::from_secs(300);
const PATIENT: Duration = Duration::from_secs(1);
/// Upstream's period of runtime checks.
const SETTLED: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(10);
/// Upstream lists the 50 largest images.
const MAX_IMAGES: usize = 50;

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
    in_use: watch::Receiver<BTreeSet<String>>,
}

struct Sent {
    volumes: BTreeSet<String>,
    at: Instant,
    problem: Option<String>,
    pressure: Pressure,
    images: usize,
}

/// The status that the node registers with: known before anything was asked.
pub(super) async fn first(context: &Arc<Context>) -> NodeStatus {
    let info = info::collect(&context.settings, &context.runtime).await;
    let problem = runtime_problem(context).await;
    let now = context.clock.now();
    let conditions = conditions::all(&[], problem.as_deref(), Pressure::default(), now);
    NodeStatus {
        addresses: Some(addresses(context)),
        capacity: Some(context.machine.capacity(&context.settings.config)),
        allocatable: Some(context.machine.allocatable_list(&context.settings.config)),
        conditions: Some(conditions),
        node_info: Some(info),
        daemon_endpoints: Some(endpoints(context)),
        ..NodeStatus::default()
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
async fn runtime_problem(context: &Context) -> Option<String> {
    let status = match context.runtime.status().await {
        Ok(status) => status,
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
        }
    }

    pub(super) async fn run(&mut self) {
        self.info = info::collect(&self.context.settings, &self.context.runtime).await;
        let started = Instant::now();
        loop {
            let problem = runtime_problem(&self.context).await;
            self.note_network(problem.as_deref());
            if self.is_due(problem.as_deref()).await {
                self.send(problem.clone()).await;
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
            || sent.volumes != *self.in_use.borrow()
            || sent.at.elapsed() >= report
    }

    async fn send(&mut self, problem: Option<String>) {
        let pressure = *self.pressure.borrow();
        let now = self.context.clock.now();
        let images = images(&self.context).await;
        let count = images.len();
        let volumes = self.in_use.borrow_and_update().clone();
        match tokio::time::timeout(LIMIT, self.patch(&problem, pressure, images, &volumes, now))
            .await
        {
            Ok(Ok(())) => {
                self.tell(&problem, pressure);
                self.context.volumes.csi.in_use.set_told(volumes.clone());
                let at = Instant::now();
                self.sent = Some(Sent { at, problem, pressure, images: count, volumes });
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
        images: Vec<ContainerImage>,
        volumes: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let api = Api::<Node>::all(self.context.client.clone());
        let name = &self.context.settings.node_name;
        if self.conditions.is_empty() {
            let status = api.get_opt(name).await?.and_then(|it| it.status).unwrap_or_default();
            self.conditions = status.conditions.unwrap_or_default();
        }
        let conditions = conditions::all(&self.conditions, problem.as_deref(), pressure, now);
        let config = &self.context.settings.config;
        let mut status = json!({
            "capacity": self.context.machine.capacity(config),
            "allocatable": self.context.machine.allocatable_list(config),
            "conditions": conditions,
            "nodeInfo": self.info,
            "daemonEndpoints": endpoints(&self.context),
            "images": images,
            "volumesInUse": volumes,
            "runtimeHandlers": [NodeRuntimeHandler::default()],
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
    let listed = images.into_iter().take(MAX_IMAGES).map(|it| ContainerImage {
        names: Some(it.repo_digests.into_iter().chain(it.repo_tags).take(5).collect()),
        size_bytes: i64::try_from(it.size).ok(),
    });
    listed.collect()
}
