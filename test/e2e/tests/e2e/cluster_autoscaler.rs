//! Cluster Autoscaler on real instances: a group that starts from nothing, and the autoscaler as a
//! process of this machine, with the environment of `nodestead env`; and as a pod, with the rights of
//! an EKS Pod Identity association.

use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    pod_identity::install_agent,
    region::{Region, eventually, run, run_with_input, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "cluster_autoscaler_brings_a_node_for_a_pod_and_takes_it_away",
        cluster_autoscaler_brings_a_node_for_a_pod_and_takes_it_away,
    ),
    (
        "cluster_autoscaler_works_as_a_pod_with_a_role",
        cluster_autoscaler_works_as_a_pod_with_a_role,
    ),
];

const GROUP: [&str; 4] = ["--cluster-name", "stead", "--nodegroup-name", "scaled"];
const LABEL: &str = "eks.amazonaws.com/nodegroup=scaled";

/// The autoscaler; it ends with the value.
struct Autoscaler(Child);

impl Drop for Autoscaler {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Autoscaler {
    fn start(region: &Region) -> anyhow::Result<Self> {
        let group = auto_scaling_group(region)?;
        let path = std::env::temp_dir().join("nodestead-e2e-cluster-autoscaler.log");
        let log = std::fs::File::create(path)?;
        let program = std::env::var("NODESTEAD").context("NODESTEAD is set")?;
        let mut command = region.client(
            &program,
            &[
                "run",
                "cluster-autoscaler",
                "--kubeconfig",
                region.export("KUBECONFIG"),
                // Only this group: the others are other tests'.
                &format!("--nodes=0:1:{group}"),
                "--scan-interval=2s",
                "--scale-down-unneeded-time=5s",
                "--scale-down-delay-after-add=5s",
                "--unremovable-node-recheck-timeout=5s",
                "--node-delete-delay-after-taint=1s",
                "--address=127.0.0.1:0",
            ],
        );
        Ok(Self(command.stdout(Stdio::null()).stderr(log).spawn()?))
    }
}

fn auto_scaling_group(region: &Region) -> anyhow::Result<String> {
    let described = region.aws(&[&["eks", "describe-nodegroup"][..], &GROUP].concat())?;
    let name = &described["nodegroup"]["resources"]["autoScalingGroups"][0]["name"];
    Ok(name.as_str().context("a group has an Auto Scaling group")?.to_owned())
}

/// Two cores are on a node; two of these do not fit.
fn pod(name: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      nodeSelector: {{eks.amazonaws.com/nodegroup: scaled}}
      containers:
        - name: sleep
          image: busybox:1.35
          command: [sleep, '100000']
          resources: {{requests: {{cpu: 1200m}}}}
"
    )
}

fn nodes(region: &Region) -> anyhow::Result<usize> {
    let list = region.kubectl_json(&["get", "nodes", "-l", LABEL])?;
    Ok(list["items"].as_array().map_or(0, Vec::len))
}

fn events(region: &Region, reason: &str) -> anyhow::Result<Vec<String>> {
    let selector = format!("reason={reason}");
    let list = region.kubectl_json(&["get", "events", "-A", "--field-selector", &selector])?;
    let message = |it: &Value| it["message"].as_str().map(str::to_owned);
    Ok(list["items"].as_array().into_iter().flatten().filter_map(message).collect())
}

fn cluster_autoscaler_brings_a_node_for_a_pod_and_takes_it_away(
    region: &Region,
) -> anyhow::Result<()> {
    make_group(region)?;
    let group = auto_scaling_group(region)?;
    let autoscaler = Autoscaler::start(region)?;
    region.apply(&pod("first"))?;
    region.kubectl(&["rollout", "status", "deployment/first", "--timeout=120s"])?;
    let wanted = format!("pod triggered scale-up: [{{{group} 0->1 (max: 1)}}]");
    let triggered = events(region, "TriggeredScaleUp")?;
    ensure!(triggered.contains(&wanted), "{triggered:?}");
    ensure!(nodes(region)? == 1);

    // The group is at its most now.
    region.apply(&pod("second"))?;
    let wanted = "pod didn't trigger scale-up: 1 max node group size reached";
    eventually("the second pod is told why it waits", seconds(60), || {
        let told = events(region, "NotTriggerScaleUp")?;
        Ok(told.iter().any(|it| it == wanted).then_some(()))
    })?;
    let status = region.kubectl(&[
        "get",
        "configmap",
        "-n",
        "kube-system",
        "cluster-autoscaler-status",
        "-o",
        "jsonpath={.data.status}",
    ])?;
    ensure!(status.contains("cloudProviderTarget: 1"), "{status}");

    region.kubectl(&["delete", "deployment", "first", "second"])?;
    eventually("the node goes", seconds(180), || Ok((nodes(region)? == 0).then_some(())))?;
    let empty = events(region, "ScaleDownEmpty")?;
    ensure!(!empty.is_empty());
    drop(autoscaler);
    remove_group(region)
}

