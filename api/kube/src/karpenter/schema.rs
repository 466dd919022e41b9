//! Pieces of OpenAPI schemas that several kinds share.

use serde_json::{Value, json};

/// A name with an optional domain before it, as labels and taints have.
const QUALIFIED: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$";
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// As upstream's definitions have it for what is a `resource.Quantity`.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
const DOMAIN_RESTRICTED: &str = r#"label domain "karpenter.sh" is restricted"#;
const POOL_RESTRICTED: &str = r#"label "karpenter.sh/nodepool" is restricted"#;
const HOSTNAME_RESTRICTED: &str = r#"label "kubernetes.io/hostname" is restricted"#;
pub(super) const NILLABLE: &str = "^(([0-9]+(s|m|h))+|Never)$";
pub(super) const DURATION: &str = "^([0-9]+(s|m|h))+$";

pub(super) fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

/// `value` with more keys.
pub(super) fn with(mut value: Value, more: &Value) -> Value {
    for (key, it) in more.as_object().into_iter().flatten() {
        value[key] = it.clone();
    }
    value
}

pub(super) fn number(description: &str, least: i64, most: Option<i64>, format: &str) -> Value {
    let mut value = json!({ "type": "integer", "format": format, "minimum": least,
        "description": description });
    if let Some(most) = most {
        value["maximum"] = most.into();
    }
    value
}

pub(super) fn flag(description: &str) -> Value {
    json!({ "type": "boolean", "description": description })
}

pub(super) fn one_of(description: &str, values: &[&str]) -> Value {
    json!({ "type": "string", "enum": values, "description": description })
}

pub(super) fn object(description: &str, required: &[&str], properties: Value) -> Value {
    let mut value =
        json!({ "type": "object", "description": description, "properties": properties });
    if !required.is_empty() {
        value["required"] = json!(required);
    }
    value
}

pub(super) fn list(description: &str, most: Option<u32>, items: Value) -> Value {
    let mut value = json!({ "type": "array", "description": description, "items": items });
    if let Some(most) = most {
        value["maxItems"] = most.into();
    }
    value
}

pub(super) fn texts(description: &str) -> Value {
    json!({ "type": "object", "description": description,
        "additionalProperties": { "type": "string" } })
}

/// A list of resources.
pub(super) fn amounts(description: &str) -> Value {
    json!({ "type": "object", "description": description, "additionalProperties": {
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "pattern": QUANTITY, "x-kubernetes-int-or-string": true } })
}

/// Rules of CEL, each with its message.
pub(super) fn rules(pairs: &[(&str, &str)]) -> Value {
    let rules = pairs.iter().map(|(rule, message)| json!({ "rule": rule, "message": message }));
    json!({ "x-kubernetes-validations": rules.collect::<Vec<_>>() })
}

/// Tags that select: no key without a name, no value without a text.
pub(super) fn tag_selector() -> Value {
    let rule = "self.all(k, k != '' && self[k] != '')";
    let value = texts("Tags that all have to be there; the value * stands for any");
    let value = with(value, &json!({ "maxProperties": 20 }));
    with(value, &rules(&[(rule, "empty tag keys or values aren't supported")]))
}

/// Labels of a pool's nodes: not those that Karpenter or Kubernetes decides.
pub(super) fn pool_labels() -> Value {
    let value = texts("Labels of its NodeClaim and Node");
    let wanted = [
        (
            "self.all(x, x in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool'] || \
             !x.find('^([^/]+)').endsWith('karpenter.sh'))",
            DOMAIN_RESTRICTED,
        ),
        ("self.all(x, x != 'karpenter.sh/nodepool')", POOL_RESTRICTED),
        ("self.all(x, x != 'kubernetes.io/hostname')", HOSTNAME_RESTRICTED),
    ];
    with(with(value, &json!({ "maxProperties": 100 })), &rules(&wanted))
}

pub(super) fn taints(description: &str) -> Value {
    let properties = json!({
        "effect": one_of("What becomes of pods that do not tolerate it",
            &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        "key": with(text("Its key"), &json!({ "minLength": 1, "pattern": QUALIFIED })),
        "timeAdded": { "type": "string", "format": "date-time" },
        "value": with(text("Its value"), &json!({ "pattern": LABEL_VALUE })),
    });
    list(description, None, object("A taint", &["effect", "key"], properties))
}

/// Whose requirements they are: what may be asked for differs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Pool,
    Claim,
    Overlay,
}

