//! Schemas of custom resources: refused with the definition, or good for any object. What is pruned and
//! defaulted is so when it is done again, and an object without faults has none as an update of itself.
//!
//! The input's first line is a schema, the rest an object.

use kube_apiserver::probe::Definition;
use serde_json::{Value, json};

use crate::kube;

pub(crate) fn run(data: &[u8]) {
    let (schema, object) = kube::first_line(data);
    let Ok(schema) = serde_json::from_str::<Value>(&schema) else { return };
    let Ok(definition) = Definition::of_schema(schema) else { return };
    let mut object: Value = serde_json::from_slice(object).unwrap_or(json!({}));
    if !object.is_object() {
        object = json!({"spec": object});
    }
    object["apiVersion"] = "example.com/v1".into();
    object["kind"] = "Thing".into();
    object["metadata"] = json!({"name": "t", "namespace": "default"});
    definition.shape(&mut object);
    let shaped = object.clone();
    definition.shape(&mut object);
    assert_eq!(object, shaped, "it is shaped otherwise again");
    if definition.faults(&object, None).is_empty() {
        // A rule may want something of what was before; nothing else may.
        let again = definition.faults(&object, Some(&object));
        let is_other = again.iter().any(|it| it.contains("in body"));
        assert!(!is_other, "as an update of itself: {again:?}");
    }
}
