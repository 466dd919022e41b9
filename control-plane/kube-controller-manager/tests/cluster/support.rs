//! A cluster in this process: API server, scheduler, controllers, imitated kubelets.

use std::{sync::Arc, time::Duration};

use ::lifecycle::Scope;
use clock::Clock;
use controller::{Key, Queue, StoreSpec, reflect};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod},
    resource::v1::{DeviceClass, ResourceSlice},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use kube_apiserver::{ApiServer, request::UserInfo};
use kube_controller_manager::Config;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(crate) const NS: &str = "default";

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) scope: Scope,
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
        let epoch: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let clock = Clock::simulated(epoch);
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        let server = ApiServer::start(config).await.unwrap();
        let client = server.client(UserInfo::master("admin"));
        // Those under test have upstream's names and no other rights than the default roles'.
        let as_component = |name: &str| server.client(UserInfo::new(name, &[]));
        let controllers = as_component("system:kube-controller-manager");
        let scheduler = as_component("system:kube-scheduler");
        let scope = Scope::new();
        let cluster = Self { server, client, clock, scope: scope.clone() };
        let ca = Arc::new(pki::Ca::new("kubernetes").unwrap());
        let root = ca.certificate_pem().to_owned();
        let config = Config::new(ca, root);
        drop(scope.spawn(
            "controllers",
            kube_controller_manager::run(controllers, config, clock, scope.clone()),
        ));
        drop(scope.spawn("scheduler", kube_scheduler::run(scheduler, clock, scope.clone())));
        for number in 0..nodes {
            cluster.add_node(&format!("n{number}")).await;
        }
        drop(scope.spawn("kubelet", kubelet(cluster.client.clone())));
        cluster
            .eventually("the default service account", async |it| {
                it.get::<k8s_openapi::api::core::v1::ServiceAccount>("default").await.is_some()
            })
            .await;
        cluster
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
        drop(
            self.scope
                .spawn("heartbeat", heartbeat(self.client.clone(), self.clock, name.to_owned())),
        );
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

    pub(crate) async fn namespace(&self, name: &str) -> Option<Namespace> {
        Api::<Namespace>::all(self.client.clone()).get_opt(name).await.unwrap()
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

impl Drop for Cluster {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

async fn heartbeat(client: Client, clock: Clock, name: String) {
    let leases = Api::<Lease>::namespaced(client, "kube-node-lease");
    loop {
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
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Runs what is bound, and lets go of what is deleted.
async fn kubelet(client: Client) {
    let scope = Scope::new();
    let pods = reflect::<Pod>(client.clone(), StoreSpec::default(), &scope);
    let queue = Queue::<Key>::new();
    let on = queue.clone();
    pods.subscribe(move |change| on.add(change.key.clone()));
    let mut address = 10_u32;
    loop {
        let key = queue.next().await;
        queue.done(&key, true);
        let Some(pod) = pods.get(&key) else { continue };
        let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
        if pod.spec.as_ref().and_then(|it| it.node_name.as_ref()).is_none() {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            drop(api.delete(&key.name, &DeleteParams::default().grace_period(0)).await);
            continue;
        }
        let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
        if phase != Some("Pending") {
            continue;
        }
        address += 1;
        let status = running(&pod, address);
        drop(api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&status)).await);
    }
}

/// Containers of the image `exits` end with success at once, those of `fails` with failure.
fn running(pod: &Pod, address: u32) -> Value {
    let spec = pod.spec.as_ref().unwrap();
    let image = spec.containers.first().and_then(|it| it.image.as_deref());
    let phase = match image {
        Some("exits") => "Succeeded",
        Some("fails") => "Failed",
        _ => "Running",
    };
    let ready = if phase == "Running" { "True" } else { "False" };
    let ip = format!("192.168.{}.{}", address / 256, address % 256);
    json!({ "status": { "phase": phase, "podIP": ip, "podIPs": [{ "ip": ip }],
        "conditions": [{ "type": "PodScheduled", "status": "True" },
            { "type": "Ready", "status": ready, "lastTransitionTime": "2026-11-23T12:00:00Z" }] } })
}
