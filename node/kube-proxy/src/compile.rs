//! One port of a Service as a fragment of the ruleset.
//!
//! The plain case costs elements only: in `service-ips` the address leads to the chain for its
//! number of endpoints (`lb-tcp-3`), which looks the endpoint up in `endpoints-tcp` by address, port
//! and a random number. Chains of that kind are shared by all Services.
//!
//! What needs more than a number has chains of its own, named after a digest of the port's name:
//! `svc-` picks among the cluster's endpoints, `local-` among the node's, `ext-` decides between
//! them, `ep-` is an endpoint that clients stick to, `fw-` knows who may come in.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use linux_nftables::{Family, Set, quote};
use sha1::{Digest, Sha1};

use crate::{
    endpoint_slices::Choice,
    service_map::{Protocol, ServicePort},
};

/// What of the configuration shapes the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub family: Family,
    pub masquerade_mark: u32,
    pub masquerade_all: bool,
    /// Which packets come from this node's pods.
    pub local: LocalDetector,
    pub node_ports: NodePorts,
    /// The node's own address, where it is known.
    pub node_ip: Option<IpAddr>,
    /// Where cluster addresses of this family come from, as far as is known.
    pub service_cidrs: Vec<IpNet>,
}

/// How a packet of a pod is told from others (`detectLocalMode`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalDetector {
    /// Nobody is known to be a pod.
    #[default]
    Nobody,
    /// By the source address.
    Cidr(IpNet),
    /// By the interface it comes through.
    Bridge(String),
    /// By the beginning of the interface's name.
    Prefix(String),
}

/// Which addresses of the node have node ports; never loopback ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePorts {
    #[default]
    All,
    /// [`Options::node_ip`]; none while it is not known.
    Primary,
    Cidrs(Vec<IpNet>),
}

impl LocalDetector {
    /// A match of what comes from a pod, or with `!= ` of what does not.
    pub fn matching(&self, ip: &str, not: &str) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Cidr(cidr) => Some(format!("{ip} saddr {not}{cidr}")),
            Self::Bridge(name) => Some(format!("iifname {not}{}", quote(name))),
            Self::Prefix(prefix) => Some(format!("iifname {not}{}", quote(&format!("{prefix}*")))),
        }
    }
}

impl Options {
    /// `ip` or `ip6`.
    pub fn ip(&self) -> &'static str {
        self.family.as_str()
    }

    pub fn is_ipv4(&self) -> bool {
        self.family == Family::Ip
    }

    fn has(&self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == self.is_ipv4()
    }
}

/// What one port of a Service adds to the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Chains of its own, with their rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Sets of its own: who sticks to which endpoint.
    pub sets: BTreeMap<String, Set>,
    /// (map, key) → value; no other fragment has the same key.
    pub elements: BTreeMap<(&'static str, String), String>,
    /// (set, key) that other fragments may have as well.
    pub members: BTreeSet<(&'static str, String)>,
    /// Shared chains that it leads to.
    pub shared: BTreeSet<Shared>,
}

/// A chain that picks one of so many endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shared {
    pub count: usize,
    pub by: By,
    pub protocol: Protocol,
    pub is_masqueraded: bool,
}

/// What the endpoints are looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    Address,
    NodePort,
}

/// Where the endpoints of a protocol are: one map each, because nft (1.0.6) cannot use a map with
/// `th dport` in a rule that is added later.
pub fn endpoints_map(by: By, protocol: Protocol) -> &'static str {
    match (by, protocol) {
        (By::Address, Protocol::Tcp) => "endpoints-tcp",
        (By::Address, Protocol::Udp) => "endpoints-udp",
        (By::Address, Protocol::Sctp) => "endpoints-sctp",
        (By::NodePort, Protocol::Tcp) => "nodeport-endpoints-tcp",
        (By::NodePort, Protocol::Udp) => "nodeport-endpoints-udp",
        (By::NodePort, Protocol::Sctp) => "nodeport-endpoints-sctp",
    }
}

impl Shared {
    pub fn name(&self) -> String {
        let by = match self.by {
            By::Address => "lb",
            By::NodePort => "np",
        };
        let masquerade = if self.is_masqueraded { "m" } else { "" };
        format!("{masquerade}{by}-{}-{}", self.protocol.as_str(), self.count)
    }

    /// Its rules.
    pub fn rules(&self, ip: &str) -> Vec<String> {
        let mut rules = Vec::new();
        if self.is_masqueraded {
            rules.push("jump mark-for-masquerade".to_owned());
        }
        let key = match self.by {
            By::Address => format!("{ip} daddr . "),
            By::NodePort => String::new(),
        };
        let (count, protocol) = (self.count, self.protocol.as_str());
        let map = endpoints_map(self.by, self.protocol);
        rules.push(format!(
            "dnat {ip} to {key}{protocol} dport . numgen random mod {count} map @{map}"
        ));
        rules
    }
}

