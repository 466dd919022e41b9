//! The `loopback` plug-in: takes `lo` up in the pod's namespace.

use std::path::Path;

use api_cni::{
    CniError, Command, ErrorCode, Interface, Invocation, IpConfig, NetResult, version_info,
};
use ipnet::Ipv4Net;
use linux_netlink::Netlink;
use serde_json::Value;

use crate::{chain, print};

pub(crate) fn run(invocation: &Invocation) -> Result<Option<Value>, CniError> {
    match (invocation.command, &invocation.netns) {
        (Command::Version, _) => Ok(Some(version_info(&invocation.config.cni_version))),
        (Command::Add, Some(netns)) => {
            set_up(netns)?;
            print(&result(invocation, netns))
        }
        // The namespace's end is lo's end.
        _ => Ok(None),
    }
}

fn set_up(netns: &Path) -> Result<(), CniError> {
    let failed = |error: &dyn std::error::Error| {
        CniError::new(ErrorCode::Plugin, "failed to set the loopback up").details(chain(error))
    };
    let pod = Netlink::at(netns).map_err(|error| failed(&error))?;
    // `lo` has index 1 in every namespace.
    pod.set_up(1).map_err(|error| failed(&error))
}

fn result(invocation: &Invocation, netns: &Path) -> NetResult {
    let address = Ipv4Net::new_assert([127, 0, 0, 1].into(), 8).into();
    let lo = Interface {
        name: invocation.ifname.clone(),
        mac: "00:00:00:00:00:00".to_owned(),
        sandbox: netns.display().to_string(),
    };
    let made = NetResult {
        interfaces: vec![lo],
        ips: vec![IpConfig { version: None, interface: Some(0), address, gateway: None }],
        ..NetResult::default()
    };
    let result = invocation.config.previous().unwrap_or(made);
    result.in_version(&invocation.config.cni_version)
}
