//! What to do next for a node group: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_autoscaling::group::AutoScalingGroup;
use jiff::Timestamp;

use super::{
    super::{
        drain,
        records::{Issue, Nodegroup, Scaling, State},
    },
    nodes::GroupNode,
    roll::{self, Roll},
};

/// Where an instance is, and which version of the group's template it was launched from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) zone: String,
    pub(crate) version: String,
}

/// The node that an instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    /// No pods come to it, and no traffic of load balancers.
    pub(crate) is_retired: bool,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Sizes of the Auto Scaling group; `None` when there is none.
    pub(crate) sizes: Option<Scaling>,
    /// Id and lifecycle state of each instance.
    pub(crate) instances: Vec<(String, String)>,
    /// Instances whose nodes are Ready.
    pub(crate) ready: Vec<String>,
    /// Why the Auto Scaling group's last launch failed.
    pub(crate) launch_failure: Option<String>,
    /// In which the group may launch.
    pub(crate) zones: BTreeSet<String>,
    /// By instance.
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) nodes: BTreeMap<String, NodeFacts>,
}

impl Observed {
    pub(crate) fn new(group: Option<&AutoScalingGroup>, nodes: &[GroupNode]) -> Self {
        let sizes = group.map(|it| Scaling {
            min: it.min_size.unwrap_or(0),
            max: it.max_size.unwrap_or(0),
            desired: it.desired_capacity.unwrap_or(0),
        });
        let instances = group.into_iter().flat_map(|it| &it.instances);
        let instances = instances
            .filter_map(|it| Some((it.instance_id.clone()?, it.lifecycle_state.clone()?)))
            .collect();
        let ready = nodes.iter().filter(|it| it.is_ready).map(|it| it.instance.clone()).collect();
        let zones = group.into_iter().flat_map(|it| it.availability_zones.clone()).collect();
        let origins = group.into_iter().flat_map(|it| &it.instances).filter_map(origin).collect();
        let nodes = nodes.iter().map(|it| (it.instance.clone(), it.facts())).collect();
        Self { sizes, instances, ready, launch_failure: None, zones, origins, nodes }
    }

    /// Whether the Auto Scaling group has fewer instances than it wants.
    pub(crate) fn is_short(&self) -> bool {
        let wanted = self.sizes.map_or(0, |it| usize::try_from(it.desired).unwrap_or(0));
        self.instances.len() < wanted
    }

    fn is_settled(&self, desired: i64) -> bool {
        let in_service = self.instances.iter().filter(|(_, state)| state == "InService");
        let ready = in_service.clone().filter(|(id, _)| self.ready.contains(id)).count();
        let wanted = usize::try_from(desired).unwrap_or(0);
        in_service.count() == wanted && ready == wanted && self.instances.len() == wanted
    }
}

fn origin(instance: &aws_autoscaling::group::Instance) -> Option<(String, Origin)> {
    let template = instance.launch_template.as_ref();
    let version = template.and_then(|it| it.version.clone()).unwrap_or_default();
    let zone = instance.availability_zone.clone().unwrap_or_default();
    Some((instance.instance_id.clone()?, Origin { zone, version }))
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Resize {
        min: i64,
        max: i64,
        desired: i64,
    },
    Drain {
        instance: String,
    },
    Activate,
    /// Something is wrong, and may still become right.
    Tell(Vec<Issue>),
    Fail(Issue),
    Remove,
    /// For the version update that is under way.
    Roll(Roll),
}

/// How long things take, at least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// From a group's record to its resources, at least.
    pub(crate) creation: Duration,
    /// From an instance to a node, at most.
    pub(crate) join: Duration,
    /// From an old node without pods to its termination.
    pub(crate) drained: Duration,
}

/// Steps in their order, and how long to wait for the next pass if nothing changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) wait: Option<Duration>,
}

pub(crate) fn plan(group: &Nodegroup, observed: &Observed, now: Timestamp, limits: Limits) -> Plan {
    let mut plan = Plan::default();
    let leaving = observed.instances.iter().filter(|(_, state)| state == "Terminating:Wait");
    for (instance, _) in leaving {
        plan.steps.push(Step::Drain { instance: instance.clone() });
        plan.wait = Some(drain::RETRY.min(Duration::from_millis(500)));
    }
    match group.state {
        State::Deleting | State::DeleteFailed => delete(observed, &mut plan),
        State::CreateFailed => {}
        State::Updating if group.rollout.is_some() => {
            if let Some(rollout) = &group.rollout {
                roll::plan(group, rollout, observed, now, limits, &mut plan);
            }
        }
        _ => keep(group, observed, now, limits, &mut plan),
    }
    plan
}

fn delete(observed: &Observed, plan: &mut Plan) {
    let is_empty = observed.instances.is_empty();
    match observed.sizes {
        Some(sizes) if sizes.max != 0 => {
            plan.steps.push(Step::Resize { min: 0, max: 0, desired: 0 });
        }
        _ if is_empty => plan.steps.push(Step::Remove),
        _ => {}
    }
}

fn keep(group: &Nodegroup, observed: &Observed, now: Timestamp, limits: Limits, plan: &mut Plan) {
    let Some(sizes) = observed.sizes else {
        match latency::rest(limits.creation, now.duration_since(group.created_at)) {
            Some(rest) => plan.wait = Some(rest),
            None => plan.steps.push(Step::Create),
        }
        return;
    };
    // Others (an autoscaler) may change the desired size; EKS sets it when it was asked to.
    let is_asked = matches!(group.state, State::Creating | State::Updating);
    let Scaling { min, max, desired } = group.scaling;
    if is_asked && sizes != group.scaling {
        plan.steps.push(Step::Resize { min, max, desired });
        return;
    }
    let shortage =
        observed.launch_failure.as_deref().filter(|_| observed.is_short()).map(not_launched);
    if !is_asked {
        match shortage {
            _ if group.state == State::Degraded && observed.is_settled(sizes.desired) => {
                plan.steps.push(Step::Activate);
            }
            Some(issue) if group.state == State::Active => plan.steps.push(Step::Fail(issue)),
            _ => {}
        }
        return;
    }
    if observed.is_settled(desired) {
        plan.steps.push(Step::Activate);
        return;
    }
    let waited = Duration::try_from(now.duration_since(group.modified_at)).unwrap_or_default();
    let join_limit = limits.join;
    if waited > join_limit {
        plan.steps.push(Step::Fail(shortage.unwrap_or_else(|| not_joined(observed))));
        return;
    }
    let mut issues = group.issues.clone();
    // One that another launch has made good is none.
    issues.retain(|it| it.code != NOT_LAUNCHED || Some(it) == shortage.as_ref());
    issues.extend(shortage.filter(|it| !group.issues.contains(it)));
    if issues != group.issues {
        plan.steps.push(Step::Tell(issues));
    }
    plan.wait = Some(plan.wait.map_or(join_limit - waited, |it| it.min(join_limit - waited)));
}

const NOT_LAUNCHED: &str = "AsgInstanceLaunchFailures";

fn not_launched(message: &str) -> Issue {
    Issue { code: NOT_LAUNCHED.to_owned(), message: message.to_owned(), resources: Vec::new() }
}

fn not_joined(observed: &Observed) -> Issue {
    let missing = observed.instances.iter().filter(|(id, _)| !observed.ready.contains(id));
    Issue {
        code: "NodeCreationFailure".to_owned(),
        message: "Instances failed to join the kubernetes cluster".to_owned(),
        resources: missing.map(|(id, _)| id.clone()).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests;
