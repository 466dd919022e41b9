//! An IPv6 cluster beside the region's own: in a VPC of its own, with a node group, and pods that
//! speak IPv6.

use std::{net::Ipv6Addr, process::Command};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    Test,
    region::{Region, eventually, run, run_with_input, seconds},
};

pub(crate) const TESTS: &[Test] = &[(
    "an_ipv6_clusters_pods_reach_a_service_by_ipv6_until_a_policy_closes_it",
    an_ipv6_clusters_pods_reach_a_service_by_ipv6_until_a_policy_closes_it,
)];

const NAME: &str = "six";
/// What `AmazonEKS_CNI_Policy` does not allow: on AWS customers make this one, too.
const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
    "Action": ["ec2:AssignIpv6Addresses", "ec2:UnassignIpv6Addresses"]}]}"#;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: web
      image: busybox:1.35
      command: [sh, -c, 'mkdir /w; echo by-ipv6 > /w/index.html; exec httpd -f -p 8080 -h /w']
      readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: c, image: 'busybox:1.35', command: [sleep, '1000000']}
";

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
";

struct Six<'a> {
    region: &'a Region,
    kubeconfig: String,
    /// Where the kubeconfig is, for as long as it is used.
    _folder: tempfile::TempDir,
}

impl Six<'_> {
    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = self.region.client("kubectl", arguments);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut self.client(arguments))
    }

    fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&run(self.client(arguments).args(["-o", "json"]))?)?)
    }

    fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        run_with_input(&mut self.client(&["apply", "-f", "-"]), manifest)
    }

    /// Asks the Service by its name, as a pod does (Debian's static busybox cannot `wget` by IPv6).
    fn asks(&self) -> anyhow::Result<bool> {
        let ask = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 2 web.default 80";
        let page = self.kubectl(&["exec", "client", "--", "sh", "-c", ask]);
        Ok(page.is_ok_and(|page| page.trim_end().ends_with("by-ipv6")))
    }

    /// Whether the client gets a connection to an IPv4 address.
    fn connects(&self, address: &str, port: &str) -> bool {
        let ask = format!("nc -w 2 {address} {port} < /dev/null");
        self.kubectl(&["exec", "client", "--", "sh", "-c", &ask]).is_ok()
    }
}

fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    found.with_context(|| format!("no {pointer} in {value}"))
}

/// A VPC with a block of IPv6 and a public subnet in each of two zones.
fn network(region: &Region) -> anyhow::Result<Vec<String>> {
    let ec2 = |arguments: &[&str]| region.aws(&[&["ec2"][..], arguments].concat());
    let vpc =
        ec2(&["create-vpc", "--cidr-block", "10.66.0.0/16", "--amazon-provided-ipv6-cidr-block"])?;
    let block = text(&vpc, "/Vpc/Ipv6CidrBlockAssociationSet/0/Ipv6CidrBlock")?;
    let vpc = text(&vpc, "/Vpc/VpcId")?;
    let gateway = text(&ec2(&["create-internet-gateway"])?, "/InternetGateway/InternetGatewayId")?;
    ec2(&["attach-internet-gateway", "--vpc-id", &vpc, "--internet-gateway-id", &gateway])?;
    let of_vpc = format!("Name=vpc-id,Values={vpc}");
    let tables = ec2(&["describe-route-tables", "--filters", &of_vpc])?;
    let table = text(&tables, "/RouteTables/0/RouteTableId")?;
    let route = ["create-route", "--route-table-id", &table, "--gateway-id", &gateway];
    ec2(&[&route[..], &["--destination-cidr-block", "0.0.0.0/0"]].concat())?;
    ec2(&[&route[..], &["--destination-ipv6-cidr-block", "::/0"]].concat())?;
    let block: Ipv6Addr = block.trim_end_matches("/56").parse()?;
    let mut subnets = Vec::new();
    for (number, zone) in (0u8..).zip(["us-east-1a", "us-east-1b"]) {
        let part = Ipv6Addr::from_bits(block.to_bits() + (u128::from(number) << 64));
        let (four, six) = (format!("10.66.{number}.0/24"), format!("{part}/64"));
        let made = ec2(&[
            "create-subnet",
            "--vpc-id",
            &vpc,
            "--availability-zone",
            zone,
            "--cidr-block",
            &four,
            "--ipv6-cidr-block",
            &six,
        ])?;
        let subnet = text(&made, "/Subnet/SubnetId")?;
        for attribute in ["--map-public-ip-on-launch", "--assign-ipv6-address-on-creation"] {
            ec2(&["modify-subnet-attribute", "--subnet-id", &subnet, attribute])?;
        }
        subnets.push(subnet);
    }
    Ok(subnets)
}

