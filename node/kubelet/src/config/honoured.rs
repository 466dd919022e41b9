//! Which settings this kubelet knows and does not act on.
//!
//! Each is accepted, so that a file for upstream's kubelet can be used as it is, and told in a warning
//! when it is set to something else than its default: nobody should believe that it works.
//!
//! Deviation: settings for things that this kubelet does in another way, or not at all, are accepted
//! with a warning: API rate limits, profiling, tracing, the log format, iptables
//! chains, FlexVolumes, memory QoS.

use serde_json::Value;

use super::KubeletConfiguration;

const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("tlsCurvePreferences", "the TLS library chooses the key exchange"),
    ("enableContentionProfiling", "there is no profiler"),
    ("draManagerReconcilePeriod", "claims are let go when their pods are"),
    ("hairpinMode", "the network is the CNI plug-in's"),
    ("kubeletCgroups", "the kubelet stays in the cgroup that it was started in"),
    ("systemCgroups", "processes of the system are not moved"),
    ("qosReserved", "memory is not reserved by QoS class"),
    ("podCIDR", "the network is the CNI plug-in's"),
    ("contentType", "requests are JSON"),
    ("kubeAPIQPS", "requests are few, and not limited"),
    ("kubeAPIBurst", "requests are few, and not limited"),
    ("makeIPTablesUtilChains", "no iptables rules are made"),
    ("iptablesMasqueradeBit", "upstream ignores it too"),
    ("iptablesDropBit", "upstream ignores it too"),
    ("configMapAndSecretChangeDetectionStrategy", "objects are read again when they are due"),
    ("volumePluginDir", "there are no FlexVolumes"),
    ("tracing", "spans are not exported"),
    ("memoryThrottlingFactor", "memory QoS is not supported"),
    ("memoryReservationPolicy", "memory QoS is not supported"),
    ("enableProfilingHandler", "there is no profiler"),
    ("enableDebugFlagsHandler", "the log level is set when the kubelet starts"),
    ("showHiddenMetricsForVersion", "no metrics are hidden"),
];

/// The settings that were written, differ from their defaults, and do nothing.
pub(super) fn without_effect(
    written: &Value,
    config: &KubeletConfiguration,
) -> Vec<(&'static str, &'static str)> {
    let own = serde_json::to_value(config).unwrap_or_default();
    let default = serde_json::to_value(KubeletConfiguration::default()).unwrap_or_default();
    let mut found: Vec<_> = WITHOUT_EFFECT
        .iter()
        .filter(|(field, _)| written.get(field).is_some() && own[field] != default[field])
        .copied()
        .collect();
    if !matches!(config.logging["format"].as_str(), None | Some("text" | "")) {
        found.push(("logging.format", "the log is text"));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_set_to_something_else_is_told() {
        let written = json!({ "kubeAPIQPS": 10, "kubeAPIBurst": 100, "streamingConnectionIdleTimeout": "1m" });
        let config = serde_json::from_value(written.clone()).unwrap();
        let told: Vec<_> = without_effect(&written, &config).into_iter().map(|it| it.0).collect();
        assert_eq!(told, ["kubeAPIQPS"]);
    }

    #[test]
    fn every_name_in_the_table_is_a_field() {
        let known = serde_json::to_value(KubeletConfiguration::default()).unwrap();
        for (field, _) in WITHOUT_EFFECT {
            assert!(known.get(field).is_some(), "{field}");
        }
    }
}
