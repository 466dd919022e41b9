//! What a cluster is like after a command: for looking more than one step ahead.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{NodePool, labels};
use k8s_openapi::api::core::v1 as core;

use super::{Command, Destination};
use crate::{outcome::NewClaim, snapshot::Snapshot, world::InstanceType};

impl Snapshot {
    /// The nodes of the command go, its replacements are there (each at its cheapest option), and
    /// the pods are where the command sends them.
    pub fn apply(
        &mut self,
        command: &Command,
        types: impl Fn(&NodePool) -> Option<Arc<[InstanceType]>>,
    ) {
        let gone = |name: Option<&str>| {
            name.is_some_and(|name| command.nodes.iter().any(|it| it.name == name))
        };
        self.nodes.retain(|it| !gone(it.metadata.name.as_deref()));
        self.claims
            .retain(|it| !gone(it.status.as_ref().and_then(|status| status.node_name.as_deref())));
        let first = &command.nodes.first().map_or("", |it| it.name.as_str());
        let names: Vec<String> = (0..command.replacements.len())
            .map(|at| format!("replacement-{at}-of-{first}"))
            .collect();
        for (claim, name) in command.replacements.iter().zip(&names) {
            let pool = self.pools.iter().find(|it| it.name() == claim.pool);
            if let Some(types) = pool.and_then(&types) {
                self.nodes.extend(node(claim, name, &types));
            }
        }
        let moves: BTreeMap<&str, &Destination> =
            command.moves.iter().map(|(pod, to)| (pod.as_str(), to)).collect();
        let is_on =
            |pod: &core::Pod| gone(pod.spec.as_ref().and_then(|it| it.node_name.as_deref()));
        self.pods.retain_mut(|pod| {
            if !is_on(pod) {
                return true;
            }
            let part = |it: &Option<String>| it.clone().unwrap_or_default();
            let name = format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name));
            let Some(to) = moves.get(name.as_str()) else { return false };
            let node = match to {
                Destination::Node(node) => node.clone(),
                Destination::Replacement(at) => names[*at].clone(),
            };
            pod.spec.get_or_insert_default().node_name = Some(node);
            true
        });
    }
}

fn node(claim: &NewClaim, name: &str, types: &[InstanceType]) -> Option<core::Node> {
    let option = claim.options.first()?;
    let kind = types.iter().find(|it| it.name == option.instance_type)?;
    let mut all = kind.labels.clone();
    for (key, requirement) in claim.requirements.iter() {
        if let Some(value) = requirement.example()
            && !all.contains_key(&**key)
        {
            all.insert(key.to_string(), value);
        }
    }
    for (key, value) in [
        (labels::ZONE, &*option.zone),
        (labels::CAPACITY_TYPE, &*option.capacity_type),
        (labels::HOSTNAME, name),
        (labels::INITIALIZED, "true"),
        (labels::REGISTERED, "true"),
    ] {
        all.insert(key.to_owned(), value.to_owned());
    }
    let mut node = core::Node::default();
    node.metadata.name = Some(name.to_owned());
    node.metadata.labels = Some(all);
    node.status = Some(core::NodeStatus {
        allocatable: Some(kind.allocatable.to_list()),
        capacity: Some(kind.capacity.to_list()),
        ..Default::default()
    });
    Some(node)
}
