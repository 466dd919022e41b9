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

use crate::{
    Test,
    region::{Region, outcome, run},
};

pub(crate) const TESTS: &[Test] = &[(
    "terraform_makes_a_cluster_sees_no_difference_and_takes_it_away",
    terraform_makes_and_takes_away,
)];

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/terraform");
const NAME: &str = "terraformed";

fn plugins() -> PathBuf {
    let named = std::env::var_os("NODESTEAD_TERRAFORM_PLUGINS");
    named.map_or_else(|| PathBuf::from("/opt/tf-plugins"), PathBuf::from)
}

/// Why it cannot be tried here.
fn missing() -> Option<String> {
    if !outcome(Command::new("terraform").arg("version")).is_ok_and(|it| it.0) {
        return Some("`terraform` is not there".to_owned());
    }
    let folder = plugins();
    let has_provider = folder.is_dir();
    (!has_provider).then(|| format!("there are no providers in `{}`", folder.display()))
}

fn terraform(region: &Region, folder: &Path, arguments: &[&str]) -> Command {
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
        println!("not run: {reason}");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(EXAMPLE)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|it| it == "tf") {
            fs::copy(entry.path(), folder.path().join(entry.file_name()))?;
        }
    }
    let from = format!("-plugin-dir={}", plugins().display());
    run(&mut terraform(region, folder.path(), &["init", "-input=false", "-no-color", &from]))?;
    let made = made_and_unchanged(region, folder.path());
    // Whatever came of it, it goes: later tests count instances.
    let destroy = ["destroy", "-auto-approve", "-input=false", "-no-color"];
    let destroyed = run(&mut terraform(region, folder.path(), &destroy));
    made?;
    let said = destroyed?;
    ensure!(said.contains("Destroy complete! Resources: 15 destroyed."), "{said}");
    nothing_is_left(region)
}

fn made_and_unchanged(region: &Region, folder: &Path) -> anyhow::Result<()> {
    let apply = ["apply", "-auto-approve", "-input=false", "-no-color"];
    let said = run(&mut terraform(region, folder, &apply))?;
    ensure!(said.contains("Resources: 15 added, 0 changed, 0 destroyed."), "{said}");
    // 0: no difference; 2: there is one.
    let plan = ["plan", "-detailed-exitcode", "-input=false", "-no-color"];
    let said = run(&mut terraform(region, folder, &plan))?;
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
