//! Our scheduler and controllers on an API server that somebody else runs, by an administrator's
//! kubeconfig (`NODESTEAD_SWAP_KUBECONFIG`).
//!
//! The scheduler binds pods of a namespace and of a scheduler's name of its own, to a node that only these
//! tolerate. The controllers run only where nobody else does their work.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use clock::Clock;
use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use kube_scheduler::config::load;
use lifecycle::Scope;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const TAINT: &str = "nodestead.test/swap";

/// What a test has on the other server.
struct There {
    client: Client,
    name: String,
    scope: Scope,
}

async fn there(test: &str) -> Option<There> {
    let path = env::var_os("NODESTEAD_SWAP_KUBECONFIG").filter(|it| !it.is_empty());
    let Some(path) = path.map(PathBuf::from) else {
        println!("not run: NODESTEAD_SWAP_KUBECONFIG names no kubeconfig");
        return None;
    };
    transport::tls::install_provider();
    let file = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let name = format!("nst-t-swap-{test}-{}", entropy::hex(4));
    let space = json!({ "metadata": { "name": name } });
    create(&Api::<Namespace>::all(client.clone()), space).await;
    Some(There { client, name, scope: Scope::new() })
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

impl There {
    async fn eventually(&self, holds: impl AsyncFn() -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < deadline {
            if holds().await {
                return true;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        false
    }

    async fn remove(self) {
        self.scope.cancel();
        let params = DeleteParams::default();
        drop(Api::<Node>::all(self.client.clone()).delete(&self.name, &params).await);
        drop(Api::<Namespace>::all(self.client.clone()).delete(&self.name, &params).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_scheduler_binds_pods_on_another_api_server() {
    let Some(there) = there("scheduler").await else { return };
    let resources = json!({ "cpu": "1", "memory": "1Gi", "pods": "10" });
    let node = json!({
        "metadata": { "name": there.name },
        "spec": { "taints": [{ "key": TAINT, "effect": "NoSchedule" }] },
        "status": { "capacity": resources, "allocatable": resources },
    });
    create(&Api::<Node>::all(there.client.clone()), node).await;
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": {
            "schedulerName": there.name, "containers": [{ "name": "c", "image": "x" }],
            "tolerations": [{ "operator": "Exists" }], "automountServiceAccountToken": false,
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchFields": [
                    { "key": "metadata.name", "operator": "In", "values": [there.name] },
                ] }] } } },
        },
    });
    let pods = Api::<Pod>::namespaced(there.client.clone(), &there.name);
    // The account may not be there yet.
    let made = there
        .eventually(async || {
            let pod = serde_json::from_value(pod.clone()).unwrap();
            pods.create(&PostParams::default(), &pod).await.is_ok()
        })
        .await;
    assert!(made, "no pod could be made");
    let file = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "profiles": [{ "schedulerName": there.name }],
    });
    let settings = load::parse(&file.to_string()).unwrap().settings().unwrap();
    let scheduler = kube_scheduler::run_with(
        there.client.clone(),
        settings,
        Clock::system(),
        there.scope.clone(),
    );
    drop(there.scope.spawn("kube-scheduler", scheduler));
    let is_bound = there
        .eventually(async || {
            let pod = pods.get("p").await.unwrap();
            pod.spec.and_then(|it| it.node_name).as_deref() == Some(&*there.name)
        })
        .await;
    drop(pods.delete("p", &DeleteParams::default().grace_period(0)).await);
    there.remove().await;
    assert!(is_bound, "the pod has no node");
}

/// Whether somebody does the controllers' work there.
async fn are_controlled(client: &Client) -> bool {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-system");
    let spec = leases.get_opt("kube-controller-manager").await.unwrap().and_then(|it| it.spec);
    let renewed = spec.and_then(|it| it.renew_time);
    renewed.is_some_and(|it| it.0.duration_until(Clock::system().now()).as_secs() < 60)
}

#[tokio::test(flavor = "multi_thread")]
async fn our_controllers_work_on_another_api_server() {
    let Some(there) = there("controllers").await else { return };
    if are_controlled(&there.client).await {
        println!("not run: a controller manager holds its Lease there");
        there.remove().await;
        return;
    }
    let ca = Arc::new(pki::Ca::new("kubernetes").unwrap());
    let pem = ca.certificate_pem().to_owned();
    let config = kube_controller_manager::Config::new(ca, pem);
    let (client, scope) = (there.client.clone(), there.scope.clone());
    let controllers = kube_controller_manager::run(client, config, Clock::system(), scope);
    drop(there.scope.spawn("kube-controller-manager", controllers));
    let deployment = json!({ "metadata": { "name": "d" }, "spec": { "replicas": 2,
        "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "b" } },
            "spec": { "schedulerName": there.name, "containers": [{ "name": "c", "image": "x" }] },
        } } });
    let deployments = Api::<Deployment>::namespaced(there.client.clone(), &there.name);
    create(&deployments, deployment).await;
    let pods = Api::<Pod>::namespaced(there.client.clone(), &there.name);
    let are_made = there
        .eventually(async || {
            let list = pods.list(&ListParams::default()).await.unwrap().items;
            let status = deployments.get("d").await.unwrap().status.unwrap_or_default();
            list.len() == 2 && status.replicas == Some(2)
        })
        .await;
    deployments.delete("d", &DeleteParams::background()).await.unwrap();
    let are_gone = there
        .eventually(async || pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    let are_gone = are_gone.await;
    there.remove().await;
    assert!(are_made && are_gone, "made: {are_made}, gone: {are_gone}");
}
