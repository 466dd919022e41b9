//! EKS Pod Identity: an unmodified boto3 in a pod gets the role of its service account, and nobody
//! else does.

use anyhow::{Context, ensure};
use serde_json::json;

use crate::{
    Test,
    region::{Region, eventually, outcome, run, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("without_the_agent_pod_identity_leads_nowhere", without_the_agent),
    ("boto3_in_a_pod_has_the_role_of_its_account", boto3_has_the_role),
    ("a_policy_tells_pods_apart_by_their_session_tags", a_policy_tells_pods_apart),
    ("an_account_without_an_association_gets_no_credentials", an_account_without_association),
    ("the_agent_answers_the_bearer_of_a_token_alone", the_agent_answers_the_bearer),
    ("the_token_of_a_deleted_pod_is_nothing", the_token_of_a_deleted_pod),
];

const IMAGE: &str = "docker.io/nodestead/boto3:v1";
const ROLE: &str = "pod-reader";
const ADDON: &str = "eks-pod-identity-agent";

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"],
    "Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}}]}"#;

/// Pods of `default` may look at VPCs, those of `elsewhere` at subnets.
fn rights() -> String {
    let of = |namespace: &str, action: &str| {
        json!({"Effect": "Allow", "Action": action, "Resource": "*", "Condition":
            {"StringEquals": {"aws:PrincipalTag/kubernetes-namespace": namespace}}})
    };
    let statements = [of("default", "ec2:DescribeVpcs"), of("elsewhere", "ec2:DescribeSubnets")];
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// A pod that waits to be told what to do.
fn pod(name: &str, account: &str, more: &serde_json::Value) -> String {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "serviceAccountName": account, "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "app", "image": IMAGE, "command": ["sleep", "3600"]}]}});
    for (key, value) in more.as_object().into_iter().flatten() {
        match key.as_str() {
            "volumes" => pod["spec"]["volumes"] = value.clone(),
            _ => pod["spec"]["containers"][0][key] = value.clone(),
        }
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": account}});
    json!({"apiVersion": "v1", "kind": "List", "items": [account, pod]}).to_string()
}

/// Makes the pod anew and waits for it.
fn start(region: &Region, name: &str, manifest: &str) -> anyhow::Result<()> {
    region.kubectl(&["delete", "pod", name, "--ignore-not-found", "--wait"])?;
    region.apply(manifest)?;
    region.kubectl(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=90s"])?;
    Ok(())
}

/// Runs Python in the pod: whether it ended well, and what it said.
fn python(region: &Region, pod: &str, script: &str) -> anyhow::Result<(bool, String)> {
    outcome(&mut region.client("kubectl", &["exec", pod, "--", "python3", "-c", script]))
}

/// The role, its rights and the association, made once.
fn associate(region: &Region) -> anyhow::Result<()> {
    let of = ["--namespace", "default", "--service-account", "reader"];
    let list = ["eks", "list-pod-identity-associations", "--cluster-name", "stead"];
    let known = region.aws(&[&list[..], &of].concat())?;
    if known["associations"].as_array().is_some_and(|it| !it.is_empty()) {
        return Ok(());
    }
    let role = ["--role-name", ROLE];
    let make = [&["iam", "create-role"][..], &role, &["--assume-role-policy-document", TRUST]];
    let made = region.aws(&make.concat())?;
    let rights = rights();
    let document = ["--policy-name", "read", "--policy-document", &rights];
    run(&mut region.client("aws", &[&["iam", "put-role-policy"][..], &role, &document].concat()))?;
    let arn = made["Role"]["Arn"].as_str().context("a role has an ARN")?;
    let made = region.aws(&[
        "eks",
        "create-pod-identity-association",
        "--cluster-name",
        "stead",
        "--namespace",
        "default",
        "--service-account",
        "reader",
        "--role-arn",
        arn,
    ])?;
    let id = made["association"]["associationId"].as_str().unwrap_or_default();
    ensure!(id.starts_with("a-"), "{made}");
    Ok(())
}

/// The add-on, installed and running on every node.
pub(crate) fn install_agent(region: &Region) -> anyhow::Result<()> {
    let of = ["--cluster-name", "stead", "--addon-name", ADDON];
    if outcome(&mut region.client("aws", &[&["eks", "describe-addon"][..], &of].concat()))?.0 {
        return Ok(());
    }
    region.aws(&[&["eks", "create-addon"][..], &of].concat())?;
    eventually("the agent runs on every node", seconds(120), || {
        let addon = region.aws(&[&["eks", "describe-addon"][..], &of].concat())?;
        Ok((addon["addon"]["status"] == "ACTIVE").then_some(()))
    })
}

fn without_the_agent(region: &Region) -> anyhow::Result<()> {
    associate(region)?;
    start(region, "early", &pod("early", "reader", &json!({})))?;
    let env = region.kubectl(&["exec", "early", "--", "env"])?;
    for wanted in [
        "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.23/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/var/run/secrets/pods.eks.amazonaws.com/",
    ] {
        ensure!(env.contains(wanted), "{wanted} is not in\n{env}");
    }
    let (is_fine, said) = python(region, "early", DIAL)?;
    // Refused where the agent's link is left from before; else the address is nobody's in the VPC.
    let reasons = ["Connection refused", "unreachable", "No route to host", "timed out"];
    ensure!(!is_fine && reasons.iter().any(|it| said.contains(it)), "{said}");
    region.kubectl(&["delete", "pod", "early"])?;
    Ok(())
}

const DIAL: &str = r#"
import urllib.request
urllib.request.urlopen("http://169.254.170.23/v1/credentials", timeout=5)
"#;

fn boto3_has_the_role(region: &Region) -> anyhow::Result<()> {
    associate(region)?;
    install_agent(region)?;
    start(region, "reader", &pod("reader", "reader", &json!({})))?;
    let (is_fine, said) = python(region, "reader", WHO)?;
    let start = format!("arn:aws:sts::111122223333:assumed-role/{ROLE}/eks-stead-reader-");
    ensure!(is_fine && said.trim().starts_with(&start), "{said}");
    Ok(())
}

const WHO: &str = r#"
import boto3
print(boto3.client("sts").get_caller_identity()["Arn"])
"#;

fn a_policy_tells_pods_apart(region: &Region) -> anyhow::Result<()> {
    boto3_has_the_role(region)?;
    let (is_fine, said) = python(region, "reader", RIGHTS)?;
    ensure!(is_fine && said.trim().ends_with("done"), "{said}");
    Ok(())
}

const RIGHTS: &str = r#"
import boto3, botocore.exceptions
ec2 = boto3.client("ec2")
assert ec2.describe_vpcs()["Vpcs"]
try:
    ec2.describe_subnets()
    raise SystemExit("a pod of default did what is for those of elsewhere")
except botocore.exceptions.ClientError as error:
    assert error.response["Error"]["Code"] == "UnauthorizedOperation", error
print("done")
"#;

fn an_account_without_association(region: &Region) -> anyhow::Result<()> {
    install_agent(region)?;
    // What the webhook does for others, done by hand.
    let by_hand = json!({
        "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken":
            {"audience": "pods.eks.amazonaws.com", "path": "token"}}]}}],
        "volumeMounts": [{"name": "token", "mountPath": "/token"}],
    });
    start(region, "nobody", &pod("nobody", "nobody", &by_hand))?;
    let env = region.kubectl(&["exec", "nobody", "--", "env"])?;
    ensure!(!env.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "{env}");
    let (_, said) = python(region, "nobody", ASK)?;
    ensure!(said.contains("404") && said.contains("ResourceNotFoundException"), "{said}");
    Ok(())
}

