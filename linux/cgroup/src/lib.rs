//! cgroup trees: found, made, filled, read and removed, on v1, v2 and hybrid machines.
//!
//! A [`Layout`] is what is mounted (one hierarchy on v2, about ten on v1). A [`Cgroup`] is one
//! relative path in all of them at once, so that callers need not know which machine they are on.
//!
//! **Invariant:** nothing but folders made by us is removed, and no process outside of the tree is
//! moved or signalled.

mod devices;
mod layout;
mod limits;
mod stats;
mod tree;

pub use self::{
    layout::{Hierarchy, Kind, Layout, Version},
    stats::{CpuStats, MemoryStats},
    tree::{Cgroup, Freeze},
};

use std::{io, path::PathBuf};

/// A cgroup file or folder that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("failed to read the mounted cgroup hierarchies")]
    Layout {
        #[source]
        source: io::Error,
    },
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    #[error("failed to {verb} `{}`", path.display())]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{count} processes in cgroup `{path}` did not end")]
    StillBusy { path: String, count: usize },
}
