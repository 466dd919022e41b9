//! The loop: observe, plan, apply.
//!
//! Upstream: `core/static_autoscaler.go`. A pass that adds nodes removes none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_wire::client::CallError;
use controller::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    act::Actor,
    expander::{Expander, Priorities},
    node,
    observe::{Stores, is_unschedulable},
    registry::{Finding, Problem, Registry},
    scale_down::{self, Memory},
    scale_up::{self, ScaleUp},
    server::Liveness,
    snapshot,
    status::{self, Status, Transitions},
    world::{PodFact, World},
};

const PRIORITIES: &str = "cluster-autoscaler-priority-expander";
const PROJECT: &str = "cluster-autoscaler";
const LAST_UPDATED: &str = "cluster-autoscaler.kubernetes.io/last-updated";
/// Least, most, wanted, and whether it is healthy.
const GROUP_METRICS: [&str; 4] = [
    "node_group_min_count",
    "node_group_max_count",
    "node_group_target_count",
    "node_group_healthiness",
];
/// Whether it is left alone, and why.
const BACKOFF: &str = "node_group_backoff_status";
const POD_DELAY: &str = "cluster-autoscaler.kubernetes.io/pod-scale-up-delay";
/// Pods come in bunches: those that are younger wait for each other.
const BUNCH: Duration = Duration::from_secs(2);

/// What goes into one pass after another.
pub(crate) struct Autoscaler {
    pub(crate) stores: Stores,
    pub(crate) actor: Actor,
    pub(crate) status_name: Option<String>,
    pub(crate) registry: Registry,
    pub(crate) memory: Memory,
    pub(crate) transitions: Transitions,
}

/// Why a pass came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error("failed to refresh the cloud provider's groups")]
    Cloud(#[from] CallError),
}

