//! What can be written as a policy, and what its status tells.

use super::*;

fn fields(status: &Value) -> Vec<(String, String)> {
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    causes.iter().map(|it| (text(&it["field"]), text(&it["message"]))).collect()
}

async fn refused(path: &str, spec: Value) -> Vec<(String, String)> {
    let cluster = Cluster::start().await;
    let body = json!({"metadata": {"name": "p"}, "spec": spec});
    let (code, status) = cluster.post(path, body).await;
    assert_eq!(code, 422, "{status}");
    fields(&status)
}

#[tokio::test]
async fn a_policy_that_could_not_work_is_refused_with_upstreams_fields() {
    let found = refused(POLICIES, json!({})).await;
    let found: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    let expected = ["spec.matchConstraints", "spec.validations", "spec.auditAnnotations"];
    assert_eq!(found, expected);
    let spec = json!({
        "paramKind": {"apiVersion": "a/b/c", "kind": "?"},
        "matchConstraints": {},
        "matchConditions": [{"name": "c", "expression": "variables.x"}],
        "variables": [
            {"name": "1x", "expression": "1"},
            {"name": "y", "expression": "variables.z"},
        ],
        "validations": [
            {"expression": "object.", "reason": "Wrong"},
            {"expression": "1", "messageExpression": "1", "message": "a\nb"},
            {"expression": "request.nothing == variables.y"},
            {"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()"},
        ],
        "auditAnnotations": [
            {"key": "k", "valueExpression": "1"},
            {"key": "k", "valueExpression": "null"},
            {"key": "a b", "valueExpression": ""},
        ],
    });
    let found = refused(POLICIES, spec).await;
    let names: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        names,
        [
            "spec.paramKind.apiVersion",
            "spec.paramKind.kind",
            "spec.matchConstraints.resourceRules",
            "spec.matchConditions[0].expression",
            "spec.variables[0].name",
            "spec.variables[1].expression",
            "spec.validations[0].expression",
            "spec.validations[0].reason",
            "spec.validations[1].expression",
            "spec.validations[1].messageExpression",
            "spec.validations[1].message",
            "spec.validations[2].expression",
            "spec.validations[3].messageExpression",
            "spec.auditAnnotations[0].valueExpression",
            "spec.auditAnnotations[1].key",
            "spec.auditAnnotations[2].key",
            "spec.auditAnnotations[2].valueExpression",
        ]
    );
    let told = |at: usize| found[at].1.as_str();
    assert!(told(5).contains("undefined field 'z'"), "{}", told(5));
    assert!(told(8).ends_with("must evaluate to bool"), "{}", told(8));
    assert!(told(9).ends_with("must evaluate to string"), "{}", told(9));
    assert!(told(11).contains("undefined field 'nothing'"), "{}", told(11));
    assert!(told(12).contains("undeclared reference to 'authorizer'"), "{}", told(12));
    assert!(told(13).ends_with("must evaluate to one of string, null"), "{}", told(13));
}

#[tokio::test]
async fn a_binding_or_a_mutation_that_could_not_work_is_refused_too() {
    let reference = json!({"name": "a", "selector": {}});
    let spec =
        json!({"paramRef": reference, "validationActions": ["Deny", "Warn", "Deny", "Tell"]});
    let found = refused(BINDINGS, spec).await;
    let names: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        names,
        [
            "spec.policyName",
            "spec.paramRef.name",
            "spec.paramRef.selector",
            "spec.paramRef.parameterNotFoundAction",
            "spec.validationActions[2]",
            "spec.validationActions[3]",
            "spec.validationActions",
        ]
    );
    let configuration = |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    let spec = json!({"matchConstraints": maps(), "mutations": [
        {"patchType": "Other"},
        {"patchType": "JSONPatch"},
        configuration("{'spec': 1}"),
        configuration("Object{spec: Object.wrong{}}"),
        configuration("JSONPatch{op: 'add'}"),
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 1, other: 2}]"}},
    ]});
    let found = refused(&format!("{GROUP}/mutatingadmissionpolicies"), spec).await;
    let names: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        names,
        [
            "spec.reinvocationPolicy",
            "spec.mutations[0].patchType",
            "spec.mutations[1].jsonPatch",
            "spec.mutations[2].applyConfiguration.expression",
            "spec.mutations[3].applyConfiguration.expression",
            "spec.mutations[4].applyConfiguration.expression",
            "spec.mutations[5].jsonPatch.expression",
        ]
    );
    assert!(found[4].1.contains("unexpected type name \"Object.wrong\", expected \"Object.spec\""));
}