/// A label's key that may be required: not one that Karpenter decides itself.
fn requirement_key(whose: Whose) -> Value {
    let mut wanted = vec![
        (
            "self in ['karpenter.sh/capacity-type', 'karpenter.sh/nodepool'] || \
             !self.find('^([^/]+)').endsWith('karpenter.sh')",
            DOMAIN_RESTRICTED,
        ),
        ("self != 'kubernetes.io/hostname'", HOSTNAME_RESTRICTED),
    ];
    if whose == Whose::Pool {
        wanted.push(("self != 'karpenter.sh/nodepool'", POOL_RESTRICTED));
    }
    let key = with(text("A label's key"), &json!({ "maxLength": 316, "pattern": QUALIFIED }));
    with(key, &rules(&wanted))
}

/// Requirements; with `minValues` where they choose types.
pub(super) fn requirements(description: &str, whose: Whose) -> Value {
    let has_min_values = whose != Whose::Overlay;
    let operators = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Gte", "Lte"];
    let mut properties = json!({
        "key": requirement_key(whose),
        "operator": one_of("How the label relates to the values", &operators),
        "values": list("What the operator takes", None,
            json!({ "type": "string", "maxLength": 63, "pattern": LABEL_VALUE })),
    });
    if has_min_values {
        let what = "How many values of the key have to remain possible when a node is launched";
        properties["minValues"] =
            json!({ "type": "integer", "minimum": 1, "maximum": 50, "description": what });
    }
    let mut wanted = vec![
        (
            "self.all(x, x.operator == 'In' ? x.values.size() != 0 : true)",
            "requirements with operator 'In' must have a value defined",
        ),
        (
            "self.all(x, (x.operator in ['Gt', 'Lt', 'Gte', 'Lte']) ? (x.values.size() == 1 && \
             int(x.values[0]) >= 0) : true)",
            "requirements operators that compare must have a single positive integer value",
        ),
    ];
    if has_min_values {
        wanted.push((
            "self.all(x, (x.operator == 'In' && has(x.minValues)) ? x.values.size() >= \
             x.minValues : true)",
            "requirements with 'minValues' must have at least that many values specified in the \
             'values' field",
        ));
    }
    let item = object("A requirement", &["key", "operator"], properties);
    with(list(description, Some(100), item), &rules(&wanted))
}

pub(super) fn conditions() -> Value {
    let properties = json!({
        "lastTransitionTime": { "type": "string", "format": "date-time" },
        "message": { "type": "string", "maxLength": 32768 },
        "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
        "reason": { "type": "string", "maxLength": 1024 },
        "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
        "type": { "type": "string", "maxLength": 316 },
    });
    let required = ["lastTransitionTime", "message", "reason", "status", "type"];
    list("What is known of it", None, object("A condition", &required, properties))
}

/// A printer's column.
pub(super) fn column(name: &str, kind: &str, path: &str, is_wide: bool) -> Value {
    let mut column = json!({ "name": name, "type": kind, "jsonPath": path });
    if is_wide {
        column["priority"] = 1.into();
    }
    column
}

/// What differs from one definition to the next.
pub(super) struct Kind<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
    pub(super) plural: &'a str,
    pub(super) short: &'a [&'a str],
    pub(super) description: &'a str,
    pub(super) columns: Value,
    pub(super) subresources: Value,
}

pub(super) fn definition(of: &Kind, spec: &Value, status: &Value, is_spec_required: bool) -> Value {
    let singular = of.kind.to_lowercase();
    let mut names = json!({ "kind": of.kind, "listKind": format!("{}List", of.kind),
        "plural": of.plural, "singular": singular, "categories": ["karpenter"] });
    if !of.short.is_empty() {
        names["shortNames"] = json!(of.short);
    }
    let mut schema = json!({ "type": "object", "description": of.description, "properties": {
        "apiVersion": { "type": "string" }, "kind": { "type": "string" },
        "metadata": { "type": "object" }, "spec": spec, "status": status } });
    if is_spec_required {
        schema["required"] = json!(["spec"]);
    }
    let version = json!({ "name": of.version, "served": true, "storage": true,
        "schema": { "openAPIV3Schema": schema }, "subresources": of.subresources,
        "additionalPrinterColumns": of.columns });
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{}", of.plural, of.group) },
        "spec": { "group": of.group, "scope": "Cluster", "names": names, "versions": [version] } })
}
