//! The CustomResourceDefinitions of Karpenter's kinds, as manifests.
//!
//! An API server that evaluates CEL refuses what the rules refuse; the others are told by the
//! condition `ValidationSucceeded` of the object.

mod ec2_node_class;
mod node_claim;
mod node_overlay;
mod node_pool;

use serde_json::Value;

/// All of them, ready to be applied.
pub fn definitions() -> Vec<Value> {
    vec![
        node_pool::definition(),
        node_claim::definition(),
        ec2_node_class::definition(),
        node_overlay::definition(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    use super::*;

    /// Every path of a schema, `[]` for items.
    fn paths(schema: &Value, at: &str, into: &mut BTreeSet<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            paths(property, &path, into);
            into.insert(path);
        }
        if schema["items"].is_object() {
            paths(&schema["items"], &format!("{at}[]"), into);
        }
    }

    #[test]
    fn definitions_are_definitions_with_upstreams_names() {
        let names = [
            "nodepools.karpenter.sh",
            "nodeclaims.karpenter.sh",
            "ec2nodeclasses.karpenter.k8s.aws",
            "nodeoverlays.karpenter.sh",
        ];
        for (wanted, name) in definitions().into_iter().zip(names) {
            let read: CustomResourceDefinition = serde_json::from_value(wanted).unwrap();
            assert_eq!(read.metadata.name.as_deref(), Some(name));
        }
    }

    #[test]
    fn definitions_have_the_fields_that_the_types_have() {
        let samples = [
            include_str!("definitions/node_pool.json"),
            include_str!("definitions/node_claim.json"),
            include_str!("definitions/ec2_node_class.json"),
            include_str!("definitions/node_overlay.json"),
        ];
        for (definition, sample) in definitions().into_iter().zip(samples) {
            let sample: Value = serde_json::from_str(sample).unwrap();
            let again = match sample["kind"].as_str() {
                Some("NodePool") => round_trip::<super::super::NodePool>(&sample),
                Some("NodeOverlay") => round_trip::<super::super::NodeOverlay>(&sample),
                Some("NodeClaim") => round_trip::<super::super::NodeClaim>(&sample),
                _ => round_trip::<super::super::Ec2NodeClass>(&sample),
            };
            assert_eq!(again, sample, "a field is lost");
            let mut known = BTreeSet::new();
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            paths(schema, "", &mut known);
            let mut used = BTreeSet::new();
            walk(&sample, "", &known, schema, &mut used);
            let unused: Vec<_> = known.difference(&used).collect();
            assert!(unused.is_empty(), "the sample lacks {unused:?}");
        }
    }

    fn round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(sample: &Value) -> Value {
        serde_json::to_value(serde_json::from_value::<T>(sample.clone()).unwrap()).unwrap()
    }

    /// Notes each path of the sample that the schema knows, and fails at one that it does not.
    fn walk(
        value: &Value,
        at: &str,
        known: &BTreeSet<String>,
        schema: &Value,
        used: &mut BTreeSet<String>,
    ) {
        if let Some(items) = value.as_array() {
            items.iter().for_each(|it| walk(it, &format!("{at}[]"), known, &schema["items"], used));
            return;
        }
        if !schema["properties"].is_object() {
            return;
        }
        for (name, inner) in value.as_object().into_iter().flatten() {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            if path.starts_with("metadata") {
                used.insert("metadata".to_owned());
                continue;
            }
            assert!(known.contains(&path), "the definition lacks {path}");
            walk(inner, &path, known, &schema["properties"][name], used);
            used.insert(path);
        }
    }
}
