//! Thresholds, from the configuration's text.
//!
//! Upstream: `ParseThresholdConfig` in `pkg/kubelet/eviction/helpers.go`. A threshold of 0 % or 100 %
//! switches its signal off.

use std::{collections::BTreeMap, time::Duration};

use super::signal::Signal;
use crate::{
    config::KubeletConfiguration, duration, node::capacity::threshold as amount, quantity,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Threshold {
    pub signal: Signal,
    /// `100Mi` or `10%`.
    pub value: String,
    /// Zero for a hard one.
    pub grace: Duration,
    pub minimum_reclaim: Option<String>,
}

impl Threshold {
    pub(crate) fn limit(&self, capacity: i64) -> i64 {
        amount(&self.value, capacity).unwrap_or(0)
    }

    /// What has to be free again before the pressure counts as gone.
    pub(crate) fn goal(&self, capacity: i64) -> i64 {
        let more = self.minimum_reclaim.as_ref().and_then(|it| amount(it, capacity)).unwrap_or(0);
        self.limit(capacity).saturating_add(more)
    }
}

pub(super) fn parse_all(config: &KubeletConfiguration) -> Result<Vec<Threshold>, String> {
    let reclaims = reclaims(&config.eviction_minimum_reclaim)?;
    let graces = graces(&config.eviction_soft_grace_period)?;
    let mut all = Vec::new();
    for (signal, value) in parse(&config.eviction_hard)? {
        all.push(Threshold { signal, value, grace: Duration::ZERO, minimum_reclaim: None });
    }
    for (signal, value) in parse(&config.eviction_soft)? {
        let Some(grace) = graces.get(&signal) else {
            let name = signal.name();
            return Err(format!(
                "grace period must be specified for the soft eviction threshold {name}"
            ));
        };
        all.push(Threshold { signal, value, grace: *grace, minimum_reclaim: None });
    }
    for threshold in &mut all {
        threshold.minimum_reclaim = reclaims.get(&threshold.signal).cloned();
    }
    if config.enforce_node_allocatable.iter().any(|it| it == "pods") && config.cgroups_per_qos {
        let hard = all.iter().find(|it| it.signal == Signal::Memory && it.grace.is_zero());
        let added = hard.map(|it| Threshold { signal: Signal::AllocatableMemory, ..it.clone() });
        all.extend(added);
    }
    Ok(all)
}

fn find(name: &str) -> Result<Signal, String> {
    Signal::find(name).ok_or_else(|| format!("unsupported eviction signal {name}"))
}

fn parse(statements: &BTreeMap<String, String>) -> Result<Vec<(Signal, String)>, String> {
    let mut found = Vec::new();
    for (name, text) in statements {
        let signal = find(name)?;
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percentage(percent)?;
            if percent == 0.0 || percent == 100.0 {
                continue;
            }
            if percent < 0.0 {
                return Err(format!("eviction percentage threshold {name} must be >= 0%: {text}"));
            }
            if percent > 100.0 {
                return Err(format!(
                    "eviction percentage threshold {name} must be <= 100%: {text}"
                ));
            }
        } else {
            match quantity::parse(text) {
                None => return Err(no_quantity()),
                Some(amount) if amount <= 0 => {
                    return Err(format!("eviction threshold {name} must be positive: {text}"));
                }
                Some(_) => {}
            }
        }
        found.push((signal, text.clone()));
    }
    Ok(found)
}

fn percentage(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))
}

fn no_quantity() -> String {
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        .to_owned()
}

fn graces(statements: &BTreeMap<String, String>) -> Result<BTreeMap<Signal, Duration>, String> {
    let mut found = BTreeMap::new();
    for (name, text) in statements {
        let signal = find(name)?;
        if text.starts_with('-') {
            return Err(format!(
                "invalid eviction grace period specified: {text}, must be a positive value"
            ));
        }
        let Some(grace) = duration::parse(text) else {
            return Err(format!("time: invalid duration {text:?}"));
        };
        found.insert(signal, grace);
    }
    Ok(found)
}

fn reclaims(statements: &BTreeMap<String, String>) -> Result<BTreeMap<Signal, String>, String> {
    let mut found = BTreeMap::new();
    for (name, text) in statements {
        let signal = find(name)?;
        if let Some(percent) = text.strip_suffix('%') {
            if percentage(percent)? <= 0.0 {
                return Err(format!(
                    "eviction percentage minimum reclaim {name} must be positive: {text}"
                ));
            }
        } else {
            match quantity::parse(text) {
                None => return Err(no_quantity()),
                Some(amount) if amount < 0 => {
                    return Err(format!("negative eviction minimum reclaim specified for {name}"));
                }
                Some(_) => {}
            }
        }
        found.insert(signal, text.clone());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KubeletConfiguration {
        KubeletConfiguration::default()
    }

    #[test]
    fn hard_and_soft_thresholds_are_read_with_graces_and_reclaims() {
        let mut config = config();
        let put = |map: &mut BTreeMap<String, String>, key: &str, value: &str| {
            map.insert(key.to_owned(), value.to_owned());
        };
        put(&mut config.eviction_soft, "memory.available", "1Gi");
        put(&mut config.eviction_soft_grace_period, "memory.available", "1m30s");
        put(&mut config.eviction_minimum_reclaim, "memory.available", "10%");
        put(&mut config.eviction_hard, "nodefs.available", "100%");
        let all = parse_all(&config).unwrap();
        assert!(all.iter().all(|it| it.signal != Signal::NodeFs), "100 % switches it off");
        assert!(all.iter().any(|it| it.signal == Signal::AllocatableMemory));
        let soft = all.iter().find(|it| !it.grace.is_zero()).unwrap();
        assert_eq!((soft.signal, soft.grace.as_secs()), (Signal::Memory, 90));
        assert_eq!(soft.limit(10 << 30), 1 << 30);
        assert_eq!(soft.goal(10 << 30), 2 << 30);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_upstreams_words() {
        let cases = [
            ("disk", "1", "unsupported eviction signal disk"),
            (
                "memory.available",
                "-1Mi",
                "eviction threshold memory.available must be positive: -1Mi",
            ),
            (
                "memory.available",
                "101%",
                "eviction percentage threshold memory.available must be <= 100%: 101%",
            ),
            (
                "nodefs.available",
                "-3%",
                "eviction percentage threshold nodefs.available must be >= 0%: -3%",
            ),
        ];
        for (signal, value, message) in cases {
            let mut config = config();
            config.eviction_hard.insert(signal.to_owned(), value.to_owned());
            assert_eq!(parse_all(&config).unwrap_err(), message);
        }
    }
}
