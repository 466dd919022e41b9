//! What keeps nodes where they are, and how many go at once.

use super::*;

fn disruption(snapshot: &mut Snapshot, value: Value) {
    snapshot.pools[0].spec.disruption = serde_json::from_value(value).unwrap();
}

/// Nodes that a command takes; none without one.
fn going(snapshot: &Snapshot) -> Vec<String> {
    let found = command(snapshot, Gates::default());
    found.into_iter().flat_map(|it| it.nodes).map(|it| it.name).collect()
}

/// Two nodes, whose pods fit on either of them.
fn two() -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "one", 4, &["1"]);
    add(&mut snapshot, "two", 4, &["1"]);
    snapshot
}

fn mark(metadata: &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, value: &str) {
    let key = api_kube::karpenter::annotations::DO_NOT_DISRUPT.to_owned();
    metadata.annotations = Some([(key, value.to_owned())].into());
}

#[test]
fn what_is_marked_is_left_alone_for_as_long_as_it_says() {
    assert_eq!(going(&two()), ["one", "two"], "one of 2 CPUs will do");
    let mut snapshot = two();
    mark(&mut snapshot.nodes[0].metadata, "true");
    assert_eq!(going(&snapshot), ["two"]);
    let mut snapshot = two();
    mark(&mut snapshot.pods[0].metadata, "true");
    assert_eq!(going(&snapshot), ["two"]);
    let started = |snapshot: &mut Snapshot, at: &str| {
        let status = snapshot.pods[0].status.get_or_insert_default();
        status.start_time = serde_json::from_value(json!(at)).unwrap();
    };
    let mut snapshot = two();
    mark(&mut snapshot.pods[0].metadata, "2h");
    started(&mut snapshot, "2026-01-01T23:00:00Z");
    assert_eq!(going(&snapshot), ["two"]);
    started(&mut snapshot, "2026-01-01T21:00:00Z");
    assert_eq!(going(&snapshot), ["one", "two"]);
}

#[test]
fn a_budget_of_pods_that_allows_no_eviction_keeps_their_node() {
    let mut snapshot = two();
    snapshot.pods[1].metadata.labels = Some([("app".to_owned(), "db".to_owned())].into());
    let budget = |allowed: i32| {
        json!({ "metadata": { "name": "db", "namespace": "x" },
            "spec": { "selector": { "matchLabels": { "app": "db" } } },
            "status": { "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
                "expectedPods": 1 } })
    };
    snapshot.budgets = vec![serde_json::from_value(budget(0)).unwrap()];
    assert_eq!(going(&snapshot), ["one"]);
    snapshot.budgets = vec![serde_json::from_value(budget(1)).unwrap()];
    assert_eq!(going(&snapshot), ["one", "two"]);
}

#[test]
fn a_pod_that_is_not_ready_may_go_where_its_budget_says_so() {
    for (policy, ready, expected) in [
        ("IfHealthyBudget", "False", &["one"][..]),
        ("AlwaysAllow", "True", &["one"]),
        ("AlwaysAllow", "False", &["one", "two"]),
    ] {
        let mut snapshot = two();
        snapshot.pods[1].metadata.labels = Some([("app".to_owned(), "db".to_owned())].into());
        let conditions = json!([{ "type": "Ready", "status": ready }]);
        snapshot.pods[1].status.get_or_insert_default().conditions =
            serde_json::from_value(conditions).unwrap();
        let budget = json!({ "metadata": { "name": "db", "namespace": "x" },
            "spec": { "selector": { "matchLabels": { "app": "db" } },
                "unhealthyPodEvictionPolicy": policy },
            "status": { "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 1,
                "expectedPods": 1 } });
        snapshot.budgets = vec![serde_json::from_value(budget).unwrap()];
        assert_eq!(going(&snapshot), expected, "{policy} {ready}");
    }
}

#[test]
fn a_pool_says_which_of_its_nodes_may_be_consolidated_and_when() {
    for (spec, with_pods, empty) in [
        (json!({ "consolidationPolicy": "WhenEmptyOrUnderutilized" }), 2, 1),
        (json!({ "consolidationPolicy": "WhenEmpty" }), 0, 1),
        (json!({ "consolidateAfter": "48h" }), 0, 0),
        (json!({ "consolidateAfter": "Never" }), 0, 0),
        (json!({ "consolidateAfter": "1h" }), 2, 1),
    ] {
        let mut spec = spec;
        spec["budgets"] = json!([{ "nodes": "100%" }]);
        let mut snapshot = two();
        disruption(&mut snapshot, spec.clone());
        assert_eq!(going(&snapshot).len(), with_pods, "{spec}");
        let mut snapshot = cluster();
        add(&mut snapshot, "empty", 4, &[]);
        disruption(&mut snapshot, spec.clone());
        assert_eq!(going(&snapshot).len(), empty, "{spec}");
    }
}

