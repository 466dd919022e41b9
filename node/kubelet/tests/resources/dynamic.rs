//! Dynamic resources: a kubelet, and a real driver on its socket.

use std::{fs, time::Duration};

use api_kubelet::{
    dra_health::HealthStatus,
    pod_resources::{self, pod_resources_lister_client::PodResourcesListerClient},
};
use device_plugin::dra::{DraDriver, device};
use k8s_openapi::api::{core::v1::PodStatus, resource::v1::ResourceSlice};
use serde_json::{Value, json};
use tonic::Status;

use super::{
    running,
    support::{NODE, World},
};

const DRIVER: &str = "gpu.example.com";
const PREPARE: &str = "NodePrepareResources";
const UNPREPARE: &str = "NodeUnprepareResources";

fn driver(world: &World, services: &[&str]) -> DraDriver {
    let driver = DraDriver::serve(&world.root().join("plugins_registry"), DRIVER, services);
    let driver = driver.unwrap();
    driver.set_devices(vec![
        device("gpu-0", &["gpu"], &["example.com/gpu=0"]),
        device("link", &[], &["example.com/link=a"]),
        device("gpu-1", &["other"], &["example.com/gpu=1"]),
    ]);
    driver
}

/// A pod whose container asks for the request `gpu` of a claim.
fn with_claim(name: &str, claim: &str) -> Value {
    let claims = json!([{ "name": "c", "request": "gpu" }]);
    let container = json!({ "name": name, "image": "i:1", "resources": { "claims": claims } });
    json!({
        "metadata": { "name": name },
        "spec": {
            "containers": [container],
            "resourceClaims": [{ "name": "c", "resourceClaimName": claim }],
            "terminationGracePeriodSeconds": 0,
        },
    })
}

/// As the scheduler does, for pods that are there.
async fn allocate(world: &World, claim: &str, pods: &[&str]) {
    let mut reserved = Vec::new();
    for pod in pods {
        reserved.push(json!({ "resource": "pods", "name": pod, "uid": world.uid(pod).await }));
    }
    let result = json!({
        "driver": DRIVER, "pool": "pool", "device": "gpu-0", "request": "gpu",
    });
    let status = json!({
        "allocation": { "devices": { "results": [result] } },
        "reservedFor": reserved,
    });
    world.put_claim(claim, status).await;
}

fn names(world: &World, container: &str) -> Vec<String> {
    let config = world.runtime.container_config(container).unwrap();
    config.cdi_devices.into_iter().map(|it| it.name).collect()
}

async fn until(world: &World, what: &str, is_it: impl Fn() -> bool) {
    for _ in 0..200 {
        if is_it() {
            return;
        }
        world.pass(Duration::from_millis(50)).await;
    }
    panic!("{what} does not come");
}

fn call(name: &'static str, claim: &str) -> (&'static str, Vec<String>) {
    (name, vec![claim.to_owned()])
}

#[tokio::test]
async fn a_claim_is_prepared_before_its_pod_starts_and_unprepared_after_the_last_one() {
    let mut world = World::new().await;
    let plugin = driver(&world, &["v1.DRAPlugin", "v1beta1.DRAPlugin"]);
    world.create(with_claim("a", "gpu")).await;
    world
        .until_event(
            "FailedPrepareDynamicResources",
            "Failed to prepare dynamic resources: prepare dynamic resources: fetch ResourceClaim gpu: resourceclaims.resource.k8s.io \"gpu\" not found",
        )
        .await;
    assert_eq!(world.runtime.count("RunPodSandbox", "a"), 0);
    world.create(with_claim("b", "gpu")).await;
    allocate(&world, "gpu", &["a", "b"]).await;
    running(&world, "a").await;
    running(&world, "b").await;
    // Of two that begin at once, one asks. Each has the devices of its request and those that serve all.
    let asked = plugin.calls().len();
    assert_eq!(plugin.calls(), [call(PREPARE, "gpu")]);
    assert_eq!(names(&world, "a"), ["example.com/gpu=0", "example.com/link=a"]);
    assert_eq!(names(&world, "b"), names(&world, "a"));

    // What agents on the node are told.
    let socket = world.root().join("pod-resources/kubelet.sock").display().to_string();
    let mut agent = PodResourcesListerClient::new(api_cri::connect(&socket).unwrap());
    let request = pod_resources::GetPodResourcesRequest {
        pod_name: "a".to_owned(),
        pod_namespace: "default".to_owned(),
    };
    let told = agent.get(request).await.unwrap().into_inner().pod_resources.unwrap();
    let dynamic = &told.containers[0].dynamic_resources[0];
    assert_eq!((dynamic.claim_name.as_str(), dynamic.claim_resources.len()), ("gpu", 3));
    assert_eq!(dynamic.claim_resources[0].driver_name, DRIVER);

    // The health of the device reaches the status.
    let health = |it: &PodStatus| {
        let told = it.container_statuses.as_ref()?.first()?.allocated_resources_status.as_ref()?;
        let resource = told.first()?.resources.as_ref()?.first()?;
        Some((told[0].name.clone(), resource.health.clone()?, resource.message.clone()))
    };
    plugin.set_health("gpu-0", HealthStatus::Unhealthy, "ECC");
    let expected = ("claim:c/gpu".to_owned(), "Unhealthy".to_owned(), Some("ECC".to_owned()));
    world.until("a", |it| health(it).as_ref() == Some(&expected)).await;

    // A new kubelet knows what is prepared. The claim goes with its last pod.
    world.restart_kubelet().await;
    let file = world.root().join("dra_manager_state");
    let holds = |uid: &str| fs::read_to_string(&file).unwrap().contains(uid);
    let (a, b) = (world.uid("a").await, world.uid("b").await);
    assert!(holds(&a) && holds(&b));
    world.delete("a", 0).await;
    until(&world, "the end of a", || !holds(&a)).await;
    assert!(holds(&b));
    assert_eq!(plugin.calls().len(), asked, "another pod has the claim");
    plugin.inject(UNPREPARE, Status::unavailable("busy"));
    world.delete("b", 0).await;
    until(&world, "the end of b", || !holds(&b)).await;
    let ends = [call(UNPREPARE, "gpu"), call(UNPREPARE, "gpu")];
    assert_eq!(plugin.calls()[asked..], ends, "a failure is tried again");
}

