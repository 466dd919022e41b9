//! Version updates of node groups: another version of the launch template, another release.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, seconds, strings},
    traffic::Traffic,
};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_new_launch_template_version_and_release_roll_the_nodes_of_a_group",
        a_new_version_rolls_the_nodes,
    ),
    (
        "an_upgrade_of_three_nodes_under_a_budget_and_traffic_loses_no_request",
        an_upgrade_loses_no_request,
    ),
];

const GROUP: [&str; 4] = ["--cluster-name", "stead", "--nodegroup-name", "rolled"];
const OLD_RELEASE: &str = "1.36.1-20261009";

/// A pod that only the group's nodes take.
const PINNED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: rolled }
spec:
  replicas: 1
  selector: { matchLabels: { app: rolled } }
  template:
    metadata: { labels: { app: rolled } }
    spec:
      nodeSelector: { eks.amazonaws.com/nodegroup: rolled }
      tolerations: [{ key: only, value: test, effect: NoSchedule }]
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: busybox:1.35
        command: [sleep, "3600"]
"#;

/// One pod on each node, of which two must be there.
const SPREAD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: rolled }
spec:
  replicas: 3
  selector: { matchLabels: { app: rolled } }
  template:
    metadata: { labels: { app: rolled } }
    spec:
      nodeSelector: { eks.amazonaws.com/nodegroup: rolled }
      tolerations: [{ key: only, value: test, effect: NoSchedule }]
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: { matchLabels: { app: rolled } }
      terminationGracePeriodSeconds: 20
      containers:
      - name: web
        image: nginx:1.22
        ports: [{ containerPort: 80 }]
        readinessProbe: { httpGet: { port: 80 }, periodSeconds: 1 }
        # Whoever was given this address a moment ago is still answered.
        lifecycle: { preStop: { sleep: { seconds: 5 } } }
---
apiVersion: v1
kind: Service
metadata: { name: rolled }
spec:
  selector: { app: rolled }
  ports: [{ port: 80 }]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: rolled }
spec:
  minAvailable: 2
  selector: { matchLabels: { app: rolled } }
"#;

fn an_upgrade_loses_no_request(region: &Region) -> anyhow::Result<()> {
    let done = upgraded(region);
    let removed = remove(region);
    done?;
    removed
}

fn upgraded(region: &Region) -> anyhow::Result<()> {
    template(region, "create-launch-template", "first")?;
    create(region, 3)?;
    region.apply(SPREAD)?;
    region.kubectl(&["rollout", "status", "deployment/rolled", "--timeout=120s"])?;
    let names = |nodes: &[Value]| strings(&serde_json::json!({"items": nodes}), "/metadata/name");
    let old = names(&nodes(region)?);
    ensure!(old.len() == 3, "{old:?}");
    let is_elsewhere = |it: &Value| !old.iter().any(|name| it["nodeName"] == **name);
    let traffic = Traffic::from(region, is_elsewhere, "rolled", "/")?;

    template(region, "create-launch-template-version", "second")?;
    let update = update(region, &["--launch-template", "name=rolled,version=2"])?;
    let update = ended(region, &update, 600)?;
    ensure!(update["status"] == "Successful", "{update}");
    traffic.ensure_unbroken()?;
    eventually("three new nodes are there and no old one", seconds(120), || {
        let new = names(&nodes(region)?);
        Ok((new.len() == 3 && !new.iter().any(|it| old.contains(it))).then_some(()))
    })
}

fn a_new_version_rolls_the_nodes(region: &Region) -> anyhow::Result<()> {
    let done = rolled(region);
    // Whatever came of it, it goes: later tests count instances.
    let removed = remove(region);
    done?;
    removed
}