#[test]
fn a_balanced_pool_lets_nodes_go_for_what_is_worth_it() {
    // The next smaller type costs a little more than half, the one after it a quarter.
    for (policy, cpu, count) in [
        ("WhenEmptyOrUnderutilized", "3500m", 1),
        ("Balanced", "3500m", 0),
        ("Balanced", "1500m", 1),
    ] {
        let mut snapshot = cluster();
        add(&mut snapshot, "one", 8, &[cpu]);
        let budgets = json!([{ "nodes": "100%" }]);
        disruption(&mut snapshot, json!({ "consolidationPolicy": policy, "budgets": budgets }));
        assert_eq!(going(&snapshot).len(), count, "{policy} {cpu}");
    }
}

#[test]
fn no_more_nodes_go_than_the_budgets_for_the_reason_allow() {
    for (budgets, count) in [
        (json!([{ "nodes": "100%" }]), 3),
        (json!([{ "nodes": "1" }]), 1),
        (json!([{ "nodes": "50%" }]), 2),
        (json!([{ "nodes": "0" }]), 0),
        (json!([{ "nodes": "0", "reasons": ["Underutilized", "Drifted"] }]), 3),
        (json!([{ "nodes": "2" }, { "nodes": "1", "reasons": ["Empty"] }]), 1),
        (json!([{ "nodes": "0", "schedule": "@daily", "duration": "1h" }]), 0),
        (json!([{ "nodes": "0", "schedule": "0 12 * * *", "duration": "1h" }]), 3),
    ] {
        let mut snapshot = cluster();
        for name in ["a", "b", "c"] {
            add(&mut snapshot, name, 4, &[]);
        }
        disruption(&mut snapshot, json!({ "budgets": budgets }));
        assert_eq!(going(&snapshot).len(), count, "{budgets}");
    }
    // A node that goes already, and one that is not ready, are of those that are allowed.
    let mut snapshot = cluster();
    for name in ["a", "b", "c"] {
        add(&mut snapshot, name, 4, &[]);
    }
    disruption(&mut snapshot, json!({ "budgets": [{ "nodes": "2" }] }));
    snapshot.nodes[0].status.get_or_insert_default().conditions =
        serde_json::from_value(json!([{ "type": "Ready", "status": "False" }])).unwrap();
    assert_eq!(going(&snapshot).len(), 1);
}

#[test]
fn a_drifted_node_is_replaced_within_its_budget_and_in_spite_of_its_pods_with_a_grace_period() {
    let mut snapshot = cluster();
    add(&mut snapshot, "one", 4, &["3"]);
    let condition = json!([{ "type": "Drifted", "status": "True", "reason": "AMIDrift",
        "message": "", "lastTransitionTime": "2026-01-01T12:00:00Z" }]);
    let claim = json!({ "metadata": { "name": "c" },
        "status": { "nodeName": "one", "conditions": condition } });
    snapshot.claims.push(serde_json::from_value(claim).unwrap());
    let found = command(&snapshot, Gates::default()).unwrap();
    assert_eq!(
        (found.method, found.why.as_str(), found.replacements.len()),
        ("drift", "AMIDrift", 1)
    );
    mark(&mut snapshot.pods[0].metadata, "true");
    assert!(command(&snapshot, Gates::default()).is_none());
    snapshot.pools[0].spec.template.spec.termination_grace_period = Some("1h".parse().unwrap());
    assert_eq!(names(&command(&snapshot, Gates::default()).unwrap()), ["one"]);
    disruption(&mut snapshot, json!({ "budgets": [{ "nodes": "0", "reasons": ["Drifted"] }] }));
    assert!(command(&snapshot, Gates::default()).is_none());
}

#[test]
fn of_two_drifted_nodes_the_one_that_drifted_first_goes_first() {
    let mut snapshot = cluster();
    for (name, since) in [("new", "2026-01-01T12:00:00Z"), ("old", "2026-01-01T06:00:00Z")] {
        add(&mut snapshot, name, 4, &["3"]);
        let condition = json!([{ "type": "Drifted", "status": "True", "reason": "AMIDrift",
            "message": "", "lastTransitionTime": since }]);
        let claim = json!({ "metadata": { "name": name },
            "status": { "nodeName": name, "conditions": condition } });
        snapshot.claims.push(serde_json::from_value(claim).unwrap());
    }
    assert_eq!(names(&command(&snapshot, Gates::default()).unwrap()), ["old"]);
}

/// So many types of Spot, all alike but for their price, the dearest last.
fn spot_types(count: u32) -> Arc<[InstanceType]> {
    let of = types()[1].clone();
    let each = (0..count).map(|at| {
        let name = format!("s.{at}");
        let mut it = of.clone();
        it.labels.insert(labels::INSTANCE_TYPE.to_owned(), name.clone());
        it.name = name.as_str().into();
        it.offerings = vec![Offering::new("a", "spot", 0.1 + f64::from(at) * 0.001)];
        it
    });
    each.collect()
}

