//! What everybody expects of a scheduler and controllers, whosever they are.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Event, Namespace, Pod, ResourceQuota, Secret, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde_json::{Value, json};

use crate::bed::{Bed, NODE};

const NS: &str = "default";

trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + serde::Serialize
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + serde::Serialize
{
}

fn api<K: Kind>(client: &Client) -> Api<K> {
    Api::namespaced(client.clone(), NS)
}

async fn create<K: Kind>(bed: &Bed, object: Value) {
    let object: K = serde_json::from_value(object).unwrap();
    api::<K>(&bed.client).create(&PostParams::default(), &object).await.unwrap();
}

/// What the object says at this place; null where it is not there.
async fn at<K: Kind>(bed: &Bed, name: &str, pointer: &str) -> Value {
    let object = api::<K>(&bed.client).get_opt(name).await.unwrap();
    let value = serde_json::to_value(object).unwrap();
    value.pointer(pointer).cloned().unwrap_or_default()
}

async fn pods(bed: &Bed, labels: &str) -> Vec<Pod> {
    let selected = ListParams::default().labels(labels);
    api::<Pod>(&bed.client).list(&selected).await.unwrap().items
}

fn template(app: &str, image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": image }] } })
}

fn workload(app: &str, replicas: u32) -> Value {
    json!({ "metadata": { "name": app }, "spec": { "replicas": replicas, "serviceName": app,
        "selector": { "matchLabels": { "app": app } }, "template": template(app, "runs") } })
}

/// The whole story.
pub(crate) async fn roll_out(bed: &Bed) {
    let name = "the account and the authority of a namespace";
    bed.eventually(name, async || {
        api::<ServiceAccount>(&bed.client).get_opt("default").await.unwrap().is_some()
            && api::<ConfigMap>(&bed.client).get_opt("kube-root-ca.crt").await.unwrap().is_some()
    })
    .await;
    workloads(bed).await;
    a_new_version(bed).await;
    what_waits(bed).await;
    the_rest(bed).await;
    the_end(bed).await;
}

async fn workloads(bed: &Bed) {
    let ports = json!([{ "port": 80 }]);
    let service = json!({ "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": ports } });
    create::<Service>(bed, service).await;
    let mut web = workload("web", 2);
    web["spec"].as_object_mut().unwrap().remove("serviceName");
    create::<Deployment>(bed, web).await;
    create::<StatefulSet>(bed, workload("db", 1)).await;
    let mut agent = workload("agent", 1);
    agent["spec"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| !["replicas", "serviceName"].contains(&&**key));
    create::<DaemonSet>(bed, agent).await;
    let mut once = template("once", "exits");
    once["spec"]["restartPolicy"] = "Never".into();
    let job = json!({ "metadata": { "name": "once" }, "spec": { "template": once } });
    create::<Job>(bed, job).await;
    bed.eventually("a Deployment's pods", async || {
        at::<Deployment>(bed, "web", "/status/availableReplicas").await == 2
    })
    .await;
    assert!(
        pods(bed, "app=web")
            .await
            .iter()
            .all(|it| { it.spec.as_ref().and_then(|it| it.node_name.as_deref()) == Some(NODE) })
    );
    bed.eventually("a StatefulSet's pod", async || {
        at::<StatefulSet>(bed, "db", "/status/readyReplicas").await == 1
            && at::<Pod>(bed, "db-0", "/spec/nodeName").await == NODE
    })
    .await;
    bed.eventually("a DaemonSet's pod", async || {
        at::<DaemonSet>(bed, "agent", "/status/numberReady").await == 1
    })
    .await;
    bed.eventually("a Job's end", async || at::<Job>(bed, "once", "/status/succeeded").await == 1)
        .await;
    bed.eventually("a Service's endpoints", async || ready_endpoints(bed, "web").await == 2).await;
}

async fn ready_endpoints(bed: &Bed, service: &str) -> usize {
    let own = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = api::<EndpointSlice>(&bed.client).list(&own).await.unwrap().items;
    let endpoints = slices.iter().flat_map(|it| it.endpoints.iter().flatten());
    endpoints.filter(|it| it.conditions.as_ref().and_then(|it| it.ready) == Some(true)).count()
}

async fn a_new_version(bed: &Bed) {
    let patch = json!({ "spec": { "template": template("web", "runs-too") } });
    let deployments = api::<Deployment>(&bed.client);
    deployments.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    bed.eventually("a rolling update", async || {
        let sets = api::<ReplicaSet>(&bed.client).list(&ListParams::default()).await.unwrap();
        let mut wanted: Vec<i32> =
            sets.items.iter().filter_map(|it| it.spec.as_ref()?.replicas).collect();
        wanted.sort_unstable();
        wanted == [0, 2]
            && at::<Deployment>(bed, "web", "/status/updatedReplicas").await == 2
            && at::<Deployment>(bed, "web", "/status/replicas").await == 2
    })
    .await;
}

async fn what_waits(bed: &Bed) {
    let mut big = template("big", "runs");
    big["metadata"]["name"] = "big".into();
    big["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "100" } });
    create::<Pod>(bed, big).await;
    bed.eventually("why a pod waits", async || {
        let conditions = at::<Pod>(bed, "big", "/status/conditions").await;
        let told = conditions.as_array().into_iter().flatten().any(|it| {
            it["reason"] == "Unschedulable"
                && it["message"].as_str().is_some_and(|it| it.contains("Insufficient cpu"))
        });
        let events = api::<Event>(&bed.client).list(&ListParams::default()).await.unwrap();
        told && events.items.iter().any(|it| it.reason.as_deref() == Some("FailedScheduling"))
    })
    .await;
}

async fn the_rest(bed: &Bed) {
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "50" } } });
    create::<ResourceQuota>(bed, quota).await;
    bed.eventually("what a quota counts", async || {
        at::<ResourceQuota>(bed, "q", "/status/used/pods").await.is_string()
    })
    .await;
    let secret = json!({ "metadata": { "name": "t",
        "annotations": { "kubernetes.io/service-account.name": "default" } },
        "type": "kubernetes.io/service-account-token" });
    create::<Secret>(bed, secret).await;
    bed.eventually("the token of a Secret", async || {
        at::<Secret>(bed, "t", "/data/token").await.is_string()
    })
    .await;
}

async fn the_end(bed: &Bed) {
    let deployments = api::<Deployment>(&bed.client);
    deployments.delete("web", &DeleteParams::foreground()).await.unwrap();
    bed.eventually("a Deployment's end with all that it owns", async || {
        pods(bed, "app=web").await.is_empty() && deployments.get_opt("web").await.unwrap().is_none()
    })
    .await;
    let namespaces = Api::<Namespace>::all(bed.client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": "x" } })).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "m" } })).unwrap();
    let maps = Api::<ConfigMap>::namespaced(bed.client.clone(), "x");
    maps.create(&PostParams::default(), &map).await.unwrap();
    namespaces.delete(&namespace.name_any(), &DeleteParams::default()).await.unwrap();
    bed.eventually("a namespace's end", async || namespaces.get_opt("x").await.unwrap().is_none())
        .await;
}
