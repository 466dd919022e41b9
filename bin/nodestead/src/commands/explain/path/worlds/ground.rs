//! Namespaces for a router, instances and pods, and the components' own functions that fill them.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    path::PathBuf,
};

use api_cni::host_link_name;
use kube_proxy::{
    compile::{LocalDetector, NodePorts, Options as ProxyOptions},
    endpoint_slices::{Here, reduce},
    proxier::Proxier,
    service_map::{ServiceName, ports_of},
};
use linux_netlink::{Netlink, Route, Scope, TABLE_MAIN, Veth, VethEnd};
use linux_nftables::{Family as NftFamily, Nft, Table};
use network_policy_agent::{
    ruleset::{self, Log, Mode, Options},
    state::State,
};
use region_vpc::Router;
use vpc_cni::{
    datastore::AttachedEni,
    network::{self, NodeNetwork},
};

use super::draw::{Family, NODES, PODS, World, eni_address, eni_mac, namespace_of, subnet_cidr};

/// See the module.
pub(super) struct Ground {
    family: Family,
    router: Router,
    prefix: String,
    router_name: String,
    /// The agents' tables as they are.
    policies: BTreeMap<usize, Table>,
    proxiers: BTreeMap<usize, Proxier>,
    is_laid_out: bool,
}

impl Ground {
    pub(super) async fn new(family: Family) -> Self {
        let kind = if family == Family::V4 { 'x' } else { 'y' };
        let prefix = format!("nst-t-{}-{kind}", std::process::id());
        let router_name = format!("{prefix}r");
        let nodes = (0..NODES).map(|it| format!("{prefix}n{it}"));
        for name in nodes.chain((0..PODS).map(|it| format!("{prefix}p{it}"))) {
            linux_netns::create(&name).unwrap();
            linux_netns::enter(&linux_netns::path(&name), without_detection).unwrap();
        }
        let router = Router::new(&router_name);
        Self {
            family,
            router,
            prefix,
            router_name,
            policies: BTreeMap::new(),
            proxiers: (0..NODES).map(|it| (it, proxier(family, it))).collect(),
            is_laid_out: false,
        }
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    pub(super) fn router(&self) -> &str {
        &self.router_name
    }

    pub(super) fn node(&self, number: usize) -> PathBuf {
        linux_netns::path(&format!("{}n{number}", self.prefix))
    }

    pub(super) fn pod(&self, number: usize) -> PathBuf {
        linux_netns::path(&format!("{}p{number}", self.prefix))
    }

    /// Everybody's namespace; the last one is the router's, where AWS's endpoints are.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        let nodes = (0..NODES).map(|it| self.node(it));
        let pods = (0..PODS).map(|it| self.pod(it));
        nodes.chain(pods).chain([linux_netns::path(&self.router_name)]).collect()
    }

    /// Makes it so, whatever was before.
    pub(super) async fn apply(&mut self, world: &World) {
        self.router.apply(&world.spec).await.unwrap();
        if !self.is_laid_out {
            (0..NODES).for_each(|it| self.lay_out_node(it));
            (0..PODS).for_each(|it| self.lay_out_pod(it));
            forget_soon(&linux_netns::path(&self.router_name));
            self.is_laid_out = true;
        }
        for node in 0..NODES {
            let (config, netlink) = (node_network(self.family, node, world), self.netlink(node));
            network::ensure_rules(&netlink, &config).unwrap();
            Nft::at(self.node(node)).replace(&network::table(&config)).unwrap();
            self.police(node, world);
            self.proxy(node, world);
        }
    }