#[tokio::test]
async fn a_claim_that_is_being_taken_back_is_prepared_anew_for_who_comes_meanwhile() {
    let world = World::new().await;
    let plugin = driver(&world, &["v1.DRAPlugin"]);
    world.create(with_claim("a", "gpu")).await;
    allocate(&world, "gpu", &["a"]).await;
    running(&world, "a").await;
    plugin.hold(UNPREPARE);
    world.delete("a", 0).await;
    let expected = [call(PREPARE, "gpu"), call(UNPREPARE, "gpu")];
    until(&world, "the call", || plugin.calls() == expected).await;
    world.create(with_claim("b", "gpu")).await;
    allocate(&world, "gpu", &["b"]).await;
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(plugin.calls(), expected, "b waits for its turn");
    assert_eq!(world.runtime.count("RunPodSandbox", "b"), 0);
    plugin.hold("");
    running(&world, "b").await;
    assert_eq!(plugin.calls()[2..], [call(PREPARE, "gpu")]);
    assert!(!plugin.has_overlapped());
    assert_eq!(names(&world, "b"), ["example.com/gpu=0", "example.com/link=a"]);
}

#[tokio::test]
async fn a_pod_that_may_not_use_a_claim_or_whose_driver_fails_does_not_start() {
    let world = World::new().await;
    world.create(with_claim("a", "gpu")).await;
    allocate(&world, "gpu", &["a"]).await;
    let prefix = "Failed to prepare dynamic resources: prepare dynamic resources: ";
    let told = async |message: &str| {
        let message = format!("{prefix}{message}");
        world.until_event("FailedPrepareDynamicResources", &message).await;
    };
    told(&format!("DRA driver {DRIVER} is not registered")).await;
    let plugin = driver(&world, &["v1.DRAPlugin"]);
    plugin.inject(PREPARE, Status::internal("no firmware"));
    told("NodePrepareResources: rpc error: code = Internal desc = no firmware").await;
    plugin.inject_claim(PREPARE, "no power");
    told("NodePrepareResources failed for ResourceClaim gpu: no power").await;
    running(&world, "a").await;

    // Somebody else's.
    world.create(with_claim("b", "gpu")).await;
    let (uid, claim) = (world.uid("b").await, world.claim_uid("gpu").await);
    told(&format!("pod b ({uid}) is not allowed to use ResourceClaim gpu ({claim})")).await;
    let calls = plugin.calls().len();
    world.delete("b", 0).await;
    world.until_gone("b").await;
    assert_eq!(plugin.calls().len(), calls, "nothing was prepared for it");

    let mut none = with_claim("d", "gpu");
    none["spec"]["resourceClaims"][0] = json!({ "name": "c", "resourceClaimTemplateName": "t" });
    world.create(none).await;
    told("pod \"default/d\": ResourceClaim not created yet").await;
}

#[tokio::test]
async fn a_pod_that_ended_gives_its_claim_back_before_its_end_is_told() {
    let world = World::new().await;
    let plugin = driver(&world, &["v1beta1.DRAPlugin"]);
    let script = fake_cri::Script::exits(Duration::from_millis(100), 0);
    world.runtime.script("a", script);
    let mut pod = with_claim("a", "gpu");
    pod["spec"]["restartPolicy"] = json!("Never");
    let asked = "v1beta1 NodeUnprepareResources";
    plugin.fail(asked, Some(Status::unavailable("busy")));
    world.create(pod).await;
    allocate(&world, "gpu", &["a"]).await;
    let attempts = || plugin.calls().iter().filter(|it| it.0 == asked).count();
    until(&world, "the second attempt", || attempts() >= 2).await;
    world.pass(Duration::from_millis(200)).await;
    assert_eq!(world.status("a").await.phase.as_deref(), Some("Running"));
    plugin.fail(asked, None);
    world.until("a", |it| it.phase.as_deref() == Some("Succeeded")).await;
}

#[tokio::test]
async fn drivers_that_speak_nothing_known_are_refused_and_old_slices_go() {
    let mut world = World::new().await;
    let slice = |name: &str, node: &str| {
        json!({
            "metadata": { "name": name },
            "spec": {
                "nodeName": node, "driver": DRIVER,
                "pool": { "name": node, "generation": 1, "resourceSliceCount": 1 },
            },
        })
    };
    world.put::<ResourceSlice>(slice("own", NODE)).await;
    world.put::<ResourceSlice>(slice("other", "elsewhere")).await;
    world.restart_kubelet().await;
    let plugin = driver(&world, &["1.0.0"]);
    until(&world, "an answer", || !plugin.told().is_empty()).await;
    let refusal = plugin.told()[0].clone().unwrap_err();
    assert!(refusal.contains("none of services supported by the plugin"), "{refusal}");
    for _ in 0..200 {
        if world.slices().await == ["other"] {
            return;
        }
        world.pass(Duration::from_millis(50)).await;
    }
    panic!("{:?}", world.slices().await);
}
