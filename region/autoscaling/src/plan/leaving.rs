//! Members that stay until others are in service in their place: those that EC2 recommends to leave, and,
//! where the maintenance policy lets nobody be missed, those that are ill or too old.
//!
//! Source: user guide, "Capacity Rebalancing in Auto Scaling to replace at-risk Spot Instances", "Instance
//! maintenance policies".

use jiff::Timestamp;

use super::{Observed, Plan};
use crate::records::{Group, Member, MemberState};

const AT_RISK: &str = "an instance was taken out of service in response to an EC2 instance rebalance \
                       recommendation.";

/// Whether the maintenance policy has others launched before anybody goes.
pub(super) fn launches_first(group: &Group) -> bool {
    matches!(group.healthy_percentages, Some((100, _)))
}

/// Marks Spot Instances that are at an elevated risk of interruption.
pub(super) fn heed(plan: &mut Plan, observed: &Observed) {
    if !plan.group.capacity_rebalance || plan.group.is_deleting {
        return;
    }
    for member in plan.group.members.values_mut() {
        let is_at_risk = observed.at_risk.contains(&member.instance_id);
        if is_at_risk && member.state == MemberState::InService && member.leaves.is_none() {
            member.leaves = Some(AT_RISK.to_owned());
        }
    }
}

/// Lets those go whose going leaves enough in service.
pub(super) fn release(plan: &mut Plan, now: Timestamp) {
    if plan.group.is_suspended("Terminate") {
        return;
    }
    let in_service = |it: &&Member| it.state == MemberState::InService;
    let mut serving: i64 = plan.group.active().filter(in_service).map(|it| it.weight).sum();
    let leaving = plan.group.active().filter(in_service).filter(|it| it.leaves.is_some());
    let leaving: Vec<Member> = leaving.cloned().collect();
    for member in leaving {
        if serving - member.weight < plan.group.desired {
            return;
        }
        serving -= member.weight;
        let cause = member.leaves.unwrap_or_default();
        plan.terminate(&member.instance_id, &cause, now);
    }
}
