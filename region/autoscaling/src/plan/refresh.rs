//! Instance refreshes, and instances that have lived for long enough.
//!
//! Where the least healthy percentage leaves no room, new instances are launched before old ones go.
//!
//! Source: user guide, "Use an instance refresh to update instances in an Auto Scaling group",
//! "Replace Auto Scaling instances based on maximum instance lifetime".
//! Deviation: no alarms end a refresh; a group's new configuration counts from the start of the refresh.

use jiff::{SignedDuration, Timestamp};

use super::{Plan, leaving};
use crate::records::{Group, Member, MemberState, Refresh, RefreshStatus};

const REFRESHED: &str = "an instance was taken out of service in response to an instance refresh.";
const PROTECTED: &str = "The remaining instances are protected from scale in. Remove their protection, \
                         or start an instance refresh that ignores or replaces them.";
const STANDING_BY: &str = "Instances are in standby. Return them to service, or start an instance \
                           refresh that ignores or terminates them.";
/// So long a refresh waits for protected instances to lose their protection.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// Replaces the oldest instance that is older than `MaxInstanceLifetime`, one at a time.
pub(super) fn replace_old(plan: &mut Plan, now: Timestamp) {
    let group = &plan.group;
    let Some(lifetime) = group.max_instance_lifetime.filter(|it| *it > 0) else { return };
    if group.is_suspended("Terminate") || group.refresh().is_some() || !group.is_settled() {
        return;
    }
    let oldest = group.active().min_by_key(|it| it.launched_at);
    let is_old = |it: &&Member| it.launched_at + SignedDuration::from_secs(lifetime) <= now;
    let Some(id) = oldest.filter(is_old).map(|it| it.instance_id.clone()) else { return };
    let cause = "an instance was taken out of service in response to its exceeding the maximum \
                 instance lifetime.";
    if !leaving::launches_first(&plan.group) {
        return plan.terminate(&id, cause, now);
    }
    if let Some(member) = plan.group.members.get_mut(&id) {
        member.leaves.get_or_insert_with(|| cause.to_owned());
    }
}

/// When one of the two is due.
pub(super) fn wake_at(group: &Group, now: Timestamp) -> Option<Timestamp> {
    let refresh = group.refresh();
    let warm = refresh.and_then(|it| it.warm_at).filter(|it| *it > now);
    let rests = refresh.and_then(|it| it.resumes_at).filter(|it| *it > now);
    let lifetime = group.max_instance_lifetime.filter(|it| *it > 0).map(SignedDuration::from_secs);
    let oldest = group.active().map(|it| it.launched_at).min();
    let old = oldest.zip(lifetime).and_then(|(at, lifetime)| at.checked_add(lifetime).ok());
    let blocked = group.refresh().and_then(|it| it.blocked_since).map(|it| it + PATIENCE);
    let later = [old, blocked].into_iter().flatten().filter(|it| *it > now);
    warm.into_iter().chain(rests).chain(later).min()
}

/// The next step of the refresh under way.
pub(super) fn advance(plan: &mut Plan, now: Timestamp) {
    if plan.group.refresh().is_none() || plan.group.is_suspended("InstanceRefresh") {
        return;
    }
    let mut refresh = plan.group.refreshes.pop().expect("it was just there");
    let standby = begin(&mut refresh, &plan.group);
    // At once: what cannot be launched would hold it for ever.
    if refresh.status == RefreshStatus::Cancelling {
        end(&mut refresh, RefreshStatus::Cancelled, now);
    }
    refresh
        .left
        .retain(|id| plan.group.members.get(id).is_some_and(|it| !it.state.is_terminating()));
    plan.group.refreshes.push(refresh);
    for id in standby {
        plan.terminate(&id, REFRESHED, now);
    }
    if plan.group.refresh().is_none() || !plan.group.is_settled() {
        return;
    }
    let mut refresh = plan.group.refreshes.pop().expect("it was just put back");
    let goes = step(&mut refresh, &plan.group, now);
    let goes_back = refresh.preferences.auto_rollback == Some(true);
    if refresh.status == RefreshStatus::Failed && goes_back && refresh.roll_back(&mut plan.group) {
        refresh.ended_at = None;
    }
    plan.group.refreshes.push(refresh);
    for id in goes {
        plan.terminate(&id, REFRESHED, now);
    }
}

