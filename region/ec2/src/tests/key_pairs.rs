//! Key pairs, and the instances that are launched with them.

use aws_ec2::{
    key_pair::{
        CreateKeyPair, CreateKeyPairRequest, DeleteKeyPair, DeleteKeyPairRequest, DescribeKeyPairs,
        DescribeKeyPairsRequest, ImportKeyPair, ImportKeyPairRequest,
    },
    run_instances::RunInstancesRequest,
};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::support::*;

fn create(name: &str, kind: &str) -> CreateKeyPairRequest {
    CreateKeyPairRequest { key_name: name.to_owned(), key_type: text(kind), ..Default::default() }
}

async fn public_key(region: &Region, name: &str) -> String {
    let request = DescribeKeyPairsRequest {
        key_names: vec![name.to_owned()],
        include_public_key: Some(true),
        ..Default::default()
    };
    region.call::<DescribeKeyPairs>(request).await.key_pairs.remove(0).public_key.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_made_once_and_shown_without_its_private_half() {
    let region = region();
    for (kind, header) in [("rsa", "RSA PRIVATE KEY"), ("ed25519", "OPENSSH PRIVATE KEY")] {
        let made = region.call::<CreateKeyPair>(create(kind, kind)).await;
        assert!(made.key_material.unwrap().contains(header));
        let shown = public_key(&region, kind).await;
        assert!(shown.starts_with(&format!("ssh-{kind} ")) && shown.ends_with(kind), "{shown}");
        let fingerprint = made.key_fingerprint.unwrap();
        let is_sha1 = fingerprint.split(':').count() == 20;
        let is_sha256 = fingerprint.len() == 44 && fingerprint.ends_with('=');
        assert!(if kind == "rsa" { is_sha1 } else { is_sha256 }, "{fingerprint}");
    }
    let again = region.code::<CreateKeyPair>(create("rsa", "rsa")).await;
    assert_eq!(again, "InvalidKeyPair.Duplicate");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_would_be_a_line_of_its_own_is_refused() {
    let region = region();
    let long = "x".repeat(256);
    for name in ["", "a\nssh-ed25519 AAAA", "ключ", &long] {
        let code = region.code::<CreateKeyPair>(create(name, "ed25519")).await;
        assert_eq!(code, "InvalidParameterValue", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_imported_key_is_the_same_key_under_another_fingerprint() {
    let region = region();
    let made = region.call::<CreateKeyPair>(create("made", "rsa")).await;
    let line = public_key(&region, "made").await;
    let import = |name: &str, material: &str| ImportKeyPairRequest {
        key_name: name.to_owned(),
        public_key_material: BASE64_STANDARD.encode(material),
        ..Default::default()
    };
    let imported = region.call::<ImportKeyPair>(import("brought", &line)).await;
    let fingerprint = imported.key_fingerprint.unwrap();
    assert_eq!(fingerprint.split(':').count(), 16, "{fingerprint}");
    assert_ne!(Some(fingerprint), made.key_fingerprint);
    assert_eq!(public_key(&region, "brought").await, line.replace(" made", " brought"));
    let code = region.code::<ImportKeyPair>(import("not", "ssh-rsa c29tZXRoaW5n")).await;
    assert_eq!(code, "InvalidKey.Format");
}

#[tokio::test(start_paused = true)]
async fn an_instance_keeps_its_key_when_the_pair_is_deleted() {
    let region = region();
    region.call::<CreateKeyPair>(create("mine", "ed25519")).await;
    let key = public_key(&region, "mine").await;
    let with_key = RunInstancesRequest { key_name: text("mine"), ..launch() };
    let id = region.run(with_key).await.remove(0).instance_id.unwrap();
    let request = DeleteKeyPairRequest { key_name: text("mine"), ..Default::default() };
    region.call::<DeleteKeyPair>(request).await;
    let state = region.ec2.view();
    assert_eq!(state.instances.get(&id).unwrap().public_key, Some(key));
    drop(state);
    let with_key = RunInstancesRequest { key_name: text("mine"), ..launch() };
    assert_eq!(
        region.code::<aws_ec2::run_instances::RunInstances>(with_key).await,
        "InvalidKeyPair.NotFound"
    );
}
