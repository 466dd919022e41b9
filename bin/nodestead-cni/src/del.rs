//! DEL: gives the address back and removes what leads to it.

use std::{net::IpAddr, path::Path, time::Duration};

use api_cni::{
    CniError, ErrorCode, Invocation,
    backend::{self, Request, Response, SOCKET},
};

use crate::{add::sandbox, bandwidth, branch, chain, hostports, plumbing, records};

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn run(invocation: &Invocation) -> Result<(), CniError> {
    let failed = |what: &str, error: &dyn std::error::Error| {
        CniError::new(ErrorCode::Plugin, format!("del cmd: {what}: {}", chain(error)))
    };
    // The kernel's side first: an address is free for another pod only when nothing leads here.
    if let Some(netns) = &invocation.netns {
        plumbing::tear_down_pod(netns, &invocation.ifname)
            .map_err(|error| failed("failed to remove the pod's link", &error))?;
    }
    bandwidth::remove(&invocation.container_id).map_err(|error| {
        let msg = format!("del cmd: failed to remove the pod's bandwidth limit: {error}");
        CniError::new(ErrorCode::Plugin, msg)
    })?;
    records::forget(&records::place(invocation))
        .map_err(|error| failed("failed to remove the record of host ports", &error))?;
    let (address, egress, vlan) = released(invocation);
    if let Some(vlan) = vlan {
        branch::tear_down(vlan)
            .map_err(|error| failed("failed to remove the branch's routes", &error))?;
    }
    let Some(address) = address else { return Ok(()) };
    [Some(address), egress]
        .into_iter()
        .flatten()
        .try_for_each(plumbing::tear_down_host)
        .map_err(|error| failed("failed to remove the pod's rules", &error))?;
    let ports = invocation.config.runtime_config.as_ref().map(|it| it.port_mappings.as_slice());
    hostports::remove(ports.unwrap_or_default(), address)
        .map_err(|error| failed("failed to remove the pod's host ports", &error))
}

/// The sandbox's address, that of its way to IPv4 and its branch's VLAN: what ADD said of a branch;
/// of all others ipamd, to whom the address goes back.
fn released(invocation: &Invocation) -> (Option<IpAddr>, Option<IpAddr>, Option<u32>) {
    if let Some(vlan) = branch::of_result(invocation) {
        return (previous_address(invocation), None, Some(vlan));
    }
    let socket = Path::new(invocation.config.text("ipamdSocket", SOCKET));
    match backend::call(socket, &Request::DelNetwork(sandbox(invocation)), LIMIT) {
        Ok(Response::Deleted { address: Some(it) }) => {
            let egress = it.egress_address().map(IpAddr::V4);
            (Some(it.pod_address()), egress, it.branch.map(|it| it.vlan_id))
        }
        Ok(Response::Deleted { address: None }) => (None, None, None),
        // ipamd is down, or of another version: it finds the sandbox gone when it starts, by its
        // link. The rules go by what ADD said.
        Ok(_) | Err(_) => (previous_address(invocation), None, None),
    }
}

/// The pod's address by the result of its ADD.
pub(crate) fn previous_address(invocation: &Invocation) -> Option<IpAddr> {
    let result = invocation.config.previous()?;
    result.ips.first().map(|ip| ip.address.addr())
}
