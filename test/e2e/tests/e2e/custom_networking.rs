//! Custom networking: pods in a CIDR block of their own, in a region of its own, since every node of it
//! is concerned.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    Test,
    region::{Region, eventually, seconds, strings},
};

pub(crate) const TESTS: &[Test] = &[(
    "with_custom_networking_pods_have_addresses_of_their_zones_own_subnets",
    with_custom_networking_pods_have_addresses_of_their_zones_own_subnets,
)];

const CIDR: &str = "100.64.0.0/16";
const ZONES: [&str; 3] = ["a", "b", "c"];
const NAME: &str = "custom";
const VPC_CNI: [&str; 4] = ["--cluster-name", NAME, "--addon-name", "vpc-cni"];

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, 'mkdir /w; echo hello > /w/index.html; exec httpd -f -p 8080 -h /w']
---
apiVersion: v1
kind: Pod
metadata: {name: host, labels: {app: host}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: 'busybox:1.35', command: [sleep, '3600']}
";

fn with_custom_networking_pods_have_addresses_of_their_zones_own_subnets(
    _: &Region,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let region = Region::up_with(folder.path(), &["--nodes", "0", "--name", NAME])?;
    region.load_images()?;
    let cluster = region.aws(&["eks", "describe-cluster", "--name", NAME])?;
    let network = &cluster["cluster"]["resourcesVpcConfig"];
    let vpc = network["vpcId"].as_str().context("the VPC")?;
    let group = network["clusterSecurityGroupId"].as_str().context("the cluster's group")?;
    let associate = ["ec2", "associate-vpc-cidr-block", "--vpc-id", vpc, "--cidr-block", CIDR];
    region.aws(&associate)?;
    configure(
        &region,
        &json!({
            "env": {"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true",
                "ENI_CONFIG_LABEL_DEF": "topology.kubernetes.io/zone"},
            "eniConfig": {"create": true, "region": "us-east-1", "subnets": subnets(&region, vpc, group)?},
        }),
    )?;
    eventually("there is an ENIConfig for each zone", seconds(30), || {
        Ok((eni_configs(&region)? == ["us-east-1a", "us-east-1b", "us-east-1c"]).then_some(()))
    })?;

    let grow = ["eks", "update-nodegroup-config", "--cluster-name", NAME];
    let size = ["--nodegroup-name", "default", "--scaling-config", "desiredSize=1"];
    region.aws(&[&grow[..], &size].concat())?;
    region.apply(PODS)?;
    let ready = ["wait", "--for=condition=Ready", "pod/web", "pod/host", "--timeout=120s"];
    region.kubectl(&ready)?;
    let node = region.kubectl_json(&["get", "nodes"])?["items"][0].clone();
    let zone = node["metadata"]["labels"]["topology.kubernetes.io/zone"].clone();
    let address = pod_address(&region, "web")?;
    let eni = interface_of(&region, &address)?;
    ensure!(address.starts_with("100.64."), "{address}");
    ensure!(eni["AvailabilityZone"] == zone, "{eni}");
    ensure!(eni["Groups"][0]["GroupId"] == group, "{eni}");
    ensure!(eni["Attachment"]["DeviceIndex"] != 0, "{eni}");

    // Host pods have the node's address; its interface carries no pods.
    let own = pod_address(&region, "host")?;
    ensure!(own.starts_with("192.168."), "{own}");
    let primary = interface_of(&region, &own)?;
    let addresses = primary["PrivateIpAddresses"].as_array().map_or(0, Vec::len);
    ensure!(addresses == 1, "the primary interface has addresses for pods: {primary}");

    let url = format!("http://{address}:8080");
    let fetch = ["exec", "host", "--", "busybox", "wget", "-qO-", &url];
    ensure!(region.kubectl(&fetch)?.contains("hello"), "the node reaches the pod");
    let resolve =
        ["exec", "web", "--", "busybox", "nslookup", "kubernetes.default.svc.cluster.local"];
    eventually("the pod reaches the cluster's DNS", seconds(60), || {
        Ok(region.kubectl(&resolve)?.contains("10.100.0.1").then_some(()))
    })?;

    configure(&region, &json!({}))?;
    eventually("what was configured is gone", seconds(30), || {
        Ok(eni_configs(&region)?.is_empty().then_some(()))
    })?;
    region.down()
}

/// A subnet in each zone, as `eniConfig.subnets` names them.
fn subnets(region: &Region, vpc: &str, group: &str) -> anyhow::Result<Value> {
    let mut made = json!({});
    for (number, zone) in ZONES.iter().enumerate() {
        let cidr = format!("100.64.{number}.0/24");
        let name = format!("us-east-1{zone}");
        let create = ["ec2", "create-subnet", "--vpc-id", vpc, "--cidr-block", &cidr];
        let subnet = region.aws(&[&create[..], &["--availability-zone", &name]].concat())?;
        let id = subnet["Subnet"]["SubnetId"].clone();
        made[zone] = json!({"id": id, "securityGroups": [group]});
    }
    Ok(made)
}

fn configure(region: &Region, values: &Value) -> anyhow::Result<()> {
    let values = values.to_string();
    let update = ["eks", "update-addon", "--configuration-values", &values];
    region.aws(&[&update[..], &VPC_CNI].concat())?;
    eventually("the add-on is active again", seconds(120), || {
        let addon = region.aws(&[&["eks", "describe-addon"][..], &VPC_CNI].concat())?;
        Ok((addon["addon"]["status"] == "ACTIVE").then_some(()))
    })
}

fn eni_configs(region: &Region) -> anyhow::Result<Vec<String>> {
    Ok(strings(&region.kubectl_json(&["get", "eniconfigs"])?, "/metadata/name"))
}

fn pod_address(region: &Region, pod: &str) -> anyhow::Result<String> {
    let pod = region.kubectl_json(&["get", "pod", pod])?;
    Ok(pod["status"]["podIP"].as_str().context("its address")?.to_owned())
}

/// Which has the address among others.
fn interface_of(region: &Region, address: &str) -> anyhow::Result<Value> {
    let filter = format!("Name=addresses.private-ip-address,Values={address}");
    let found = region.aws(&["ec2", "describe-network-interfaces", "--filters", &filter])?;
    Ok(found["NetworkInterfaces"][0].clone())
}
