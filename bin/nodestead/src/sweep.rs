//! Removes what a region made on this machine, without its daemon's help.
//!
//! Everything carries the region's id: cgroups lie below `nodestead/ID`, namespaces are called
//! `nst-ID-…`, mounts lie below the data directory, and what starts instances runs the region's own
//! copy of this program. Links and nftables tables live in the namespaces and go with them, but for
//! those of a way out, which are called `nst-ID-…` too.
//!
//! **Invariant:** nothing else is touched, and a failure of one step does not keep the others from
//! being tried.
//! **Invariant:** it ends only after a pass that found nothing: an instance that was being started
//! when its daemon died makes its cgroup while this runs.

pub(crate) mod leftovers;
pub(crate) mod machine;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use linux_cgroup::Cgroup;

use self::machine::Report;
use crate::layout::Layout;

const KILL_LIMIT: Duration = Duration::from_secs(60);
/// The cgroup of all regions of the machine.
const ROOT_CGROUP: &str = "nodestead";
/// Each pass that finds something has ended what could make more: two find something, if ever.
const PASSES: usize = 10;

/// The cgroup below which all instances of a region live.
pub(crate) fn cgroup_path(id: &str) -> String {
    format!("{ROOT_CGROUP}/{id}")
}

/// How the names of a region's network namespaces begin.
pub(crate) fn netns_prefix(id: &str) -> String {
    format!("nst-{id}-")
}

/// Kills, unmounts and removes.
pub(crate) fn everything(layout: &Layout) -> Report {
    let mut report = Report::default();
    for pass in 1..=PASSES {
        let found = once(layout);
        let is_last = found.removed.is_empty() || !found.failures.is_empty();
        report.removed.extend(found.removed);
        report.failures.extend(found.failures);
        if is_last {
            break;
        }
        if pass == PASSES {
            report.failures.push(anyhow::anyhow!("something makes anew what is removed"));
        }
    }
    report
}

fn once(layout: &Layout) -> Report {
    let id = layout.id();
    let prefix = netns_prefix(&id);
    let mut report = Report::default();
    // First those who start others.
    report.note(machine::starters(layout.root()));
    // Before single processes: PID 1 of an instance waits for all in it, the frozen too, which this thaws.
    report.note(cgroup(&id));
    report.note(machine::processes_in_namespaces(&prefix));
    report.note(machine::mounts(layout.root()).context("unmounting the instances' file systems"));
    machine::namespaces(&prefix, &mut report);
    report.note(machine::way_out(&prefix));
    report
}

fn cgroup(id: &str) -> anyhow::Result<Vec<String>> {
    let hierarchies = Arc::new(linux_cgroup::Layout::detect()?);
    let cgroup = Cgroup::new(hierarchies, &cgroup_path(id));
    if !cgroup.exists() {
        return Ok(Vec::new());
    }
    cgroup.kill(KILL_LIMIT).context("killing the instances")?;
    cgroup.remove().context("removing the instances' cgroups")?;
    cgroup.remove_empty_parents();
    Ok(vec![format!("cgroup {}", cgroup_path(id))])
}

#[cfg(test)]
mod tests;
