//! Resident memory and idle CPU of every process of ours.
//!
//! Memory is proportional (`Pss`): what processes share is counted once, divided among them.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{region::Region, rows::Row};

const WINDOW: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(15);
/// Clock ticks per second of /proc/PID/stat: `USER_HZ`, 100 on every architecture of Linux.
const TICKS: f64 = 100.0;

pub(crate) fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    // What the last step has begun comes to its end first.
    std::thread::sleep(SETTLE);
    let before = usage(region)?;
    let started = Instant::now();
    std::thread::sleep(WINDOW);
    let window = started.elapsed().as_secs_f64();
    let after = usage(region)?;
    let mut rows = Vec::new();
    for (name, now) in &after {
        let ticks = before.get(name).map_or(0, |it| now.ticks.saturating_sub(it.ticks));
        let mib = kib_to_mib(now.pss_kib) / f64::from(now.count);
        let cpu = f64::from(ticks) / TICKS / window * 100.0 / f64::from(now.count);
        rows.push(Row::new(
            format!("idle: {name} ({} processes)", now.count),
            format!("{mib:.1} MiB, {cpu:.2} % CPU each"),
            "-",
            budget(name),
        ));
    }
    Ok(rows)
}

/// A Deployment of the cluster: it is on this node or on another one.
const COREDNS: &str = "nodestead run cluster-dns";

/// Proportional memory and CPU of all components of ours that every node has, on one node, whose PID 1 is
/// `init`.
pub(crate) fn of_a_node(init: i64) -> anyhow::Result<(f64, f64)> {
    let count = || {
        let is_ours = |it: &(u32, String)| it.1.starts_with("nodestead") && it.1 != COREDNS;
        let ours = processes_of(init).into_iter().filter(is_ours);
        let used = ours.map(|(pid, _)| (pss_kib(pid), ticks_of(pid)));
        used.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    };
    let (_, before) = count();
    let started = Instant::now();
    std::thread::sleep(WINDOW);
    let window = started.elapsed().as_secs_f64();
    let (kib, after) = count();
    let cpu = f64::from(after.saturating_sub(before)) / TICKS / window * 100.0;
    Ok((kib_to_mib(kib), cpu))
}

/// Whether the node runs each of these.
pub(crate) fn has_all(init: i64, names: &[&str]) -> bool {
    let there = processes_of(init);
    names.iter().all(|name| there.iter().any(|it| it.1 == *name))
}

pub(crate) fn kubelet_of(init: i64) -> anyhow::Result<u32> {
    let found = processes_of(init).into_iter().find(|(_, name)| name == "nodestead run kubelet");
    found.map(|(pid, _)| pid).context("no kubelet")
}

pub(crate) fn shims_of(init: i64) -> usize {
    let all = processes_of(init).into_iter();
    all.filter(|(_, name)| name == "containerd-shim-runc-v2").count()
}

pub(crate) fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kib_to_mib(field(&status, "VmRSS:").unwrap_or(0))
}

/// The processes of an instance, by its PID namespace or one below it: those whose cgroup is the
/// instance's.
fn processes_of(init: i64) -> Vec<(u32, String)> {
    let cgroup = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let line =
            text.lines().find(|it| it.contains("/nodestead/")).unwrap_or_default().to_owned();
        line.split('/').skip(1).take(3).collect::<Vec<_>>().join("/")
    };
    let wanted = cgroup(&init.to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let text = file_name.to_string_lossy();
        let Ok(pid) = text.parse() else { continue };
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(name) = name(&line).filter(|_| cgroup(&text) == wanted) {
            found.push((pid, name));
        }
    }
    found
}

fn pss_kib(pid: u32) -> u32 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    field(&rollup, "Pss:").unwrap_or(0)
}

fn ticks_of(pid: u32) -> u32 {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(ticks).unwrap_or(0)
}

fn budget(name: &str) -> &'static str {
    match name {
        "nodestead daemon" => "150 MiB (control plane and region)",
        "nodestead run kubelet" | "nodestead run kube-proxy" | "nodestead run vpc-cni" => {
            "40 MiB all of a node's together"
        }
        _ => "-",
    }
}

#[derive(Default)]
struct Usage {
    count: u32,
    pss_kib: u32,
    ticks: u32,
}

/// By name: `nodestead run kubelet`, `containerd`, …: of the region's instances and its daemon.
fn usage(region: &Region) -> anyhow::Result<BTreeMap<String, Usage>> {
    let mut processes = vec![(region.daemon()?, "nodestead daemon".to_owned())];
    for instance in region.instances()? {
        processes.extend(processes_of(instance.pid));
    }
    let mut found: BTreeMap<String, Usage> = BTreeMap::new();
    for (pid, name) in processes {
        let usage = found.entry(name).or_default();
        usage.count += 1;
        usage.pss_kib += pss_kib(pid);
        usage.ticks += ticks_of(pid);
    }
    Ok(found)
}

fn name(command_line: &str) -> Option<String> {
    let mut words = command_line.split('\0');
    let program = words.next()?.rsplit('/').next()?;
    match program {
        "nodestead" => {
            let first = words.next()?;
            let second = if first == "run" { words.next()? } else { "" };
            Some(format!("nodestead {first} {second}").trim_end().to_owned())
        }
        "containerd" | "containerd-shim-runc-v2" => Some(program.to_owned()),
        _ => None,
    }
}

fn field(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// User and system time together.
fn ticks(stat: String) -> Option<u32> {
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?)
}

fn kib_to_mib(kib: u32) -> f64 {
    f64::from(kib) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_named_by_what_they_run() {
        assert_eq!(name("/a/nodestead\0run\0kubelet\0--config").unwrap(), "nodestead run kubelet");
        assert_eq!(name("/a/nodestead\0daemon\0--data-dir").unwrap(), "nodestead daemon");
        assert_eq!(name("/usr/bin/bash\0"), None);
    }
}
