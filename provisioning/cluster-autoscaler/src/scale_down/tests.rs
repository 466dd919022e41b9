//! Which nodes are not needed, and which may go.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    options::Limits,
    testing::{at, budget, group, node, pod, pod_with, with_gpus, world},
    world::Controllers,
};

const MINUTE: i64 = 60;

/// Passes at these seconds, each with the memory of the one before; the last one's plan.
fn passes(world: &World, options: &Options, seconds: &[i64]) -> ScaleDown {
    let mut memory = Memory::default();
    let mut last = ScaleDown::default();
    for second in seconds {
        last = plan(Question { world, memory: &memory, options, now: at(*second) });
        memory.unneeded.clone_from(&last.unneeded);
        memory.rechecks.clone_from(&last.rechecks);
    }
    last
}

fn removed(plan: &ScaleDown) -> Vec<&str> {
    plan.removals.iter().map(|it| it.node.as_str()).collect()
}

fn two_nodes(pods: Vec<PodFact>) -> World {
    world(vec![node("a"), node("b")], vec![group("g", (0, 9), &["a", "b"])], pods)
}

#[test]
fn a_node_goes_when_it_was_unneeded_for_long_enough() {
    let seen = two_nodes(vec![pod("p", 1500, Some("b"))]);
    let options = Options::default();
    let first = passes(&seen, &options, &[0]);
    assert_eq!(first.unneeded.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(first.unremovable["a"], Unremovable::NotUnneededLongEnough);
    assert_eq!(first.unremovable["b"], Unremovable::NotUnderutilized);
    assert!(removed(&passes(&seen, &options, &[0, 10 * MINUTE - 1])).is_empty());
    assert_eq!(removed(&passes(&seen, &options, &[0, 10 * MINUTE])), ["a"]);
}

#[test]
fn pods_must_find_another_place_together() {
    // Each alone would fit on the other's node, both are below the threshold.
    let seen = two_nodes(vec![pod("p", 900, Some("a")), pod("q", 900, Some("b"))]);
    let plan = passes(&seen, &Options::default(), &[0, 10 * MINUTE]);
    assert_eq!(plan.removals.len(), 1);
    assert_eq!(plan.removals[0].pods.len(), 1);
    assert_eq!(plan.removals[0].reason(), "underutilized");
    let full = vec![pod("p", 900, Some("a")), pod("q", 1900, Some("b"))];
    let plan = passes(&two_nodes(full), &Options::default(), &[0]);
    assert_eq!(
        plan.unremovable["a"],
        Unremovable::NoPlaceToMovePods { pod: "default/p".to_owned() }
    );
}

#[test]
fn pending_pods_need_their_room_first() {
    let pods = vec![pod("p", 900, Some("a")), pod("q", 1900, Some("b")), pod("new", 900, None)];
    let plan = passes(&two_nodes(pods), &Options::default(), &[0, 10 * MINUTE]);
    assert!(plan.unneeded.is_empty());
}

#[test]
fn groups_keep_their_least_size_and_the_cluster_its_least_cores() {
    let mut seen = two_nodes(vec![]);
    seen.groups[0].min = 1;
    let plan = passes(&seen, &Options::default(), &[0, 10 * MINUTE]);
    assert_eq!(removed(&plan).len(), 1);
    assert!(plan.unremovable.values().any(|it| *it == Unremovable::NodeGroupMinSizeReached));
    seen.groups[0].min = 0;
    let mut options = Options::default();
    options.cores.min = 2;
    assert_eq!(removed(&passes(&seen, &options, &[0, 10 * MINUTE])).len(), 1);
}

#[test]
fn annotations_groups_and_taints_keep_nodes() {
    let mut kept = node("a");
    kept.metadata.annotations = Some([(DISABLED.to_owned(), "true".to_owned())].into());
    let going =
        serde_json::from_value(json!({ "key": node::TO_BE_DELETED, "effect": "NoSchedule" }));
    let mut leaving = node("b");
    leaving.spec.as_mut().unwrap().taints = Some(vec![going.unwrap()]);
    let nodes = vec![kept, leaving, node("foreign")];
    let seen = world(nodes, vec![group("g", (0, 9), &["a", "b"])], vec![]);
    let plan = passes(&seen, &Options::default(), &[0, 10 * MINUTE]);
    assert!(plan.removals.is_empty());
    assert_eq!(plan.unremovable["a"], Unremovable::ScaleDownDisabledAnnotation);
    assert_eq!(plan.unremovable["b"], Unremovable::CurrentlyBeingDeleted);
    assert_eq!(plan.unremovable["foreign"], Unremovable::NotAutoscaled);
}

#[test]
fn some_pods_keep_their_node() {
    let annotated = |key: &str, value: &str| {
        let key = format!("cluster-autoscaler.kubernetes.io/{key}");
        json!({ "metadata": { "annotations": { key: value } } })
    };
    let volume = json!({ "volumes": [{ "name": "v", "emptyDir": {} }] });
    let with_volume = json!({ "spec": volume });
    let mut safe_volume = annotated("safe-to-evict-local-volumes", "v");
    safe_volume["spec"] = volume;
    let system = json!({ "metadata": {
        "namespace": "kube-system", "creationTimestamp": at(0).to_string(),
    } });
    let bare = json!({ "metadata": { "ownerReferences": null } });
    let mut safe_bare = annotated("safe-to-evict", "true");
    safe_bare["metadata"]["ownerReferences"] = json!(null);
    let custom = json!({ "metadata": { "ownerReferences": [{
        "apiVersion": "x/v1", "kind": "Own", "name": "o", "uid": "o", "controller": true,
    }] } });
    for (parts, expected) in [
        (json!({}), None),
        (bare, Some(Blocked::NotReplicated)),
        (custom, Some(Blocked::NotReplicated)),
        (safe_bare, None),
        (annotated("safe-to-evict", "false"), Some(Blocked::NotSafeToEvictAnnotation)),
        (with_volume, Some(Blocked::LocalStorageRequested)),
        (safe_volume, None),
        (system, Some(Blocked::UnmovableKubeSystemPod)),
    ] {
        let seen = two_nodes(vec![
            pod_with("p", 100, Some("a"), parts.clone()),
            pod("q", 1500, Some("b")),
        ]);
        let plan = passes(&seen, &Options::default(), &[0]);
        let by = match plan.unremovable.get("a") {
            Some(Unremovable::BlockedByPod { by, .. }) => Some(*by),
            Some(Unremovable::NotUnneededLongEnough) => None,
            other => panic!("{parts}: {other:?}"),
        };
        assert_eq!(by, expected, "{parts}");
    }
}

#[test]
fn a_cluster_keeps_as_many_gpus_as_it_is_to_have() {
    for (least, expected) in [(0, 2), (1, 1), (2, 0)] {
        let nodes = vec![with_gpus("a", 1), with_gpus("b", 1)];
        let seen = world(nodes, vec![group("g", (0, 9), &["a", "b"])], Vec::new());
        let mut options = Options::default();
        options.gpus.insert("t4".to_owned(), Limits { min: least, max: 9 });
        let plan = passes(&seen, &options, &[0, 600]);
        assert_eq!(plan.removals.len(), expected, "{least}");
    }
}

#[test]
fn a_pod_that_nobody_would_make_again_keeps_its_node() {
    let of = |kind: &str| {
        json!({ "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": kind,
            "name": "o", "uid": "o", "controller": true }],
            "annotations": { "cluster-autoscaler.kubernetes.io/safe-to-evict": "true" } } })
    };
    let known = |kind: &'static str, replicas: Option<i32>| -> Option<Controllers> {
        Some([((kind, "default".to_owned(), "o".to_owned()), replicas)].into())
    };
    let (lost, few) = (Some(Blocked::ControllerNotFound), Some(Blocked::MinReplicasReached));
    for (kind, controllers, expected) in [
        ("ReplicaSet", None, None),
        ("ReplicaSet", known("ReplicaSet", Some(2)), None),
        ("ReplicaSet", known("ReplicaSet", Some(1)), few),
        ("ReplicaSet", known("StatefulSet", Some(2)), lost),
        ("StatefulSet", known("StatefulSet", Some(0)), few),
        ("ReplicationController", known("Job", None), lost),
        ("Job", known("Job", None), None),
        ("DaemonSet", known("DaemonSet", None), None),
        ("DaemonSet", known("Job", None), lost),
    ] {
        let mut seen = two_nodes(vec![
            pod_with("p", 100, Some("a"), of(kind)),
            pod_with("q", 1500, Some("b"), json!({ "metadata": { "ownerReferences": null } })),
        ]);
        seen.controllers = controllers.clone();
        let mut options = Options::default();
        options.drain.min_replicas = 2;
        let plan = passes(&seen, &options, &[0]);
        let by = match plan.unremovable.get("a") {
            Some(Unremovable::BlockedByPod { by, .. }) => Some(*by),
            Some(Unremovable::NotUnneededLongEnough) => None,
            other => panic!("{kind} {controllers:?}: {other:?}"),
        };
        assert_eq!(by, expected, "{kind} {controllers:?}");
        // Where any controller will do, nobody asks for it.
        options.drain.skip_custom_controllers = false;
        let plan = passes(&seen, &options, &[0]);
        assert_eq!(plan.unremovable.get("a"), Some(&Unremovable::NotUnneededLongEnough), "{kind}");
    }
}

