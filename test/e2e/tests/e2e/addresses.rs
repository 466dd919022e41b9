//! Subnets: who holds their addresses, and what becomes of connections between them.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, nodestead, outcome, run, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[
    (
        "explain_subnet_counts_what_ec2_counts_and_names_who_holds_it",
        explain_subnet_counts_what_ec2_counts_and_names_who_holds_it,
    ),
    ("plan_subnets_says_what_a_layout_holds", plan_subnets_says_what_a_layout_holds),
    ("a_host_port_leads_to_its_pod", a_host_port_leads_to_its_pod),
    (
        "explain_path_names_the_group_that_closes_a_kubelet_to_the_control_plane",
        explain_path_names_the_group_that_closes_a_kubelet_to_the_control_plane,
    ),
];

fn told(region: &Region, arguments: &[&str]) -> anyhow::Result<Value> {
    let arguments = [arguments, &["-o", "json"]].concat();
    Ok(serde_json::from_str(&run(&mut nodestead(&region.data_dir, &arguments))?)?)
}

fn explain_subnet_counts_what_ec2_counts_and_names_who_holds_it(
    region: &Region,
) -> anyhow::Result<()> {
    let instances = region.running_instances()?;
    let instance = instances.first().context("an instance")?;
    let described = region.aws(&["ec2", "describe-instances", "--instance-ids", instance])?;
    let subnet = described.pointer("/Reservations/0/Instances/0/SubnetId").and_then(Value::as_str);
    let subnet = subnet.context("the instance's subnet")?;
    // The CNI may take or give addresses between the two questions.
    let mut both = (Value::Null, Value::Null);
    for _ in 0..5 {
        let described = region.aws(&["ec2", "describe-subnets", "--subnet-ids", subnet])?;
        let explained = told(region, &["explain", "subnet", subnet])?;
        both = (described["Subnets"][0]["AvailableIpAddressCount"].clone(), explained);
        if both.0 == both.1["free"] {
            break;
        }
    }
    ensure!(both.0 == both.1["free"], "{} but {}", both.0, both.1);
    let holders = both.1["holders"].as_array().context("holders")?;
    ensure!(holders.iter().any(|it| it["name"] == instance.as_str()), "{}", both.1);
    let (is_known, said) =
        outcome(&mut nodestead(&region.data_dir, &["explain", "subnet", "subnet-0"]))?;
    ensure!(!is_known && said.contains("there is no subnet `subnet-0`"), "{said}");
    Ok(())
}

/// Through the real containerd, whose spelling of ports is its own.
fn a_host_port_leads_to_its_pod(region: &Region) -> anyhow::Result<()> {
    let nodes = region.kubectl_json(&["get", "nodes"])?;
    let node = nodes["items"][0]["metadata"]["name"].as_str().context("a node")?;
    let own = nodes["items"][0].pointer("/status/addresses/0/address").and_then(Value::as_str);
    let own = own.context("the node's address")?;
    let pod = |name: &str, address: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  \
             terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: \
             busybox:1.35\n    command: [sh, -c, 'mkdir /w; echo {name} > /w/index.html; exec \
             httpd -f -p 8080 -h /w']\n    ports: [{{containerPort: 8080, hostPort: 54323, \
             hostIP: {address}}}]\n---\n"
        )
    };
    // Of one number, at different addresses, so that both may be on the node.
    region.apply(&(pod("at-loopback", "127.0.0.1") + &pod("at-node", own)))?;
    let both = ["pod/at-loopback", "pod/at-node"];
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s"];
    region.kubectl(&[&ready[..], &both].concat())?;
    let instances = region.kubectl_json(&["get", "node", node])?;
    let instance = instances["spec"]["providerID"].as_str().and_then(|it| it.rsplit('/').next());
    let instance = instance.context("a provider ID")?;
    for (address, pod) in [(own, "at-node"), ("127.0.0.1", "at-loopback")] {
        let url = format!("http://{address}:54323");
        let ask = ["shell", instance, "--", "busybox", "wget", "-qO-", &url];
        // A container that has started need not listen yet.
        eventually(&url, seconds(20), || {
            let page = run(&mut nodestead(&region.data_dir, &ask))?;
            ensure!(page.trim() == pod, "{page}");
            Ok(Some(()))
        })?;
    }
    region.kubectl(&[&["delete", "--now"][..], &both].concat())?;
    Ok(())
}

fn plan_subnets_says_what_a_layout_holds(region: &Region) -> anyhow::Result<()> {
    let layout = ["plan", "subnets", "--nodes", "m5.large=9", "--cidr", "a=10.0.0.0/24"];
    let planned = told(region, &layout)?.to_string();
    // Nine nodes with 27 pods each want more addresses than a /24 has: 251 less three a node.
    ensure!(planned.contains("224") && planned.contains("243"), "{planned}");
    Ok(())
}

fn explain_path_names_the_group_that_closes_a_kubelet_to_the_control_plane(
    region: &Region,
) -> anyhow::Result<()> {
    let nodes = region.kubectl_json(&["get", "nodes"])?;
    let node = strings(&nodes, "/metadata/name").first().cloned().context("a node")?;
    let to = format!("node/{node}:10250");
    let ask = || told(region, &["explain", "path", "--from", "control-plane", "--to", &to]);
    let open = ask()?;
    ensure!(open["isAllowed"] == true, "{open}");
    let to_nowhere = format!("node/{node}:4");
    let arguments = ["explain", "path", "--from", "control-plane", "--to", &to_nowhere];
    // The cluster's group lets its members in at every port.
    ensure!(told(region, &arguments)?["isAllowed"] == true, "a member of the cluster's group");

    let cluster = region.aws(&["eks", "describe-cluster", "--name", "stead"])?;
    let group = cluster.pointer("/cluster/resourcesVpcConfig/clusterSecurityGroupId");
    let group = group.and_then(Value::as_str).context("the cluster's group")?.to_owned();
    let rule = format!("IpProtocol=-1,UserIdGroupPairs=[{{GroupId={group}}}]");
    let revoke = ["ec2", "revoke-security-group-ingress", "--group-id", &group];
    region.aws(&[revoke.as_slice(), &["--ip-permissions", &rule]].concat())?;
    let closed = ask();
    let authorize = ["ec2", "authorize-security-group-ingress", "--group-id", &group];
    region.aws(&[authorize.as_slice(), &["--ip-permissions", &rule]].concat())?;
    let closed = closed?;
    ensure!(closed["isAllowed"] == false, "{closed}");
    ensure!(closed["reason"].as_str().is_some_and(|it| it.contains(&group)), "{closed}");
    ensure!(ask()?["isAllowed"] == true, "it is open again");
    Ok(())
}
