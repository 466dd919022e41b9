//! Which groups would take the pods that wait.

use serde_json::json;

use super::*;
use crate::{
    options::Limits,
    testing::{at, group, node, pod, pod_with, sized, with_gpus, world},
};

fn planned(world: &World, options: &Options) -> ScaleUp {
    let mut registry = Registry::default();
    registry.observe(world, options, at(0));
    planned_with(world, &registry, options)
}

fn planned_with(world: &World, registry: &Registry, options: &Options) -> ScaleUp {
    let templates = snapshot::templates(world, options);
    let mut cluster = snapshot::of(world, &templates, &registry.upcoming(world));
    let rest = snapshot::place(&mut cluster, world.pending.clone());
    let question = Question {
        world,
        registry,
        options,
        priorities: None,
        templates: &templates,
        cluster: &cluster,
        now: at(0),
        lot: 0,
    };
    plan(question, &rest)
}

fn sizes(plan: &ScaleUp) -> Vec<String> {
    plan.increases.iter().map(ToString::to_string).collect()
}

#[test]
fn a_group_grows_by_as_many_nodes_as_the_pods_need() {
    let pods = (0..5).map(|at| pod(&format!("p{at}"), 900, None)).collect();
    let plan = planned(&world(vec![], vec![group("a", (0, 9), &[])], pods), &Options::default());
    assert_eq!(sizes(&plan), ["{a 0->3 (max: 9)}"], "two fit on each");
    assert_eq!(plan.triggered.len(), 5);
    assert!(plan.helpless.is_empty());
}

#[test]
fn no_more_gpus_come_than_the_cluster_may_have() {
    let mut with_one = group("g", (0, 9), &["there"]);
    with_one.blueprint = Some(std::sync::Arc::new(with_gpus("blueprint", 1)));
    let pods = || {
        let of = |at: i32| {
            let spec = json!({ "spec": { "containers": [{ "name": "c", "resources": {
                "limits": { "nvidia.com/gpu": "1" }, "requests": { "nvidia.com/gpu": "1" } } }] } });
            pod_with(&format!("p{at}"), 100, None, spec)
        };
        (0..5).map(of).collect::<Vec<_>>()
    };
    for (most, expected) in [(9, &["{g 1->5 (max: 9)}"][..]), (3, &["{g 1->3 (max: 9)}"]), (1, &[])]
    {
        let seen = world(vec![with_gpus("there", 1)], vec![with_one.clone()], pods());
        let mut options = Options::default();
        options.gpus.insert("t4".to_owned(), Limits { min: 0, max: most });
        let plan = planned(&seen, &options);
        assert_eq!(sizes(&plan), expected, "{most}");
        if expected.is_empty() {
            let reasons = &plan.helpless[0].reasons["g"];
            assert_eq!(reasons, &["max cluster t4 limit reached"]);
        }
    }
}

#[test]
fn pods_that_fit_on_nodes_there_or_coming_need_no_others() {
    let mut coming = group("a", (0, 9), &["n1"]);
    coming.target = 2;
    let pods = vec![pod("p1", 1500, None), pod("p2", 1500, None)];
    let plan = planned(&world(vec![node("n1")], vec![coming], pods), &Options::default());
    assert_eq!(sizes(&plan), [""; 0]);
    assert!(plan.helpless.is_empty());
}

#[test]
fn what_no_group_can_help_is_told_with_every_groups_reason() {
    let full = group("full", (0, 0), &[]);
    let small = group("small", (0, 9), &[]);
    let mut other = group("other", (0, 9), &[]);
    other.blueprint = Some(sized("x", "8", "8Gi", &json!({ "team": "b" })).into());
    let parts = json!({ "spec": { "nodeSelector": { "team": "a" } } });
    let choosy = pod_with("choosy", 4000, None, parts);
    let plan = planned(&world(vec![], vec![full, small, other], vec![choosy]), &Options::default());
    assert_eq!(sizes(&plan), [""; 0]);
    assert_eq!(
        plan.helpless[0].message(),
        "pod didn't trigger scale-up: 1 max node group size reached, 2 node(s) didn't match Pod's \
         node affinity/selector"
    );
    let large = world(vec![], vec![group("small", (0, 9), &[])], vec![pod("large", 4000, None)]);
    let message = planned(&large, &Options::default()).helpless[0].message();
    assert_eq!(message, "pod didn't trigger scale-up: 1 Insufficient cpu");
}

#[test]
fn a_group_that_failed_is_passed_over_with_its_reason() {
    let seen = world(vec![], vec![group("a", (0, 9), &[])], vec![pod("p", 100, None)]);
    let (options, mut registry) = (Options::default(), Registry::default());
    registry.observe(&seen, &options, at(0));
    registry.failed("a", crate::registry::Problem::new("x", "y"), &options, at(0));
    let plan = planned_with(&seen, &registry, &options);
    let message = plan.helpless[0].message();
    assert_eq!(message, "pod didn't trigger scale-up: 1 in backoff after failed scale-up");
}

#[test]
fn the_clusters_limits_hold() {
    let pods: Vec<_> = (0..9).map(|at| pod(&format!("p{at}"), 1500, None)).collect();
    let seen = world(vec![node("n0")], vec![group("a", (0, 99), &["n0"])], pods);
    let nodes = Options { max_nodes_total: 4, ..Options::default() };
    assert_eq!(sizes(&planned(&seen, &nodes)), ["{a 1->4 (max: 99)}"]);
    let nodes = Options { max_nodes_total: 1, ..Options::default() };
    let message = planned(&seen, &nodes).helpless[0].message();
    assert_eq!(message, "pod didn't trigger scale-up: max total nodes in cluster reached");
    let cores = Options { cores: Limits { min: 0, max: 7 }, ..Options::default() };
    assert_eq!(sizes(&planned(&seen, &cores)), ["{a 1->3 (max: 99)}"]);
    let memory = Options { memory: Limits { min: 0, max: 9 << 30 }, ..Options::default() };
    let message = planned(&seen, &memory).helpless[0].message();
    assert_eq!(message, "pod didn't trigger scale-up: 1 max cluster memory limit reached");
}

