//! ADD and CHECK.

use std::{path::Path, time::Duration};

use api_cni::{
    CniError, ErrorCode, Interface, Invocation, IpConfig, NetResult,
    backend::{self, Assignment, Branch, Request, Response, SOCKET, Sandbox},
    host_link_name,
};

use crate::{
    bandwidth::{self, Limits},
    branch::{self, Mode},
    chain, hostports,
    plumbing::{self, Pod},
    records,
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
    let mode = Mode::of(config.text("podSGEnforcingMode", "strict"))?;
    let runtime = config.runtime_config.as_ref();
    let limits = Limits::of(runtime.and_then(|it| it.bandwidth.as_ref()))?;

    let assignment = assign(invocation)?;
    let prefix = config.text("vethPrefix", "eni");
    let prefix = if assignment.branch.is_some() { mode.prefix(prefix) } else { prefix };
    let (namespace, name) = (&invocation.pod.namespace, &invocation.pod.name);
    let host_link = host_link_name(prefix, namespace, name);
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
    let plumbed = match &assignment.branch {
        Some(branch) => branch::set_up(&pod, assignment.pod_address(), branch, mode),
        None => plumbing::set_up(&pod, &assignment, &plumbing::egress_link(namespace, name)),
    };
    let done = plumbed
        .map_err(|error| failed("add cmd: failed to setup network", &error))
        .and_then(|()| bandwidth::apply(limits, &host_link, &invocation.container_id, mtu))
        .and_then(|()| {
            hostports::add(ports.unwrap_or_default(), assignment.pod_address(), &host_link)
                .map_err(|error| failed("add cmd: failed to set up host ports", &error))
        })
        .and_then(|()| {
            let place = records::place(invocation);
            records::keep(&place, ports.unwrap_or_default(), assignment.pod_address(), &host_link)
                .map_err(|error| failed("add cmd: failed to keep a record of host ports", &error))
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
    let table = branch::of_result(invocation).map(Branch::table);
    match plumbing::is_set_up(netns, &invocation.ifname, address, table) {
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
///
/// The address is given back only when nothing leads here any more; else the runtime's DEL does that,
/// or ipamd, which finds the sandbox gone.
fn undo(invocation: &Invocation, netns: &Path, assignment: &Assignment) {
    let pod = plumbing::tear_down_pod(netns, &invocation.ifname);
    let branch = match &assignment.branch {
        Some(branch) => branch::tear_down(branch.vlan_id).is_ok(),
        None => true,
    };
    let egress = assignment.egress_address().map(Into::into);
    let host = [Some(assignment.pod_address()), egress]
        .into_iter()
        .flatten()
        .try_for_each(plumbing::tear_down_host);
    drop(bandwidth::remove(&invocation.container_id));
    if pod.is_err() || host.is_err() || !branch {
        return;
    }
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
    let address = ipnet::IpNet::from(assignment.pod_address());
    let mut interfaces = vec![host, pod];
    if let Some(branch) = &assignment.branch {
        let (namespace, name) = (&invocation.pod.namespace, &invocation.pod.name);
        interfaces.push(branch::memento(namespace, name, branch.vlan_id));
    }
    let result = NetResult {
        interfaces,
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
