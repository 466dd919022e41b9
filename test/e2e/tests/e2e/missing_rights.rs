//! A node role without one of its policies breaks exactly the step that needs it; a closed 10250
//! breaks logs and exec and nothing else.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    Test,
    region::{Region, eventually, outcome, run, seconds, strings},
    traffic::Traffic,
};

pub(crate) const TESTS: &[Test] = &[
    ("without_the_worker_node_policy_nodes_do_not_join", without_worker_node_policy),
    ("without_the_worker_node_policy_alone_only_pod_identity_is_denied", worker_node_policy_alone),
    ("without_the_cni_policy_pods_get_no_address", without_cni_policy),
    ("without_the_registry_policy_addons_are_not_pulled", without_registry_policy),
    ("a_closed_10250_breaks_logs_and_exec_only", a_closed_10250_breaks_logs_and_exec_only),
];

const POLICIES: [&str; 3] =
    ["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryReadOnly"];

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

/// A node group of one node whose role lacks `missing`; removed with the value.
pub(crate) struct Group<'a> {
    region: &'a Region,
    name: String,
}

impl<'a> Group<'a> {
    pub(crate) fn without(
        region: &'a Region,
        missing: &[&str],
        name: &str,
    ) -> anyhow::Result<Self> {
        let role = format!("role-{name}");
        let created = region.aws(&[
            "iam",
            "create-role",
            "--role-name",
            &role,
            "--assume-role-policy-document",
            TRUST,
        ])?;
        let arn = created["Role"]["Arn"].as_str().context("a role has an ARN")?;
        for policy in POLICIES.iter().filter(|it| !missing.contains(it)) {
            let policy = format!("arn:aws:iam::aws:policy/{policy}");
            run(&mut region.client(
                "aws",
                &["iam", "attach-role-policy", "--role-name", &role, "--policy-arn", &policy],
            ))?;
        }
        let subnet = region.subnet()?;
        region.aws(&[
            "eks",
            "create-nodegroup",
            "--cluster-name",
            "stead",
            "--nodegroup-name",
            name,
            "--subnets",
            &subnet,
            "--node-role",
            arn,
            "--instance-types",
            "m5.large",
            "--scaling-config",
            "minSize=0,maxSize=1,desiredSize=1",
            "--taints",
            "key=only,value=test,effect=NO_SCHEDULE",
        ])?;
        Ok(Self { region, name: name.to_owned() })
    }

    /// The instance, as EC2 describes it.
    pub(crate) fn instance(&self) -> anyhow::Result<Value> {
        let filter = format!("Name=tag:eks:nodegroup-name,Values={}", self.name);
        eventually("the group has an instance", seconds(30), || {
            let found = self.region.aws(&[
                "ec2",
                "describe-instances",
                "--filters",
                &filter,
                "Name=instance-state-name,Values=running",
                "--query",
                "Reservations[].Instances[]",
            ])?;
            Ok(found.as_array().and_then(|it| it.first()).cloned())
        })
    }

    /// The node that the instance became.
    pub(crate) fn node(&self) -> anyhow::Result<String> {
        let instance = self.instance()?;
        let name = instance["PrivateDnsName"].as_str().context("a private name")?.to_owned();
        eventually("the node is registered", seconds(30), || {
            Ok(self.region.kubectl(&["get", "node", &name]).ok().map(|_| name.clone()))
        })
    }

    pub(crate) fn delete(self) -> anyhow::Result<()> {
        let Self { region, name } = self;
        run(&mut region.client(
            "aws",
            &["eks", "delete-nodegroup", "--cluster-name", "stead", "--nodegroup-name", &name],
        ))?;
        eventually("the group is gone", seconds(90), || {
            let groups = region.aws(&["eks", "list-nodegroups", "--cluster-name", "stead"])?;
            let left = groups["nodegroups"].as_array().cloned().unwrap_or_default();
            Ok((!left.iter().any(|it| *it == *name)).then_some(()))
        })
    }
}

