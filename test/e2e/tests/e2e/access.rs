//! Who may use the cluster: IAM principals through the real AWS CLI.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("update_kubeconfig_gives_the_iam_principals_identity", update_kubeconfig_gives_an_identity),
    ("a_user_with_an_access_entry_has_its_groups_rights", a_user_with_an_access_entry),
    ("an_access_policy_gives_rights_in_its_namespaces_alone", an_access_policy),
    ("an_unmapped_principal_is_unauthorized", an_unmapped_principal_is_unauthorized),
    ("a_user_without_a_policy_is_denied_with_awss_words", a_user_without_a_policy_is_denied),
    ("a_user_in_aws_auth_has_its_groups_until_it_is_taken_out", a_user_in_aws_auth),
    ("explain_access_names_the_statement_that_decides", explain_access),
    ("explain_pod_credentials_tells_whose_a_pod_gets", explain_pod_credentials),
    ("doctor_iam_finds_what_an_application_needs_on_a_node_role", doctor_iam),
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
    let review: Value = serde_json::from_str(&said)?;
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
    let review: Value = serde_json::from_str(&said)?;
    let user = &review["status"]["userInfo"];
    let groups = user["groups"].as_array().cloned().unwrap_or_default();
    ensure!(user["username"] == arn && groups.iter().any(|it| it == "readers"), "{user}");
    run(&mut kubectl(&["get", "pods"]))?;
    let (succeeded, said) = outcome(&mut kubectl(&["create", "configmap", "no"]))?;
    ensure!(!succeeded && said.contains("is forbidden") && said.contains(arn), "{said}");
    Ok(())
}