#[test]
fn similar_groups_share_when_asked_to() {
    let zone = |zone: &str| sized("x", "2", "8Gi", &json!({ "topology.kubernetes.io/zone": zone }));
    let of = |name: &str, place: &str, size: i64| {
        let mut it = group(name, (0, 5), &[]);
        it.blueprint = Some(zone(place).into());
        it.target = size;
        it
    };
    let mut odd = group("odd", (0, 5), &[]);
    odd.blueprint = Some(sized("x", "4", "8Gi", &json!({})).into());
    let pods = (0..4).map(|at| pod(&format!("p{at}"), 1900, None)).collect();
    let seen = world(vec![], vec![of("a", "za", 0), of("b", "zb", 0), of("c", "zc", 0), odd], pods);
    let options = Options {
        balance_similar: true,
        expanders: vec![crate::Expander::LeastWaste],
        ..Options::default()
    };
    assert_eq!(
        sizes(&planned(&seen, &options)),
        ["{a 0->2 (max: 5)}", "{b 0->1 (max: 5)}", "{c 0->1 (max: 5)}"]
    );
}

#[test]
fn pods_that_must_not_meet_get_a_node_each() {
    let parts = json!({ "spec": { "affinity": { "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } },
        }],
    } } } });
    let pods = (0..3).map(|at| pod_with(&format!("p{at}"), 100, None, parts.clone())).collect();
    let plan = planned(&world(vec![], vec![group("a", (0, 9), &[])], pods), &Options::default());
    assert_eq!(sizes(&plan), ["{a 0->3 (max: 9)}"]);
}

#[test]
fn daemon_sets_take_their_room_of_a_node_that_does_not_exist_yet() {
    let set = json!({
        "metadata": { "name": "agent", "namespace": "kube-system", "uid": "agent" },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": { "containers": [{
                    "name": "c", "resources": { "requests": { "cpu": "500m" } },
                }] },
            },
        },
    });
    let mut seen = world(vec![], vec![group("a", (0, 9), &[])], vec![pod("p", 1800, None)]);
    assert_eq!(sizes(&planned(&seen, &Options::default())), ["{a 0->1 (max: 9)}"]);
    seen.daemon_sets.push(std::sync::Arc::new(serde_json::from_value(set).unwrap()));
    let message = planned(&seen, &Options::default()).helpless[0].message();
    assert_eq!(message, "pod didn't trigger scale-up: 1 Insufficient cpu");
}

mod random {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn worlds()(
            groups in prop::collection::vec((0_i64..4, 0_i64..6, 1_u32..9), 1..5),
            pods in prop::collection::vec(100_u32..9000, 0..40),
            total in 0_i64..12,
            cores in 1_i64..60,
            balances in any::<bool>(),
            expander in 0_usize..4,
            lot in any::<u64>(),
        ) -> (World, Options, u64) {
            let groups = groups.into_iter().enumerate().map(|(at, (target, more, cpu))| {
                let mut it = group(&format!("g{at}"), (0, target + more), &[]);
                it.target = target;
                it.blueprint = Some(sized("x", &cpu.to_string(), "32Gi", &json!({})).into());
                it
            });
            let groups = groups.collect();
            let pods = pods.iter().enumerate().map(|(at, cpu)| pod(&format!("p{at}"), *cpu, None));
            let pods = pods.collect();
            use crate::Expander::{LeastNodes, LeastWaste, MostPods, Random};
            let options = Options {
                max_nodes_total: total,
                cores: Limits { min: 0, max: cores },
                balance_similar: balances,
                expanders: vec![[Random, MostPods, LeastWaste, LeastNodes][expander]],
                ..Options::default()
            };
            (world(vec![], groups, pods), options, lot)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Passes one after another come to an end, and nothing ever exceeds a limit.
        #[test]
        fn passes_end_and_keep_every_limit((mut seen, options, lot) in worlds()) {
            let mut registry = Registry::default();
            let mut lot = lot;
            for pass in 0.. {
                prop_assert!(pass < 200, "it does not end");
                registry.observe(&seen, &options, at(0));
                let templates = snapshot::templates(&seen, &options);
                let mut cluster = snapshot::of(&seen, &templates, &registry.upcoming(&seen));
                let rest = snapshot::place(&mut cluster, seen.pending.clone());
                let question = Question {
                    world: &seen, registry: &registry, options: &options, priorities: None,
                    templates: &templates, cluster: &cluster, now: at(0), lot,
                };
                let plan = plan(question, &rest);
                let before = Totals::of(&seen, &templates, &registry);
                lot = lot.rotate_left(7);
                if plan.increases.is_empty() {
                    break;
                }
                for increase in &plan.increases {
                    let group = seen.groups.iter_mut().find(|it| it.name == increase.group).unwrap();
                    prop_assert!(increase.to > increase.from && increase.to <= group.max);
                    prop_assert_eq!(increase.from, group.target);
                    group.target = increase.to;
                }
                let after = Totals::of(&seen, &templates, &registry);
                prop_assert!(after.nodes > before.nodes);
                prop_assert!(options.max_nodes_total == 0 || after.nodes <= options.max_nodes_total);
                prop_assert!(after.cores <= options.cores.max.max(before.cores));
            }
        }
    }
}
