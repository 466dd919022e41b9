//! What to do next for a node group: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_autoscaling::group::AutoScalingGroup;
use aws_eks::WarmPoolConfig;
use jiff::Timestamp;

use super::{
    super::{
        drain,
        records::{Issue, Nodegroup, Scaling, State},
        warm_pool,
    },
    nodes::GroupNode,
    repair::{self, Repair},
    roll::{self, Roll},
    surroundings::{self, Surroundings},
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
    /// Instances that are on their way back into the warm pool, and wait to be drained.
    pub(crate) returning: Vec<String>,
    /// Instances whose nodes are Ready.
    pub(crate) ready: Vec<String>,
    /// Why the Auto Scaling group's last launch failed.
    pub(crate) launch_failure: Option<String>,
    /// In which the group may launch.
    pub(crate) zones: BTreeSet<String>,
    /// By instance.
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) nodes: BTreeMap<String, NodeFacts>,
    /// Instances in service, with what is wrong with them.
    pub(crate) members: Vec<repair::Member>,
    /// `None`: nobody has looked.
    pub(crate) surroundings: Option<Surroundings>,
    /// The Auto Scaling group's, in EKS's words.
    pub(crate) warm_pool: Option<WarmPoolConfig>,
}

impl Observed {
    pub(crate) fn new(
        record: &Nodegroup,
        group: Option<&AutoScalingGroup>,
        nodes: &[GroupNode],
    ) -> Self {
        let sizes = group.map(|it| Scaling {
            min: it.min_size.unwrap_or(0),
            max: it.max_size.unwrap_or(0),
            desired: it.desired_capacity.unwrap_or(0),
        });
        let instances = group.into_iter().flat_map(|it| &it.instances);
        let instances: Vec<_> = instances
            .filter_map(|it| Some((it.instance_id.clone()?, it.lifecycle_state.clone()?)))
            .collect();
        let members = members(record, &instances, nodes);
        let ready = nodes.iter().filter(|it| it.is_ready).map(|it| it.instance.clone()).collect();
        let zones = group.into_iter().flat_map(|it| it.availability_zones.clone()).collect();
        let origins = group.into_iter().flat_map(|it| &it.instances).filter_map(origin).collect();
        let nodes = nodes.iter().map(|it| (it.instance.clone(), it.facts())).collect();
        Self {
            sizes,
            instances,
            returning: Vec::new(),
            ready,
            launch_failure: None,
            zones,
            origins,
            nodes,
            members,
            surroundings: None,
            warm_pool: group.and_then(warm_pool::observed),
        }
    }

