//! The steps of a rollout, and the arithmetic of its bounds.

use serde_json::{Value, json};

use super::*;

fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
    let bound = |it: &str| it.parse::<i32>().map_or_else(|_| json!(it), |it| json!(it));
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "d" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": {
                "maxSurge": bound(surge), "maxUnavailable": bound(unavailable) } },
            "template": template("new"),
        },
    }))
    .unwrap()
}

fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "image": image }] } })
}

/// A ReplicaSet of `image` with so many wanted and available pods.
fn set(image: &str, wanted: i32, available: i32, revision: i64, maximum: i32) -> Arc<ReplicaSet> {
    let annotations = json!({
        revision::REVISION: revision.to_string(),
        revision::MAXIMUM: maximum.to_string(),
    });
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = image.into();
    let value = json!({
        "metadata": { "name": format!("web-{image}"), "namespace": "default", "uid": image,
            "creationTimestamp": format!("2026-01-01T00:00:{revision:02}Z"),
            "annotations": annotations, "generation": 1 },
        "spec": { "replicas": wanted, "selector": {}, "template": template },
        "status": { "replicas": wanted, "availableReplicas": available, "observedGeneration": 1 },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn observed(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Observed {
    Observed::new(Arc::new(deployment.clone()), sets.to_vec(), HashSet::new())
}

fn scales(plan: &Plan) -> Vec<(String, i32)> {
    match plan {
        Plan::Scale(scales) => {
            scales.iter().map(|it| (it.set.metadata.uid.clone().unwrap(), it.to)).collect()
        }
        other => panic!("not a scaling: {other:?}"),
    }
}

#[test]
fn the_first_replica_set_has_all_pods_and_later_ones_begin_with_the_surge() {
    let deployment = deployment(10, "3", "2");
    let Plan::Create(first) = plan(&observed(&deployment, &[])) else { panic!("no set is made") };
    assert_eq!(size(&first), 10);
    assert_eq!(revision::revision_of(&first), 1);
    let name = first.metadata.name.as_deref().unwrap();
    let hash = name.strip_prefix("web-").unwrap();
    let labels = first.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["pod-template-hash"], hash);
    let selector = first.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap();
    assert_eq!((selector["app"].as_str(), selector["pod-template-hash"].as_str()), ("web", hash));

    let old = set("old", 10, 10, 4, 13);
    let Plan::Create(next) = plan(&observed(&deployment, &[old])) else { panic!("no set is made") };
    assert_eq!((size(&next), revision::revision_of(&next)), (3, 5));
}

/// Upstream's own table (`TestDeploymentController_reconcileNewReplicaSet`,
/// `…_reconcileOldReplicaSets`), in our words.
#[test]
fn a_rolling_update_keeps_within_its_bounds() {
    for (what, surge, unavailable, old, new, expected) in [
        ("the new one grows first", "3", "2", (10, 10), (0, 0), vec![("new", 3)]),
        (
            "then the old one shrinks as far as enough serve",
            "3",
            "2",
            (10, 10),
            (3, 0),
            vec![("old", 8)],
        ),
        ("the new one takes the room", "3", "2", (8, 8), (3, 3), vec![("new", 5)]),
        ("nothing moves while the new ones do not serve", "0", "2", (8, 8), (2, 0), vec![]),
        ("what does not serve goes first", "0", "2", (10, 5), (0, 0), vec![("old", 8)]),
        ("the last old one goes", "1", "0", (1, 1), (10, 10), vec![("old", 0)]),
        ("done", "1", "0", (0, 0), (10, 10), vec![]),
    ] {
        let deployment = deployment(10, surge, unavailable);
        let sets = [set("old", old.0, old.1, 1, 13), set("new", new.0, new.1, 2, 13)];
        let step = rolling::step(&observed(&deployment, &sets));
        let actual = step.map_or_else(Vec::new, |it| scales(&it));
        let expected: Vec<_> =
            expected.into_iter().map(|(name, to)| (name.to_owned(), to)).collect();
        assert_eq!(actual, expected, "{what}");
    }
}

#[test]
fn a_rollout_ends_whatever_the_bounds_are() {
    for (surge, unavailable) in [("1", "0"), ("0", "1"), ("25%", "25%"), ("100%", "0"), ("0", "0")]
    {
        let deployment = deployment(7, surge, unavailable);
        let (most, least) = {
            let (surge, unavailable) = bounds(&deployment);
            (7 + surge, 7 - unavailable)
        };
        let (mut old, mut new) = (7, 0);
        for round in 0..50 {
            // Every pod serves as soon as it is made.
            let sets = [set("old", old, old, 1, most), set("new", new, new, 2, most)];
            let Some(step) = rolling::step(&observed(&deployment, &sets)) else { break };
            for (name, to) in scales(&step) {
                *(if name == "old" { &mut old } else { &mut new }) = to;
            }
            assert!(old + new <= most, "{surge}/{unavailable}, round {round}: {old}+{new}");
            assert!(old + new >= least, "{surge}/{unavailable}, round {round}: {old}+{new}");
        }
        assert_eq!((old, new), (0, 7), "{surge}/{unavailable}");
    }
}

#[test]
fn a_change_of_replicas_during_a_rollout_is_shared_in_proportion() {
    let deployment = deployment(20, "0", "2");
    let sets = [set("old", 8, 8, 1, 10), set("new", 2, 2, 2, 10)];
    let plan = rolling::rescale(&observed(&deployment, &sets)).unwrap();
    assert_eq!(scales(&plan), [("old".to_owned(), 16), ("new".to_owned(), 4)]);
    // Upstream's end-to-end test: a rollout that is stuck at 8 and 5, scaled from 10 to 30.
    let stuck = [set("old", 8, 8, 1, 13), set("new", 5, 0, 2, 13)];
    let plan = rolling::rescale(&observed(&self::deployment(30, "3", "2"), &stuck)).unwrap();
    assert_eq!(scales(&plan), [("old".to_owned(), 20), ("new".to_owned(), 13)]);
    let deployment = self::deployment(5, "0", "2");
    let plan = rolling::rescale(&observed(&deployment, &sets)).unwrap();
    assert_eq!(scales(&plan), [("old".to_owned(), 4), ("new".to_owned(), 1)]);
}

#[test]
fn recreate_waits_until_the_last_old_pod_is_gone() {
    let mut deployment = deployment(3, "1", "1");
    deployment.spec.as_mut().unwrap().strategy.as_mut().unwrap().type_ = Some("Recreate".into());
    let old = [set("old", 3, 3, 1, 3)];
    assert_eq!(scales(&plan(&observed(&deployment, &old))), [("old".to_owned(), 0)]);
    let gone = [set("old", 0, 0, 1, 3)];
    let running =
        Observed::new(Arc::new(deployment.clone()), gone.to_vec(), ["old".to_owned()].into());
    assert_eq!(plan(&running), Plan::Nothing);
    assert!(matches!(plan(&observed(&deployment, &gone)), Plan::Create(set) if size(&set) == 3));
}

#[test]
fn a_rollback_gives_the_old_set_a_new_revision_and_remembers_the_old_one() {
    let deployment = deployment(1, "1", "0");
    let sets = [set("new", 0, 0, 1, 1), set("old", 1, 1, 2, 1)];
    let Plan::Renew { set, patch } = plan(&observed(&deployment, &sets)) else {
        panic!("the revision is not renewed")
    };
    assert_eq!(set.metadata.uid.as_deref(), Some("new"));
    let annotations = &patch["metadata"]["annotations"];
    assert_eq!(annotations[revision::REVISION], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn the_seconds_that_a_pod_must_be_ready_are_handed_on_also_while_a_rollout_is_paused() {
    let mut deployment = deployment(1, "1", "0");
    let sets = [set("new", 1, 1, 1, 2)];
    assert_eq!(plan(&observed(&deployment, &sets)), Plan::Nothing);
    let spec = deployment.spec.as_mut().unwrap();
    (spec.min_ready_seconds, spec.paused) = (Some(30), Some(true));
    let Plan::Renew { patch, .. } = plan(&observed(&deployment, &sets)) else {
        panic!("nothing is handed on")
    };
    assert_eq!(patch, json!({ "spec": { "minReadySeconds": 30 } }));
}

#[test]
fn history_is_cut_when_the_rollout_is_done() {
    let mut deployment = deployment(1, "1", "0");
    deployment.spec.as_mut().unwrap().revision_history_limit = Some(1);
    let sets = [set("a", 0, 0, 1, 1), set("b", 0, 0, 2, 1), set("new", 1, 1, 3, 1)];
    let Plan::Clean(cut) = plan(&observed(&deployment, &sets)) else { panic!("nothing is cut") };
    assert_eq!(cut.iter().map(|it| it.metadata.uid.clone().unwrap()).collect::<Vec<_>>(), ["a"]);
    let busy = [set("a", 0, 0, 1, 1), set("b", 0, 0, 2, 1), set("new", 1, 0, 3, 1)];
    assert_eq!(plan(&observed(&deployment, &busy)), Plan::Nothing);
}

#[test]
fn percentages_round_in_favour_of_availability() {
    let five = |text: &str, round| scaled(&IntOrString::String(text.into()), 5, round);
    assert_eq!(five("25%", Round::Up), 2);
    assert_eq!(five("25%", Round::Down), 1);
    assert_eq!(bounds(&deployment(1, "25%", "25%")), (1, 0));
    assert_eq!(bounds(&deployment(3, "0", "0")), (0, 1));
}
