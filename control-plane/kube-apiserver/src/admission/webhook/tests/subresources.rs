//! Subresources and streams: what webhooks see of them.

use http::header::{CONNECTION, UPGRADE};

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "x"}]}}}})
}

/// Rules for these resources of that group.
fn rules(group: &str, operation: &str, resources: &[&str]) -> Value {
    json!({"rules": [{"operations": [operation], "apiGroups": [group], "apiVersions": ["v1"],
        "resources": resources}]})
}

/// As upstream's conformance test has it.
#[tokio::test]
async fn attaching_to_a_pod_can_be_denied() {
    let cluster = Cluster::start().await.with_default_account().await;
    assert_eq!(cluster.post(PODS, pod("to-be-attached-pod")).await.0, 201);
    let hook = Hook::start(|asked| {
        let told = "attaching to pod 'to-be-attached-pod' is not allowed";
        let is_it = asked["name"] == "to-be-attached-pod";
        Some(json!({"allowed": !is_it, "status": {"message": told}}))
    })
    .await;
    let webhook = hook.webhook("deny-attaching-pod.k8s.io", rules("", "CONNECT", &["pods/attach"]));
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let path = format!("{PODS}/to-be-attached-pod/attach?container=c&stdin=true&stdout=true");
    let upgrade = [(CONNECTION, "Upgrade"), (UPGRADE, "SPDY/3.1")];
    let (head, status) = cluster.send("POST", &path, &upgrade, "").await;
    let told = "admission webhook \"deny-attaching-pod.k8s.io\" denied the request: attaching to pod \
                'to-be-attached-pod' is not allowed";
    assert_eq!((head.status.as_u16(), &status["message"]), (400, &json!(told)));
    let asked = hook.asked.lock()[0].clone();
    assert_eq!(
        (&asked["operation"], &asked["subResource"], &asked["options"]),
        (&json!("CONNECT"), &json!("attach"), &Value::Null)
    );
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "PodAttachOptions"}));
    assert_eq!(
        asked["object"],
        json!({"kind": "PodAttachOptions", "apiVersion": "v1", "container": "c", "stdin": true,
            "stdout": true})
    );
    assert_eq!(asked["oldObject"], Value::Null);
    // What no rule names goes its way: the pod is on no node.
    let (_, status) = cluster.send("POST", &path.replace("/attach", "/exec"), &upgrade, "").await;
    assert_eq!(status["message"], "pod to-be-attached-pod does not have a host assigned");
    let (_, _) = cluster.send("GET", &format!("{PODS}/to-be-attached-pod/log"), &[], "").await;
    assert_eq!(hook.count(), 1);
}

#[tokio::test]
async fn a_policy_sees_what_is_to_be_run() {
    let cluster = Cluster::start().await.with_default_account().await;
    cluster.post(PODS, pod("p")).await;
    let policy = json!({"metadata": {"name": "no-shells"}, "spec": {
        "matchConstraints": {"resourceRules": [{"operations": ["CONNECT"], "apiGroups": [""],
            "apiVersions": ["v1"], "resources": ["pods/exec"]}]},
        "validations": [{"expression": "object.command[0] != 'sh'", "message": "no shells"}]}});
    let (code, made) =
        cluster.post(&format!("{CONFIGURATIONS}/validatingadmissionpolicies"), policy).await;
    assert_eq!(code, 201, "{made}");
    let binding = json!({"metadata": {"name": "b"},
        "spec": {"policyName": "no-shells", "validationActions": ["Deny"]}});
    cluster.post(&format!("{CONFIGURATIONS}/validatingadmissionpolicybindings"), binding).await;
    let exec = |command: &str| {
        let path = format!("{PODS}/p/exec?stdout=true&command={command}");
        let cluster = &cluster;
        async move { cluster.send("POST", &path, &[], "").await.1["message"].clone() }
    };
    let told = "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'no-shells' with binding 'b' denied \
                request: no shells";
    assert_eq!(exec("sh").await, told);
    assert_eq!(exec("ls").await, "pod p does not have a host assigned");
}

