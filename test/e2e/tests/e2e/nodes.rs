//! Worker nodes as EKS has them.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[
    ("three_nodes_are_ready_in_three_zones", three_nodes_are_ready_in_three_zones),
    ("a_node_carries_what_eks_puts_on_it", a_node_carries_what_eks_puts_on_it),
    ("an_instance_knows_itself_from_imds", an_instance_knows_itself_from_imds),
    ("an_instance_that_powers_off_goes_and_its_console_stays", a_console_outlives_its_instance),
];

fn three_nodes_are_ready_in_three_zones(region: &Region) -> anyhow::Result<()> {
    let wide = region.kubectl(&["get", "nodes", "-o", "wide"])?;
    ensure!(wide.matches(" Ready ").count() == 3, "{wide}");
    let nodes = region.kubectl_json(&["get", "nodes"])?;
    let mut zones = strings(&nodes, "/metadata/labels/topology.kubernetes.io~1zone");
    zones.sort();
    ensure!(zones == ["us-east-1a", "us-east-1b", "us-east-1c"], "{zones:?}");
    let status = region.status()?;
    let instances = status["instances"].as_array().map_or(0, Vec::len);
    ensure!(instances == 3, "none had to be started again: {status}");
    Ok(())
}

fn a_node_carries_what_eks_puts_on_it(region: &Region) -> anyhow::Result<()> {
    let nodes = region.kubectl_json(&["get", "nodes"])?;
    for node in nodes["items"].as_array().expect("a list has items") {
        let labels = &node["metadata"]["labels"];
        ensure!(labels["node.kubernetes.io/instance-type"] == "m5.large", "{labels}");
        ensure!(labels["topology.kubernetes.io/region"] == "us-east-1", "{labels}");
        ensure!(labels["eks.amazonaws.com/capacityType"] == "ON_DEMAND", "{labels}");
        ensure!(labels["eks.amazonaws.com/nodegroup"].is_string(), "{labels}");
        ensure!(labels["eks.amazonaws.com/nodegroup-image"].is_string(), "{labels}");
        let zone_id = labels["topology.k8s.aws/zone-id"].as_str().unwrap_or_default();
        ensure!(zone_id.starts_with("use1-az"), "{labels}");
        let checksum = labels["k8s.io/cloud-provider-aws"].as_str().unwrap_or_default();
        ensure!(checksum.len() == 32, "of `aws:eks:cluster-name`: {labels}");
        let annotations = &node["metadata"]["annotations"];
        ensure!(annotations["node.alpha.kubernetes.io/ttl"] == "0", "{annotations}");
        let attach = "volumes.kubernetes.io/controller-managed-attach-detach";
        ensure!(annotations[attach] == "true", "{annotations}");
        let zone = labels["topology.kubernetes.io/zone"].as_str().unwrap_or_default();
        let provider_id = node["spec"]["providerID"].as_str().unwrap_or_default();
        ensure!(provider_id.starts_with(&format!("aws:///{zone}/i-")), "{provider_id}");
        let capacity = &node["status"]["capacity"];
        ensure!(capacity["cpu"] == "2", "{capacity}");
        // The API server tells quantities in their canonical form.
        ensure!(capacity["memory"] == "8Gi", "{capacity}");
        ensure!(capacity["pods"] == "29", "maxPods by the ENI formula: {capacity}");
        let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
        ensure!(taints == 0, "{}", node["spec"]);
    }
    Ok(())
}

fn an_instance_knows_itself_from_imds(region: &Region) -> anyhow::Result<()> {
    for id in region.running_instances()? {
        let id = id.as_str();
        let script = "t=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
                      http://169.254.169.254/latest/api/token); \
                      curl -s -H \"X-aws-ec2-metadata-token: $t\" \
                      http://169.254.169.254/latest/meta-data/instance-id; echo; \
                      curl -s -o /dev/null -w '%{http_code}' \
                      http://169.254.169.254/latest/meta-data/instance-id";
        let shell = ["shell", id, "--", "/bin/sh", "-c", script];
        let said = run(&mut nodestead(&region.data_dir, &shell))?;
        ensure!(said.lines().collect::<Vec<_>>() == [id, "401"], "{said}");
    }
    Ok(())
}

/// From within, as its launch says; EC2 still tells what its console has shown.
fn a_console_outlives_its_instance(region: &Region) -> anyhow::Result<()> {
    let known = region.aws(&["ec2", "describe-instances"])?;
    let image = known.pointer("/Reservations/0/Instances/0/ImageId").and_then(Value::as_str);
    let made = region.aws(&[
        "ec2",
        "run-instances",
        "--image-id",
        image.context("an image")?,
        "--instance-type",
        "m5.large",
        "--subnet-id",
        &region.subnet()?,
        "--instance-initiated-shutdown-behavior",
        "terminate",
    ])?;
    let id = made.pointer("/Instances/0/InstanceId").and_then(Value::as_str).context("an id")?;
    eventually("it can be entered", seconds(60), || {
        Ok(run(&mut nodestead(&region.data_dir, &["shell", id, "--", "true"])).ok())
    })?;
    // The session may end with the instance.
    drop(outcome(&mut nodestead(&region.data_dir, &["shell", id, "--", "poweroff"]))?);
    let gone = eventually("it is terminated", seconds(60), || {
        let found = region.aws(&["ec2", "describe-instances", "--instance-ids", id])?;
        let found = found.pointer("/Reservations/0/Instances/0").context("described")?.clone();
        let state = found.pointer("/State/Name").and_then(Value::as_str).unwrap_or_default();
        ensure!(["running", "shutting-down", "terminated"].contains(&state), "{found}");
        Ok((state == "terminated").then_some(found))
    })?;
    let reason = gone.pointer("/StateReason/Code").and_then(Value::as_str);
    ensure!(reason == Some("Client.InstanceInitiatedShutdown"), "{gone}");
    let console = region.aws(&["ec2", "get-console-output", "--instance-id", id])?;
    ensure!(console["Output"].as_str().is_some_and(|it| !it.is_empty()), "{console}");
    Ok(())
}