#[tokio::test]
async fn the_status_tells_what_expressions_get_wrong_about_the_kinds() {
    let cluster = Cluster::start().await;
    let deployments = json!({"resourceRules": [{
        "operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments"],
    }]});
    let spec = |validations: Value| {
        json!({"matchConstraints": deployments, "validations": validations,
            "variables": [{"name": "template", "expression": "object.spec.template"}]})
    };
    let right = spec(json!([
        {"expression": "object.spec.replicas > 1"},
        {"expression": "variables.template.spec.containers.all(c, c.image.startsWith('a'))"},
        {"expression": "object.metadata.labels['a'] == 'b' && has(object.spec.paused)"},
        {"expression": "object.spec.strategy.rollingUpdate.maxSurge == 1"},
        {"expression": "object.metadata.creationTimestamp < timestamp('2200-01-01T00:00:00Z')"},
    ]));
    let made_right = made(&cluster, POLICIES, "right", right).await;
    assert_eq!(made_right["status"], json!({"observedGeneration": 1, "typeChecking": {}}));
    let wrong = spec(json!([
        {"expression": "object.spec.replicas > '1'",
            "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"},
        {"expression": "object.spec.replica == 1"},
        {"expression": "variables.template.spec.container == []"},
    ]));
    let made = made(&cluster, POLICIES, "wrong", wrong).await;
    let warnings = made["status"]["typeChecking"]["expressionWarnings"].as_array().unwrap();
    let told: Vec<_> = warnings
        .iter()
        .map(|it| {
            let first = it["warning"].as_str().unwrap().lines().next().unwrap();
            (it["fieldRef"].as_str().unwrap(), first)
        })
        .collect();
    let prefix = "apps/v1, Kind=Deployment: ERROR: <input>:1";
    let told: Vec<_> =
        told.into_iter().map(|(field, why)| (field, why.strip_prefix(prefix).unwrap())).collect();
    assert_eq!(
        told,
        [
            (
                "spec.validations[0].expression",
                ":22: found no matching overload for '_>_' applied to '(int, string)'"
            ),
            (
                "spec.validations[0].messageExpression",
                ":28: found no matching overload for '_+_' applied to '(string, int)'"
            ),
            ("spec.validations[1].expression", ":12: undefined field 'replica'"),
            ("spec.validations[2].expression", ":24: undefined field 'container'"),
        ]
    );
    // What was wrong is checked anew when it is changed.
    let path = format!("{POLICIES}/wrong");
    let mut changed = cluster.get(&path).await;
    changed["spec"]["validations"] = json!([{"expression": "object.spec.replicas > 1"}]);
    let (_, changed) = cluster.put(&path, changed).await;
    assert_eq!(changed["status"], json!({"observedGeneration": 2, "typeChecking": {}}));
}

#[tokio::test]
async fn the_status_tells_what_expressions_get_wrong_about_custom_resources() {
    let cluster = Cluster::start().await;
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}});
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(cluster.post(definitions, definition).await.0, 201);
    let spec = json!({
        "matchConstraints": {"resourceRules": [{"operations": ["*"],
            "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"]}]},
        "validations": [
            {"expression": "object.spec.replicas <= 100"},
            {"expression": "object.spec.maxRetries <= 100"},
        ],
    });
    let made = made(&cluster, POLICIES, "p", spec).await;
    let warnings = made["status"]["typeChecking"]["expressionWarnings"].as_array().unwrap();
    assert_eq!(
        (warnings.len(), &warnings[0]["fieldRef"]),
        (1, &json!("spec.validations[1].expression"))
    );
    let told = warnings[0]["warning"].as_str().unwrap();
    assert!(told.starts_with("example.com/v1, Kind=Widget: ERROR: <input>:1:"), "{told}");
    assert!(told.contains("undefined field 'maxRetries'"), "{told}");
}
