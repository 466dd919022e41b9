//! The API's events, reduced where they arrive: nothing keeps whole objects.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Debug,
    net::IpAddr,
    time::Duration,
};

use futures::StreamExt;
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use lifecycle::Scope;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    config::NodeFacts,
    endpoint_slices::{Slice, reduce, triggered},
    health::TO_BE_DELETED,
    service_map::{ServiceName, ServicePort, ports_of},
};

/// More than a burst of a thousand Services; a full channel makes the watches wait.
const PENDING: usize = 4096;
/// Upstream leaves out what another proxy serves and what has no cluster address.
const SELECTOR: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    Service(ServiceName, Vec<ServicePort>),
    Slice {
        service: ServiceName,
        name: String,
        slice: Option<Slice>,
        /// When the control plane saw what made it write this.
        triggered: Option<Timestamp>,
    },
    /// A list is complete: what is not in it is gone.
    Services(BTreeSet<ServiceName>),
    Slices(BTreeSet<(ServiceName, String)>),
    /// What Services have their addresses of: all of it.
    ServiceCidrs(BTreeSet<IpNet>),
    Node {
        zone: Option<String>,
        /// `None`: there is no such Node (any more).
        facts: Option<NodeFacts>,
        /// Whether load balancers may send to it.
        is_eligible: bool,
    },
}

/// Starts the watches.
pub fn start(client: Client, node: String, scope: &Scope) -> mpsc::Receiver<Update> {
    let (sender, receiver) = mpsc::channel(PENDING);
    let services = Api::<Service>::all(client.clone());
    let slices = Api::<EndpointSlice>::all(client.clone());
    drop(scope.spawn("watch-services", watch_services(services, sender.clone())));
    drop(scope.spawn("watch-slices", watch_slices(slices, sender.clone())));
    let ranges = watch_ranges(Api::all(client.clone()), sender.clone());
    drop(scope.spawn("watch-service-cidrs", ranges));
    drop(scope.spawn("watch-node", watch_node(Api::all(client), node, sender)));
    receiver
}

async fn watch_services(api: Api<Service>, sender: mpsc::Sender<Update>) {
    let name_of = |service: &Service| ServiceName {
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
    };
    let mut present = BTreeSet::new();
    let reduce = move |event| match event {
        watcher::Event::Init => {
            present.clear();
            Vec::new()
        }
        watcher::Event::InitApply(service) => {
            present.insert(name_of(&service));
            vec![Update::Service(name_of(&service), ports_of(&service))]
        }
        watcher::Event::Apply(service) => {
            vec![Update::Service(name_of(&service), ports_of(&service))]
        }
        watcher::Event::Delete(service) => vec![Update::Service(name_of(&service), Vec::new())],
        watcher::Event::InitDone => vec![Update::Services(std::mem::take(&mut present))],
    };
    follow(api, reduce, sender).await;
}

async fn watch_slices(api: Api<EndpointSlice>, sender: mpsc::Sender<Update>) {
    let apply = |slice: &EndpointSlice| {
        let (service, reduced) = reduce(slice)?;
        let (name, triggered) = (slice.name_any(), triggered(slice));
        Some(Update::Slice { service, name, slice: Some(reduced), triggered })
    };
    let mut present = BTreeSet::new();
    let mut owners = Owners::default();
    let reduce = move |event| match event {
        watcher::Event::Init => {
            present.clear();
            Vec::new()
        }
        watcher::Event::InitApply(slice) => {
            let update = apply(&slice);
            if let Some(Update::Slice { service, name, .. }) = &update {
                present.insert((service.clone(), name.clone()));
            }
            owners.take(&slice, update.as_ref()).into_iter().chain(update).collect()
        }
        watcher::Event::Apply(slice) => {
            let update = apply(&slice);
            owners.take(&slice, update.as_ref()).into_iter().chain(update).collect()
        }
        watcher::Event::Delete(slice) => owners.take(&slice, None).into_iter().collect(),
        watcher::Event::InitDone => {
            owners.retain(&present);
            vec![Update::Slices(std::mem::take(&mut present))]
        }
    };
    follow(api, reduce, sender).await;
}

/// Whose each slice is: its label can be changed, and then it is no longer the first one's.
#[derive(Default)]
struct Owners(HashMap<(String, String), String>);

