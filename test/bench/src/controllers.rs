//! The controllers and the scheduler at scale: 1,000 nodes without machines, up to 10,000 pods.
//!
//! API server (on a durable store), controllers, scheduler and what imitates the kubelets share this
//! process, so that the times are upper bounds. Kubelets say at once that a pod runs, and delete what
//! is to go; they send no heartbeats, and the grace period of nodes is longer than the measurement.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clock::Clock;
use controller::{Change, Key, Queue, Store, StoreSpec, reflect};
use futures::{StreamExt, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rows::{Row, seconds};

const NODES: usize = 1_000;
const SCHEDULED: i32 = 10_000;
const SCALED: i32 = 5_000;
const LIMIT: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(20);
const NS: &str = "default";

pub(crate) async fn rows() -> anyhow::Result<Vec<Row>> {
    let bed = Bed::start().await?;
    let mut rows = vec![bed.scheduling().await?];
    rows.push(bed.idle().await);
    bed.scale_to(0).await?;
    // What is still being deleted would be measured with what comes.
    bed.until("the end of all pods", async |bed| Ok(bed.pods.is_empty())).await?;
    rows.push(bed.scaling().await?);
    rows.push(bed.rolling().await?);
    Ok(rows)
}

struct Bed {
    client: Client,
    scope: Scope,
    pods: Store<Pod>,
    /// It goes with the value.
    _folder: TempDir,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

impl Bed {
    async fn start() -> anyhow::Result<Self> {
        let folder = crate::disk_folder()?;
        let store = mvcc::Store::open(&folder.path().join("store"))?;
        let clock = Clock::system();
        let server = ApiServer::start(kube_apiserver::Config::new(store, clock)).await?;
        let client = server.client(UserInfo::master("bench"));
        let scope = Scope::new();
        let ca = Arc::new(pki::Ca::new("kubernetes")?);
        let pem = ca.certificate_pem().to_owned();
        let mut config = kube_controller_manager::Config::new(ca, pem);
        config.node_monitor_grace_period = Duration::from_secs(24 * 3600);
        let as_component = |name: &str| server.client(UserInfo::new(name, &[]));
        let controllers = as_component("system:kube-controller-manager");
        let controllers = kube_controller_manager::run(controllers, config, clock, scope.child());
        drop(scope.spawn("controllers", controllers));
        let scheduler = as_component("system:kube-scheduler");
        drop(scope.spawn("scheduler", kube_scheduler::run(scheduler, clock, scope.child())));
        let pods = reflect::<Pod>(client.clone(), StoreSpec::default(), &scope);
        drop(scope.spawn("kubelets", kubelets(client.clone(), pods.clone())));
        let bed = Self { client, scope, pods, _folder: folder };
        bed.add_nodes().await?;
        bed.until("the default service account", async |bed| {
            let accounts = Api::<ServiceAccount>::namespaced(bed.client.clone(), NS);
            Ok(accounts.get_opt("default").await?.is_some())
        })
        .await?;
        bed.deploy(0).await?;
        Ok(bed)
    }

    async fn add_nodes(&self) -> anyhow::Result<()> {
        let api = Api::<Node>::all(self.client.clone());
        let made: Vec<_> = stream::iter(0..NODES)
            .map(|number| {
                let api = &api;
                async move {
                    api.create(&PostParams::default(), &node(number)?)
                        .await
                        .map_err(anyhow::Error::from)
                }
            })
            .buffer_unordered(32)
            .collect()
            .await;
        made.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }

    async fn deploy(&self, replicas: i32) -> anyhow::Result<()> {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": { "name": "web" }, "spec": { "replicas": replicas,
                "selector": { "matchLabels": { "app": "web" } }, "template": template("one") } }))?;
        self.deployments().create(&PostParams::default(), &deployment).await?;
        Ok(())
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), NS)
    }

    async fn patch(&self, spec: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.deployments().patch("web", &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn until(
        &self,
        what: &str,
        holds: impl AsyncFn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Duration> {
        let start = Instant::now();
        while !holds(self).await? {
            ensure!(start.elapsed() < LIMIT, "{what} did not come about within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(start.elapsed())
    }

    /// Until the Deployment says that so many are available and it has seen what was asked.
    async fn available(&self, wanted: i32) -> anyhow::Result<Duration> {
        self.until("the Deployment", async |bed| {
            let it = bed.deployments().get("web").await?;
            let status = it.status.unwrap_or_default();
            Ok(status.observed_generation == it.metadata.generation
                && status.replicas.unwrap_or(0) == wanted
                && status.updated_replicas.unwrap_or(0) == wanted
                && status.available_replicas.unwrap_or(0) == wanted)
        })
        .await
    }

    async fn scale_to(&self, replicas: i32) -> anyhow::Result<Duration> {
        self.patch(json!({ "replicas": replicas })).await?;
        self.available(replicas).await
    }

    async fn scheduling(&self) -> anyhow::Result<Row> {
        self.patch(json!({ "replicas": SCHEDULED })).await?;
        let wanted = usize::try_from(SCHEDULED)?;
        let took = self
            .until("all pods have their node", async |bed| {
                let is_placed =
                    |it: &&Arc<Pod>| it.spec.as_ref().is_some_and(|it| it.node_name.is_some());
                Ok(bed.pods.len() == wanted
                    && bed.pods.all().iter().filter(is_placed).count() == wanted)
            })
            .await?;
        self.available(SCHEDULED).await?;
        let rate = f64::from(SCHEDULED) / took.as_secs_f64();
        let what = "10,000 pods with a spread constraint made and bound, 1,000 nodes";
        Ok(Row::new(what, format!("{rate:.0} pods/s"), "-", "500 pods/s"))
    }

    async fn idle(&self) -> Row {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = cpu();
        tokio::time::sleep(IDLE).await;
        let used = cpu().saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
        let what = "idle control plane with 10,000 pods, without heartbeats";
        Row::new(what, format!("{used:.2} % CPU"), "-", "2 % of a core")
    }

    async fn scaling(&self) -> anyhow::Result<Row> {
        let took = self.scale_to(SCALED).await?;
        Ok(Row::new("0 to 5,000 replicas available", seconds(took), "-", "15 s"))
    }

    /// Sees at each change of a pod that there are never more pods than surge allows, nor fewer available
    /// than there must be: a quarter each, by default.
    async fn rolling(&self) -> anyhow::Result<Row> {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let seen = counts.clone();
        self.pods.subscribe(move |change| seen.lock().see(change));
        counts.lock().begin();
        self.patch(json!({ "template": template("two") })).await?;
        let took = self.available(SCALED).await?;
        let Counts { most, least, .. } = *counts.lock();
        let scaled = usize::try_from(SCALED)?;
        let (allowed, needed) = (scaled * 5 / 4, scaled * 3 / 4);
        ensure!(most <= allowed, "{most} pods at once, where surge allows {allowed}");
        ensure!(least >= needed, "{least} pods were available, where {needed} must be");
        let what = format!(
            "rolling update of 5,000 pods, {least} to {most} at once ({needed} to {allowed} allowed)"
        );
        Ok(Row::new(what, seconds(took), "-", "its limits hold"))
    }
}

/// The pods that are not being deleted, and how many of them are available; the most of those and the
/// least of these that there were.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    active: usize,
    available: usize,
    most: usize,
    least: usize,
}

impl Counts {
    fn see(&mut self, change: &Change<Pod>) {
        let stays = |it: &&Arc<Pod>| it.metadata.deletion_timestamp.is_none();
        let (old, new) = (change.old.as_ref().filter(stays), change.new.as_ref().filter(stays));
        let of = |it: Option<&Arc<Pod>>| {
            (usize::from(it.is_some()), usize::from(it.is_some_and(|it| is_ready(it))))
        };
        let (before, after) = (of(old), of(new));
        self.active = self.active + after.0 - before.0;
        self.available = self.available + after.1 - before.1;
        self.most = self.most.max(self.active);
        self.least = self.least.min(self.available);
    }

    /// Those that are there from the start have been seen.
    fn begin(&mut self) {
        (self.most, self.least) = (self.active, self.available);
    }
}

fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

fn node(number: usize) -> anyhow::Result<Node> {
    let name = format!("n{number}");
    let zone = ["us-east-1a", "us-east-1b", "us-east-1c"][number % 3];
    let resources = json!({ "cpu": "4", "memory": "16Gi", "pods": "58" });
    let node = json!({
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone } },
        "status": { "capacity": resources, "allocatable": resources,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }] },
    });
    serde_json::from_value(node).context("a node")
}

fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": {
        "terminationGracePeriodSeconds": 0,
        "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "web" } } }],
        "containers": [{ "name": "c", "image": image,
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } } }] } })
}

/// All of them: what is bound runs, what is to go goes.
async fn kubelets(client: Client, pods: Store<Pod>) {
    let queue = Queue::<Key>::new();
    let on = queue.clone();
    pods.subscribe(move |change| on.add(change.key.clone()));
    let next = &queue;
    let passes = stream::unfold((), move |()| async move { Some((next.next().await, ())) });
    passes
        .for_each_concurrent(64, |key| {
            let (client, pods, queue) = (&client, &pods, &queue);
            async move {
                queue.done(&key, true);
                if let Some(pod) = pods.get(&key) {
                    tend(client, &key, &pod).await;
                }
            }
        })
        .await;
}

async fn tend(client: &Client, key: &Key, pod: &Pod) {
    let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
    if pod.spec.as_ref().is_none_or(|it| it.node_name.is_none()) {
        return;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        drop(api.delete(&key.name, &DeleteParams::default().grace_period(0)).await);
        return;
    }
    if pod.status.as_ref().and_then(|it| it.phase.as_deref()) != Some("Pending") {
        return;
    }
    let now = controller::object::time(Clock::system().now());
    let status = json!({ "status": { "phase": "Running", "conditions": [
        { "type": "PodScheduled", "status": "True" },
        { "type": "Ready", "status": "True", "lastTransitionTime": now }] } });
    drop(api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&status)).await);
}

/// What this process has used so far.
fn cpu() -> Duration {
    let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let of = |it: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(it.tv_sec()).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(it.tv_usec()).unwrap_or(0))
    };
    of(usage.user_time()) + of(usage.system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(is_ready: bool, is_going: bool) -> Arc<Pod> {
        let status = if is_ready { "True" } else { "False" };
        let at = is_going.then_some("2026-01-01T00:00:00Z");
        let pod = json!({
            "metadata": { "deletionTimestamp": at },
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn pods_are_counted_at_each_change_from_when_all_have_been_seen() {
        let mut counts = Counts::default();
        let key = || Key { namespace: NS.to_owned(), name: "p".to_owned() };
        let mut see = |old: Option<Arc<Pod>>, new| {
            counts.see(&Change { key: key(), old, new });
            (counts.active, counts.available)
        };
        assert_eq!(see(None, Some(pod(true, false))), (1, 1));
        assert_eq!(see(None, Some(pod(false, false))), (2, 1));
        assert_eq!(see(Some(pod(true, false)), Some(pod(true, true))), (1, 0));
        assert_eq!(see(Some(pod(false, false)), Some(pod(true, false))), (1, 1));
        assert_eq!(see(Some(pod(true, true)), None), (1, 1));
        assert_eq!((counts.most, counts.least), (2, 0));
        counts.begin();
        assert_eq!((counts.most, counts.least), (1, 1));
    }
}
