//! Security groups for pods: a pod with a group of its own, on the node of those who want in.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    Test,
    region::{Region, eventually, outcome, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[(
    "a_pod_with_a_security_group_of_its_own_lets_in_what_the_group_does",
    a_pod_with_a_group_of_its_own,
)];

const ENABLE: &str = r#"{"env": {"ENABLE_POD_ENI": "true"},
    "init": {"env": {"DISABLE_TCP_EARLY_DEMUX": "true"}}}"#;

fn a_pod_with_a_group_of_its_own(region: &Region) -> anyhow::Result<()> {
    configure(region, ENABLE, "true")?;
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=guestbook"])?;
    let front = strings(&pods, "/metadata/name").first().cloned().context("a front end")?;
    let node = strings(&pods, "/spec/nodeName").first().cloned().context("its node")?;
    eventually("the node has a trunk", seconds(60), || {
        let node = region.kubectl_json(&["get", "node", &node])?;
        let room = node.pointer("/status/allocatable/vpc.amazonaws.com~1pod-eni");
        Ok(room.is_some_and(|it| it == "9").then_some(()))
    })?;

    let cluster = region.aws(&["eks", "describe-cluster", "--name", "stead"])?;
    let of = |pointer: &str| {
        let found = cluster.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        found.with_context(|| format!("no {pointer}"))
    };
    let nodes_group = of("/cluster/resourcesVpcConfig/clusterSecurityGroupId")?;
    let vpc = of("/cluster/resourcesVpcConfig/vpcId")?;
    let create = ["ec2", "create-security-group", "--group-name", "guarded", "--vpc-id", &vpc];
    let made = region.aws(&[create.as_slice(), &["--description", "a pod's own"]].concat())?;
    let group = made["GroupId"].as_str().context("the group's id")?.to_owned();
    let rule = json!([{"IpProtocol": "tcp", "FromPort": 6379, "ToPort": 6379,
        "UserIdGroupPairs": [{"GroupId": nodes_group}]}]);
    let change = |verb: &str| {
        let (operation, rule) = (format!("{verb}-security-group-ingress"), rule.to_string());
        let arguments = ["ec2", &operation, "--group-id", &group, "--ip-permissions", &rule];
        run(&mut region.client("aws", &arguments)).map(drop)
    };
    change("authorize")?;
    region.apply(&manifest(&group, &node))?;
    let address = eventually("the pod runs", seconds(60), || {
        let pod = region.kubectl_json(&["get", "pod", "guarded"])?;
        let is_running = pod.pointer("/status/phase").is_some_and(|it| it == "Running");
        let address = pod.pointer("/status/podIP").and_then(Value::as_str).map(str::to_owned);
        Ok(address.filter(|_| is_running))
    })?;
    is_the_branchs(region, &address, &group)?;

    // On the same node: in strict mode the group decides nevertheless.
    let open = |port: &str| is_open(region, &front, &address, port);
    eventually("the group's port is open", seconds(30), || Ok(open("6379")?.then_some(())))?;
    ensure!(!open("6380")?, "another port of the pod is closed");
    change("revoke")?;
    let closes = || Ok((!open("6379")?).then_some(()));
    eventually("without the rule it is closed", seconds(20), closes)?;

    let forge = ["annotate", "pod", "guarded", "--overwrite", "vpc.amazonaws.com/pod-eni=[]"];
    let (is_done, said) = outcome(&mut region.client("kubectl", &forge))?;
    let refused = "annotation is not set by vpc-resource-controller";
    ensure!(!is_done && said.contains(refused), "{said}");
    region.kubectl(&["delete", "pod", "guarded", "--grace-period=1"])?;
    region.kubectl(&["delete", "sgp", "guarded"])?;
    configure(region, "{}", "false")
}

fn manifest(group: &str, node: &str) -> String {
    format!(
        "
apiVersion: vpcresources.k8s.aws/v1beta1
kind: SecurityGroupPolicy
metadata: {{name: guarded}}
spec:
  podSelector: {{matchLabels: {{app: guarded}}}}
  securityGroups: {{groupIds: [{group}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: guarded, labels: {{app: guarded}}}}
spec:
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
          - matchFields: [{{key: metadata.name, operator: In, values: [{node}]}}]
  terminationGracePeriodSeconds: 1
  containers:
    - {{name: open, image: 'redis:7.0', command: [redis-server, --port, '6379', --protected-mode, 'no']}}
    - {{name: closed, image: 'redis:7.0', command: [redis-server, --port, '6380', --protected-mode, 'no']}}
"
    )
}

/// The pod's address is that of a branch interface with the group, and the pod was told so.
fn is_the_branchs(region: &Region, address: &str, group: &str) -> anyhow::Result<()> {
    let filter = format!("Name=private-ip-address,Values={address}");
    let found = region.aws(&["ec2", "describe-network-interfaces", "--filters", &filter])?;
    let eni = &found["NetworkInterfaces"][0];
    ensure!(eni["Description"] == "aws-k8s-branch-eni", "{found}");
    ensure!(eni["Groups"][0]["GroupId"] == group, "{found}");
    let events = region.kubectl(&["get", "events"])?;
    let id = eni["NetworkInterfaceId"].as_str().context("an id")?;
    ensure!(events.contains("ResourceAllocated") && events.contains(id), "{events}");
    Ok(())
}

fn is_open(region: &Region, pod: &str, address: &str, port: &str) -> anyhow::Result<bool> {
    let ping = ["redis-cli", "-h", address, "-p", port, "ping"];
    let exec = ["4", "kubectl", "exec", pod, "-c", "app", "--", "timeout", "2"];
    let arguments = [exec.as_slice(), &ping].concat();
    let (is_answered, said) = outcome(&mut region.client("timeout", &arguments))?;
    Ok(is_answered && said.contains("PONG"))
}

/// Configures the add-on and waits until every node runs it so.
fn configure(region: &Region, values: &str, is_enabled: &str) -> anyhow::Result<()> {
    let update = ["eks", "update-addon", "--cluster-name", "stead", "--addon-name", "vpc-cni"];
    region.aws(&[update.as_slice(), &["--configuration-values", values]].concat())?;
    eventually("the DaemonSet is configured", seconds(30), || {
        let set = region.kubectl_json(&["get", "-n", "kube-system", "daemonset", "aws-node"])?;
        let env = set.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
        let wanted = json!({"name": "ENABLE_POD_ENI", "value": is_enabled});
        Ok(env.is_some_and(|it| it.contains(&wanted)).then_some(()))
    })?;
    let rollout = ["rollout", "status", "-n", "kube-system", "daemonset/aws-node"];
    region.kubectl(&[rollout.as_slice(), &["--timeout=180s"]].concat()).map(drop)
}
