//! DEL: gives the address back and removes what leads to it.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use api_cni::{
    CniError, ErrorCode, Invocation,
    backend::{self, Request, Response, SOCKET},
};

use crate::{add::sandbox, bandwidth, chain, hostports, plumbing};

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
    let socket = Path::new(invocation.config.text("ipamdSocket", SOCKET));
    let address = match backend::call(socket, &Request::DelNetwork(sandbox(invocation)), LIMIT) {
        Ok(Response::Deleted { address }) => address.map(|it| it.address),
        // ipamd is down, or of another version: it finds the sandbox gone when it starts, by its
        // link. The rules go by what ADD said.
        Ok(_) | Err(_) => previous_address(invocation),
    };
    let Some(address) = address else { return Ok(()) };
    plumbing::tear_down_host(address)
        .map_err(|error| failed("failed to remove the pod's rules", &error))?;
    let ports = invocation.config.runtime_config.as_ref().map(|it| it.port_mappings.as_slice());
    hostports::remove(ports.unwrap_or_default(), address)
        .map_err(|error| failed("failed to remove the pod's host ports", &error))
}

/// The pod's address by the result of its ADD.
pub(crate) fn previous_address(invocation: &Invocation) -> Option<Ipv4Addr> {
    let result = invocation.config.previous()?;
    result.ips.iter().find_map(|ip| match ip.address.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    })
}
