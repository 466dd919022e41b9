//! The definition of NodePools.

use serde_json::{Value, json};

use crate::karpenter::{
    GROUP, VERSION,
    schema::{
        self, DURATION, Kind, NILLABLE, Whose, amounts, column, conditions, list, number, object,
        one_of, pool_labels, requirements, rules, taints, text, texts, with,
    },
};

pub(super) fn definition() -> Value {
    let columns = json!([
        column("NodeClass", "string", ".spec.template.spec.nodeClassRef.name", false),
        column("Nodes", "string", ".status.nodes", false),
        column("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, false),
        column("Age", "date", ".metadata.creationTimestamp", false),
        column("Weight", "integer", ".spec.weight", true),
        column("CPU", "string", ".status.resources.cpu", true),
        column("Memory", "string", ".status.resources.memory", true),
    ]);
    let kind = Kind {
        group: GROUP,
        version: VERSION,
        kind: "NodePool",
        plural: "nodepools",
        short: &[],
        description: "Which nodes may be made for pending pods, and when they go.",
        columns,
        subresources: json!({ "status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.nodes" } }),
    };
    schema::definition(&kind, &spec(), &status(), true)
}

fn spec() -> Value {
    let spec = object(
        "What is wanted",
        &["template"],
        json!({
            "disruption": disruption(),
            "limits": amounts("How much of each resource, and how many nodes, the pool may have"),
            "replicas": number("So many nodes, whatever pods there are", 0, None, "int64"),
            "template": template(),
            "weight": number("The higher goes first", 1, Some(100), "int32"),
        }),
    );
    let wanted = [
        (
            "has(self.replicas) == has(oldSelf.replicas)",
            "Cannot transition NodePool between static (replicas set) and dynamic (replicas unset) \
             provisioning modes",
        ),
        (
            "!has(self.replicas) || (!has(self.limits) || self.limits.size() == 0 || \
             self.limits.all(k, k == 'nodes'))",
            "only 'limits.nodes' is supported on static NodePools",
        ),
        (
            "!has(self.replicas) || !has(self.weight)",
            "'weight' is not supported on static NodePools",
        ),
    ];
    with(spec, &rules(&wanted))
}

fn disruption() -> Value {
    let pattern = r"^(@(annually|yearly|monthly|weekly|daily|midnight|hourly))|((.+)\s(.+)\s(.+)\s(.+)\s(.+))$";
    let budget = object(
        "How many nodes may go at a time",
        &["nodes"],
        json!({
            "duration": with(text("For how long from each hit of the schedule"),
                &json!({ "pattern": "^((([0-9]+(h|m))|([0-9]+h[0-9]+m))(0s)?)$" })),
            "nodes": with(text("A number, or a percentage of the pool's nodes (rounded up)"),
                &json!({ "default": "10%", "pattern": "^((100|[0-9]{1,2})%|[0-9]+)$" })),
            "reasons": list("For which reasons; none named: for all", Some(50),
                one_of("A reason", &["Underutilized", "Empty", "Drifted"])),
            "schedule": with(text("When it is active: cron, in UTC"), &json!({ "pattern": pattern })),
        }),
    );
    let both = [(
        "self.all(x, has(x.schedule) == has(x.duration))",
        "'schedule' must be set with 'duration'",
    )];
    let budgets = with(list("All that are active hold", Some(50), budget), &rules(&both));
    let value = object(
        "When nodes go that nobody deletes",
        &[],
        json!({
            "budgets": with(budgets, &json!({ "default": [{ "nodes": "10%" }] })),
            "consolidateAfter": with(text("How long a node has to be without a change of its pods"),
                &json!({ "default": "0s", "pattern": NILLABLE })),
            "consolidationPolicy": with(one_of("Which nodes may be consolidated",
                &["WhenEmpty", "WhenEmptyOrUnderutilized", "Balanced"]),
                &json!({ "default": "WhenEmptyOrUnderutilized" })),
        }),
    );
    with(value, &json!({ "default": { "consolidateAfter": "0s" } }))
}

fn template() -> Value {
    let metadata = object(
        "What each node gets",
        &[],
        json!({
            "annotations": texts("Annotations of its NodeClaim and Node"),
            "labels": pool_labels(),
        }),
    );
    let spec = object(
        "The NodeClaim",
        &["nodeClassRef", "requirements"],
        json!({
            "expireAfter": with(text("After how long a node is replaced"),
                &json!({ "default": "720h", "pattern": NILLABLE })),
            "nodeClassRef": node_class_ref(true),
            "requirements": requirements("What the node's labels have to be", Whose::Pool),
            "startupTaints": taints("Taints that something else takes away once the node is set up"),
            "taints": taints("Taints of the node"),
            "terminationGracePeriod": with(text("How long the node's pods may take to leave"),
                &json!({ "pattern": DURATION })),
        }),
    );
    object("What nodes are made from", &["spec"], json!({ "metadata": metadata, "spec": spec }))
}

/// Which class of nodes; its group and kind are there for good in a NodePool.
pub(super) fn node_class_ref(is_of_pool: bool) -> Value {
    let field = |what: &str, name: &str| {
        with(text(what), &rules(&[("self != ''", &format!("{name} may not be empty"))]))
    };
    let properties = json!({
        "group": with(field("Its API group", "group"), &json!({ "pattern": "^[^/]*$" })),
        "kind": field("Its kind", "kind"),
        "name": field("Its name", "name"),
    });
    let value = object("The class of the node", &["group", "kind", "name"], properties);
    if !is_of_pool {
        return value;
    }
    let same = [
        ("self.group == oldSelf.group", "nodeClassRef.group is immutable"),
        ("self.kind == oldSelf.kind", "nodeClassRef.kind is immutable"),
    ];
    with(value, &rules(&same))
}

fn status() -> Value {
    object(
        "What is",
        &[],
        json!({
            "conditions": conditions(),
            "nodeClassObservedGeneration":
                number("The generation of the class that was last seen", 0, None, "int64"),
            "nodes": with(number("How many there are", 0, None, "int64"), &json!({ "default": 0 })),
            "resources": amounts("What they have together"),
        }),
    )
}
