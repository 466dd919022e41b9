//! Karpenter takes nodes away and replaces them, on real instances, while a budget and traffic hold.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    Test,
    karpenter::{Karpenter, class, pool, remove},
    region::{Region, eventually, nodestead, run, seconds, strings},
    traffic::Traffic,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "less_load_is_consolidated_onto_fewer_nodes_under_a_budget_and_traffic",
        less_load_is_consolidated,
    ),
    ("an_interrupted_spot_node_is_replaced_before_it_goes", an_interrupted_node_is_replaced),
    ("nodes_of_an_older_image_are_replaced_within_their_budget", nodes_of_an_older_image),
];

/// Two pods that answer, of which one must always be there.
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: answers}
spec:
  replicas: 2
  selector: {matchLabels: {app: answers}}
  template:
    metadata: {labels: {app: answers}}
    spec:
      nodeSelector: {karpenter.sh/nodepool: default}
      terminationGracePeriodSeconds: 20
      containers:
        - name: web
          image: 'nginx:1.22'
          ports: [{containerPort: 80}]
          resources: {requests: {cpu: 200m}}
          readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
          # Whoever was given this address a moment ago is still answered.
          lifecycle: {preStop: {sleep: {seconds: 5}}}
---
apiVersion: v1
kind: Service
metadata: {name: answers}
spec: {selector: {app: answers}, ports: [{port: 80}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: answers}
spec: {minAvailable: 1, selector: {matchLabels: {app: answers}}}
";

const LOAD: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: load}
spec:
  replicas: 4
  selector: {matchLabels: {app: load}}
  template:
    metadata: {labels: {app: load}}
    spec:
      terminationGracePeriodSeconds: 0
      nodeSelector: {karpenter.sh/nodepool: default}
      containers:
        - name: sleep
          image: 'busybox:1.35'
          command: [sleep, '100000']
          resources: {requests: {cpu: 1500m}}
";

/// Applies what answers, and asks it from a node that is not Karpenter's until the value goes.
fn traffic(region: &Region, others: &[String]) -> anyhow::Result<Traffic> {
    region.apply(WEB)?;
    region.kubectl(&["rollout", "status", "deployment/answers", "--timeout=180s"])?;
    let is_other = |it: &Value| others.iter().any(|name| it["nodeName"] == **name);
    Traffic::from(region, is_other, "answers", "/")
}

