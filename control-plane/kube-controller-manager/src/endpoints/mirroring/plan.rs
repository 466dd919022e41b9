//! What slices an Endpoints object has: one for each family and set of ports.
//!
//! Upstream: `pkg/controller/endpointslicemirroring/{reconciler,utils}.go`.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use controller::object;
use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, EndpointPort as Port, EndpointSubset, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::endpoints::{
    LEADER,
    members::Family,
    slices::{self, MANAGED_BY, SERVICE_NAME, Step},
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Not the slices' business.
const LEFT_OUT: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];
/// Upstream's `mirroringMaxEndpointsPerSubset`.
const CAPACITY: usize = 1000;

type Group = (Family, String);

/// Writes, and what to say of addresses that were left out.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) warnings: Vec<(&'static str, String)>,
}

pub(super) fn is_managed(slice: &EndpointSlice) -> bool {
    object::label(slice, MANAGED_BY) == Some(MANAGER)
}

pub(super) fn is_mirrored(endpoints: &Endpoints) -> bool {
    object::label(endpoints, SKIP) != Some("true")
        && object::annotation(endpoints, LEADER).is_none()
        && !object::is_terminating(endpoints)
}

pub(super) fn is_without_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|it| it.selector.as_ref());
    selector.is_none_or(BTreeMap::is_empty)
}

pub(super) fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut groups: BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        plan.add(subset, &mut groups);
    }
    let mut known: HashMap<String, Arc<EndpointSlice>> = HashMap::new();
    for slice in existing {
        let name = slice.metadata.name.clone().unwrap_or_default();
        known.insert(name, slice.clone());
    }
    for (group, (ports, members)) in groups {
        let new = slice(endpoints, &group, ports, members);
        let name = new.metadata.name.clone().unwrap_or_default();
        match known.remove(&name) {
            Some(old) if is_same(&old, &new) => {}
            Some(old) => plan.steps.push(Step::Update { old, new: Box::new(new) }),
            None => plan.steps.push(Step::Create(Box::new(new))),
        }
    }
    plan.steps.extend(known.into_values().map(Step::Delete));
    plan
}

impl Plan {
    fn add(
        &mut self,
        subset: &EndpointSubset,
        groups: &mut BTreeMap<Group, (Vec<EndpointPort>, Vec<Endpoint>)>,
    ) {
        let ports: Vec<_> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|it| (it, true));
        let all = ready.chain(subset.not_ready_addresses.iter().flatten().map(|it| (it, false)));
        let (mut taken, mut wrong, mut over) = (0, 0, 0);
        for (address, is_ready) in all {
            let family = match address.ip.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => Family::Ipv4,
                Ok(IpAddr::V6(_)) => Family::Ipv6,
                Err(_) => {
                    wrong += 1;
                    continue;
                }
            };
            if taken == CAPACITY {
                over += 1;
                continue;
            }
            taken += 1;
            let group = (family, slices::key_of(&ports));
            let entry = groups.entry(group).or_insert_with(|| (ports.clone(), Vec::new()));
            entry.1.push(endpoint(address, is_ready));
        }
        if wrong > 0 {
            let message =
                format!("Skipped {wrong} invalid IP addresses when mirroring to EndpointSlices");
            self.warnings.push(("InvalidIPAddress", message));
        }
        if over > 0 {
            let message = format!(
                "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints \
                 subset. {over} addresses were skipped"
            );
            self.warnings.push(("TooManyAddressesToMirror", message));
        }
    }
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..Default::default() }),
        hostname: address.hostname.clone().filter(|it| !it.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    endpoints: &Endpoints,
    group: &Group,
    ports: Vec<EndpointPort>,
    members: Vec<Endpoint>,
) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !LEFT_OUT.contains(&key.as_str()));
    let suffix = slices::suffix(&format!("{uid} {:?} {}", group.0, group.1));
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{suffix}")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|it| !it.is_empty()),
            owner_references: Some(vec![object::controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: group.0.as_str().to_owned(),
        endpoints: Some(members),
        ports: Some(ports).filter(|it| !it.is_empty()),
    }
}

