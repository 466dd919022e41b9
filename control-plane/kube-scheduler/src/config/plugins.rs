//! Which plug-ins a profile has, by the sets of its file over the default ones, and what they are told.
//!
//! Upstream: `pkg/scheduler/apis/config/v1/default_plugins.go`, `framework/runtime/framework.go`.

use std::collections::{BTreeMap, BTreeSet};

use scheduling::{
    AddedAffinity, DefaultConstraint, Fit, Plugin, Plugins, Profile, Scorer, Strategy,
};

use super::{
    PluginEntry, PluginSet, PluginSets, ProfileConfig,
    args::{
        self, DynamicResourcesArgs, InterPodAffinityArgs, NodeAffinityArgs,
        NodeResourcesBalancedAllocationArgs, NodeResourcesFitArgs, PodTopologySpreadArgs,
    },
};

/// Where a plug-in is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    PreFilter,
    Filter,
    PostFilter,
    Reserve,
    PreScore,
    Score,
    PreBind,
    Bind,
    PostBind,
    Permit,
    PreEnqueue,
    QueueSort,
}

impl Point {
    /// In the order in which upstream expands them.
    const ALL: [Self; 12] = [
        Self::PreFilter,
        Self::Filter,
        Self::PostFilter,
        Self::Reserve,
        Self::PreScore,
        Self::Score,
        Self::PreBind,
        Self::Bind,
        Self::PostBind,
        Self::Permit,
        Self::PreEnqueue,
        Self::QueueSort,
    ];

    fn set(self, sets: &PluginSets) -> &PluginSet {
        match self {
            Self::PreFilter => &sets.pre_filter,
            Self::Filter => &sets.filter,
            Self::PostFilter => &sets.post_filter,
            Self::Reserve => &sets.reserve,
            Self::PreScore => &sets.pre_score,
            Self::Score => &sets.score,
            Self::PreBind => &sets.pre_bind,
            Self::Bind => &sets.bind,
            Self::PostBind => &sets.post_bind,
            Self::Permit => &sets.permit,
            Self::PreEnqueue => &sets.pre_enqueue,
            Self::QueueSort => &sets.queue_sort,
        }
    }
}

/// A plug-in that is built in.
struct Builtin {
    name: &'static str,
    points: &'static [Point],
    weight: i32,
    filter: Option<Plugin>,
    scorer: Option<Scorer>,
}

const fn builtin(name: &'static str, points: &'static [Point]) -> Builtin {
    Builtin { name, points, weight: 0, filter: None, scorer: None }
}

const fn filter(name: &'static str, points: &'static [Point], plugin: Plugin) -> Builtin {
    Builtin { filter: Some(plugin), ..builtin(name, points) }
}

const fn scored(of: Builtin, scorer: Scorer, weight: i32) -> Builtin {
    Builtin { scorer: Some(scorer), weight, ..of }
}

const ASKED_TWICE: &[Point] = &[Point::PreFilter, Point::Filter];
const ASKED_AND_SCORED: &[Point] =
    &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score];
const RESERVED: &[Point] = &[Point::PreFilter, Point::Filter, Point::Reserve, Point::PreBind];
const DEVICES: &[Point] = &[
    Point::PreEnqueue,
    Point::PreFilter,
    Point::Filter,
    Point::PostFilter,
    Point::Reserve,
    Point::PreBind,
];

/// All of them, as the default profile has them.
const BUILTIN: [Builtin; 19] = [
    builtin("SchedulingGates", &[Point::PreEnqueue]),
    builtin("PrioritySort", &[Point::QueueSort]),
    filter("NodeUnschedulable", &[Point::Filter], Plugin::NodeUnschedulable),
    filter("NodeName", &[Point::Filter], Plugin::NodeName),
    scored(
        filter(
            "TaintToleration",
            &[Point::Filter, Point::PreScore, Point::Score],
            Plugin::TaintToleration,
        ),
        Scorer::TaintToleration,
        3,
    ),
    scored(filter("NodeAffinity", ASKED_AND_SCORED, Plugin::NodeAffinity), Scorer::NodeAffinity, 2),
    filter("NodePorts", ASKED_TWICE, Plugin::NodePorts),
    scored(
        filter("NodeResourcesFit", ASKED_AND_SCORED, Plugin::NodeResourcesFit),
        Scorer::NodeResourcesFit,
        1,
    ),
    filter("VolumeRestrictions", ASKED_TWICE, Plugin::VolumeRestrictions),
    filter("NodeVolumeLimits", ASKED_TWICE, Plugin::NodeVolumeLimits),
    filter("VolumeBinding", RESERVED, Plugin::VolumeBinding),
    filter("VolumeZone", ASKED_TWICE, Plugin::VolumeZone),
    filter("DynamicResources", DEVICES, Plugin::DynamicResources),
    scored(
        filter("PodTopologySpread", ASKED_AND_SCORED, Plugin::PodTopologySpread),
        Scorer::PodTopologySpread,
        2,
    ),
    scored(
        filter("InterPodAffinity", ASKED_AND_SCORED, Plugin::InterPodAffinity),
        Scorer::InterPodAffinity,
        2,
    ),
    builtin("DefaultPreemption", &[Point::PostFilter]),
    scored(
        builtin("NodeResourcesBalancedAllocation", &[Point::PreScore, Point::Score]),
        Scorer::NodeResourcesBalancedAllocation,
        1,
    ),
    scored(builtin("ImageLocality", &[Point::Score]), Scorer::ImageLocality, 1),
    builtin("DefaultBinder", &[Point::Bind]),
];

