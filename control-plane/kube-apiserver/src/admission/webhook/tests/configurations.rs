//! Which configurations of webhooks are taken.

use super::*;

/// The faults of a configuration with this webhook.
async fn faults(cluster: &Cluster, webhook: Value) -> Vec<String> {
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations?dryRun=All");
    let body = json!({"metadata": {"name": "v"}, "webhooks": [webhook]});
    let (code, status) = cluster.post(&path, body).await;
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    assert_eq!(code.as_u16(), if causes.is_empty() { 201 } else { 422 }, "{status}");
    let told = |it: &Value| {
        let field = it["field"].as_str().unwrap().trim_start_matches("webhooks[0].");
        format!("{field}: {}", it["message"].as_str().unwrap())
    };
    causes.iter().map(told).collect()
}

fn rule(part: &str, values: Value) -> Value {
    let mut rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*"]});
    rule[part] = values;
    json!({"rules": [rule]})
}

#[tokio::test]
async fn rules_name_nothing_twice() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    for good in [json!(["*", "*/scale"]), json!(["pods", "pods/*"]), json!(["*/*"]), json!(["*"])] {
        let webhook = hook.webhook("v.example.com", rule("resources", good.clone()));
        assert_eq!(faults(&cluster, webhook).await, Vec::<String>::new(), "{good}");
    }
    for (part, values, wanted) in [
        (
            "operations",
            json!(["*", "CREATE"]),
            "operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        (
            "apiGroups",
            json!(["*", "x"]),
            "apiGroups: Invalid value: [\"*\",\"x\"]: if '*' is present, must not specify other API groups",
        ),
        (
            "apiVersions",
            json!(["v1", "*"]),
            "apiVersions: Invalid value: [\"v1\",\"*\"]: if '*' is present, must not specify other API versions",
        ),
        ("apiVersions", json!([""]), "apiVersions[0]: Required value"),
        ("resources", json!([""]), "resources[0]: Required value"),
        (
            "resources",
            json!(["*", "pods"]),
            "resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
        ),
        (
            "resources",
            json!(["pods/*", "pods/exec"]),
            "resources[1]: Invalid value: \"pods/exec\": if 'pods/*' is present, must not specify pods/exec",
        ),
        (
            "resources",
            json!(["*/scale", "x/scale"]),
            "resources[1]: Invalid value: \"x/scale\": if '*/scale' is present, must not specify x/scale",
        ),
        (
            "resources",
            json!(["*/*", "x/y"]),
            "resources: Invalid value: [\"*/*\",\"x/y\"]: if '*/*' is present, must not specify other resources",
        ),
    ] {
        let webhook = hook.webhook("v.example.com", rule(part, values));
        assert_eq!(faults(&cluster, webhook).await, [format!("rules[0].{wanted}")]);
    }
}

#[tokio::test]
async fn a_client_is_a_plain_url_or_a_path_of_a_service() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let form = "; desired format: https://host[/path]";
    for (url, wanted) in [
        ("https://a.example.com:8443/x", Vec::new()),
        ("https://[::1]:8443", Vec::new()),
        (
            "a.example.com",
            vec![
                format!("\"\": 'https' is the only allowed URL scheme{form}"),
                format!("\"\": host must be provided{form}"),
            ],
        ),
        (
            "https://bob@example.com/x?a=b#c",
            vec![
                "\"bob\": user information is not permitted in the URL".to_owned(),
                "\"c\": fragments are not permitted in the URL".to_owned(),
                "\"a=b\": query parameters are not permitted in the URL".to_owned(),
            ],
        ),
    ] {
        let webhook = hook.webhook("v.example.com", json!({"clientConfig": {"url": url}}));
        let wanted: Vec<String> =
            wanted.iter().map(|it| format!("clientConfig.url: Invalid value: {it}")).collect();
        assert_eq!(faults(&cluster, webhook).await, wanted, "{url}");
    }
    for (path, wanted) in [
        ("/x/y/", Vec::new()),
        ("/", Vec::new()),
        ("xx", vec!["must start with a '/'"]),
        ("/x//y", vec!["segment[1] may not be empty"]),
        ("//", vec!["segment[0] may not be empty"]),
    ] {
        let service = json!({"namespace": "ns", "name": "s", "path": path});
        let webhook = hook.webhook("v.example.com", json!({"clientConfig": {"service": service}}));
        let field = "clientConfig.service.path: Invalid value:";
        let wanted: Vec<String> =
            wanted.iter().map(|it| format!("{field} \"{path}\": {it}")).collect();
        assert_eq!(faults(&cluster, webhook).await, wanted, "{path}");
    }
}

