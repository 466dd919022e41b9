//! The definition of NodeClaims.

use serde_json::{Value, json};

use super::node_pool::node_class_ref;
use crate::karpenter::{
    GROUP, VERSION,
    schema::{
        self, DURATION, Kind, NILLABLE, Whose, amounts, column, conditions, object, requirements,
        rules, taints, text, with,
    },
};

pub(super) fn definition() -> Value {
    let label = |name: &str| format!(".metadata.labels.{}", name.replace('.', r"\."));
    let is = |kind: &str| format!(r#".status.conditions[?(@.type=="{kind}")].status"#);
    let columns = json!([
        column("Type", "string", &label("node.kubernetes.io/instance-type"), false),
        column("Capacity", "string", &label("karpenter.sh/capacity-type"), false),
        column("Zone", "string", &label("topology.kubernetes.io/zone"), false),
        column("Node", "string", ".status.nodeName", false),
        column("Ready", "string", &is("Ready"), false),
        column("Age", "date", ".metadata.creationTimestamp", false),
        column("ImageID", "string", ".status.imageID", true),
        column("ID", "string", ".status.providerID", true),
        column("NodePool", "string", &label("karpenter.sh/nodepool"), true),
        column("NodeClass", "string", ".spec.nodeClassRef.name", true),
        column("Drifted", "string", &is("Drifted"), true),
    ]);
    let kind = Kind {
        group: GROUP,
        version: VERSION,
        kind: "NodeClaim",
        plural: "nodeclaims",
        short: &[],
        description: "One node that is asked for, from its launch to its end.",
        columns,
        subresources: json!({ "status": {} }),
    };
    schema::definition(&kind, &spec(), &status(), true)
}

fn spec() -> Value {
    let resources = object(
        "What the node is made for",
        &[],
        json!({
        "requests": amounts("What its pods request, daemons' included") }),
    );
    let spec = object(
        "What is wanted",
        &["nodeClassRef", "requirements"],
        json!({
            "expireAfter": with(text("After how long the node is replaced"),
                &json!({ "default": "720h", "pattern": NILLABLE })),
            "nodeClassRef": node_class_ref(false),
            "requirements": requirements("What the node's labels have to be", Whose::Claim),
            "resources": resources,
            "startupTaints": taints("Taints that something else takes away once the node is set up"),
            "taints": taints("Taints of the node"),
            "terminationGracePeriod": with(text("How long the node's pods may take to leave"),
                &json!({ "pattern": DURATION })),
        }),
    );
    with(spec, &rules(&[("self == oldSelf", "spec is immutable")]))
}

fn status() -> Value {
    object(
        "What is",
        &[],
        json!({
            "allocatable": amounts("What pods may use of the node"),
            "capacity": amounts("What the node has"),
            "conditions": conditions(),
            "imageID": text("The machine image that it runs"),
            "lastPodEventTime": with(text("When a pod last came, went or ended"),
                &json!({ "format": "date-time" })),
            "nodeName": text("The Node's name"),
            "providerID": text("The instance, as the cloud's controllers name it"),
        }),
    )
}
