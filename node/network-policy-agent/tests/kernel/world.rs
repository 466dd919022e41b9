//! A node, its pods in namespaces of their own, and the way from NetworkPolicies to its kernel.

use std::{
    collections::BTreeMap,
    fs::File,
    net::IpAddr,
    process::{Command, Stdio},
    sync::Arc,
};

use api_kube::policy_endpoint::{PolicyEndpoint, PolicyEndpointSpec};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use linux_nftables::{Family, Nft, Table};
use network_policy::{Direction, PodRules, Protocol, TABLE, resolve};
use network_policy_agent::{
    ruleset::{self, Log, Mode, Options},
    state::State,
};
use serde_json::{Value, json};

/// The node's address, as pods have it.
pub(crate) const HOST: &str = "192.168.0.5";
/// Of its secondary interface.
pub(crate) const SECONDARY: &str = "192.168.0.27";
/// What the Pod Identity agent serves at, on each node.
pub(crate) const POD_IDENTITY: &str = "169.254.170.23";

/// A pod: its namespace, its name, and N of its address 10.N.0.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    ns: &'static str,
    name: &'static str,
    number: u8,
}

pub(crate) const A: At = At { ns: "x", name: "a", number: 1 };
pub(crate) const B: At = At { ns: "x", name: "b", number: 2 };
pub(crate) const C: At = At { ns: "y", name: "c", number: 3 };
pub(crate) const PODS: [At; 3] = [A, B, C];

impl At {
    pub(crate) fn address(self) -> IpAddr {
        [10, self.number, 0, 2].into()
    }

