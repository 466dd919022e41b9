//! Karpenter as a process of this machine: pending pods bring an instance, and it goes when they do.

use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("a_pending_pod_brings_a_node_of_its_size_which_goes_with_it", a_pending_pod_brings_a_node),
    ("a_node_of_bottlerocket_joins_with_the_settings_of_its_class", bottlerocket_joins),
];

/// Ends with the test, whatever becomes of it.
pub(crate) struct Karpenter(Child);

impl Drop for Karpenter {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Karpenter {
    /// Returns when its definitions are there.
    pub(crate) fn start(region: &Region, flags: &[&str]) -> anyhow::Result<Self> {
        let program = nodestead(std::path::Path::new(""), &[]).get_program().to_owned();
        let program = program.to_str().context("a path that is no text")?.to_owned();
        let kubeconfig = region.export("KUBECONFIG").to_owned();
        let arguments =
            ["run", "karpenter", "--kubeconfig", &kubeconfig, "--cluster-name", "stead"];
        let log = std::fs::File::create("/tmp/nodestead-e2e-karpenter.log")?;
        let mut command = region.client(&program, &arguments);
        command.args(flags).stdout(Stdio::null()).stderr(log);
        let karpenter = Self(command.spawn()?);
        eventually("the definitions are there", seconds(30), || {
            Ok(region.kubectl(&["get", "nodepools"]).ok().map(drop))
        })?;
        Ok(karpenter)
    }
}

/// The class `default`: role, subnets and group of the region's own node group.
pub(crate) fn class(region: &Region, alias: &str) -> anyhow::Result<String> {
    let groups = region.aws(&["eks", "list-nodegroups", "--cluster-name", "stead"])?;
    let group = groups["nodegroups"][0].as_str().context("a node group")?.to_owned();
    let of_group = ["eks", "describe-nodegroup", "--cluster-name", "stead", "--nodegroup-name"];
    let described = region.aws(&[&of_group[..], &[group.as_str()]].concat())?;
    let group = &described["nodegroup"];
    let role = group["nodeRole"].as_str().and_then(|it| it.rsplit('/').next()).context("a role")?;
    let subnets: Vec<String> = group["subnets"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|it| format!("{{id: {it}}}"))
        .collect();
    let cluster = region.aws(&["eks", "describe-cluster", "--name", "stead"])?;
    let security_group = cluster["cluster"]["resourcesVpcConfig"]["clusterSecurityGroupId"]
        .as_str()
        .context("the cluster's security group")?;
    Ok(format!(
        "
apiVersion: karpenter.k8s.aws/v1
kind: EC2NodeClass
metadata: {{name: default}}
spec:
  amiSelectorTerms: [{{alias: {alias}}}]
  role: {role}
  subnetSelectorTerms: [{}]
  securityGroupSelectorTerms: [{{id: {security_group}}}]
",
        subnets.join(", ")
    ))
}

/// The pool `default`, of small instances of one capacity type.
pub(crate) fn pool(capacity_type: &str, disruption: &str) -> String {
    format!(
        "
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {{name: default}}
spec:
  disruption: {{{disruption}}}
  template:
    spec:
      nodeClassRef: {{group: karpenter.k8s.aws, kind: EC2NodeClass, name: default}}
      requirements:
        - {{key: karpenter.k8s.aws/instance-category, operator: In, values: [m]}}
        - {{key: karpenter.k8s.aws/instance-size, operator: In, values: [large, xlarge]}}
        - {{key: karpenter.sh/capacity-type, operator: In, values: [{capacity_type}]}}
"
    )
}

/// The pool goes with its nodes, and then the class.
pub(crate) fn remove(region: &Region) -> anyhow::Result<()> {
    let gone = ["--ignore-not-found", "--timeout=240s"];
    region.kubectl(&[&["delete", "nodepool", "default"][..], &gone].concat())?;
    eventually("the nodes go", seconds(240), || {
        let nodes =
            region.kubectl(&["get", "nodes", "-l", "karpenter.sh/nodepool", "-o", "name"])?;
        Ok(nodes.trim().is_empty().then_some(()))
    })?;
    region.kubectl(&[&["delete", "ec2nodeclass", "default"][..], &gone].concat())?;
    Ok(())
}

const LOAD: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: for-karpenter}
spec:
  replicas: 1
  selector: {matchLabels: {app: for-karpenter}}
  template:
    metadata: {labels: {app: for-karpenter}}
    spec:
      terminationGracePeriodSeconds: 0
      nodeSelector: {karpenter.sh/nodepool: default}
      containers:
        - name: sleep
          image: 'busybox:1.35'
          command: [sleep, '100000']
          resources: {requests: {cpu: '3'}}