fn find(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|it| it.name == name)
}

/// The weight of each plug-in that is enabled, by name, at each point.
type Enabled = BTreeMap<Point, BTreeMap<&'static str, i32>>;

/// The profile of a file that is valid; `percentage` is what the file says for all profiles.
pub(super) fn profile(config: &ProfileConfig, percentage: Option<i32>) -> Result<Profile, String> {
    let enabled = enabled(&config.plugins)?;
    let has =
        |point: Point, name: &str| enabled.get(&point).is_some_and(|it| it.contains_key(name));
    let count = enabled.get(&Point::QueueSort).map_or(0, BTreeMap::len);
    if count != 1 {
        return Err(format!(
            "only one queue sort plugin required for profile with scheduler name {:?}, but got {count}",
            config.name()
        ));
    }
    if !has(Point::Bind, "DefaultBinder") {
        return Err(format!(
            "at least one bind plugin is needed for profile with scheduler name {:?}",
            config.name()
        ));
    }
    check_steps(&has)?;
    let filters: Plugins = BUILTIN
        .iter()
        .filter(|it| has(Point::Filter, it.name))
        .filter_map(|it| it.filter)
        .collect();
    let scores = enabled.get(&Point::Score).into_iter().flatten();
    let weights = scores.filter_map(|(name, weight)| {
        Some((find(name)?.scorer?, i64::from(if *weight == 0 { 1 } else { *weight })))
    });
    let percentage = config.percentage_of_nodes_to_score.or(percentage).unwrap_or(0);
    let inter_pod: InterPodAffinityArgs = args::of(config, "InterPodAffinity")?;
    let balance: NodeResourcesBalancedAllocationArgs =
        args::of(config, "NodeResourcesBalancedAllocation")?;
    let devices: DynamicResourcesArgs = args::of(config, "DynamicResources")?;
    Ok(Profile {
        name: config.name().to_owned(),
        filters,
        weights: weights.collect(),
        preempts: has(Point::PostFilter, "DefaultPreemption"),
        has_gates: has(Point::PreEnqueue, "SchedulingGates"),
        percentage_of_nodes: usize::try_from(percentage).unwrap_or(0),
        fit: fit(args::of(config, "NodeResourcesFit")?),
        balanced_resources: balance.resources.into_iter().map(|it| it.name).collect(),
        hard_pod_affinity_weight: i64::from(inter_pod.hard_pod_affinity_weight),
        ignores_preferred_terms: inter_pod.ignore_preferred_terms_of_existing_pods,
        default_spread: default_spread(args::of(config, "PodTopologySpread")?),
        added_affinity: added_affinity(args::of(config, "NodeAffinity")?),
        device_binding_timeout: devices.binding_timeout.get(),
    })
}

fn enabled(sets: &PluginSets) -> Result<Enabled, String> {
    let multi = merged(&sets.multi_point);
    let mut all = Enabled::new();
    for point in Point::ALL {
        let set = point.set(sets);
        let mut here = BTreeMap::new();
        for entry in &set.enabled {
            let plugin = known(point, entry)?;
            if !plugin.points.contains(&point) {
                return Err(format!(
                    "plugin {:?} does not extend {point:?}Plugin plugin",
                    entry.name
                ));
            }
            if here.insert(plugin.name, entry.weight).is_some() {
                return Err(registered(point, entry));
            }
        }
        let disabled: BTreeSet<_> = set.disabled.iter().map(|it| it.name.as_str()).collect();
        let own: BTreeSet<_> = here.keys().copied().collect();
        for entry in multi.iter().filter(|_| !disabled.contains("*")) {
            let plugin = known(point, entry)?;
            let is_open = plugin.points.contains(&point) && !disabled.contains(plugin.name);
            // What is enabled at the point itself overrides.
            if is_open
                && !own.contains(plugin.name)
                && here.insert(plugin.name, entry.weight).is_some()
            {
                return Err(registered(point, entry));
            }
        }
        all.insert(point, here);
    }
    Ok(all)
}

