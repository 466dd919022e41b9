//! CPUs, memory and devices: a kubelet with its managers on a runtime in memory, and a real device
//! plugin on its sockets. Where there are sockets, time is real.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![recursion_limit = "256"]

#[path = "resources/credentials.rs"]
mod credentials;
#[path = "resources/dynamic.rs"]
mod dynamic;
#[path = "simulation/support.rs"]
mod support;

use std::{fs, path::Path, time::Duration};

use api_kubelet::pod_resources::{self, pod_resources_lister_client::PodResourcesListerClient};
use device_plugin::{DevicePlugin, device};
use kubelet::Settings;
use serde_json::{Value, json};
use support::World;
use tonic::Status;

const SECOND: Duration = Duration::from_secs(1);
const RESOURCE: &str = "example.com/d";

/// One socket with two NUMA nodes of two cores with two threads: node 0 has CPUs 0, 1, 4, 5.
fn machine(sys: &Path) {
    let put = |path: String, text: &str| {
        let path = sys.join("devices/system").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("cpu/online".to_owned(), "0-7\n");
    for cpu in 0..8 {
        let core = cpu % 4;
        put(format!("cpu/cpu{cpu}/topology/thread_siblings_list"), &format!("{core},{}", core + 4));
        put(format!("cpu/cpu{cpu}/topology/physical_package_id"), "0");
    }
    for (node, cpus) in [(0, "0-1,4-5"), (1, "2-3,6-7")] {
        put(format!("node/node{node}/cpulist"), cpus);
        put(format!("node/node{node}/meminfo"), &format!("Node {node} MemTotal: 2097152 kB\n"));
    }
}

fn pinning(settings: &mut Settings) {
    let config = &mut settings.config;
    config.kube_reserved =
        [("cpu", "1"), ("memory", "924Mi")].map(|(k, v)| (k.into(), v.into())).into();
    config.cpu_manager_policy = "static".to_owned();
    config.memory_manager_policy = "Static".to_owned();
    config.topology_manager_policy = "single-numa-node".to_owned();
    config.reserved_memory = vec![kubelet::MemoryReservation {
        numa_node: 0,
        limits: [("memory".to_owned(), "1Gi".to_owned())].into(),
    }];
    let sys = Path::new(&settings.root_dir).with_file_name("sys");
    machine(&sys);
    settings.sys = sys;
}

fn guaranteed(name: &str, cpu: &str, memory: &str) -> Value {
    let resources = json!({ "limits": { "cpu": cpu, "memory": memory } });
    let container = json!({ "name": name, "image": "i:1", "resources": resources });
    json!({ "metadata": { "name": name }, "spec": { "containers": [container] } })
}

fn with_devices(name: &str, count: u32) -> Value {
    let resources = json!({
        "requests": { RESOURCE: count.to_string() },
        "limits": { RESOURCE: count.to_string() },
    });
    let container = json!({ "name": name, "image": "i:1", "resources": resources });
    json!({ "metadata": { "name": name }, "spec": { "containers": [container] } })
}

async fn running(world: &World, name: &str) {
    world.until(name, |it| it.phase.as_deref() == Some("Running")).await;
}

fn cpus(world: &World, container: &str) -> String {
    let config = world.runtime.container_config(container).unwrap();
    config.linux.unwrap().resources.unwrap().cpuset_cpus
}

#[tokio::test(start_paused = true)]
async fn guaranteed_pods_have_cpus_and_memory_of_one_node_and_the_others_leave_them() {
    let mut world = World::configured(pinning).await;
    let shared = json!({ "containers": [{ "name": "shared", "image": "i:1" }] });
    world.create(json!({ "metadata": { "name": "shared" }, "spec": shared })).await;
    running(&world, "shared").await;
    assert_eq!(cpus(&world, "shared"), "0-7");
    world.create(guaranteed("a", "2", "64Mi")).await;
    running(&world, "a").await;
    let resources = world.runtime.container_config("a").unwrap().linux.unwrap().resources.unwrap();
    assert_eq!((resources.cpuset_cpus.as_str(), resources.cpuset_mems.as_str()), ("1,5", "0"));
    assert_eq!(resources.cpu_quota, 0, "a quota would take the CPUs away again");
    world.pass(SECOND).await;
    assert_eq!(cpus(&world, "shared"), "0,2-4,6-7");

    // A kubelet that is started again gives nothing away twice.
    world.restart_kubelet().await;
    world.create(guaranteed("b", "4", "1Gi")).await;
    running(&world, "b").await;
    assert_eq!(cpus(&world, "b"), "2-3,6-7");
    world.pass(SECOND).await;
    assert_eq!((cpus(&world, "a"), cpus(&world, "shared")), ("1,5".to_owned(), "0,4".to_owned()));

    // Two nodes together have room, no node alone has.
    world.create(guaranteed("c", "1", "1100Mi")).await;
    world.until("c", |it| it.phase.as_deref() == Some("Failed")).await;
    let status = world.status("c").await;
    assert_eq!(status.reason.as_deref(), Some("TopologyAffinityError"));
    let message = status.message.unwrap();
    assert!(message.ends_with("Resources cannot be allocated with Topology locality"), "{message}");

    world.delete("b", 0).await;
    world.until_gone("b").await;
    world.pass(SECOND).await;
    assert_eq!(cpus(&world, "shared"), "0,2-4,6-7");
    let state = fs::read_to_string(world.root().join("cpu_manager_state")).unwrap();
    assert!(state.contains(r#""policyName":"static","defaultCpuSet":"0,2-4,6-7""#), "{state}");
}

#[tokio::test(start_paused = true)]
async fn what_a_guaranteed_pod_has_for_itself_alone_is_not_resized() {
    let world = World::configured(pinning).await;
    world.create(guaranteed("a", "2", "64Mi")).await;
    running(&world, "a").await;
    let more = json!({ "cpu": "3", "memory": "64Mi" });
    world.resize("a", json!({ "requests": more, "limits": more })).await;
    world.until("a", |it| support::condition(it, "PodResizePending").is_some()).await;
    assert_eq!(
        world.condition_message("a", "PodResizePending").await,
        "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\""
    );
    assert_eq!(cpus(&world, "a"), "1,5");
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_held_that_went_while_the_kubelet_was_away_is_free() {
    let mut world = World::configured(pinning).await;
    world.create(guaranteed("a", "4", "64Mi")).await;
    running(&world, "a").await;
    world.stop_kubelet().await;
    world.delete("a", 0).await;
    world.until_gone("a").await;
    // Both want node 1, which the file still says is `a`'s.
    world.create(guaranteed("b", "4", "64Mi")).await;
    world.restart_kubelet().await;
    running(&world, "b").await;
    assert_eq!(cpus(&world, "b"), "2-3,6-7");
}

#[tokio::test]
async fn devices_of_a_plugin_reach_containers_and_their_health_the_status() {
    let mut world = World::new().await;
    let folder = world.root().join("device-plugins");
    let options = api_kubelet::device_plugin::DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    };
    let devices = vec![device("d0", None), device("d1", None)];
    let plugin = DevicePlugin::serve(&folder, "p", RESOURCE, devices, options).unwrap();
    let refused = plugin.register_as(&folder, "p", "v1alpha").await.unwrap_err();
    assert_eq!(
        refused.message(),
        "requested API version \"v1alpha\" is not supported by kubelet. Supported version is [\"v1beta1\"]"
    );
    plugin.register(&folder, "p").await.unwrap();
    world.until_node_has(RESOURCE, "2", "2").await;

    plugin.prefer(&["d1"]);
    world.create(with_devices("a", 1)).await;
    running(&world, "a").await;
    let config = world.runtime.container_config("a").unwrap();
    assert!(config.envs.iter().any(|it| it.key == "DEVICES" && it.value == "d1"));
    assert!(config.devices.iter().any(|it| it.container_path == "/dev/d1"));
    assert!(config.mounts.iter().any(|it| it.container_path == "/etc/device-plugin"));
    assert_eq!(config.annotations["device-plugin"], RESOURCE);
    assert!(plugin.calls().contains(&("PreStartContainer", vec!["d1".to_owned()])));

    // What agents on the node are told.
    let socket = world.root().join("pod-resources/kubelet.sock").display().to_string();
    let mut agent = PodResourcesListerClient::new(api_cri::connect(&socket).unwrap());
    let list = agent.list(pod_resources::ListPodResourcesRequest {}).await.unwrap().into_inner();
    let told = &list.pod_resources[0].containers[0].devices[0];
    assert_eq!(
        (told.resource_name.as_str(), told.device_ids.as_slice()),
        (RESOURCE, &["d1".to_owned()][..])
    );
    let all = agent.get_allocatable_resources(pod_resources::AllocatableResourcesRequest {}).await;
    assert_eq!(all.unwrap().into_inner().devices[0].device_ids, ["d0", "d1"]);
    let unknown = pod_resources::GetPodResourcesRequest {
        pod_name: "none".to_owned(),
        pod_namespace: "default".to_owned(),
    };
    assert!(agent.get(unknown).await.is_err());

    plugin.set_health("d1", false);
    world.until_node_has(RESOURCE, "2", "1").await;
    let health = |it: &k8s_openapi::api::core::v1::PodStatus| {
        let container = it.container_statuses.as_ref()?.first()?;
        let resources = &container.allocated_resources_status.as_ref()?.first()?.resources;
        resources.as_ref()?.first()?.health.clone()
    };
    world.until("a", |it| health(it).as_deref() == Some("Unhealthy")).await;
    plugin.set_health("d1", true);
    world.until("a", |it| health(it).as_deref() == Some("Healthy")).await;

    plugin.inject("Allocate", Status::internal("no firmware"));
    world.create(with_devices("b", 1)).await;
    world.until("b", |it| it.reason.as_deref() == Some("UnexpectedAdmissionError")).await;
    let message = world.status("b").await.message.unwrap();
    let expected =
        "Allocate failed due to rpc error: code = Internal desc = no firmware, which is unexpected";
    assert!(message.ends_with(expected), "{message}");

    // A new kubelet knows who holds what before the plugin has come back, and removes its socket.
    world.restart_kubelet().await;
    assert!(!folder.join("p.sock").exists());
    let devices = vec![device("d0", None), device("d1", None)];
    let again = DevicePlugin::serve(&folder, "p", RESOURCE, devices, options).unwrap();
    again.register(&folder, "p").await.unwrap();
    world.until_node_has(RESOURCE, "2", "2").await;
    world.create(with_devices("c", 1)).await;
    running(&world, "c").await;
    let config = world.runtime.container_config("c").unwrap();
    assert!(config.envs.iter().any(|it| it.key == "DEVICES" && it.value == "d0"));
    assert_eq!(world.runtime.count("StartContainer", "a"), 1);

    again.stop().await;
    world.until_node_has(RESOURCE, "2", "0").await;
    world.delete("a", 0).await;
    world.until_gone("a").await;
    let file = folder.join("kubelet_internal_checkpoint");
    // The names of pods and the checksum are full of such letters.
    let holds = || {
        let text = fs::read_to_string(&file).unwrap();
        let checkpoint: Value = serde_json::from_str(&text).unwrap();
        let entries = checkpoint["Data"]["PodDeviceEntries"].as_array().cloned();
        let mut held = entries.into_iter().flatten().map(|it| it["DeviceIDs"].to_string());
        held.any(|it| it.contains("\"d1\""))
    };
    assert!(fs::read_to_string(&file).unwrap().contains("DeviceIDs"), "of the other pod");
    for _ in 0..100 {
        if !holds() {
            break;
        }
        world.pass(Duration::from_millis(50)).await;
    }
    assert!(!holds(), "the device is free again");
}

#[tokio::test]
async fn cdi_devices_are_passed_on() {
    let world = World::new().await;
    let folder = world.root().join("device-plugins");
    let options = api_kubelet::device_plugin::DevicePluginOptions::default();
    let devices = vec![device("d0", None)];
    let plugin = DevicePlugin::serve(&folder, "p", RESOURCE, devices, options).unwrap();
    plugin.set_cdi(&["example.com/d=0"]);
    plugin.register(&folder, "p").await.unwrap();
    world.until_node_has(RESOURCE, "1", "1").await;
    world.create(with_devices("a", 1)).await;
    running(&world, "a").await;
    let config = world.runtime.container_config("a").unwrap();
    assert_eq!(config.cdi_devices[0].name, "example.com/d=0");
}

#[tokio::test]
async fn a_plugin_that_announces_itself_in_the_registry_serves_until_its_socket_goes() {
    let world = World::new().await;
    let registry = world.root().join("plugins_registry");
    fs::create_dir_all(&registry).unwrap();
    let options = api_kubelet::device_plugin::DevicePluginOptions::default();
    let serve = |name: &str, resource: &str, ids: &[&str]| {
        let devices = ids.iter().map(|it| device(it, None)).collect();
        DevicePlugin::serve(&registry, name, resource, devices, options).unwrap()
    };
    let wrong = serve("wrong", "kubernetes.io/d", &["d0"]);
    let first = serve("first", RESOURCE, &["d0"]);
    world.until_node_has(RESOURCE, "1", "1").await;
    world.create(with_devices("a", 1)).await;
    running(&world, "a").await;
    let config = world.runtime.container_config("a").unwrap();
    assert!(config.envs.iter().any(|it| it.key == "DEVICES" && it.value == "d0"));
    for _ in 0..100 {
        if !wrong.told().is_empty() && !first.told().is_empty() {
            break;
        }
        world.pass(Duration::from_millis(50)).await;
    }
    assert_eq!(first.told(), [Ok(())]);
    let refusal = wrong.told()[0].clone().unwrap_err();
    assert!(refusal.contains("kubernetes.io/d"), "{refusal}");

    // A newer instance takes over; the old socket's end is nothing to it.
    let second = serve("second", RESOURCE, &["d0", "d1"]);
    world.until_node_has(RESOURCE, "2", "2").await;
    fs::remove_file(registry.join("first.sock")).unwrap();
    world.pass(Duration::from_millis(500)).await;
    world.until_node_has(RESOURCE, "2", "2").await;
    fs::remove_file(registry.join("second.sock")).unwrap();
    world.until_node_has(RESOURCE, "2", "0").await;
    drop(second);
}
