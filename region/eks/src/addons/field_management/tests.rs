//! What must hold of `field_management`, against an API server in which others own some fields.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use http::{Request, Response};
use kube::{Client, api::ApiResource, client::Body, core::GroupVersionKind};
use parking_lot::Mutex;
use serde_json::json;

use super::*;

/// The fields that `kubectl-set` owns, and all patches with their queries.
#[derive(Clone, Default)]
struct Server {
    owned: Arc<BTreeMap<&'static str, Value>>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    fn owning(owned: &[(&'static str, Value)]) -> Self {
        Self { owned: Arc::new(owned.iter().cloned().collect()), seen: Arc::default() }
    }

    fn api(&self) -> Api<DynamicObject> {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let body = request.into_body().collect_bytes().await.unwrap();
                let object: Value = serde_json::from_slice(&body).unwrap();
                let causes: Vec<Value> = server
                    .owned
                    .iter()
                    .filter(|(path, value)| {
                        let mut without = object.clone();
                        leave_out(&mut without, path) && !body_has(&object, value)
                    })
                    .map(|(path, _)| {
                        json!({"reason": "FieldManagerConflict", "field": path,
                        "message": "conflict with \"kubectl-set\" using apps/v1"})
                    })
                    .collect();
                server.seen.lock().push((query.clone(), object.clone()));
                let is_forced = query.contains("force=true");
                let (code, answer) = match causes.is_empty() || is_forced {
                    true => (200, object),
                    false => (
                        409,
                        json!({"kind": "Status", "status": "Failure", "code": 409,
                        "reason": "Conflict", "message": "Apply failed",
                        "details": {"causes": causes}}),
                    ),
                };
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        };
        let client = Client::new(tower::service_fn(answer), "kube-system");
        let kind = GroupVersionKind::gvk("apps", "v1", "DaemonSet");
        Api::default_namespaced_with(client, &ApiResource::from_gvk(&kind))
    }

    fn last(&self) -> (String, Value) {
        self.seen.lock().last().cloned().unwrap()
    }
}

/// Whether the value is somewhere in the object.
fn body_has(object: &Value, wanted: &Value) -> bool {
    object == wanted
        || match object {
            Value::Object(fields) => fields.values().any(|it| body_has(it, wanted)),
            Value::Array(items) => items.iter().any(|it| body_has(it, wanted)),
            _ => false,
        }
}

const MODE: &str =
    ".spec.containers[name=\"aws-node\"].env[name=\"NETWORK_POLICY_ENFORCING_MODE\"].value";

fn aws_node() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "aws-node", "labels": {"app.kubernetes.io/version": "v1", "a": "b"}},
        "spec": {"containers": [{"name": "aws-node", "image": "new", "env": [
            {"name": "WARM_ENI_TARGET", "value": "1"},
            {"name": "NETWORK_POLICY_ENFORCING_MODE", "value": "standard"},
        ]}]},
    })
}

#[tokio::test]
async fn preserve_leaves_what_others_have_changed_and_manages_it_no_more() {
    let server = Server::owning(&[(MODE, json!("strict"))]);
    apply(&server.api(), "aws-node", aws_node(), ResolveConflicts::Preserve).await.unwrap();
    let (query, sent) = server.last();
    assert!(query.contains("fieldManager=eks") && !query.contains("force=true"), "{query}");
    let env = &sent["spec"]["containers"][0]["env"];
    assert_eq!(env[1], json!({"name": "NETWORK_POLICY_ENFORCING_MODE"}));
    assert_eq!(env[0]["value"], "1", "all else is applied");
    assert_eq!(sent["spec"]["containers"][0]["image"], "new");
}

#[tokio::test]
async fn overwrite_takes_the_field_over_and_none_does_not() {
    let server = Server::owning(&[(MODE, json!("strict"))]);
    apply(&server.api(), "aws-node", aws_node(), ResolveConflicts::Overwrite).await.unwrap();
    let (query, sent) = server.last();
    assert!(query.contains("force=true"), "{query}");
    assert_eq!(sent, aws_node());
    let refused = apply(&server.api(), "aws-node", aws_node(), ResolveConflicts::None).await;
    assert!(matches!(refused, Err(Error::Api(status)) if status.is_conflict()));
    let found = conflicts(&server.api(), "aws-node", &aws_node()).await.unwrap();
    assert_eq!(found, [MODE]);
    assert!(server.last().0.contains("dryRun=All"), "asking changes nothing");
    let free = Server::default();
    assert!(conflicts(&free.api(), "aws-node", &aws_node()).await.unwrap().is_empty());
    apply(&free.api(), "aws-node", aws_node(), ResolveConflicts::None).await.unwrap();
}

#[test]
fn a_field_is_found_by_its_path_whatever_its_name_has() {
    let mut object = json!({
        "labels": {"app.kubernetes.io/version": "v1", "app": {"x": 1}},
        "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}],
        "finalizers": ["a", "b]"], "kept": 1,
    });
    for path in [
        ".labels.app.kubernetes.io/version",
        ".ports[containerPort=53,protocol=\"TCP\"].protocol",
        ".finalizers[=\"b]\"]",
    ] {
        assert!(leave_out(&mut object, path), "{path}");
    }
    let wanted = json!({
        "labels": {"app": {"x": 1}},
        "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}],
        "finalizers": ["a"], "kept": 1,
    });
    assert_eq!(object, wanted);
    for path in [".nothing", ".kept.more", ".ports[containerPort=54].x", ".ports[", "", ".labels."]
    {
        assert!(!leave_out(&mut object, path), "{path}");
    }
    assert_eq!(object, wanted);
}

#[test]
fn nothing_but_the_three_modes_is_taken_and_creation_preserves_nothing() {
    use ResolveConflicts as Mode;
    assert_eq!(Mode::of_update(None).unwrap(), Mode::None);
    assert_eq!(Mode::of_update(Some("PRESERVE")).unwrap(), Mode::Preserve);
    assert_eq!(Mode::of_creation(Some("PRESERVE")).unwrap(), Mode::None);
    assert_eq!(Mode::of_creation(Some("OVERWRITE")).unwrap(), Mode::Overwrite);
    assert_eq!(Mode::of_update(Some("preserve")).unwrap_err().code, "InvalidParameterException");
}
