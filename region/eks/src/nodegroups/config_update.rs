//! `UpdateNodegroupConfig`: what changes, as a value.

use aws_eks::{NodeRepairConfig, UpdateNodegroupConfigRequest};
use aws_wire::Fault;

use super::{
    records::{Nodegroup, Scaling},
    rollout::Strategy,
    validate::{self, fields},
    warm_pool::{self, Kind},
};
use crate::faults;

/// The group as it shall be, and the parameters of the update's record.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) params: Vec<(String, String)>,
    wanted: Box<Nodegroup>,
}

impl Change {
    pub(crate) fn apply(self, group: &mut Nodegroup) {
        *group = *self.wanted;
    }
}

pub(crate) fn plan(
    group: &Nodegroup,
    request: &UpdateNodegroupConfigRequest,
) -> Result<Change, Fault> {
    let mut wanted = group.clone();
    let mut params = Vec::new();
    if let Some(asked) = &request.scaling_config {
        let now = group.scaling;
        wanted.scaling = Scaling {
            min: asked.min_size.unwrap_or(now.min),
            max: asked.max_size.unwrap_or(now.max),
            desired: asked.desired_size.unwrap_or(now.desired),
        };
        let Scaling { min, max, desired } = wanted.scaling;
        validate::check_sizes(min, max, desired)?;
        for (name, value) in [("MinSize", min), ("MaxSize", max), ("DesiredSize", desired)] {
            params.push((name.to_owned(), value.to_string()));
        }
    }
    if let Some(labels) = &request.labels {
        fields::labels(&labels.add_or_update_labels)?;
        labels.remove_labels.iter().try_for_each(|it| fields::label_key(it))?;
        let (added, removed) = (labels.add_or_update_labels.keys(), labels.remove_labels.iter());
        fields::disjoint(added, removed, "label key")?;
        wanted.labels.extend(labels.add_or_update_labels.clone());
        wanted.labels.retain(|key, _| !labels.remove_labels.contains(key));
        wanted.removed_labels.extend(labels.remove_labels.clone());
        params.push(("LabelsToAdd".to_owned(), json(&labels.add_or_update_labels)));
        params.push(("LabelsToRemove".to_owned(), json(&labels.remove_labels)));
    }
    if let Some(change) = &request.taints {
        let (added, removed) = (&change.add_or_update_taints, &change.remove_taints);
        fields::taints(added)?;
        fields::taints(removed)?;
        let (mine, theirs) =
            (added.iter().map(fields::identity), removed.iter().map(fields::identity));
        fields::disjoint(mine, theirs, "taint")?;
        let touched = [&change.add_or_update_taints[..], &change.remove_taints[..]].concat();
        wanted.taints.retain(|it| {
            !touched.iter().any(|other| fields::identity(it) == fields::identity(other))
        });
        wanted.taints.extend(change.add_or_update_taints.clone());
        fields::taints(&wanted.taints)?;
        wanted.removed_taints.extend(change.remove_taints.clone());
        params.push(("TaintsToAdd".to_owned(), json(&change.add_or_update_taints)));
        params.push(("TaintsToRemove".to_owned(), json(&change.remove_taints)));
    }
    if let Some(asked) = &request.update_config {
        validate::update_config(asked)?;
        if let Some(count) = asked.max_unavailable {
            wanted.max_unavailable = count;
            wanted.max_unavailable_percentage = None;
            params.push(("MaxUnavailable".to_owned(), count.to_string()));
        }
        if let Some(percent) = asked.max_unavailable_percentage {
            wanted.max_unavailable_percentage = Some(percent);
            params.push(("MaxUnavailablePercentage".to_owned(), percent.to_string()));
        }
        if let Some(strategy) = asked.update_strategy.as_deref().and_then(Strategy::of) {
            wanted.update_strategy = Some(strategy);
            params.push(("UpdateStrategy".to_owned(), strategy.name().to_owned()));
        }
    }
    if let Some(asked) = &request.node_repair_config {
        fields::repair(asked)?;
        params.extend(repair_params(asked));
        wanted.repair = Some(asked.clone());
    }
    if let Some(asked) = &request.warm_pool_config {
        let kind = Kind { ami_type: &group.ami_type, capacity_type: &group.capacity_type };
        wanted.warm_pool = warm_pool::merged(group.warm_pool.as_ref(), asked, kind)?;
        params.extend(warm_pool::params(asked));
    }
    if params.is_empty() {
        return Err(faults::invalid_parameter("No changes needed for the nodegroup configuration"));
    }
    Ok(Change { params, wanted: Box::new(wanted) })
}

/// What is said beside `enabled` is a parameter of its own.
fn repair_params(asked: &NodeRepairConfig) -> Vec<(String, String)> {
    let mut params = Vec::new();
    if let Some(enabled) = asked.enabled {
        params.push(("NodeRepairEnabled".to_owned(), enabled.to_string()));
    }
    if (NodeRepairConfig { enabled: None, ..asked.clone() }) != NodeRepairConfig::default() {
        params.push(("NodeRepairConfig".to_owned(), json(asked)));
    }
    params
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