    /// As kube-proxy does: on a thread that is in its network namespace.
    fn proxy(&mut self, node: usize, world: &World) {
        let mut proxier = self.proxiers.remove(&node).unwrap();
        for service in &world.cluster.services {
            let name = ServiceName {
                namespace: service.metadata.namespace.clone().unwrap(),
                name: service.metadata.name.clone().unwrap(),
            };
            proxier.set_service(&name, ports_of(service));
        }
        for (name, slice) in world.cluster.slices.iter().filter_map(reduce) {
            proxier.set_slice(&name, "a", Some(slice));
        }
        let synced = linux_netns::enter(&self.node(node), move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().unwrap();
            let pass = proxier.plan();
            runtime.block_on(pass.apply(proxier.nft())).unwrap();
            proxier
        });
        self.proxiers.insert(node, synced.unwrap());
    }

    fn netlink(&self, node: usize) -> Netlink {
        Netlink::at(&self.node(node)).unwrap()
    }

    /// As ipamd does at start, and when an interface was attached.
    fn lay_out_node(&self, node: usize) {
        linux_netns::enter(&self.node(node), || {
            for (key, value) in
                [("all/rp_filter", "0"), ("eth0/rp_filter", "2"), ("eth1/rp_filter", "0")]
            {
                std::fs::write(format!("/proc/sys/net/ipv4/conf/{key}"), value).unwrap();
            }
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            drop(std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1"));
        })
        .unwrap();
        forget_soon(&self.node(node));
        let eni = NODES + node;
        let second = AttachedEni {
            id: format!("eni-{eni}"),
            mac: eni_mac(eni).to_string(),
            device_number: 1,
            primary_address: eni_address(eni),
            subnet_id: "subnet".to_owned(),
            subnet_cidr: subnet_cidr(eni),
            security_groups: Vec::new(),
            addresses: Default::default(),
            prefixes: Default::default(),
            is_trunk: false,
        };
        network::set_up_eni(&self.netlink(node), &second, 9001).unwrap();
    }

    /// As the plug-in does.
    fn lay_out_pod(&self, pod: usize) {
        let node = self.netlink(pod % NODES);
        let here = Netlink::at(&self.pod(pod)).unwrap();
        let name = host_link_name("eni", namespace_of(pod), &format!("p{pod}"));
        let namespace = File::open(self.pod(pod)).unwrap();
        let peer = VethEnd { netns: Some(namespace.as_fd()), ..VethEnd::named("eth0") };
        node.create_veth(&Veth { end: VethEnd::named(&name), peer }).unwrap();
        let outer = node.link_by_name(&name).unwrap().unwrap();
        let inner = here.link_by_name("eth0").unwrap().unwrap().index;
        node.set_up(outer.index).unwrap();
        here.set_up(inner).unwrap();
        let own = self.family.pod_address(pod);
        let gateway = match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
        };
        node.add_route(&Route::to_host(own).device(outer.index).scope(Scope::Link)).unwrap();
        // An IPv6 node's pods are all of its primary interface's prefix.
        let is_primary = pod < NODES || self.family == Family::V6;
        let table = if is_primary { TABLE_MAIN } else { 2 };
        network::add_pod_rules(&node, &network::pod_rules(own, table)).unwrap();
        here.add_address(inner, own.into()).unwrap();
        here.add_route(&Route::to_host(gateway).device(inner).scope(Scope::Link)).unwrap();
        here.add_route(&Route::default_via(gateway).device(inner)).unwrap();
        here.add_neighbour(inner, gateway, outer.mac.unwrap()).unwrap();
        if self.family == Family::V6 {
            let inner = here.link_by_name("eth0").unwrap().unwrap();
            node.add_neighbour(outer.index, own, inner.mac.unwrap()).unwrap();
        }
    }

    /// As the network policy agent does.
    fn police(&mut self, node: usize, world: &World) {
        let mut state = State::new(self.family.node_address(node).to_string());
        for endpoint in world.cluster.policies.iter().flatten() {
            state.set(endpoint.clone());
        }
        let options = Options {
            mode: if world.cluster.is_strict { Mode::Strict } else { Mode::Standard },
            prefix: "eni".to_owned(),
            has_strict_branches: false,
            log: Log::Nothing,
            node: Some(self.family.node_address(node)),
        };
        let table = ruleset::compile(state.endpoints(), &options).table;
        Nft::at(self.node(node)).update(self.policies.get(&node), &table).unwrap();
        self.policies.insert(node, table);
    }
}

/// Addresses are there at once: nobody else has them.
fn without_detection() {
    for name in ["all", "default"] {
        drop(std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0"));
    }
}

fn proxier(family: Family, node: usize) -> Proxier {
    let options = ProxyOptions {
        family: if family == Family::V4 { NftFamily::Ip } else { NftFamily::Ip6 },
        masquerade_mark: 0x4000,
        masquerade_all: false,
        local: LocalDetector::Nobody,
        node_ports: NodePorts::Primary,
        node_ip: Some(family.node_address(node)),
        service_cidrs: Vec::new(),
    };
    Proxier::new(Nft::here(), Here { node: format!("n{node}"), zone: None }, vec![options])
}

fn node_network(family: Family, node: usize, world: &World) -> NodeNetwork {
    NodeNetwork {
        primary_link: "eth0".to_owned(),
        primary_address: eni_address(node),
        vpc_cidrs: world.spec.cidrs.clone(),
        exclude_snat_cidrs: Vec::new(),
        external_service_cidrs: Vec::new(),
        is_external_snat: world.cluster.cni.is_external_snat,
        // The sender's port is the one that ACLs are asked about.
        randomize_snat: "none".to_owned(),
        veth_prefix: "eni".to_owned(),
        is_ipv6: family == Family::V6,
        has_strict_branches: false,
    }
}

/// A thousand worlds' flows would fill the kernel's table of connections, and ports come back.
fn forget_soon(netns: &std::path::Path) {
    linux_netns::enter(netns, || {
        for timeout in [
            "udp_timeout",
            "udp_timeout_stream",
            "tcp_timeout_syn_sent",
            "tcp_timeout_syn_recv",
            "tcp_timeout_close",
        ] {
            let path = format!("/proc/sys/net/netfilter/nf_conntrack_{timeout}");
            std::fs::write(path, "3").unwrap();
        }
    })
    .unwrap();
}

impl Drop for Ground {
    fn drop(&mut self) {
        for path in self.all() {
            // A link goes with the namespace of one end.
            if let Some(name) = path.file_name() {
                linux_netns::delete(&name.to_string_lossy()).ok();
            }
        }
    }
}
