//! What is kept of a group and its members.

mod sizing;

use std::collections::{BTreeMap, BTreeSet};

use aws_autoscaling::{
    group::MixedInstancesPolicy,
    instance_refresh::{DesiredConfiguration, RefreshPreferences},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::sizing::{AdjustmentType, Policy, PolicyKind, Scheduled};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Group {
    pub name: String,
    pub arn: String,
    pub created_at: Timestamp,
    pub source: Source,
    pub min: i64,
    pub max: i64,
    pub desired: i64,
    pub default_cooldown: i64,
    /// Subnet to zone.
    pub subnets: BTreeMap<String, String>,
    pub health_check_type: String,
    pub health_check_grace_period: i64,
    pub termination_policies: Vec<String>,
    pub protects_new_instances: bool,
    pub capacity_rebalance: bool,
    pub suspended: BTreeSet<String>,
    pub metrics: BTreeSet<String>,
    pub service_linked_role_arn: String,
    pub context: Option<String>,
    #[serde(default)]
    pub deletion_protection: Option<String>,
    pub max_instance_lifetime: Option<i64>,
    pub default_instance_warmup: Option<i64>,
    pub healthy_percentages: Option<(i64, i64)>,
    pub tags: BTreeMap<String, GroupTag>,
    pub hooks: BTreeMap<String, Hook>,
    pub members: BTreeMap<String, Member>,
    /// By activity id.
    pub launches: BTreeMap<String, Launch>,
    /// Why the capacity last changed, for the causes of activities; empty once the group has followed.
    pub last_change: String,
    /// The change that protected members keep from being followed, once the history says so.
    #[serde(default)]
    pub held_change: Option<String>,
    /// Members that were given up for their health and have no successor yet.
    #[serde(default)]
    pub unreplaced: u64,
    /// After a failed launch: when to try again, and how often it failed in a row.
    pub retry: Option<(Timestamp, u32)>,
    /// Zones in which the last launch failed are tried last.
    pub failed_zones: BTreeSet<String>,
    pub is_deleting: bool,
    #[serde(default)]
    pub warm_pool: Option<WarmPool>,
    /// Instance refreshes, the newest last.
    #[serde(default)]
    pub refreshes: Vec<Refresh>,
    #[serde(default)]
    pub scheduled: BTreeMap<String, Scheduled>,
    #[serde(default)]
    pub policies: BTreeMap<String, Policy>,
    /// Until when simple policies wait.
    #[serde(default)]
    pub cools_until: Option<Timestamp>,
}

/// Where instances come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Source {
    Template(TemplateRef),
    Mixed { template: TemplateRef, policy: Box<MixedInstancesPolicy> },
}