fn is_same(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    old.metadata.labels == new.metadata.labels
        && old.metadata.annotations == new.metadata.annotations
        && old.metadata.owner_references == new.metadata.owner_references
        && old.endpoints == new.endpoints
        && old.ports == new.ports
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: &Value) -> Endpoints {
        let metadata = json!({ "name": "db", "namespace": "d", "uid": "e", "labels": { "a": "b" },
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" } });
        serde_json::from_value(json!({ "metadata": metadata, "subsets": subsets })).unwrap()
    }

    fn created(plan: Plan) -> Vec<Arc<EndpointSlice>> {
        let slices = plan.steps.into_iter().map(|it| match it {
            Step::Create(slice) => Arc::new(*slice),
            other => panic!("{other:?}"),
        });
        slices.collect()
    }

    #[test]
    fn each_set_of_ports_has_a_slice_with_the_labels_of_its_endpoints() {
        let two = endpoints(&json!([
            { "addresses": [{ "ip": "10.1.2.3" }], "ports": [{ "name": "x", "port": 8080 }] },
            { "notReadyAddresses": [{ "ip": "10.1.2.4" }], "ports": [{ "name": "y", "port": 1 }] },
        ]));
        let slices = created(plan(&two, &[]));
        assert_eq!(slices.len(), 2);
        for slice in &slices {
            let labels = slice.metadata.labels.as_ref().unwrap();
            assert_eq!((labels["a"].as_str(), labels[SERVICE_NAME].as_str()), ("b", "db"));
            assert!(is_managed(slice) && slice.metadata.annotations.is_none());
        }
        let is_ready = |address: &str| {
            let all = slices.iter().flat_map(|it| it.endpoints.iter().flatten());
            let found = all.into_iter().find(|it| it.addresses == [address]).unwrap();
            found.conditions.as_ref().unwrap().ready
        };
        assert_eq!((is_ready("10.1.2.3"), is_ready("10.1.2.4")), (Some(true), Some(false)));

        assert!(plan(&two, &slices).steps.is_empty());
        let one = endpoints(&json!([
            { "addresses": [{ "ip": "10.9.9.9" }], "ports": [{ "name": "x", "port": 8080 }] },
        ]));
        let steps = plan(&one, &slices).steps;
        assert!(
            matches!(steps.as_slice(), [Step::Update { new, .. }, Step::Delete(_)]
                if new.endpoints.as_ref().unwrap()[0].addresses == ["10.9.9.9"]),
            "{steps:?}"
        );
    }

    #[test]
    fn what_cannot_be_mirrored_is_left_out_and_told() {
        let addresses: Vec<_> = (0..1003)
            .map(|it| json!({ "ip": format!("10.0.{}.{}", it / 250, it % 250) }))
            .chain([json!({ "ip": "fd00::1" }), json!({ "ip": "nonsense" })])
            .collect();
        let many = endpoints(&json!([{ "addresses": addresses, "ports": [{ "port": 1 }] }]));
        let plan = plan(&many, &[]);
        assert_eq!(
            plan.warnings.iter().map(|it| it.0).collect::<Vec<_>>(),
            ["InvalidIPAddress", "TooManyAddressesToMirror"]
        );
        assert!(plan.warnings[1].1.ends_with("4 addresses were skipped"), "{:?}", plan.warnings);
        assert_eq!(created(plan)[0].endpoints.as_ref().unwrap().len(), CAPACITY);
    }

    #[test]
    fn who_says_so_and_leader_elections_are_not_mirrored() {
        let mut it = endpoints(&json!([]));
        assert!(is_mirrored(&it));
        it.metadata.labels.as_mut().unwrap().insert(SKIP.to_owned(), "true".to_owned());
        assert!(!is_mirrored(&it));
        let mut it = endpoints(&json!([]));
        it.metadata.annotations.as_mut().unwrap().insert(LEADER.to_owned(), "{}".to_owned());
        assert!(!is_mirrored(&it));
    }
}
