//! When a claim's devices are no longer tolerable.

use std::time::Duration;

use controller::Store;
use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    Device, DeviceRequestAllocationResult, DeviceTaint, ResourceClaim, ResourceSlice,
};
use scheduling::tolerates_device;

/// The index of slices by [`pool_of`].
pub(super) const BY_POOL: &str = "pool";

/// `None`: never.
pub(super) type Leave = Option<Timestamp>;

pub(super) fn pool_key(driver: &str, pool: &str) -> String {
    format!("{driver}/{pool}")
}

pub(super) fn pool_of(slice: &ResourceSlice) -> String {
    pool_key(&slice.spec.driver, &slice.spec.pool.name)
}

/// Only names and taints of devices are read.
pub(super) fn trim(slice: &mut ResourceSlice) {
    slice.spec.shared_counters = None;
    for device in slice.spec.devices.iter_mut().flatten() {
        *device = Device {
            name: std::mem::take(&mut device.name),
            taints: device.taints.take(),
            ..Device::default()
        };
    }
}

pub(super) fn results(
    claim: &ResourceClaim,
) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    let allocation = claim.status.as_ref().and_then(|it| it.allocation.as_ref());
    let results = allocation.and_then(|it| it.devices.as_ref()?.results.as_ref());
    results.into_iter().flatten()
}

/// The taints of a slice that drive pods away, with their devices.
pub(super) fn taints(slice: &ResourceSlice) -> Vec<(String, DeviceTaint)> {
    let devices = slice.spec.devices.iter().flatten();
    devices.flat_map(|it| evicting(it).map(|taint| (it.name.clone(), taint.clone()))).collect()
}

fn evicting(device: &Device) -> impl Iterator<Item = &DeviceTaint> {
    device.taints.iter().flatten().filter(|it| it.effect == "NoExecute")
}

pub(super) fn leave(slices: &Store<ResourceSlice>, claim: &ResourceClaim, now: Timestamp) -> Leave {
    let each = results(claim).filter_map(|result| {
        let pool = slices.indexed(BY_POOL, &pool_key(&result.driver, &result.pool));
        // What older generations say is not so any more.
        let newest = pool.iter().map(|it| it.spec.pool.generation).max()?;
        let current = pool.iter().filter(|it| it.spec.pool.generation == newest);
        let mut devices = current.flat_map(|it| it.spec.devices.iter().flatten());
        let device = devices.find(|it| it.name == result.device)?;
        evicting(device).filter_map(|it| untolerated(result, it, now)).min()
    });
    each.min()
}

/// When a taint is tolerated no longer.
fn untolerated(
    result: &DeviceRequestAllocationResult,
    taint: &DeviceTaint,
    now: Timestamp,
) -> Leave {
    let since = taint.time_added.as_ref().map_or(now, |it| it.0);
    let matching = result.tolerations.iter().flatten().filter(|it| tolerates_device(it, taint));
    let limits: Vec<_> = matching.map(|it| it.toleration_seconds).collect();
    if limits.contains(&None) {
        return None;
    }
    let shortest = limits.into_iter().flatten().min().unwrap_or(0);
    Some(clock::later(since, Duration::from_secs(u64::try_from(shortest).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use controller::StoreSpec;
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, generation: i64, taints: Value) -> ResourceSlice {
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "driver": "d",
            "allNodes": true, "devices": [{ "name": "g", "taints": taints }],
            "pool": { "name": "p", "generation": generation, "resourceSliceCount": 1 } } }))
        .unwrap()
    }

    fn claim(tolerations: Value) -> ResourceClaim {
        let result = json!({ "request": "r", "driver": "d", "pool": "p", "device": "g",
            "tolerations": tolerations });
        serde_json::from_value(json!({ "metadata": { "name": "c" }, "spec": {},
            "status": { "allocation": { "devices": { "results": [result] } } } }))
        .unwrap()
    }

    fn leaves(slices: Vec<ResourceSlice>, tolerations: Value) -> Option<i64> {
        let spec = StoreSpec::default().index(BY_POOL, |it| vec![pool_of(it)]);
        let now = Timestamp::from_second(1000).unwrap();
        leave(&Store::fixed(spec, slices), &claim(tolerations), now).map(Timestamp::as_second)
    }

    fn broken() -> Value {
        json!([{ "key": "broken", "effect": "NoExecute", "timeAdded": "1970-01-01T00:10:00Z" }])
    }

    #[test]
    fn a_claim_is_tolerable_as_long_as_its_shortest_toleration_lasts() {
        let tolerating = |seconds: Value| json!({ "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds });
        for (tolerations, expected) in [
            (json!([]), Some(600)),
            (json!([tolerating(json!(60))]), Some(660)),
            (json!([tolerating(json!(60)), tolerating(json!(30))]), Some(630)),
            (json!([tolerating(json!(-5))]), Some(600)),
            (json!([tolerating(json!(60)), tolerating(Value::Null)]), None),
            (json!([{ "operator": "Exists", "key": "other" }]), Some(600)),
            (json!([{ "operator": "Exists", "effect": "NoSchedule" }]), Some(600)),
        ] {
            let slices = vec![slice("a", 1, broken())];
            assert_eq!(leaves(slices, tolerations.clone()), expected, "{tolerations}");
        }
    }

    #[test]
    fn only_the_newest_slices_and_taints_that_evict_count() {
        let soft =
            json!([{ "key": "k", "effect": "NoSchedule" }, { "key": "k", "effect": "None" }]);
        assert_eq!(leaves(vec![slice("a", 1, soft)], json!([])), None);
        let healed = vec![slice("a", 1, broken()), slice("b", 2, json!([]))];
        assert_eq!(leaves(healed, json!([])), None);
        let undated = json!([{ "key": "k", "effect": "NoExecute" }]);
        assert_eq!(leaves(vec![slice("a", 1, undated)], json!([])), Some(1000));
    }
}