#[tokio::test]
async fn selectors_conditions_and_versions_have_their_forms() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let condition = |name: &str| json!({"name": name, "expression": "true"});
    let odd = json!({
        "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
        "matchConditions": [condition("a b"), condition("c"), condition("c")],
        "admissionReviewVersions": ["v1", "v1"],
    });
    let found = faults(&cluster, hook.webhook("v.example.com", odd)).await;
    let starts = [
        "namespaceSelector.matchExpressions[0].values: Required value: must be specified when",
        "matchConditions[0].name: Invalid value: \"a b\": name part must consist of alphanumeric",
        "matchConditions[2].name: Duplicate value: \"c\"",
        "admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
    ];
    assert_eq!(found.len(), starts.len(), "{found:?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
}

/// What was stored by an older version: names twice, side effects, versions, values and conditions
/// that nobody takes any more.
#[tokio::test]
async fn an_update_may_leave_wrong_what_was_wrong_before() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let webhook = |name: &str, more: Value| hook.webhook(name, more);
    let old = json!([
        webhook(
            "v.example.com",
            json!({
                "sideEffects": "Some", "admissionReviewVersions": ["v7"],
                "namespaceSelector": {"matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["?"]}]},
                "matchConditions": [{"name": "m", "expression": "nobody()"}],
            })
        ),
        webhook("v.example.com", json!({})),
    ]);
    let plural = "validatingwebhookconfigurations";
    let path = format!("{CONFIGURATIONS}/{plural}");
    let body = json!({"metadata": {"name": "v"}, "webhooks": old});
    let (code, refused) = cluster.post(&path, body.clone()).await;
    assert_eq!(code, 422);
    assert_eq!(refused["details"]["causes"].as_array().map(Vec::len), Some(5), "{refused}");
    let good = json!({"metadata": {"name": "v"}, "webhooks": []});
    assert_eq!(cluster.post(&path, good).await.0, 201);
    let key = crate::registry::key("admissionregistration.k8s.io", plural, "", "v");
    let mut stored = crate::registry::decode(&cluster.api.server.store.get(&key).unwrap());
    stored["webhooks"] = old;
    let put = mvcc::Txn::put(key, crate::registry::encode(&stored));
    assert!(cluster.api.server.store.commit(put).await.is_ok());
    let path = format!("{path}/v");
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let (code, left) = cluster.patch(&path, "merge-patch+json", labels).await;
    assert_eq!(code, 200, "{left}");
    let worse = json!([
        {"op": "replace", "path": "/webhooks/0/sideEffects", "value": "Many"},
        {"op": "replace", "path": "/webhooks/0/matchConditions/0/name", "value": "n"},
    ]);
    let (code, refused) = cluster.patch(&path, "json-patch+json", worse).await;
    let causes = refused["details"]["causes"].as_array().unwrap();
    assert_eq!((code.as_u16(), causes.len()), (422, 2), "{refused}");
    let told = "Unsupported value: \"Many\": supported values: \"None\", \"NoneOnDryRun\", \"Some\", \
                \"Unknown\"";
    assert_eq!(causes[0]["message"], told);
    let mended = json!([
        {"op": "replace", "path": "/webhooks", "value": [webhook("v.example.com", json!({}))]},
    ]);
    assert_eq!(cluster.patch(&path, "json-patch+json", mended).await.0, 200);
    let again = json!([
        {"op": "replace", "path": "/webhooks/0/sideEffects", "value": "Some"},
    ]);
    assert_eq!(cluster.patch(&path, "json-patch+json", again).await.0, 422);
}