/// A name for a chain of this port: stable, and of characters that nft takes.
fn digest(text: &str) -> String {
    Sha1::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles one port for one family.
pub fn compile(service: &ServicePort, choice: &Choice, options: &Options) -> Fragment {
    let id =
        digest(&format!("{}:{}:{}", service.service, service.port_name, service.protocol.as_str()));
    let mut compiler = Compiler { service, choice, options, id, fragment: Fragment::default() };
    compiler.cluster_ips();
    compiler.external();
    compiler.hairpins();
    compiler.fragment
}

struct Compiler<'a> {
    service: &'a ServicePort,
    choice: &'a Choice,
    options: &'a Options,
    id: String,
    fragment: Fragment,
}

impl Compiler<'_> {
    fn cluster_ips(&mut self) {
        let targets =
            if self.service.is_internal_local { &self.choice.local } else { &self.choice.cluster };
        for ip in self.service.cluster_ips.iter().filter(|ip| self.options.has(ip)) {
            self.fragment.members.insert(("cluster-ips", ip.to_string()));
            let key = self.key(To::Address(*ip));
            if targets.is_empty() {
                self.nobody("no-endpoint-services", key, self.service.is_internal_local);
            } else if self.service.affinity.is_some() {
                let prefix = if self.service.is_internal_local { "local" } else { "svc" };
                let chain = self.own_chain(prefix, targets);
                self.dispatch("service-ips", key, &chain);
            } else {
                self.spread(To::Address(*ip), targets, false);
            }
        }
    }

    fn external(&mut self) {
        let service = self.service;
        let has_balancers = service.load_balancer_ips.iter().any(|ip| self.options.has(ip));
        let firewalled = if has_balancers { self.firewall() } else { None };
        let balancers: Vec<_> = service.load_balancer_ips.iter().map(|ip| (ip, true)).collect();
        let others = service.external_ips.iter().map(|ip| (ip, false));
        let all = balancers.into_iter().chain(others).filter(|(ip, _)| self.options.has(ip));
        for (ip, is_balancer) in all.collect::<Vec<_>>() {
            let to = To::Address(*ip);
            if let (Some(chain), true) = (&firewalled, is_balancer) {
                self.dispatch("firewall-ips", self.key(to), chain);
            }
            self.expose(to);
        }
        if let Some(port) = service.node_port {
            self.expose(To::NodePort(port));
        }
    }

    /// Makes an external address or a node port lead to endpoints.
    fn expose(&mut self, to: To) {
        let (dispatch, nobody) = match to {
            To::Address(_) => ("service-ips", "no-endpoint-services"),
            To::NodePort(_) => ("service-nodeports", "no-endpoint-nodeports"),
        };
        let key = self.key(to);
        let (cluster, local) = (&self.choice.cluster, &self.choice.local);
        if cluster.is_empty() && local.is_empty() {
            self.nobody(nobody, key, false);
        } else if !self.service.is_external_local && self.service.affinity.is_none() {
            self.spread(to, cluster, true);
        } else {
            let chain = self.external_chain();
            self.dispatch(dispatch, key.clone(), &chain);
            if self.service.is_external_local && local.is_empty() {
                // What the external chain does not send on comes to a filter and is dropped.
                self.nobody(nobody, key, true);
            }
        }
    }

    /// `ext-`: masquerades, or for the local policy sends what begins on this node (or in its pods)
    /// to the whole cluster and the rest to the node's own endpoints.
    fn external_chain(&mut self) -> String {
        let name = format!("ext-{}", self.id);
        if self.fragment.chains.contains_key(&name) {
            return name;
        }
        let ip = self.options.ip();
        let mut rules = Vec::new();
        if self.service.is_external_local {
            if !self.choice.cluster.is_empty() {
                let cluster = self.own_chain("svc", &self.choice.cluster);
                if let Some(is_local) = self.options.local.matching(ip, "") {
                    rules.push(format!("{is_local} goto {cluster}"));
                }
                rules.push("fib saddr type local jump mark-for-masquerade".to_owned());
                rules.push(format!("fib saddr type local goto {cluster}"));
            }
            if !self.choice.local.is_empty() {
                rules.push(format!("goto {}", self.own_chain("local", &self.choice.local)));
            }
        } else {
            let cluster = self.own_chain("svc", &self.choice.cluster);
            rules.push("jump mark-for-masquerade".to_owned());
            rules.push(format!("goto {cluster}"));
        }
        self.fragment.chains.insert(name.clone(), rules);
        name
    }

    /// `svc-` or `local-`: picks one of `targets`, the one that the client had before where it
    /// sticks.
    fn own_chain(&mut self, prefix: &str, targets: &[(IpAddr, u16)]) -> String {
        let name = format!("{prefix}-{}", self.id);
        if self.fragment.chains.contains_key(&name) {
            return name;
        }
        let (ip, protocol) = (self.options.ip(), self.service.protocol.as_str());
        let count = targets.len();
        let rules = match self.service.affinity {
            None => {
                let entries = targets.iter().enumerate();
                let entries: Vec<String> =
                    entries.map(|(n, (ip, port))| format!("{n} : {ip} . {port}")).collect();
                let map = entries.join(", ");
                vec![format!(
                    "meta l4proto {protocol} dnat {ip} to numgen random mod {count} map {{ {map} }}"
                )]
            }
            Some(timeout) => {
                let chains: Vec<String> =
                    targets.iter().map(|target| self.endpoint_chain(target, timeout)).collect();
                let stuck = chains
                    .iter()
                    .map(|chain| format!("{ip} saddr @{} goto {chain}", affinity_set(chain)));
                let entries: Vec<String> =
                    chains.iter().enumerate().map(|(n, it)| format!("{n} : goto {it}")).collect();
                let map = entries.join(", ");
                stuck.chain([format!("numgen random mod {count} vmap {{ {map} }}")]).collect()
            }
        };
        self.fragment.chains.insert(name.clone(), rules);
        name
    }

    /// `ep-`: remembers the client and sends it on. Of another timeout it is another one: what a set is
    /// made as cannot be changed.
    fn endpoint_chain(&mut self, (address, port): &(IpAddr, u16), timeout: Duration) -> String {
        let seconds = timeout.as_secs();
        let chain = format!("ep-{}", digest(&format!("{}/{address}/{port}/{seconds}", self.id)));
        let (ip, protocol) = (self.options.ip(), self.service.protocol.as_str());
        let to = match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        let set = affinity_set(&chain);
        let rules = vec![
            format!("update @{set} {{ {ip} saddr }}"),
            format!("meta l4proto {protocol} dnat {ip} to {to}"),
        ];
        self.fragment.chains.insert(chain.clone(), rules);
        let kind = if self.options.is_ipv4() { "ipv4_addr" } else { "ipv6_addr" };
        let value = Set::of(kind).flag("dynamic").flag("timeout").timeout(timeout).size(65_535);
        self.fragment.sets.insert(set, value);
        chain
    }

    /// `fw-`: drops who may not use the load balancer. `None`: everybody may.
    fn firewall(&mut self) -> Option<String> {
        let is_ours = |range: &&IpNet| range.addr().is_ipv4() == self.options.is_ipv4();
        let ranges: Vec<IpNet> =
            self.service.source_ranges.iter().filter(is_ours).map(IpNet::trunc).collect();
        if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) {
            return None;
        }
        let ip = self.options.ip();
        let allow = |source: &dyn std::fmt::Display| format!("{ip} saddr {source} return");
        let mut rules: Vec<String> = ranges.iter().map(|range| allow(range)).collect();
        if self.options.node_ip.is_some_and(|node| ranges.iter().any(|it| it.contains(&node))) {
            // What the node itself sends to an address that it has taken up comes from that address.
            let own = self.service.load_balancer_ips.iter().filter(|ip| self.options.has(ip));
            rules.extend(own.map(|ip| allow(ip)));
        }
        rules.push("drop".to_owned());
        let name = format!("fw-{}", self.id);
        self.fragment.chains.insert(name.clone(), rules);
        Some(name)
    }

    /// Elements that spread what comes to an address or node port over `targets`.
    fn spread(&mut self, to: To, targets: &[(IpAddr, u16)], is_masqueraded: bool) {
        let protocol = self.service.protocol;
        let (by, dispatch, key) = match to {
            To::Address(ip) => {
                (By::Address, "service-ips", format!("{ip} . {}", self.service.port))
            }
            To::NodePort(port) => (By::NodePort, "service-nodeports", port.to_string()),
        };
        let shared = Shared { count: targets.len(), by, protocol, is_masqueraded };
        self.dispatch(dispatch, self.key(to), &shared.name());
        self.fragment.shared.insert(shared);
        let map = endpoints_map(by, protocol);
        for (number, (address, port)) in targets.iter().enumerate() {
            let key = (map, format!("{key} . {number}"));
            self.fragment.elements.insert(key, format!("{address} . {port}"));
        }
    }

    fn dispatch(&mut self, map: &'static str, key: String, chain: &str) {
        self.fragment.elements.insert((map, key), format!("goto {chain}"));
    }

    /// Nobody is there: connections are refused, or, where only the node's policy says so, dropped.
    fn nobody(&mut self, map: &'static str, key: String, is_dropped: bool) {
        let has_others = is_dropped && !self.choice.cluster.is_empty();
        let verdict = if has_others { "drop" } else { "goto reject-chain" };
        self.fragment.elements.insert((map, key), verdict.to_owned());
    }

    /// A pod that reaches itself through the Service has to see another source than itself.
    fn hairpins(&mut self) {
        for ip in self.choice.on_node.iter().filter(|ip| self.options.has(ip)) {
            self.fragment.members.insert(("hairpins", format!("{ip} . {ip}")));
        }
    }

    /// The key in maps of verdicts.
    fn key(&self, to: To) -> String {
        let protocol = self.service.protocol.as_str();
        match to {
            To::Address(ip) => format!("{ip} . {protocol} . {}", self.service.port),
            To::NodePort(port) => format!("{protocol} . {port}"),
        }
    }
}

/// What a client connects to.
#[derive(Clone, Copy, Debug)]
enum To {
    Address(IpAddr),
    NodePort(u16),
}

fn affinity_set(endpoint_chain: &str) -> String {
    endpoint_chain.replacen("ep-", "affinity-", 1)
}

#[cfg(test)]
mod tests;
