//! Pods whose users are not the host's: on a runtime that can, and on one that cannot.

use std::path::Path;

use api_cri::v1::{NamespaceMode, RuntimeHandlerFeatures, UserNamespace};
use serde_json::{Value, json};

use super::{pod, support, support::World};

fn spec(host_users: Value) -> Value {
    json!({
        "hostUsers": host_users,
        "initContainers": [{ "name": "i", "image": "i:1", "restartPolicy": "Always" }],
        "containers": [{
            "name": "c", "image": "i:1", "securityContext": { "procMount": "Unmasked" },
        }],
    })
}

fn able() -> RuntimeHandlerFeatures {
    RuntimeHandlerFeatures { user_namespaces: true, ..Default::default() }
}

/// What the runtime was told of a pod's users: for its sandbox and for both of its containers.
fn users(world: &World, name: &str) -> Vec<UserNamespace> {
    let sandbox = world.runtime.sandbox_config(name).unwrap().linux.unwrap();
    let containers = ["i", "c"].map(|it| {
        let linux = world.runtime.container_config(it).unwrap().linux.unwrap();
        linux.security_context.unwrap().namespace_options.unwrap()
    });
    let sandbox = sandbox.security_context.unwrap().namespace_options.unwrap();
    let all = [sandbox].into_iter().chain(containers);
    all.map(|it| it.userns_options.unwrap()).collect()
}

fn recorded(root: &Path) -> Vec<Value> {
    let pods = std::fs::read_dir(root.join("pods")).unwrap().flatten();
    let files = pods.filter_map(|it| std::fs::read(it.path().join("userns")).ok());
    files.map(|it| serde_json::from_slice(&it).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_pods_users_are_its_own_for_as_long_as_it_is_there() {
    let mut world = World::new().await;
    world.runtime.announce_handler("", able());
    // Until it is asked again.
    world.pass(std::time::Duration::from_secs(10)).await;
    world.create(pod("p", spec(json!(false)))).await;
    world.until("p", support::is_running).await;
    let told = users(&world, "p");
    assert_eq!(told[0].mode, NamespaceMode::Pod as i32);
    assert!(told.iter().all(|it| *it == told[0]), "{told:?}");
    let [ids] = &told[0].uids[..] else { panic!("{told:?}") };
    assert_eq!((ids.container_id, ids.length), (0, 65_536));
    assert!(ids.host_id >= 65_536, "{ids:?}");
    let masked = world.runtime.container_config("c").unwrap().linux.unwrap();
    assert!(masked.security_context.unwrap().masked_paths.is_empty());
    let written = json!([{ "hostId": ids.host_id, "containerId": 0, "length": 65_536 }]);
    let written = json!({ "uidMappings": written, "gidMappings": written });
    assert_eq!(recorded(&world.root()), std::slice::from_ref(&written));

    // The one who starts a container after a restart of the kubelet tells the same.
    world.restart_kubelet().await;
    world.runtime.exit("c", 1);
    world.until("p", |it| support::restarts(it) == 1 && support::is_ready(it)).await;
    assert_eq!(users(&world, "p"), told);
    assert_eq!(recorded(&world.root()), [written]);
    let node = world.nodes().get(support::NODE).await.unwrap().status.unwrap();
    let features = node.runtime_handlers.unwrap().remove(0).features.unwrap();
    assert_eq!(features.user_namespaces, Some(true));

    world.delete("p", 0).await;
    world.until_gone("p").await;
    // The kubelet takes the pod down after the API has forgotten it.
    world.pass(std::time::Duration::from_secs(10)).await;
    assert_eq!(recorded(&world.root()), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn pods_without_the_wish_have_the_nodes_users() {
    let world = World::new().await;
    let mut spec = spec(json!(true));
    spec["containers"][0].as_object_mut().unwrap().remove("securityContext");
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    let node = UserNamespace { mode: NamespaceMode::Node as i32, ..Default::default() };
    assert!(users(&world, "p").iter().all(|it| *it == node));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_cannot_is_named_and_one_that_can_is_used() {
    let world = World::new().await;
    world.runtime.announce_handler("", RuntimeHandlerFeatures::default());
    world.runtime.announce_handler("kata", able());
    world.runtime.announce_handler("old", RuntimeHandlerFeatures::default());
    world.pass(std::time::Duration::from_secs(10)).await;
    for handler in ["kata", "old"] {
        let class = json!({ "metadata": { "name": handler }, "handler": handler });
        world.put::<k8s_openapi::api::node::v1::RuntimeClass>(class).await;
        let mut spec = spec(json!(false));
        spec["runtimeClassName"] = handler.into();
        world.create(pod(handler, spec)).await;
    }
    world.create(pod("default", spec(json!(false)))).await;
    world.until("kata", support::is_running).await;
    let at = "Failed to create pod sandbox: can't set `spec.hostUsers: false`, ";
    let without = "does not support user namespaces";
    let old = format!("{at}RuntimeClass handler \"old\" {without}");
    world.until_event("FailedCreatePodSandBox", &old).await;
    world.until_event("FailedCreatePodSandBox", &format!("{at}runtime {without}")).await;
    assert_eq!(world.runtime.count("RunPodSandbox", "default"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_announces_nothing_gives_none() {
    let world = World::new().await;
    world.create(pod("p", spec(json!(false)))).await;
    let message = "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces: the handler \"\" is not known";
    world.until_event("FailedCreatePodSandBox", message).await;
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 0);
    assert_eq!(world.status("p").await.phase.as_deref(), Some("Pending"));
}
