//! Which nodes of a group to repair, and how: pure.
//!
//! A node is unhealthy by a condition that EKS knows a repair for: the kubelet's `Ready`, those of the
//! node monitoring agent, or that its Node object is gone. After the condition's time it is replaced, or
//! rebooted where an override says so. Nothing new is begun while too many nodes are unhealthy at once,
//! since then the nodes are not what is wrong; what was begun goes on.
//!
//! Source: EKS user guide, "Automatically repair nodes in EKS clusters"; compute facts §1.6.
//! Deviation: of AcceleratedHardwareReady's reasons none reboots by itself, only by an override. From
//! the documents it is not known how many nodes are repaired at once by default: here all of them.

use std::{collections::BTreeMap, time::Duration};

use aws_eks::{NodeRepairConfig, NodeRepairConfigOverrides};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// As an override names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Action {
    Replace,
    Reboot,
}

/// What is wrong with a node, since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unhealthy {
    pub(crate) condition: String,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
}

/// An instance in service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) instance: String,
    pub(crate) has_node: bool,
    pub(crate) unhealthy: Vec<Unhealthy>,
}

/// A reboot under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Reboot {
    pub(crate) since: Timestamp,
    /// When the instance was told; before that its node is emptied.
    pub(crate) told_at: Option<Timestamp>,
}

/// What EKS remembers of its repairs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Book {
    /// Instances that have been nodes.
    pub(crate) known: BTreeMap<String, Timestamp>,
    /// Those of them whose Node object is gone, since when.
    pub(crate) lost: BTreeMap<String, Timestamp>,
    pub(crate) reboots: BTreeMap<String, Reboot>,
    /// Instances that were told to go, since when.
    pub(crate) replaced: BTreeMap<String, Timestamp>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// What is remembered has changed.
    Remember(Book),
    Replace {
        instance: String,
        why: String,
    },
    /// Goes on with emptying the node; then the instance is told to reboot.
    Reboot {
        instance: String,
        why: String,
    },
    /// A reboot has helped: pods may come again.
    Welcome {
        instance: String,
    },
}

/// Of the agent's conditions and the kubelet's.
const HARDWARE: &str = "AcceleratedHardwareReady";
const OTHERS: [&str; 5] =
    ["ContainerRuntimeReady", "KernelReady", "NetworkingReady", "Ready", "StorageReady"];
const HARDWARE_AFTER: Duration = Duration::from_secs(10 * 60);
const OTHERS_AFTER: Duration = Duration::from_secs(30 * 60);
/// Below this size a group is repaired however much of it is unhealthy, unless told otherwise.
const SMALL: usize = 5;
const MOST_UNHEALTHY_PERCENT: usize = 20;
/// How soon a node that is emptied for a reboot is looked at again.
const WATCHED: Duration = Duration::from_secs(5);

/// Whether EKS repairs nodes for a condition, once that is not `True`.
pub(crate) fn is_watched(condition: &str, config: Option<&NodeRepairConfig>) -> bool {
    let overrides = config.into_iter().flat_map(|it| &it.node_repair_config_overrides);
    condition == HARDWARE
        || OTHERS.contains(&condition)
        || overrides
            .into_iter()
            .any(|it| it.node_monitoring_condition.as_deref() == Some(condition))
}

/// What is to be done about something that is wrong, and after which time.
fn treatment(config: &NodeRepairConfig, what: &Unhealthy) -> Option<(Action, Duration)> {
    let is_meant = |it: &&NodeRepairConfigOverrides| {
        it.node_monitoring_condition.as_deref() == Some(&what.condition)
            && it.node_unhealthy_reason.as_deref() == Some(&what.reason)
    };
    if let Some(found) = config.node_repair_config_overrides.iter().find(is_meant) {
        let minutes = u64::try_from(found.min_repair_wait_time_mins.unwrap_or(0)).unwrap_or(0);
        // It may be any number: a time that never comes.
        let after = Duration::from_secs(minutes.saturating_mul(60));
        return match found.repair_action.as_deref() {
            Some("Reboot") => Some((Action::Reboot, after)),
            Some("Replace") => Some((Action::Replace, after)),
            _ => None,
        };
    }
    match what.condition.as_str() {
        HARDWARE => Some((Action::Replace, HARDWARE_AFTER)),
        other if OTHERS.contains(&other) => Some((Action::Replace, OTHERS_AFTER)),
        _ => None,
    }
}