    fn object(self) -> Arc<Pod> {
        let object = json!({
            "metadata": {"namespace": self.ns, "name": self.name, "labels": {"pod": self.name}},
            "spec": {"containers": [{"name": "main", "ports":
                [{"name": "web", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIP": self.address(), "hostIP": HOST},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }
}

struct Api;

impl network_policy::World for Api {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        PODS.into_iter().filter(|it| it.ns == namespace).map(At::object).collect()
    }

    fn namespaces(&self) -> Vec<Arc<Namespace>> {
        let object = |ns: &str| json!({"metadata": {"name": ns, "labels": {"ns": ns}}});
        ["x", "y"].map(|ns| Arc::new(serde_json::from_value(object(ns)).unwrap())).into()
    }
}

/// What the evaluator says of the values that the kernel got.
pub(crate) struct Rules(Vec<PolicyEndpointSpec>);

impl Rules {
    pub(crate) fn allows(&self, from: At, to: At, protocol: Protocol, port: u16) -> bool {
        let of = |pod: At| PodRules::of(pod.address(), &self.0);
        of(from).allows(Direction::Egress, to.address(), protocol, port)
            && of(to).allows(Direction::Ingress, from.address(), protocol, port)
    }
}

pub(crate) struct Netns(String);

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
    }
}

impl Netns {
    pub(crate) fn new(name: String) -> Option<Self> {
        let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
        if !made.is_ok_and(|it| it.success()) {
            eprintln!("not run: cannot make network namespaces here");
            return None;
        }
        Some(Self(name))
    }

    pub(crate) fn file(&self) -> File {
        File::open(format!("/run/netns/{}", self.0)).unwrap()
    }

    pub(crate) fn ip(&self, arguments: &str) {
        let status =
            Command::new("ip").args(["-n", &self.0]).args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    pub(crate) fn nft(&self) -> Nft {
        Nft::at(format!("/run/netns/{}", self.0))
    }
}

pub(crate) struct World {
    node: Netns,
    pods: Vec<Netns>,
    /// What its rules log.
    pub(crate) log: Log,
    /// What was applied last.
    table: std::cell::RefCell<Option<Table>>,
}

impl World {
    pub(crate) fn new(tail: &str) -> Option<Self> {
        let name = |end: &str| format!("nst-t-np-{}-{tail}{end}", std::process::id());
        let node = Netns::new(name("n"))?;
        node.ip("link set lo up");
        for address in [HOST, SECONDARY, POD_IDENTITY] {
            node.ip(&format!("addr add {address}/32 dev lo"));
        }
        let mut pods = Vec::new();
        for pod in PODS {
            let netns = Netns::new(name(pod.name))?;
            let link = api_cni::host_link_name("eni", pod.ns, pod.name);
            let n = pod.number;
            node.ip(&format!("link add {link} type veth peer name eth0 netns {}", netns.0));
            node.ip(&format!("addr add 10.{n}.0.1/24 dev {link}"));
            node.ip(&format!("link set {link} up"));
            netns.ip("link set lo up");
            netns.ip(&format!("addr add 10.{n}.0.2/24 dev eth0"));
            netns.ip("link set eth0 up");
            netns.ip(&format!("route add default via 10.{n}.0.1"));
            pods.push(netns);
        }
        let world = Self { node, pods, log: Log::Nothing, table: None.into() };
        crate::packets::inside(&world.node(), || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            for name in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
                std::fs::write(path, "0").unwrap();
            }
        });
        Some(world)
    }

    pub(crate) fn pod(&self, at: At) -> File {
        self.pods[usize::from(at.number) - 1].file()
    }

    pub(crate) fn node(&self) -> File {
        self.node.file()
    }

    /// From policies through PolicyEndpoints and the agent's state into the kernel.
    pub(crate) fn enforce(&self, policies: &[(&str, Value)], mode: Mode) -> Rules {
        let mut state = State::new(HOST);
        let mut specs = Vec::new();
        for (number, (ns, spec)) in policies.iter().enumerate() {
            let name = format!("p{number}");
            let policy: NetworkPolicy = serde_json::from_value(
                json!({"metadata": {"namespace": ns, "name": name}, "spec": spec}),
            )
            .unwrap();
            for (part, spec) in resolve(&policy, &Api, 2).into_iter().enumerate() {
                specs.push(spec.clone());
                let mut endpoint = PolicyEndpoint::new(Default::default(), spec);
                endpoint.metadata.namespace = Some((*ns).to_owned());
                endpoint.metadata.name = Some(format!("{name}-{part}"));
                state.set(endpoint);
            }
        }
        let options = Options {
            mode,
            prefix: "eni".into(),
            has_strict_branches: false,
            log: self.log,
            node: HOST.parse().ok(),
        };
        let table = ruleset::compile(state.endpoints(), &options).table;
        let old = self.table.replace(Some(table.clone()));
        if let Some(old) = &old {
            // The difference alone, where `update` would fall back on the whole.
            self.node.nft().apply(&table.changes_from(old)).unwrap();
        } else {
            self.node.nft().update(None, &table).unwrap();
        }
        Rules(specs)
    }

    /// Moves a pod to another address, as one that is made again under its name gets.
    pub(crate) fn readdress(&self, at: At, address: &str) {
        let n = at.number;
        let pod = &self.pods[usize::from(n) - 1];
        pod.ip(&format!("addr add {address}/32 dev eth0"));
        pod.ip(&format!("route replace default via 10.{n}.0.1 src {address}"));
        let link = api_cni::host_link_name("eni", at.ns, at.name);
        self.node.ip(&format!("route add {address}/32 dev {link}"));
    }

    /// Gives both ends of a pod's link an address of the link: fe80::1 is the node. Gives the number of
    /// the pod's end.
    pub(crate) fn link_local(&self, at: At) -> u32 {
        let link = api_cni::host_link_name("eni", at.ns, at.name);
        let pod = &self.pods[usize::from(at.number) - 1];
        self.node.ip(&format!("addr replace fe80::1/64 dev {link} nodad"));
        pod.ip("addr replace fe80::2/64 dev eth0 nodad");
        crate::packets::inside(&pod.file(), || nix::net::if_::if_nametoindex("eth0").unwrap())
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, linux_nftables::Count> {
        self.node.nft().counts(Family::Inet, TABLE).unwrap()
    }

    pub(crate) fn listing(&self) -> String {
        self.node.nft().list_table(Family::Inet, TABLE).unwrap().unwrap_or_default()
    }

    /// What kube-proxy does: a Service's address becomes an endpoint's, and a pod's own is
    /// masqueraded.
    pub(crate) fn translate(&self, service: &str, ports: &[(u16, At, u16)]) {
        let mut table = Table::new(Family::Ip, "kube-proxy");
        use linux_nftables::{Chain, ChainKind, Hook, HookPoint, priority};
        let hooks = [
            ("incoming", HookPoint::Prerouting, priority::DSTNAT),
            ("outgoing", HookPoint::Postrouting, priority::SRCNAT),
        ];
        let mut chains: BTreeMap<&str, Chain> = hooks
            .map(|(name, point, at)| (name, Chain::hooked(Hook::new(ChainKind::Nat, point, at))))
            .into();
        for (port, pod, target) in ports {
            let ip = pod.address();
            chains
                .get_mut("incoming")
                .unwrap()
                .rule(format!("ip daddr {service} tcp dport {port} dnat to {ip}:{target}"));
            chains
                .get_mut("outgoing")
                .unwrap()
                .rule(format!("ip saddr {ip} ip daddr {ip} masquerade"));
        }
        table.chains = chains.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
        self.node.nft().replace(&table).unwrap();
    }
}
