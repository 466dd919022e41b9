//! Who goes first: in the fullest zone, by the termination policies one after another.
//!
//! Source: user guide, "Configure termination policies". Deviation: what is left to chance there is the
//! oldest here; `OldestLaunchConfiguration` chooses nothing, since there are no launch configurations.

use jiff::Timestamp;

use super::{balance::counts, mixed};
use crate::records::{Group, Member, MemberState};

/// Every policy that a group may name.
pub(crate) const POLICIES: [&str; 7] = [
    "AllocationStrategy",
    "ClosestToNextInstanceHour",
    "Default",
    "NewestInstance",
    "OldestInstance",
    "OldestLaunchConfiguration",
    "OldestLaunchTemplate",
];

pub(super) fn of(group: &Group, now: Timestamp) -> Option<&Member> {
    let counts = counts(group);
    let may_go = |it: &&Member| it.state == MemberState::InService && !it.is_protected;
    let of_zone = |it: &Member| counts.get(it.zone.as_str()).copied().unwrap_or(0);
    let most = group.active().filter(may_go).map(of_zone).max()?;
    let mut left: Vec<&Member> =
        group.active().filter(may_go).filter(|it| of_zone(it) == most).collect();
    for policy in &group.termination_policies {
        left = keep(group, policy, left, now);
    }
    left.into_iter().min_by_key(|it| it.launched_at)
}

fn keep<'a>(group: &Group, policy: &str, left: Vec<&'a Member>, now: Timestamp) -> Vec<&'a Member> {
    match policy {
        "NewestInstance" => least(left, |it| -it.launched_at.as_second()),
        "OldestInstance" => least(left, |it| it.launched_at.as_second()),
        "OldestLaunchTemplate" => least(left, version),
        "ClosestToNextInstanceHour" => least(left, |it| to_next_hour(it, now)),
        "AllocationStrategy" => by_allocation(group, left),
        "Default" => {
            let left = by_allocation(group, left);
            let left = least(left, version);
            least(left, |it| to_next_hour(it, now))
        }
        _ => left,
    }
}

fn least(left: Vec<&Member>, of: impl Fn(&Member) -> i64) -> Vec<&Member> {
    let least = left.iter().map(|it| of(it)).min();
    left.into_iter().filter(|it| Some(of(it)) == least).collect()
}

/// Older versions of the launch template go first.
fn version(member: &Member) -> i64 {
    member.template.version.parse().unwrap_or(0)
}

fn to_next_hour(member: &Member, now: Timestamp) -> i64 {
    3600 - now.duration_since(member.launched_at).as_secs().rem_euclid(3600)
}

/// Those of the purchase option of which there is too much.
fn by_allocation<'a>(group: &Group, left: Vec<&'a Member>) -> Vec<&'a Member> {
    let Some(excess_is_spot) = mixed::excess(group) else { return left };
    let excess: Vec<_> = left.iter().filter(|it| it.is_spot == excess_is_spot).copied().collect();
    if excess.is_empty() { left } else { excess }
}
