//! Public parameters and the account's own.

mod commands;
mod sessions;
mod support;

use std::sync::Arc;

use aws_ssm::parameter::{
    GetParameter, GetParameterRequest, GetParametersByPath, GetParametersByPathRequest,
    PutParameter, PutParameterRequest,
};
use aws_ssm::tag::{RemoveTagsFromResource, RemoveTagsFromResourceRequest, Tag};
use clock::Clock;
use jiff::Timestamp;
use region_gateway::{Caller, Handle};
use region_store::Store;

use super::*;

const RECOMMENDED: &str =
    "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/standard/recommended";

fn ami(release: &str, id: &str) -> Ami {
    Ami {
        kubernetes: "1.36".into(),
        release_version: release.into(),
        image_id: id.into(),
        image_name: format!("amazon-eks-node-al2023-x86_64-standard-1.36-{release}"),
    }
}

fn ssm() -> (Arc<Ssm>, Caller) {
    let public =
        eks_parameters(&[ami("1.36.1-20261009", "ami-1"), ami("1.36.2-20261106", "ami-2")]);
    let config = Config {
        account: "111122223333".into(),
        region: "us-east-1".into(),
        public,
        instances: Arc::new(sessions::World::default()),
        endpoint: "127.0.0.1:4566".into(),
    };
    let ssm = Ssm::open(&Store::in_memory(), config, Clock::system()).unwrap();
    (Arc::new(ssm), Caller::root("111122223333", "us-east-1", Timestamp::UNIX_EPOCH))
}

async fn value(ssm: &Ssm, caller: &Caller, name: &str) -> Result<String, String> {
    let request = GetParameterRequest { name: name.into(), ..Default::default() };
    match Handle::<GetParameter>::handle(ssm, caller, request).await {
        Ok(response) => Ok(response.parameter.unwrap().value.unwrap()),
        Err(fault) => Err(fault.code.into_owned()),
    }
}

#[tokio::test]
async fn the_newest_release_is_the_recommended_one() {
    let (ssm, root) = ssm();
    assert_eq!(value(&ssm, &root, &format!("{RECOMMENDED}/image_id")).await.unwrap(), "ami-2");
    let all = value(&ssm, &root, RECOMMENDED).await.unwrap();
    assert!(all.contains(r#""release_version":"1.36.2-20261106""#), "{all}");
    let missing = value(&ssm, &root, &RECOMMENDED.replace("1.36", "1.99")).await;
    assert_eq!(missing.unwrap_err(), "ParameterNotFound");
}

/// A policy that names a parameter is about it, however it is asked for.
#[tokio::test]
async fn a_parameter_is_decided_on_by_its_own_name_and_tags() {
    let (ssm, root) = ssm();
    let tag = |key: &str| Tag { key: Some(key.to_owned()), value: Some("x".to_owned()) };
    let put = PutParameterRequest {
        name: "/team/secret".into(),
        value: "v".into(),
        tags: vec![tag("class")],
        ..Default::default()
    };
    let asked = Handle::<PutParameter>::targets(&*ssm, &root, &put);
    assert!(asked.iter().all(|it| it.context["aws:RequestTag/class"] == ["x"]));
    let actions: Vec<_> = asked.iter().map(|it| it.action.as_deref()).collect();
    assert_eq!(actions, [None, Some("ssm:AddTagsToResource")]);
    Handle::<PutParameter>::handle(&*ssm, &root, put).await.unwrap();
    let own = "arn:aws:ssm:us-east-1:111122223333:parameter/team/secret";
    for name in ["/team/secret", "/team/secret:1", own, &format!("{own}:1")] {
        let request = GetParameterRequest { name: name.into(), ..Default::default() };
        let asked = Handle::<GetParameter>::targets(&*ssm, &root, &request).remove(0);
        assert_eq!(asked.resource, own, "{name}");
        assert_eq!(asked.context["aws:ResourceTag/class"], ["x"], "{name}");
        assert_eq!(value(&ssm, &root, name).await.as_deref(), Ok("v"), "{name}");
    }
    for name in [
        "arn:aws:ssm:us-east-1:999999999999:parameter/team/secret",
        "arn:aws:ssm:eu-west-1:111122223333:parameter/team/secret",
        "arn:x:parameter/team/secret",
        "arn:aws:ssm:us-east-1:111122223333:parameter//team/secret",
        "/team//secret",
    ] {
        let refused = value(&ssm, &root, name).await.unwrap_err();
        assert_eq!(refused, "ParameterNotFound", "{name}");
    }
    let untag = RemoveTagsFromResourceRequest {
        resource_type: "Parameter".into(),
        resource_id: "/team/secret".into(),
        tag_keys: vec!["class".into()],
    };
    let asked = Handle::<RemoveTagsFromResource>::targets(&*ssm, &root, &untag).remove(0);
    assert_eq!(asked.context["aws:TagKeys"], ["class"]);
}

#[tokio::test]
async fn a_path_lists_direct_children_or_all() {
    let (ssm, root) = ssm();
    let path = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/standard";
    for (recursive, expected) in [(false, 1), (true, 10)] {
        let request = GetParametersByPathRequest {
            path: path.into(),
            recursive: Some(recursive),
            ..Default::default()
        };
        let found = Handle::<GetParametersByPath>::handle(&*ssm, &root, request).await.unwrap();
        let names: Vec<_> = found.parameters.iter().filter_map(|it| it.name.as_deref()).collect();
        match recursive {
            true => assert_eq!(names.len(), expected),
            false => assert!(names.contains(&RECOMMENDED)),
        }
        assert_eq!(found.next_token.is_some(), recursive);
    }
}

#[tokio::test]
async fn own_parameters_are_versioned_and_public_ones_cannot_be_written() {
    let (ssm, root) = ssm();
    let put = |name: &str, overwrite| {
        let request = PutParameterRequest {
            name: name.into(),
            value: "x".into(),
            overwrite: Some(overwrite),
            ..Default::default()
        };
        let (ssm, root) = (ssm.clone(), root.clone());
        async move {
            match Handle::<PutParameter>::handle(&*ssm, &root, request).await {
                Ok(response) => Ok(response.version.unwrap()),
                Err(fault) => Err(fault.code.into_owned()),
            }
        }
    };
    assert_eq!(put("/team/colour", false).await, Ok(1));
    assert_eq!(put("/team/colour", false).await, Err("ParameterAlreadyExists".into()));
    assert_eq!(put("/team/colour", true).await, Ok(2));
    assert_eq!(value(&ssm, &root, "/team/colour:2").await.unwrap(), "x");
    assert_eq!(put(RECOMMENDED, true).await, Err("AccessDeniedException".into()));
}