/// Waits until the log of AWS calls has AWS's own error for `action`, and that it was the group's role
/// which was refused.
fn ensure_denied(region: &Region, group: &str, action: &str) -> anyhow::Result<()> {
    eventually(&format!("{action} was denied to {group}"), seconds(60), || {
        let log = run(&mut crate::region::nodestead(&region.data_dir, &["logs", "aws"]))?;
        let calls = log.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
        let mut denied = calls.filter(|it| it["decision"] == "denied");
        Ok(denied.any(|it| is_denial(&it["message"].to_string(), group, action)).then_some(()))
    })
}

/// Whether this quotes AWS: `User: arn:…:assumed-role/ROLE/i-… is not authorized to perform: ACTION`.
fn is_denial(text: &str, group: &str, action: &str) -> bool {
    let who = format!("User: arn:aws:sts::111122223333:assumed-role/role-{group}/i-");
    let what = format!("is not authorized to perform: {action}");
    text.contains(&who) && text.contains(&what)
}

/// An event in kube-system that quotes AWS: its object's name.
fn event_of_denial(region: &Region, group: &str, action: &str) -> anyhow::Result<String> {
    eventually(&format!("an event says that {action} was denied"), seconds(60), || {
        let events = region.kubectl_json(&["get", "events", "-n", "kube-system"])?;
        let mut all = events["items"].as_array().cloned().unwrap_or_default().into_iter();
        let found = all.find(|it| is_denial(&it["message"].to_string(), group, action));
        Ok(found.and_then(|it| it["involvedObject"]["name"].as_str().map(str::to_owned)))
    })
}

/// `explain pod` names the call that AWS denied, and to whom.
fn ensure_explained(region: &Region, pod: &str, group: &str, action: &str) -> anyhow::Result<()> {
    let pod = format!("kube-system/{pod}");
    eventually("`explain pod` names the denied call", seconds(60), || {
        let explain = ["explain", "pod", &pod, "-o", "json"];
        let said = run(&mut crate::region::nodestead(&region.data_dir, &explain))?;
        let said: Value = serde_json::from_str(&said)?;
        let denied = said["denied"].as_array().cloned().unwrap_or_default();
        let role = format!("assumed-role/role-{group}/");
        let is_it = |it: &Value| {
            it["action"].as_str().is_some_and(|it| it.starts_with(action))
                && it["principal"].as_str().is_some_and(|it| it.contains(&role))
        };
        Ok(denied.iter().any(is_it).then_some(()))
    })
}

/// `explain node` names the step that fails, of an instance or a node. Says how the step is told.
pub(crate) fn ensure_fails(region: &Region, what: &str, step: &str) -> anyhow::Result<Value> {
    eventually(&format!("`explain node` says that {step} fails"), seconds(150), || {
        let explain = ["explain", "node", what, "-o", "json"];
        let said = run(&mut crate::region::nodestead(&region.data_dir, &explain))?;
        let said: Value = serde_json::from_str(&said)?;
        let is_it = |it: &&Value| it["step"] == step && it["state"] == "fails";
        let found = said["chain"].as_array().and_then(|it| it.iter().find(is_it).cloned());
        Ok(found.filter(|_| !said["broken"].is_null()))
    })
}

fn without_worker_node_policy(region: &Region) -> anyhow::Result<()> {
    // AmazonEKS_CNI_Policy allows ec2:DescribeInstances too: only without both is it denied.
    let group = Group::without(region, &POLICIES[..2], "no-worker-policy")?;
    let instance = group.instance()?;
    ensure_denied(region, "no-worker-policy", "ec2:DescribeInstances")?;
    // nodeadm goes no further: the instance runs, says why in its console, and is no node.
    let id = instance["InstanceId"].as_str().context("an id")?;
    eventually("the console tells why", seconds(30), || {
        let said = run(&mut crate::region::nodestead(&region.data_dir, &["logs", id]))?;
        let tells = is_denial(&said, "no-worker-policy", "ec2:DescribeInstances");
        Ok((tells && said.contains("UnauthorizedOperation")).then_some(()))
    })?;
    ensure_fails(region, id, "rights")?;
    let name = instance["PrivateDnsName"].as_str().context("a private name")?;
    let (is_node, said) = outcome(&mut region.client("kubectl", &["get", "node", name]))?;
    ensure!(!is_node && said.contains("NotFound"), "{said}");
    group.delete()
}