/// The repairs, and when to look again if nothing changes. `instances` are all that there are, those
/// on their way out too.
pub(crate) fn plan(
    config: &NodeRepairConfig,
    book: &Book,
    members: &[Member],
    instances: &[&str],
    now: Timestamp,
) -> (Vec<Repair>, Option<Duration>) {
    let mut pass = Pass { config, now, repairs: Vec::new(), wait: None };
    let mut next = remembered(book, members, now);
    let there = book.replaced.iter().filter(|(id, _)| instances.contains(&id.as_str()));
    next.replaced = there.map(|(id, at)| (id.clone(), *at)).collect();
    pass.go_on(&mut next, members);
    pass.begin(&mut next, members);
    if next != *book {
        // Before what is done is done: whoever is cut off goes on with it. What ends is forgotten
        // after it has ended, for the same reason.
        let is_end = |it: &Repair| matches!(it, Repair::Welcome { .. });
        pass.repairs.sort_by_key(|it| !is_end(it));
        let ended = pass.repairs.iter().filter(|it| is_end(it)).count();
        pass.repairs.insert(ended, Repair::Remember(next));
    }
    (pass.repairs, pass.wait)
}

/// What is left to be done where nodes are no longer repaired: those that were emptied for a reboot
/// take pods again, and nothing is remembered.
pub(crate) fn end(book: &Book) -> Vec<Repair> {
    if *book == Book::default() {
        return Vec::new();
    }
    let emptied = book.reboots.keys().map(|it| Repair::Welcome { instance: it.clone() });
    emptied.chain([Repair::Remember(Book::default())]).collect()
}

/// Instances that are no longer in service are forgotten.
fn remembered(book: &Book, members: &[Member], now: Timestamp) -> Book {
    let mut next = Book::default();
    for member in members {
        let id = &member.instance;
        let known = book.known.get(id).copied();
        if let Some(at) = known.or(member.has_node.then_some(now)) {
            next.known.insert(id.clone(), at);
            if !member.has_node {
                next.lost.insert(id.clone(), book.lost.get(id).copied().unwrap_or(now));
            }
        }
        if let Some(reboot) = book.reboots.get(id) {
            next.reboots.insert(id.clone(), *reboot);
        }
    }
    next
}

struct Pass<'a> {
    config: &'a NodeRepairConfig,
    now: Timestamp,
    repairs: Vec<Repair>,
    wait: Option<Duration>,
}

