//! What must hold of PodSecurity.

use serde_json::json;

use super::*;
use crate::tests::Cluster;

fn told_of(level: &str, version: &str, spec: &Value) -> String {
    let labels = json!({"pod-security.kubernetes.io/enforce": level,
        "pod-security.kubernetes.io/enforce-version": version});
    let policies = Policies::of(&json!({"metadata": {"labels": labels}}), &Policies::default());
    told(&policies.enforce.violations(&json!({}), spec))
}

fn plain() -> Value {
    json!({"containers": [{"name": "c", "image": "i"}]})
}

fn hardened() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
    })
}

#[test]
fn a_plain_pod_is_baseline_and_all_that_restricted_asks_for_is_told() {
    assert_eq!(told_of("baseline", "latest", &plain()), "");
    assert_eq!(told_of("privileged", "latest", &json!({"hostNetwork": true})), "");
    assert_eq!(
        told_of("restricted", "latest", &plain()),
        "allowPrivilegeEscalation != false (container \"c\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \
         \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or \
         container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or \
         container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\")"
    );
    assert_eq!(told_of("restricted", "latest", &hardened()), "");
    assert!(!told_of("restricted", "v1.18", &plain()).contains("seccompProfile"));
}

#[test]
fn each_thing_that_baseline_forbids_is_told_in_upstreams_words() {
    let with = |path: &str, value: Value| {
        let mut spec = plain();
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = match parent {
            "/c/securityContext" => {
                spec["containers"][0]["securityContext"] = json!({});
                &mut spec["containers"][0]["securityContext"]
            }
            "/c" => &mut spec["containers"][0],
            "/securityContext" => {
                spec["securityContext"] = json!({});
                &mut spec["securityContext"]
            }
            _ => &mut spec,
        };
        parent[field] = value;
        spec
    };
    for (path, value, expected) in [
        ("/hostPID", json!(true), "host namespaces (hostPID=true)"),
        (
            "/c/securityContext/privileged",
            json!(true),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            "/c/securityContext/capabilities",
            json!({"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}),
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" \
             in securityContext.capabilities.add)",
        ),
        (
            "/volumes",
            json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "emptyDir": {}}]),
            "hostPath volumes (volume \"v\")",
        ),
        (
            "/c/ports",
            json!([{"containerPort": 80, "hostPort": 80}]),
            "hostPort (container \"c\" uses hostPort 80)",
        ),
        (
            "/c/securityContext/procMount",
            json!("Unmasked"),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({"type": "spc_t", "user": "u"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user \
             may not be set)",
        ),
        (
            "/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \
             \"Unconfined\")",
        ),
        (
            "/securityContext/sysctls",
            json!([{"name": "kernel.msgmax", "value": "1"},
                   {"name": "net.ipv4.tcp_rmem", "value": "1"}]),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            "/securityContext/windowsOptions",
            json!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        assert_eq!(told_of("baseline", "latest", &with(path, value)), expected);
    }
    let rmem = json!([{"name": "net.ipv4.tcp_rmem", "value": "1"}]);
    let old = told_of("baseline", "v1.31", &with("/securityContext/sysctls", rmem));
    assert_eq!(old, "forbidden sysctls (net.ipv4.tcp_rmem)");
}

#[tokio::test]
async fn a_namespace_refuses_warns_and_tells_who_tightens_it_of_its_pods() {
    let cluster = Cluster::start().await.with_default_account().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": plain()});
    assert_eq!(cluster.post(pods, pod("before")).await.0, 201);
    let label = async |labels: Value| {
        let body = json!({"metadata": {"labels": labels}}).to_string();
        let headers = [(http::header::CONTENT_TYPE, "application/merge-patch+json")];
        cluster.send("PATCH", "/api/v1/namespaces/default", &headers, body).await
    };
    let (head, refused) = label(json!({"pod-security.kubernetes.io/enforce": "strict"})).await;
    assert_eq!(head.status, 422, "{refused}");
    let warned = |head: &http::response::Parts| -> Vec<String> {
        let all = head.headers.get_all(http::header::WARNING).iter();
        all.map(|it| it.to_str().unwrap().to_owned()).collect()
    };
    let (head, _) = label(json!({"pod-security.kubernetes.io/warn": "restricted"})).await;
    assert!(warned(&head).is_empty());
    let made = cluster.send("POST", pods, &[], pod("warned").to_string()).await;
    assert_eq!(made.0.status, 201);
    assert!(warned(&made.0)[0].contains("would violate PodSecurity"), "{:?}", warned(&made.0));
    let (head, _) = label(json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
    let told = warned(&head);
    assert!(told[0].contains("existing pods in namespace"), "{told:?}");
    assert!(told[1].contains("before (and 1 other pod): allowPrivilegeEscalation != false, "));
    let (code, refused) = cluster.post(pods, pod("refused")).await;
    assert_eq!(code, 403);
    let message = refused["message"].as_str().unwrap();
    let expected =
        "pods \"refused\" is forbidden: violates PodSecurity \"restricted:latest\": allow";
    assert!(message.starts_with(expected), "{message}");
    let good = json!({"metadata": {"name": "good"}, "spec": hardened()});
    let (code, made) = cluster.post(pods, good).await;
    assert_eq!(code, 201, "{made}");
    let note = json!({"metadata": {"annotations": {"a": "b"}}});
    let (code, _) = cluster.patch(&format!("{pods}/before"), "merge-patch+json", note).await;
    assert_eq!(code, 200, "what is not looked at may change");
}

fn labelled(labels: &Value) -> Value {
    json!({"metadata": {"labels": labels.as_object().into_iter().flatten()
        .map(|(key, value)| (format!("{PREFIX}{key}"), value.clone()))
        .collect::<serde_json::Map<_, _>>()}})
}

#[test]
fn labels_stand_before_defaults_and_whoever_enforces_is_warned() {
    let restricted = Policy { level: Level::Restricted, version: Some(30) };
    let defaults = Policies { audit: restricted, ..Policies::default() };
    let of = |labels: Value| {
        let Policies { enforce, audit, warn } = Policies::of(&labelled(&labels), &defaults);
        [enforce, audit, warn].map(|it| it.to_string()).join(" ")
    };
    for (labels, wanted) in [
        (json!({}), "privileged:latest restricted:v1.30 privileged:latest"),
        (json!({"enforce": "baseline"}), "baseline:latest restricted:v1.30 baseline:latest"),
        (
            json!({"enforce": "baseline", "enforce-version": "v1.3", "audit": "baseline"}),
            "baseline:v1.3 baseline:v1.30 baseline:v1.3",
        ),
        (
            json!({"enforce": "restricted", "warn": "privileged"}),
            "restricted:latest restricted:v1.30 privileged:latest",
        ),
        (
            json!({"enforce": "strict", "audit": "strict", "warn": "strict"}),
            "restricted:latest privileged:v1.30 privileged:latest",
        ),
    ] {
        assert_eq!(of(labels.clone()), wanted, "{labels}");
    }
}

#[tokio::test]
async fn a_configuration_restricts_namespaces_that_say_nothing_and_exempts_some() {
    let settings = PodSecurity::parse(&json!({
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "baseline"},
        "exemptions": {"namespaces": ["free"], "usernames": ["bob"], "runtimeClasses": ["kata"]},
    }));
    let cluster = Cluster::with(|config| config.pod_security = settings.unwrap()).await;
    let cluster = cluster.with_default_account().await;
    let free = json!({"metadata": {"name": "free", "labels": {
        "pod-security.kubernetes.io/warn": "restricted"}}});
    let (head, _) = cluster.send("POST", "/api/v1/namespaces", &[], free.to_string()).await;
    assert_eq!(
        head.headers[http::header::WARNING],
        "299 - \"namespace \\\"free\\\" is exempt from Pod Security, and the policy \
         (warn=restricted:latest) will be ignored\""
    );
    let account = json!({"metadata": {"name": "default"}});
    cluster.post("/api/v1/namespaces/free/serviceaccounts", account).await;
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let class = json!({"metadata": {"name": "kata"}, "handler": "kata"});
    assert_eq!(cluster.post(classes, class).await.0, 201);
    let pods = |namespace: &str| format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    let pod = |class: Option<&str>| {
        let mut spec = plain();
        spec["hostNetwork"] = true.into();
        spec["runtimeClassName"] = json!(class);
        json!({"metadata": {"name": "p"}, "spec": spec})
    };
    let (code, refused) = cluster.post(&pods("default"), pod(None)).await;
    assert_eq!(code, 403, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("PodSecurity \"baseline:latest\""));
    assert_eq!(cluster.post(&pods("default"), pod(Some("kata"))).await.0, 201);
    assert_eq!(cluster.post(&pods("free"), pod(None)).await.0, 201);
    let bob = [("Impersonate-User", "bob"), ("Impersonate-Group", "system:masters")];
    let bob = bob.map(|(name, value)| (name.parse().unwrap(), value));
    let made = cluster.send("POST", &pods("default"), &bob, pod(None).to_string()).await;
    assert_eq!(made.0.status, 201, "{}", made.1);
}
