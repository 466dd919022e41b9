//! Parameters of policies.

use super::*;

/// A policy by which ConfigMaps have at most as many entries as a parameter says; its binding has
/// this `paramRef`.
async fn limited(cluster: &Cluster, reference: Value) {
    let mut constraints = maps();
    constraints["objectSelector"] = json!({"matchLabels": {"ask": "yes"}});
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": constraints,
        "validations": [{"expression": "object.data.size() <= int(params.data.most)",
            "messageExpression": "'more than ' + params.data.most"}],
    });
    made(cluster, POLICIES, "p", spec).await;
    let binding = json!({"policyName": "p", "validationActions": ["Deny"], "paramRef": reference});
    made(cluster, BINDINGS, "b", binding).await;
}

fn asked(name: &str, count: usize) -> Value {
    let data: serde_json::Map<_, _> = (0..count).map(|it| (it.to_string(), json!("x"))).collect();
    let mut map = map(name, data.into());
    map["metadata"]["labels"] = json!({"ask": "yes"});
    map
}

#[tokio::test]
async fn a_parameter_is_found_by_its_name_as_it_is_now() {
    let cluster = Cluster::start().await;
    let reference =
        json!({"name": "limit", "namespace": "kube-system", "parameterNotFoundAction": "Deny"});
    limited(&cluster, reference).await;
    let (code, status) = cluster.post(MAPS, asked("one", 1)).await;
    assert_eq!(code, 422);
    let told = "failed to configure binding: no params found for policy binding with `Deny` \
                parameterNotFoundAction";
    assert_eq!(denied(&status), told);
    let there = MAPS.replace("default", "kube-system");
    assert_eq!(cluster.post(&there, map("limit", json!({"most": "2"}))).await.0, 201);
    assert_eq!(cluster.post(MAPS, asked("one", 2)).await.0, 201);
    let (code, status) = cluster.post(MAPS, asked("two", 3)).await;
    assert_eq!((code.as_u16(), denied(&status)), (422, "more than 2"));
    let path = format!("{there}/limit");
    assert_eq!(cluster.put(&path, map("limit", json!({"most": "3"}))).await.0, 200);
    assert_eq!(cluster.post(MAPS, asked("two", 3)).await.0, 201);
}

#[tokio::test]
async fn each_parameter_that_a_selector_finds_in_the_own_namespace_counts() {
    let cluster = Cluster::start().await;
    let selector = json!({"matchLabels": {"limit": "yes"}});
    limited(&cluster, json!({"selector": selector, "parameterNotFoundAction": "Allow"})).await;
    // None: nothing is evaluated.
    assert_eq!(cluster.post(MAPS, asked("none", 9)).await.0, 201);
    for (name, most) in [("wide", "5"), ("narrow", "2")] {
        let mut limit = map(name, json!({"most": most}));
        limit["metadata"]["labels"] = json!({"limit": "yes"});
        assert_eq!(cluster.post(MAPS, limit).await.0, 201);
    }
    assert_eq!(cluster.post(MAPS, asked("two", 2)).await.0, 201);
    let (_, status) = cluster.post(MAPS, asked("three", 3)).await;
    assert_eq!(denied(&status), "more than 2");
    let there = MAPS.replace("default", "kube-system");
    assert_eq!(cluster.post(&there, asked("three", 3)).await.0, 201);
}

#[tokio::test]
async fn a_kind_of_parameters_that_is_not_known_refuses() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"},
        "validations": [{"expression": "params == null || params.spec.most > 1"}],
    });
    made(&cluster, POLICIES, "p", with(json!({"matchConstraints": maps()}), spec)).await;
    // A binding without parameters evaluates with null.
    let binding = json!({"policyName": "p", "validationActions": ["Deny"]});
    made(&cluster, BINDINGS, "b", binding).await;
    assert_eq!(post(&cluster, "one", json!({})).await.0, 201);
    let binding = json!({"policyName": "p", "validationActions": ["Deny"],
        "paramRef": {"name": "x", "parameterNotFoundAction": "Allow"}});
    made(&cluster, BINDINGS, "c", binding).await;
    let (code, status) = post(&cluster, "two", json!({})).await;
    assert_eq!(code, 422);
    let told = "failed to configure binding: paramKind kind `example.com/v1, Kind=Limit` not known";
    assert_eq!(denied(&status), told);
}
