//! What an EC2NodeClass may say of the kubelet. The field is an open map, of which no schema is checked: what
//! cannot be read would be left out of a node's configuration, or of what the node is taken to hold.
//!
//! Messages are upstream's, of `KubeletConfiguration` in `pkg/apis/v1/ec2nodeclass.go` of
//! aws/karpenter-provider-aws, where it has any.
//!
//! Deviation: a `maxPods` that is a CEL expression (upstream's gate `NodeClassCEL`) is refused.

use resources::Quantity;
use serde_json::{Map, Value};

const RESOURCES: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
const SIGNALS: [&str; 6] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
];

/// What is wrong with it; nothing where there is none.
pub(super) fn faults(kubelet: Option<&Value>) -> Vec<String> {
    let Some(kubelet) = kubelet else { return Vec::new() };
    let Some(settings) = kubelet.as_object() else {
        return vec!["kubelet must be an object".to_owned()];
    };
    let mut faults: Vec<String> =
        settings.iter().flat_map(|(name, value)| of_setting(name, value)).collect();
    faults.extend(of_pairs(kubelet));
    faults
}

fn of_setting(name: &str, value: &Value) -> Vec<String> {
    let must = |is_good: bool, what: &str| match is_good {
        true => Vec::new(),
        false => vec![format!("kubelet.{name} must be {what}")],
    };
    let number = |most: i64| value.as_i64().is_some_and(|it| (0..=most).contains(&it));
    match name {
        "maxPods" | "podsPerCore" | "evictionMaxPodGracePeriod" => {
            must(number(i64::from(i32::MAX)), "an integer of 0 or more")
        }
        "imageGCHighThresholdPercent" | "imageGCLowThresholdPercent" => {
            must(number(100), "an integer from 0 to 100")
        }
        "cpuCFSQuota" => must(value.is_boolean(), "true or false"),
        "clusterDNS" => {
            let is_address =
                |it: &Value| it.as_str().is_some_and(|it| it.parse::<std::net::IpAddr>().is_ok());
            let list = value.as_array();
            must(list.is_some_and(|it| it.iter().all(is_address)), "a list of IP addresses")
        }
        "systemReserved" | "kubeReserved" => of_map(name, value, &RESOURCES, amount_fault),
        "evictionHard" | "evictionSoft" => of_map(name, value, &SIGNALS, threshold_fault),
        "evictionSoftGracePeriod" => of_map(name, value, &SIGNALS, duration_fault),
        _ => vec![format!("unknown field \"kubelet.{name}\"")],
    }
}

type Fault = fn(&str, &str) -> Option<String>;

/// Of a map from certain keys to text.
fn of_map(name: &str, value: &Value, keys: &[&str], fault: Fault) -> Vec<String> {
    let Some(entries) = value.as_object() else {
        return vec![format!("kubelet.{name} must be an object")];
    };
    if entries.keys().any(|it| !keys.contains(&it.as_str())) {
        let keys: Vec<String> = keys.iter().map(|it| format!("'{it}'")).collect();
        return vec![format!("valid keys for {name} are [{}]", keys.join(","))];
    }
    let each = entries.iter().filter_map(|(key, value)| match value.as_str() {
        Some(text) => fault(name, text),
        None => Some(format!("kubelet.{name}[{key}] must be a string")),
    });
    each.collect()
}

fn amount_fault(name: &str, text: &str) -> Option<String> {
    match text.parse::<Quantity>() {
        Ok(_) if text.starts_with('-') => {
            Some(format!("{name} value cannot be a negative resource quantity"))
        }
        Ok(_) => None,
        Err(_) => Some(format!("{name}: {text:?} is no quantity")),
    }
}

fn threshold_fault(name: &str, text: &str) -> Option<String> {
    let is_good = match text.strip_suffix('%') {
        Some(share) => share.parse::<f64>().is_ok_and(|it| (0.0..=100.0).contains(&it)),
        None => !text.starts_with('-') && text.parse::<Quantity>().is_ok(),
    };
    (!is_good).then(|| format!("{name}: {text:?} is neither a quantity nor a percentage"))
}

fn duration_fault(name: &str, text: &str) -> Option<String> {
    let is_good = component_config::duration::parse(text).is_some();
    (!is_good).then(|| format!("{name}: {text:?} is no duration"))
}

