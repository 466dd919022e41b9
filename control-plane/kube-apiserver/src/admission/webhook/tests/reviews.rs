//! Reviews of access and of tokens: webhooks are asked about them, policies are not.

use super::*;

const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
const TOKENS: &str = "/apis/authentication.k8s.io/v1";

fn rules() -> Value {
    json!({"rules": [{"operations": ["CREATE"], "apiVersions": ["v1"], "resources": ["*"],
        "apiGroups": ["authentication.k8s.io", "authorization.k8s.io"]}]})
}

/// May this user get pods?
fn asked(user: &str) -> Value {
    json!({"spec": {"user": user, "resourceAttributes": {"verb": "get", "resource": "pods"}}})
}

#[tokio::test]
async fn a_review_is_refused_or_changed_by_a_webhook_before_it_is_answered() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|asked| {
        Some(match asked["object"]["spec"]["user"].as_str() {
            Some("mallory") => json!({"allowed": false, "status": {"message": "not about her"}}),
            Some("bob") => patch(&json!([
                {"op": "add", "path": "/spec/groups", "value": ["system:masters"]},
            ])),
            _ => json!({"allowed": true}),
        })
    })
    .await;
    configure(&cluster, "mutating", "m", vec![hook.webhook("m.example.com", rules())]).await;
    let path = format!("{REVIEWS}/subjectaccessreviews");
    let (code, status) = cluster.post(&path, asked("mallory")).await;
    let told = "admission webhook \"m.example.com\" denied the request: not about her";
    assert_eq!((code.as_u16(), &status["message"]), (400, &json!(told)));
    let (_, answer) = cluster.post(&path, asked("alice")).await;
    assert_eq!(answer["status"]["allowed"], false);
    let (code, answer) = cluster.post(&path, asked("bob")).await;
    assert_eq!((code.as_u16(), &answer["status"]["allowed"]), (201, &json!(true)), "{answer}");
    let seen = hook.asked.lock()[0].clone();
    let kind = json!({"group": "authorization.k8s.io", "version": "v1",
        "kind": "SubjectAccessReview"});
    assert_eq!((&seen["kind"], &seen["operation"]), (&kind, &json!("CREATE")));
    assert_eq!((&seen["name"], &seen["namespace"]), (&json!(""), &Value::Null));
}

#[tokio::test]
async fn every_kind_of_review_is_asked_about() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    configure(&cluster, "validating", "v", vec![hook.webhook("v.example.com", rules())]).await;
    let local = format!("{REVIEWS}/namespaces/nowhere/localsubjectaccessreviews");
    let mut of_nowhere = asked("bob");
    of_nowhere["spec"]["resourceAttributes"]["namespace"] = "nowhere".into();
    let own = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    for (path, review) in [
        (format!("{REVIEWS}/subjectaccessreviews"), asked("bob")),
        (format!("{REVIEWS}/selfsubjectaccessreviews"), own),
        (format!("{REVIEWS}/selfsubjectrulesreviews"), json!({"spec": {"namespace": "default"}})),
        // The namespace need not be there.
        (local, of_nowhere),
        (format!("{TOKENS}/tokenreviews"), json!({"spec": {"token": "x"}})),
        (format!("{TOKENS}/selfsubjectreviews"), json!({})),
    ] {
        let before = hook.count();
        let (code, answer) = cluster.post(&path, review).await;
        assert_eq!((code.as_u16(), hook.count()), (201, before + 1), "{path}: {answer}");
    }
    let namespaces: Vec<Value> =
        hook.asked.lock().iter().map(|it| it["namespace"].clone()).collect();
    assert_eq!(namespaces[3], "nowhere");
}

#[tokio::test]
async fn no_policy_stands_between_a_cluster_and_its_authorization() {
    let cluster = Cluster::start().await;
    let constraints = json!({"resourceRules": [{"operations": ["*"], "apiGroups": ["*"],
        "apiVersions": ["*"], "resources": ["*"]}]});
    let policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": constraints,
        "validations": [{"expression": "false"}]}});
    let policies = format!("{CONFIGURATIONS}/validatingadmissionpolicies");
    assert_eq!(cluster.post(&policies, policy).await.0, 201);
    let binding = json!({"metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    let bindings = format!("{CONFIGURATIONS}/validatingadmissionpolicybindings");
    assert_eq!(cluster.post(&bindings, binding).await.0, 201);
    assert_eq!(cluster.post(MAPS, map("one")).await.0, 422, "all else is refused");
    let path = format!("{REVIEWS}/subjectaccessreviews");
    assert_eq!(cluster.post(&path, asked("bob")).await.0, 201);
    let path = format!("{TOKENS}/tokenreviews");
    assert_eq!(cluster.post(&path, json!({"spec": {"token": "x"}})).await.0, 201);
}
