//! How far the growth of a claimed volume is, as its claim's status tells it.
//!
//! What the resizer has left to the node is `NodeResizePending`. It is `NodeResizeInProgress` from the
//! first call on, and `NodeResizeInfeasible` when the driver has said that it can never be: then it is the
//! resizer's again, which may be asked for less. A resizer that says nothing of all that is an older one.
//!
//! Upstream: `node_expander.go` in `pkg/volume/util/operationexecutor`, `pkg/volume/util/resize_util.go`.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::PersistentVolumeClaim, apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};
use tonic::Code;

use super::RpcError;
use crate::{quantity, volumes::claims::Bound};

const PENDING: &str = "NodeResizePending";
const IN_PROGRESS: &str = "NodeResizeInProgress";
const INFEASIBLE: &str = "NodeResizeInfeasible";
const ERROR: &str = "NodeResizeError";
/// Conditions that end with the growth.
const OF_GROWTH: [&str; 3] = ["Resizing", "FileSystemResizePending", ERROR];

fn stage(claim: &PersistentVolumeClaim) -> Option<&str> {
    let stages = claim.status.as_ref()?.allocated_resource_statuses.as_ref()?;
    stages.get("storage").map(String::as_str)
}

/// The size to grow to, if the claim has not got it yet and it is the node's turn.
pub(super) fn wanted(bound: &Bound) -> Option<Quantity> {
    let capacity = bound.volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
    let has = bound.claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
    let is_ours = matches!(stage(&bound.claim), None | Some(PENDING | IN_PROGRESS));
    let is_larger = quantity::value(capacity)? > quantity::value(has)?;
    (is_ours && is_larger).then(|| capacity.clone())
}

/// What the claim is told before the driver is asked; nothing, where it says so already or its resizer
/// does not know of it.
pub(super) fn begun(claim: &PersistentVolumeClaim) -> Option<Value> {
    (stage(claim) == Some(PENDING))
        .then(|| json!({ "status": { "allocatedResourceStatuses": { "storage": IN_PROGRESS } } }))
}

/// What the claim is told of a driver that has refused for good.
pub(super) fn failed(
    bound: &Bound,
    size: &Quantity,
    error: &RpcError,
    now: Timestamp,
) -> Option<Value> {
    let claim = &bound.claim;
    if stage(claim).is_none() || !error.is_final() {
        return None;
    }
    let requests = claim.spec.as_ref().and_then(|it| it.resources.as_ref()?.requests.as_ref());
    let asked = requests.and_then(|it| quantity::value(it.get("storage")?));
    // Whoever has asked for something else since gets it when this has come to its end.
    let is_given_up = asked != quantity::value(size) && has(claim, ERROR);
    let is_infeasible =
        matches!(error.code, Code::InvalidArgument | Code::OutOfRange | Code::NotFound);
    let mut conditions = others(claim, &[ERROR]);
    conditions.push(json!({
        "type": ERROR,
        "status": "True",
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "message": format!(
            "failed to expand pvc with Expander.NodeExpand failed to expand the volume {error}"
        ),
    }));
    let mut status = json!({ "conditions": conditions });
    if is_infeasible || is_given_up {
        status["allocatedResourceStatuses"] = json!({ "storage": INFEASIBLE });
    }
    Some(json!({ "status": status }))
}

/// The claim's status when its volume has grown.
pub(super) fn finished(claim: &PersistentVolumeClaim, size: &Quantity) -> Value {
    let mut capacity = claim.status.clone().unwrap_or_default().capacity.unwrap_or_default();
    capacity.insert("storage".to_owned(), size.clone());
    json!({ "status": {
        "capacity": capacity,
        "conditions": others(claim, &OF_GROWTH),
        "allocatedResourceStatuses": { "storage": null },
    }})
}

fn has(claim: &PersistentVolumeClaim, condition: &str) -> bool {
    let all = claim.status.as_ref().and_then(|it| it.conditions.as_ref());
    all.into_iter().flatten().any(|it| it.type_ == condition)
}

