//! ADD and CHECK.

use std::{path::Path, time::Duration};

use api_cni::{
    CniError, ErrorCode, Interface, Invocation, IpConfig, NetResult,
    backend::{self, Assignment, Request, Response, SOCKET, Sandbox},
    host_link_name,
};

use crate::{
    bandwidth::{self, Limits},
    chain, hostports,
    plumbing::{self, Pod},
};

/// ipamd answers from memory; what takes longer is a daemon that hangs.
const LIMIT: Duration = Duration::from_secs(10);
/// What EC2 sets on its interfaces.
const DEFAULT_MTU: u32 = 9001;
/// Upstream's message for every reason why there is no address.
const NO_ADDRESS: &str = "add cmd: failed to assign an IP address to container";

pub(crate) fn run(invocation: &Invocation) -> Result<NetResult, CniError> {
    // Parsing refuses an ADD without one.
    let netns = invocation.netns.as_deref().unwrap_or(Path::new(""));
    let config = &invocation.config;
    let mtu = mtu_of(config.text("mtu", ""))?;
    let prefix = config.text("vethPrefix", "eni");
    let (namespace, name) = (&invocation.pod.namespace, &invocation.pod.name);
    let host_link = host_link_name(prefix, namespace, name);

    let runtime = config.runtime_config.as_ref();
    let limits = Limits::of(runtime.and_then(|it| it.bandwidth.as_ref()))?;

    let assignment = assign(invocation)?;
    let pod = Pod {
        netns,
        ifname: &invocation.ifname,
        host_link: &host_link,
        container_id: &invocation.container_id,
        mtu,
    };
    let ports = runtime.map(|it| it.port_mappings.as_slice());
    let failed = |msg: &str, error: &dyn std::error::Error| {
        CniError::new(ErrorCode::Plugin, format!("{msg}: {}", chain(error)))
    };
    let done = plumbing::set_up(&pod, &assignment)
        .map_err(|error| failed("add cmd: failed to setup network", &error))
        .and_then(|()| bandwidth::apply(limits, &host_link, &invocation.container_id, mtu))
        .and_then(|()| {
            hostports::add(ports.unwrap_or_default(), assignment.address)
                .map_err(|error| failed("add cmd: failed to set up host ports", &error))
        });
    if let Err(error) = done {
        undo(invocation, netns, &assignment);
        return Err(error);
    }
    Ok(result(invocation, netns, &host_link, &assignment))
}

/// Verifies that what ADD made is there.
pub(crate) fn check(invocation: &Invocation) -> Result<(), CniError> {
    let failed = |msg: String| CniError::new(ErrorCode::Plugin, format!("check cmd: {msg}"));
    let Some(address) = crate::del::previous_address(invocation) else {
        return Err(failed("the previous result holds no address".to_owned()));
    };
    let netns = invocation.netns.as_deref().unwrap_or(Path::new(""));
    match plumbing::is_set_up(netns, &invocation.ifname, address) {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed(format!("the pod's link or its route for {address} is missing"))),
        Err(error) => Err(failed(chain(&error))),
    }
}

fn assign(invocation: &Invocation) -> Result<Assignment, CniError> {
    let socket = Path::new(invocation.config.text("ipamdSocket", SOCKET));
    let request = Request::AddNetwork(sandbox(invocation));
    match backend::call(socket, &request, LIMIT) {
        Ok(Response::Added(assignment)) => Ok(assignment),
        Ok(Response::Failed { message }) => {
            Err(CniError::new(ErrorCode::Plugin, NO_ADDRESS).details(message))
        }
        Ok(other) => {
            let msg = "add cmd: Error received from AddNetwork call";
            Err(CniError::new(ErrorCode::Plugin, msg).details(format!("{other:?}")))
        }
        Err(error) => {
            let msg = "add cmd: failed to connect to backend server";
            Err(CniError::new(ErrorCode::TryAgainLater, msg).details(error.to_string()))
        }
    }
}

pub(crate) fn sandbox(invocation: &Invocation) -> Sandbox {
    let netns = invocation.netns.as_ref().map(|it| it.display().to_string());
    Sandbox {
        client_version: backend::VERSION.to_owned(),
        pod_namespace: invocation.pod.namespace.clone(),
        pod_name: invocation.pod.name.clone(),
        pod_uid: invocation.pod.uid.clone(),
        container_id: invocation.container_id.clone(),
        interface_name: invocation.ifname.clone(),
        network_name: invocation.config.name.clone(),
        netns: netns.unwrap_or_default(),
    }
}

/// Best effort: the failure that made it necessary is what gets reported.
fn undo(invocation: &Invocation, netns: &Path, assignment: &Assignment) {
    drop(plumbing::tear_down_pod(netns, &invocation.ifname));
    drop(plumbing::tear_down_host(assignment.address));
    drop(bandwidth::remove(&invocation.container_id));
    let socket = Path::new(invocation.config.text("ipamdSocket", SOCKET));
    drop(backend::call(socket, &Request::DelNetwork(sandbox(invocation)), LIMIT));
}

fn result(
    invocation: &Invocation,
    netns: &Path,
    host_link: &str,
    assignment: &Assignment,
) -> NetResult {
    let host = Interface { name: host_link.to_owned(), ..Interface::default() };
    let sandbox = netns.display().to_string();
    let pod = Interface { name: invocation.ifname.clone(), mac: String::new(), sandbox };
    let address = ipnet::Ipv4Net::from(assignment.address).into();
    let result = NetResult {
        interfaces: vec![host, pod],
        ips: vec![IpConfig { version: None, interface: Some(1), address, gateway: None }],
        ..NetResult::default()
    };
    result.in_version(&invocation.config.cni_version)
}

fn mtu_of(text: &str) -> Result<u32, CniError> {
    match text {
        "" => Ok(DEFAULT_MTU),
        text => text.parse().ok().filter(|mtu| (576..=9001).contains(mtu)).ok_or_else(|| {
            let msg = format!("add cmd: failed to parse configuration: mtu \"{text}\"");
            CniError::new(ErrorCode::InvalidNetworkConfig, msg)
        }),
    }
}
