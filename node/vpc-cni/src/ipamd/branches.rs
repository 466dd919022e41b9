//! Pods with security groups of their own: their address is a branch interface's, made by the
//! controller of VPC resources and told in the pod's annotation.
//!
//! Upstream: `AddNetwork` in `pkg/ipamd/rpc_handler.go`.
//! Deviation: upstream fails an ADD that comes before the annotation, or before the trunk; here it
//! waits for them, for at most 5 s. In an IPv6 cluster such a pod has no way to what is IPv4 only.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::atomic::Ordering,
    time::Duration,
};

use api_cni::backend::{Assignment, Branch, Ipv6Assignment, Sandbox};
use api_kube::vpc_resources::PodEni;
use linux_netlink::TABLE_MAIN;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{AddError, Ipamd, Pool};
use crate::{
    plan::{self, Circumstances, Limits},
    pods::Wanted,
};

/// How long an ADD waits for the controller.
const WAIT: Duration = Duration::from_secs(5);
/// The router of every subnet of a VPC.
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);
const NO_POD: &str = "Failed to get pod";
const NO_TRUNK: &str = "No trunk ENI found, cannot add a pod ENI";
const NO_BRANCH: &str = "failed to get Branch ENI resource";
const UNREADABLE: &str = "Failed to parse pod-ENI annotation";

impl Ipamd {
    /// Whether a trunk is to come: a slot is kept for it until it is there.
    pub(super) fn is_trunk_awaited(&self, pool: &Pool) -> bool {
        let kind = instance_types::find(&self.parts.identity.instance_type);
        let is_possible = kind.is_some_and(|it| it.branch_enis > 0);
        self.parts.config.enables_pod_eni && is_possible && pool.trunk.is_none()
    }

    /// Whether a trunk can be attached, or is: then the controller is told that one is wanted.
    pub fn has_room_for_trunk(&self) -> bool {
        let pool = self.pool.lock();
        if pool.trunk.is_some() {
            return true;
        }
        let unmanaged_enis = pool.unmanaged.len() + pool.unplugged;
        drop(pool);
        let at = Circumstances {
            now: self.parts.clock.now(),
            paused_until: None,
            retry_at: None,
            last_shrink: None,
            is_frozen: false,
            unmanaged_enis,
            is_trunk_awaited: false,
        };
        let max_pods = self.max_pods.load(Ordering::Relaxed);
        let limits = Limits { max_pods, ..self.parts.limits };
        plan::has_room(&self.store.lock(), &limits, &at)
    }

    /// The branch of the sandbox's pod; `None`: it gets an address like any other.
    pub(super) async fn branch_for(
        &self,
        sandbox: &Sandbox,
    ) -> Result<Option<Assignment>, AddError> {
        let Some(pods) = &self.parts.pods else { return Ok(None) };
        let deadline = Instant::now() + WAIT;
        let failed = |reason| Err(AddError::Branch { reason });
        match pods.wanted(sandbox, deadline).await {
            Wanted::Plain => Ok(None),
            Wanted::Unknown => failed(NO_POD),
            Wanted::NotYet => {
                let has_trunk = self.pool.lock().trunk.is_some();
                failed(if has_trunk { NO_BRANCH } else { NO_TRUNK })
            }
            Wanted::Unreadable => failed(UNREADABLE),
            Wanted::Branch(branch) => match self.assignment_of(&branch) {
                Some(assignment) => {
                    debug!(pod = sandbox.pod_name, eni = branch.eni_id, "a branch");
                    Ok(Some(assignment))
                }
                None => {
                    warn!(pod = sandbox.pod_name, ?branch, "{UNREADABLE}");
                    failed(UNREADABLE)
                }
            },
        }
    }

    /// The branch of a pod that is still known, for a DEL without what ADD answered.
    pub(super) fn known_branch(&self, sandbox: &Sandbox) -> Option<Assignment> {
        let branch = self.parts.pods.as_ref()?.branch_of(sandbox)?;
        self.assignment_of(&branch)
    }

    fn assignment_of(&self, branch: &PodEni) -> Option<Assignment> {
        let address = branch.address()?;
        let (ipv6, gateway) = if self.parts.config.is_ipv6 {
            // The one that the branch's subnet has given it.
            let ipv6 = Ipv6Assignment { address: branch.ipv6_address()?, has_egress: false };
            (Some(ipv6), IpAddr::V6(ROUTER_V6))
        } else {
            (None, branch.gateway()?.into())
        };
        if branch.vlan_id == 0 || branch.mac.is_empty() {
            return None;
        }
        Some(Assignment {
            address,
            device_number: 0,
            route_table: TABLE_MAIN,
            use_external_snat: self.parts.config.is_external_snat,
            vpc_cidrs: self.pool.lock().vpc_cidrs.clone(),
            ipv6,
            branch: Some(Branch { vlan_id: branch.vlan_id, mac: branch.mac.clone(), gateway }),
        })
    }
}
