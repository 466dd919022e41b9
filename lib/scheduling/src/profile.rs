//! What a scheduler's profile asks and weighs: its plug-ins and their arguments.
//!
//! A pod carries the profile that it is scheduled by ([`PodInfo::profile`]); the default one has
//! upstream's plug-ins, weights and arguments.
//!
//! Upstream: `pkg/scheduler/apis/config/v1/{default_plugins,defaults}.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use k8s_openapi::api::core::v1::NodeSelectorTerm;
use kube::core::Selector;

use crate::{Plugin, PodInfo, Spread};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What pods call it (`schedulerName`).
    pub name: String,
    /// The plug-ins that may refuse a node.
    pub filters: Plugins,
    /// The plug-ins that give marks, and what these count.
    pub weights: BTreeMap<Scorer, i64>,
    /// Whether pods of lower priority are removed for one that fits nowhere (`DefaultPreemption`).
    pub preempts: bool,
    /// Whether a pod waits for its scheduling gates to go (`SchedulingGates`).
    pub has_gates: bool,
    /// How much of a large cluster is asked; 0: the larger it is, the less.
    pub percentage_of_nodes: usize,
    pub fit: Fit,
    /// The resources that are to be used up equally.
    pub balanced_resources: Vec<String>,
    /// How much required affinity of pods that are there counts for one that they attract.
    pub hard_pod_affinity_weight: i64,
    /// Only a pod with preferences of its own hears those of the pods that are there.
    pub ignores_preferred_terms: bool,
    /// How pods without constraints of their own are spread; `None`: as upstream's system does.
    pub default_spread: Option<Vec<DefaultConstraint>>,
    /// Holds for every pod of the profile.
    pub added_affinity: AddedAffinity,
    /// How long a pod waits for its devices to be ready (`DynamicResources`).
    pub device_binding_timeout: Duration,
}

/// Plug-ins that give marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scorer {
    TaintToleration,
    NodeAffinity,
    NodeResourcesFit,
    NodeResourcesBalancedAllocation,
    ImageLocality,
    PodTopologySpread,
    InterPodAffinity,
}

/// `NodeResourcesFitArgs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Extended resources that are not counted, by name and by the part before the slash.
    pub ignored_resources: BTreeSet<String>,
    pub ignored_groups: BTreeSet<String>,
    pub strategy: Strategy,
    /// What is looked at, and its weight.
    pub resources: Vec<(String, i64)>,
}

/// How full a node should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    LeastAllocated,
    MostAllocated,
    /// Points of how full it would be (in percent) and the mark for that (0 to 100), in rising order.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// One of `PodTopologySpreadArgs`' `defaultConstraints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultConstraint {
    pub topology_key: String,
    pub max_skew: i64,
    pub is_hard: bool,
}

/// `NodeAffinityArgs`' `addedAffinity`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddedAffinity {
    pub required: Option<Vec<NodeSelectorTerm>>,
    pub preferred: Vec<(i64, NodeSelectorTerm)>,
}

/// A set of plug-ins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plugins(u32);

impl Plugins {
    /// All that there are.
    pub fn all() -> Self {
        Plugin::ALL.into_iter().collect()
    }

    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & bit(plugin) != 0
    }
}

fn bit(plugin: Plugin) -> u32 {
    1 << (plugin as u32)
}

impl FromIterator<Plugin> for Plugins {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        Self(plugins.into_iter().fold(0, |set, it| set | bit(it)))
    }
}

