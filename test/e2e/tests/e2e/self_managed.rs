//! Self-managed nodes: a launch template, an Auto Scaling group, user data and an access entry, made with
//! the AWS CLI; and what `explain node` says while something of it is missing.

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, run, seconds},
};

pub(crate) const TESTS: &[Test] = &[
    ("a_self_managed_group_joins_once_its_role_has_an_access_entry", joins_with_an_access_entry),
    ("user_data_for_amazon_linux_2_is_explained", user_data_of_al2_is_explained),
];

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const POLICIES: [&str; 3] =
    ["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"];
const CLUSTER: [&str; 2] = ["--cluster-name", "stead"];
const IMAGE: &str = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/standard/\
                     recommended/image_id";

/// A group of one instance, of which everything has the same name.
struct Group<'a> {
    region: &'a Region,
    name: &'a str,
}

impl Group<'_> {
    fn aws(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        self.region.aws(arguments)
    }

    fn create(&self, user_data: &str) -> anyhow::Result<()> {
        let name = self.name;
        let role = ["--role-name", name];
        let trust = ["--assume-role-policy-document", TRUST];
        self.aws(&[&["iam", "create-role"][..], &role, &trust].concat())?;
        for policy in POLICIES {
            let arn = format!("arn:aws:iam::aws:policy/{policy}");
            self.aws(
                &[&["iam", "attach-role-policy"][..], &role, &["--policy-arn", &arn]].concat(),
            )?;
        }
        let profile = ["--instance-profile-name", name];
        self.aws(&[&["iam", "create-instance-profile"][..], &profile].concat())?;
        let add = ["iam", "add-role-to-instance-profile"];
        self.aws(&[&add[..], &profile, &role].concat())?;
        let image = self.aws(&["ssm", "get-parameter", "--name", IMAGE])?;
        let described = self.aws(&["eks", "describe-cluster", "--name", "stead"])?;
        let group = &described["cluster"]["resourcesVpcConfig"]["clusterSecurityGroupId"];
        let data = serde_json::json!({
            "ImageId": image["Parameter"]["Value"],
            "InstanceType": "m5.large",
            "IamInstanceProfile": {"Name": name},
            "SecurityGroupIds": [group],
            "UserData": STANDARD.encode(user_data),
        });
        let data = data.to_string();
        let template = ["--launch-template-name", name, "--launch-template-data", &data];
        self.aws(&[&["ec2", "create-launch-template"][..], &template].concat())?;
        let subnet = self.region.subnet()?;
        let from = format!("LaunchTemplateName={name},Version=1");
        self.aws(&[
            "autoscaling",
            "create-auto-scaling-group",
            "--auto-scaling-group-name",
            name,
            "--launch-template",
            &from,
            "--min-size",
            "0",
            "--max-size",
            "1",
            "--desired-capacity",
            "1",
            "--vpc-zone-identifier",
            &subnet,
            "--tags",
            "Key=kubernetes.io/cluster/stead,Value=owned,PropagateAtLaunch=true",
        ])?;
        Ok(())
    }

    fn role(&self) -> anyhow::Result<String> {
        let found = self.aws(&["iam", "get-role", "--role-name", self.name])?;
        Ok(found["Role"]["Arn"].as_str().context("a role's ARN")?.to_owned())
    }

    fn instance(&self) -> anyhow::Result<String> {
        let filter = format!("Name=tag:aws:autoscaling:groupName,Values={}", self.name);
        let running = "Name=instance-state-name,Values=running";
        eventually("the group has an instance", seconds(60), || {
            let describe = ["ec2", "describe-instances", "--filters", &filter, running];
            let query = ["--query", "Reservations[].Instances[].InstanceId | [0]"];
            Ok(self.aws(&[&describe[..], &query].concat())?.as_str().map(str::to_owned))
        })
    }

    fn explained(&self, instance: &str) -> anyhow::Result<Value> {
        let arguments = ["explain", "node", instance, "-o", "json"];
        Ok(serde_json::from_str(&run(&mut nodestead(&self.region.data_dir, &arguments))?)?)
    }

    /// All of it that was made.
    fn remove(&self) -> anyhow::Result<()> {
        let name = self.name;
        let group = ["--auto-scaling-group-name", name];
        let delete = ["autoscaling", "delete-auto-scaling-group", "--force-delete"];
        self.aws(&[&delete[..], &group].concat())?;
        eventually("the group is gone", seconds(120), || {
            let describe = ["autoscaling", "describe-auto-scaling-groups"];
            let found =
                self.aws(&[&describe[..], &["--auto-scaling-group-names", name]].concat())?;
            Ok(found["AutoScalingGroups"].as_array().is_some_and(Vec::is_empty).then_some(()))
        })?;
        self.aws(&["ec2", "delete-launch-template", "--launch-template-name", name])?;
        let (role, profile) = (["--role-name", name], ["--instance-profile-name", name]);
        let take = ["iam", "remove-role-from-instance-profile"];
        self.aws(&[&take[..], &profile, &role].concat())?;
        self.aws(&[&["iam", "delete-instance-profile"][..], &profile].concat())?;
        for policy in POLICIES {
            let arn = format!("arn:aws:iam::aws:policy/{policy}");
            self.aws(
                &[&["iam", "detach-role-policy"][..], &role, &["--policy-arn", &arn]].concat(),
            )?;
        }
        self.aws(&[&["iam", "delete-role"][..], &role].concat())?;
        Ok(())
    }
}