const ASK: &str = r#"
import urllib.request, urllib.error
headers = {"Authorization": open("/token/token").read()}
request = urllib.request.Request("http://169.254.170.23/v1/credentials", headers=headers)
try:
    print(urllib.request.urlopen(request, timeout=10).read())
except urllib.error.HTTPError as error:
    print(error.code, error.read())
"#;

fn the_agent_answers_the_bearer(region: &Region) -> anyhow::Result<()> {
    boto3_has_the_role(region)?;
    let (is_fine, said) = python(region, "reader", FORGE)?;
    ensure!(is_fine && said.trim().ends_with("done"), "{said}");
    Ok(())
}

const FORGE: &str = r#"
import os, urllib.request, urllib.error
url = "http://169.254.170.23/v1/credentials"
token = open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()

def ask(**headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code

head, claims, signature = token.split(".")
forged = ".".join([head, claims, signature[:-8] + "AAAAAAAA"])
for wanted, headers in [
    (200, dict(Authorization=token)),
    (400, dict()),
    (400, dict(X_Forwarded_For="192.168.0.10")),
    (400, dict(Authorization="Bearer " + token)),
    (400, dict(Authorization=forged)),
    (403, dict(Authorization=token, Host="agent.example.com")),
]:
    assert ask(**headers) == wanted, (wanted, headers.keys(), ask(**headers))
print("done")
"#;

fn the_token_of_a_deleted_pod(region: &Region) -> anyhow::Result<()> {
    associate(region)?;
    start(region, "victim", &pod("victim", "reader", &json!({})))?;
    let file = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token";
    let token = region.kubectl(&["exec", "victim", "--", "cat", file])?;
    let call = ["eks-auth", "assume-role-for-pod-identity", "--cluster-name", "stead", "--token"];
    let ask = || outcome(&mut region.client("aws", &[&call[..], &[token.trim()]].concat()));
    let (is_fine, said) = ask()?;
    ensure!(is_fine && said.contains("\"sessionToken\""), "{said}");
    region.kubectl(&["delete", "pod", "victim", "--wait"])?;
    let (is_fine, said) = ask()?;
    ensure!(!is_fine && said.contains("InvalidTokenException"), "{said}");
    // Another one of the same name is another pod.
    start(region, "victim", &pod("victim", "reader", &json!({})))?;
    ensure!(!ask()?.0, "the token of the first pod is good for the second one");
    let foreign = [&call[..3], &["other", "--token", token.trim()]].concat();
    let (_, said) = outcome(&mut region.client("aws", &foreign))?;
    ensure!(said.contains("ResourceNotFoundException"), "{said}");
    Ok(())
}
