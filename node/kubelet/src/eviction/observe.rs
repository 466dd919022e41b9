//! The signals as they are now.
//!
//! Upstream: `makeSignalObservations`.

use std::collections::BTreeMap;

use super::signal::{Disks, Signal};
use crate::stats::{
    Stats,
    model::{FsStats, NodeStats},
};

/// What is left, and of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub available: i64,
    pub capacity: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observations {
    pub signals: BTreeMap<Signal, Observation>,
    pub disks: Disks,
}

pub(super) async fn node(stats: &Stats) -> Observations {
    let now = stats.now();
    of(&stats.node(now, true).await)
}

fn of(node: &NodeStats) -> Observations {
    let mut signals = BTreeMap::new();
    let signed = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    let mut put = |signal, available: i64, capacity: i64| {
        signals.insert(signal, Observation { available, capacity });
    };
    if let Some(memory) = &node.memory
        && let Some(available) = memory.available_bytes
    {
        let capacity = available + memory.working_set_bytes;
        put(Signal::Memory, signed(available), signed(capacity));
    }
    let pods = node.system_containers.iter().find(|it| it.name == "pods");
    if let Some(memory) = pods.and_then(|it| it.memory.as_ref())
        && let Some(available) = memory.available_bytes
    {
        let capacity = available + memory.working_set_bytes;
        put(Signal::AllocatableMemory, signed(available), signed(capacity));
    }
    let image_fs = node.runtime.as_ref().and_then(|it| it.image_fs.as_ref());
    let systems = [
        (node.fs.as_ref(), Signal::NodeFs, Signal::NodeFsInodes),
        (image_fs, Signal::ImageFs, Signal::ImageFsInodes),
    ];
    for (fs, bytes, inodes) in systems {
        let Some(fs) = fs else { continue };
        put(bytes, signed(fs.available_bytes), signed(fs.capacity_bytes));
        // Some file systems have no fixed number of inodes, and say zero.
        if fs.inodes > 0 {
            put(inodes, signed(fs.inodes_free), signed(fs.inodes));
        }
    }
    if let Some(limit) = &node.rlimit {
        put(Signal::Pids, limit.maxpid - limit.curproc, limit.maxpid);
    }
    let container_fs = node.runtime.as_ref().and_then(|it| it.container_fs.as_ref());
    Observations { signals, disks: disks(node.fs.as_ref(), image_fs, container_fs) }
}

fn disks(node: Option<&FsStats>, images: Option<&FsStats>, layers: Option<&FsStats>) -> Disks {
    let (Some(node), Some(images)) = (node, images) else { return Disks::One };
    match layers {
        _ if is_same(node, images) => Disks::One,
        Some(layers) if is_same(node, layers) => Disks::Images,
        _ => Disks::Runtime,
    }
}

/// Two file systems of one size and number of inodes are the same one.
fn is_same(one: &FsStats, other: &FsStats) -> bool {
    (one.capacity_bytes, one.inodes) == (other.capacity_bytes, other.inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_told_apart_by_their_sizes() {
        let fs = |capacity_bytes| FsStats {
            time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH),
            available_bytes: 0,
            capacity_bytes,
            used_bytes: None,
            inodes_free: 0,
            inodes: 9,
            inodes_used: None,
        };
        let (node, other) = (fs(1), fs(2));
        let of = |images, layers| disks(Some(&node), images, layers);
        assert_eq!(of(Some(&node), Some(&node)), Disks::One);
        assert_eq!(of(None, None), Disks::One);
        assert_eq!(of(Some(&other), Some(&other)), Disks::Runtime);
        assert_eq!(of(Some(&other), Some(&node)), Disks::Images);
    }
}
