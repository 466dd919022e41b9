//! What containers are told, and what they are shown of it.

use std::time::Duration;

use serde_json::json;

use super::{SECOND, pod, support, support::World};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn an_optional_reference_may_miss_and_another_holds_the_container_back() {
    let world = World::new().await;
    let from = |optional: bool| {
        json!([{
            "name": "A",
            "valueFrom": { "configMapKeyRef": { "name": "m", "key": "k", "optional": optional } },
        }])
    };
    let spec = |optional| json!({ "containers": [{ "name": "c", "image": "i:1", "env": from(optional) }] });
    world.create(pod("may", spec(true))).await;
    world.until("may", support::is_running).await;
    world.create(pod("must", spec(false))).await;
    world.until("must", |it| support::waiting(it) == Some("CreateContainerConfigError")).await;
    world.until_event("Failed", "Error: configmap \"m\" not found").await;
    world.put_config_map("m", "k", "v").await;
    world.until("must", support::is_running).await;
    let envs = world.runtime.container_config("c").unwrap().envs;
    assert!(envs.iter().any(|it| it.key == "A" && it.value == "v"), "{envs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_resolv_conf_that_is_not_there_is_told_and_not_taken_as_empty() {
    let world =
        World::configured(|it| it.config.resolv_conf = "/nonexistent/resolv.conf".to_owned()).await;
    world.create(pod("p", json!({ "containers": [{ "name": "c", "image": "i:1" }] }))).await;
    let message = "Failed to create pod sandbox: could not open resolv conf \"/nonexistent/resolv.conf\": No such file or directory (os error 2)";
    world.until_event("FailedCreatePodSandBox", message).await;
    assert_eq!(world.runtime.count("RunPodSandbox", "p"), 0);
    world.pass(MINUTE).await;
    assert!(world.told("FailedCreatePodSandBox").await > 3);
    assert!(world.told("Pulled").await <= 1, "no container comes to need the image");
}

#[tokio::test(start_paused = true)]
async fn labels_that_change_are_in_a_pods_files_at_once() {
    let world = World::new().await;
    let field = json!({ "fieldPath": "metadata.labels" });
    let items = json!([{ "path": "labels", "fieldRef": field }]);
    let spec = json!({
        "containers": [{ "name": "c", "image": "i:1", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }],
        "volumes": [{ "name": "v", "downwardAPI": { "items": items } }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_ready).await;
    world.patch("p", json!({ "metadata": { "labels": { "colour": "red" } } })).await;
    world.pass(SECOND).await;
    assert_eq!(world.volume_file("downward-api/v/labels"), "colour=\"red\"");
}

#[tokio::test(start_paused = true)]
async fn the_images_user_and_the_defaults_of_the_node_reach_the_runtime() {
    let world = World::configured(|it| it.config.seccomp_default = true).await;
    let spec = json!({
        "shareProcessNamespace": true,
        "hostname": "db",
        "subdomain": "x",
        "setHostnameAsFQDN": true,
        "containers": [{
            "name": "c", "image": "i:1",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] },
            },
        }],
    });
    world.create(pod("p", spec)).await;
    world.until("p", support::is_running).await;
    let context = world.runtime.container_config("c").unwrap().linux.unwrap();
    let context = context.security_context.unwrap();
    let default = api_cri::v1::security_profile::ProfileType::RuntimeDefault as i32;
    assert_eq!(context.seccomp.unwrap().profile_type, default);
    assert!(context.no_new_privs);
    assert_eq!(context.capabilities.unwrap().drop_capabilities, ["ALL"]);
    let pod_mode = api_cri::v1::NamespaceMode::Pod as i32;
    assert_eq!(context.namespace_options.unwrap().pid, pod_mode);
    let sandbox = world.runtime.sandbox_config("p").unwrap();
    assert_eq!(sandbox.hostname, "db.x.default.svc.");
}