fn others(claim: &PersistentVolumeClaim, these: &[&str]) -> Vec<Value> {
    let all = claim.status.as_ref().and_then(|it| it.conditions.as_ref()).into_iter().flatten();
    all.filter(|it| !these.contains(&it.type_.as_str())).map(|it| json!(it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(volume: &str, claim: &str, stage: Option<&str>) -> Bound {
        let volume = json!({ "metadata": {}, "spec": { "capacity": { "storage": volume } } });
        let claim = json!({
            "metadata": {},
            "spec": { "resources": { "requests": { "storage": "2Gi" } } },
            "status": {
                "capacity": { "storage": claim },
                "allocatedResourceStatuses": stage.map(|it| json!({ "storage": it })),
                "conditions": [
                    { "type": "FileSystemResizePending", "status": "True" },
                    { "type": "Other", "status": "True" },
                ],
            },
        });
        Bound {
            claim: serde_json::from_value(claim).unwrap(),
            volume: serde_json::from_value(volume).unwrap(),
            read_only: false,
        }
    }

    fn types(patch: &Value) -> Vec<&str> {
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        conditions.iter().map(|it| it["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_volume_grows_to_its_size_once_and_the_claim_is_told() {
        assert_eq!(wanted(&bound("1Gi", "1024Mi", None)), None);
        let grown = bound("2Gi", "1Gi", Some(PENDING));
        let size = wanted(&grown).unwrap();
        assert_eq!(size.0, "2Gi");
        let stage = &begun(&grown.claim).unwrap()["status"]["allocatedResourceStatuses"];
        assert_eq!(stage["storage"], IN_PROGRESS);
        assert_eq!(begun(&bound("2Gi", "1Gi", None).claim), None, "an older resizer");
        let patch = finished(&grown.claim, &size);
        assert_eq!(patch["status"]["capacity"]["storage"], "2Gi");
        assert_eq!(types(&patch), ["Other"]);
        for turn in ["ControllerResizeInProgress", INFEASIBLE] {
            assert_eq!(wanted(&bound("2Gi", "1Gi", Some(turn))), None, "{turn}");
        }
    }

    #[test]
    fn what_a_driver_can_never_do_is_given_back_and_what_may_come_is_tried_again() {
        let fails = |bound: &Bound, code| {
            let error = RpcError { call: "NodeExpandVolume", code, message: "no".to_owned() };
            let size =
                Quantity(bound.volume.spec.clone().unwrap().capacity.unwrap()["storage"].0.clone());
            failed(bound, &size, &error, Timestamp::UNIX_EPOCH)
        };
        let growing = bound("2Gi", "1Gi", Some(IN_PROGRESS));
        assert_eq!(fails(&growing, Code::Unavailable), None, "it may still be at it");
        let patch = fails(&growing, Code::Internal).unwrap();
        assert_eq!(types(&patch), ["FileSystemResizePending", "Other", ERROR]);
        assert!(patch["status"]["allocatedResourceStatuses"].is_null());
        let patch = fails(&growing, Code::OutOfRange).unwrap();
        assert_eq!(patch["status"]["allocatedResourceStatuses"]["storage"], INFEASIBLE);
        assert_eq!(fails(&bound("2Gi", "1Gi", None), Code::OutOfRange), None, "nobody would know");
        // Meanwhile less is asked for.
        let mut less = bound("4Gi", "1Gi", Some(IN_PROGRESS));
        let first = fails(&less, Code::Internal).unwrap();
        assert!(first["status"]["allocatedResourceStatuses"].is_null());
        less.claim.status.as_mut().unwrap().conditions =
            serde_json::from_value(first["status"]["conditions"].clone()).unwrap();
        let second = fails(&less, Code::Internal).unwrap();
        assert_eq!(second["status"]["allocatedResourceStatuses"]["storage"], INFEASIBLE);
        assert_eq!(types(&second), ["FileSystemResizePending", "Other", ERROR], "once");
    }
}
