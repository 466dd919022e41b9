//! What validating policies refuse, and in which words.

use std::time::{Duration, Instant};

use http::header::WARNING;

use super::*;

#[tokio::test]
async fn what_does_not_hold_is_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    policy(&cluster, one("object.data.size() <= 1"), &["Deny"]).await;
    assert_eq!(post(&cluster, "fine", json!({"a": "b"})).await.0, 201);
    let (code, status) = post(&cluster, "large", json!({"a": "b", "c": "d"})).await;
    assert_eq!((code.as_u16(), &status["reason"]), (422, &json!("Invalid")));
    let told = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: \
                object.data.size() <= 1";
    assert_eq!(status["message"], format!("configmaps \"large\" is forbidden: {told}"));
    assert_eq!(status["details"]["causes"], json!([{"message": told}]));
    assert_eq!(cluster.get(&format!("{MAPS}/large")).await["code"], 404);
    // An error of the expression is a refusal too.
    let (code, status) = cluster.post(MAPS, json!({"metadata": {"name": "bare"}})).await;
    assert_eq!(code, 422);
    let told = "expression 'object.data.size() <= 1' resulted in error: no such key: data";
    assert_eq!(denied(&status), told);
}

#[tokio::test]
async fn messages_and_reasons_are_the_policys() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "variables": [
            {"name": "count", "expression": "object.data.size()"},
            {"name": "broken", "expression": "object.nothing"},
            {"name": "twice", "expression": "variables.count * 2"},
        ],
        "validations": [
            {"expression": "object.metadata.name != 'plain'", "message": "not plain"},
            {"expression": "object.metadata.name != 'told'", "message": "unused",
                "messageExpression": "'twice is ' + string(variables.twice)"},
            {"expression": "object.metadata.name != 'forbidden'", "message": "no",
                "reason": "Forbidden"},
            {"expression": "object.metadata.name != 'silent'",
                "messageExpression": "object.nothing", "message": "the message"},
            {"expression": "object.metadata.name != 'broken' || variables.broken == 1"},
        ],
    });
    policy(&cluster, spec, &["Deny"]).await;
    let broken = "expression 'object.metadata.name != 'broken' || variables.broken == 1' resulted \
                  in error: composited variable \"broken\" fails to evaluate: no such key: nothing";
    for (name, code, reason, message) in [
        ("plain", 422, "Invalid", "not plain"),
        ("told", 422, "Invalid", "twice is 2"),
        ("forbidden", 403, "Forbidden", "no"),
        ("silent", 422, "Invalid", "the message"),
        ("broken", 422, "Invalid", broken),
    ] {
        let (found, status) = post(&cluster, name, json!({"a": "b"})).await;
        assert_eq!((found.as_u16(), &status["reason"]), (code, &json!(reason)), "{status}");
        assert_eq!(denied(&status), message);
    }
    // The variable that cannot be had is not read.
    assert_eq!(post(&cluster, "other", json!({"a": "b"})).await.0, 201);
}

#[tokio::test]
async fn actions_warn_or_deny_and_what_is_ignored_passes() {
    let cluster = Cluster::start().await;
    policy(&cluster, one("object.data.a == 'b'"), &["Warn", "Audit"]).await;
    let body = map("warned", json!({"a": "c"})).to_string();
    let (head, _) = cluster.send("POST", MAPS, &[], body).await;
    assert_eq!(head.status, 201);
    assert_eq!(
        head.headers[WARNING],
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed \
         expression: object.data.a == 'b'\""
    );
    // A change of the policy holds at once; errors are passed by, refusals are not.
    let path = format!("{POLICIES}/p");
    let mut policy = cluster.get(&path).await;
    policy["spec"]["failurePolicy"] = "Ignore".into();
    assert_eq!(cluster.put(&path, policy).await.0, 200);
    let path = format!("{BINDINGS}/b");
    let mut binding = cluster.get(&path).await;
    binding["spec"]["validationActions"] = json!(["Deny"]);
    assert_eq!(cluster.put(&path, binding).await.0, 200);
    assert_eq!(post(&cluster, "other", json!({"x": "y"})).await.0, 201);
    assert_eq!(post(&cluster, "wrong", json!({"a": "c"})).await.0, 422);
    assert_eq!(cluster.delete(&path).await.0, 200);
    assert_eq!(post(&cluster, "wrong", json!({"a": "c"})).await.0, 201);
}