#[test]
fn budgets_hold_over_all_nodes_that_go_together() {
    let labels = json!({ "app": "web" });
    let nodes = vec![node("a"), node("b"), node("c")];
    let pods = vec![pod("p", 100, Some("a")), pod("q", 100, Some("b"))];
    let mut seen = world(nodes, vec![group("g", (0, 9), &["a", "b", "c"])], pods);
    let mut options = Options::default();
    options.scale_down.max_drain_parallelism = 5;
    seen.budgets = vec![budget(&labels, 1)];
    let plan = passes(&seen, &options, &[0, 10 * MINUTE]);
    let drained = plan.removals.iter().filter(|it| it.is_drain()).count();
    assert_eq!(drained, 1, "{plan:?}");
    seen.budgets = vec![budget(&labels, 0)];
    let plan = passes(&seen, &options, &[0, 10 * MINUTE]);
    assert_eq!(removed(&plan), ["c"]);
}

#[test]
fn after_changes_nothing_goes_for_a_while() {
    let seen = two_nodes(vec![]);
    let (mut options, mut memory) = (Options::default(), Memory::default());
    memory.unneeded = [("a".to_owned(), at(0)), ("b".to_owned(), at(0))].into();
    memory.last_add.note("g", at(10 * MINUTE));
    let ask = |options: &Options, memory: &Memory, minute: i64| {
        plan(Question { world: &seen, memory, options, now: at(minute * MINUTE) })
    };
    assert!(ask(&options, &memory, 19).is_cooling);
    assert_eq!(removed(&ask(&options, &memory, 20)).len(), 2);
    memory.last_failure.note("g", at(20 * MINUTE));
    assert!(ask(&options, &memory, 22).is_cooling);
    options.scale_down.delay_after_failure = Duration::ZERO;
    assert!(!ask(&options, &memory, 22).is_cooling);
    options.scale_down.is_delay_local = true;
    let plan = ask(&options, &memory, 19);
    assert_eq!(plan.unremovable["a"], Unremovable::InCooldown);
}

