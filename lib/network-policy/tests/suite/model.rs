//! A cluster that cases change: namespaces x, y, z with pods a, b, c, and what steps add.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use serde_json::{Value, json};

pub(crate) const PORTS: [u16; 2] = [80, 81];
pub(crate) const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
/// Every namespace and pod that any case speaks of.
pub(crate) const NAMESPACES: [&str; 5] = ["x", "y", "z", "y-2", "w"];
pub(crate) const PODS: [&str; 4] = ["a", "b", "c", "d"];
/// Where they all run.
pub(crate) const HOST: &str = "192.168.0.5";

pub(crate) type Labels = BTreeMap<String, String>;
pub(crate) type Step = Vec<Action>;

/// What a step does to the cluster.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Made, or changed.
    Policy {
        ns: &'static str,
        name: &'static str,
        spec: Value,
    },
    DeletePolicy(&'static str, &'static str),
    /// Made, or its labels changed.
    Pod(&'static str, &'static str, Value),
    DeletePod(&'static str, &'static str),
    /// Made, or its labels changed.
    Namespace(&'static str, Value),
    DeleteNamespace(&'static str),
}

/// One case: what happens, and after each step all cells are probed.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
}

/// A pod as it is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) ns: &'static str,
    pub(crate) name: &'static str,
    pub(crate) labels: Labels,
    pub(crate) address: IpAddr,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ns, self.name)
    }
}

/// Which addresses pods have. Cases are written for IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// 10.0.NAMESPACE.16 and on: a /28 holds the pods of a namespace, a /24 the namespace.
    pub(crate) fn address(self, ns: &str, name: &str) -> IpAddr {
        let place = |all: &[&str], it: &str| all.iter().position(|known| *known == it).unwrap();
        let (ns, name) = (place(&NAMESPACES, ns), place(&PODS, name));
        let four =
            Ipv4Addr::new(10, 0, u8::try_from(ns).unwrap(), 16 + u8::try_from(name).unwrap());
        if self == Self::V4 { four.into() } else { in_ipv6(four).into() }
    }

    /// A policy with its blocks in this family.
    fn of(self, spec: &Value) -> Value {
        let mut spec = spec.clone();
        if self == Self::V6 {
            translate(&mut spec);
        }
        spec
    }
}

/// 2001:db8:: with the IPv4 address as its last four bytes.
fn in_ipv6(four: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(four.to_bits()))
}

/// Everybody's block stays everybody's.
fn block_in_ipv6(block: &str) -> String {
    let (base, len) = block.split_once('/').unwrap();
    match len.parse::<u8>().unwrap() {
        0 => "::/0".to_owned(),
        len => format!("{}/{}", in_ipv6(base.parse().unwrap()), 96 + len),
    }
}

fn translate(value: &mut Value) {
    if let Some(block) = value.get_mut("ipBlock") {
        block["cidr"] = block_in_ipv6(block["cidr"].as_str().unwrap()).into();
        for it in block.get_mut("except").and_then(Value::as_array_mut).into_iter().flatten() {
            *it = block_in_ipv6(it.as_str().unwrap()).into();
        }
    }
    match value {
        Value::Array(all) => all.iter_mut().for_each(translate),
        Value::Object(all) => all.values_mut().for_each(translate),
        _ => {}
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    family: Family,
    pub(crate) namespaces: BTreeMap<&'static str, Labels>,
    pods: BTreeMap<(&'static str, &'static str), Labels>,
    pub(crate) policies: BTreeMap<(&'static str, &'static str), Value>,
}

fn labels(value: &Value) -> Labels {
    serde_json::from_value(value.clone()).unwrap()
}

impl Model {
    pub(crate) fn new(family: Family) -> Self {
        let mut model = Self {
            family,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            policies: BTreeMap::new(),
        };
        for ns in &NAMESPACES[..3] {
            model.act(&Action::Namespace(ns, json!({"ns": ns})));
            for pod in &PODS[..3] {
                model.act(&Action::Pod(ns, pod, json!({"pod": pod})));
            }
        }
        model
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        step.iter().for_each(|it| self.act(it));
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Policy { ns, name, spec } => {
                self.policies.insert((ns, name), self.family.of(spec));
            }
            Action::DeletePolicy(ns, name) => {
                self.policies.remove(&(*ns, *name)).unwrap();
            }
            Action::Pod(ns, name, value) => {
                self.pods.insert((ns, name), labels(value));
            }
            Action::DeletePod(ns, name) => {
                self.pods.remove(&(*ns, *name)).unwrap();
            }
            Action::Namespace(ns, value) => {
                let mut labels = labels(value);
                // The API server's own.
                labels.insert("kubernetes.io/metadata.name".to_owned(), (*ns).to_owned());
                self.namespaces.insert(ns, labels);
            }
            Action::DeleteNamespace(ns) => {
                self.namespaces.remove(ns).unwrap();
                self.pods.retain(|(of, _), _| of != ns);
                self.policies.retain(|(of, _), _| of != ns);
            }
        }
    }

    pub(crate) fn pods(&self) -> Vec<At> {
        let at = |((ns, name), labels): (&(&'static str, &'static str), &Labels)| At {
            ns,
            name,
            labels: labels.clone(),
            address: self.family.address(ns, name),
        };
        self.pods.iter().map(at).collect()
    }

    pub(crate) fn policies(&self) -> Vec<NetworkPolicy> {
        let policy = |((ns, name), spec): (&(&str, &str), &Value)| {
            let object = json!({"metadata": {"namespace": ns, "name": name}, "spec": spec});
            serde_json::from_value(object).unwrap()
        };
        self.policies.iter().map(policy).collect()
    }
}

/// The number of a container's named port: all pods serve the same.
pub(crate) fn named_port(name: &str, protocol: &str) -> Option<u16> {
    PORTS.into_iter().find(|port| format!("serve-{port}-{protocol}") == name)
}

fn object(pod: &At) -> Arc<Pod> {
    let ports = PORTS.iter().flat_map(|port| {
        PROTOCOLS.map(|protocol| {
            json!({"name": format!("serve-{port}-{protocol}"), "containerPort": port,
                "protocol": protocol.to_uppercase()})
        })
    });
    let object = json!({
        "metadata": {"namespace": pod.ns, "name": pod.name, "labels": pod.labels},
        "spec": {"containers": [{"name": "main", "ports": ports.collect::<Vec<_>>()}]},
        "status": {"phase": "Running", "podIP": pod.address, "hostIP": HOST},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

impl network_policy::World for Model {
    fn pods_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.pods().iter().filter(|it| it.ns == namespace).map(object).collect()
    }

    fn namespaces(&self) -> Vec<Arc<Namespace>> {
        let object = |(name, labels): (&&str, &Labels)| {
            let object = json!({"metadata": {"name": name, "labels": labels}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        self.namespaces.iter().map(object).collect()
    }
}
