//! The definition of NodeOverlays.

use serde_json::{Value, json};

use crate::karpenter::{
    ALPHA, GROUP,
    schema::{
        self, Kind, Whose, amounts, column, conditions, number, object, requirements, rules, text,
        with,
    },
};

/// An amount or a percentage with its sign; nothing can become cheaper by more than all of it.
const ADJUSTMENT: &str =
    r"^(([+-]{1}(\d*\.?\d+))|(\+{1}\d*\.?\d+%)|(^(-\d{1,2}(\.\d+)?%)$)|(-100%))$";

pub(super) fn definition() -> Value {
    let columns = json!([
        column("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, false),
        column("Age", "date", ".metadata.creationTimestamp", false),
        column("Weight", "integer", ".spec.weight", true),
    ]);
    let kind = Kind {
        group: GROUP,
        version: ALPHA,
        kind: "NodeOverlay",
        plural: "nodeoverlays",
        short: &["overlays"],
        description: "Other prices and more resources of instance types than their cloud tells.",
        columns,
        subresources: json!({ "status": {} }),
    };
    schema::definition(&kind, &spec(), &status(), true)
}

fn spec() -> Value {
    let no_own = [(
        "self.all(x, !(x in ['cpu', 'memory', 'ephemeral-storage', 'pods']))",
        "invalid resource restricted",
    )];
    let spec = object(
        "What is other than the cloud says",
        &["requirements"],
        json!({
            "capacity": with(amounts("Extended resources that the types have besides"),
                &rules(&no_own)),
            "price": with(text("US dollars per hour, instead of the cloud's"),
                &json!({ "pattern": r"^\d+(\.\d+)?$" })),
            "priceAdjustment": with(text("What is added to the cloud's price"),
                &json!({ "pattern": ADJUSTMENT })),
            "requirements": requirements("Which types and offerings", Whose::Overlay),
            "weight": number("The higher goes before", 1, Some(10_000), "int32"),
        }),
    );
    let one = [(
        "!has(self.price) || !has(self.priceAdjustment)",
        "cannot set both 'price' and 'priceAdjustment'",
    )];
    with(spec, &rules(&one))
}

fn status() -> Value {
    object("What is", &[], json!({ "conditions": conditions() }))
}