impl Source {
    pub fn template(&self) -> &TemplateRef {
        match self {
            Self::Template(template) | Self::Mixed { template, .. } => template,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TemplateRef {
    pub id: String,
    pub name: String,
    /// A number, `$Latest` or `$Default`.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GroupTag {
    pub value: String,
    pub propagates: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Hook {
    pub name: String,
    pub transition: Transition,
    pub heartbeat_timeout: i64,
    pub default_result: HookResult,
    pub notification_target_arn: Option<String>,
    pub role_arn: Option<String>,
    pub notification_metadata: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Transition {
    Launching,
    Terminating,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum HookResult {
    Continue,
    Abandon,
}

/// An instance of the group.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Member {
    pub instance_id: String,
    pub instance_type: String,
    pub zone: String,
    pub state: MemberState,
    pub is_healthy: bool,
    /// Why it is not healthy.
    #[serde(default)]
    pub unhealthy_by: Unhealthy,
    pub is_protected: bool,
    pub is_spot: bool,
    pub template: TemplateRef,
    pub launched_at: Timestamp,
    /// The activity in progress.
    pub activity: Option<String>,
    /// Hooks that still hold it, by name.
    pub waits: BTreeMap<String, Wait>,
    /// How much of the capacity it is.
    #[serde(default = "one")]
    pub weight: i64,
    /// It was in the warm pool, and may have to be started.
    #[serde(default)]
    pub is_from_pool: bool,
    /// It was in service, and is on its way into the warm pool.
    #[serde(default)]
    pub is_returning: bool,
    /// Why it goes once another one serves in its place.
    #[serde(default)]
    pub leaves: Option<String>,
}

fn one() -> i64 {
    1
}

/// Who has found a member unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Unhealthy {
    /// EC2's state of the instance.
    #[default]
    State,
    StatusCheck,
    /// `SetInstanceHealth`.
    User,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum MemberState {
    Pending,
    PendingWait,
    InService,
    /// In the group, out of service, and nobody replaces it.
    Standby,
    /// On its way into the warm pool.
    WarmedPending,
    WarmedPendingWait,
    WarmedStopped,
    WarmedRunning,
    WarmedHibernated,
    TerminatingWait,
    /// EC2 is (to be) told; the member goes when the instance is gone.
    TerminatingProceed,
}

impl MemberState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::PendingWait => "Pending:Wait",
            Self::InService => "InService",
            Self::Standby => "Standby",
            Self::WarmedPending => "Warmed:Pending",
            Self::WarmedPendingWait => "Warmed:Pending:Wait",
            Self::WarmedStopped => "Warmed:Stopped",
            Self::WarmedRunning => "Warmed:Running",
            Self::WarmedHibernated => "Warmed:Hibernated",
            Self::TerminatingWait => "Terminating:Wait",
            Self::TerminatingProceed => "Terminating:Proceed",
        }
    }

    /// In the warm pool, or on its way into it.
    pub fn is_warmed(self) -> bool {
        matches!(
            self,
            Self::WarmedPending
                | Self::WarmedPendingWait
                | Self::WarmedStopped
                | Self::WarmedRunning
                | Self::WarmedHibernated
        )
    }

    pub fn is_terminating(self) -> bool {
        matches!(self, Self::TerminatingWait | Self::TerminatingProceed)
    }
}

/// One hook's hold on a member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Wait {
    pub token: String,
    pub deadline: Timestamp,
    /// Heartbeats do not reach beyond it.
    pub last_deadline: Timestamp,
    pub heartbeat_timeout: i64,
    pub default_result: HookResult,
}

/// A launch that is decided but may not be done.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Launch {
    /// Also EC2's client token.
    pub activity: String,
    pub subnet: String,
    pub zone: String,
    pub is_spot: bool,
    /// The rest of the request, fixed at the first try so that the token always means the same.
    pub request: Option<LaunchRequest>,
    pub decided_at: Timestamp,
    #[serde(default = "one")]
    pub weight: i64,
    /// For the warm pool.
    #[serde(default)]
    pub is_warm: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct LaunchRequest {
    pub template: TemplateRef,
    pub instance_type: Option<String>,
    pub image_id: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// What is tried next where EC2 has no room for this type, in order.
    #[serde(default)]
    pub alternatives: Vec<Alternative>,
    /// How many types were tried before this one.
    #[serde(default)]
    pub tried: usize,
    #[serde(default = "one")]
    pub weight: i64,
}

/// A type that a mixed instances policy allows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Alternative {
    pub instance_type: Option<String>,
    pub image_id: Option<String>,
    pub weight: i64,
}

/// A line of a group's history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Activity {
    pub id: String,
    pub group: String,
    pub description: String,
    pub cause: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub status: ActivityStatus,
    pub message: Option<String>,
    pub zone: String,
    pub subnet: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ActivityStatus {
    PreInService,
    InProgress,
    WaitingForLifecycleHook,
    Successful,
    Failed,
    Cancelled,
}

impl ActivityStatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::PreInService => "PreInService",
            Self::InProgress => "InProgress",
            Self::WaitingForLifecycleHook => "MidLifecycleAction",
            Self::Successful => "Successful",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, Self::Successful | Self::Failed | Self::Cancelled)
    }
}