";

fn a_pending_pod_brings_a_node(region: &Region) -> anyhow::Result<()> {
    let karpenter = Karpenter::start(region, &[])?;
    region.apply(&class(region, "al2023@latest")?)?;
    region.apply(&pool("on-demand", "consolidateAfter: 0s"))?;
    region.kubectl(&["wait", "--for=condition=Ready", "nodepool/default", "--timeout=60s"])?;
    region.apply(LOAD)?;
    region.kubectl(&["rollout", "status", "deployment/for-karpenter", "--timeout=120s"])?;
    let claims = region.kubectl_json(&["get", "nodeclaims"])?;
    let claim = &claims["items"][0];
    let kind = claim["metadata"]["labels"]["node.kubernetes.io/instance-type"].as_str();
    ensure!(kind.is_some_and(|it| it.ends_with(".xlarge")), "three cores on a {kind:?}");
    ensure!(claims["items"].as_array().is_some_and(|it| it.len() == 1), "{claims}");

    region.kubectl(&["delete", "deployment", "for-karpenter"])?;
    eventually("the node goes", seconds(180), || {
        let claims = region.kubectl_json(&["get", "nodeclaims"])?;
        let nodes =
            region.kubectl(&["get", "nodes", "-l", "karpenter.sh/nodepool", "-o", "name"])?;
        let are_gone = claims["items"].as_array().is_some_and(Vec::is_empty);
        Ok((are_gone && nodes.trim().is_empty()).then_some(()))
    })?;
    remove(region)?;
    drop(karpenter);
    Ok(())
}

/// Of the class, of its user data, and of its placement group.
const SETTINGS: &str = "  kubelet: {maxPods: 17, systemReserved: {cpu: 100m}}
  placementGroupSelector: {name: for-karpenter}
  userData: |
    [settings.kubernetes.node-labels]
    team = 'red'
";

fn bottlerocket_joins(region: &Region) -> anyhow::Result<()> {
    let karpenter = Karpenter::start(region, &[])?;
    let named = ["--group-name", "for-karpenter"];
    let partition = ["--strategy", "partition", "--partition-count", "2"];
    region.aws(&[&["ec2", "create-placement-group"][..], &named, &partition].concat())?;
    region.apply(&format!("{}{SETTINGS}", class(region, "bottlerocket@latest")?.trim_start()))?;
    region.apply(&pool("on-demand", "consolidateAfter: 0s"))?;
    region.kubectl(&["wait", "--for=condition=Ready", "nodepool/default", "--timeout=60s"])?;
    region.apply(LOAD)?;
    region.kubectl(&["rollout", "status", "deployment/for-karpenter", "--timeout=120s"])?;
    let nodes = region.kubectl_json(&["get", "nodes", "-l", "karpenter.sh/nodepool"])?;
    let node = &nodes["items"][0];
    let labels = &node["metadata"]["labels"];
    ensure!(labels["team"] == "red", "{labels}");
    ensure!(labels["karpenter.k8s.aws/placement-group-partition"] == "1", "{labels}");
    let (capacity, left) = (&node["status"]["capacity"], &node["status"]["allocatable"]);
    // EKS's own reservation for four processors is 80m.
    ensure!(capacity["pods"] == "17" && left["cpu"] == "3820m", "{capacity} {left}");
    region.kubectl(&["delete", "deployment", "for-karpenter"])?;
    remove(region)?;
    eventually("the placement group goes", seconds(60), || {
        Ok(region.aws(&[&["ec2", "delete-placement-group"][..], &named].concat()).ok().map(drop))
    })?;
    drop(karpenter);
    Ok(())
}
