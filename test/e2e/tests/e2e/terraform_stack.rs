//! A platform team's whole stack, by an unmodified Terraform: an apply that is interrupted goes on, a
//! plan then sees no difference, every kind of resource is changed in place, and nothing is left.
//!
//! What the stack names and is not built says so: the Fargate profile's and the Bottlerocket group's
//! health.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    NotRun, Test,
    region::{Region, eventually, outcome, run},
    terraform::{APPLY, DESTROY, PLAN, init, missing, terraform},
};

pub(crate) const TESTS: &[Test] = &[(
    "terraform_keeps_a_platform_teams_whole_stack",
    terraform_keeps_a_platform_teams_whole_stack,
)];

const STACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/terraform/stack");
const NAME: &str = "platform";
const SECOND: [&str; 2] = ["-var", "revision=2"];
/// What is being made when the first apply is interrupted. Nothing else has just begun: Terraform knows of
/// what it waits for; a call that is cut off before its answer makes something, on AWS too, of which
/// nobody knows whose it is.
const BEGUN: &str = "aws_eks_cluster.this";
const LIMIT: Duration = Duration::from_secs(300);

fn terraform_keeps_a_platform_teams_whole_stack(region: &Region) -> anyhow::Result<()> {
    if let Some(reason) = missing() {
        return Err(NotRun(reason).into());
    }
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(STACK)? {
        let entry = entry?;
        fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
    }
    let folder = folder.path();
    init(region, folder)?;
    let kept = is_kept(region, folder);
    let destroyed = run(&mut terraform(region, folder, &with(&DESTROY, &SECOND)));
    kept?;
    let said = destroyed?;
    ensure!(said.contains("Destroy complete!"), "{said}");
    nothing_is_left(region)
}

