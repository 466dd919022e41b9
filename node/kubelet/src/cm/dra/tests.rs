//! Claims without drivers: who may use what, and who is asked.

use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use scheduling::resourceclaim::UsedClaim;
use serde_json::json;

use super::{
    claim::{ClaimInfo, Device},
    lookup,
};

fn pod(statuses: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "u" },
        "spec": {
            "containers": [{
                "name": "c",
                "resources": { "claims": [{ "name": "a" }, { "name": "b", "request": "r" }] },
            }],
            "resourceClaims": [
                { "name": "a", "resourceClaimName": "shared" },
                { "name": "b", "resourceClaimTemplateName": "t" },
            ],
        },
        "status": statuses,
    }))
    .unwrap()
}

#[test]
fn a_claim_of_a_template_is_the_one_that_the_status_names() {
    let waiting = pod(json!({}));
    assert_eq!(
        lookup::of_pod(&waiting).unwrap_err().to_string(),
        "pod \"n/p\": ResourceClaim not created yet"
    );
    let status =
        |name| json!({ "resourceClaimStatuses": [{ "name": "b", "resourceClaimName": name }] });
    let made = pod(status(Some("p-b-x")));
    let used = |name: &str, is_owned| UsedClaim { name: name.to_owned(), is_owned };
    assert_eq!(lookup::of_pod(&made).unwrap(), [used("shared", false), used("p-b-x", true)]);
    let container = &made.spec.as_ref().unwrap().containers[0];
    let wanted = lookup::of_container(&made, container).unwrap();
    assert_eq!(wanted["shared"], [""]);
    assert_eq!(wanted["p-b-x"], ["r"]);
    // The template made none.
    assert_eq!(lookup::of_pod(&pod(status(None))).unwrap(), [used("shared", false)]);
}

#[test]
fn a_claim_that_is_not_allocated_has_nothing_to_prepare() {
    let claim = json!({ "metadata": { "name": "c", "namespace": "n" }, "spec": {} });
    let claim: ResourceClaim = serde_json::from_value(claim).unwrap();
    let error = ClaimInfo::of(&claim).unwrap_err();
    assert_eq!(error.to_string(), "ResourceClaim c: not allocated");
}

#[test]
fn a_device_serves_the_requests_that_it_names_or_all() {
    let of = |names: &[&str]| Device {
        request_names: Some(names.iter().map(|it| (*it).to_owned()).collect()),
        ..Device::default()
    };
    assert!(of(&["r"]).serves("r") && of(&["r"]).serves("r/first") && of(&["r"]).serves(""));
    assert!(!of(&["r"]).serves("s"));
    assert!(of(&[]).serves("s"));
}
