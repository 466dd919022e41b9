//! The way from the node's own loopback to a pod: for host ports of 127.0.0.1.
//!
//! What the node sends to 127.0.0.1 and is translated leaves by the pod's link, and answers come back by
//! it, only if that link has `route_localnet`. That would also let the pod reach what listens on the
//! node's loopback, so the guard comes first: what arrives from anywhere for 127.0.0.0/8 is dropped
//! before it is translated. Answers are addressed to the node by then.
//!
//! Upstream: the `portmap` plug-in sets it on the same link; the kubelet's `KUBE-FIREWALL` is the guard.

use std::io;

use linux_nftables::{ApplyError, Chain, ChainKind, Family, Hook, HookPoint, Nft, Table, priority};

const TABLE: &str = "aws-cni-localnet";

#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalnetError {
    #[error("failed to guard the node's loopback")]
    Guard {
        #[source]
        source: ApplyError,
    },
    #[error("failed to enable `{path}`")]
    Sysctl {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Opens the way by a pod's link, which is of the node's namespace.
pub(crate) fn open(link: &str) -> Result<(), LocalnetError> {
    guard(&Nft::here()).map_err(|source| LocalnetError::Guard { source })?;
    let path = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
    std::fs::write(&path, "1").map_err(|source| LocalnetError::Sysctl { path, source })
}

pub(crate) fn is_guarded(nft: &Nft) -> Result<bool, ApplyError> {
    nft.has_table(Family::Ip, TABLE)
}

fn guard(nft: &Nft) -> Result<(), ApplyError> {
    if is_guarded(nft)? {
        return Ok(());
    }
    let mut table = Table::new(Family::Ip, TABLE);
    let hook = Hook::new(ChainKind::Filter, HookPoint::Prerouting, priority::RAW);
    table.chains.insert("prerouting".into(), Chain::hooked(hook));
    table.chain("prerouting").rule("iifname != \"lo\" ip daddr 127.0.0.0/8 drop");
    nft.replace(&table)
}