impl Owners {
    /// The end of a slice with its former Service, if `update` makes it another's or nobody's.
    fn take(&mut self, slice: &EndpointSlice, update: Option<&Update>) -> Option<Update> {
        let key = (slice.namespace().unwrap_or_default(), slice.name_any());
        let owner = match update {
            Some(Update::Slice { service, .. }) => Some(service.name.clone()),
            _ => None,
        };
        let former = match owner.clone() {
            Some(owner) => self.0.insert(key.clone(), owner),
            None => self.0.remove(&key),
        };
        let former = former.filter(|it| Some(it) != owner.as_ref())?;
        let (namespace, name) = key;
        let service = ServiceName { namespace, name: former };
        Some(Update::Slice { service, name, slice: None, triggered: None })
    }

    fn retain(&mut self, present: &BTreeSet<(ServiceName, String)>) {
        let names: HashSet<(&str, &str)> =
            present.iter().map(|(it, name)| (it.namespace.as_str(), name.as_str())).collect();
        self.0.retain(|(namespace, name), _| names.contains(&(namespace.as_str(), name.as_str())));
    }
}

async fn watch_ranges(api: Api<ServiceCIDR>, sender: mpsc::Sender<Update>) {
    let mut ranges = Ranges::default();
    follow(
        api,
        move |event| ranges.take(event).map(Update::ServiceCidrs).into_iter().collect(),
        sender,
    )
    .await;
}

/// The networks of each ServiceCIDR by its name; those of a list that is not complete yet are apart.
#[derive(Default)]
struct Ranges {
    known: BTreeMap<String, Vec<IpNet>>,
    listed: BTreeMap<String, Vec<IpNet>>,
}

impl Ranges {
    /// All of them, once they are known whole.
    fn take(&mut self, event: watcher::Event<ServiceCIDR>) -> Option<BTreeSet<IpNet>> {
        let cidrs = |it: &ServiceCIDR| {
            let cidrs = it.spec.as_ref().and_then(|it| it.cidrs.as_deref()).unwrap_or_default();
            cidrs.iter().filter_map(|it| it.parse().ok()).collect()
        };
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                return None;
            }
            watcher::Event::InitApply(it) => {
                self.listed.insert(it.name_any(), cidrs(&it));
                return None;
            }
            watcher::Event::InitDone => self.known = std::mem::take(&mut self.listed),
            watcher::Event::Apply(it) => drop(self.known.insert(it.name_any(), cidrs(&it))),
            watcher::Event::Delete(it) => drop(self.known.remove(&it.name_any())),
        }
        Some(self.known.values().flatten().copied().collect())
    }
}

/// Sends what `reduce` makes of each event, until nobody listens.
async fn follow<K>(
    api: Api<K>,
    mut reduce: impl FnMut(watcher::Event<K>) -> Vec<Update>,
    sender: mpsc::Sender<Update>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let config = watcher::Config::default().labels(SELECTOR);
    let stream = watcher(api, config).default_backoff();
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let updates = match event {
            Ok(event) => reduce(event),
            Err(error) => {
                warn!(error = %telemetry::chain(&error), "watching failed");
                Vec::new()
            }
        };
        for update in updates {
            if sender.send(update).await.is_err() {
                return;
            }
        }
    }
}