#[tokio::test]
async fn a_scale_is_seen_and_changed_as_one() {
    let cluster = Cluster::start().await;
    cluster.post(DEPLOYMENTS, deployment()).await;
    let hook = Hook::start(|asked| {
        let wanted = asked["object"]["spec"]["replicas"].as_i64().unwrap_or_default();
        Some(match wanted {
            7 => json!({"allowed": false, "status": {"message": "seven"}}),
            _ => patch(&json!([{"op": "replace", "path": "/spec/replicas", "value": 3}])),
        })
    })
    .await;
    let webhook = hook.webhook("m.example.com", rules("apps", "UPDATE", &["deployments/scale"]));
    configure(&cluster, "mutating", "m", vec![webhook]).await;
    let scale = |replicas: i64| {
        let patch = json!({"spec": {"replicas": replicas}});
        let (path, cluster) = (format!("{DEPLOYMENTS}/d/scale"), &cluster);
        async move { cluster.patch(&path, "merge-patch+json", patch).await }
    };
    let (code, made) = scale(9).await;
    assert_eq!((code.as_u16(), &made["spec"]["replicas"]), (200, &json!(3)), "{made}");
    let asked = hook.asked.lock()[0].clone();
    assert_eq!(asked["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(
        asked["resource"],
        json!({"group": "apps", "version": "v1", "resource": "deployments"})
    );
    assert_eq!(
        (&asked["object"]["spec"]["replicas"], &asked["oldObject"]["spec"]["replicas"]),
        (&json!(9), &json!(1))
    );
    let (code, status) = scale(7).await;
    assert_eq!(code, 400, "{status}");
    assert_eq!(cluster.get(&format!("{DEPLOYMENTS}/d")).await["spec"]["replicas"], 3);
}

#[tokio::test]
async fn a_binding_and_a_token_are_asked_about_before_they_are_made() {
    let cluster = Cluster::start().await.with_default_account().await;
    cluster.post(PODS, pod("p")).await;
    let hook = Hook::start(|asked| {
        let is_bad = asked["object"]["target"]["name"] == "bad";
        Some(json!({"allowed": !is_bad, "status": {"message": "not there"}}))
    })
    .await;
    let resources = ["pods/binding", "serviceaccounts/token"];
    let webhook = hook.webhook("v.example.com", rules("", "CREATE", &resources));
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let bind = |node: &str| {
        let body = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
            "target": {"kind": "Node", "name": node}});
        let (path, cluster) = (format!("{PODS}/p/binding"), &cluster);
        async move { cluster.post(&path, body).await }
    };
    let (code, status) = bind("bad").await;
    assert_eq!(code, 400, "{status}");
    assert_eq!(cluster.get(&format!("{PODS}/p")).await["spec"]["nodeName"], Value::Null);
    let (code, status) = bind("good").await;
    assert_eq!(code, 201, "{status}");
    let asked = hook.asked.lock()[1].clone();
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "Binding"}));
    assert_eq!((&asked["name"], &asked["subResource"]), (&json!("p"), &json!("binding")));
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    // This server has no key to sign with, but it asks first.
    cluster.post(&format!("{accounts}/default/token"), json!({"spec": {}})).await;
    let asked = hook.asked.lock()[2].clone();
    assert_eq!(
        asked["kind"],
        json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"})
    );
}

/// Of a built-in group, too.
#[tokio::test]
async fn a_webhook_for_another_version_sees_the_object_in_that_one() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let rules = json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["autoscaling"],
        "apiVersions": ["v1"], "resources": ["horizontalpodautoscalers"]}]});
    configure(&cluster, "validating", "v", vec![hook.webhook("v.example.com", rules)]).await;
    let scaler = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let (code, made) = cluster.post(path, scaler).await;
    assert_eq!(code, 201, "{made}");
    let asked = hook.asked.lock()[0].clone();
    assert_eq!(
        (&asked["resource"]["version"], &asked["requestResource"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(asked["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(asked["object"]["spec"]["targetCPUUtilizationPercentage"], 50);
}
