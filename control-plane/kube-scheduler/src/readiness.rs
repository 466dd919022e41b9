//! Devices that must be made ready before their pod is bound: waits for what their drivers say.
//!
//! A device that fails, or that is not ready in time, is given back, and the pod is tried again.
//!
//! Upstream: KEP-5007, `PreBind` of the plug-in `dynamicresources`.

use std::time::Duration;

use controller::Key;
use jiff::Timestamp;
use k8s_openapi::{
    api::resource::v1::{DeviceRequestAllocationResult, ResourceClaim},
    apimachinery::pkg::apis::meta::v1::Condition,
};

use crate::{Context, devices::ClaimWrite};

/// How the devices of a claim stand.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    /// Until then.
    Waits(Timestamp),
    Failed(String),
}

/// Why a pod is not bound with what it was given.
#[derive(Debug, thiserror::Error)]
#[error("claim {}: {why}", claim.name)]
pub(crate) struct NotReady {
    pub(crate) claim: Key,
    why: String,
}

/// Waits until the devices of all claims are ready, or the pod (by its UID) needs them no more.
pub(crate) async fn wait(
    context: &Context,
    pod: &str,
    claims: &[ClaimWrite],
    limit: Duration,
) -> Result<(), NotReady> {
    let begun = context.clock.now();
    for it in claims {
        loop {
            let changed = context.claims_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = context.clock.now();
            let found = context.stores.resource_claims.get(&it.key);
            // What was written is not seen yet, or the claim was always there.
            let allocation = found.as_ref().and_then(|it| it.status.as_ref()?.allocation.as_ref());
            let readiness = match (&found, allocation) {
                (Some(claim), Some(_)) => of(claim, now, limit),
                _ if it.must_be_readied() => Readiness::Waits(clock::later(begun, limit)),
                _ => Readiness::Ready,
            };
            let failed = |why: String| NotReady { claim: it.key.clone(), why };
            match readiness {
                Readiness::Ready => break,
                Readiness::Failed(why) => return Err(failed(why)),
                Readiness::Waits(_) if !context.state.lock().assumed.contains(pod) => {
                    return Err(failed("the pod is gone".to_owned()));
                }
                Readiness::Waits(until) if until <= now => {
                    return Err(failed("timed out waiting for the devices to be ready".to_owned()));
                }
                Readiness::Waits(until) => {
                    let due = tokio::time::sleep(context.clock.until(until));
                    tokio::select! {
                        () = changed => {}
                        () = due => {}
                    }
                }
            }
        }
    }
    Ok(())
}

fn of(claim: &ResourceClaim, now: Timestamp, limit: Duration) -> Readiness {
    let status = claim.status.as_ref();
    let allocation = status.and_then(|it| it.allocation.as_ref());
    let results = allocation.and_then(|it| it.devices.as_ref()?.results.as_ref());
    let mut is_ready = true;
    for it in results.into_iter().flatten() {
        let told = conditions(claim, it);
        let is_true =
            |name: &&String| told.iter().any(|it| it.type_ == **name && it.status == "True");
        if let Some(failed) = it.binding_failure_conditions.iter().flatten().find(is_true) {
            let device = format!("{}/{}/{}", it.driver, it.pool, it.device);
            return Readiness::Failed(format!(
                "device {device} failed: its condition {failed} is true"
            ));
        }
        is_ready &= it.binding_conditions.iter().flatten().all(|it| is_true(&it));
    }
    if is_ready {
        return Readiness::Ready;
    }
    let since = allocation.and_then(|it| it.allocation_timestamp.as_ref()).map_or(now, |it| it.0);
    Readiness::Waits(clock::later(since, limit))
}

/// What the driver says of a device.
fn conditions<'a>(claim: &'a ResourceClaim, of: &DeviceRequestAllocationResult) -> &'a [Condition] {
    let mut told = claim.status.iter().flat_map(|it| it.devices.iter().flatten());
    let found = told.find(|it| {
        (&it.driver, &it.pool, &it.device, &it.share_id)
            == (&of.driver, &of.pool, &of.device, &of.share_id)
    });
    found.and_then(|it| it.conditions.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn readiness(conditions: Value) -> Readiness {
        let device = json!({ "driver": "d", "pool": "p", "device": "x" });
        let mut result = device.clone();
        result["request"] = json!("r");
        result["bindingConditions"] = json!(["attached", "cabled"]);
        result["bindingFailureConditions"] = json!(["broken"]);
        let mut told = device;
        told["conditions"] = conditions;
        let claim = serde_json::from_value(json!({ "metadata": { "name": "c" }, "spec": {},
            "status": { "devices": [told], "allocation": {
                "allocationTimestamp": "1970-01-01T00:00:30Z",
                "devices": { "results": [result] } } } }));
        of(&claim.unwrap(), Timestamp::UNIX_EPOCH, Duration::from_secs(60))
    }

    fn condition(name: &str, status: &str) -> Value {
        json!({ "type": name, "status": status, "reason": "r", "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z" })
    }

    #[test]
    fn devices_are_ready_when_all_their_conditions_hold_and_fail_when_one_against_them_does() {
        let until = Readiness::Waits(Timestamp::from_second(90).unwrap());
        assert_eq!(readiness(json!([])), until);
        let attached = condition("attached", "True");
        assert_eq!(readiness(json!([attached, condition("cabled", "False")])), until);
        assert_eq!(readiness(json!([attached, condition("cabled", "True")])), Readiness::Ready);
        let broken = json!([attached, condition("cabled", "True"), condition("broken", "True")]);
        let why = "device d/p/x failed: its condition broken is true".to_owned();
        assert_eq!(readiness(broken), Readiness::Failed(why));
    }
}