/// AmazonEKS_CNI_Policy lets nodeadm look at its instance too; nothing else lets a node call EKS Auth.
fn worker_node_policy_alone(region: &Region) -> anyhow::Result<()> {
    let group = Group::without(region, &POLICIES[..1], "cni-policy-looks")?;
    let node = group.node()?;
    eventually("the node is Ready", seconds(60), || {
        let node = region.kubectl(&["get", "node", &node, "--no-headers"])?;
        Ok(node.contains(" Ready ").then_some(()))
    })?;
    let may = |principal: &str| -> anyhow::Result<Value> {
        let arguments = ["explain", "access", "--principal", principal, "-o", "json", "--action"];
        let action = "eks-auth:AssumeRoleForPodIdentity";
        let arguments = [&arguments[..], &[action]].concat();
        Ok(serde_json::from_str(&run(&mut crate::region::nodestead(
            &region.data_dir,
            &arguments,
        ))?)?)
    };
    let without = may("role/role-cni-policy-looks")?;
    ensure!(without["decision"] == "implicitDeny", "{without}");
    let default = ["eks", "describe-nodegroup", "--cluster-name", "stead"];
    let default = region.aws(&[&default[..], &["--nodegroup-name", "default"]].concat())?;
    let arn = default["nodegroup"]["nodeRole"].as_str().context("a role")?;
    let name = arn.rsplit('/').next().unwrap_or_default();
    let with = may(&format!("role/{name}"))?;
    ensure!(with["isAllowed"] == true, "{with}");
    group.delete()
}

fn without_cni_policy(region: &Region) -> anyhow::Result<()> {
    let group = Group::without(region, &POLICIES[1..2], "no-cni-policy")?;
    let node = group.node()?;
    ensure_denied(region, "no-cni-policy", "ec2:")?;
    let pod = event_of_denial(region, "no-cni-policy", "ec2:")?;
    ensure!(pod.starts_with("aws-node-"), "{pod}");
    let events = region.kubectl(&["get", "events", "-n", "kube-system"])?;
    ensure!(events.contains("MissingIAMPermissions"), "{events}");
    ensure_explained(region, &pod, "no-cni-policy", "ec2:")?;
    let ready = region.kubectl_json(&["get", "node", &node])?;
    let conditions = ready["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|it| it["type"] == "Ready").context("a condition")?;
    let said = found["message"].as_str().unwrap_or_default();
    ensure!(found["status"] == "False" && said.contains("cni plugin not initialized"), "{found}");
    ensure_fails(region, &node, "CNI")?;
    ensure_pod_gets_no_address(region, &node)?;
    group.delete()
}

/// A pod that takes any node as it is: it is bound, and gets neither an address nor a container.
fn ensure_pod_gets_no_address(region: &Region, node: &str) -> anyhow::Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "no-address"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "a", "image": "busybox:1.35", "command": ["sleep", "1000"]}],
        },
    });
    region.apply(&pod.to_string())?;
    let why = eventually("its kubelet says why it does not start", seconds(60), || {
        let selector = "--field-selector=involvedObject.name=no-address,reason=NetworkNotReady";
        let events = region.kubectl_json(&["get", "events", selector])?;
        Ok(strings(&events, "/message").first().cloned())
    })?;
    let pod = region.kubectl_json(&["get", "pod", "no-address"])?;
    region.kubectl(&["delete", "pod", "no-address", "--grace-period=0", "--force"])?;
    ensure!(
        why.contains("network is not ready") && why.contains("cni plugin not initialized"),
        "{why}"
    );
    ensure!(pod["spec"]["nodeName"] == node, "{pod}");
    ensure!(pod["status"]["podIP"].is_null() && pod["status"]["phase"] == "Pending", "{pod}");
    Ok(())
}

