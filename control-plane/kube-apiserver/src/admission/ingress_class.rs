//! DefaultIngressClass: an Ingress that names no class gets the one that is marked as default.
//!
//! Of several the youngest; of those of one moment the first by name.
//!
//! Upstream: plugin/pkg/admission/network/defaultingressclass.

use serde_json::{Value, json};

use crate::authz::{Objects, text};

const DEFAULT: &str = "/metadata/annotations/ingressclass.kubernetes.io~1is-default-class";
/// What named the class before there was a field.
const OLD: &str = "/metadata/annotations/kubernetes.io~1ingress.class";

pub(super) fn admit(objects: &dyn Objects, ingress: &mut Value) {
    if ingress.pointer("/spec/ingressClassName").is_some_and(|it| !it.is_null())
        || ingress.pointer(OLD).is_some()
    {
        return;
    }
    let classes = objects.list("ingressclasses.networking.k8s.io", "");
    let defaults = classes.iter().filter(|it| text(it, DEFAULT) == "true");
    let oldest_last = |it: &&std::sync::Arc<Value>| {
        let made = text(it, "/metadata/creationTimestamp").to_owned();
        (made, std::cmp::Reverse(text(it, "/metadata/name").to_owned()))
    };
    if let Some(class) = defaults.max_by_key(oldest_last) {
        ingress["spec"]["ingressClassName"] = json!(text(class, "/metadata/name"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Classes(Vec<Arc<Value>>);

    impl Objects for Classes {
        fn get(&self, _: &str, _: &str, _: &str) -> Option<Arc<Value>> {
            None
        }

        fn list(&self, resource: &str, _: &str) -> Vec<Arc<Value>> {
            assert_eq!(resource, "ingressclasses.networking.k8s.io");
            self.0.clone()
        }

        fn revision(&self, _: &str) -> u64 {
            0
        }
    }

    fn class(name: &str, made: &str, is_default: &str) -> Arc<Value> {
        let annotations = json!({ "ingressclass.kubernetes.io/is-default-class": is_default });
        Arc::new(json!({ "metadata": {
            "name": name, "creationTimestamp": made, "annotations": annotations,
        } }))
    }

    #[test]
    fn the_youngest_default_class_is_taken_unless_one_is_named() {
        let classes = Classes(vec![
            class("a", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("c", "2026-01-02T00:00:00Z", "true"),
            class("d", "2026-01-03T00:00:00Z", "false"),
        ]);
        for (before, after) in [
            (json!({ "spec": {} }), json!("b")),
            (json!({ "spec": { "ingressClassName": "x" } }), json!("x")),
            (
                json!({ "spec": {}, "metadata": { "annotations": { "kubernetes.io/ingress.class": "y" } } }),
                Value::Null,
            ),
        ] {
            let mut ingress = before;
            admit(&classes, &mut ingress);
            assert_eq!(ingress["spec"]["ingressClassName"], after);
        }
    }
}