/// Instances that are made ready beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct WarmPool {
    pub min: i64,
    pub max_prepared: Option<i64>,
    /// Whether they run, as opposed to being stopped.
    pub runs: bool,
    /// Those that are stopped keep their memory.
    #[serde(default)]
    pub hibernates: bool,
    /// What leaves the group as it shrinks comes back here; `None`: nobody has said.
    #[serde(default)]
    pub reuses: Option<bool>,
}

impl WarmPool {
    /// What an instance becomes that has arrived here.
    pub fn rest(&self) -> MemberState {
        match (self.runs, self.hibernates) {
            (true, _) => MemberState::WarmedRunning,
            (false, true) => MemberState::WarmedHibernated,
            (false, false) => MemberState::WarmedStopped,
        }
    }
}

/// A group's instances replaced, some at a time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Refresh {
    pub id: String,
    pub status: RefreshStatus,
    pub reason: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub preferences: RefreshPreferences,
    pub desired: Option<DesiredConfiguration>,
    /// The template that instances shall have, with the number of its version.
    pub wanted: TemplateRef,
    /// What the group launched from before.
    pub previous: Option<Source>,
    pub total: usize,
    /// Members that are still to be replaced.
    pub left: BTreeSet<String>,
    pub surplus: i64,
    /// New instances have to be in service for a while before the next go.
    pub warm_at: Option<Timestamp>,
    /// Some were replaced, and their successors have not warmed up.
    pub is_waiting: bool,
    /// All that are left are protected: since then.
    #[serde(default)]
    pub blocked_since: Option<Timestamp>,
    /// How many checkpoints are behind it.
    #[serde(default)]
    pub passed: usize,
    /// Until when it rests at a checkpoint, or bakes.
    #[serde(default)]
    pub resumes_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum RefreshStatus {
    Pending,
    InProgress,
    Successful,
    Cancelling,
    Cancelled,
    RollbackInProgress,
    RollbackSuccessful,
    RollbackFailed,
    /// All is replaced, and may yet be taken back.
    Baking,
    Failed,
}

impl RefreshStatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Successful => "Successful",
            Self::Cancelling => "Cancelling",
            Self::Cancelled => "Cancelled",
            Self::RollbackInProgress => "RollbackInProgress",
            Self::RollbackSuccessful => "RollbackSuccessful",
            Self::RollbackFailed => "RollbackFailed",
            Self::Baking => "Baking",
            Self::Failed => "Failed",
        }
    }

    pub fn is_over(self) -> bool {
        !matches!(
            self,
            Self::Pending
                | Self::InProgress
                | Self::Cancelling
                | Self::RollbackInProgress
                | Self::Baking
        )
    }
}

impl Refresh {
    /// Turns it round: the group launches from what it had before, and what is new is replaced. `false`
    /// where that is not known.
    pub fn roll_back(&mut self, group: &mut Group) -> bool {
        let previous = self.previous.take().filter(|it| !it.template().version.starts_with('$'));
        let Some(previous) = previous else { return false };
        self.wanted = previous.template().clone();
        group.source = previous;
        let since = self.started_at;
        let new = group.active().filter(|it| it.launched_at >= since);
        self.left = new.map(|it| it.instance_id.clone()).collect();
        self.total = self.left.len();
        self.surplus = 0;
        (self.blocked_since, self.warm_at, self.is_waiting) = (None, None, false);
        self.resumes_at = None;
        self.status = RefreshStatus::RollbackInProgress;
        true
    }
}

impl Member {
    /// It serves nobody, and is no part of the desired capacity.
    pub fn rests(&self) -> bool {
        self.state == MemberState::Standby || self.state.is_warmed()
    }
}

impl Group {
    pub fn is_suspended(&self, process: &str) -> bool {
        self.suspended.contains(process)
    }

