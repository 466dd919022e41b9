//! Credential provider plugins: a real program, a kubelet, and what the runtime is given.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};
use tonic::Status;

use super::{running, support::World};

const IMAGE: &str = "registry.example/team/x:1";

fn pod(name: &str, image: &str) -> Value {
    let spec = json!({ "containers": [{ "name": name, "image": image }] });
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// A kubelet that asks this program for credentials of `registry.example`.
async fn with_plugin(folder: &Path, script: &str) -> World {
    let plugin = folder.join("provider");
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let provider = json!({
        "name": "provider", "matchImages": ["registry.example"], "defaultCacheDuration": "1h",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    });
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
        "providers": [provider],
    });
    let file = folder.join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let bin = folder.to_owned();
    World::configured(move |settings| {
        settings.credential_provider_config = Some(file.clone());
        settings.credential_provider_bin_dir = Some(bin.clone());
    })
    .await
}

#[tokio::test]
async fn an_image_is_pulled_with_what_a_plugin_gives_and_then_is_everybodys() {
    let folder = tempfile::tempdir().unwrap();
    let answer = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "auth": { "registry.example/team": { "username": "AWS", "password": "word" } },
    });
    let script = format!("#!/bin/sh\ncat >> \"$0.log\"\necho '{answer}'\n");
    let world = with_plugin(folder.path(), &script).await;
    world.create(pod("a", IMAGE)).await;
    running(&world, "a").await;
    assert_eq!(world.runtime.pulled_with(IMAGE), [("AWS".to_owned(), "word".to_owned())]);
    // The node may pull it, so every pod may use it.
    world.create(pod("b", IMAGE)).await;
    running(&world, "b").await;
    assert_eq!(world.runtime.pulled_with(IMAGE).len(), 1);
    // Of the same registry, but not what the credentials are for.
    let other = "registry.example/others/x:1";
    world.create(pod("c", other)).await;
    running(&world, "c").await;
    assert_eq!(world.runtime.pulled_with(other), [(String::new(), String::new())]);
    let asked = fs::read_to_string(folder.path().join("provider.log")).unwrap();
    assert_eq!(asked.matches("CredentialProviderRequest").count(), 1, "{asked}");
}

#[tokio::test]
async fn what_a_plugin_fails_with_is_in_the_event_of_the_pull_that_fails() {
    const DENIED: &str = "AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/node/i-1 is not authorized to perform: ecr:GetAuthorizationToken on resource: *";
    let folder = tempfile::tempdir().unwrap();
    let script = format!("#!/bin/sh\ncat > /dev/null\necho '{DENIED}' >&2\nexit 1\n");
    let world = with_plugin(folder.path(), &script).await;
    let refused = || Status::unknown("401 Unauthorized");
    world.runtime.inject("PullImage", refused());
    world.create(pod("a", IMAGE)).await;
    let tells_both = |it: &str| it.contains("401 Unauthorized") && it.contains(DENIED);
    world.until_event_that("Failed", |it| it.contains(IMAGE) && tells_both(it)).await;
    world.until("a", |it| tells_both(&waiting(it))).await;
    // An image of another registry is not blamed on it.
    let other = "elsewhere.example/x:1";
    world.runtime.inject("PullImage", refused());
    world.create(pod("b", other)).await;
    let blames = |it: &str| it.contains("AccessDenied");
    world.until_event_that("Failed", |it| it.contains(other) && !blames(it)).await;
}

/// Why the first container waits.
fn waiting(status: &PodStatus) -> String {
    let containers = status.container_statuses.iter().flatten();
    let states = containers.filter_map(|it| it.state.as_ref()?.waiting.as_ref()?.message.clone());
    states.collect()
}
