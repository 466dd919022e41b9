//! Karpenter as a process of this machine: pending pods bring an instance, and it goes when they do.

use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, seconds},
};

pub(crate) const TESTS: &[Test] =
    &[("a_pending_pod_brings_a_node_of_its_size_which_goes_with_it", a_pending_pod_brings_a_node)];

/// Ends with the test, whatever becomes of it.
struct Karpenter(Child);

impl Drop for Karpenter {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(region: &Region) -> anyhow::Result<Karpenter> {
    let program = nodestead(std::path::Path::new(""), &[]).get_program().to_owned();
    let program = program.to_str().context("a path that is no text")?.to_owned();
    let kubeconfig = region.export("KUBECONFIG").to_owned();
    let arguments = ["run", "karpenter", "--kubeconfig", &kubeconfig, "--cluster-name", "stead"];
    let log = std::fs::File::create("/tmp/nodestead-e2e-karpenter.log")?;
    let mut command = region.client(&program, &arguments);
    command.stdout(Stdio::null()).stderr(log);
    Ok(Karpenter(command.spawn()?))
}

fn manifests(region: &Region) -> anyhow::Result<String> {
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
  amiSelectorTerms: [{{alias: al2023@latest}}]
  role: {role}
  subnetSelectorTerms: [{}]
  securityGroupSelectorTerms: [{{id: {security_group}}}]
---
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {{name: default}}
spec:
  template:
    spec:
      nodeClassRef: {{group: karpenter.k8s.aws, kind: EC2NodeClass, name: default}}
      requirements:
        - {{key: karpenter.k8s.aws/instance-category, operator: In, values: [m]}}
        - {{key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}}
",
        subnets.join(", ")
    ))
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
    let karpenter = start(region)?;
    eventually("the definitions are there", seconds(30), || {
        Ok(region.kubectl(&["get", "nodepools"]).ok().map(drop))
    })?;
    region.apply(&manifests(region)?)?;
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
    region.kubectl(&["delete", "nodepool", "default"])?;
    region.kubectl(&["delete", "ec2nodeclass", "default", "--timeout=60s"])?;
    drop(karpenter);
    Ok(())
}
