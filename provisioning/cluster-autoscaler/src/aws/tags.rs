//! What a group's tags say: the options of `…/node-template/autoscaling-options/`, and labels, taints
//! and resources of the nodes to come.

use std::collections::BTreeMap;

use aws_autoscaling::tag::TagDescription;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::api::resource::Quantity};

use crate::options::GroupOptions;

const TEMPLATE: &str = "k8s.io/cluster-autoscaler/node-template/";

fn under<'a>(
    tags: &'a [TagDescription],
    kind: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
    let found = tags.iter().filter_map(move |it| {
        let key = it.key.as_deref()?.strip_prefix(TEMPLATE)?.strip_prefix(kind)?;
        Some((key.strip_prefix('/')?, it.value.as_deref().unwrap_or_default()))
    });
    found.filter(|(key, _)| !key.is_empty())
}

/// The defaults with what the tags say; a value that cannot be read says nothing.
pub(super) fn options(tags: &[TagDescription], defaults: &GroupOptions) -> GroupOptions {
    let mut options = defaults.clone();
    for (key, value) in under(tags, "autoscaling-options") {
        let is_read = match key {
            "scaledownutilizationthreshold" => {
                set(&mut options.utilization_threshold, value.parse().ok())
            }
            "scaledowngpuutilizationthreshold" => {
                set(&mut options.gpu_utilization_threshold, value.parse().ok())
            }
            "scaledownunneededtime" => set(&mut options.unneeded_time, duration(value)),
            "scaledownunreadytime" => set(&mut options.unready_time, duration(value)),
            "maxnodeprovisiontime" => set(&mut options.max_provision_time, duration(value)),
            "ignoredaemonsetsutilization" => {
                set(&mut options.ignore_daemon_sets, value.parse().ok())
            }
            _ => false,
        };
        if !is_read {
            tracing::warn!(key, value, "failed to use an autoscaling option");
        }
    }
    options
}

fn duration(value: &str) -> Option<std::time::Duration> {
    component_config::duration::parse(value)
}

fn set<T>(field: &mut T, value: Option<T>) -> bool {
    let is_some = value.is_some();
    if let Some(value) = value {
        *field = value;
    }
    is_some
}

pub(super) fn labels(tags: &[TagDescription]) -> BTreeMap<String, String> {
    under(tags, "label").map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// `value:Effect`; what is written otherwise is passed over, as upstream does.
pub(super) fn taints(tags: &[TagDescription]) -> Vec<Taint> {
    let taint = |(key, value): (&str, &str)| {
        let (value, effect) = value.split_once(':')?;
        let is_known = matches!(effect, "NoSchedule" | "NoExecute" | "PreferNoSchedule");
        is_known.then(|| Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            time_added: None,
        })
    };
    under(tags, "taint").filter_map(taint).collect()
}

pub(super) fn resources(tags: &[TagDescription]) -> BTreeMap<String, Quantity> {
    let read = |(key, value): (&str, &str)| {
        value.parse::<resources::Quantity>().ok()?;
        Some((key.to_owned(), Quantity(value.to_owned())))
    };
    under(tags, "resources").filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn tag(key: &str, value: &str) -> TagDescription {
        TagDescription {
            key: Some(format!("{TEMPLATE}{key}")),
            value: Some(value.to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn tags_describe_nodes_that_do_not_exist_yet() {
        let tags = [
            tag("label/team", "a"),
            tag("taint/dedicated", "gpu:NoSchedule"),
            tag("taint/wrong", "NoSuchEffect"),
            tag("resources/ephemeral-storage", "100G"),
            tag("resources/wrong", "much"),
            tag("autoscaling-options/scaledownunneededtime", "1m30s"),
            tag("autoscaling-options/scaledownutilizationthreshold", "0.7"),
            tag("autoscaling-options/scaledownunreadytime", "soon"),
        ];
        assert_eq!(labels(&tags)["team"], "a");
        let taints = taints(&tags);
        assert_eq!((taints.len(), taints[0].value.as_deref()), (1, Some("gpu")));
        assert_eq!(resources(&tags).keys().collect::<Vec<_>>(), ["ephemeral-storage"]);
        let defaults = Options::default().scale_down.defaults;
        let options = options(&tags, &defaults);
        assert_eq!(options.unneeded_time.as_secs(), 90);
        assert_eq!(options.unready_time, defaults.unready_time);
        assert!((options.utilization_threshold - 0.7).abs() < 1e-9);
    }
}
