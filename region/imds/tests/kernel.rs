//! The hop limit, on real packets: an instance reads its metadata, a pod on it only as far as the
//! limit lets it. Without root nothing runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use api_imds::SecurityCredentials;
use clock::Clock;
use lifecycle::Scope;
use linux_netlink::{LinkChange, Mac, Netlink, Route, Scope as RouteScope, Veth, VethEnd};
use region_imds::{
    CredentialsError, Identity, Imds, InstanceMetadata, Interface, Metadata, Options,
};
use region_vpc::{Eni, IMDS, IMDS_V6, Location, Router, Setup, Subnet, VpcSpec};
use transport::Place;

const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
const POD: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 20);
const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0x100, 0, 0, 0, 0x10);
/// Of a prefix that the node has, as pods of IPv6 clusters are.
const POD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0x100, 5, 0, 0, 7);
const PREFIX: &str = "2001:db8:0:100:5::/80";
/// How long an answer that does not come is waited for.
const PATIENCE: Duration = Duration::from_millis(300);

struct One(InstanceMetadata);

impl Metadata for One {
    fn instance(&self, _: &str, source: IpAddr) -> Option<Arc<InstanceMetadata>> {
        self.0.owns(source).then(|| Arc::new(self.0.clone()))
    }

    async fn credentials(
        &self,
        _: &InstanceMetadata,
        role: &str,
    ) -> Result<SecurityCredentials, CredentialsError> {
        let code = "Failed".to_owned();
        Err(CredentialsError { role: role.to_owned(), code, source: "none here".into() })
    }
}

fn instance(hop_limit: u8, tokens_required: bool) -> InstanceMetadata {
    let interface = Interface {
        id: "eni-1".to_owned(),
        mac: "0a:00:00:00:00:01".to_owned(),
        device_number: 0,
        primary: NODE,
        secondary: vec![POD],
        prefixes: Vec::new(),
        public_ipv4: None,
        subnet_id: "subnet-1".to_owned(),
        ipv6_addresses: vec![NODE_V6],
        ipv6_prefixes: vec![PREFIX.parse().unwrap()],
        subnet_ipv6_cidrs: Vec::new(),
        vpc_ipv6_cidrs: Vec::new(),
        subnet_cidr: "192.168.0.0/19".parse().unwrap(),
        vpc_id: "vpc-1".to_owned(),
        vpc_cidrs: Vec::new(),
        security_groups: Vec::new(),
        owner: String::new(),
        hostname: String::new(),
    };
    InstanceMetadata {
        identity: Identity { instance_id: "i-1".to_owned(), ..Identity::default() },
        interfaces: vec![interface],
        options: Options { hop_limit, tokens_required, by_ipv6: true, ..Options::default() },
        ..InstanceMetadata::default()
    }
}

fn vpc(prefix: &str) -> VpcSpec {
    let eni = Eni {
        id: "eni-00000000000000001".to_owned(),
        mac: Mac([0x0a, 0, 0, 0, 0, 1]),
        subnet: "a".to_owned(),
        primary: NODE,
        secondary: [POD].into(),
        prefixes: Default::default(),
        ipv6_addresses: vec![NODE_V6],
        ipv6_prefixes: [PREFIX.parse().unwrap()].into(),
        // No group at all: IMDS answers none the less.
        security_groups: Default::default(),
        source_dest_check: true,
        is_asleep: false,
        public_ip: None,
        tracking: Default::default(),
        location: Location::Netns {
            path: linux_netns::path(&format!("{prefix}-node")),
            device: "eth0".to_owned(),
            setup: Setup::Primary,
        },
    };
    let subnet = Subnet {
        cidr: "192.168.0.0/19".parse().unwrap(),
        route_table: "rtb-none".to_owned(),
        network_acl: "acl-none".to_owned(),
    };
    VpcSpec {
        id: "vpc-1".to_owned(),
        netns: format!("{prefix}-router"),
        cidrs: vec!["192.168.0.0/16".parse().unwrap()],
        ipv6_cidrs: vec!["2001:db8:0:100::/56".parse().unwrap()],
        subnets: BTreeMap::from([("a".to_owned(), subnet)]),
        enis: vec![eni],
        ..VpcSpec::default()
    }
}