#[test]
fn an_unready_node_waits_for_longer() {
    let mut unready = node("a");
    let condition = &mut unready.status.as_mut().unwrap().conditions.as_mut().unwrap()[0];
    condition.status = "False".to_owned();
    let seen = world(
        vec![unready, node("b")],
        vec![group("g", (0, 9), &["a", "b"])],
        vec![pod("p", 1500, Some("b"))],
    );
    let options = Options::default();
    let plan = passes(&seen, &options, &[0, 19 * MINUTE]);
    assert_eq!(plan.unremovable["a"], Unremovable::NotUnreadyLongEnough);
    assert_eq!(removed(&passes(&seen, &options, &[0, 20 * MINUTE])), ["a"]);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn worlds()(
            min in 0_i64..4,
            nodes in 1_usize..8,
            pods in prop::collection::vec((0_usize..8, 50_u32..1200), 0..24),
            allowed in prop::option::of(0_i32..4),
            drains in 1_usize..4,
            parallel in 1_usize..6,
        ) -> (World, Options) {
            let names: Vec<String> = (0..nodes).map(|at| format!("n{at}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut left = vec![2000_u32; nodes];
            let pods = pods.into_iter().enumerate().filter_map(|(at, (on, cpu))| {
                let room = left.get_mut(on).filter(|it| **it >= cpu)?;
                *room -= cpu;
                Some(pod(&format!("p{at}"), cpu, Some(names[on])))
            });
            let pods = pods.collect();
            let seen = names.iter().map(|it| node(it)).collect();
            let mut seen = world(seen, vec![group("g", (min, 9), &names)], pods);
            seen.budgets.extend(allowed.map(|it| budget(&json!({ "app": "web" }), it)));
            let mut options = Options::default();
            options.scale_down.max_drain_parallelism = drains;
            options.scale_down.max_parallelism = parallel;
            (seen, options)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever goes leaves enough nodes, room for every pod, and no budget overdrawn.
        #[test]
        fn what_goes_never_hurts((seen, options) in worlds()) {
            let plan = passes(&seen, &options, &[0, 10 * MINUTE]);
            let gone: Vec<&str> = removed(&plan);
            let left = seen.nodes.len() - gone.len();
            prop_assert!(gone.is_empty() || i64::try_from(left).unwrap() >= seen.groups[0].min);
            prop_assert!(gone.len() <= options.scale_down.max_parallelism);
            let drains = plan.removals.iter().filter(|it| it.is_drain()).count();
            prop_assert!(drains <= options.scale_down.max_drain_parallelism);
            let moved: Vec<_> = plan.removals.iter().flat_map(|it| &it.pods).collect();
            let on_gone = seen.placed.iter().filter(|it| gone.contains(&it.node().unwrap()));
            prop_assert_eq!(moved.len(), on_gone.count(), "every pod of them is to be evicted");
            for budget in &seen.budgets {
                let allowed = budget.status.as_ref().unwrap().disruptions_allowed.unwrap_or(0);
                prop_assert!(moved.len() <= usize::try_from(allowed).unwrap());
            }
            // An independent count: together they fit, as the sum of what is free must allow.
            let wanted: i64 = seen.placed.iter().map(|it| it.info.requests.cpu_millis).sum();
            prop_assert!(wanted <= 2000 * i64::try_from(left).unwrap());
        }
    }
}
