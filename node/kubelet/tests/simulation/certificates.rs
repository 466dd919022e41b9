//! The certificate that the kubelet serves with: asked for, replaced in time, kept.

use std::{fs, path::PathBuf, time::Duration};

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use pki::{Ca, Usage};
use serde_json::json;

use crate::support::{NODE, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn api(world: &World) -> Api<CertificateSigningRequest> {
    Api::all(world.client())
}

/// The requests, the oldest first.
async fn requests(world: &World) -> Vec<CertificateSigningRequest> {
    let mut all = api(world).list(&ListParams::default()).await.unwrap().items;
    let order = |it: &CertificateSigningRequest| it.resource_version().unwrap().parse::<u64>();
    all.sort_by_key(|it| (it.creation_timestamp().map(|it| it.0), order(it).unwrap()));
    all
}

/// Waits for the request of this number.
async fn until_request(world: &World, number: usize) -> CertificateSigningRequest {
    for _ in 0..1000 {
        let all = requests(world).await;
        assert!(all.len() <= number, "one too many");
        if all.len() == number {
            return all.into_iter().next_back().unwrap();
        }
        world.pass(Duration::from_secs(1)).await;
    }
    panic!("no request {number}");
}

async fn sign(world: &World, ca: &Ca, request: &CertificateSigningRequest, life: Duration) {
    let pem = String::from_utf8(request.spec.request.0.clone()).unwrap();
    let now = world.now();
    let signed = ca.sign_csr(&pem, &[Usage::Server], now, now + life).unwrap();
    let signed = k8s_openapi::ByteString(signed.into_bytes());
    let patch = Patch::Merge(json!({ "status": { "certificate": signed } }));
    api(world).patch_status(&request.name_any(), &PatchParams::default(), &patch).await.unwrap();
    world.pass(Duration::from_secs(1)).await;
}

fn current(world: &World) -> PathBuf {
    world.root().join("pki/kubelet-server-current.pem")
}

#[tokio::test(start_paused = true)]
async fn a_serving_certificate_is_asked_for_kept_and_replaced_before_it_ends() {
    let mut world = World::configured(|it| it.config.server_tls_bootstrap = true).await;
    let ca = Ca::new("kubernetes").unwrap();
    let first = until_request(&world, 1).await;
    assert_eq!(first.spec.signer_name, "kubernetes.io/kubelet-serving");
    assert_eq!(first.spec.usages.clone().unwrap(), ["digital signature", "server auth"]);
    assert_eq!(first.spec.username.as_deref(), Some("system:node:node"));
    let pem = String::from_utf8(first.spec.request.0.clone()).unwrap();
    let contents = pki::parse_csr(&pem).unwrap();
    assert_eq!(contents.subject.common_name, format!("system:node:{NODE}"));
    assert_eq!(contents.subject.organizations, ["system:nodes"]);
    assert!(!current(&world).exists());

    // Who is denied asks again, later.
    let denied =
        json!({ "type": "Denied", "status": "True", "reason": "No", "message": "not you" });
    let patch = Patch::Merge(json!({ "status": { "conditions": [denied] } }));
    let name = first.name_any();
    api(&world).patch_approval(&name, &PatchParams::default(), &patch).await.unwrap();
    let second = until_request(&world, 2).await;
    sign(&world, &ca, &second, HOUR).await;
    let kept = fs::read_to_string(current(&world)).unwrap();
    assert!(kept.contains("PRIVATE KEY"));

    // The next kubelet has it, and asks for no other until seven tenths of its life are over.
    world.restart_kubelet().await;
    world.pass(41 * MINUTE).await;
    assert_eq!(requests(&world).await.len(), 2);
    assert_eq!(fs::read_to_string(current(&world)).unwrap(), kept);
    let began = world.now();
    let third = until_request(&world, 3).await;
    let waited = Duration::try_from(world.now().duration_since(began)).unwrap();
    assert!(waited < 14 * MINUTE, "before nine tenths are: {waited:?}");
    assert_eq!(fs::read_to_string(current(&world)).unwrap(), kept, "it serves on meanwhile");
    sign(&world, &ca, &third, HOUR).await;
    assert_ne!(fs::read_to_string(current(&world)).unwrap(), kept);
    let target = fs::read_link(current(&world)).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(
        &fs::metadata(world.root().join("pki").join(target)).unwrap(),
    );
    assert_eq!(mode & 0o777, 0o600);
    world.pass(41 * MINUTE).await;
    assert_eq!(requests(&world).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_ended_while_the_kubelet_was_away_is_asked_for_at_once() {
    let mut world = World::configured(|it| it.config.server_tls_bootstrap = true).await;
    let ca = Ca::new("kubernetes").unwrap();
    let first = until_request(&world, 1).await;
    sign(&world, &ca, &first, HOUR).await;
    world.stop_kubelet().await;
    world.pass(2 * HOUR).await;
    world.restart_kubelet().await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(requests(&world).await.len(), 2);
}
