//! Node groups that grow and shrink, and nodes that are full.

use anyhow::ensure;

use crate::{
    Test,
    region::{Region, eventually, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[
    ("a_hundred_pods_fill_the_nodes_and_the_rest_stay_pending", a_hundred_pods_fill_the_nodes),
    ("a_fourth_node_joins_and_leaves", a_fourth_node_joins_and_leaves),
];

const MANY: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 100
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {name: sleep, image: 'busybox:1.35', command: [sleep, '100000']}
";

fn a_hundred_pods_fill_the_nodes(region: &Region) -> anyhow::Result<()> {
    region.apply(MANY)?;
    let of_phase = |phase: &str| {
        let phase = format!("--field-selector=status.phase={phase}");
        region.kubectl_json(&["get", "pods", "-l", "app=many", &phase])
    };
    let wanted = "0/3 nodes are available: 3 Too many pods.";
    eventually("every free place is taken, and the rest stay Pending", seconds(120), || {
        // Pods of other tests may still be on their way out, and make room when they are gone.
        let others = region.kubectl_json(&["get", "pods", "-A", "-l", "app!=many"])?;
        let room = 3 * 29 - others["items"].as_array().map_or(0, Vec::len);
        let count = of_phase("Running")?["items"].as_array().map_or(0, Vec::len);
        ensure!(count == room, "{count} of {room} run");
        let messages = strings(&of_phase("Pending")?, "/status/conditions/0/message");
        ensure!(messages.len() == 100 - room, "{} of {} wait", messages.len(), 100 - room);
        ensure!(messages.iter().all(|it| it.starts_with(wanted)), "{messages:?}");
        Ok(Some(()))
    })?;
    region.kubectl(&["delete", "deployment", "many"])?;
    eventually("its pods are gone", seconds(120), || {
        let left = region.kubectl_json(&["get", "pods", "-l", "app=many"])?;
        Ok(left["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
}

fn set_desired(region: &Region, desired: u32) -> anyhow::Result<()> {
    let groups = region.aws(&["eks", "list-nodegroups", "--cluster-name", "stead"])?;
    let group = groups["nodegroups"][0].as_str().unwrap_or_default().to_owned();
    let config = format!("desiredSize={desired}");
    run(&mut region.client(
        "aws",
        &[
            "eks",
            "update-nodegroup-config",
            "--cluster-name",
            "stead",
            "--nodegroup-name",
            &group,
            "--scaling-config",
            &config,
        ],
    ))?;
    Ok(())
}

fn ready_nodes(region: &Region) -> anyhow::Result<usize> {
    let text = region.kubectl(&["get", "nodes", "--no-headers"])?;
    Ok(text.lines().filter(|it| it.contains(" Ready ")).count())
}

fn a_fourth_node_joins_and_leaves(region: &Region) -> anyhow::Result<()> {
    set_desired(region, 4)?;
    eventually("a fourth node is Ready", seconds(60), || {
        Ok((ready_nodes(region)? == 4).then_some(()))
    })?;
    region.apply(SLOW)?;
    region.kubectl(&["rollout", "status", "deployment/slow", "--timeout=60s"])?;
    set_desired(region, 3)?;
    eventually("a node is drained", seconds(60), || {
        let nodes = region.kubectl(&["get", "nodes", "--no-headers"])?;
        Ok(nodes.contains("SchedulingDisabled").then_some(()))
    })?;
    eventually("its pods are evicted before it goes", seconds(60), || {
        let pods = region.kubectl_json(&["get", "pods", "-l", "app=slow"])?;
        let is_evicted = |pod: &serde_json::Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|it| it["reason"] == "EvictionByEvictionAPI")
        };
        Ok(pods["items"].as_array().is_some_and(|it| it.iter().any(is_evicted)).then_some(()))
    })?;
    eventually("one node is gone", seconds(120), || {
        let text = region.kubectl(&["get", "nodes", "--no-headers"])?;
        Ok((text.lines().count() == 3).then_some(()))
    })?;
    eventually("its instance is terminated", seconds(60), || {
        let running = region.aws(&[
            "ec2",
            "describe-instances",
            "--filters",
            "Name=instance-state-name,Values=running",
            "--query",
            "Reservations[].Instances[].InstanceId",
        ])?;
        Ok((running.as_array().map_or(0, Vec::len) == 3).then_some(()))
    })?;
    region.kubectl(&["delete", "deployment", "slow"])?;
    region.kubectl(&["rollout", "status", "deployment/guestbook", "--timeout=60s"])?;
    Ok(())
}

/// A pod on every node that takes its whole grace to end.
const SLOW: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: slow}
spec:
  replicas: 4
  selector: {matchLabels: {app: slow}}
  template:
    metadata: {labels: {app: slow}}
    spec:
      terminationGracePeriodSeconds: 6
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: slow}}
      containers:
      - {name: sleep, image: \"busybox:1.35\", command: [sleep, \"1000000\"]}
";
