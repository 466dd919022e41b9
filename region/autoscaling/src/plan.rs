//! What a group needs next: a function of the group, what EC2 says, and the date.
//!
//! It answers the group as it shall be written down, and what to say about it; the calls to EC2
//! follow from the written group ([`calls`]), so a pass that dies after writing is continued by the
//! next one.
//!
//! **Invariant:** planning twice at the same moment changes nothing the second time.

mod balance;
mod leaving;
mod members;
pub(crate) mod mixed;
mod refresh;
pub(crate) mod schedule;
pub(crate) mod victim;
mod warm_pool;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::records::{Activity, ActivityStatus, Group, Launch, MemberState};

/// What EC2 said about the members, when it was asked.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Who was asked about. A member that is newer than the question is left alone.
    pub asked: BTreeSet<String>,
    /// State names by instance id; who is not here is gone.
    pub states: BTreeMap<String, String>,
    /// Those that fail EC2's status checks.
    pub impaired: BTreeSet<String>,
    /// Spot Instances that are at an elevated risk of interruption.
    pub at_risk: BTreeSet<String>,
}

impl Observed {
    /// The state, when the member was asked about: `None` inside for one that is gone.
    fn of(&self, id: &str) -> Option<Option<&str>> {
        self.asked.contains(id).then(|| self.states.get(id).map(String::as_str))
    }
}

/// The outcome of planning.
#[derive(Clone, Debug)]
pub struct Plan {
    pub group: Group,
    /// New lines of history, and changes to lines: by activity id.
    pub activities: Vec<Activity>,
    pub endings: Vec<Ending>,
    /// When something is due although nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// How an activity went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub activity: String,
    pub status: ActivityStatus,
    pub message: Option<String>,
}

/// A call to EC2 that the group is waiting for.
#[derive(Clone, Debug, PartialEq)]
pub enum Ec2Call {
    Launch(Box<Launch>),
    Terminate(String),
    Stop(String),
    /// To be stopped with what is in its memory.
    Hibernate(String),
    Start(String),
}

/// Decides everything that can be decided now.
pub fn plan(group: &Group, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan =
        Plan { group: group.clone(), activities: Vec::new(), endings: Vec::new(), wake_at: None };
    balance::forget_change(&mut plan.group);
    schedule::run(&mut plan, now);
    members::advance(&mut plan, observed, now);
    leaving::heed(&mut plan, observed);
    members::replace_unhealthy(&mut plan, now);
    refresh::replace_old(&mut plan, now);
    leaving::release(&mut plan, now);
    refresh::advance(&mut plan, now);
    balance::scale_in(&mut plan, now);
    balance::scale_out(&mut plan, now);
    warm_pool::fill(&mut plan, now);
    plan.wake_at = wake_at(&plan.group, now);
    plan
}

/// The calls that the written group asks for.
pub fn calls(group: &Group, observed: &Observed, now: Timestamp) -> Vec<Ec2Call> {
    let mut calls = Vec::new();
    for member in group.members.values() {
        let state = observed.states.get(&member.instance_id).map(String::as_str);
        let is_there = state.is_some_and(|it| it != "shutting-down" && it != "terminated");
        if member.state == MemberState::TerminatingProceed && is_there {
            calls.push(Ec2Call::Terminate(member.instance_id.clone()));
        }
        match (member.state, state) {
            (MemberState::WarmedStopped, Some("running")) => {
                calls.push(Ec2Call::Stop(member.instance_id.clone()));
            }
            (MemberState::WarmedHibernated, Some("running")) => {
                calls.push(Ec2Call::Hibernate(member.instance_id.clone()));
            }
            (MemberState::Pending, Some("stopped")) if member.is_from_pool => {
                calls.push(Ec2Call::Start(member.instance_id.clone()));
            }
            _ => {}
        }
    }
    let is_due = group.retry.is_none_or(|(at, _)| at <= now);
    if is_due {
        calls.extend(group.launches.values().cloned().map(|it| Ec2Call::Launch(Box::new(it))));
    }
    calls
}

/// After `failures` launches in a row that failed: 5 s, doubling up to 2 minutes.
pub fn retry_at(now: Timestamp, failures: u32) -> Timestamp {
    let seconds = 5_i64.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(120);
    now + SignedDuration::from_secs(seconds)
}

fn wake_at(group: &Group, now: Timestamp) -> Option<Timestamp> {
    let holds = group.members.values().flat_map(|it| it.waits.values().map(|it| it.deadline));
    let retry = group.retry.map(|(at, _)| at).filter(|at| *at > now);
    holds.chain(retry).chain(refresh::wake_at(group, now)).chain(schedule::wake_at(group)).min()
}

impl Plan {
    fn end(&mut self, activity: Option<String>, status: ActivityStatus, message: Option<String>) {
        if let Some(activity) = activity {
            self.endings.push(Ending { activity, status, message });
        }
    }

    /// Begins to terminate a member, and a line of history with it.
    fn terminate(&mut self, id: &str, cause: &str, now: Timestamp) {
        self.terminate_for(id, format!("At {} {cause}", seconds(now)), now);
    }

    /// The cause is a whole line.
    fn terminate_for(&mut self, id: &str, cause: String, now: Timestamp) {
        let Some(member) = self.group.members.get(id) else { return };
        let activity = Activity {
            id: entropy::uuid(),
            group: self.group.name.clone(),
            description: format!("Terminating EC2 instance: {id}"),
            cause,
            started_at: now,
            ended_at: None,
            status: ActivityStatus::InProgress,
            message: None,
            zone: member.zone.clone(),
            subnet: None,
        };
        // A launch that never came into service ends with this.
        let pending = member.activity.clone().filter(|_| member.state != MemberState::InService);
        self.end(pending, ActivityStatus::Cancelled, None);
        self.group.begin_termination(id, &activity.id, now);
        self.activities.push(activity);
    }
}

/// Causes are told in whole seconds.
pub(crate) fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
