//! A load balancer in a VPC, on real packets: security groups decide who reaches it and what it
//! reaches. Without root nothing runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use lifecycle::Scope;
use linux_netlink::{Mac, Netlink};
use region_elasticloadbalancing::{
    Balancers,
    balancer::{Admission, BalancerSpec, Front, Health, HostSpec, Member, NodeSpec},
    records::{HealthCheck, Protocol},
};
use region_vpc::{
    Eni, Location, NetworkAcl, Peer, Router, Rule, SecurityGroup, Setup, Subnet, Traffic, VpcSpec,
};
use tokio::io::AsyncWriteExt;
use transport::Place;

const NODE_PORT: u16 = 30080;
const INSTANCE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
const BALANCER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 12);
/// Where nobody else listens on the loopback.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 201, 0, 1);
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    router: Router,
    spec: VpcSpec,
    guests: [String; 3],
    balancers: Balancers,
    wanted: BalancerSpec,
    scope: Scope,
}

impl World {
    async fn build() -> Self {
        let prefix = format!("nst-t-{}-elb", std::process::id());
        let guests = ["instance", "elb", "client"].map(|it| format!("{prefix}-{it}"));
        for guest in &guests {
            linux_netns::create(guest).unwrap();
        }
        let group = |id: &str, ingress: Vec<Rule>| {
            let mut group = SecurityGroup::new(id);
            group.ingress = ingress;
            group.egress.push(Rule::everything_to_anywhere());
            (id.to_owned(), group)
        };
        let client =
            Rule::new(Traffic::tcp(80, 80), Peer::Cidr("192.168.0.12/32".parse().unwrap()));
        let from_balancer = Rule::new(Traffic::All, Peer::Group("sg-elb".to_owned()));
        let subnet = Subnet {
            cidr: "192.168.0.0/19".parse().unwrap(),
            route_table: "rtb-none".to_owned(),
            network_acl: "acl".to_owned(),
        };
        let spec = VpcSpec {
            id: "vpc-1".to_owned(),
            netns: format!("{prefix}-router"),
            cidrs: vec!["192.168.0.0/16".parse().unwrap()],
            subnets: BTreeMap::from([("a".to_owned(), subnet)]),
            network_acls: BTreeMap::from([("acl".to_owned(), NetworkAcl::open())]),
            enis: vec![
                eni(1, INSTANCE, "sg-node", &guests[0]),
                eni(2, BALANCER, "sg-elb", &guests[1]),
                eni(3, CLIENT, "sg-client", &guests[2]),
            ],
            security_groups: BTreeMap::from([
                group("sg-node", vec![from_balancer]),
                group("sg-elb", vec![client]),
                group("sg-client", Vec::new()),
            ]),
            ..VpcSpec::default()
        };
        let router = Router::new(&spec.netns);
        router.apply(&spec).await.unwrap();
        let scope = Scope::new();
        let listener = Place::named(&guests[0]).listen((INSTANCE, NODE_PORT).into()).unwrap();
        drop(scope.spawn("instance", async move {
            // Says who it sees.
            while let Ok((mut stream, peer)) = listener.accept().await {
                drop(stream.write_all(peer.ip().to_string().as_bytes()).await);
            }
        }));
        let node =
            NodeSpec { address: BALANCER, zone: "a".to_owned(), place: Place::named(&guests[1]) };
        let member = Member { address: INSTANCE, zone: "a".to_owned() };
        let front =
            Front { protocol: Protocol::Tcp, instance_port: NODE_PORT, proxy_protocol: false };
        let wanted = BalancerSpec {
            listeners: BTreeMap::from([(80, front)]),
            health_check: HealthCheck {
                interval: 1,
                timeout: 1,
                healthy_threshold: 2,
                unhealthy_threshold: 2,
                ..HealthCheck::of_port(NODE_PORT)
            },
            instances: BTreeMap::from([("i-1".to_owned(), member)]),
            nodes: BTreeMap::from([("eni-2".to_owned(), node)]),
            host: Some(HostSpec {
                address: HOST,
                admits: vec![Admission { ports: 80..=80, source: "0.0.0.0/0".parse().unwrap() }],
            }),
            ..BalancerSpec::default()
        };
        let balancers = Balancers::new(Some(Duration::from_millis(50)), scope.child());
        let world = Self { router, spec, guests, balancers, wanted, scope };
        world.balance();
        world
    }

