//! Steps of a node's way into the cluster, each really broken, and what `explain node` says of it. Others are
//! broken in `missing_rights` (rights, CNI, registry) and `self_managed` (user data, mapping).

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    Test,
    missing_rights::{Group, ensure_fails},
    region::{Region, eventually, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("a_role_that_ec2_may_not_take_gives_no_token", role_without_trust),
    ("a_serving_certificate_that_nobody_approves_is_told", unapproved_certificate),
    ("a_cluster_without_coredns_is_told", no_dns),
];

const NOBODY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

/// The metadata service has no credentials for the instance that comes next.
fn role_without_trust(region: &Region) -> anyhow::Result<()> {
    let group = Group::without(region, &[], "no-trust")?;
    let first = id(&group.instance()?)?;
    let trust = ["iam", "update-assume-role-policy", "--role-name", "role-no-trust"];
    region.aws(&[&trust[..], &["--policy-document", NOBODY]].concat())?;
    let end = ["autoscaling", "terminate-instance-in-auto-scaling-group", "--instance-id", &first];
    region.aws(&[&end[..], &["--no-should-decrement-desired-capacity"]].concat())?;
    let second = eventually("another instance runs", seconds(120), || {
        let found = id(&group.instance()?)?;
        Ok((found != first).then_some(found))
    })?;
    let step = ensure_fails(region, &second, "role")?;
    let detail = step["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("role-no-trust"), "{step}");
    group.delete()
}

fn id(instance: &Value) -> anyhow::Result<String> {
    Ok(instance["InstanceId"].as_str().context("an id")?.to_owned())
}

/// A policy of the cluster's refuses what EKS's approver does.
fn unapproved_certificate(region: &Region) -> anyhow::Result<()> {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-serving"},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["certificates.k8s.io"], "apiVersions": ["v1"],
                "operations": ["UPDATE"], "resources": ["certificatesigningrequests/approval"],
            }]},
            "validations": [{
                "expression": "object.spec.signerName != 'kubernetes.io/kubelet-serving'",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-serving"},
        "spec": {"policyName": "no-serving", "validationActions": ["Deny"]},
    });
    region.apply(&policy.to_string())?;
    region.apply(&binding.to_string())?;
    let group = Group::without(region, &[], "no-serving")?;
    let told = group.node().and_then(|node| ensure_fails(region, &node, "certificate"));
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        region.kubectl(&["delete", kind, "no-serving"])?;
    }
    let told = told?;
    let detail = told["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("not approved"), "{told}");
    group.delete()
}

fn no_dns(region: &Region) -> anyhow::Result<()> {
    let nodes = region.kubectl_json(&["get", "nodes"])?;
    let node = nodes["items"][0]["metadata"]["name"].as_str().context("a node")?.to_owned();
    let scale = |count: &str| {
        let replicas = format!("--replicas={count}");
        region.kubectl(&["-n", "kube-system", "scale", "deployment/coredns", &replicas])
    };
    scale("0")?;
    let told = ensure_fails(region, &node, "cluster DNS");
    scale("2")?;
    let rollout = ["-n", "kube-system", "rollout", "status", "deployment/coredns"];
    region.kubectl(&[&rollout[..], &["--timeout=120s"]].concat())?;
    told.map(drop)
}
