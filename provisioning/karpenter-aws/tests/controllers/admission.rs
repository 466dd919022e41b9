//! What the API server lets nobody write, by the rules of Karpenter's definitions.

use api_kube::karpenter::{Ec2NodeClass, NodePool};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{MANY, support::World};

/// What the change of the default class's spec comes to.
async fn class(world: &World, spec: Value) -> Result<Ec2NodeClass, String> {
    let patch = json!({ "spec": spec });
    let (classes, parameters) = (world.classes(), PatchParams::default());
    classes.patch("default", &parameters, &Patch::Merge(&patch)).await.map_err(|it| it.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_class_whose_selectors_say_too_much_or_nothing_is_refused_in_upstreams_words() {
    let world = World::new(MANY).await;
    let tags = json!({ "a": "b" });
    for (spec, why) in [
        (json!({ "subnetSelectorTerms": [] }), "subnetSelectorTerms cannot be empty"),
        (json!({ "subnetSelectorTerms": [{}] }), "got none, ['tags', 'id']"),
        (
            json!({ "subnetSelectorTerms": [{ "id": "subnet-1", "tags": tags }] }),
            "'id' is mutually exclusive",
        ),
        (json!({ "securityGroupSelectorTerms": [{}] }), "got none, ['tags', 'id', 'name']"),
        (
            json!({ "securityGroupSelectorTerms": [{ "name": "a", "tags": tags }] }),
            "'name' is mutually exclusive",
        ),
        (
            json!({ "amiSelectorTerms": [{ "id": "ami-1", "name": "a" }] }),
            "'id' is mutually exclusive",
        ),
        (json!({ "amiSelectorTerms": [{ "alias": "al2023" }] }), "improperly formatted"),
        (json!({ "amiSelectorTerms": [{ "alias": "al2024@latest" }] }), "family is not supported"),
        (
            json!({ "amiFamily": null, "amiSelectorTerms": [{ "alias": "windows2022@v1" }] }),
            "windows families may only specify version 'latest'",
        ),
        (
            json!({ "capacityReservationSelectorTerms": [{ "ownerID": "111122223333" }] }),
            "got none, ['tags', 'id', 'instanceMatchCriteria']",
        ),
        (
            json!({ "capacityReservationSelectorTerms": [{ "id": "cr-1", "tags": tags }] }),
            "'id' is mutually exclusive",
        ),
        (json!({ "role": "a" }), "must specify exactly one of ['role', 'instanceProfile']"),
    ] {
        let refused = class(&world, spec.clone()).await.expect_err("it is refused");
        assert!(refused.contains(why), "{spec}: {refused}");
    }
    for spec in [
        json!({ "subnetSelectorTerms": [{ "tags": tags }] }),
        json!({ "amiFamily": null, "amiSelectorTerms": [{ "alias": "windows2022@latest" }] }),
        json!({ "capacityReservationSelectorTerms": [{ "tags": tags, "ownerID": "111122223333" }] }),
    ] {
        class(&world, spec).await.expect("it is taken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_does_not_require_what_karpenter_decides() {
    let world = World::new(MANY).await;
    let pools = Api::<NodePool>::all(world.admin.clone());
    for (key, is_taken) in [
        ("karpenter.sh/capacity-type", true),
        ("karpenter.sh/registered", false),
        ("kubernetes.io/hostname", false),
        ("example.com/team", true),
    ] {
        let requirements = json!([{ "key": key, "operator": "Exists" }]);
        let patch = json!({ "spec": { "template": { "spec": { "requirements": requirements } } } });
        let patched = pools.patch("default", &PatchParams::default(), &Patch::Merge(&patch)).await;
        assert_eq!(patched.is_ok(), is_taken, "{key}: {patched:?}");
    }
}