fn cluster<'a>(region: &'a Region, subnets: &[String]) -> anyhow::Result<Six<'a>> {
    let eks = |arguments: &[&str]| region.aws(&[&["eks"][..], arguments].concat());
    let first = eks(&["describe-cluster", "--name", "stead"])?;
    let role = text(&first, "/cluster/roleArn")?;
    let config = format!("subnetIds={}", subnets.join(","));
    eks(&[
        "create-cluster",
        "--name",
        NAME,
        "--role-arn",
        &role,
        "--resources-vpc-config",
        &config,
        "--kubernetes-network-config",
        "ipFamily=ipv6",
    ])?;
    run(&mut region.client("aws", &["eks", "wait", "cluster-active", "--name", NAME]))?;
    let described = eks(&["describe-cluster", "--name", NAME])?;
    let services = text(&described, "/cluster/kubernetesNetworkConfig/serviceIpv6Cidr")?;
    ensure!(services.starts_with("fd") && services.ends_with("/108"), "{services}");
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig").display().to_string();
    let update = ["eks", "update-kubeconfig", "--name", NAME, "--kubeconfig", &kubeconfig];
    run(&mut region.client("aws", &update))?;

    let group = eks(&["list-nodegroups", "--cluster-name", "stead"])?;
    let group = text(&group, "/nodegroups/0")?;
    let group =
        eks(&["describe-nodegroup", "--cluster-name", "stead", "--nodegroup-name", &group])?;
    let node_role = text(&group, "/nodegroup/nodeRole")?;
    let role_name = node_role.rsplit('/').next().unwrap_or_default().to_owned();
    run(&mut region.client(
        "aws",
        &[
            "iam",
            "put-role-policy",
            "--role-name",
            &role_name,
            "--policy-name",
            "ipv6",
            "--policy-document",
            POLICY,
        ],
    ))?;
    let sizes = "minSize=2,maxSize=2,desiredSize=2";
    let mut create = vec!["create-nodegroup", "--cluster-name", NAME, "--nodegroup-name", "six"];
    create.extend(["--node-role", &node_role, "--scaling-config", sizes, "--subnets"]);
    create.extend(subnets.iter().map(String::as_str));
    eks(&create)?;
    Ok(Six { region, kubeconfig, _folder: folder })
}

fn an_ipv6_clusters_pods_reach_a_service_by_ipv6_until_a_policy_closes_it(
    region: &Region,
) -> anyhow::Result<()> {
    let subnets = network(region)?;
    let six = cluster(region, &subnets)?;
    eventually("two nodes are Ready", seconds(120), || {
        let nodes = six.kubectl(&["get", "nodes", "--no-headers"]).unwrap_or_default();
        Ok((nodes.lines().filter(|it| it.contains(" Ready ")).count() == 2).then_some(()))
    })?;
    for node in six.json(&["get", "nodes"])?["items"].as_array().into_iter().flatten() {
        let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let internal: Vec<_> = addresses.iter().filter(|it| it["type"] == "InternalIP").collect();
        ensure!(internal.len() == 1, "{addresses:?}");
        ensure!(text(internal[0], "/address")?.contains(':'), "{addresses:?}");
    }
    six.apply(PODS)?;
    six.kubectl(&["wait", "--for=condition=Ready", "--timeout=90s", "pod/web", "pod/client"])?;
    let pod = six.json(&["get", "pod", "web"])?;
    let addresses = pod["status"]["podIPs"].as_array().map_or(0, Vec::len);
    ensure!(addresses == 1 && text(&pod, "/status/podIP")?.contains(':'), "{}", pod["status"]);
    let service = six.json(&["get", "service", "web"])?;
    ensure!(service["spec"]["ipFamilies"] == serde_json::json!(["IPv6"]), "{service}");
    let slices =
        six.json(&["get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes"])?;
    ensure!(slices["items"][0]["addressType"] == "IPv6", "{slices}");
    eventually("the Service answers by its name", seconds(60), || Ok(six.asks()?.then_some(())))?;
    ensure!(six.connects("198.51.100.254", "443"), "a pod reaches what is IPv4 only");
    ensure!(six.connects("fd00:ec2::253", "53"), "the VPC's resolver answers by IPv6");
    ensure!(six.connects("fd00:ec2::254", "80"), "so does IMDS, if only to refuse");
    // The server's pod has one of the first of these addresses on its node, as the client has.
    let peers = (1..4).map(|it| format!("169.254.172.{it}"));
    let reached = peers.into_iter().filter(|it| six.connects(it, "8080")).count();
    ensure!(reached == 0, "nobody is reached by IPv4");
    // The control plane comes to a kubelet by IPv6, too.
    six.kubectl(&["logs", "web"])?;

    let update = ["eks", "update-addon", "--cluster-name", NAME, "--addon-name", "vpc-cni"];
    let values = r#"{"enableNetworkPolicy": "true"}"#;
    region.aws(&[&update[..], &["--configuration-values", values]].concat())?;
    six.apply(DENY)?;
    eventually("the policy closes it", seconds(120), || Ok((!six.asks()?).then_some(())))?;
    six.kubectl(&["delete", "networkpolicy", "closed"])?;
    eventually("it is open again", seconds(60), || Ok(six.asks()?.then_some(())))?;
    delete(region)
}

fn delete(region: &Region) -> anyhow::Result<()> {
    let of_group = ["--cluster-name", NAME, "--nodegroup-name", "six"];
    region.aws(&[&["eks", "delete-nodegroup"][..], &of_group].concat())?;
    run(
        &mut region.client("aws", &[&["eks", "wait", "nodegroup-deleted"][..], &of_group].concat())
    )?;
    region.aws(&["eks", "delete-cluster", "--name", NAME])?;
    run(&mut region.client("aws", &["eks", "wait", "cluster-deleted", "--name", NAME])).map(drop)
}