fn an_access_policy(region: &Region) -> anyhow::Result<()> {
    let (id, secret) = user(region, "editor")?;
    let arn = "arn:aws:iam::111122223333:user/editor";
    let of = ["--cluster-name", "stead", "--principal-arn", arn];
    region.aws(&[&["eks", "create-access-entry"][..], &of].concat())?;
    region.kubectl(&["create", "namespace", "edited"])?;
    let folder = kubeconfig(region)?;
    let may = |verb: &str, namespace: &str| {
        let mut command = region
            .client("kubectl", &["auth", "can-i", verb, "configmaps", "--namespace", namespace]);
        command
            .env("KUBECONFIG", folder.path().join("kubeconfig"))
            .env("AWS_ACCESS_KEY_ID", &id)
            .env("AWS_SECRET_ACCESS_KEY", &secret);
        outcome(&mut command).map(|(is_allowed, _)| is_allowed)
    };
    ensure!(!may("create", "edited")?, "an entry alone gives nothing");
    let policy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy";
    let policy = ["--policy-arn", policy];
    let scope = ["--access-scope", "type=namespace,namespaces=edited"];
    let associate = [&["eks", "associate-access-policy"][..], &of, &policy, &scope].concat();
    region.aws(&associate)?;
    eventually("rights in the namespace", seconds(20), || {
        Ok(may("create", "edited")?.then_some(()))
    })?;
    ensure!(!may("create", "default")?, "another namespace");
    ensure!(!may("get", "kube-system")?, "another namespace");
    run(&mut region
        .client("aws", &[&["eks", "disassociate-access-policy"][..], &of, &policy].concat()))?;
    eventually("rights that are taken away", seconds(20), || {
        Ok((!may("create", "edited")?).then_some(()))
    })?;
    run(&mut region.client("aws", &[&["eks", "delete-access-entry"][..], &of].concat()))?;
    region.kubectl(&["delete", "namespace", "edited"])?;
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

fn a_user_in_aws_auth(region: &Region) -> anyhow::Result<()> {
    let (id, secret) = user(region, "mapped")?;
    let arn = "arn:aws:iam::111122223333:user/mapped";
    let patch = |users: &str| {
        let patch = json!({"data": {"mapUsers": users}}).to_string();
        let at = ["-n", "kube-system", "patch", "configmap", "aws-auth", "--type=merge", "-p"];
        region.kubectl(&[&at[..], &[&patch]].concat())
    };
    // The node group's role is there already, and a bad entry harms nobody.
    let before =
        region.kubectl(&["-n", "kube-system", "get", "configmap", "aws-auth", "-o", "yaml"])?;
    ensure!(before.contains("system:node:{{EC2PrivateDNSName}}"), "{before}");
    patch(&format!("- nonsense\n- userarn: {arn}\n  username: mapped\n  groups: [mappers]\n"))?;
    let folder = kubeconfig(region)?;
    let whoami = || {
        let mut command = region.client("kubectl", &["auth", "whoami", "-o", "json"]);
        command
            .env("KUBECONFIG", folder.path().join("kubeconfig"))
            .env("AWS_ACCESS_KEY_ID", &id)
            .env("AWS_SECRET_ACCESS_KEY", &secret);
        outcome(&mut command)
    };
    let said = eventually("a mapped user", seconds(20), || {
        let (succeeded, said) = whoami()?;
        Ok(succeeded.then_some(said))
    })?;
    let review: Value = serde_json::from_str(&said)?;
    let user = &review["status"]["userInfo"];
    let groups = user["groups"].as_array().cloned().unwrap_or_default();
    ensure!(user["username"] == "mapped" && groups.iter().any(|it| it == "mappers"), "{user}");
    patch("[]")?;
    eventually("a user that is mapped no more", seconds(20), || {
        let (succeeded, _) = whoami()?;
        Ok((!succeeded).then_some(()))
    })
}

fn json_of(region: &Region, arguments: &[&str]) -> anyhow::Result<Value> {
    let text = run(nodestead(&region.data_dir, arguments).args(["-o", "json"]))?;
    Ok(serde_json::from_str(&text)?)
}

fn explain_access(region: &Region) -> anyhow::Result<()> {
    let role = node_role(region)?;
    let arn = format!("arn:aws:iam::111122223333:role/{role}");
    let ask = |action: &str| {
        json_of(region, &["explain", "access", "--principal", &arn, "--action", action])
    };
    let allowed = ask("ec2:DescribeInstances")?;
    ensure!(allowed["isAllowed"] == true, "{allowed}");
    let policy = allowed["statement"]["policy"].as_str().unwrap_or_default();
    ensure!(policy.starts_with("arn:aws:iam::aws:policy/AmazonEKS"), "{allowed}");
    let denied = ask("iam:CreateUser")?;
    ensure!(denied["decision"] == "implicitDeny" && denied["statement"].is_null(), "{denied}");
    let of = |who: &str| {
        let action = "ec2:DescribeInstances";
        nodestead(&region.data_dir, &["explain", "access", "--principal", who, "--action", action])
    };
    for name in [role.clone(), format!("role/{role}")] {
        let said = run(&mut of(&name))?;
        ensure!(said.contains(&format!("{arn} may ")), "{said}");
    }
    let (is_found, said) = outcome(&mut of("nobody-at-all"))?;
    ensure!(!is_found && said.contains("there is no role or user `nobody-at-all`"), "{said}");
    ensure!(of("arn:aws:ec2:::x").output()?.status.code() == Some(2), "no principal");
    // A user with the role's name: only the kind tells them apart.
    region.aws(&["iam", "create-user", "--user-name", &role])?;
    let (is_found, said) = outcome(&mut of(&role))?;
    run(&mut region.client("aws", &["iam", "delete-user", "--user-name", &role]))?;
    let tells = said.contains(&format!("role/{role}")) && said.contains(&format!("user/{role}"));
    ensure!(!is_found && tells, "{said}");
    Ok(())
}

/// The name of the role that the nodes have.
pub(crate) fn node_role(region: &Region) -> anyhow::Result<String> {
    let profiles = region.aws(&["iam", "list-instance-profiles"])?;
    let role = profiles.pointer("/InstanceProfiles/0/Roles/0/RoleName").and_then(Value::as_str);
    Ok(role.context("a profile with a role")?.to_owned())
}

fn explain_pod_credentials(region: &Region) -> anyhow::Result<()> {
    let pods =
        region.kubectl_json(&["-n", "kube-system", "get", "pods", "-l", "k8s-app=aws-node"])?;
    let name = pods.pointer("/items/0/metadata/name").and_then(Value::as_str);
    let pod = format!("kube-system/{}", name.context("a pod of aws-node")?);
    let found = json_of(region, &["explain", "pod-credentials", &pod])?;
    let first = &found["containers"][0];
    ensure!(first["source"] == "instance-metadata" && first["works"] == true, "{found}");
    ensure!(first["principal"] == node_role(region)?.as_str(), "{found}");
    let (succeeded, said) =
        outcome(&mut nodestead(&region.data_dir, &["explain", "pod-credentials", "default/none"]))?;
    ensure!(!succeeded && said.contains("there is no pod `default/none`"), "{said}");
    Ok(())
}

fn doctor_iam(region: &Region) -> anyhow::Result<()> {
    let role = node_role(region)?;
    let doctor = || -> anyhow::Result<(Option<i32>, Value)> {
        let output = nodestead(&region.data_dir, &["doctor", "iam", "-o", "json"]).output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    };
    let (code, clean) = doctor()?;
    ensure!(code == Some(0), "{clean}");
    let policy = r#"{"Version":"2012-10-17","Statement":{"Sid":"App","Effect":"Allow",
        "Action":"s3:GetObject","Resource":"arn:aws:s3:::orders/*"}}"#;
    let of = ["iam", "put-role-policy", "--role-name", &role, "--policy-name", "app"];
    region.aws(&[&of[..], &["--policy-document", policy]].concat())?;
    let found = doctor();
    region.aws(&["iam", "delete-role-policy", "--role-name", &role, "--policy-name", "app"])?;
    let (code, found) = found?;
    ensure!(code == Some(1), "{found}");
    let permission = &found[0]["applicationPermissions"][0];
    ensure!(permission["statement"] == "App" && permission["policy"] == "app", "{found}");
    let pods = found[0]["inheritingPods"].as_array().cloned().unwrap_or_default();
    let is_aws_node =
        |it: &Value| it.as_str().is_some_and(|it| it.starts_with("kube-system/aws-node"));
    ensure!(pods.iter().any(is_aws_node), "{found}");
    let proposed = json_of(region, &["doctor", "iam", "--role", &role])?;
    let text = proposed["proposal"].to_string();
    ensure!(text.contains("ec2:") && !text.contains("s3:GetObject"), "{proposed}");
    Ok(())
}
