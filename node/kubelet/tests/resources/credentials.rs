//! Credential provider plugins: a real program, a kubelet, and what the runtime is given.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use super::{running, support::World};

const IMAGE: &str = "registry.example/team/x:1";

fn pod(name: &str, image: &str) -> Value {
    let spec = json!({ "containers": [{ "name": name, "image": image }] });
    json!({ "metadata": { "name": name }, "spec": spec })
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
    let plugin = folder.path().join("provider");
    let script = format!("#!/bin/sh\ncat >> \"$0.log\"\necho '{answer}'\n");
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
    let file = folder.path().join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let bin = folder.path().to_owned();
    let world = World::configured(move |settings| {
        settings.credential_provider_config = Some(file.clone());
        settings.credential_provider_bin_dir = Some(bin.clone());
    })
    .await;
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