/// What has to fit together.
fn of_pairs(kubelet: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let percent = |name: &str| kubelet[name].as_i64();
    let (high, low) =
        (percent("imageGCHighThresholdPercent"), percent("imageGCLowThresholdPercent"));
    if high.zip(low).is_some_and(|(high, low)| high <= low) {
        let message = "imageGCHighThresholdPercent must be greater than imageGCLowThresholdPercent";
        faults.push(message.to_owned());
    }
    let none = Map::new();
    let soft = kubelet["evictionSoft"].as_object().unwrap_or(&none);
    let periods = kubelet["evictionSoftGracePeriod"].as_object().unwrap_or(&none);
    for (of, with, all, others) in [
        ("evictionSoft", "evictionSoftGracePeriod", soft, periods),
        ("evictionSoftGracePeriod", "evictionSoft", periods, soft),
    ] {
        if all.keys().any(|it| !others.contains_key(it)) {
            faults.push(format!("{of} OwnerKey does not have a matching {with}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kubelet: Value) -> Vec<String> {
        faults(Some(&kubelet))
    }

    #[test]
    fn what_karpenter_knows_of_the_kubelet_may_be_said() {
        let all = json!({
            "maxPods": 20, "podsPerCore": 0, "cpuCFSQuota": false, "clusterDNS": ["10.100.0.53"],
            "systemReserved": { "cpu": "100m", "memory": "1Gi", "pid": "100" },
            "kubeReserved": { "ephemeral-storage": "1Gi" },
            "evictionHard": { "memory.available": "5%", "nodefs.available": "1Gi" },
            "evictionSoft": { "memory.available": "500Mi" },
            "evictionSoftGracePeriod": { "memory.available": "1m30s" },
            "evictionMaxPodGracePeriod": 60,
            "imageGCHighThresholdPercent": 85, "imageGCLowThresholdPercent": 80,
        });
        assert_eq!(of(all), Vec::<String>::new());
        assert_eq!(faults(None), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_not_left_out() {
        for (kubelet, expected) in [
            (json!("x"), "kubelet must be an object"),
            (json!({ "maxPods": "instance.enis * 2" }), "kubelet.maxPods must be an integer"),
            (json!({ "maxPods": -1 }), "kubelet.maxPods must be an integer"),
            (json!({ "podsPerCore": 1.5 }), "kubelet.podsPerCore must be an integer"),
            (json!({ "imageGCHighThresholdPercent": 101 }), "from 0 to 100"),
            (json!({ "cpuCFSQuota": "false" }), "must be true or false"),
            (json!({ "clusterDNS": ["dns.local"] }), "a list of IP addresses"),
            (
                json!({ "systemReserved": { "gpu": "1" } }),
                "valid keys for systemReserved are ['cpu','memory','ephemeral-storage','pid']",
            ),
            (json!({ "kubeReserved": { "cpu": "-1" } }), "kubeReserved value cannot be a negative"),
            (json!({ "kubeReserved": { "cpu": "much" } }), "is no quantity"),
            (json!({ "kubeReserved": { "cpu": 1 } }), "kubelet.kubeReserved[cpu] must be a string"),
            (json!({ "evictionHard": { "memory": "5%" } }), "valid keys for evictionHard are"),
            (json!({ "evictionHard": { "memory.available": "105%" } }), "nor a percentage"),
            (
                json!({ "imageGCHighThresholdPercent": 10, "imageGCLowThresholdPercent": 10 }),
                "must be greater than imageGCLowThresholdPercent",
            ),
            (
                json!({ "evictionSoft": { "pid.available": "10%" } }),
                "evictionSoft OwnerKey does not have a matching evictionSoftGracePeriod",
            ),
            (
                json!({ "evictionSoftGracePeriod": { "pid.available": "1m" } }),
                "evictionSoftGracePeriod OwnerKey does not have a matching evictionSoft",
            ),
            (json!({ "maxpods": 3 }), "unknown field \"kubelet.maxpods\""),
        ] {
            let found = of(kubelet.clone());
            assert!(found.len() == 1 && found[0].contains(expected), "{kubelet}: {found:?}");
        }
    }
}
