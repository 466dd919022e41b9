//! A cluster in this process: API server, scheduler, controllers, imitated kubelets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ::lifecycle::Scope;
use clock::Clock;
use controller::{Key, Queue, StoreSpec, reflect};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Event, Namespace, Node, Pod},
    resource::v1::{DeviceClass, ResourceSlice},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use kube_apiserver::{ApiServer, authn, request::UserInfo};
use kube_controller_manager::{Config, Switches};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(crate) const NS: &str = "default";

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) scope: Scope,
    pub(crate) machines: Machines,
    ca: Arc<pki::Ca>,
    settings: kube_scheduler::Settings,
    switches: Switches,
    identity: Identity,
    /// Of the controllers and the scheduler that run now.
    control: Mutex<Scope>,
}

/// Who the controllers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// `--use-service-account-credentials`: the default of these tests, as each then has its own rights only.
    Accounts,
    /// All of them `system:kube-controller-manager`.
    Shared,
}

/// The machines behind the nodes: which are cut off, and what runs on them in truth.
#[derive(Clone, Default)]
pub(crate) struct Machines(Arc<Mutex<Truth>>);

#[derive(Default)]
struct Truth {
    silent: BTreeSet<String>,
    /// By name of pod: its node and UID.
    running: BTreeMap<Key, (String, String)>,
    doubles: Vec<String>,
}

impl Machines {
    pub(crate) fn silence(&self, node: &str) {
        self.0.lock().silent.insert(node.to_owned());
    }

    pub(crate) fn reconnect(&self, node: &str) {
        self.0.lock().silent.remove(node);
    }

    pub(crate) fn is_silent(&self, node: &str) -> bool {
        self.0.lock().silent.contains(node)
    }

    /// The machine is destroyed with all that ran on it.
    pub(crate) fn destroy(&self, node: &str) {
        let mut truth = self.0.lock();
        truth.silent.insert(node.to_owned());
        truth.running.retain(|_, (there, _)| there != node);
    }

    /// Pods that began to run while an earlier one of their name still did.
    pub(crate) fn doubles(&self) -> Vec<String> {
        self.0.lock().doubles.clone()
    }

    fn started(&self, key: &Key, node: &str, uid: &str) {
        let mut truth = self.0.lock();
        let new = (node.to_owned(), uid.to_owned());
        let before = truth.running.insert(key.clone(), new.clone());
        if let Some(before) = before.filter(|it| it.1 != new.1) {
            truth.doubles.push(format!("{key}: {before:?} and {new:?}"));
        }
    }

    fn stopped(&self, key: &Key) {
        let mut truth = self.0.lock();
        let node = truth.running.get(key).map(|it| it.0.clone());
        // What runs where nobody can be reached runs on.
        if node.is_some_and(|it| !truth.silent.contains(&it)) {
            truth.running.remove(key);
        }
    }
}

pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Serialize
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
{
}

