//! What newer runtimes can do, and say: read-only mounts with all below them, no groups of the image's.

use api_cri::v1::{RuntimeHandlerFeatures, SupplementalGroupsPolicy};
use serde_json::json;

use super::{pod, support, support::World};

fn spec() -> serde_json::Value {
    json!({
        "securityContext": {
            "runAsUser": 1000, "supplementalGroups": [60], "supplementalGroupsPolicy": "Strict",
        },
        "volumes": [{ "name": "v", "emptyDir": {} }],
        "containers": [{ "name": "c", "image": "i:1", "volumeMounts": [{
            "name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": "Enabled",
        }] }],
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_runtime_says_that_it_can_do_pods_get_and_their_status_shows() {
    let world = World::new().await;
    let able = RuntimeHandlerFeatures { recursive_read_only_mounts: true, ..Default::default() };
    world.runtime.announce_handler("", able);
    world.runtime.announce_groups_policy();
    // Until it is asked again.
    world.pass(std::time::Duration::from_secs(10)).await;
    world.create(pod("p", spec())).await;
    world.until("p", support::is_running).await;

    let told = world.runtime.container_config("c").unwrap();
    let mount = told.mounts.iter().find(|it| it.container_path == "/v").unwrap();
    assert!(mount.readonly && mount.recursive_read_only, "{mount:?}");
    let context = told.linux.unwrap().security_context.unwrap();
    let strict = SupplementalGroupsPolicy::Strict as i32;
    assert_eq!(context.supplemental_groups_policy, strict);

    let status = world.status("p").await.container_statuses.unwrap().remove(0);
    let shown = &status.volume_mounts.unwrap()[0];
    assert_eq!(shown.recursive_read_only.as_deref(), Some("Enabled"));
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.supplemental_groups), (1000, Some(vec![60])));
    let node = world.nodes().get(support::NODE).await.unwrap().status.unwrap();
    assert_eq!(node.features.unwrap().supplemental_groups_policy, Some(true));
    let features = node.runtime_handlers.unwrap().remove(0).features.unwrap();
    assert_eq!(features.recursive_read_only_mounts, Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_says_nothing_is_asked_for_nothing() {
    let world = World::new().await;
    let mut deep = spec();
    deep["securityContext"] = json!({});
    world.create(pod("deep", deep)).await;
    let cannot = "requested recursive read-only mode, but it is not supported by the runtime";
    world.until_event("Failed", &format!("Error: volume \"v\" {cannot}")).await;
    world.create(pod("strict", spec())).await;
    let refused = "SupplementalGroupsPolicyNotSupported";
    world.until("strict", |it| it.reason.as_deref() == Some(refused)).await;
}
