//! What a pod may do under all PolicyEndpoints that name it.

use std::net::IpAddr;

use api_kube::policy_endpoint::PolicyEndpointSpec;

use crate::{Direction, Grant, Protocol, grants};

/// `None` in a direction in which the pod is not isolated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRules {
    pub ingress: Option<Vec<Grant>>,
    pub egress: Option<Vec<Grant>>,
}

impl PodRules {
    /// The union of those among `specs` that name the pod.
    pub fn of<'a>(
        address: IpAddr,
        specs: impl IntoIterator<Item = &'a PolicyEndpointSpec>,
    ) -> Self {
        let mut rules = Self::default();
        for spec in specs {
            let is_named = |it: &api_kube::policy_endpoint::PodEndpoint| {
                it.pod_ip.parse::<IpAddr>().is_ok_and(|it| it == address)
            };
            if !spec.pod_selector_endpoints.iter().any(is_named) {
                continue;
            }
            for (all, direction) in
                [(&mut rules.ingress, Direction::Ingress), (&mut rules.egress, Direction::Egress)]
            {
                if let Some(more) = grants(spec, direction) {
                    all.get_or_insert_default().extend(more);
                }
            }
        }
        rules
    }

    /// Whether a connection with this peer may begin.
    pub fn allows(
        &self,
        direction: Direction,
        peer: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        let grants = match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        };
        grants.as_ref().is_none_or(|it| it.iter().any(|it| it.allows(peer, protocol, port)))
    }
}