impl Cluster {
    /// With so many nodes, each with a kubelet.
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, kube_scheduler::Settings::default()).await
    }

    /// With a scheduler that is configured.
    pub(crate) async fn start_with(nodes: usize, settings: kube_scheduler::Settings) -> Self {
        Self::start_as(nodes, settings, Switches::default(), Identity::Accounts).await
    }

    /// With some of the controllers.
    pub(crate) async fn start_without(nodes: usize, switches: Switches) -> Self {
        let settings = kube_scheduler::Settings::default();
        Self::start_as(nodes, settings, switches, Identity::Accounts).await
    }

    /// With controllers that are one identity.
    pub(crate) async fn start_shared(nodes: usize) -> Self {
        let settings = kube_scheduler::Settings::default();
        Self::start_as(nodes, settings, Switches::default(), Identity::Shared).await
    }

    async fn start_as(
        nodes: usize,
        settings: kube_scheduler::Settings,
        switches: Switches,
        identity: Identity,
    ) -> Self {
        let epoch: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let clock = Clock::simulated(epoch);
        let mut config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        config.authn.service_accounts = Some(accounts());
        let server = ApiServer::start(config).await.unwrap();
        let client = server.client(UserInfo::master("admin"));
        let scope = Scope::new();
        let ca = Arc::new(pki::Ca::new("kubernetes").unwrap());
        let cluster = Self {
            server,
            client,
            clock,
            scope: scope.clone(),
            machines: Machines::default(),
            ca,
            settings,
            switches,
            identity,
            control: Mutex::new(scope.child()),
        };
        cluster.restart();
        for number in 0..nodes {
            cluster.add_node(&format!("n{number}")).await;
        }
        let kubelets = kubelet(cluster.client.clone(), cluster.machines.clone(), clock);
        drop(scope.spawn("kubelet", kubelets));
        cluster
            .eventually("the default service account", async |it| {
                it.get::<k8s_openapi::api::core::v1::ServiceAccount>("default").await.is_some()
            })
            .await;
        cluster
    }

    /// The controllers and the scheduler die, whatever they are at, and begin anew.
    pub(crate) fn restart(&self) {
        let scope = self.scope.child();
        std::mem::replace(&mut *self.control.lock(), scope.clone()).cancel();
        // Those under test have upstream's names and no other rights than the default roles'.
        let as_component = |name: &str| self.server.client(UserInfo::new(name, &[]));
        let controllers = as_component("system:kube-controller-manager");
        let scheduler = as_component("system:kube-scheduler");
        let mut config = Config::new(self.ca.clone(), self.ca.certificate_pem().to_owned());
        // Its helpers succeed at once.
        config.local_path_image = Some("exits".into());
        config.controllers = self.switches.clone();
        config.accounts = match self.identity {
            Identity::Accounts => Some(Client::new(self.server.service(), "default")),
            Identity::Shared => None,
        };
        config.service_account_key = Some(Arc::new(token_key().clone()));
        config.legacy_token_clean_up_period = Duration::from_secs(12 * 3600);
        drop(scope.spawn(
            "controllers",
            kube_controller_manager::run(controllers, config, self.clock, scope.clone()),
        ));
        let settings = self.settings.clone();
        let scheduler = kube_scheduler::run_with(scheduler, settings, self.clock, scope.clone());
        drop(scope.spawn("scheduler", scheduler));
    }

    pub(crate) async fn add_node(&self, name: &str) {
        self.add_node_with(name, "2").await;
    }

    pub(crate) async fn add_big_node(&self, name: &str) {
        self.add_node_with(name, "192").await;
    }

    async fn add_node_with(&self, name: &str, cpu: &str) {
        let zone = format!("us-east-1{}", if name.ends_with('0') { "a" } else { "b" });
        let resources = json!({ "cpu": cpu, "memory": "4Gi", "pods": "29" });
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": {
                "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone } },
            "status": { "capacity": resources, "allocatable": resources,
                "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }],
                "addresses": [{ "type": "InternalIP", "address": "192.168.0.12" }] },
        }))
        .unwrap();
        let nodes = Api::<Node>::all(self.client.clone());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let status = json!({ "status": node.status });
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        drop(self.scope.spawn("heartbeat", self.heartbeat(name)));
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), NS)
    }

    pub(crate) async fn create<K: Kind>(&self, object: Value) -> K {
        let object = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Makes an object without a namespace: a DeviceClass or a ResourceSlice.
    pub(crate) async fn put_cluster(&self, kind: &str, object: Value) {
        let parameters = PostParams::default();
        if kind == "DeviceClass" {
            let object = serde_json::from_value(object).unwrap();
            let api = Api::<DeviceClass>::all(self.client.clone());
            drop(api.create(&parameters, &object).await.unwrap());
        } else {
            let object = serde_json::from_value(object).unwrap();
            let api = Api::<ResourceSlice>::all(self.client.clone());
            drop(api.create(&parameters, &object).await.unwrap());
        }
    }

    pub(crate) async fn get<K: Kind>(&self, name: &str) -> Option<K> {
        self.api::<K>().get_opt(name).await.unwrap()
    }

    pub(crate) async fn list<K: Kind>(&self) -> Vec<K> {
        self.api::<K>().list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn patch<K: Kind>(&self, name: &str, patch: Value) {
        let patch = Patch::Merge(&patch);
        self.api::<K>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub(crate) async fn delete<K: Kind>(&self, name: &str) {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Whether there is an event of this reason that says this.
    pub(crate) async fn has_event(&self, reason: &str, message: &str) -> bool {
        let events = self.list::<Event>().await;
        events.iter().any(|it| {
            it.reason.as_deref() == Some(reason)
                && it.message.as_deref().is_some_and(|it| it.contains(message))
        })
    }

    pub(crate) async fn namespace(&self, name: &str) -> Option<Namespace> {
        Api::<Namespace>::all(self.client.clone()).get_opt(name).await.unwrap()
    }

    fn heartbeat(&self, name: &str) -> impl Future<Output = ()> + use<> {
        heartbeat(self.client.clone(), self.clock, self.machines.clone(), name.to_owned())
    }

    /// Pods that run and are ready.
    pub(crate) async fn ready_pods(&self) -> usize {
        self.list::<Pod>().await.iter().filter(|it| is_ready(it)).count()
    }

    /// Waits, in virtual time, until something holds; an hour is too long.
    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        for _ in 0..36_000 {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let pods: Vec<_> =
            self.list::<Pod>().await.iter().map(|it| (it.name_any(), it.status.clone())).collect();
        panic!("never came about: {what}\npods: {pods:#?}");
    }
}

/// Who signs the tokens of Secrets. Making an RSA key is slow, and one serves all tests.
fn token_key() -> &'static pki::ServiceAccountKey {
    static KEY: std::sync::LazyLock<pki::ServiceAccountKey> =
        std::sync::LazyLock::new(|| pki::ServiceAccountKey::generate().unwrap());
    &KEY
}

fn accounts() -> authn::ServiceAccounts {
    authn::ServiceAccounts {
        issuer: "https://issuer".into(),
        audiences: vec!["https://kubernetes.default.svc".into()],
        jwks_uri: "https://issuer/keys".into(),
        keys: authn::SigningKeys::new(vec![token_key().clone()]),
        legacy_keys: authn::SigningKeys::new(vec![token_key().clone()]),
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

async fn heartbeat(client: Client, clock: Clock, machines: Machines, name: String) {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    loop {
        if machines.is_silent(&name) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        let now = clock.now();
        let lease: Lease = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "holderIdentity": name, "leaseDurationSeconds": 40,
                "renewTime": format!("{now:.6}") },
        }))
        .unwrap();
        if leases.get_opt(&name).await.unwrap().is_none() {
            drop(leases.create(&PostParams::default(), &lease).await);
        } else {
            let patch = json!({ "spec": lease.spec });
            drop(leases.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await);
        }
        report_ready(&client, &name).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// A node that was given up for silent says that it is well.
async fn report_ready(client: &Client, name: &str) {
    let nodes = Api::<Node>::all(client.clone());
    let Some(node) = nodes.get_opt(name).await.unwrap() else { return };
    let mut conditions = node.status.and_then(|it| it.conditions).unwrap_or_default();
    let ready = conditions.iter_mut().find(|it| it.type_ == "Ready" && it.status != "True");
    let Some(ready) = ready else { return };
    ready.status = "True".into();
    ready.reason = Some("KubeletReady".into());
    let status = json!({ "status": { "conditions": conditions } });
    drop(nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await);
}

/// Runs what is bound, and lets go of what is deleted, on all nodes that can be reached.
async fn kubelet(client: Client, machines: Machines, clock: Clock) {
    let scope = Scope::new();
    let pods = reflect::<Pod>(client.clone(), StoreSpec::default(), &scope);
    let queue = Queue::<Key>::new();
    let on = queue.clone();
    pods.subscribe(move |change| on.add(change.key.clone()));
    let mut address = 10_u32;
    loop {
        let key = queue.next().await;
        queue.done(&key, true);
        let Some(pod) = pods.get(&key) else {
            machines.stopped(&key);
            continue;
        };
        let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
        let Some(node) = pod.spec.as_ref().and_then(|it| it.node_name.clone()) else { continue };
        if machines.is_silent(&node) {
            queue.add_after(key, Duration::from_secs(5));
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            machines.stopped(&key);
            drop(api.delete(&key.name, &DeleteParams::default().grace_period(0)).await);
            continue;
        }
        let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        let is_new = phase == Some("Pending");
        let fell_silent = phase == Some("Running") && !is_ready(&pod);
        if !is_new && !fell_silent {
            continue;
        }
        if is_new {
            machines.started(&key, &node, &pod.uid().unwrap());
        }
        address += 1;
        let mut status = running(&pod, address, clock.now());
        if !is_new {
            // It keeps its address.
            status["status"]["podIP"] = json!(pod.status.as_ref().unwrap().pod_ip);
            status["status"]["podIPs"] = json!(pod.status.as_ref().unwrap().pod_ips);
        }
        drop(api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&status)).await);
    }
}

