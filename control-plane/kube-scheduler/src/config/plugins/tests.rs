//! What becomes of the plug-ins and arguments that a file names.

use serde_json::{Value, json};

use super::*;

fn of(fields: Value) -> Result<Profile, String> {
    let config: ProfileConfig = serde_json::from_value(fields).unwrap();
    profile(&config, None)
}

fn with(plugins: Value) -> Result<Profile, String> {
    of(json!({ "plugins": plugins }))
}

#[test]
fn a_profile_without_a_word_is_the_default_one() {
    assert_eq!(of(json!({})), Ok(Profile::default()));
}

#[test]
fn a_plug_in_that_is_disabled_everywhere_neither_refuses_nor_marks() {
    let profile = with(json!({ "multiPoint": { "disabled": [
        { "name": "NodeAffinity" }, { "name": "DefaultPreemption" }, { "name": "SchedulingGates" }] } }))
    .unwrap();
    assert!(!profile.filters.contains(Plugin::NodeAffinity));
    assert!(profile.filters.contains(Plugin::NodeName));
    assert!(!profile.weights.contains_key(&Scorer::NodeAffinity));
    assert!(!profile.preempts && !profile.has_gates);
}

#[test]
fn marks_are_weighed_and_switched_as_the_file_says() {
    let profile = with(json!({
        "score": { "disabled": [{ "name": "ImageLocality" }],
            "enabled": [{ "name": "NodeResourcesFit", "weight": 7 }, { "name": "TaintToleration" }] },
        "multiPoint": { "enabled": [{ "name": "InterPodAffinity", "weight": 5 }] },
    }))
    .unwrap();
    let weight = |it: Scorer| profile.weights.get(&it).copied();
    assert_eq!(weight(Scorer::ImageLocality), None);
    assert_eq!(weight(Scorer::NodeResourcesFit), Some(7));
    assert_eq!(weight(Scorer::TaintToleration), Some(1), "no weight is one");
    assert_eq!(weight(Scorer::InterPodAffinity), Some(5));
    assert_eq!(weight(Scorer::PodTopologySpread), Some(2));
    let none = with(json!({ "score": { "disabled": [{ "name": "*" }] } })).unwrap();
    assert!(none.weights.is_empty());
    assert!(none.filters == Plugins::all());
}

#[test]
fn what_is_no_plug_in_of_a_point_is_refused_in_upstreams_words() {
    let enabled = |point: &str, name: &str| {
        with(json!({ point: { "enabled": [{ "name": name }] } })).unwrap_err()
    };
    assert_eq!(enabled("filter", "Magic"), "FilterPlugin \"Magic\" does not exist");
    assert_eq!(enabled("multiPoint", "Magic"), "PreFilterPlugin \"Magic\" does not exist");
    assert_eq!(
        enabled("score", "NodeName"),
        "plugin \"NodeName\" does not extend ScorePlugin plugin"
    );
    let twice = json!([{ "name": "NodeName" }, { "name": "NodeName" }]);
    assert_eq!(
        with(json!({ "filter": { "enabled": twice } })).unwrap_err(),
        "plugin \"NodeName\" already registered as \"FilterPlugin\""
    );
}

#[test]
fn a_scheduler_sorts_its_queue_and_binds() {
    let without = |point: &str| with(json!({ point: { "disabled": [{ "name": "*" }] } }));
    assert_eq!(
        without("queueSort").unwrap_err(),
        "only one queue sort plugin required for profile with scheduler name \"default-scheduler\", but \
         got 0"
    );
    assert_eq!(
        without("bind").unwrap_err(),
        "at least one bind plugin is needed for profile with scheduler name \"default-scheduler\""
    );
}

#[test]
fn half_of_a_step_is_refused() {
    let without = |point: &str, name: &str| {
        with(json!({ point: { "disabled": [{ "name": name }] } })).map(drop)
    };
    assert_eq!(
        without("preFilter", "NodeResourcesFit").unwrap_err(),
        "plugin \"NodeResourcesFit\" is enabled at Filter and not at PreFilter"
    );
    assert_eq!(
        without("filter", "VolumeBinding").unwrap_err(),
        "plugin \"VolumeBinding\" is enabled at PreFilter and not at Filter"
    );
    assert_eq!(without("score", "NodeResourcesFit"), Ok(()));
    assert_eq!(without("filter", "PodTopologySpread"), Ok(()));
    let both = json!({ "disabled": [{ "name": "NodeResourcesFit" }] });
    let profile = with(json!({ "preFilter": both, "filter": both })).unwrap();
    assert!(!profile.filters.contains(Plugin::NodeResourcesFit));
    assert!(profile.weights.contains_key(&Scorer::NodeResourcesFit));
}

#[test]
fn arguments_reach_their_plug_ins() {
    let shape = json!([{ "utilization": 0, "score": 0 }, { "utilization": 100, "score": 10 }]);
    let term = json!({ "matchExpressions": [{ "key": "pool", "operator": "Exists" }] });
    let profile = of(json!({
        "schedulerName": "binpacking", "percentageOfNodesToScore": 40,
        "pluginConfig": [
            { "name": "NodeResourcesFit", "args": { "ignoredResourceGroups": ["example.com"],
                "scoringStrategy": { "type": "RequestedToCapacityRatio",
                    "resources": [{ "name": "nvidia.com/gpu", "weight": 3 }],
                    "requestedToCapacityRatio": { "shape": shape } } } },
            { "name": "InterPodAffinity", "args": { "hardPodAffinityWeight": 9 } },
            { "name": "PodTopologySpread", "args": { "defaultingType": "List",
                "defaultConstraints": [{ "maxSkew": 2, "topologyKey": "rack",
                    "whenUnsatisfiable": "DoNotSchedule" }] } },
            { "name": "NodeAffinity", "args": { "addedAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [term] } } } },
            { "name": "SomebodyElses", "args": { "any": "thing" } },
        ],
    }))
    .unwrap();
    assert_eq!((profile.name.as_str(), profile.percentage_of_nodes), ("binpacking", 40));
    let line = vec![(0, 0), (100, 100)];
    assert_eq!(profile.fit.strategy, Strategy::RequestedToCapacityRatio(line));
    assert_eq!(profile.fit.resources, [("nvidia.com/gpu".to_owned(), 3)]);
    assert!(profile.fit.ignored_groups.contains("example.com"));
    assert_eq!(profile.hard_pod_affinity_weight, 9);
    let spread = profile.default_spread.unwrap();
    assert_eq!((spread[0].topology_key.as_str(), spread[0].is_hard), ("rack", true));
    assert_eq!(profile.added_affinity.required.map(|it| it.len()), Some(1));
}
