//! Who may use the cluster: IAM principals through the real AWS CLI.

use anyhow::{Context, ensure};

use crate::{
    Test,
    region::{Region, outcome, run},
};

pub(crate) const TESTS: &[Test] = &[
    ("update_kubeconfig_gives_the_iam_principals_identity", update_kubeconfig_gives_an_identity),
    ("a_user_with_an_access_entry_has_its_groups_rights", a_user_with_an_access_entry),
    ("an_unmapped_principal_is_unauthorized", an_unmapped_principal_is_unauthorized),
    ("a_user_without_a_policy_is_denied_with_awss_words", a_user_without_a_policy_is_denied),
];

/// A kubeconfig made by the AWS CLI, whose `exec` runs `aws eks get-token`.
fn kubeconfig(region: &Region) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kubeconfig");
    let path = path.to_str().context("a path in UTF-8")?;
    let update = ["eks", "update-kubeconfig", "--name", "stead", "--kubeconfig", path];
    run(&mut region.client("aws", &update))?;
    Ok(folder)
}

fn update_kubeconfig_gives_an_identity(region: &Region) -> anyhow::Result<()> {
    let folder = kubeconfig(region)?;
    let mut whoami = region.client("kubectl", &["auth", "whoami", "-o", "json"]);
    let said = run(whoami.env("KUBECONFIG", folder.path().join("kubeconfig")))?;
    let review: serde_json::Value = serde_json::from_str(&said)?;
    let user = &review["status"]["userInfo"];
    ensure!(user["username"] == "arn:aws:iam::111122223333:root", "{user}");
    let mut nodes = region.client("kubectl", &["get", "nodes"]);
    run(nodes.env("KUBECONFIG", folder.path().join("kubeconfig")))?;
    Ok(())
}

/// A new IAM user with an access key.
fn user(region: &Region, name: &str) -> anyhow::Result<(String, String)> {
    region.aws(&["iam", "create-user", "--user-name", name])?;
    let key = region.aws(&["iam", "create-access-key", "--user-name", name])?;
    let text = |field: &str| {
        let value = key["AccessKey"][field].as_str().context("an access key")?;
        anyhow::Ok(value.to_owned())
    };
    Ok((text("AccessKeyId")?, text("SecretAccessKey")?))
}

fn a_user_with_an_access_entry(region: &Region) -> anyhow::Result<()> {
    let (id, secret) = user(region, "reader")?;
    let arn = "arn:aws:iam::111122223333:user/reader";
    let entry = ["eks", "create-access-entry", "--cluster-name", "stead", "--principal-arn", arn];
    region.aws(&[&entry[..], &["--kubernetes-groups", "readers"]].concat())?;
    region.kubectl(&[
        "create",
        "clusterrolebinding",
        "readers",
        "--clusterrole=view",
        "--group=readers",
    ])?;
    let folder = kubeconfig(region)?;
    let kubectl = |arguments: &[&str]| {
        let mut command = region.client("kubectl", arguments);
        command
            .env("KUBECONFIG", folder.path().join("kubeconfig"))
            .env("AWS_ACCESS_KEY_ID", &id)
            .env("AWS_SECRET_ACCESS_KEY", &secret);
        command
    };
    let said = run(&mut kubectl(&["auth", "whoami", "-o", "json"]))?;
    let review: serde_json::Value = serde_json::from_str(&said)?;
    let user = &review["status"]["userInfo"];
    let groups = user["groups"].as_array().cloned().unwrap_or_default();
    ensure!(user["username"] == arn && groups.iter().any(|it| it == "readers"), "{user}");
    run(&mut kubectl(&["get", "pods"]))?;
    let (succeeded, said) = outcome(&mut kubectl(&["create", "configmap", "no"]))?;
    ensure!(!succeeded && said.contains("is forbidden") && said.contains(arn), "{said}");
    Ok(())
}

fn an_unmapped_principal_is_unauthorized(region: &Region) -> anyhow::Result<()> {
    let (id, secret) = user(region, "stranger")?;
    let folder = kubeconfig(region)?;
    let mut command = region.client("kubectl", &["get", "nodes"]);
    command
        .env("KUBECONFIG", folder.path().join("kubeconfig"))
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret);
    let (succeeded, said) = outcome(&mut command)?;
    ensure!(!succeeded, "{said}");
    ensure!(said.contains("Unauthorized") || said.contains("provide credentials"), "{said}");
    Ok(())
}

fn a_user_without_a_policy_is_denied(region: &Region) -> anyhow::Result<()> {
    let (id, secret) = user(region, "nobody")?;
    let mut command = region.client("aws", &["ec2", "describe-vpcs"]);
    command.env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", &secret);
    let (succeeded, said) = outcome(&mut command)?;
    ensure!(!succeeded && said.contains("UnauthorizedOperation"), "{said}");
    let mut command = region.client("aws", &["eks", "list-clusters"]);
    command.env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", &secret);
    let (succeeded, said) = outcome(&mut command)?;
    ensure!(
        !succeeded && said.contains("is not authorized to perform: eks:ListClusters"),
        "{said}"
    );
    Ok(())
}