/// Takes down who is to be replaced. Says which instances in standby go at once.
fn begin(refresh: &mut Refresh, group: &Group) -> Vec<String> {
    if refresh.status != RefreshStatus::Pending {
        return Vec::new();
    }
    let (wanted, skips) = (&refresh.wanted, refresh.preferences.skip_matching == Some(true));
    let ignores = Protection::of(refresh) == Protection::Ignore;
    let matches =
        |it: &Member| it.template.id == wanted.id && it.template.version == wanted.version;
    let counts = |it: &&Member| !(skips && matches(it) || ignores && it.is_protected);
    refresh.left = group.active().filter(counts).map(|it| it.instance_id.clone()).collect();
    refresh.total = refresh.left.len();
    refresh.status = RefreshStatus::InProgress;
    match refresh.preferences.standby_instances.as_deref() {
        Some("Terminate") => standby(group).map(|it| it.instance_id.clone()).collect(),
        _ => Vec::new(),
    }
}

fn standby(group: &Group) -> impl Iterator<Item = &Member> {
    group.members.values().filter(|it| it.state == MemberState::Standby)
}

/// What becomes of instances that are protected from scale in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    Wait,
    Ignore,
    Refresh,
}

impl Protection {
    fn of(refresh: &Refresh) -> Self {
        match refresh.preferences.scale_in_protected_instances.as_deref() {
            Some("Ignore") => Self::Ignore,
            Some("Refresh") => Self::Refresh,
            _ => Self::Wait,
        }
    }
}

/// Who goes now, in a group that is settled.
fn step(refresh: &mut Refresh, group: &Group, now: Timestamp) -> Vec<String> {
    if refresh.is_waiting {
        let warmup = refresh.preferences.instance_warmup.unwrap_or(0);
        // Whoever asked for it may have asked for any number.
        let at = now.checked_add(SignedDuration::from_secs(warmup)).unwrap_or(Timestamp::MAX);
        let at = *refresh.warm_at.get_or_insert(at);
        if at > now {
            return Vec::new();
        }
        (refresh.is_waiting, refresh.warm_at) = (false, None);
    }
    let protection = Protection::of(refresh);
    let is_protected = |id: &String| group.members.get(id).is_some_and(|it| it.is_protected);
    if protection == Protection::Ignore {
        // Also those that were protected since it began.
        refresh.left.retain(|id| !is_protected(id));
    }
    if rests(refresh, now) {
        return Vec::new();
    }
    let has_baked = refresh.status == RefreshStatus::Baking;
    let is_over = has_baked || refresh.left.is_empty() || is_at_last_checkpoint(refresh);
    let waits = refresh.preferences.standby_instances.as_deref() == Some("Wait");
    if is_over && waits && standby(group).next().is_some() {
        blocked(refresh, STANDING_BY, now);
        return Vec::new();
    }
    if is_over {
        conclude(refresh, now);
        return Vec::new();
    }
    let may_go = |id: &&String| protection == Protection::Refresh || !is_protected(id);
    if !refresh.left.iter().any(|id| may_go(&id)) {
        blocked(refresh, PROTECTED, now);
        return Vec::new();
    }
    refresh.blocked_since = None;
    let size = batch(refresh, group).min(until_checkpoint(refresh));
    let launches_first = refresh.preferences.min_healthy_percentage == Some(100);
    if launches_first && refresh.surplus == 0 {
        refresh.surplus = i64::try_from(size).unwrap_or(1);
        refresh.is_waiting = true;
        return Vec::new();
    }
    let goes: Vec<String> = refresh.left.iter().filter(may_go).take(size).cloned().collect();
    if launches_first && goes.len() >= refresh.left.len() {
        refresh.surplus = 0;
    }
    refresh.is_waiting = !goes.is_empty();
    goes
}

