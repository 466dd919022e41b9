//! Deployments, DaemonSets, Services and what the scheduler makes of their pods.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet},
    core::v1::{Endpoints, Event, Pod, ReplicationController, Service},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::Cluster;

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
            "template": template(image) },
    })
}

fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{
        "name": "c", "image": image, "ports": [{ "name": "http", "containerPort": 8080 }],
        "resources": { "requests": { "cpu": "100m" } } }] } })
}

fn image(image: &str) -> Value {
    json!({ "spec": { "template": template(image) } })
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_rolled_out_scaled_updated_and_deleted() {
    let cluster = Cluster::start(2).await;
    cluster.create::<Deployment>(deployment(3, "one")).await;
    cluster.eventually("three pods run", async |it| it.ready_pods().await == 3).await;
    let nodes: BTreeSet<_> =
        cluster.list::<Pod>().await.iter().map(|it| it.spec.clone().unwrap().node_name).collect();
    assert_eq!(nodes.len(), 2, "the pods are spread");

    cluster
        .eventually("the status is complete", async |it| {
            let status = it.get::<Deployment>("web").await.unwrap().status.unwrap();
            let conditions = status.conditions.unwrap_or_default();
            status.available_replicas == Some(3)
                && conditions
                    .iter()
                    .any(|it| it.reason.as_deref() == Some("NewReplicaSetAvailable"))
                && conditions.iter().any(|it| it.type_ == "Available" && it.status == "True")
        })
        .await;

    cluster.patch::<Deployment>("web", json!({ "spec": { "replicas": 5 } })).await;
    cluster.eventually("five pods run", async |it| it.ready_pods().await == 5).await;

    cluster.patch::<Deployment>("web", image("two")).await;
    cluster
        .eventually("all pods are of the new image", async |it| {
            let pods = it.list::<Pod>().await;
            pods.len() == 5
                && pods.iter().all(|it| {
                    it.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("two")
                })
        })
        .await;
    let sets = cluster.list::<ReplicaSet>().await;
    assert_eq!(sets.len(), 2, "the old one is kept for a rollback");
    let revision = |it: &Deployment| it.annotations()["deployment.kubernetes.io/revision"].clone();
    assert_eq!(revision(&cluster.get::<Deployment>("web").await.unwrap()), "2");

    cluster.patch::<Deployment>("web", image("one")).await;
    cluster
        .eventually("the old set is used again", async |it| {
            revision(&it.get::<Deployment>("web").await.unwrap()) == "3"
                && it.list::<Pod>().await.len() == 5
        })
        .await;
    assert_eq!(cluster.list::<ReplicaSet>().await.len(), 2);

    cluster.delete::<Deployment>("web").await;
    cluster
        .eventually("everything of it is gone", async |it| {
            it.list::<Pod>().await.is_empty() && it.list::<ReplicaSet>().await.is_empty()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_follows_the_pods_that_it_selects() {
    let cluster = Cluster::start(2).await;
    cluster.create::<Deployment>(deployment(3, "one")).await;
    cluster
        .create::<Service>(json!({ "metadata": { "name": "web" }, "spec": {
            "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "http" }] } }))
        .await;
    let ready = async |it: &Cluster| {
        let slices = it.list::<EndpointSlice>().await;
        let ours = slices.iter().filter(|it| {
            it.labels().get("kubernetes.io/service-name").map(String::as_str) == Some("web")
        });
        let endpoints: Vec<_> =
            ours.flat_map(|it| it.endpoints.clone().unwrap_or_default()).collect();
        endpoints
            .iter()
            .filter(|it| it.conditions.as_ref().unwrap().ready == Some(true) && it.zone.is_some())
            .count()
    };
    cluster.eventually("three endpoints are ready", async |it| ready(it).await == 3).await;
    cluster.patch::<Deployment>("web", json!({ "spec": { "replicas": 1 } })).await;
    cluster.eventually("one endpoint is ready", async |it| ready(it).await == 1).await;
    cluster.delete::<Service>("web").await;
    cluster
        .eventually("its slices are collected", async |it| {
            let slices = it.list::<EndpointSlice>().await;
            slices.iter().all(|it| {
                it.labels().get("kubernetes.io/service-name").map(String::as_str) != Some("web")
            })
        })
        .await;
    cluster
        .eventually("its Endpoints go too", async |it| it.get::<Endpoints>("web").await.is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_in_topology_mode_auto_has_hints_that_follow_the_cpu_of_the_zones() {
    let cluster = Cluster::start(2).await;
    cluster.create::<Deployment>(deployment(4, "one")).await;
    cluster
        .create::<Service>(json!({
            "metadata": { "name": "web",
                "annotations": { "service.kubernetes.io/topology-mode": "Auto" } },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
        }))
        .await;
    let hints = async |it: &Cluster| {
        let slices = it.list::<EndpointSlice>().await;
        let endpoints = slices.iter().flat_map(|it| it.endpoints.iter().flatten());
        let hints = endpoints.filter_map(|it| it.hints.as_ref()?.for_zones.as_ref());
        let mut zones: Vec<_> = hints.flatten().map(|it| it.name.clone()).collect();
        zones.sort_unstable();
        zones
    };
    let (a, b) = ("us-east-1a", "us-east-1b");
    cluster.eventually("half for each", async |it| hints(it).await == [a, a, b, b]).await;
    cluster
        .eventually("it is said", async |it| {
            let events = it.list::<Event>().await;
            events.iter().any(|it| it.reason.as_deref() == Some("TopologyAwareHintsEnabled"))
        })
        .await;
    let nodes = kube::Api::<k8s_openapi::api::core::v1::Node>::all(cluster.client.clone());
    let larger = json!({ "status": { "allocatable": { "cpu": "6" } } });
    let larger = Patch::Merge(&larger);
    nodes.patch_status("n1", &PatchParams::default(), &larger).await.unwrap();
    cluster.eventually("more for the larger", async |it| hints(it).await == [a, b, b, b]).await;
    let off = json!({ "metadata": { "annotations": {
        "service.kubernetes.io/topology-mode": null } } });
    cluster.patch::<Service>("web", off).await;
    cluster.eventually("no hints", async |it| hints(it).await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_a_user_writes_are_served_as_slices() {
    let cluster = Cluster::start(1).await;
    cluster
        .create::<Service>(json!({ "metadata": { "name": "db" }, "spec": {
            "ports": [{ "port": 80 }] } }))
        .await;
    let subsets =
        |address: &str| json!([{ "addresses": [{ "ip": address }], "ports": [{ "port": 80 }] }]);
    cluster
        .create::<Endpoints>(
            json!({ "metadata": { "name": "db" }, "subsets": subsets("10.1.2.3") }),
        )
        .await;
    let addresses = async |it: &Cluster| {
        let slices = it.list::<EndpointSlice>().await;
        let ours = slices.iter().filter(|it| {
            it.labels().get("endpointslice.kubernetes.io/managed-by").map(String::as_str)
                == Some("endpointslicemirroring-controller.k8s.io")
        });
        let endpoints = ours.flat_map(|it| it.endpoints.clone().unwrap_or_default());
        endpoints.flat_map(|it| it.addresses).collect::<Vec<_>>()
    };
    cluster.eventually("they are mirrored", async |it| addresses(it).await == ["10.1.2.3"]).await;
    cluster.patch::<Endpoints>("db", json!({ "subsets": subsets("10.1.2.4") })).await;
    cluster.eventually("changes too", async |it| addresses(it).await == ["10.1.2.4"]).await;
    cluster.delete::<Endpoints>("db").await;
    cluster.eventually("and the end", async |it| addresses(it).await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_replication_controller_keeps_its_pods_and_adopts_those_that_fit() {
    let cluster = Cluster::start(2).await;
    let mut orphan = template("one");
    orphan["metadata"]["name"] = "orphan".into();
    cluster.create::<Pod>(orphan).await;
    cluster
        .create::<ReplicationController>(json!({ "metadata": { "name": "web" },
            "spec": { "replicas": 2, "template": template("one") } }))
        .await;
    cluster.eventually("two pods run", async |it| it.ready_pods().await == 2).await;
    let owner = async |it: &Cluster| {
        let pod = it.get::<Pod>("orphan").await?;
        pod.owner_references().first().map(|it| (it.kind.clone(), it.name.clone()))
    };
    let wanted = Some(("ReplicationController".to_owned(), "web".to_owned()));
    cluster.eventually("the orphan is adopted", async |it| owner(it).await == wanted).await;
    cluster
        .eventually("the status says so", async |it| {
            let status = it.get::<ReplicationController>("web").await.unwrap().status.unwrap();
            status.replicas == 2 && status.available_replicas == Some(2)
        })
        .await;
    cluster.patch::<ReplicationController>("web", json!({ "spec": { "replicas": 3 } })).await;
    cluster.eventually("a third is made", async |it| it.ready_pods().await == 3).await;
    let other = json!({ "metadata": { "labels": { "app": "other" } } });
    cluster.patch::<Pod>("orphan", other).await;
    cluster.eventually("who fits no more is let go", async |it| owner(it).await.is_none()).await;
    cluster.eventually("and replaced", async |it| it.list::<Pod>().await.len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_fit_nowhere_wait_with_upstreams_message_and_start_when_there_is_room() {
    let cluster = Cluster::start(2).await;
    let big = json!({ "metadata": { "name": "big" }, "spec": { "containers": [{ "name": "c",
        "image": "one", "resources": { "requests": { "cpu": "1500m" } } }] } });
    for name in ["a", "b", "c"] {
        let mut pod = big.clone();
        pod["metadata"]["name"] = name.into();
        cluster.create::<Pod>(pod).await;
    }
    cluster.eventually("two of three run", async |it| it.ready_pods().await == 2).await;
    let expected = "0/2 nodes are available: 2 Insufficient cpu. \
         no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    cluster
        .eventually("the third says why not", async |it| {
            let pods = it.list::<Pod>().await;
            let conditions = pods
                .iter()
                .flat_map(|it| it.status.clone().unwrap().conditions.unwrap_or_default());
            let messages: Vec<_> = conditions
                .filter(|it| it.reason.as_deref() == Some("Unschedulable"))
                .map(|it| it.message)
                .collect();
            messages == [Some(expected.to_owned())]
        })
        .await;
    cluster
        .eventually("and an event says so", async |it| {
            let events = it.list::<Event>().await;
            events.iter().any(|it| {
                it.reason.as_deref() == Some("FailedScheduling")
                    && it.message.as_deref() == Some(expected)
            })
        })
        .await;
    cluster.add_node("n2").await;
    cluster.eventually("a new node makes room", async |it| it.ready_pods().await == 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_important_pod_takes_the_place_of_another() {
    let cluster = Cluster::start(1).await;
    let pod = |name: &str, priority: i32| {
        json!({ "metadata": { "name": name }, "spec": {
        "priority": priority, "containers": [{ "name": "c", "image": "one",
            "resources": { "requests": { "cpu": "1500m" } } }] } })
    };
    for (name, value) in [("low", 1), ("high", 100)] {
        let class = json!({ "metadata": { "name": name }, "value": value });
        let class: k8s_openapi::api::scheduling::v1::PriorityClass =
            serde_json::from_value(class).unwrap();
        kube::Api::all(cluster.client.clone()).create(&Default::default(), &class).await.unwrap();
    }
    let classed = |name: &str, class: &str| {
        let mut pod = pod(name, 0);
        pod["spec"].as_object_mut().unwrap().remove("priority");
        pod["spec"]["priorityClassName"] = class.into();
        pod
    };
    cluster.create::<Pod>(classed("humble", "low")).await;
    cluster.eventually("the first runs", async |it| it.ready_pods().await == 1).await;
    cluster.create::<Pod>(classed("important", "high")).await;
    cluster
        .eventually("the important one runs alone", async |it| {
            let pods = it.list::<Pod>().await;
            pods.len() == 1 && pods[0].name_any() == "important" && it.ready_pods().await == 1
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_runs_on_every_node_and_is_updated_one_by_one() {
    let cluster = Cluster::start(3).await;
    cluster
        .create::<DaemonSet>(json!({ "metadata": { "name": "web" }, "spec": {
            "selector": { "matchLabels": { "app": "web" } }, "template": template("one") } }))
        .await;
    cluster.eventually("one on each node", async |it| it.ready_pods().await == 3).await;
    cluster.add_node("n3").await;
    cluster.eventually("and on a new node", async |it| it.ready_pods().await == 4).await;
    cluster.patch::<DaemonSet>("web", image("two")).await;
    cluster
        .eventually("the update reaches all", async |it| {
            let status = it.get::<DaemonSet>("web").await.unwrap().status.unwrap();
            assert!(status.number_unavailable.unwrap_or(0) <= 2);
            status.updated_number_scheduled == Some(4) && status.number_available == Some(4)
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_makes_no_progress_says_so_after_its_deadline() {
    let cluster = Cluster::start(1).await;
    let mut stuck = deployment(2, "one");
    stuck["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] =
        "64".into();
    stuck["spec"]["progressDeadlineSeconds"] = 120.into();
    let start = cluster.clock.now();
    cluster.create::<Deployment>(stuck).await;
    let reason = async |it: &Cluster| {
        let status = it.get::<Deployment>("web").await.unwrap().status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let progressing = conditions.into_iter().find(|it| it.type_ == "Progressing");
        progressing.map(|it| (it.status, it.reason.unwrap()))
    };
    cluster
        .eventually("it gives up", async |it| {
            reason(it).await == Some(("False".into(), "ProgressDeadlineExceeded".into()))
        })
        .await;
    let took = cluster.clock.now().duration_since(start).as_secs();
    assert!((120..=130).contains(&took), "after {took} s");
    cluster.add_big_node("big").await;
    cluster
        .eventually("it goes on when there is room", async |it| {
            reason(it).await == Some(("True".into(), "NewReplicaSetAvailable".into()))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_waits_until_its_last_gate_is_taken_away() {
    let cluster = Cluster::start(1).await;
    let gates = json!([{ "name": "example.com/wait" }]);
    cluster
        .create::<Pod>(json!({ "metadata": { "name": "gated" }, "spec": {
            "schedulingGates": gates, "containers": [{ "name": "c", "image": "one" }] } }))
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(cluster.ready_pods().await, 0);
    let conditions = cluster.get::<Pod>("gated").await.unwrap().status.unwrap().conditions;
    let scheduled = conditions.unwrap().into_iter().find(|it| it.type_ == "PodScheduled").unwrap();
    assert_eq!(scheduled.reason.as_deref(), Some("SchedulingGated"));
    cluster.patch::<Pod>("gated", json!({ "spec": { "schedulingGates": null } })).await;
    cluster.eventually("it runs", async |it| it.ready_pods().await == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_where_it_is_nominated_though_another_node_would_be_better() {
    let cluster = Cluster::start(2).await;
    let pod = |name: &str, spec: Value| {
        let mut full = json!({ "containers": [{ "name": "c", "image": "one",
            "resources": { "requests": { "cpu": "500m" } } }] });
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({ "metadata": { "name": name }, "spec": full })
    };
    cluster.create::<Pod>(pod("there", json!({ "nodeName": "n1" }))).await;
    let gates = json!([{ "name": "example.com/wait" }]);
    cluster.create::<Pod>(pod("late", json!({ "schedulingGates": gates }))).await;
    let nominated = Patch::Merge(json!({ "status": { "nominatedNodeName": "n1" } }));
    let parameters = PatchParams::default();
    cluster.api::<Pod>().patch_status("late", &parameters, &nominated).await.unwrap();
    cluster.patch::<Pod>("late", json!({ "spec": { "schedulingGates": null } })).await;
    cluster.eventually("both run", async |it| it.ready_pods().await == 2).await;
    let late = cluster.get::<Pod>("late").await.unwrap();
    assert_eq!(late.spec.unwrap().node_name.as_deref(), Some("n1"));
    assert_eq!(late.status.unwrap().nominated_node_name, None, "it is there");
}

#[tokio::test(start_paused = true)]
async fn a_disruption_budget_lets_one_pod_go_at_a_time() {
    let cluster = Cluster::start(2).await;
    cluster.create::<Deployment>(deployment(3, "one")).await;
    cluster
        .create::<PodDisruptionBudget>(json!({ "metadata": { "name": "web" }, "spec": {
            "maxUnavailable": 1, "selector": { "matchLabels": { "app": "web" } } } }))
        .await;
    let allowed = async |it: &Cluster| {
        let budget = it.get::<PodDisruptionBudget>("web").await.unwrap();
        budget.status.and_then(|it| it.disruptions_allowed)
    };
    cluster.eventually("one may go", async |it| allowed(it).await == Some(1)).await;
    let names: Vec<_> = cluster.list::<Pod>().await.iter().map(ResourceExt::name_any).collect();
    let pods = cluster.api::<Pod>();
    pods.evict(&names[0], &Default::default()).await.unwrap();
    let second = pods.evict(&names[1], &Default::default()).await;
    assert!(matches!(second, Err(kube::Error::Api(status)) if status.code == 429));
    cluster
        .eventually("another takes its place", async |it| {
            allowed(it).await == Some(1) && it.ready_pods().await == 3
        })
        .await;
}