fn known(point: Point, entry: &PluginEntry) -> Result<&'static Builtin, String> {
    find(&entry.name).ok_or_else(|| format!("{point:?}Plugin {:?} does not exist", entry.name))
}

fn registered(point: Point, entry: &PluginEntry) -> String {
    format!("plugin {:?} already registered as \"{point:?}Plugin\"", entry.name)
}

/// The default plug-ins with those of the file: what is disabled goes, what is enabled again gets the
/// file's weight, what is new comes last.
fn merged(custom: &PluginSet) -> Vec<PluginEntry> {
    let disabled: BTreeSet<_> = custom.disabled.iter().map(|it| it.name.as_str()).collect();
    let mut left = custom.enabled.clone();
    let mut merged = Vec::new();
    let defaults = BUILTIN.iter().filter(|_| !disabled.contains("*"));
    for plugin in defaults.filter(|it| !disabled.contains(it.name)) {
        let again = left.iter().position(|it| it.name == plugin.name);
        let entry = again.map(|at| left.remove(at));
        let default = || PluginEntry { name: plugin.name.to_owned(), weight: plugin.weight };
        merged.push(entry.unwrap_or_else(default));
    }
    merged.extend(left);
    merged
}

/// What upstream's plug-ins need of each other's steps; without it they fail at each pod.
fn check_steps(has: &impl Fn(Point, &str) -> bool) -> Result<(), String> {
    for plugin in &BUILTIN {
        let (name, points) = (plugin.name, plugin.points);
        let needs = |later: Point, first: Point| {
            let is_alone = has(later, name) && points.contains(&first) && !has(first, name);
            is_alone.then_some((later, first))
        };
        let step = needs(Point::Filter, Point::PreFilter)
            .or_else(|| needs(Point::PreFilter, Point::Filter).filter(|_| may_refuse_early(name)))
            .or_else(|| needs(Point::Score, Point::PreScore))
            .or_else(|| needs(Point::Filter, Point::Reserve))
            .or_else(|| needs(Point::Filter, Point::PreBind))
            .or_else(|| needs(Point::Filter, Point::PreEnqueue))
            .or_else(|| needs(Point::PreEnqueue, Point::Filter));
        if let Some((later, first)) = step {
            return Err(format!("plugin {name:?} is enabled at {later:?} and not at {first:?}"));
        }
    }
    Ok(())
}

/// Those whose `preFilter` alone can refuse a pod.
fn may_refuse_early(name: &str) -> bool {
    matches!(name, "NodeAffinity" | "DynamicResources")
        || name.starts_with("Volume")
        || name == "NodeVolumeLimits"
}

fn fit(args: NodeResourcesFitArgs) -> Fit {
    let of = args.scoring_strategy;
    let points = of.requested_to_capacity_ratio.unwrap_or_default().shape;
    // The file's scores go to ten.
    let shape =
        points.iter().map(|it| (i64::from(it.utilization), i64::from(it.score) * 10)).collect();
    Fit {
        ignored_resources: args.ignored_resources.into_iter().collect(),
        ignored_groups: args.ignored_resource_groups.into_iter().collect(),
        strategy: match of.kind.as_str() {
            "MostAllocated" => Strategy::MostAllocated,
            "RequestedToCapacityRatio" => Strategy::RequestedToCapacityRatio(shape),
            _ => Strategy::LeastAllocated,
        },
        resources: of.resources.into_iter().map(|it| (it.name, it.weight)).collect(),
    }
}

fn default_spread(args: PodTopologySpreadArgs) -> Option<Vec<DefaultConstraint>> {
    if args.defaulting_type != "List" {
        return None;
    }
    let constraints = args.default_constraints.into_iter().map(|it| DefaultConstraint {
        topology_key: it.topology_key,
        max_skew: i64::from(it.max_skew),
        is_hard: it.when_unsatisfiable == "DoNotSchedule",
    });
    Some(constraints.collect())
}

fn added_affinity(args: NodeAffinityArgs) -> AddedAffinity {
    let Some(added) = args.added_affinity else { return AddedAffinity::default() };
    let required = added.required_during_scheduling_ignored_during_execution;
    let preferred =
        added.preferred_during_scheduling_ignored_during_execution.into_iter().flatten();
    AddedAffinity {
        required: required.map(|it| it.node_selector_terms),
        preferred: preferred.map(|it| (i64::from(it.weight), it.preference)).collect(),
    }
}

#[cfg(test)]
mod tests;