#[tokio::test]
async fn only_what_policy_binding_and_conditions_name_is_evaluated() {
    let cluster = Cluster::start().await;
    let mut constraints = maps();
    constraints["resourceRules"][0]["operations"] = json!(["CREATE", "UPDATE"]);
    constraints["excludeResourceRules"] = maps()["resourceRules"].clone();
    constraints["excludeResourceRules"][0]["resourceNames"] = json!(["excluded"]);
    constraints["objectSelector"] = json!({"matchLabels": {"ask": "yes"}});
    let spec = json!({
        "matchConstraints": constraints,
        "matchConditions": [
            {"name": "not-skipped", "expression": "!request.name.startsWith('skip')"},
            {"name": "not-root", "expression": "request.userInfo.username != 'root'"},
        ],
        "validations": [{"expression": "false", "message": "seen"}],
    });
    made(&cluster, POLICIES, "p", spec).await;
    let kubesystem = json!({"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}});
    let binding = json!({
        "policyName": "p", "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": kubesystem},
    });
    made(&cluster, BINDINGS, "b", binding).await;
    let labelled = |name: &str| {
        let mut map = map(name, json!({}));
        map["metadata"]["labels"] = json!({"ask": "yes"});
        map
    };
    let there = MAPS.replace("default", "kube-system");
    assert_eq!(cluster.post(&there, labelled("one")).await.0, 422);
    assert_eq!(cluster.post(&there, map("one", json!({}))).await.0, 201);
    assert_eq!(cluster.post(&there, labelled("excluded")).await.0, 201);
    assert_eq!(cluster.post(&there, labelled("skipped")).await.0, 201);
    assert_eq!(cluster.post(MAPS, labelled("elsewhere")).await.0, 201);
    // Either of both objects is selected.
    assert_eq!(cluster.put(&format!("{there}/one"), labelled("one")).await.0, 422);
    assert_eq!(cluster.delete(&format!("{there}/excluded")).await.0, 200);
    let measured = "apiserver_admission_match_condition_evaluation_seconds_count{kind=\"policy\",\
                    name=\"p\",operation=\"UPDATE\",type=\"validate\"} 1";
    assert!(cluster.text("/metrics").await.lines().any(|it| it == measured));
}

#[tokio::test]
async fn expressions_see_request_old_object_and_namespace() {
    let cluster = Cluster::start().await;
    let spec = json!({"validations": [
        {"expression": "request.operation != 'CREATE' || oldObject == null"},
        {"expression": "request.operation != 'DELETE' || object == null"},
        {"expression": "request.operation == 'CREATE' || oldObject.data.a == 'b'"},
        {"expression": "request.operation != 'UPDATE' || object.data.a == oldObject.data.a",
            "message": "a stays"},
        {"expression": "namespaceObject.metadata.labels['kubernetes.io/metadata.name'] == \
            request.namespace"},
        {"expression": "namespaceObject.metadata.creationTimestamp <= timestamp('2200-01-01T00:00:00Z')"},
        {"expression": "request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps'"},
        {"expression": "request.userInfo.username == 'admin' && 'system:masters' in \
            request.userInfo.groups && !request.dryRun"},
        {"expression": "object == null || object.kind == 'ConfigMap' && object.apiVersion == 'v1'"},
    ]});
    policy(&cluster, spec, &["Deny"]).await;
    let (code, made) = post(&cluster, "one", json!({"a": "b"})).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{MAPS}/one");
    let (code, status) = cluster.put(&path, map("one", json!({"a": "c"}))).await;
    assert_eq!((code.as_u16(), denied(&status)), (422, "a stays"));
    let (code, changed) = cluster.put(&path, map("one", json!({"a": "b", "c": "d"}))).await;
    assert_eq!(code, 200, "{changed}");
    let (code, status) = cluster.delete(&path).await;
    assert_eq!(code, 200, "{status}");
}

#[tokio::test]
async fn the_authorizer_tells_what_the_user_may_do() {
    let cluster = Cluster::start().await;
    let spec = json!({"validations": [
        {"expression": "authorizer.requestResource.check('delete').allowed()"},
        {"expression": "authorizer.group('').resource('secrets').namespace('x').check('get').allowed()"},
        {"expression": "authorizer.path('/healthz').check('get').allowed()"},
        {"expression": "!authorizer.serviceAccount('default', 'nobody').group('apps').\
            resource('deployments').subresource('status').check('update').allowed()"},
        {"expression": "authorizer.serviceAccount('default', 'nobody').group('').\
            resource('pods').check('get').reason() == ''"},
    ]});
    policy(&cluster, spec, &["Deny"]).await;
    let (code, made) = post(&cluster, "one", json!({})).await;
    assert_eq!(code, 201, "{made}");
}

#[tokio::test]
async fn policies_themselves_are_never_refused_by_policies() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "matchConstraints": {"resourceRules": [{
            "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
        }]},
        "validations": [{"expression": "false"}],
    });
    made(&cluster, POLICIES, "p", spec).await;
    let binding = json!({"policyName": "p", "validationActions": ["Deny"]});
    made(&cluster, BINDINGS, "b", binding).await;
    assert_eq!(post(&cluster, "one", json!({})).await.0, 422);
    assert_eq!(cluster.delete(&format!("{BINDINGS}/b")).await.0, 200);
    assert_eq!(post(&cluster, "one", json!({})).await.0, 201);
}

#[tokio::test]
async fn an_expression_of_exponential_cost_is_ended_and_refuses() {
    let cluster = Cluster::start().await;
    let loops = (0..6).map(|it| format!("object.data.all(x{it}, ")).collect::<String>();
    let expression = loops + "x0 != ''" + &")".repeat(6);
    policy(&cluster, one(&expression), &["Deny"]).await;
    let many: serde_json::Map<_, _> = (0..100).map(|it| (it.to_string(), json!("x"))).collect();
    let begun = Instant::now();
    let (code, status) = post(&cluster, "costly", many.into()).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(code, 422);
    let told = "resulted in error: operation cancelled: actual cost limit exceeded";
    assert!(denied(&status).ends_with(told), "{status}");
    assert_eq!(post(&cluster, "cheap", json!({"a": "b"})).await.0, 201);
}
