//! The FlowSchemas and PriorityLevelConfigurations that every cluster has.
//!
//! Two pairs are mandatory and stay as they are. The others are suggestions: they come back when
//! they are deleted, and follow this table as long as their annotation says so.
//!
//! Upstream: k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::resources::meta;

/// Whether the server may bring the object back to what the table says.
pub(crate) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

const GROUP: &str = "flowcontrol.apiserver.k8s.io/v1";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| levels().chain(schemas()).collect());

pub(crate) fn bootstrap_objects() -> &'static [Value] {
    &OBJECTS
}

pub(crate) fn is_mandatory(object: &Value) -> bool {
    matches!(meta(object, "name"), "exempt" | "catch-all")
}

/// Whether an object says what the table says. The seats of the exempt level are open to change.
pub(crate) fn has_spec_of(object: &Value, wanted: &Value) -> bool {
    if wanted["spec"]["type"] == "Exempt" {
        return object["spec"]["type"] == "Exempt";
    }
    object["spec"] == wanted["spec"]
}

pub(crate) fn may_be_updated(object: &Value) -> bool {
    is_mandatory(object) || object["metadata"]["annotations"][AUTO_UPDATE] == "true"
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": GROUP, "kind": kind, "spec": spec,
        "metadata": { "name": name, "annotations": { AUTO_UPDATE: "true" } },
    })
}

fn levels() -> impl Iterator<Item = Value> {
    // Name, shares, lendable percent, queues, hand.
    let queued = [
        ("system", 30, 33, 64, 6),
        ("node-high", 40, 25, 64, 6),
        ("leader-election", 10, 0, 16, 4),
        ("workload-high", 40, 50, 128, 6),
        ("workload-low", 100, 90, 128, 6),
        ("global-default", 20, 50, 128, 6),
    ];
    let exempt = json!({
        "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 },
    });
    let catch_all = json!({
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 5, "lendablePercent": 0,
            "limitResponse": { "type": "Reject" },
        },
    });
    let fixed = [("exempt", exempt), ("catch-all", catch_all)];
    let queued = queued.into_iter().map(|(name, shares, lendable, queues, hand)| {
        let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": 50 });
        let spec = json!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": shares, "lendablePercent": lendable,
                "limitResponse": { "type": "Queue", "queuing": queuing },
            },
        });
        (name, spec)
    });
    let all = fixed.into_iter().chain(queued);
    all.map(|(name, spec)| object("PriorityLevelConfiguration", name, spec))
}

fn user(name: &str) -> Value {
    json!({ "kind": "User", "user": { "name": name } })
}

fn group(name: &str) -> Value {
    json!({ "kind": "Group", "group": { "name": name } })
}

/// A service account of `kube-system`.
fn account(name: &str) -> Value {
    json!({
        "kind": "ServiceAccount",
        "serviceAccount": { "namespace": "kube-system", "name": name },
    })
}

/// Namespaced resources, of all namespaces.
fn resources(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({ "verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": ["*"] })
}

fn everything(subjects: Value) -> Value {
    let mut all = resources(&["*"], &["*"], &["*"]);
    all["clusterScope"] = true.into();
    json!([{
        "subjects": subjects, "resourceRules": [all],
        "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
    }])
}

fn election(subjects: Value) -> Value {
    const VERBS: &[&str] = &["get", "create", "update"];
    json!([{
        "subjects": subjects,
        "resourceRules": [
            resources(VERBS, &[""], &["endpoints", "configmaps"]),
            resources(VERBS, &["coordination.k8s.io"], &["leases"]),
        ],
    }])
}

fn schemas() -> impl Iterator<Item = Value> {
    let anyone = || json!([group(UNAUTHENTICATED), group(AUTHENTICATED)]);
    let health = json!([{
        "subjects": anyone(),
        "nonResourceRules": [
            { "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] },
        ],
    }]);
    let endpoints = json!([{
        "subjects": [
            user("system:kube-controller-manager"), account("endpoint-controller"),
            account("endpointslicemirroring-controller"),
        ],
        "resourceRules": [resources(&["get", "create", "update"], &[""], &["endpoints"])],
    }]);
    let mut heartbeat = resources(&["*"], &[""], &["nodes", "nodes/status"]);
    heartbeat["clusterScope"] = true.into();
    let heartbeats = json!([{
        "subjects": [group("system:nodes")],
        "resourceRules": [heartbeat, resources(&["*"], &["coordination.k8s.io"], &["leases"])],
    }]);
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    let leaders = json!([user(manager), user(scheduler), account("*")]);
    let accounts = json!([group("system:serviceaccounts")]);
    // Name, level, precedence, distinguisher, rules.
    let all = [
        ("exempt", "exempt", 1, "", everything(json!([group("system:masters")]))),
        ("probes", "exempt", 2, "", health),
        ("system-leader-election", "leader-election", 100, "ByUser", election(leaders)),
        ("endpoint-controller", "workload-high", 150, "ByUser", endpoints),
        (
            "workload-leader-election",
            "leader-election",
            200,
            "ByUser",
            election(json!([account("*")])),
        ),
        ("system-node-high", "node-high", 400, "ByUser", heartbeats),
        ("system-nodes", "system", 500, "ByUser", everything(json!([group("system:nodes")]))),
        (
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            everything(json!([user(manager)])),
        ),
        (
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            everything(json!([user(scheduler)])),
        ),
        (
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            everything(json!([account("*")])),
        ),
        ("service-accounts", "workload-low", 9000, "ByUser", everything(accounts)),
        ("global-default", "global-default", 9900, "ByUser", everything(anyone())),
        ("catch-all", "catch-all", 10000, "ByUser", everything(anyone())),
    ];
    all.into_iter().map(|(name, level, precedence, method, rules)| {
        let mut spec = json!({
            "priorityLevelConfiguration": { "name": level }, "matchingPrecedence": precedence,
            "rules": rules,
        });
        if !method.is_empty() {
            spec["distinguisherMethod"] = json!({ "type": method });
        }
        object("FlowSchema", name, spec)
    })
}