    fn balance(&self) {
        self.balancers.apply(&BTreeMap::from([("web".to_owned(), self.wanted.clone())]));
    }

    async fn is(&self, wanted: Health) {
        let waiting = async {
            while self.balancers.health("web").get("i-1") != Some(&wanted) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{wanted:?}, not {:?}", self.balancers.health("web"));
    }

    /// What the load balancer answers; `None` when it cannot be reached.
    async fn ask(&self, from: Place, to: Ipv4Addr) -> Option<String> {
        let asked = tokio::task::spawn_blocking(move || {
            from.enter(move || {
                let to = SocketAddr::from((to, 80));
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(500))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let mut said = String::new();
                stream.read_to_string(&mut said)?;
                Ok(said)
            })
        });
        asked.await.unwrap().ok()
    }

    async fn as_client(&self) -> Option<String> {
        self.ask(Place::named(&self.guests[2]), BALANCER).await
    }
}

fn eni(number: u8, address: Ipv4Addr, group: &str, netns: &str) -> Eni {
    Eni {
        id: format!("eni-0000000000000000{number}"),
        mac: Mac([2, 0, 0, 0, 1, number]),
        subnet: "a".to_owned(),
        primary: address,
        secondary: Default::default(),
        prefixes: Default::default(),
        ipv6_addresses: Default::default(),
        ipv6_prefixes: Default::default(),
        security_groups: [group.to_owned()].into(),
        source_dest_check: true,
        is_asleep: false,
        public_ip: None,
        tracking: Default::default(),
        location: Location::Netns {
            path: linux_netns::path(netns),
            device: "eth0".to_owned(),
            setup: Setup::Primary,
        },
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.scope.cancel();
        let netlink = Netlink::at(&linux_netns::path(&self.spec.netns));
        for link in netlink.iter().flat_map(|it| it.links().unwrap_or_default()) {
            if link.name.starts_with("eni") {
                netlink.as_ref().map(|it| it.delete_link(link.index).ok()).ok();
            }
        }
        for name in self.guests.iter().chain([&self.spec.netns]) {
            linux_netns::delete(name).ok();
        }
    }
}

#[tokio::test]
async fn security_groups_decide_who_reaches_a_load_balancer_and_what_it_reaches() {
    let is_root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|it| it.lines().any(|line| line.starts_with("Uid:\t0\t")));
    if !is_root {
        return;
    }
    let mut world = World::build().await;
    world.is(Health::InService).await;
    // The instance sees the load balancer, not the client.
    assert_eq!(world.as_client().await, Some(BALANCER.to_string()));
    assert_eq!(world.ask(Place::Here, HOST).await, Some(BALANCER.to_string()));
    assert_eq!(world.balancers.addresses("web"), [BALANCER]);

    // A group that does not let this machine's users in keeps them out.
    world.wanted.host.as_mut().unwrap().admits[0].source = "10.0.0.0/8".parse().unwrap();
    world.balance();
    assert_ne!(world.ask(Place::Here, HOST).await, Some(BALANCER.to_string()));

    // One that does not let clients in drops them in the router.
    let groups = &mut world.spec.security_groups;
    let rule = groups.get_mut("sg-elb").unwrap().ingress.pop().unwrap();
    world.router.apply(&world.spec).await.unwrap();
    assert_eq!(world.as_client().await, None);
    world.spec.security_groups.get_mut("sg-elb").unwrap().ingress.push(rule);

    // Nodes that do not let the load balancer in are out of service.
    world.spec.security_groups.get_mut("sg-node").unwrap().ingress.clear();
    world.router.apply(&world.spec).await.unwrap();
    world.is(Health::Failing).await;
    assert_eq!(world.as_client().await, Some(String::new()));
}
