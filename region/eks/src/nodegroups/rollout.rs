//! The version update of a node group, as it is kept while it goes on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    records::{Nodegroup, Scaling},
    template::Source,
};

/// How nodes are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Strategy {
    /// New nodes come before old ones go.
    #[default]
    Default,
    /// Old nodes go first, for capacity that cannot be had twice.
    Minimal,
}

impl Strategy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::Minimal => "MINIMAL",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        [Self::Default, Self::Minimal].into_iter().find(|it| it.name() == name)
    }
}

/// What nodes shall start from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Target {
    pub(crate) version: String,
    pub(crate) release_version: String,
    pub(crate) image_id: String,
    pub(crate) source: Option<Source>,
}

impl Target {
    /// The group as it is when the update has succeeded.
    pub(crate) fn applied_to(&self, group: &Nodegroup) -> Nodegroup {
        Nodegroup {
            version: self.version.clone(),
            release_version: self.release_version.clone(),
            image_id: self.image_id.clone(),
            source: self.source.clone(),
            ..group.clone()
        }
    }
}

/// Source: EKS user guide, "Understand each phase of node updates".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Phase {
    SetUp,
    ScaleUp,
    Upgrade,
    ScaleDown,
}

/// A version update under way.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Rollout {
    pub(crate) target: Target,
    /// Pods that a budget keeps are deleted.
    pub(crate) force: bool,
    pub(crate) phase: Phase,
    /// When the phase began, or last got on.
    pub(crate) moved_at: Timestamp,
    /// Of EKS's own launch template. Instances from another one are old.
    pub(crate) template_version: Option<i64>,
    /// Sizes that the group shall come back to.
    pub(crate) before: Scaling,
    /// Sizes that the update last asked for.
    pub(crate) asked: Scaling,
    /// Old instances that are being emptied, since when.
    pub(crate) emptying: BTreeMap<String, Timestamp>,
    /// Those that are empty, since when.
    pub(crate) emptied: BTreeMap<String, Timestamp>,
}

impl Rollout {
    pub(crate) fn new(target: Target, force: bool, group: &Nodegroup, now: Timestamp) -> Self {
        Self {
            target,
            force,
            phase: Phase::SetUp,
            moved_at: now,
            template_version: None,
            before: group.scaling,
            asked: group.scaling,
            emptying: BTreeMap::new(),
            emptied: BTreeMap::new(),
        }
    }
}

/// Sizes that an update which failed has left, and those that it would have come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Left {
    pub(crate) before: Scaling,
    pub(crate) sizes: Scaling,
}

impl Nodegroup {
    pub(crate) fn strategy(&self) -> Strategy {
        self.update_strategy.unwrap_or_default()
    }

    /// How many of `size` nodes may be replaced at once.
    pub(crate) fn at_once(&self, size: i64) -> i64 {
        let share = |percent: i64| (size * percent + 99) / 100;
        self.max_unavailable_percentage.map_or(self.max_unavailable, share).clamp(1, MOST_AT_ONCE)
    }
}

/// Source: EKS API reference, `NodegroupUpdateConfig`.
pub(crate) const MOST_AT_ONCE: i64 = 100;