fn with<'a>(command: &[&'a str], variables: &[&'a str]) -> Vec<&'a str> {
    [command, variables].concat()
}

fn is_kept(region: &Region, folder: &Path) -> anyhow::Result<()> {
    interrupted(region, folder)?;
    let said = run(&mut terraform(region, folder, &APPLY))?;
    ensure!(said.contains("Apply complete!"), "{said}");
    is_unchanged(region, folder, &[])?;
    what_is_not_built_says_so(region)?;
    let queue = run(&mut terraform(region, folder, &["output", "-raw", "queue"]))?;
    an_instances_end_is_in_the_queue(region, &queue)?;
    let plan = run(&mut terraform(region, folder, &with(&["plan", "-no-color"], &SECOND)))?;
    ensure!(plan.contains("Plan: 0 to add,") && plan.contains(" 0 to destroy."), "{plan}");
    let said = run(&mut terraform(region, folder, &with(&APPLY, &SECOND)))?;
    ensure!(said.contains("Resources: 0 added,") && said.contains(" 0 destroyed."), "{said}");
    is_unchanged(region, folder, &SECOND)?;
    a_spot_node_of_bottlerockets_settings_joins(region, folder)
}

fn is_unchanged(region: &Region, folder: &Path, variables: &[&str]) -> anyhow::Result<()> {
    let (is_same, said) = outcome(&mut terraform(region, folder, &with(&PLAN, variables)))?;
    ensure!(is_same && said.contains("No changes."), "{said}");
    Ok(())
}

/// As by Ctrl-C: what is under way is ended, and nothing more is begun.
fn interrupted(region: &Region, folder: &Path) -> anyhow::Result<()> {
    let output = File::create(folder.join("first.log"))?;
    let mut first = terraform(region, folder, &APPLY)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let waited = wait_for_resources(folder, &mut first);
    run(Command::new("kill").args(["-INT", &first.id().to_string()]))?;
    let status = first.wait()?;
    waited?;
    let said = fs::read_to_string(folder.join("first.log"))?;
    ensure!(!status.success() && said.contains("Interrupt received"), "{said}");
    Ok(())
}

fn wait_for_resources(folder: &Path, first: &mut Child) -> anyhow::Result<()> {
    let mut before = String::new();
    let is_running = eventually("a part of the stack is there", LIMIT, || {
        let is_running = first.try_wait()?.is_none();
        let log = fs::read_to_string(folder.join("first.log"))?;
        let is_begun = log == before && being_made(&log).contains(&BEGUN);
        before = log;
        Ok((is_begun || !is_running).then_some(is_running))
    })?;
    ensure!(is_running, "the first apply ended by itself");
    Ok(())
}

/// The addresses of resources whose creation has begun and not ended.
fn being_made(log: &str) -> Vec<&str> {
    let with = |end: &'static str| log.lines().filter_map(move |it| it.split_once(end));
    let made: Vec<&str> = with(": Creation complete").map(|(address, _)| address).collect();
    with(": Creating...").map(|(it, _)| it).filter(|it| !made.contains(it)).collect()
}

fn what_is_not_built_says_so(region: &Region) -> anyhow::Result<()> {
    let profile = region.aws(&[
        "eks",
        "describe-fargate-profile",
        "--cluster-name",
        NAME,
        "--fargate-profile-name",
        "serverless",
    ])?;
    let issue = &profile["fargateProfile"]["health"]["issues"][0];
    ensure!(
        issue["message"].as_str().is_some_and(|it| it.contains("no pods on Fargate")),
        "{profile}"
    );
    let group = region.aws(&[
        "eks",
        "describe-nodegroup",
        "--cluster-name",
        NAME,
        "--nodegroup-name",
        "spot",
    ])?;
    let group = &group["nodegroup"];
    let told = group["health"]["issues"][0]["message"].as_str().unwrap_or_default();
    ensure!(told.contains("settings API"), "{group}");
    ensure!(group["capacityType"] == "SPOT" && group["status"] == "ACTIVE", "{group}");
    Ok(())
}

/// The node that has come up has said so, by EC2, a rule of the stack, and its queue's policy.
fn an_instances_end_is_in_the_queue(region: &Region, queue: &str) -> anyhow::Result<()> {
    // The older AWS CLI has an endpoint of its own for SQS, unless it is told.
    let received = region.aws(&[
        "--endpoint-url",
        region.export("AWS_ENDPOINT_URL"),
        "sqs",
        "receive-message",
        "--queue-url",
        queue,
        "--max-number-of-messages",
        "10",
        "--wait-time-seconds",
        "20",
    ])?;
    let body = received["Messages"][0]["Body"].as_str().context("no message")?;
    let event: Value = serde_json::from_str(body)?;
    ensure!(event["source"] == "aws.ec2", "{event}");
    ensure!(event["detail-type"] == "EC2 Instance State-change Notification", "{event}");
    ensure!(
        event["detail"]["instance-id"].as_str().is_some_and(|it| it.starts_with("i-")),
        "{event}"
    );
    Ok(())
}

fn a_spot_node_of_bottlerockets_settings_joins(
    region: &Region,
    folder: &Path,
) -> anyhow::Result<()> {
    let config = folder.join("kubeconfig");
    let config = config.to_str().context("a path")?;
    run(&mut region
        .client("aws", &["eks", "update-kubeconfig", "--name", NAME, "--kubeconfig", config]))?;
    let label = "eks.amazonaws.com/capacityType=SPOT,eks.amazonaws.com/nodegroup=spot";
    let nodes = ["get", "nodes", "-l", label, "--kubeconfig", config];
    let node = eventually("a Spot node is Ready", LIMIT, || {
        let node = region.kubectl_json(&nodes)?["items"][0].clone();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        Ok(is_ready.then_some(node))
    })?;
    let taint = &node["spec"]["taints"][0];
    ensure!(taint["key"] == "spot" && taint["effect"] == "PreferNoSchedule", "{node}");
    let id = node["spec"]["providerID"].as_str().and_then(|it| it.rsplit('/').next());
    let found =
        region.aws(&["ec2", "describe-instances", "--instance-ids", id.context("an id")?])?;
    let instance = &found["Reservations"][0]["Instances"][0];
    ensure!(instance["InstanceLifecycle"] == "spot", "{instance}");
    Ok(())
}

fn nothing_is_left(region: &Region) -> anyhow::Result<()> {
    let lists: [&[&str]; 9] = [
        &["eks", "list-clusters"],
        &["iam", "list-roles"],
        &["iam", "list-instance-profiles"],
        &["iam", "list-open-id-connect-providers"],
        &["sqs", "list-queues"],
        &["events", "list-rules"],
        &["ecr", "describe-repositories"],
        &["ssm", "describe-parameters"],
        &["autoscaling", "describe-auto-scaling-groups"],
    ];
    for list in lists {
        let endpoint = ["--endpoint-url", region.export("AWS_ENDPOINT_URL")];
        let found = region.aws(&[&endpoint, list].concat())?;
        ensure!(!found.to_string().contains(NAME), "{list:?}: {found}");
    }
    let stack = format!("Name=tag:Stack,Values={NAME}");
    for (kind, field) in [
        ("describe-vpcs", "Vpcs"),
        ("describe-subnets", "Subnets"),
        ("describe-addresses", "Addresses"),
        ("describe-security-groups", "SecurityGroups"),
        ("describe-launch-templates", "LaunchTemplates"),
    ] {
        let found = region.aws(&["ec2", kind, "--filters", &stack])?;
        ensure!(found[field].as_array().is_some_and(Vec::is_empty), "{kind}: {found}");
    }
    Ok(())
}
