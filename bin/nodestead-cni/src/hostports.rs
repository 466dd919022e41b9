//! Host ports: a port of the node that leads to a pod, in a table of our own.
//!
//! One map from protocol and port (of any address of the node, or of one) to the pod. A mapping is
//! an element, so adding one costs an element however many there are. A pod without host ports
//! starts no `nft`.
//!
//! Upstream: the `portmap` plug-in with `snat: true`.

use std::{collections::HashSet, net::IpAddr};

use api_cni::PortMapping;
use linux_nftables::{
    ApplyError, Chain, ChainKind, Family, Hook, HookPoint, Nft, Set, Table, Transaction, priority,
};

use crate::localnet::{self, LocalnetError};

const TABLE: &str = "aws-cni-hostports";
/// Pods that may reach themselves by the node's port.
const HAIRPINS: &str = "hairpins";
/// Before kube-proxy's: a host port is more special than a node port.
const PRIORITY: i32 = priority::DSTNAT - 5;

#[derive(Debug, thiserror::Error)]
pub(crate) enum HostPortError {
    #[error("failed to map the ports")]
    Map(#[from] ApplyError),
    #[error("failed to map the node's loopback")]
    Loopback(#[from] LocalnetError),
    #[error("failed to take the ports from a pod that is gone")]
    Unmap(#[from] UnmapError),
}

/// All that could not be taken away.
#[derive(Debug, thiserror::Error)]
#[error("{}", said(.0))]
pub(crate) struct UnmapError(Vec<ApplyError>);

fn said(errors: &[ApplyError]) -> String {
    errors.iter().map(|it| crate::chain(it)).collect::<Vec<_>>().join("; ")
}

/// Maps ports of the node to a pod, whose end on the node is `link`.
pub(crate) fn add(mappings: &[PortMapping], pod: IpAddr, link: &str) -> Result<(), HostPortError> {
    // Runtimes may list ports that are not mapped; an address of the other version leads nowhere.
    let is_of_pod =
        |it: &&PortMapping| it.host_address().is_none_or(|host| host.is_ipv4() == pod.is_ipv4());
    let mapped = mappings.iter().filter(|it| it.host_port != 0).filter(is_of_pod).cloned();
    let mappings: &[PortMapping] = &mapped.collect::<Vec<_>>();
    if mappings.is_empty() {
        return Ok(());
    }
    if pod.is_ipv4() && mappings.iter().any(is_of_loopback) {
        localnet::open(link)?;
    }
    let nft = Nft::here();
    let family = family(pod);
    if !nft.has_table(family, TABLE)? {
        nft.ensure(&table(family))?;
    }
    let transaction = elements(mappings, pod);
    match nft.apply(&transaction) {
        // A port that is taken by a pod that is gone without its DEL: the newer one has it.
        Err(ApplyError::Refused { .. }) => {
            remove_all(&nft, family, mappings.iter().map(place))?;
            Ok(nft.apply(&transaction)?)
        }
        done => Ok(done?),
    }
}

/// Whether the node reaches it at 127.0.0.1, too.
fn is_of_loopback(mapping: &PortMapping) -> bool {
    mapping.host_address().is_none_or(|it| matches!(it, IpAddr::V4(it) if it.is_loopback()))
}

/// Takes away what leads to a pod; a port that another pod has by now stays.
pub(crate) fn remove(mappings: &[PortMapping], pod: IpAddr) -> Result<(), UnmapError> {
    if mappings.is_empty() {
        return Ok(());
    }
    let nft = Nft::here();
    let family = family(pod);
    let listed = nft.list_table(family, TABLE).map_err(|it| UnmapError(vec![it]))?;
    let Some(listed) = listed else { return Ok(()) };
    let listed: HashSet<&str> = listed.split(['{', ',', '}', '\n']).map(str::trim).collect();
    let is_ours = |mapping: &&PortMapping| {
        let target = format!("{pod} . {}", mapping.container_port);
        listed.contains(format!("{} : {target}", place(mapping).1).as_str())
    };
    // The next pod with the address may have no host port.
    let ours = mappings.iter().filter(is_ours).map(place).chain(memberships(pod));
    remove_all(&nft, family, ours)
}

/// What is known of a pod with host ports, by set.
fn memberships(pod: IpAddr) -> [(&'static str, String); 2] {
    [("pods", pod.to_string()), (HAIRPINS, format!("{pod} . {pod}"))]
}

fn hairpins(family: Family) -> Set {
    Set::of(match family {
        Family::Ip6 => "ipv6_addr . ipv6_addr",
        _ => "ipv4_addr . ipv4_addr",
    })
}

/// The families whose table is not there, or lacks the guard that comes with it.
pub(crate) fn missing() -> Result<Vec<Family>, ApplyError> {
    let nft = Nft::here();
    let mut missing = Vec::new();
    for family in [Family::Ip, Family::Ip6] {
        let is_guarded = family == Family::Ip6 || localnet::is_guarded(&nft)?;
        if !is_guarded || !nft.has_table(family, TABLE)? {
            missing.push(family);
        }
    }
    Ok(missing)
}

/// A pod is reached by addresses of its own version.
pub(crate) fn family(pod: IpAddr) -> Family {
    if pod.is_ipv4() { Family::Ip } else { Family::Ip6 }
}

/// Takes elements away, each by itself: one that cannot go holds no other, and one that is not there
/// is gone.
fn remove_all(
    nft: &Nft,
    family: Family,
    elements: impl Iterator<Item = (&'static str, String)>,
) -> Result<(), UnmapError> {
    let mut failed = Vec::new();
    for (set, key) in elements {
        let mut transaction = Transaction::on(family, TABLE);
        transaction.delete_elements(set, [key.as_str()]);
        failed.extend(nft.apply(&transaction).err().filter(|it| !is_of_missing(it)));
    }
    if failed.is_empty() { Ok(()) } else { Err(UnmapError(failed)) }
}

/// As the kernel says it and `nft` repeats it.
const MISSING: &str = "No such file or directory";

fn is_of_missing(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Refused { message, .. } if message.contains(MISSING))
}

fn elements(mappings: &[PortMapping], pod: IpAddr) -> Transaction {
    let mut transaction = Transaction::on(family(pod), TABLE);
    for mapping in mappings {
        let (map, key) = place(mapping);
        let target = format!("{pod} . {}", mapping.container_port);
        transaction.add_elements(map, [(key.as_str(), target.as_str())]);
    }
    // A table of an older version does not have it.
    transaction.add_set(HAIRPINS, &hairpins(family(pod)));
    for (set, member) in memberships(pod) {
        transaction.add_elements(set, [(member.as_str(), "")]);
    }
    transaction
}

/// Which map a mapping is in, and under which key.
fn place(mapping: &PortMapping) -> (&'static str, String) {
    let protocol = match mapping.protocol.to_ascii_lowercase().as_str() {
        "udp" => "udp",
        "sctp" => "sctp",
        _ => "tcp",
    };
    match mapping.host_address() {
        None => ("ports", format!("{protocol} . {}", mapping.host_port)),
        Some(address) => ("addresses", format!("{address} . {protocol} . {}", mapping.host_port)),
    }
}

fn table(family: Family) -> Table {
    let (ip, address, loopback) = match family {
        Family::Ip6 => ("ip6", "ipv6_addr", "::1"),
        _ => ("ip", "ipv4_addr", "127.0.0.0/8"),
    };
    let mut table = Table::new(family, TABLE);
    let target = format!("{address} . inet_service");
    table.set("ports", Set::map("inet_proto . inet_service", &target));
    let key = format!("{address} . inet_proto . inet_service");
    table.set("addresses", Set::map(&key, &target));
    table.set("pods", Set::of(address));
    table.set(HAIRPINS, hairpins(family));
    let nat = |point, priority| Chain::hooked(Hook::new(ChainKind::Nat, point, priority));
    table.chains.insert("prerouting".into(), nat(HookPoint::Prerouting, PRIORITY));
    table.chains.insert("output".into(), nat(HookPoint::Output, PRIORITY));
    table.chains.insert("postrouting".into(), nat(HookPoint::Postrouting, priority::SRCNAT));
    for chain in ["prerouting", "output"] {
        table.chain(chain).rule("fib daddr type local jump to-pods");
    }
    table
        .chain("to-pods")
        .rule(format!("dnat {ip} to {ip} daddr . meta l4proto . th dport map @addresses"))
        .rule(format!("dnat {ip} to meta l4proto . th dport map @ports"));
    // What the node itself or the pod itself sends to a host port has to come back the same way.
    table
        .chain("postrouting")
        .rule(format!("ct status dnat {ip} daddr @pods {ip} saddr {loopback} masquerade"))
        .rule(format!("ct status dnat {ip} saddr . {ip} daddr @{HAIRPINS} masquerade"));
    table
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn all_that_could_not_be_taken_away_is_told_and_what_was_not_there_is_no_failure() {
        let refused = |errno: Errno| ApplyError::Refused {
            table: TABLE.to_owned(),
            message: format!("{} in `delete element`", errno.desc()),
        };
        assert!(is_of_missing(&refused(Errno::ENOENT)));
        assert!(!is_of_missing(&refused(Errno::EBUSY)));
        let error = UnmapError(vec![refused(Errno::EBUSY), refused(Errno::EPERM)]).to_string();
        assert!(error.contains(Errno::EBUSY.desc()) && error.contains(Errno::EPERM.desc()));
    }

    #[test]
    fn a_mapping_for_one_address_is_kept_apart_from_those_for_all() {
        let any = PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "TCP".into(),
            host_ip: "0.0.0.0".into(),
        };
        let one = PortMapping { host_ip: "10.0.0.1".into(), protocol: "UDP".into(), ..any.clone() };
        assert_eq!(place(&any), ("ports", "tcp . 8080".to_owned()));
        assert_eq!(place(&one), ("addresses", "10.0.0.1 . udp . 8080".to_owned()));
        let own = PortMapping { host_ip: "127.0.0.1".into(), ..any.clone() };
        assert_eq!([&any, &one, &own].map(is_of_loopback), [true, false, true]);
    }
}
