//! Updates of add-ons that meet fields which somebody else has changed.

use aws_eks::{DescribeAddon, DescribeAddonRequest, DescribeUpdate, DescribeUpdateRequest};
use serde_json::{Value, json};

use super::*;

const FIELD: &str =
    ".spec.template.spec.containers[name=\"aws-node\"].env[name=\"WARM_ENI_TARGET\"].value";

/// Takes what is applied, but for a field of `aws-node`, which `kubectl set env` has changed.
pub(super) fn contested() -> kube::Client {
    let answer = async |request: Request<Body>| {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let body = body.collect_bytes().await.unwrap();
        let object: Value = serde_json::from_slice(&body).unwrap_or_default();
        let is_apply = head.method == http::Method::PATCH && query.contains("fieldManager=eks");
        let is_contested =
            object["kind"] == "DaemonSet" && object["metadata"]["name"] == "aws-node";
        let (code, answer) = match is_apply {
            false => (503, json!({})),
            true if is_contested && !query.contains("force=true") => (
                409,
                json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict",
                    "message": "Apply failed with 1 conflict", "details": {"causes": [{
                        "reason": "FieldManagerConflict", "field": FIELD,
                        "message": "conflict with \"kubectl-set\" using apps/v1"}]}}),
            ),
            true => (200, object),
        };
        let body = Body::from(serde_json::to_vec(&answer).unwrap());
        Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
    };
    kube::Client::new(tower::service_fn(answer), "default")
}

#[tokio::test(start_paused = true)]
async fn an_update_that_meets_a_changed_field_fails_and_one_that_overwrites_it_does_not() {
    let region = region().await;
    region.create("contested").await;
    let root = region.root();
    let describe = async || {
        let request = DescribeAddonRequest {
            cluster_name: "contested".to_owned(),
            addon_name: "vpc-cni".to_owned(),
        };
        let found = Handle::<DescribeAddon>::handle(&region.eks, &root, request).await;
        found.unwrap().addon.unwrap()
    };
    let update = async |mode: Option<&str>| {
        let request = UpdateAddonRequest {
            cluster_name: "contested".to_owned(),
            addon_name: "vpc-cni".to_owned(),
            resolve_conflicts: mode.map(str::to_owned),
            ..Default::default()
        };
        let done = Handle::<UpdateAddon>::handle(&region.eks, &root, request).await;
        let id = done.unwrap().update.unwrap().id;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let request = DescribeUpdateRequest {
            name: "contested".to_owned(),
            update_id: id,
            addon_name: Some("vpc-cni".to_owned()),
            ..Default::default()
        };
        let found = Handle::<DescribeUpdate>::handle(&region.eks, &root, request).await;
        found.unwrap().update.unwrap()
    };
    for mode in [None, Some("NONE")] {
        let ended = update(mode).await;
        assert_eq!(ended.status, "Failed", "{mode:?}");
        assert_eq!(ended.errors[0].error_code.as_deref(), Some("ConfigurationConflict"));
        let addon = describe().await;
        assert_eq!(addon.status, "UPDATE_FAILED");
        let issue = addon.health.unwrap().issues.remove(0);
        assert_eq!(issue.code.as_deref(), Some("ConfigurationConflict"));
        let message = issue.message.unwrap();
        assert!(message.contains(&format!("\nDaemonSet.apps aws-node - {FIELD}")), "{message}");
    }
    // It is applied, and its workload is waited for.
    let ended = update(Some("OVERWRITE")).await;
    assert_eq!(
        (ended.status.as_str(), describe().await.status.as_str()),
        ("InProgress", "UPDATING")
    );
}
