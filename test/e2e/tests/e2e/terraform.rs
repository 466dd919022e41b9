//! An unmodified Terraform with the AWS provider makes `examples/terraform/`, sees no difference
//! afterwards, and takes it away.
//!
//! No network: the provider comes from a folder on the machine, in the layout of a mirror
//! (`NODESTEAD_TERRAFORM_PLUGINS`, or `/opt/tf-plugins`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    NotRun, Test,
    region::{Region, outcome, run},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "terraform_makes_a_cluster_sees_no_difference_and_takes_it_away",
        terraform_makes_and_takes_away,
    ),
    (
        "terraform_keeps_network_acls_in_each_of_its_ways",
        terraform_keeps_network_acls_in_each_of_its_ways,
    ),
];

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/terraform");
const ACLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/terraform/acls.tf");
pub(crate) const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];
pub(crate) const DESTROY: [&str; 4] = ["destroy", "-auto-approve", "-input=false", "-no-color"];
/// Ends with 0 where there is no difference, and with 2 where there is one.
pub(crate) const PLAN: [&str; 4] = ["plan", "-detailed-exitcode", "-input=false", "-no-color"];
const NAME: &str = "terraformed";

fn plugins() -> PathBuf {
    let named = std::env::var_os("NODESTEAD_TERRAFORM_PLUGINS");
    named.map_or_else(|| PathBuf::from("/opt/tf-plugins"), PathBuf::from)
}

/// Why it cannot be tried here.
pub(crate) fn missing() -> Option<String> {
    if !outcome(Command::new("terraform").arg("version")).is_ok_and(|it| it.0) {
        return Some("`terraform` is not there".to_owned());
    }
    let folder = plugins();
    let has_provider = folder.is_dir();
    (!has_provider).then(|| format!("there are no providers in `{}`", folder.display()))
}

pub(crate) fn terraform(region: &Region, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = region.client("terraform", arguments);
    command.current_dir(folder).env_remove("TF_CLI_CONFIG_FILE");
    // Asks nobody whether there is a newer one; AWS's clients try again, as they do by default.
    command
        .env("CHECKPOINT_DISABLE", "1")
        .env("TF_IN_AUTOMATION", "1")
        .env_remove("AWS_MAX_ATTEMPTS");
    command
}

fn terraform_makes_and_takes_away(region: &Region) -> anyhow::Result<()> {
    if let Some(reason) = missing() {
        return Err(NotRun(reason).into());
    }
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(EXAMPLE)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|it| it == "tf") {
            fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
        }
    }
    init(region, folder.path())?;
    let made = made_and_unchanged(region, folder.path());
    // Whatever came of it, it goes: later tests count instances.
    let destroyed = run(&mut terraform(region, folder.path(), &DESTROY));
    made?;
    let said = destroyed?;
    ensure!(said.contains("Destroy complete! Resources: 16 destroyed."), "{said}");
    nothing_is_left(region)
}

pub(crate) fn init(region: &Region, folder: &Path) -> anyhow::Result<()> {
    let from = format!("-plugin-dir={}", plugins().display());
    run(&mut terraform(region, folder, &["init", "-input=false", "-no-color", &from])).map(drop)
}

fn terraform_keeps_network_acls_in_each_of_its_ways(region: &Region) -> anyhow::Result<()> {
    if let Some(reason) = missing() {
        return Err(NotRun(reason).into());
    }
    let folder = tempfile::tempdir()?;
    fs::copy(Path::new(EXAMPLE).join("versions.tf"), folder.path().join("versions.tf"))?;
    fs::copy(ACLS, folder.path().join("acls.tf"))?;
    init(region, folder.path())?;
    let kept = acls_are_kept(region, folder.path());
    let destroyed = run(&mut terraform(region, folder.path(), &DESTROY));
    kept?;
    let said = destroyed?;
    ensure!(said.contains("Destroy complete! Resources: 10 destroyed."), "{said}");
    let filter = "Name=tag:Name,Values=acls,acls-default,acls-inline,acls-apart";
    let left = region.aws(&["ec2", "describe-network-acls", "--filters", filter])?;
    ensure!(left["NetworkAcls"].as_array().is_some_and(Vec::is_empty), "{left}");
    Ok(())
}

fn acls_are_kept(region: &Region, folder: &Path) -> anyhow::Result<()> {
    let said = run(&mut terraform(region, folder, &APPLY))?;
    ensure!(said.contains("Resources: 10 added, 0 changed, 0 destroyed."), "{said}");
    let said = run(&mut terraform(region, folder, &PLAN))?;
    ensure!(said.contains("No changes."), "{said}");
    let acl = run(&mut terraform(region, folder, &["output", "-raw", "apart"]))?;
    let described = || region.aws(&["ec2", "describe-network-acls", "--network-acl-ids", &acl]);
    let shown = &described()?["NetworkAcls"][0];
    ensure!(shown["Associations"].as_array().is_some_and(|it| it.len() == 1), "{shown}");
    ensure!(numbers(shown) == [100, 300, 32767, 32767], "{shown}");
    // A number is the rule's name: another one is another rule.
    let changed = [&APPLY[..], &["-var", "rule_number=301"]].concat();
    let said = run(&mut terraform(region, folder, &changed))?;
    ensure!(said.contains("Resources: 1 added, 0 changed, 1 destroyed."), "{said}");
    let shown = &described()?["NetworkAcls"][0];
    ensure!(numbers(shown) == [100, 301, 32767, 32767], "{shown}");
    Ok(())
}

fn numbers(acl: &Value) -> Vec<i64> {
    let entries = acl["Entries"].as_array().into_iter().flatten();
    let mut numbers: Vec<i64> = entries.filter_map(|it| it["RuleNumber"].as_i64()).collect();
    numbers.sort_unstable();
    numbers
}

fn made_and_unchanged(region: &Region, folder: &Path) -> anyhow::Result<()> {
    let said = run(&mut terraform(region, folder, &APPLY))?;
    ensure!(said.contains("Resources: 16 added, 0 changed, 0 destroyed."), "{said}");
    let said = run(&mut terraform(region, folder, &PLAN))?;
    ensure!(said.contains("No changes."), "{said}");
    let group =
        ["eks", "describe-nodegroup", "--cluster-name", NAME, "--nodegroup-name", "workers"];
    let group = region.aws(&group)?;
    ensure!(group["nodegroup"]["status"] == "ACTIVE", "{group}");
    // The node is one of the cluster that Terraform made.
    let config = folder.join("kubeconfig");
    let config = config.to_str().context("a path")?;
    run(&mut region
        .client("aws", &["eks", "update-kubeconfig", "--name", NAME, "--kubeconfig", config]))?;
    let nodes = ["get", "nodes", "--no-headers", "-l", "made-by=terraform", "--kubeconfig", config];
    let nodes = region.kubectl(&nodes)?;
    ensure!(nodes.lines().count() == 1 && nodes.contains(" Ready "), "{nodes}");
    Ok(())
}

fn nothing_is_left(region: &Region) -> anyhow::Result<()> {
    let clusters = region.aws(&["eks", "list-clusters"])?;
    ensure!(!clusters.to_string().contains(NAME), "{clusters}");
    let filter = format!("Name=tag:Name,Values={NAME}");
    let vpcs = region.aws(&["ec2", "describe-vpcs", "--filters", &filter])?;
    ensure!(vpcs["Vpcs"].as_array().is_some_and(Vec::is_empty), "{vpcs}");
    let roles = region.aws(&["iam", "list-roles"])?;
    ensure!(!roles.to_string().contains(NAME), "{roles}");
    Ok(())
}