/// What is left cannot go: that is waited for, for a while.
fn blocked(refresh: &mut Refresh, reason: &str, now: Timestamp) {
    let since = *refresh.blocked_since.get_or_insert(now);
    if since + PATIENCE > now {
        return;
    }
    refresh.reason = Some(reason.to_owned());
    let status = match refresh.status {
        RefreshStatus::RollbackInProgress => RefreshStatus::RollbackFailed,
        _ => RefreshStatus::Failed,
    };
    end(refresh, status, now);
}

/// Ends, or bakes first.
fn conclude(refresh: &mut Refresh, now: Timestamp) {
    let baking = refresh.preferences.bake_time.filter(|it| *it > 0);
    match (refresh.status, baking) {
        (RefreshStatus::RollbackInProgress, _) => {
            end(refresh, RefreshStatus::RollbackSuccessful, now);
        }
        (RefreshStatus::InProgress, Some(seconds)) => {
            refresh.status = RefreshStatus::Baking;
            refresh.surplus = 0;
            refresh.resumes_at = now.checked_add(SignedDuration::from_secs(seconds)).ok();
        }
        _ => end(refresh, RefreshStatus::Successful, now),
    }
}

/// Whether it rests at a checkpoint, or bakes. At each checkpoint that it has come to it begins to rest.
fn rests(refresh: &mut Refresh, now: Timestamp) -> bool {
    if refresh.resumes_at.is_some_and(|it| it > now) {
        return true;
    }
    refresh.resumes_at = None;
    let shares = &refresh.preferences.checkpoint_percentages;
    let is_last = refresh.passed + 1 >= shares.len();
    if refresh.status != RefreshStatus::InProgress || is_last || until_checkpoint(refresh) > 0 {
        return false;
    }
    refresh.passed += 1;
    let delay = SignedDuration::from_secs(refresh.preferences.checkpoint_delay.unwrap_or(3600));
    refresh.resumes_at = now.checked_add(delay).ok().filter(|it| *it > now);
    refresh.resumes_at.is_some()
}

/// How many may be replaced before the next checkpoint.
fn until_checkpoint(refresh: &Refresh) -> usize {
    let shares = &refresh.preferences.checkpoint_percentages;
    let share = shares.get(refresh.passed).and_then(|it| usize::try_from(*it).ok());
    let is_forward = refresh.status == RefreshStatus::InProgress;
    let Some(share) = share.filter(|_| is_forward) else { return usize::MAX };
    let done = refresh.total - refresh.left.len().min(refresh.total);
    (refresh.total * share).div_ceil(100).saturating_sub(done)
}

/// Whoever names no checkpoint of all has the rest left as it is.
fn is_at_last_checkpoint(refresh: &Refresh) -> bool {
    let shares = &refresh.preferences.checkpoint_percentages;
    refresh.status != RefreshStatus::RollbackInProgress
        && !shares.is_empty()
        && refresh.passed + 1 >= shares.len()
        && until_checkpoint(refresh) == 0
}

fn end(refresh: &mut Refresh, status: RefreshStatus, now: Timestamp) {
    refresh.status = status;
    refresh.surplus = 0;
    refresh.ended_at = Some(now);
}

/// How many at once, by the percentages: one at least.
fn batch(refresh: &Refresh, group: &Group) -> usize {
    let preferences = &refresh.preferences;
    let least = preferences.min_healthy_percentage.unwrap_or(90);
    let most = preferences.max_healthy_percentage.unwrap_or(100);
    let share = if least == 100 { most - 100 } else { 100 - least };
    // What was launched beforehand is not part of it.
    let desired = usize::try_from(group.desired).unwrap_or(0);
    let count = group.active().count().min(desired);
    (count * usize::try_from(share).unwrap_or(0) / 100).max(1)
}