impl Pass<'_> {
    fn since(&self, at: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(at)).unwrap_or_default()
    }

    fn wait_at_most(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |it| it.min(wait)));
    }

    /// What has been begun.
    fn go_on(&mut self, book: &mut Book, members: &[Member]) {
        // Somebody was cut off before Auto Scaling was told.
        for instance in book.replaced.keys() {
            if members.iter().any(|it| it.instance == *instance) {
                let why = "it was to be replaced".to_owned();
                self.repairs.push(Repair::Replace { instance: instance.clone(), why });
            }
        }
        for (instance, reboot) in book.reboots.clone() {
            let Some(member) = members.iter().find(|it| it.instance == instance) else { continue };
            let Some(told_at) = reboot.told_at else {
                self.repairs.push(Repair::Reboot { instance, why: String::new() });
                self.wait_at_most(WATCHED);
                continue;
            };
            // What nothing is to be done about does not count.
            let is_well = member.has_node && self.sentence(book, member).is_none();
            // A node looks well for as long as nobody has noticed that it is down.
            let rest = OTHERS_AFTER.checked_sub(self.since(told_at)).filter(|it| !it.is_zero());
            match rest {
                _ if is_well && self.since(told_at) >= SETTLED => {
                    self.repairs.push(Repair::Welcome { instance: instance.clone() });
                    book.reboots.remove(&instance);
                }
                Some(rest) => {
                    let settled = SETTLED.checked_sub(self.since(told_at)).filter(|_| is_well);
                    self.wait_at_most(settled.unwrap_or(rest));
                }
                None => {
                    let why = "a reboot has not helped".to_owned();
                    book.reboots.remove(&instance);
                    book.replaced.insert(instance.clone(), self.now);
                    self.repairs.push(Repair::Replace { instance, why });
                }
            }
        }
    }

    fn begin(&mut self, book: &mut Book, members: &[Member]) {
        let mut under_way = book.replaced.len() + book.reboots.len();
        let mut unhealthy = 0;
        let mut due = Vec::new();
        for member in members {
            let Some((action, rest, why)) = self.sentence(book, member) else { continue };
            unhealthy += 1;
            let id = &member.instance;
            match rest {
                _ if book.reboots.contains_key(id) || book.replaced.contains_key(id) => {}
                Some(rest) => self.wait_at_most(rest),
                None => due.push((id.clone(), action, why)),
            }
        }
        if self.are_too_many(unhealthy, members.len()) {
            return;
        }
        let most = self.at_once(unhealthy);
        for (instance, action, why) in due {
            if under_way >= most {
                break;
            }
            under_way += 1;
            match action {
                Action::Replace => {
                    book.replaced.insert(instance.clone(), self.now);
                    self.repairs.push(Repair::Replace { instance, why });
                }
                Action::Reboot => {
                    let reboot = Reboot { since: self.now, told_at: None };
                    book.reboots.insert(instance.clone(), reboot);
                    self.repairs.push(Repair::Reboot { instance, why });
                    self.wait_at_most(WATCHED);
                }
            }
        }
    }

    /// What is soonest due for a member that is not well; the time that is left before it.
    fn sentence(&self, book: &Book, member: &Member) -> Option<(Action, Option<Duration>, String)> {
        let lost = book.lost.get(&member.instance).map(|since| {
            let rest = OTHERS_AFTER.saturating_sub(self.since(*since));
            (Action::Replace, rest, "its Node object is gone".to_owned())
        });
        let by_condition = member.unhealthy.iter().filter_map(|it| {
            let (action, after) = treatment(self.config, it)?;
            let rest = after.saturating_sub(self.since(it.since));
            Some((action, rest, format!("{} is not True: {}", it.condition, it.reason)))
        });
        let (action, rest, why) = lost.into_iter().chain(by_condition).min_by_key(|it| it.1)?;
        Some((action, Some(rest).filter(|it| !it.is_zero()), why))
    }

    fn are_too_many(&self, unhealthy: usize, all: usize) -> bool {
        let said = (
            self.config.max_unhealthy_node_threshold_count,
            self.config.max_unhealthy_node_threshold_percentage,
        );
        match said {
            (Some(count), _) => unhealthy > usize::try_from(count).unwrap_or(usize::MAX),
            (None, Some(percent)) => {
                unhealthy * 100 > all * usize::try_from(percent).unwrap_or(usize::MAX)
            }
            (None, None) => all > SMALL && unhealthy * 100 > all * MOST_UNHEALTHY_PERCENT,
        }
    }

    /// At least one.
    fn at_once(&self, unhealthy: usize) -> usize {
        let said = (
            self.config.max_parallel_nodes_repaired_count,
            self.config.max_parallel_nodes_repaired_percentage,
        );
        let most = match said {
            (Some(count), _) => usize::try_from(count).unwrap_or(usize::MAX),
            (None, Some(percent)) => unhealthy * usize::try_from(percent).unwrap_or(100) / 100,
            (None, None) => usize::MAX,
        };
        most.max(1)
    }
}

/// How long after its reboot a node must have been well: by then the control plane knows of one that did
/// not come back.
const SETTLED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