/// What a node of the cluster needs to be told, as this machine's clients hear it: the endpoint is this
/// machine's way to the cluster, and nodeadm finds its own.
fn node_config(region: &Region) -> anyhow::Result<String> {
    let described = region.aws(&["eks", "describe-cluster", "--name", "stead"])?;
    let cluster = &described["cluster"];
    let text = |pointer: &str| {
        let found = cluster.pointer(pointer).and_then(Value::as_str);
        found.map(str::to_owned).with_context(|| format!("no {pointer} in {cluster}"))
    };
    Ok(format!(
        "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: stead\n    \
         apiServerEndpoint: {}\n    certificateAuthority: {}\n    cidr: {}\n  kubelet:\n    flags:\n    \
         - --register-with-taints=only=test:NoSchedule\n",
        text("/endpoint")?,
        text("/certificateAuthority/data")?,
        text("/kubernetesNetworkConfig/serviceIpv4Cidr")?,
    ))
}

fn joins_with_an_access_entry(region: &Region) -> anyhow::Result<()> {
    let group = Group { region, name: "self-managed" };
    let entry = |verb: &str, more: &[&str]| {
        let role = group.role()?;
        let principal = ["--principal-arn", &role];
        region.aws(&[&["eks", verb][..], &CLUSTER, &principal, more].concat())
    };
    let done = (|| -> anyhow::Result<()> {
        group.create(&node_config(region)?)?;
        let instance = group.instance()?;
        eventually("the role is known to be unknown", seconds(60), || {
            let found = group.explained(&instance)?;
            Ok((found["broken"] == "mapping").then_some(()))
        })?;
        entry("create-access-entry", &["--type", "EC2_LINUX"])?;
        let found = eventually("the node is Ready", seconds(120), || {
            Ok(Some(group.explained(&instance)?).filter(|it| it["isReady"] == true))
        })?;
        ensure!(found["broken"].is_null(), "{found}");
        let name = found["node"].as_str().context("a node's name")?;
        let node = region.kubectl_json(&["get", "node", name])?;
        let provider = node["spec"]["providerID"].as_str().unwrap_or_default();
        ensure!(provider.ends_with(&instance), "{provider}");
        ensure!(node["spec"]["taints"][0]["key"] == "only", "{}", node["spec"]);
        Ok(())
    })();
    let removed = entry("delete-access-entry", &[]).map(drop);
    group.remove()?;
    done.and(removed)
}

fn user_data_of_al2_is_explained(region: &Region) -> anyhow::Result<()> {
    let group = Group { region, name: "amazon-linux-2" };
    let script =
        "#!/bin/bash\n/etc/eks/bootstrap.sh stead --kubelet-extra-args '--node-labels=a=b'\n";
    let done = (|| -> anyhow::Result<()> {
        group.create(script)?;
        let instance = group.instance()?;
        let said = eventually("the console explains it", seconds(60), || {
            let said = run(&mut nodestead(&region.data_dir, &["logs", &instance]))?;
            Ok(said.contains("kind: NodeConfig").then_some(said))
        })?;
        ensure!(said.contains("--node-labels=a=b") && said.contains("name: stead"), "{said}");
        let found = group.explained(&instance)?;
        ensure!(found["broken"] == "user data", "{found}");
        let is_broken = |it: &&Value| it["step"] == "user data";
        let step = found["chain"].as_array().and_then(|it| it.iter().find(is_broken));
        let why = step.context("a step")?["detail"].as_str().unwrap_or_default().to_owned();
        ensure!(why.contains("bootstrap.sh"), "{why}");
        let run_it = ["shell", &instance, "--", "/etc/eks/bootstrap.sh", "stead"];
        let refused = crate::region::outcome(&mut nodestead(&region.data_dir, &run_it))?;
        ensure!(!refused.0, "{refused:?}");
        Ok(())
    })();
    group.remove()?;
    done
}
