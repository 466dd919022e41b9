//! Removes what a region made on this machine, without its daemon's help.
//!
//! Everything carries the region's id: cgroups lie below `nodestead/ID`, namespaces are called
//! `nst-ID-…`, mounts lie below the data directory. Links and nftables tables live in the
//! namespaces and go with them, but for those of a way out, which are called `nst-ID-…` too.
//!
//! **Invariant:** nothing else is touched, and a failure of one step does not keep the others from
//! being tried.

pub(crate) mod machine;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use linux_cgroup::Cgroup;

use crate::layout::Layout;

const KILL_LIMIT: Duration = Duration::from_secs(15);
/// The cgroup of all regions of the machine.
const ROOT_CGROUP: &str = "nodestead";

/// The cgroup below which all instances of a region live.
pub(crate) fn cgroup_path(id: &str) -> String {
    format!("{ROOT_CGROUP}/{id}")
}

/// How the names of a region's network namespaces begin.
pub(crate) fn netns_prefix(id: &str) -> String {
    format!("nst-{id}-")
}

/// Kills, unmounts and removes; gives what could not be done.
pub(crate) fn everything(layout: &Layout) -> Vec<anyhow::Error> {
    let mut failures = Vec::new();
    failures.extend(processes(&layout.id()).err());
    failures.extend(mounts(layout).err());
    failures.extend(namespaces(&layout.id()));
    failures.extend(way_out(&layout.id()).err());
    failures
}

/// What `--egress` put on the machine itself.
fn way_out(id: &str) -> anyhow::Result<()> {
    region_vpc::remove_egress(&netns_prefix(id), None).context("removing the way out")?;
    Ok(())
}

fn processes(id: &str) -> anyhow::Result<()> {
    let hierarchies = Arc::new(linux_cgroup::Layout::detect()?);
    let cgroup = Cgroup::new(hierarchies, &cgroup_path(id));
    if !cgroup.exists() {
        return Ok(());
    }
    cgroup.kill(KILL_LIMIT).context("killing the instances")?;
    cgroup.remove().context("removing the instances' cgroups")?;
    cgroup.remove_empty_parents();
    Ok(())
}

fn mounts(layout: &Layout) -> anyhow::Result<()> {
    linux_mount::unmount_tree(layout.root()).context("unmounting the instances' file systems")
}

fn namespaces(id: &str) -> Vec<anyhow::Error> {
    let prefix = netns_prefix(id);
    let names = match linux_netns::list() {
        Ok(names) => names,
        Err(error) => return vec![error.into()],
    };
    let ours = names.into_iter().filter(|name| name.starts_with(&prefix));
    ours.filter_map(|name| linux_netns::delete(&name).err()).map(Into::into).collect()
}
