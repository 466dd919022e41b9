//! The chain by which an instance becomes a Ready node, step by step: pure.
//!
//! Every step looks at what it rests on itself. What comes after registration cannot be known without a
//! Node, and is not reached where an earlier step fails.

mod aws;
mod cluster;

use jiff::Timestamp;
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{Node, Pod},
};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    Good,
    Fails,
    /// Nothing tells.
    Unknown,
    NotReached,
}

/// One step of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) step: &'static str,
    pub(super) state: State,
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// The cluster that the node is to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) name: String,
    /// Of its endpoint, inside of the VPC; empty: it is not known.
    pub(super) host: String,
    /// In PEM.
    pub(super) authority: String,
    /// Of Services.
    pub(super) cidr: String,
    pub(super) has_entries: bool,
    pub(super) reads_config_map: bool,
}

/// What EC2 and IAM know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) state_reason: String,
    pub(super) kind: String,
    pub(super) zone: String,
    /// Its private DNS name.
    pub(super) node_name: String,
    pub(super) has_metadata: bool,
    pub(super) user_data: Vec<u8>,
    /// The ARN of its instance profile.
    pub(super) profile: Option<String>,
    pub(super) role: Option<Role>,
    /// The VPC's resolver answers.
    pub(super) has_dns: bool,
    pub(super) console: String,
    pub(super) kubelet_log: String,
}

/// The node role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) trusts_ec2: bool,
    /// What a node needs and the role may not.
    pub(super) denied: Vec<String>,
}

/// How the cluster knows the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// `STANDARD`, `EC2_LINUX`, …; `None`: it is of aws-auth.
    pub(super) entry: Option<String>,
    pub(super) username: String,
    pub(super) groups: Vec<String>,
}

/// What the cluster knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) mapping: Option<Mapping>,
    pub(super) node: Option<Node>,
    pub(super) requests: Vec<CertificateSigningRequest>,
    /// Those of the node.
    pub(super) pods: Vec<Pod>,
    /// How many pods of CoreDNS there are, and how many are Ready.
    pub(super) dns: (usize, usize),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) cluster: Cluster,
    /// `None`: the node is on no instance of EC2.
    pub(super) instance: Option<Instance>,
    pub(super) known: Known,
}

/// What a step has come to.
enum Verdict {
    Good(String),
    Unknown(String),
    Fails(String, String),
}

fn good(detail: impl Into<String>) -> Verdict {
    Verdict::Good(detail.into())
}

fn unknown(detail: impl Into<String>) -> Verdict {
    Verdict::Unknown(detail.into())
}

fn fails(why: impl Into<String>, next: impl Into<String>) -> Verdict {
    Verdict::Fails(why.into(), next.into())
}

/// All steps, in their order.
pub(super) fn of(facts: &Facts, now: Timestamp) -> Vec<Step> {
    let mut steps = facts.instance.as_ref().map(|it| of_instance(facts, it)).unwrap_or_default();
    steps.push(made("registration", cluster::registration(facts)));
    let Some(node) = &facts.known.node else {
        // Something before it is the reason.
        let is_broken = steps.iter().rev().skip(1).any(|it| it.state == State::Fails);
        if let Some(registration) = steps.last_mut().filter(|_| is_broken) {
            *registration = not_reached("registration");
        }
        let rest = ["certificate", "registry", "CNI", "cluster DNS", "Ready"];
        steps.extend(rest.map(not_reached));
        return steps;
    };
    let known = &facts.known;
    steps.extend([
        made("certificate", cluster::certificate(node, &known.requests, now)),
        made("registry", cluster::registry(&known.pods)),
        made("CNI", cluster::cni(node, &known.pods)),
        made("cluster DNS", cluster::dns(known.dns)),
        made("Ready", cluster::ready(node)),
    ]);
    steps
}

fn of_instance(facts: &Facts, instance: &Instance) -> Vec<Step> {
    let mut steps = vec![
        made("instance", aws::instance(instance)),
        made("user data", aws::user_data(instance, &facts.cluster)),
        made("metadata", aws::metadata(instance)),
        made("role", aws::role(instance)),
        made("rights", aws::rights(instance)),
        made("VPC DNS", aws::dns(instance)),
        made("boot", aws::boot(instance, facts.known.node.is_some())),
    ];
    if facts.known.node.is_none() {
        steps.push(made("endpoint", aws::endpoint(instance, &facts.cluster)));
    }
    steps.push(made("mapping", cluster::mapping(facts, instance)));
    steps
}

fn made(step: &'static str, verdict: Verdict) -> Step {
    let (state, detail, next) = match verdict {
        Verdict::Good(detail) => (State::Good, detail, None),
        Verdict::Unknown(detail) => (State::Unknown, detail, None),
        Verdict::Fails(detail, next) => (State::Fails, detail, Some(next)),
    };
    Step { step, state, detail, next }
}

/// Nothing is said of it: what it would say, an earlier step has said.
fn not_reached(step: &'static str) -> Step {
    Step { step, state: State::NotReached, detail: String::new(), next: None }
}

/// The step at which the chain breaks.
pub(super) fn broken(steps: &[Step]) -> Option<&Step> {
    steps.iter().find(|it| it.state == State::Fails)
}

#[cfg(test)]
mod tests;