#[test]
fn a_spot_node_gives_way_to_spot_behind_its_gate_and_with_fifteen_types_to_choose_from() {
    let decide = |count: u32, is_open: bool| {
        let mut snapshot = cluster();
        add(&mut snapshot, "one", 4, &["1"]);
        let marks = snapshot.nodes[0].metadata.labels.as_mut().unwrap();
        marks.insert(labels::CAPACITY_TYPE.to_owned(), "spot".to_owned());
        marks.insert(labels::INSTANCE_TYPE.to_owned(), format!("s.{}", count - 1));
        let gates = Gates { spot_to_spot_consolidation: is_open, ..Gates::default() };
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        Fleet::new(&snapshot, |_| Some(spot_types(count)), now, gates).next_command()
    };
    assert!(decide(30, false).is_none());
    assert!(decide(15, true).is_none(), "fourteen are cheaper");
    let found = decide(30, true).unwrap();
    assert_eq!(found.replacements[0].types().len(), 15);
}

/// What keeps the first node, after a decision.
fn kept(snapshot: &Snapshot) -> Vec<(KeptBy, String)> {
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut fleet = Fleet::new(snapshot, |_| Some(types()), now, Gates::default());
    drop(fleet.next_command());
    let of_first = fleet.kept.into_iter().filter(|it| it.node == "one");
    of_first.map(|it| (it.by, it.why)).collect()
}

/// One node, which nothing cheaper could take the place of.
fn full() -> Snapshot {
    let mut snapshot = cluster();
    add(&mut snapshot, "one", 2, &["1500m"]);
    snapshot
}

#[test]
fn what_keeps_a_node_is_said_in_upstreams_words() {
    use KeptBy::{Blocked, Unconsolidatable};
    let of = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = full();
        change(&mut snapshot);
        kept(&snapshot)
    };
    let said = |by: KeptBy, why: &str| vec![(by, why.to_owned())];
    let cheaper = said(Unconsolidatable, "Can't replace with a cheaper node");
    assert_eq!(of(&|_| {}), cheaper);
    let nominated = of(&|it| it.nominated = ["one".to_owned()].into());
    assert_eq!(nominated, said(Blocked, "Node is nominated for a pending pod"));
    let marked = of(&|it| mark(&mut it.nodes[0].metadata, "true"));
    let why = "Disruption is blocked through the \"karpenter.sh/do-not-disrupt\" annotation";
    assert_eq!(marked, said(Blocked, why));
    let of_pod = of(&|it| mark(&mut it.pods[0].metadata, "true"));
    let why = "Pod has \"karpenter.sh/do-not-disrupt\" annotation (Pod=x/one-0)";
    assert_eq!(of_pod, said(Blocked, why));
    let never = of(&|it| disruption(it, json!({ "consolidateAfter": "Never" })));
    let why = "NodePool \"default\" has consolidation disabled";
    assert_eq!(never, said(Unconsolidatable, why));
    let empty = of(&|it| disruption(it, json!({ "consolidationPolicy": "WhenEmpty" })));
    let why = "NodePool \"default\" has non-empty consolidation disabled";
    assert_eq!(empty, said(Unconsolidatable, why));
    let without = of(&|it| {
        it.nodes[0].metadata.labels.as_mut().unwrap().remove(labels::ZONE).unwrap();
    });
    let why = "Node does not have label \"topology.kubernetes.io/zone\"";
    assert_eq!(without, said(Unconsolidatable, why));
    // Its pod could be nowhere else.
    let bound = of(&|it| {
        let wanted = json!({ "kubernetes.io/hostname": "one" });
        it.pods[0].spec.as_mut().unwrap().node_selector = serde_json::from_value(wanted).unwrap();
    });
    let [(Unconsolidatable, why)] = bound.as_slice() else { panic!("{bound:?}") };
    assert!(why.starts_with("Not all pods would schedule, x/one-0 => NodePool default: "), "{why}");
    let budgets = |count: usize| {
        let budget = |name: &usize| {
            json!({ "metadata": { "name": format!("b{name}"), "namespace": "x" },
                "spec": { "selector": {} }, "status": { "disruptionsAllowed": 0,
                    "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 } })
        };
        (0..count).map(|at| serde_json::from_value(budget(&at)).unwrap()).collect()
    };
    let one = of(&|it| it.budgets = budgets(1));
    assert_eq!(one, said(Blocked, "Pdb prevents pod evictions (PodDisruptionBudget=x/b0)"));
    let two = of(&|it| it.budgets = budgets(2));
    let why = "Eviction does not support multiple PDBs (PodDisruptionBudget(s)=[x/b0 x/b1])";
    assert_eq!(two, said(Blocked, why));
}

#[test]
fn budgets_that_let_none_go_are_told_for_each_reason() {
    use DisruptionReason::{Drifted, Empty, Underutilized};
    let blocked = |budgets: Value| {
        let mut snapshot = full();
        disruption(&mut snapshot, json!({ "budgets": budgets }));
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let fleet = Fleet::new(&snapshot, |_| Some(types()), now, Gates::default());
        fleet.blocked_pools().into_iter().map(|it| it.1).collect::<Vec<_>>()
    };
    assert_eq!(blocked(json!([{ "nodes": "10%" }])), []);
    assert_eq!(blocked(json!([{ "nodes": "0" }])), [Empty, Drifted, Underutilized]);
    assert_eq!(blocked(json!([{ "nodes": "0", "reasons": ["Drifted"] }])), [Drifted]);
}