    /// What is wrong with what the group stands on.
    fn issues(&self, group: &Nodegroup) -> Vec<Issue> {
        let mut issues = Vec::new();
        if self.sizes.is_none() {
            issues.push(surroundings::no_auto_scaling_group(group));
        }
        // Without a group nothing launches from the template.
        let of_others = self.surroundings.iter().filter(|_| self.sizes.is_some());
        let lacks = self.is_short() && self.launch_failure.is_some();
        issues.extend(of_others.flat_map(|it| it.issues(group, lacks)));
        issues
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

fn members(
    record: &Nodegroup,
    instances: &[(String, String)],
    nodes: &[GroupNode],
) -> Vec<repair::Member> {
    let config = record.repair.as_ref();
    let in_service = instances.iter().filter(|(_, state)| state == "InService");
    let member = |(id, _): &(String, String)| {
        let node = nodes.iter().find(|it| it.instance == *id);
        repair::Member {
            instance: id.clone(),
            has_node: node.is_some(),
            unhealthy: node.map(|it| it.unhealthy(config)).unwrap_or_default(),
        }
    };
    in_service.map(member).collect()
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
    /// Drained as well, and no node any more, but not terminated.
    Return {
        instance: String,
    },
    Activate,
    /// Something is wrong, and may still become right.
    Tell(Vec<Issue>),
    /// An active group is not as it should be.
    Degrade(Vec<Issue>),
    /// Others have changed the sizes.
    Follow(Scaling),
    Fail(Issue),
    /// Of a node that is not well.
    Repair(Repair),
    /// Gives the Auto Scaling group this pool, or takes its pool away.
    WarmPool(Option<WarmPoolConfig>),
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
    for instance in &observed.returning {
        plan.steps.push(Step::Return { instance: instance.clone() });
        plan.wait = Some(drain::RETRY.min(Duration::from_millis(500)));
    }
    if observed.sizes.is_some() {
        pool(group, observed, &mut plan);
    }
    match group.state {
        State::Deleting => delete(observed, &mut plan),
        State::CreateFailed | State::DeleteFailed => {}
        State::Updating if observed.sizes.is_none() => {
            plan.steps.push(Step::Fail(surroundings::no_auto_scaling_group(group)));
        }
        State::Creating if observed.sizes.is_none() => {
            begin(group, observed, now, limits, &mut plan);
        }
        State::Updating if group.rollout.is_some() => {
            if let Some(rollout) = &group.rollout {
                roll::plan(group, rollout, observed, now, limits, &mut plan);
            }
        }
        State::Creating | State::Updating => settle(group, observed, now, limits, &mut plan),
        State::Active | State::Degraded => {
            watch(group, observed, &mut plan);
            repairs(group, observed, now, &mut plan);
        }
    }
    plan
}

/// The pool is EKS's, whatever others make of it. While a version update is under way there is none:
/// what waits was launched from what the group leaves behind.
fn pool(group: &Nodegroup, observed: &Observed, plan: &mut Plan) {
    let wanted = match group.state {
        State::CreateFailed | State::DeleteFailed => return,
        State::Deleting => None,
        _ if group.rollout.is_some() => None,
        _ => group.warm_pool.as_ref(),
    };
    if observed.warm_pool.as_ref() != wanted {
        plan.steps.push(Step::WarmPool(wanted.cloned()));
    }
}

fn delete(observed: &Observed, plan: &mut Plan) {
    let is_empty = observed.instances.is_empty();
    match observed.sizes {
        Some(sizes) if sizes.max != 0 => {
            plan.steps.push(Step::Resize { min: 0, max: 0, desired: 0 });
        }
        // What waits in a pool goes before the group does.
        _ if is_empty && observed.warm_pool.is_none() => plan.steps.push(Step::Remove),
        _ => {}
    }
}

/// A group that has no resources yet.
fn begin(group: &Nodegroup, observed: &Observed, now: Timestamp, limits: Limits, plan: &mut Plan) {
    if let Some(rest) = latency::rest(limits.creation, now.duration_since(group.created_at)) {
        plan.wait_at_most(rest);
        return;
    }
    let obstacle = observed.surroundings.as_ref().and_then(|it| it.obstacle(group));
    plan.steps.push(obstacle.map_or(Step::Create, Step::Fail));
}

/// A group that is as its user last wanted it, or was.
fn watch(group: &Nodegroup, observed: &Observed, plan: &mut Plan) {
    let issues = issues(group, observed);
    let is_settled = observed.sizes.is_some_and(|it| observed.is_settled(it.desired));
    let is_sound = observed.issues(group).is_empty();
    match group.state {
        State::Active if !issues.is_empty() => return plan.steps.push(Step::Degrade(issues)),
        State::Active => {}
        _ if is_settled && is_sound => return plan.steps.push(Step::Activate),
        _ if issues != group.issues => plan.steps.push(Step::Tell(issues)),
        _ => {}
    }
    // Others (an autoscaler) may change the sizes.
    if let Some(sizes) = observed.sizes.filter(|it| *it != group.scaling && it.max > 0) {
        plan.steps.push(Step::Follow(sizes));
    }
}

/// A group that is to become as it was asked for.
fn settle(group: &Nodegroup, observed: &Observed, now: Timestamp, limits: Limits, plan: &mut Plan) {
    let Scaling { min, max, desired } = group.scaling;
    if observed.sizes != Some(group.scaling) {
        plan.steps.push(Step::Resize { min, max, desired });
        return;
    }
    if observed.is_settled(desired) {
        plan.steps.push(Step::Activate);
        return;
    }
    let waited = Duration::try_from(now.duration_since(group.modified_at)).unwrap_or_default();
    let join_limit = limits.join;
    if waited > join_limit {
        let issue = shortage(observed).unwrap_or_else(|| not_joined(observed));
        plan.steps.push(Step::Fail(issue));
        return;
    }
    let issues = issues(group, observed);
    if issues != group.issues {
        plan.steps.push(Step::Tell(issues));
    }
    // When it is over, and not when it is just about to be.
    plan.wait_at_most(join_limit - waited + Duration::from_millis(1));
}

/// All that is wrong. What was wrong with nodes may still be; a failed launch that another one has made
/// good is not.
fn issues(group: &Nodegroup, observed: &Observed) -> Vec<Issue> {
    let mut issues = observed.issues(group);
    let known = group.issues.iter().filter(|it| !surroundings::is_ours(it));
    let is_of_launch =
        |it: &&Issue| it.code == NOT_LAUNCHED || REFUSALS.iter().any(|(_, code)| *code == it.code);
    issues.extend(known.filter(|it| !is_of_launch(it)).cloned());
    issues.extend(shortage(observed));
    issues
}

fn shortage(observed: &Observed) -> Option<Issue> {
    observed.launch_failure.as_deref().filter(|_| observed.is_short()).map(not_launched)
}

fn repairs(group: &Nodegroup, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let Some(config) = group.repair.as_ref().filter(|it| it.enabled == Some(true)) else {
        let repairs = repair::end(&group.repairs);
        return plan.steps.extend(repairs.into_iter().map(Step::Repair));
    };
    let instances: Vec<&str> = observed.instances.iter().map(|(id, _)| id.as_str()).collect();
    let (repairs, wait) = repair::plan(config, &group.repairs, &observed.members, &instances, now);
    plan.steps.extend(repairs.into_iter().map(Step::Repair));
    if let Some(wait) = wait {
        plan.wait_at_most(wait);
    }
}

impl Plan {
    pub(crate) fn wait_at_most(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |it| it.min(wait)));
    }
}

const NOT_LAUNCHED: &str = "AsgInstanceLaunchFailures";
/// What EC2 has said of a launch, and the code for it.
const REFUSALS: [(&str, &str); 2] =
    [("The image id '[", "AmiIdNotFound"), ("for InstanceType.", "Ec2InstanceTypeDoesNotExist")];

fn not_launched(message: &str) -> Issue {
    let known = REFUSALS.iter().find(|(said, _)| message.contains(said));
    let code = known.map_or(NOT_LAUNCHED, |(_, code)| code);
    Issue { code: code.to_owned(), message: message.to_owned(), resources: Vec::new() }
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
