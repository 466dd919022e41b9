//! A real workload, as ordinary manifests.

use anyhow::{Context, ensure};

use crate::{
    Test,
    region::{Region, eventually, run_with_input, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[
    ("the_guestbook_runs_in_three_zones", the_guestbook_runs_in_three_zones),
    ("pods_carry_addresses_of_their_nodes_enis", pods_carry_addresses_of_their_nodes_enis),
    ("a_pod_reaches_a_service_by_name_across_nodes", a_pod_reaches_a_service_by_name),
];

pub(crate) const MESSAGES: &str =
    "/api/v1/namespaces/default/services/guestbook:http/proxy/messages";

fn the_guestbook_runs_in_three_zones(region: &Region) -> anyhow::Result<()> {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guestbook/");
    region.kubectl(&["apply", "-f", examples])?;
    for name in ["redis-leader", "redis-follower", "guestbook"] {
        let deployment = format!("deployment/{name}");
        region.kubectl(&["rollout", "status", &deployment, "--timeout=120s"])?;
    }
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=guestbook"])?;
    let mut nodes = strings(&pods, "/spec/nodeName");
    nodes.sort();
    nodes.dedup();
    ensure!(nodes.len() == 3, "one front end per zone: {nodes:?}");
    let create = ["create", "--raw", MESSAGES, "-f", "-"];
    run_with_input(&mut region.client("kubectl", &create), "hello from e2e")
        .with_context(|| said_by_pods(region))?;
    eventually("a follower shows the message", seconds(20), || {
        let page = region.kubectl(&["get", "--raw", MESSAGES])?;
        Ok(page.contains("hello from e2e").then_some(()))
    })
}

/// Why the application could not do what it was asked for: what its pods say, what they see of the
/// leader, and what their nodes' proxies have to complain of.
fn said_by_pods(region: &Region) -> String {
    let app = ["logs", "-l", "app=guestbook", "-c", "nginx", "--tail", "3"];
    let proxies = ["logs", "-n", "kube-system", "-l", "k8s-app=kube-proxy", "--tail", "5"];
    let places = ["get", "pods", "-A", "-o", "wide", "--no-headers"];
    let slices = ["get", "endpointslices", "--no-headers"];
    let said = [&app[..], &proxies, &places, &slices].map(|it| region.kubectl(it));
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=guestbook"]).unwrap_or_default();
    let pings = strings(&pods, "/metadata/name").into_iter().map(|pod| {
        let ping = "for i in 1 2 3; do timeout 7 redis-cli -h redis-leader ping 2>&1; done";
        region.kubectl(&["exec", &pod, "-c", "app", "--", "sh", "-c", ping])
    });
    let said = said.into_iter().chain(pings);
    said.map(|it| it.unwrap_or_else(|error| error.to_string())).collect::<Vec<_>>().join("\n")
}

fn pods_carry_addresses_of_their_nodes_enis(region: &Region) -> anyhow::Result<()> {
    let nodes = region.kubectl_json(&["get", "nodes"])?;
    let instance_of = |name: &str| {
        let items = nodes["items"].as_array()?;
        let node = items.iter().find(|it| it["metadata"]["name"] == name)?;
        node["spec"]["providerID"].as_str()?.rsplit('/').next().map(str::to_owned)
    };
    let interfaces = region.aws(&["ec2", "describe-network-interfaces"])?;
    let interfaces = interfaces["NetworkInterfaces"].as_array().expect("a list of interfaces");
    let pods = region.kubectl_json(&["get", "pods", "-l", "app in (redis, guestbook)"])?;
    let mut zones = std::collections::BTreeSet::new();
    for pod in pods["items"].as_array().expect("a list has items") {
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        let holds = |eni: &&serde_json::Value| {
            let addresses = strings(&eni["PrivateIpAddresses"], "/PrivateIpAddress");
            addresses.iter().any(|it| it == address)
        };
        let eni = interfaces.iter().find(holds);
        let owner = eni.and_then(|it| it["Attachment"]["InstanceId"].as_str().map(str::to_owned));
        let wanted = instance_of(pod["spec"]["nodeName"].as_str().unwrap_or_default());
        ensure!(owner.is_some() && owner == wanted, "{address}: {owner:?}, not {wanted:?}");
        zones.extend(eni.and_then(|it| it["AvailabilityZone"].as_str()));
    }
    ensure!(zones.len() == 3, "subnets of {zones:?} only");
    Ok(())
}

fn a_pod_reaches_a_service_by_name(region: &Region) -> anyhow::Result<()> {
    let pods = region.kubectl_json(&["get", "pods", "-l", "app=guestbook"])?;
    let names = strings(&pods, "/metadata/name");
    ensure!(names.len() == 3, "{names:?}");
    for pod in names {
        // One leader, three front ends on three nodes: at least two cross nodes.
        let command = ["exec", &pod, "-c", "app", "--", "redis-cli", "-h", "redis-leader", "ping"];
        let said = region.kubectl(&command)?;
        ensure!(said.trim() == "PONG", "{pod}: {said}");
    }
    Ok(())
}
