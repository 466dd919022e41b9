//! What must hold of the chain.

use serde_json::json;

use super::*;
use crate::commands::explain::pod_credentials::facts::Association;

const ROLE: &str = "arn:aws:iam::111122223333:role/app";

fn pod(env: serde_json::Value, more: serde_json::Value) -> Pod {
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
    let token = |name: &str, audience: &str, path: &str| {
        json!({"name": name, "projected": {"sources": [
            {"serviceAccountToken": {"audience": audience, "path": path}}
        ]}})
    };
    let mut pod = json!({
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {
            "nodeName": "node-1", "serviceAccountName": "web",
            "containers": [{"name": "main", "env": env, "volumeMounts": [
                mount("aws-iam-token", "/var/run/secrets/eks.amazonaws.com/serviceaccount"),
                mount("eks-pod-identity-token", "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"),
            ]}],
            "volumes": [
                token("aws-iam-token", "sts.amazonaws.com", "token"),
                token("eks-pod-identity-token", "pods.eks.amazonaws.com", "eks-pod-identity-token"),
            ],
        },
    });
    for (key, value) in more.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn irsa() -> Vec<serde_json::Value> {
    vec![
        json!({"name": ROLE_ARN, "value": ROLE}),
        json!({"name": TOKEN_FILE, "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"}),
    ]
}

fn pod_identity() -> Vec<serde_json::Value> {
    let file = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token";
    vec![
        json!({"name": FULL_URI, "value": AGENT[0]}),
        json!({"name": AUTHORIZATION_FILE, "value": file}),
    ]
}

fn facts(hop_limit: i64, requires_tokens: bool) -> Facts {
    let instance = Instance {
        id: "i-1".to_owned(),
        role: Some("node".to_owned()),
        has_endpoint: true,
        requires_tokens,
        hop_limit,
    };
    let association = Association {
        id: "a-1".to_owned(),
        role: Some(ROLE.to_owned()),
        target: None,
        has_tags: true,
    };
    Facts {
        instances: [("node-1".to_owned(), instance)].into(),
        agents: ["node-1".to_owned()].into(),
        associations: [(("shop".to_owned(), "web".to_owned()), association)].into(),
        ..Facts::default()
    }
}

fn found(pod: &Pod, facts: &Facts) -> Found {
    of_pod(pod, facts).pop().unwrap()
}

fn source(pod: &Pod, facts: &Facts) -> (&'static str, bool, Option<String>) {
    let it = found(pod, facts);
    (it.source, it.works, it.principal)
}

#[test]
fn the_first_provider_that_is_configured_is_the_one() {
    let keys = vec![
        json!({"name": "AWS_ACCESS_KEY_ID", "value": "AKIA1"}),
        json!({"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
    ];
    let all = [keys, irsa(), pod_identity()];
    let facts = facts(2, true);
    let of = |first: usize| source(&pod(json!(all[first..].concat()), json!({})), &facts);
    assert_eq!(of(0), ("environment", true, Some("AKIA1".to_owned())));
    assert_eq!(of(1), ("web-identity", true, Some(ROLE.to_owned())));
    assert_eq!(of(2), ("container", true, Some(ROLE.to_owned())));
    assert_eq!(of(3), ("instance-metadata", true, Some("node".to_owned())));
    let states: Vec<State> = found(&pod(json!(all[1..].concat()), json!({})), &facts)
        .chain
        .iter()
        .map(|it| it.state)
        .collect();
    let expected = [State::Skipped, State::Used, State::NotReached, State::NotReached];
    assert_eq!(states, expected);
}

#[test]
fn a_pod_reaches_the_nodes_credentials_by_network_hop_limit_or_old_imds() {
    let plain = pod(json!([]), json!({}));
    let on_host = pod(json!([]), json!({"hostNetwork": true}));
    let node = || ("instance-metadata", true, Some("node".to_owned()));
    let none = || ("none", false, None);
    assert_eq!(source(&plain, &facts(1, true)), none());
    assert_eq!(source(&plain, &facts(2, true)), node());
    assert_eq!(source(&plain, &facts(1, false)), node());
    assert_eq!(source(&on_host, &facts(1, true)), node());
    assert!(found(&plain, &facts(1, true)).why.contains("dies at its veth"));
    let disabled = pod(json!([{"name": "AWS_EC2_METADATA_DISABLED", "value": "true"}]), json!({}));
    assert_eq!(source(&disabled, &facts(2, true)), none());
}

#[test]
fn an_instance_without_role_or_endpoint_gives_nothing() {
    let plain = pod(json!([]), json!({"hostNetwork": true}));
    let mut without_role = facts(2, true);
    without_role.instances.get_mut("node-1").unwrap().role = None;
    assert_eq!(source(&plain, &without_role).0, "none");
    let mut off = facts(2, true);
    off.instances.get_mut("node-1").unwrap().has_endpoint = false;
    assert_eq!(source(&plain, &off).0, "none");
    let nowhere = pod(json!([]), json!({"nodeName": "fargate-1"}));
    assert_eq!(source(&nowhere, &facts(2, true)).0, "none");
}

#[test]
fn a_provider_that_fails_hides_those_after_it() {
    let mut without_agent = facts(2, false);
    without_agent.agents.clear();
    let it = found(&pod(json!(pod_identity()), json!({})), &without_agent);
    assert_eq!((it.source, it.works), ("container", false));
    assert!(it.why.contains("no eks-pod-identity-agent"), "{}", it.why);
    let mut without_association = facts(2, false);
    without_association.associations.clear();
    let it = found(&pod(json!(pod_identity()), json!({})), &without_association);
    assert!(!it.works && it.why.contains("has no association any more"), "{}", it.why);
    let without_volume = pod(json!(irsa()), json!({"volumes": []}));
    let it = found(&without_volume, &facts(2, false));
    assert_eq!((it.source, it.works), ("web-identity", false));
    let half = pod(json!([{"name": "AWS_ACCESS_KEY_ID", "value": "AKIA1"}]), json!({}));
    assert_eq!(
        (found(&half, &facts(2, false)).source, found(&half, &facts(2, false)).works),
        ("environment", false)
    );
}

#[test]
fn what_the_pod_was_made_too_early_for_is_said() {
    let mut facts = facts(1, true);
    let account = ("shop".to_owned(), "web".to_owned());
    facts.annotated.insert(account, ROLE.to_owned());
    let it = found(&pod(json!([]), json!({})), &facts);
    assert_eq!(it.source, "none");
    assert!(it.chain[1].detail.contains("make it again"), "{}", it.chain[1].detail);
    assert!(it.chain[2].detail.contains("a-1"), "{}", it.chain[2].detail);
}

#[test]
fn what_may_be_in_a_secret_is_said() {
    let mut it = pod(json!([]), json!({}));
    let container = &mut it.spec.as_mut().unwrap().containers[0];
    container.env_from =
        Some(serde_json::from_value(json!([{"secretRef": {"name": "keys"}}])).unwrap());
    let it = found(&it, &facts(1, true));
    assert!(it.chain[0].detail.contains("Secret keys"), "{}", it.chain[0].detail);
}