fn without_registry_policy(region: &Region) -> anyhow::Result<()> {
    let group = Group::without(region, &POLICIES[2..], "no-registry-policy")?;
    let node = group.node()?;
    ensure_denied(region, "no-registry-policy", "ecr:GetAuthorizationToken")?;
    let selector = format!("--field-selector=spec.nodeName={node}");
    eventually("its add-ons cannot be pulled", seconds(60), || {
        let pods = region.kubectl(&["get", "pods", "-n", "kube-system", &selector])?;
        Ok((pods.contains("ImagePullBackOff") || pods.contains("ErrImagePull")).then_some(()))
    })?;
    // The credential provider got no password, so the registry was asked without one: the event of the
    // pull has both.
    const ACTION: &str = "ecr:GetAuthorizationToken";
    let pod = event_of_denial(region, "no-registry-policy", ACTION)?;
    let events = region.kubectl(&["get", "events", "-n", "kube-system"])?;
    let is_it = |line: &&str| {
        let tells = line.contains("Failed to pull image") && line.contains("401 Unauthorized");
        tells && is_denial(line, "no-registry-policy", ACTION)
    };
    ensure!(events.lines().any(|line| is_it(&line)), "{events}");
    ensure_explained(region, &pod, "no-registry-policy", ACTION)?;
    ensure_fails(region, &node, "registry")?;
    // The kubelet's log has it too, as upstream's.
    let instance = group.instance()?;
    let id = instance["InstanceId"].as_str().context("an id")?;
    let log = format!("{id}/kubelet");
    let said = run(&mut crate::region::nodestead(&region.data_dir, &["logs", &log]))?;
    ensure!(is_denial(&said, "no-registry-policy", ACTION), "{said}");
    group.delete()
}

fn a_closed_10250_breaks_logs_and_exec_only(region: &Region) -> anyhow::Result<()> {
    let cluster = region.aws(&["eks", "describe-cluster", "--name", "stead"])?;
    let group = cluster
        .pointer("/cluster/resourcesVpcConfig/clusterSecurityGroupId")
        .and_then(Value::as_str)
        .context("a cluster security group")?;
    let all = json!([{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]);
    let range = |protocol: &str, from: i32, to: i32| {
        let pairs = json!([{"GroupId": group}]);
        json!({"IpProtocol": protocol, "FromPort": from, "ToPort": to, "UserIdGroupPairs": pairs})
    };
    let all_but_10250 = json!([
        range("tcp", 0, 10249),
        range("tcp", 10251, 65535),
        range("udp", 0, 65535),
        range("icmp", -1, -1),
    ]);
    let change = |verb: &str, rules: &Value| {
        let operation = format!("{verb}-security-group-ingress");
        let rules = rules.to_string();
        let arguments = ["ec2", &operation, "--group-id", group, "--ip-permissions", &rules];
        run(&mut region.client("aws", &arguments)).map(drop)
    };
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=guestbook"])?;
    let pod = strings(&pods, "/metadata/name").first().cloned().context("a pod")?;
    let traffic = Traffic::start(region)?;
    change("authorize", &all_but_10250)?;
    change("revoke", &all)?;
    let closed = eventually("logs time out", seconds(90), || {
        let (ok, said) = outcome(&mut region.client("kubectl", &["logs", &pod, "-c", "nginx"]))?;
        let (exec_ok, exec_said) =
            outcome(&mut region.client("kubectl", &["exec", &pod, "-c", "app", "--", "true"]))?;
        let is_timeout = said.contains(":10250: i/o timeout") && exec_said.contains("i/o timeout");
        ensure!(!ok && !exec_ok && is_timeout, "{said}\n{exec_said}");
        Ok(Some(()))
    });
    let image = ["run", "while-closed", "--image=busybox:1.35", "--", "sleep", "1000"];
    let ready = ["wait", "--for=condition=Ready", "pod/while-closed", "--timeout=60s"];
    let runs = region.kubectl(&image).and_then(|_| region.kubectl(&ready));
    change("authorize", &all)?;
    change("revoke", &all_but_10250)?;
    closed?;
    runs.context("pods are run though logs and exec are not")?;
    region.kubectl(&["delete", "pod", "while-closed", "--grace-period=1"])?;
    eventually("logs work again", seconds(30), || {
        Ok(region.kubectl(&["logs", &pod, "-c", "nginx"]).ok())
    })?;
    let running = region.kubectl_json(&["get", "pod", &pod])?;
    ensure!(running["status"]["phase"] == "Running", "{running}");
    traffic.ensure_unbroken()
}