fn nodes(region: &Region) -> anyhow::Result<Vec<Value>> {
    let list = region.kubectl_json(&["get", "nodes", "-l", "karpenter.sh/nodepool"])?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn names(nodes: &[Value]) -> Vec<String> {
    strings(&json!(nodes), "/metadata/name")
}

fn cores(nodes: &[Value]) -> u64 {
    let of = |it: &Value| it["metadata"]["labels"]["karpenter.k8s.aws/instance-cpu"].clone();
    nodes.iter().filter_map(|it| of(it).as_str()?.parse::<u64>().ok()).sum()
}

/// Runs the body, and removes whatever it left: later tests count nodes.
fn with_karpenter(
    region: &Region,
    flags: &[&str],
    body: impl FnOnce(&[String]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let others = names(
        region.kubectl_json(&["get", "nodes"])?["items"].as_array().context("a list of nodes")?,
    );
    let karpenter = Karpenter::start(region, flags)?;
    let done = body(&others);
    for kind in ["deployment/answers", "deployment/load", "service/answers", "pdb/answers"] {
        region.kubectl(&["delete", "--ignore-not-found", kind])?;
    }
    let removed = remove(region);
    drop(karpenter);
    done.and(removed)
}

fn less_load_is_consolidated(region: &Region) -> anyhow::Result<()> {
    with_karpenter(region, &[], |others| {
        region.apply(&class(region, "al2023@latest")?)?;
        region.apply(&pool("on-demand", "consolidateAfter: 5s"))?;
        region.apply(LOAD)?;
        region.kubectl(&["rollout", "status", "deployment/load", "--timeout=180s"])?;
        let traffic = traffic(region, others)?;
        let before = nodes(region)?;
        ensure!(before.len() >= 2 && cores(&before) >= 8, "{:?}", names(&before));
        region.kubectl(&["delete", "deployment", "load"])?;
        eventually("one node of two cores is left", seconds(300), || {
            let left = nodes(region)?;
            Ok((left.len() == 1 && cores(&left) == 2).then_some(()))
        })?;
        region.kubectl(&["rollout", "status", "deployment/answers", "--timeout=60s"])?;
        traffic.ensure_unbroken()
    })
}

fn nodes_of_an_older_image(region: &Region) -> anyhow::Result<()> {
    with_karpenter(region, &[], |others| {
        region.apply(&class(region, OLD_IMAGE)?)?;
        let one_at_a_time = "consolidateAfter: Never, budgets: [{nodes: '1'}]";
        region.apply(&pool("on-demand", one_at_a_time))?;
        region.apply(LOAD)?;
        region.kubectl(&["rollout", "status", "deployment/load", "--timeout=180s"])?;
        let traffic = traffic(region, others)?;
        let old = names(&nodes(region)?);
        ensure!(old.len() >= 2, "{old:?}");
        region.apply(&class(region, "al2023@latest")?)?;
        let mut most = 0;
        eventually("all nodes are of the new image", seconds(400), || {
            let now = nodes(region)?;
            let is_leaving = |it: &&Value| {
                let taints = it["spec"]["taints"].as_array();
                taints.is_some_and(|all| all.iter().any(|it| it["key"] == "karpenter.sh/disrupted"))
            };
            most = most.max(now.iter().filter(is_leaving).count());
            let is_new =
                now.iter().all(|it| !old.iter().any(|name| it["metadata"]["name"] == **name));
            Ok((is_new && !now.is_empty()).then_some(()))
        })?;
        ensure!(most == 1, "{most} nodes were leaving at once");
        region.kubectl(&["rollout", "status", "deployment/answers", "--timeout=60s"])?;
        traffic.ensure_unbroken()
    })
}

/// The release before the one that is recommended.
const OLD_IMAGE: &str = "al2023@v20261009";

const QUEUE: &str = "karpenter-e2e";

fn an_interrupted_node_is_replaced(region: &Region) -> anyhow::Result<()> {
    let arn = interruption_queue(region)?;
    let done = with_karpenter(region, &["--interruption-queue", QUEUE], |others| {
        region.apply(&class(region, "al2023@latest")?)?;
        region.apply(&pool("spot", "consolidateAfter: Never"))?;
        let traffic = traffic(region, others)?;
        let before = nodes(region)?;
        let interrupted = before.first().context("a node")?;
        let provider = interrupted["spec"]["providerID"].as_str().unwrap_or_default();
        let instance = provider.rsplit('/').next().context("an instance")?;
        run(&mut nodestead(&region.data_dir, &["interrupt", instance]))?;
        let name = interrupted["metadata"]["name"].clone();
        // EC2 takes the instance two minutes after its warning; it is to be gone by itself before.
        eventually("the node is replaced before it would go", seconds(115), || {
            let now = nodes(region)?;
            let is_gone = now.iter().all(|it| it["metadata"]["name"] != name);
            Ok((is_gone && now.len() == before.len()).then_some(()))
        })?;
        region.kubectl(&["rollout", "status", "deployment/answers", "--timeout=60s"])?;
        traffic.ensure_unbroken()
    });
    region.aws(&["events", "remove-targets", "--rule", QUEUE, "--ids", "queue"])?;
    region.aws(&["events", "delete-rule", "--name", QUEUE])?;
    let url = sqs(region, &["get-queue-url", "--queue-name", QUEUE])?;
    sqs(region, &["delete-queue", "--queue-url", url["QueueUrl"].as_str().context(arn)?])?;
    done
}

/// The CLI's first version has names of its own for SQS, which go before `AWS_ENDPOINT_URL`.
fn sqs(region: &Region, arguments: &[&str]) -> anyhow::Result<Value> {
    let endpoint = ["--endpoint-url", region.export("AWS_ENDPOINT_URL")];
    region.aws(&[&["sqs"][..], arguments, &endpoint].concat())
}

fn account(region: &Region) -> anyhow::Result<String> {
    let identity = region.aws(&["sts", "get-caller-identity"])?;
    Ok(identity["Account"].as_str().context("an account")?.to_owned())
}

/// As upstream's documentation sets it up.
fn interruption_queue(region: &Region) -> anyhow::Result<String> {
    let arn = format!("arn:aws:sqs:us-east-1:{}:{QUEUE}", account(region)?);
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage", "Resource": arn,
    }]});
    let attributes = json!({ "Policy": policy.to_string() }).to_string();
    sqs(region, &["create-queue", "--queue-name", QUEUE, "--attributes", &attributes])?;
    let pattern = json!({"source": ["aws.ec2", "aws.health"]}).to_string();
    region.aws(&["events", "put-rule", "--name", QUEUE, "--event-pattern", &pattern])?;
    let target = format!("Id=queue,Arn={arn}");
    region.aws(&["events", "put-targets", "--rule", QUEUE, "--targets", &target])?;
    Ok(arn)
}