    /// Members that are, or will be, in service.
    pub fn active(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|it| !it.state.is_terminating() && !it.rests())
    }

    /// The capacity that is, or will be, in service.
    pub fn units(&self) -> i64 {
        let members = self.active().map(|it| it.weight).sum::<i64>();
        let launches = self.launches.values().filter(|it| !it.is_warm);
        members + launches.map(|it| it.weight).sum::<i64>()
    }

    /// The desired capacity, with what is added while something launches before it terminates.
    pub fn target(&self) -> i64 {
        self.desired + self.refresh().map_or(0, |it| it.surplus) + self.successors()
    }

    /// Members whose successors are to come before they go, as far as the group may grow for that: by what
    /// its maintenance policy allows, or a tenth beyond its most.
    fn successors(&self) -> i64 {
        let leaving =
            self.active().filter(|it| it.leaves.is_some()).map(|it| it.weight).sum::<i64>();
        let most = match self.healthy_percentages {
            Some((_, most)) if most >= 100 => self.desired * (most - 100) / 100,
            _ => self.max - self.desired + self.max / 10,
        };
        leaving.min(most.max(1))
    }

    /// The refresh under way.
    pub fn refresh(&self) -> Option<&Refresh> {
        self.refreshes.last().filter(|it| !it.status.is_over())
    }

    /// Nothing is on its way in or out, and the capacity is what it shall be.
    pub fn is_settled(&self) -> bool {
        self.launches.values().all(|it| it.is_warm)
            && self.members.values().all(|it| it.state == MemberState::InService || it.rests())
            && self.units() >= self.target()
    }

    pub fn zones(&self) -> BTreeSet<&str> {
        self.subnets.values().map(String::as_str).collect()
    }

    /// What the instance shall become, as IMDS tells it. One whose launch nobody has heard of yet is
    /// known by the launch's token.
    pub fn target_state(&self, instance: &str, token: Option<&str>) -> Option<&'static str> {
        let pooled = self.warm_pool.as_ref().map_or(MemberState::WarmedStopped, WarmPool::rest);
        let pooled = pooled.name();
        if let Some(member) = self.members.get(instance) {
            return Some(match member.state {
                it if it.is_terminating() => "Terminated",
                it if it.is_warmed() => pooled,
                MemberState::Standby => "Standby",
                _ => "InService",
            });
        }
        let is_its = |it: &&Launch| token.is_some_and(|token| token.starts_with(&it.activity));
        let launch = self.launches.values().find(is_its)?;
        Some(if launch.is_warm { pooled } else { "InService" })
    }

    /// Begins the way out: through the hooks, if there are any.
    pub fn begin_termination(&mut self, id: &str, activity: &str, now: Timestamp) {
        let waits = self.waits(Transition::Terminating, now);
        let Some(member) = self.members.get_mut(id) else { return };
        member.activity = Some(activity.to_owned());
        member.state = match waits.is_empty() {
            true => MemberState::TerminatingProceed,
            false => MemberState::TerminatingWait,
        };
        member.waits = waits;
    }

    /// The holds that a transition's hooks put on a member.
    pub fn waits(&self, transition: Transition, now: Timestamp) -> BTreeMap<String, Wait> {
        /// The most that heartbeats can reach: 48 hours or 100 timeouts, whichever is less.
        const LONGEST: i64 = 48 * 3600;
        let seconds = jiff::SignedDuration::from_secs;
        let hooks = self.hooks.values().filter(|it| it.transition == transition);
        hooks
            .map(|hook| {
                let longest = LONGEST.min(hook.heartbeat_timeout.saturating_mul(100));
                let wait = Wait {
                    token: entropy::uuid(),
                    deadline: now + seconds(hook.heartbeat_timeout),
                    last_deadline: now + seconds(longest),
                    heartbeat_timeout: hook.heartbeat_timeout,
                    default_result: hook.default_result,
                };
                (hook.name.clone(), wait)
            })
            .collect()
    }
}