impl Default for Profile {
    fn default() -> Self {
        use Scorer as S;
        Self {
            name: "default-scheduler".into(),
            filters: Plugins::all(),
            weights: [
                (S::TaintToleration, 3),
                (S::NodeAffinity, 2),
                (S::NodeResourcesFit, 1),
                (S::NodeResourcesBalancedAllocation, 1),
                (S::ImageLocality, 1),
                (S::PodTopologySpread, 2),
                (S::InterPodAffinity, 2),
            ]
            .into(),
            preempts: true,
            has_gates: true,
            percentage_of_nodes: 0,
            fit: Fit::default(),
            balanced_resources: vec!["cpu".into(), "memory".into()],
            hard_pod_affinity_weight: 1,
            ignores_preferred_terms: false,
            default_spread: None,
            added_affinity: AddedAffinity::default(),
            device_binding_timeout: Duration::from_secs(600),
        }
    }
}

impl Default for Fit {
    fn default() -> Self {
        Self {
            ignored_resources: BTreeSet::new(),
            ignored_groups: BTreeSet::new(),
            strategy: Strategy::LeastAllocated,
            resources: vec![("cpu".into(), 1), ("memory".into(), 1)],
        }
    }
}

impl Profile {
    /// The default one; many pods share it.
    pub fn shared() -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<Profile>> = LazyLock::new(Arc::default);
        DEFAULT.clone()
    }

    /// Whether a plug-in may refuse a node.
    pub fn asks(&self, plugin: Plugin) -> bool {
        self.filters.contains(plugin)
    }
}

impl Fit {
    /// Whether an extended resource is left out of the count.
    pub(crate) fn ignores(&self, resource: &str) -> bool {
        let group = resource.split_once('/').map_or(resource, |(group, _)| group);
        self.ignored_resources.contains(resource) || self.ignored_groups.contains(group)
    }
}

impl PodInfo {
    /// The pod as this profile's scheduler sees it: a pod without constraints of its own has those of
    /// the profile, over the pods that `siblings` selects.
    #[must_use]
    pub fn with_profile(mut self, profile: Arc<Profile>, siblings: Option<Selector>) -> Self {
        if let (Some(defaults), Some(siblings), true) =
            (&profile.default_spread, &siblings, self.spread.is_empty())
        {
            let constraint = |it: &DefaultConstraint| Spread {
                topology_key: it.topology_key.clone(),
                max_skew: it.max_skew,
                min_domains: 1,
                is_hard: it.is_hard,
                selector: siblings.clone(),
                honors_node_affinity: true,
                honors_taints: false,
            };
            self.spread = defaults.iter().map(constraint).collect();
        }
        self.siblings = siblings.filter(|_| profile.default_spread.is_none());
        self.profile = profile;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn a_set_of_plug_ins_has_those_that_it_was_made_of() {
        let set: Plugins = [Plugin::NodeName, Plugin::InterPodAffinity].into_iter().collect();
        let has = Plugin::ALL.into_iter().filter(|it| set.contains(*it));
        assert_eq!(has.collect::<Vec<_>>(), [Plugin::NodeName, Plugin::InterPodAffinity]);
    }

    #[test]
    fn a_profiles_own_constraints_are_for_pods_with_siblings_and_without_constraints() {
        let constraint =
            DefaultConstraint { topology_key: "rack".into(), max_skew: 2, is_hard: true };
        let profile =
            Arc::new(Profile { default_spread: Some(vec![constraint]), ..Profile::default() });
        let siblings = || -> Option<Selector> {
            Some([("app".to_owned(), "web".to_owned())].into_iter().collect())
        };
        let keys =
            |it: &PodInfo| it.spread.iter().map(|it| it.topology_key.clone()).collect::<Vec<_>>();
        let spread = pod("{}").with_profile(profile.clone(), siblings());
        assert_eq!((keys(&spread), spread.siblings.is_none()), (vec!["rack".into()], true));
        let alone = pod("{}").with_profile(profile.clone(), None);
        assert_eq!(keys(&alone), Vec::<String>::new());
        let own = r#"{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone",
            "whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}]}"#;
        assert_eq!(keys(&pod(own).with_profile(profile, siblings())), ["zone"]);
        let usual = pod("{}").with_profile(Profile::shared(), siblings());
        assert!(usual.spread.is_empty() && usual.siblings.is_some());
    }
}