fn remove_group(region: &Region) -> anyhow::Result<()> {
    region.aws(&[&["eks", "delete-nodegroup"][..], &GROUP].concat())?;
    eventually("the group is gone", seconds(120), || {
        let groups = region.aws(&["eks", "list-nodegroups", "--cluster-name", "stead"])?;
        Ok((!groups.to_string().contains("scaled")).then_some(()))
    })
}

/// With the role of the region's own nodes; it starts from nothing.
fn make_group(region: &Region) -> anyhow::Result<()> {
    let groups = region.aws(&["eks", "list-nodegroups", "--cluster-name", "stead"])?;
    let first = groups["nodegroups"][0].as_str().context("there is a first group")?.to_owned();
    let described = region.aws(&[
        "eks",
        "describe-nodegroup",
        "--cluster-name",
        "stead",
        "--nodegroup-name",
        &first,
    ])?;
    let role = described["nodegroup"]["nodeRole"].as_str().context("it has a role")?.to_owned();
    let subnet = region.subnet()?;
    let create = [
        &["eks", "create-nodegroup"][..],
        &GROUP,
        &["--node-role", &role, "--subnets", &subnet, "--instance-types", "m5.large"],
        &["--scaling-config", "minSize=0,maxSize=1,desiredSize=0"],
    ]
    .concat();
    run(&mut region.client("aws", &create))?;
    eventually("the group is active", seconds(60), || {
        let it = region.aws(&[&["eks", "describe-nodegroup"][..], &GROUP].concat())?;
        Ok((it["nodegroup"]["status"] == "ACTIVE").then_some(()))
    })
}

// === as a pod ===

const MANIFEST: &str = include_str!("../../../../examples/cluster-autoscaler.yaml");
const ROLE: [&str; 2] = ["--role-name", "cluster-autoscaler"];
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"pods.eks.amazonaws.com"},
    "Action":["sts:AssumeRole","sts:TagSession"]}]}"#;
const RIGHTS: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*",
    "Action":["autoscaling:DescribeAutoScalingGroups","autoscaling:DescribeScalingActivities",
        "autoscaling:SetDesiredCapacity","autoscaling:TerminateInstanceInAutoScalingGroup",
        "ec2:DescribeInstanceTypes","ec2:DescribeLaunchTemplateVersions",
        "eks:DescribeNodegroup"]}]}"#;

/// The example's manifest, for this test's group alone.
fn manifest(group: &str) -> String {
    let discovery = "--node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled,\
                     k8s.io/cluster-autoscaler/stead";
    MANIFEST.replace(discovery, &format!("--nodes=0:1:{group}"))
}

fn cluster_autoscaler_works_as_a_pod_with_a_role(region: &Region) -> anyhow::Result<()> {
    make_group(region)?;
    // An association is not enough: without the agent the pod has no credentials.
    install_agent(region)?;
    let association = allow(region)?;
    let manifest = manifest(&auto_scaling_group(region)?);
    ensure!(manifest.contains("--nodes=0:1:"), "the example finds groups otherwise");
    region.apply(&manifest)?;
    region.kubectl(&[
        "rollout",
        "status",
        "-n",
        "kube-system",
        "deployment/cluster-autoscaler",
        "--timeout=120s",
    ])?;
    region.apply(&pod("first"))?;
    region.kubectl(&["rollout", "status", "deployment/first", "--timeout=120s"])?;
    region.kubectl(&["delete", "deployment", "first"])?;
    run_with_input(&mut region.client("kubectl", &["delete", "-f", "-"]), &manifest)?;
    region.aws(&[
        "eks",
        "delete-pod-identity-association",
        "--cluster-name",
        "stead",
        "--association-id",
        &association,
    ])?;
    let policy = ["--policy-name", "scale"];
    let rights = [&["iam", "delete-role-policy"][..], &ROLE, &policy].concat();
    run(&mut region.client("aws", &rights))?;
    run(&mut region.client("aws", &[&["iam", "delete-role"][..], &ROLE].concat()))?;
    remove_group(region)
}

/// Gives the service account its role; answers the association's id.
fn allow(region: &Region) -> anyhow::Result<String> {
    let trust = ["--assume-role-policy-document", TRUST];
    let made = region.aws(&[&["iam", "create-role"][..], &ROLE, &trust].concat())?;
    let policy = ["--policy-name", "scale", "--policy-document", RIGHTS];
    let rights = [&["iam", "put-role-policy"][..], &ROLE, &policy].concat();
    run(&mut region.client("aws", &rights))?;
    let arn = made["Role"]["Arn"].as_str().context("a role has an ARN")?;
    let made = region.aws(&[
        "eks",
        "create-pod-identity-association",
        "--cluster-name",
        "stead",
        "--namespace",
        "kube-system",
        "--service-account",
        "cluster-autoscaler",
        "--role-arn",
        arn,
    ])?;
    let id = made["association"]["associationId"].as_str().context("an association has an id")?;
    Ok(id.to_owned())
}