fn rolled(region: &Region) -> anyhow::Result<()> {
    template(region, "create-launch-template", "first")?;
    create(region, 1)?;
    region.apply(PINNED)?;
    region.kubectl(&["rollout", "status", "deployment/rolled", "--timeout=60s"])?;
    let old = nodes(region)?;
    ensure!(old.len() == 1, "{old:?}");

    template(region, "create-launch-template-version", "second")?;
    let named = ["--launch-template", "name=rolled,version=2"];
    let update = update(region, &named)?;
    ensure!(update["type"] == "VersionUpdate" && update["status"] == "InProgress", "{update}");
    let params = update["params"].to_string();
    ensure!(
        params.contains("LaunchTemplateVersion") && params.contains("ReleaseVersion"),
        "{params}"
    );
    let update = ended(region, &update, 240)?;
    ensure!(update["status"] == "Successful", "{update}");

    // The Node of an instance that has just been terminated goes a little later.
    let new = eventually("the old nodes are gone", seconds(60), || {
        Ok(Some(nodes(region)?).filter(|it| it.len() == 1))
    })?;
    ensure!(new[0]["metadata"]["name"] != old[0]["metadata"]["name"], "{new:?}");
    let (labels, before) = (&new[0]["metadata"]["labels"], &old[0]["metadata"]["labels"]);
    ensure!(labels["eks.amazonaws.com/sourceLaunchTemplateVersion"] == "2", "{labels}");
    let image = "eks.amazonaws.com/nodegroup-image";
    ensure!(labels[image] != before[image], "the release is another: {labels}");
    ensure!(new[0]["spec"]["unschedulable"].is_null(), "{}", new[0]["spec"]);
    region.kubectl(&["rollout", "status", "deployment/rolled", "--timeout=60s"])?;
    let group = describe(region)?;
    ensure!(group["launchTemplate"]["version"] == "2" && group["status"] == "ACTIVE", "{group}");
    ensure!(group["releaseVersion"] != OLD_RELEASE, "{group}");
    ensure!(group["scalingConfig"]["desiredSize"] == 1, "{group}");

    // Once more there is nothing to replace.
    let again = self::update(region, &named)?;
    let again = ended(region, &again, 60)?;
    ensure!(again["status"] == "Successful", "{again}");
    ensure!(nodes(region)?[0]["metadata"]["uid"] == new[0]["metadata"]["uid"]);
    Ok(())
}

/// A version of the template whose instances are tagged with `round`.
fn template(region: &Region, command: &str, round: &str) -> anyhow::Result<()> {
    let data = format!(
        r#"{{"TagSpecifications":[{{"ResourceType":"instance","Tags":[{{"Key":"round","Value":"{round}"}}]}}]}}"#
    );
    let name = ["--launch-template-name", "rolled", "--launch-template-data", &data];
    region.aws(&[&["ec2", command][..], &name].concat())?;
    Ok(())
}

fn create(region: &Region, size: u32) -> anyhow::Result<()> {
    let subnet = region.subnet()?;
    let existing = ["eks", "describe-nodegroup", "--cluster-name", "stead"];
    let role = [&existing[..], &["--nodegroup-name", "default", "--query", "nodegroup.nodeRole"]];
    let role = region.aws(&role.concat())?;
    let role = role.as_str().context("a node role")?.to_owned();
    let sizes = format!("minSize=0,maxSize={size},desiredSize={size}");
    let create = [
        &["eks", "create-nodegroup"][..],
        &GROUP,
        &["--subnets", &subnet, "--node-role", &role, "--instance-types", "m5.large"],
        &["--scaling-config", &sizes],
        &["--taints", "key=only,value=test,effect=NO_SCHEDULE"],
        &["--launch-template", "name=rolled,version=1", "--release-version", OLD_RELEASE],
    ];
    region.aws(&create.concat())?;
    eventually("the group is active", seconds(90), || {
        Ok((describe(region)?["status"] == "ACTIVE").then_some(()))
    })
}

fn describe(region: &Region) -> anyhow::Result<Value> {
    let describe = [&["eks", "describe-nodegroup"][..], &GROUP].concat();
    Ok(region.aws(&describe)?["nodegroup"].clone())
}

fn nodes(region: &Region) -> anyhow::Result<Vec<Value>> {
    let list =
        region.kubectl_json(&["get", "nodes", "-l", "eks.amazonaws.com/nodegroup=rolled"])?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn update(region: &Region, what: &[&str]) -> anyhow::Result<Value> {
    let update = [&["eks", "update-nodegroup-version"][..], &GROUP, what].concat();
    Ok(region.aws(&update)?["update"].clone())
}

/// The update as it is described when it is over.
fn ended(region: &Region, update: &Value, limit: u64) -> anyhow::Result<Value> {
    let id = update["id"].as_str().context("an update has an id")?;
    let describe = ["eks", "describe-update", "--name", "stead", "--nodegroup-name", "rolled"];
    let describe = [&describe[..], &["--update-id", id]].concat();
    eventually("the update ends", seconds(limit), || {
        let update = region.aws(&describe)?["update"].clone();
        Ok((update["status"] != "InProgress").then_some(update))
    })
}

fn remove(region: &Region) -> anyhow::Result<()> {
    let all = "deployment,service,poddisruptionbudget";
    region.kubectl(&["delete", all, "rolled", "--ignore-not-found"])?;
    region.aws(&[&["eks", "delete-nodegroup"][..], &GROUP].concat())?;
    eventually("the group is gone", seconds(120), || {
        let groups = region.aws(&["eks", "list-nodegroups", "--cluster-name", "stead"])?;
        Ok((!groups.to_string().contains("rolled")).then_some(()))
    })?;
    region.aws(&["ec2", "delete-launch-template", "--launch-template-name", "rolled"])?;
    Ok(())
}