/// A pod's namespace behind the node's, as the VPC CNI makes it.
fn pod(node: &Path, pod: &Path) {
    linux_netns::enter(node, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap())
        .unwrap();
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let (outer, inner) = (Netlink::at(node).unwrap(), Netlink::at(pod).unwrap());
    let namespace = linux_netns::open(pod).unwrap();
    let peer =
        VethEnd { netns: Some(std::os::fd::AsFd::as_fd(&namespace)), ..VethEnd::named("eth0") };
    outer.create_veth(&Veth { end: VethEnd::named("pod"), peer }).unwrap();
    let up = LinkChange { is_up: Some(true), ..LinkChange::default() };
    for (netlink, name, address, route) in [
        (&outer, "pod", gateway, Route::to_host(POD.into())),
        (&inner, "eth0", POD, Route::to_host(gateway.into())),
    ] {
        let link = netlink.link_by_name(name).unwrap().unwrap();
        netlink.change_link(link.index, &up).unwrap();
        netlink.add_address(link.index, ipnet::Ipv4Net::from(address).into()).unwrap();
        netlink.add_route(&route.scope(RouteScope::Link).device(link.index)).unwrap();
    }
    let link = inner.link_by_name("eth0").unwrap().unwrap();
    inner.add_route(&Route::default_via(gateway.into()).device(link.index)).unwrap();
}

/// The pod's IPv6, as the VPC CNI has it.
fn ipv6_pod(node: &Path, pod: &Path) {
    let (outer, inner) = (Netlink::at(node).unwrap(), Netlink::at(pod).unwrap());
    linux_netns::enter(node, || {
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    })
    .unwrap();
    let gateway: Ipv6Addr = "fe80::1".parse().unwrap();
    let near = outer.link_by_name("pod").unwrap().unwrap();
    let far = inner.link_by_name("eth0").unwrap().unwrap();
    outer.add_address(near.index, ipnet::Ipv6Net::new(gateway, 64).unwrap().into()).unwrap();
    outer.add_route(&Route::to_host(POD_V6.into()).device(near.index)).unwrap();
    outer.add_neighbour(near.index, POD_V6.into(), far.mac.unwrap()).unwrap();
    inner.add_address(far.index, ipnet::Ipv6Net::from(POD_V6).into()).unwrap();
    inner.add_neighbour(far.index, gateway.into(), near.mac.unwrap()).unwrap();
    inner.add_route(&Route::default_via(gateway.into()).device(far.index).onlink()).unwrap();
}

/// One request; `None` when no answer comes back.
async fn ask(from: &Path, to: impl Into<IpAddr>, request: String) -> Option<String> {
    let (from, to) = (from.to_owned(), SocketAddr::new(to.into(), 80));
    let asked = tokio::task::spawn_blocking(move || {
        linux_netns::enter(&from, move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(4)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok().map(|_| answer)
        })
        .unwrap()
    });
    asked.await.unwrap()
}

async fn token(from: &Path, to: impl Into<IpAddr>) -> Option<String> {
    let request = "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
    let answer = ask(from, to, request.to_owned()).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Some(answer.lines().last()?.to_owned())
}

#[tokio::test]
async fn a_pod_gets_a_token_only_within_the_hop_limit() {
    let is_root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")));
    if !is_root {
        return;
    }
    let prefix = format!("nst-t-{}-imds", std::process::id());
    let names = ["node", "pod"].map(|it| format!("{prefix}-{it}"));
    for name in &names {
        linux_netns::create(name).unwrap();
    }
    let [node, pod_path] = names.each_ref().map(|it| linux_netns::path(it));
    let spec = vpc(&prefix);
    let router = Router::new(&spec.netns);
    router.apply(&spec).await.unwrap();
    pod(&node, &pod_path);

    ipv6_pod(&node, &pod_path);

    let addresses: [IpAddr; 2] = [IMDS.into(), IMDS_V6.into()];
    let cases = addresses
        .iter()
        .flat_map(|at| [(*at, 1, true, false), (*at, 2, true, true), (*at, 1, false, false)]);
    for (at, hop_limit, tokens_required, reaches_pod) in cases {
        let scope = Scope::new();
        let metadata = One(instance(hop_limit, tokens_required));
        let imds = Imds::new("vpc-1", Arc::new(metadata), Clock::system());
        let listener = Place::named(&spec.netns).listen(SocketAddr::new(at, 80)).unwrap();
        drop(scope.spawn("imds", imds.accept(listener, scope.clone())));
        let token_of_node = token(&node, at).await.expect("the instance is one hop away");
        assert_eq!(
            token(&pod_path, at).await.is_some(),
            reaches_pod,
            "{at}, hop limit {hop_limit}"
        );
        // The limit is on the token alone: who has one may read from anywhere.
        let get = format!(
            "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             X-aws-ec2-metadata-token: {token_of_node}\r\n\r\n"
        );
        let answer = ask(&pod_path, at, get).await.expect("an answer");
        assert!(answer.ends_with("i-1"), "{answer}");
        // Version 1 has no token whose answer could be kept back.
        let get =
            "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = ask(&pod_path, at, get.to_owned()).await.expect("an answer");
        assert_eq!(answer.ends_with("i-1"), !tokens_required, "{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 401"), tokens_required, "{answer}");
        assert!(scope.drain(Duration::from_secs(1)).await);
    }
    router.remove().await.unwrap();
    for name in &names {
        linux_netns::delete(name).unwrap();
    }
}
