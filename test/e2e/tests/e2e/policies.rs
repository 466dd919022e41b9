//! Network policies, enabled as on EKS: by the vpc-cni add-on's configuration.

use anyhow::{Context, ensure};

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[(
    "network_policies_close_and_open_the_guestbooks_database",
    network_policies_close_and_open_the_guestbooks_database,
)];

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: redis-deny}
spec:
  podSelector: {matchLabels: {app: redis}}
  policyTypes: [Ingress]
";

const ALLOW: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: redis-allow}
spec:
  podSelector: {matchLabels: {app: redis, role: leader}}
  ingress:
    - from: [{podSelector: {matchLabels: {app: guestbook}}}]
      ports: [{port: redis}]
";

fn network_policies_close_and_open_the_guestbooks_database(region: &Region) -> anyhow::Result<()> {
    configure(region, r#"{"enableNetworkPolicy": "true"}"#, 2)?;
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=guestbook"])?;
    let front = strings(&pods, "/metadata/name").first().cloned().context("a front end")?;
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=redis,role=follower"])?;
    let follower = strings(&pods, "/metadata/name").first().cloned().context("a follower")?;
    eventually("nothing is policed yet", seconds(20), || {
        Ok(is_open(region, &front)?.then_some(()))
    })?;

    region.apply(DENY)?;
    let closes = || Ok((!is_open(region, &front)?).then_some(()));
    eventually("the database is closed", seconds(30), closes)?;
    // The follower's connection is older than the policy.
    let replication = ["exec", &follower, "--", "redis-cli", "info", "replication"];
    let said = region.kubectl(&replication)?;
    ensure!(said.contains("master_link_status:up"), "{said}");
    let endpoints = region.kubectl_json(&["get", "policyendpoints"])?;
    let names = strings(&endpoints, "/metadata/name");
    ensure!(names.iter().any(|it| it.starts_with("redis-deny-")), "{names:?}");

    counted(region)?;
    let told = explained(region, &front)?;
    ensure!(told["isAllowed"] == false, "{told}");
    ensure!(told["reason"].as_str().is_some_and(|it| it.contains("redis-deny")), "{told}");

    region.apply(ALLOW)?;
    let opens = || Ok(is_open(region, &front)?.then_some(()));
    eventually("the front ends are let in", seconds(30), opens)?;
    ensure!(!is_open(region, &follower)?, "nobody else is");
    for (pod, is_allowed) in [(&front, true), (&follower, false)] {
        let told = explained(region, pod)?;
        ensure!(told["isAllowed"] == is_allowed, "{pod}: {told}");
    }

    region.kubectl(&["delete", "networkpolicy", "redis-deny", "redis-allow"])?;
    let opens = || Ok(is_open(region, &follower)?.then_some(()));
    eventually("without policies all is open", seconds(30), opens)?;
    configure(region, "{}", 1)
}

/// What `explain path` says of a connection from the pod to the leader.
fn explained(region: &Region, pod: &str) -> anyhow::Result<serde_json::Value> {
    let from = format!("default/{pod}");
    let arguments =
        ["explain", "path", "--from", &from, "--to", "default/redis-leader:6379", "-o", "json"];
    Ok(serde_json::from_str(&run(&mut nodestead(&region.data_dir, &arguments))?)?)
}

/// The agent on the leader's node tells for which policy it dropped.
fn counted(region: &Region) -> anyhow::Result<()> {
    let leaders = region.kubectl_json(&["get", "pods", "-l", "app=redis,role=leader"])?;
    let node = strings(&leaders, "/spec/nodeName").first().cloned().context("a leader")?;
    let on_node = format!("spec.nodeName={node}");
    let agents = region.kubectl_json(&[
        "get",
        "pods",
        "-n",
        "kube-system",
        "-l",
        "k8s-app=aws-node",
        "--field-selector",
        &on_node,
    ])?;
    let agent = strings(&agents, "/metadata/name").first().cloned().context("an agent")?;
    let path = format!("/api/v1/namespaces/kube-system/pods/{agent}:8162/proxy/metrics");
    let metrics = region.kubectl(&["get", "--raw", &path])?;
    let wanted = "network_policy_drop_by_policy_count_total{direction=\"ingress\",\
                  policies=\"default/redis-deny\"} ";
    ensure!(metrics.contains(wanted), "{metrics}");
    Ok(())
}

/// Configures the add-on and waits until every node runs it so, with so many containers.
fn configure(region: &Region, values: &str, containers: usize) -> anyhow::Result<()> {
    let update = ["eks", "update-addon", "--cluster-name", "stead", "--addon-name", "vpc-cni"];
    region.aws(&[update.as_slice(), &["--configuration-values", values]].concat())?;
    eventually("the DaemonSet is configured", seconds(30), || {
        let set = region.kubectl_json(&["get", "-n", "kube-system", "daemonset", "aws-node"])?;
        let found = set.pointer("/spec/template/spec/containers").and_then(|it| it.as_array());
        Ok((found.map_or(0, Vec::len) == containers).then_some(()))
    })?;
    let rollout = ["rollout", "status", "-n", "kube-system", "daemonset/aws-node"];
    region.kubectl(&[rollout.as_slice(), &["--timeout=180s"]].concat()).map(drop)
}

/// Whether a new connection from the pod to the leader is answered.
fn is_open(region: &Region, pod: &str) -> anyhow::Result<bool> {
    // What is dropped is dropped in silence: the client would wait for minutes.
    let ping = ["redis-cli", "-h", "redis-leader", "ping"];
    let mut arguments = vec!["4", "kubectl", "exec", pod];
    let container = if pod.starts_with("guestbook") { "app" } else { "redis" };
    arguments.extend(["-c", container, "--", "timeout", "3"]);
    arguments.extend(ping);
    run(&mut region.client("kubectl", &["get", "pod", pod]))?;
    let (is_answered, said) = outcome(&mut region.client("timeout", &arguments))?;
    Ok(is_answered && said.contains("PONG"))
}