/// Containers of the image `exits` end with success at once, those of `fails` with failure.
fn running(pod: &Pod, address: u32, now: Timestamp) -> Value {
    let spec = pod.spec.as_ref().unwrap();
    let image = spec.containers.first().and_then(|it| it.image.as_deref());
    let phase = match image {
        Some("exits") => "Succeeded",
        Some("fails") => "Failed",
        _ => "Running",
    };
    let code = i32::from(phase == "Failed");
    let name = spec.containers.first().map(|it| it.name.as_str());
    let state = if phase == "Running" {
        json!({ "running": {} })
    } else {
        let finished = controller::object::time(now);
        json!({ "terminated": { "exitCode": code, "finishedAt": finished } })
    };
    let ready = if phase == "Running" { "True" } else { "False" };
    let ip = format!("192.168.{}.{}", address / 256, address % 256);
    json!({ "status": { "phase": phase, "podIP": ip, "podIPs": [{ "ip": ip }],
        "containerStatuses": [{ "name": name, "image": "", "imageID": "", "restartCount": 0,
            "ready": phase == "Running", "state": state }],
        "conditions": [{ "type": "PodScheduled", "status": "True" },
            { "type": "Ready", "status": ready, "lastTransitionTime": "2026-11-23T12:00:00Z" }] } })
}