impl Autoscaler {
    /// Passes until cancelled: one per interval, and sooner where pods need a node.
    pub(crate) async fn run(mut self, liveness: Arc<Liveness>, is_eager: bool) {
        let woken = Arc::new(Notify::new());
        if is_eager {
            let (wake, options) = (woken.clone(), self.actor.options.clone());
            self.stores.pods.subscribe(move |change| {
                if change.new.as_ref().is_some_and(|it| is_unschedulable(it, &options)) {
                    wake.notify_one();
                }
            });
        }
        self.write_status(&status::initializing(self.actor.clock.now())).await;
        self.actor.clean_up().await;
        loop {
            let passed = self.pass().await;
            liveness.ran(passed.is_ok());
            if let Err(error) = passed {
                tracing::error!(error = %telemetry::chain(&error), "a pass failed");
                self.actor.metrics.add("errors_total", "cloudProviderError", 1.0);
            }
            let interval = self.actor.options.scan_interval;
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                // Not at once: what has just been asked for needs a moment to be seen.
                () = async { woken.notified().await; tokio::time::sleep(BUNCH).await; } => {}
            }
        }
    }

    /// One pass.
    pub(crate) async fn pass(&mut self) -> Result<(), PassError> {
        let started = tokio::time::Instant::now();
        let now = self.actor.clock.now();
        self.actor.metrics.set("last_activity", "main", seconds(now));
        // Before the groups are asked about: a removal that ends in between counts twice, not never.
        self.memory.leaving = self.actor.removals.leaving();
        self.note_removals(now);
        let groups = self.actor.cloud.groups(now).await?;
        let mut world = self.stores.world(groups, &self.actor.options);
        let findings = self.registry.observe(&world, &self.actor.options, now);
        self.report(&world);
        let has_repaired = self.repair(&mut world, findings, now).await;
        let is_healthy = self.registry.is_healthy(&self.actor.options);
        self.actor.metrics.set("cluster_safe_to_autoscale", "", f64::from(u8::from(is_healthy)));
        if is_healthy && !has_repaired {
            let has_grown = self.scale_up(&world, now).await;
            self.scale_down(&world, has_grown, now).await;
        } else if !is_healthy {
            let message = "Cluster is unhealthy".to_owned();
            self.actor.tell(EventType::Warning, "ClusterUnhealthy", message);
        }
        let status = status::running(
            &world,
            &self.registry,
            &self.actor.options,
            &self.memory.unneeded,
            &mut self.transitions,
            now,
        );
        self.write_status(&status).await;
        self.actor.metrics.took("main", started.elapsed().as_secs_f64());
        Ok(())
    }

    fn note_removals(&mut self, now: Timestamp) {
        for ended in self.actor.removals.take_ended() {
            let times = match ended.is_success {
                true => &mut self.memory.last_delete,
                false => &mut self.memory.last_failure,
            };
            times.note(&ended.group, now);
        }
    }

    // === what went wrong ===

    /// Says whether sizes have changed, so that this pass knows too little to go on.
    async fn repair(&mut self, world: &mut World, findings: Vec<Finding>, now: Timestamp) -> bool {
        let mut has_changed = false;
        for finding in findings {
            match finding {
                Finding::TimedOut { group, limit } => {
                    let limit = component_config::duration::format(limit);
                    let message =
                        format!("Nodes added to group {group} failed to register within {limit}");
                    self.actor.tell(EventType::Warning, "ScaleUpTimedOut", message);
                    self.actor.metrics.add("failed_scale_ups_total", "timeout", 1.0);
                    self.count_missing(world, &group, "timeout");
                }
                Finding::LaunchFailed { group, missing, message } => {
                    let told = format!("Scale-up failed for group {group}: {message}");
                    self.actor.tell(EventType::Warning, "FailedToScaleUpGroup", told);
                    let (metrics, reason) = (&self.actor.metrics, "cloudProviderError");
                    metrics.add("failed_scale_ups_total", reason, 1.0);
                    let count = f64::from(u32::try_from(missing).unwrap_or(0));
                    metrics.add("failed_node_creations_total", reason, count);
                    has_changed |= self.shrink(world, &group, missing).await;
                }
                Finding::TooLarge { group, by } => {
                    let message =
                        format!("Decreasing size of {group} by {by}: its instances do not come");
                    self.actor.tell(EventType::Normal, "FixNodeGroupSize", message);
                    has_changed |= self.shrink(world, &group, by).await;
                }
                Finding::NeverRegistered { group, provider_id } => {
                    has_changed |= self.remove_unregistered(world, &group, &provider_id, now).await;
                }
            }
        }
        has_changed
    }

    /// The nodes that a group still lacks will not come.
    fn count_missing(&self, world: &World, group: &str, reason: &str) {
        let Some(found) = world.group(group) else { return };
        let counts = self.registry.of(group);
        let lacks = found.target - (counts.ready + counts.unready);
        let lacks = f64::from(u32::try_from(lacks).unwrap_or(0));
        self.actor.metrics.add("failed_node_creations_total", reason, lacks);
    }

    async fn shrink(&self, world: &World, group: &str, by: i64) -> bool {
        let Some(found) = world.group(group) else { return false };
        // AWS would not take less than the least.
        let target = (found.target - by).max(found.min);
        if target >= found.target {
            return false;
        }
        match self.actor.cloud.set_target(group, target).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(group, error = %telemetry::chain(&error), "cannot shrink a group");
                false
            }
        }
    }

    async fn remove_unregistered(
        &mut self,
        world: &mut World,
        group: &str,
        provider_id: &str,
        now: Timestamp,
    ) -> bool {
        let Some(found) = world.groups.iter_mut().find(|it| it.name == group) else { return false };
        let is_least = found.target <= found.min;
        if is_least && !self.actor.options.force_unregistered {
            tracing::warn!(
                group,
                provider_id,
                "an instance is no node, and its group is at its least"
            );
            return false;
        }
        let cloud = &self.actor.cloud;
        let ended = match is_least {
            true => cloud.replace(provider_id).await,
            false => cloud.terminate(provider_id).await,
        };
        if let Err(error) = ended {
            let error = telemetry::chain(&error);
            let message = format!("Failed to remove node {provider_id}: {error}");
            self.actor.tell(EventType::Warning, "DeleteUnregisteredFailed", message);
            return false;
        }
        found.target -= i64::from(!is_least);
        let message = format!("Removed unregistered node {provider_id}");
        self.actor.tell(EventType::Normal, "DeleteUnregistered", message);
        self.actor.metrics.add("old_unregistered_nodes_removed_count", "", 1.0);
        let problem = Problem::new("timeout", format!("{provider_id} did not register"));
        self.registry.failed(group, problem, &self.actor.options, now);
        true
    }

    // === growing ===

    /// Says whether a group has grown, or waits for pods that have only just come.
    async fn scale_up(&mut self, world: &World, now: Timestamp) -> bool {
        let options = self.actor.options.clone();
        let templates = snapshot::templates(world, &options);
        let upcoming = self.registry.upcoming(world);
        let mut cluster = snapshot::of(world, &templates, &upcoming);
        let needy = needy(&world.pending, &options, now);
        let unschedulable = snapshot::place(&mut cluster, needy);
        self.actor.metrics.set(
            "unschedulable_pods_count",
            "unschedulable",
            f64::from(u32::try_from(unschedulable.len()).unwrap_or(u32::MAX)),
        );
        self.reach_minimum(world, now).await;
        if unschedulable.is_empty() {
            return false;
        }
        let is_new = |it: &PodFact| made(it) + BUNCH > now;
        if unschedulable.iter().all(is_new) {
            return true;
        }
        let priorities = self.priorities().await;
        let question = scale_up::Question {
            world,
            registry: &self.registry,
            options: &options,
            priorities: priorities.as_ref(),
            templates: &templates,
            cluster: &cluster,
            now,
            lot: entropy::below(u64::MAX),
        };
        let plan = scale_up::plan(question, &unschedulable);
        for name in &plan.limited {
            let reason = match name.as_str() {
                "cpu" => "CpuResourceLimit",
                "memory" => "MemoryResourceLimit",
                other => other,
            };
            let labels = format!("up\n{reason}");
            self.actor.metrics.add("skipped_scale_events_count", &labels, 1.0);
        }
        self.grow(world, plan, now).await
    }

    async fn grow(&mut self, world: &World, plan: ScaleUp, now: Timestamp) -> bool {
        let mut made = Vec::new();
        let has_tried = !plan.increases.is_empty();
        if let Some(reason) = &plan.reason {
            tracing::info!(reason, "chose a group");
        }
        for increase in &plan.increases {
            let scale_up::Increase { group, from, to, max } = increase;
            let sizes = format!("size set to {to} instead of {from} (max: {max})");
            match self.actor.cloud.set_target(group, *to).await {
                Ok(()) => {
                    let message = format!("Scale-up: group {group} {sizes}");
                    self.actor.tell(EventType::Normal, "ScaledUpGroup", message);
                    let count = u32::try_from(to - from).unwrap_or(0);
                    self.actor.metrics.add("scaled_up_nodes_total", "", f64::from(count));
                    if let Some(group) = world.group(group) {
                        self.registry.grew(group, to - from, now);
                    }
                    self.memory.last_add.note(group, now);
                    made.push(increase.to_string());
                }
                Err(error) => {
                    let error = telemetry::chain(&error).to_string();
                    let message = format!("Scale-up failed for group {group}: {error}");
                    self.actor.tell(EventType::Warning, "FailedToScaleUpGroup", message);
                    self.actor.metrics.add("failed_scale_ups_total", "cloudProviderError", 1.0);
                    let problem = Problem::new("cloudProviderError", error);
                    self.registry.failed(group, problem, &self.actor.options, now);
                }
            }
        }
        if !made.is_empty() {
            let message = format!("pod triggered scale-up: [{}]", made.join(" "));
            for pod in &plan.triggered {
                self.actor.recorder.normal(&*pod.pod, "TriggeredScaleUp", message.clone());
            }
        }
        // Where something was tried the others' turn comes yet.
        if !has_tried {
            for helpless in &plan.helpless {
                self.actor.recorder.normal(
                    &*helpless.pod.pod,
                    "NotTriggerScaleUp",
                    helpless.message(),
                );
            }
        }
        !made.is_empty()
    }

    /// With `--enforce-node-group-min-size`, groups below their least grow without any pod's need.
    async fn reach_minimum(&mut self, world: &World, now: Timestamp) {
        if !self.actor.options.enforce_min_size {
            return;
        }
        for group in world.groups.iter().filter(|it| it.target < it.min) {
            let by = group.min - group.target;
            match self.actor.cloud.set_target(&group.name, group.min).await {
                Ok(()) => self.registry.grew(group, by, now),
                Err(error) => {
                    let error = telemetry::chain(&error);
                    tracing::warn!(group = group.name, %error, "cannot reach the least size");
                }
            }
        }
    }

    async fn priorities(&self) -> Option<Priorities> {
        if !self.actor.options.expanders.contains(&Expander::Priority) {
            return None;
        }
        let maps = self.config_maps();
        let found = match maps.get_opt(PRIORITIES).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = %telemetry::chain(&error), "cannot read the priorities");
                return None;
            }
        };
        let Some(found) = found else {
            tracing::warn!("priority expander config map {PRIORITIES} not found");
            return None;
        };
        let text = found.data.as_ref().and_then(|it| it.get("priorities"));
        match Priorities::parse(text.map(String::as_str).unwrap_or_default()) {
            Ok(priorities) => Some(priorities),
            Err(error) => {
                let reason = "PriorityConfigMapInvalid";
                self.actor.recorder.warn(&found, reason, error.to_string());
                None
            }
        }
    }

    // === shrinking ===

    async fn scale_down(&mut self, world: &World, has_grown: bool, now: Timestamp) {
        let options = self.actor.options.clone();
        if !options.scale_down.is_enabled {
            return;
        }
        let question = scale_down::Question { world, memory: &self.memory, options: &options, now };
        let plan = scale_down::plan(question);
        self.report_scale_down(&plan);
        self.memory.unneeded = plan.unneeded;
        self.memory.rechecks = plan.rechecks;
        if has_grown {
            return;
        }
        if plan.removals.is_empty() {
            self.actor.mark_candidates(&self.memory.unneeded).await;
            return;
        }
        for removal in &plan.removals {
            self.memory.unneeded.remove(&removal.node);
        }
        self.actor.remove(plan.removals).await;
    }

    // === telling ===

    fn report(&self, world: &World) {
        let metrics = &self.actor.metrics;
        let count = |it: i64| f64::from(i32::try_from(it).unwrap_or(i32::MAX));
        let total = self.registry.total();
        for (state, value) in [
            ("ready", total.ready),
            ("unready", total.unready),
            ("notStarted", total.not_started),
            ("longUnregistered", total.long_unregistered),
            ("unregistered", total.unregistered),
        ] {
            metrics.set("nodes_count", state, count(value));
        }
        let groups = i64::try_from(world.groups.len()).unwrap_or(i64::MAX);
        metrics.set("node_groups_count", "autoscaled", count(groups));
        if self.actor.options.per_group_metrics {
            self.tell_groups(world);
        }
        let options = &self.actor.options;
        metrics.set("max_nodes_count", "", count(options.max_nodes_total));
        for (name, limits) in
            [("cpu_limits_cores", options.cores), ("memory_limits_bytes", options.memory)]
        {
            metrics.set(name, "minimum", wide(limits.min));
            metrics.set(name, "maximum", wide(limits.max));
        }
        let leaving = i64::try_from(self.actor.removals.leaving().len()).unwrap_or(i64::MAX);
        metrics.set("pending_node_deletions", "", count(leaving));
        self.tell_taints(world);
        let staying = world.nodes.iter().filter(|it| !node::has_taint(it, node::TO_BE_DELETED));
        let (mut cores, mut memory) = (0, 0);
        for it in staying {
            let capacity = resources::node_capacity(it);
            (cores, memory) = (cores + capacity.cpu_millis / 1000, memory + capacity.memory);
        }
        metrics.set("cluster_cpu_current_cores", "", count(cores));
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics.set("cluster_memory_current_bytes", "", memory as f64);
    }

    fn tell_taints(&self, world: &World) {
        let (metrics, options) = (&self.actor.metrics, &self.actor.options);
        let mut counts = BTreeMap::<&str, u32>::new();
        let taints = world.nodes.iter().flat_map(|it| node::taints(it));
        for taint in taints {
            let kind =
                node::kind_of_taint(&taint.key, &options.startup_taints, &options.status_taints);
            *counts.entry(kind).or_default() += 1;
        }
        metrics.clear("node_taints_count");
        for (kind, number) in counts {
            metrics.set("node_taints_count", kind, f64::from(number));
        }
    }

    /// One group that is gone is told no more.
    fn tell_groups(&self, world: &World) {
        let (metrics, options) = (&self.actor.metrics, &self.actor.options);
        for name in GROUP_METRICS.into_iter().chain([BACKOFF]) {
            metrics.clear(name);
        }
        let now = self.actor.clock.now();
        for group in &world.groups {
            let problem = self.registry.backoffs.problem(&group.name, now);
            let labels = format!("{}\n{}", group.name, problem.map_or("", |it| it.code));
            metrics.set(BACKOFF, &labels, f64::from(u8::from(problem.is_some())));
        }
        for group in &world.groups {
            let is_healthy = self.registry.is_group_healthy(group, options);
            let values = [group.min, group.max, group.target, i64::from(is_healthy)];
            for (name, value) in GROUP_METRICS.into_iter().zip(values) {
                let value = f64::from(i32::try_from(value).unwrap_or(i32::MAX));
                metrics.set(name, &group.name, value);
            }
        }
    }

    fn report_scale_down(&self, plan: &scale_down::ScaleDown) {
        let metrics = &self.actor.metrics;
        let count = |it: usize| f64::from(u32::try_from(it).unwrap_or(u32::MAX));
        metrics.set("unneeded_nodes_count", "", count(plan.unneeded.len()));
        metrics.set("scale_down_in_cooldown", "", f64::from(u8::from(plan.is_cooling)));
        metrics.clear("unremovable_nodes_count");
        let mut reasons = BTreeMap::<&str, usize>::new();
        for (node, why) in &plan.unremovable {
            tracing::debug!(node, ?why, "a node stays");
            *reasons.entry(why.name()).or_default() += 1;
        }
        for (reason, number) in reasons {
            metrics.set("unremovable_nodes_count", reason, count(number));
        }
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.actor.client.clone(), &self.actor.options.namespace)
    }

    async fn write_status(&self, status: &Status) {
        let Some(name) = &self.status_name else { return };
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "annotations": { LAST_UPDATED: status::told(self.actor.clock.now()) },
            },
            "data": { "status": status.yaml() },
        });
        let parameters = PatchParams::apply(PROJECT).force();
        match self.config_maps().patch(name, &parameters, &Patch::Apply(&map)).await {
            Ok(written) => *self.actor.status.lock() = Some(written),
            Err(error) => {
                tracing::warn!(error = %telemetry::chain(&error), "cannot write the status");
            }
        }
    }
}

/// Those whose need counts: not expendable, and not too young.
fn needy(pods: &[PodFact], options: &crate::options::Options, now: Timestamp) -> Vec<PodFact> {
    let counts = |pod: &&PodFact| {
        let own = pod.annotation(POD_DELAY).and_then(component_config::duration::parse);
        let delay = own.unwrap_or(options.new_pod_delay).max(options.new_pod_delay);
        pod.info.priority >= options.expendable_below && made(pod) + delay <= now
    };
    pods.iter().filter(counts).cloned().collect()
}

fn made(pod: &PodFact) -> Timestamp {
    pod.pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |it| it.0)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn wide(it: i64) -> f64 {
    it as f64
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn seconds(at: Timestamp) -> f64 {
    at.as_second() as f64
}