async fn watch_node(api: Api<Node>, node: String, sender: mpsc::Sender<Update>) {
    let mut stream = std::pin::pin!(watcher::watch_object(api, &node));
    let mut was_there = false;
    while let Some(state) = stream.next().await {
        let update = match state {
            Ok(node) => {
                was_there |= node.is_some();
                node_update(node.as_ref(), was_there)
            }
            Err(error) => {
                warn!(error = %telemetry::chain(&error), "watching the node failed");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if sender.send(update).await.is_err() {
            return;
        }
    }
}

/// What a Node says; one that is not there yet may come, one that was there has been deleted.
fn node_update(node: Option<&Node>, was_there: bool) -> Update {
    let Some(node) = node else {
        return Update::Node { zone: None, facts: None, is_eligible: !was_there };
    };
    let spec = node.spec.as_ref();
    let taints = spec.and_then(|it| it.taints.as_deref()).unwrap_or_default();
    let is_doomed = node.metadata.deletion_timestamp.is_some()
        || taints.iter().any(|taint| taint.key == TO_BE_DELETED);
    let pod_cidrs = spec.and_then(|it| it.pod_cidrs.as_deref()).unwrap_or_default();
    Update::Node {
        zone: node.labels().get("topology.kubernetes.io/zone").cloned(),
        facts: Some(NodeFacts {
            ips: node_ips(node),
            pod_cidrs: pod_cidrs.iter().filter_map(|it| it.parse().ok()).collect(),
            service_cidrs: Vec::new(),
        }),
        is_eligible: !is_doomed,
    }
}

/// The first address of each family: internal ones go before external ones.
fn node_ips(node: &Node) -> Vec<IpAddr> {
    let status = node.status.as_ref();
    let addresses = status.and_then(|it| it.addresses.as_deref()).unwrap_or_default();
    let of = |kind: &'static str| addresses.iter().filter(move |it| it.type_ == kind);
    let mut found: Vec<IpAddr> = Vec::new();
    for ip in of("InternalIP").chain(of("ExternalIP")).filter_map(|it| it.address.parse().ok()) {
        let ip: IpAddr = ip;
        if !found.iter().any(|it| it.is_ipv4() == ip.is_ipv4()) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(spec: serde_json::Value, deleted: Option<&str>) -> Node {
        let value = json!({
            "metadata": {
                "name": "n",
                "deletionTimestamp": deleted,
                "labels": { "topology.kubernetes.io/zone": "a" },
            },
            "spec": spec,
            "status": { "addresses": [
                { "type": "ExternalIP", "address": "203.0.113.1" },
                { "type": "InternalIP", "address": "192.168.0.7" },
                { "type": "InternalIP", "address": "192.168.0.8" },
                { "type": "Hostname", "address": "n" },
                { "type": "InternalIP", "address": "fd00::7" },
            ] },
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_nodes_addresses_are_one_of_each_family() {
        let update = node_update(Some(&node(json!({ "podCIDRs": ["10.0.0.0/24"] }), None)), true);
        let Update::Node { zone, facts: Some(facts), is_eligible } = update else { panic!() };
        assert_eq!((zone.as_deref(), is_eligible), (Some("a"), true));
        assert_eq!(
            facts.ips,
            ["192.168.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]
        );
        assert_eq!(facts.pod_cidrs.len(), 1);
    }

    #[test]
    fn a_slice_that_becomes_another_services_is_not_the_first_ones_any_more() {
        let slice = |service: Option<&str>| -> EndpointSlice {
            let labels = service.map(|it| json!({ "kubernetes.io/service-name": it }));
            serde_json::from_value(json!({
                "metadata": { "namespace": "n", "name": "s", "labels": labels },
                "addressType": "IPv4",
                "endpoints": [],
            }))
            .unwrap()
        };
        let mut owners = Owners::default();
        let mut former = |service: Option<&str>| {
            let slice = slice(service);
            let update = reduce(&slice).map(|(service, reduced)| Update::Slice {
                service,
                name: "s".to_owned(),
                slice: Some(reduced),
                triggered: None,
            });
            owners.take(&slice, update.as_ref()).map(|it| match it {
                Update::Slice { service, slice: None, .. } => service.name,
                _ => panic!("it ends"),
            })
        };
        assert_eq!(former(Some("a")), None);
        assert_eq!(former(Some("a")), None);
        assert_eq!(former(Some("b")).as_deref(), Some("a"));
        assert_eq!(former(None).as_deref(), Some("b"));
        assert_eq!(former(None), None);
    }

    #[test]
    fn the_ranges_of_services_are_those_of_all_service_cidrs() {
        let range = |name: &str, cidrs: &[&str]| -> ServiceCIDR {
            let value = json!({ "metadata": { "name": name }, "spec": { "cidrs": cidrs } });
            serde_json::from_value(value).unwrap()
        };
        let mut ranges = Ranges::default();
        let mut take = |event| {
            ranges.take(event).map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let first = range("kubernetes", &["10.100.0.0/16", "fd00:100::/108"]);
        assert_eq!(take(watcher::Event::InitApply(first)), None, "the list goes on");
        let both = vec!["10.100.0.0/16".to_owned(), "fd00:100::/108".to_owned()];
        assert_eq!(take(watcher::Event::InitDone), Some(both.clone()));
        let more = take(watcher::Event::Apply(range("more", &["10.101.0.0/24"])));
        assert_eq!(more.unwrap().len(), 3);
        assert_eq!(take(watcher::Event::Delete(range("more", &[]))), Some(both));
        assert_eq!(take(watcher::Event::Init), None);
        assert_eq!(take(watcher::Event::InitDone), Some(Vec::new()));
    }

    #[test]
    fn a_node_that_somebody_removes_is_not_eligible() {
        let eligible = |node: Option<&Node>, was_there| match node_update(node, was_there) {
            Update::Node { is_eligible, .. } => is_eligible,
            _ => panic!(),
        };
        let taint = json!({ "taints": [{ "key": TO_BE_DELETED, "effect": "NoSchedule" }] });
        assert!(!eligible(Some(&node(taint, None)), true));
        assert!(!eligible(Some(&node(json!({}), Some("2026-01-01T00:00:00Z"))), true));
        assert!(!eligible(None, true));
        assert!(eligible(None, false), "it has not registered yet");
    }
}
