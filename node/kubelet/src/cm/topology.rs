//! The machine's CPUs and NUMA nodes, as `/sys/devices/system/{cpu,node}` shows them.
//!
//! An instance shows the tree of its instance type there, so a pod is given the CPUs that the type has.
//!
//! Upstream: `pkg/kubelet/cm/cpumanager/topology` and cAdvisor's machine information.
//!
//! **Invariant:** a tree without `topology` or `node` folders is one socket with one node, in which
//! every CPU is a core: nothing is guessed beyond that.

use std::{collections::BTreeMap, fs, path::Path};

use super::cpuset::CpuSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// The lowest CPU of the core, which names it uniquely.
    pub core: u32,
    pub socket: u32,
    pub numa: u32,
}

/// A NUMA node's memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumaNode {
    pub memory: u64,
    /// Bytes by page size (`2Mi`).
    pub hugepages: BTreeMap<String, u64>,
    /// To each node, in the order of their numbers.
    pub distances: Vec<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    pub cpus: BTreeMap<u32, Cpu>,
    pub nodes: BTreeMap<u32, NumaNode>,
}

impl Topology {
    pub(crate) fn read(sys: &Path, total_memory: u64) -> Self {
        let cpu_folder = sys.join("devices/system/cpu");
        let online = text(&cpu_folder.join("online"));
        let online = CpuSet::parse(&online).unwrap_or_default();
        let nodes = read_nodes(&sys.join("devices/system/node"), total_memory);
        let numa_of = |cpu: u32| nodes.iter().find(|(_, (cpus, _))| cpus.contains(cpu));
        let mut cpus = BTreeMap::new();
        for cpu in online.iter() {
            let folder = cpu_folder.join(format!("cpu{cpu}/topology"));
            let siblings = CpuSet::parse(&text(&folder.join("thread_siblings_list")));
            let siblings = siblings.unwrap_or_default().intersection(&online);
            let core = siblings.iter().next().unwrap_or(cpu);
            let socket = text(&folder.join("physical_package_id")).trim().parse().unwrap_or(0);
            let numa = numa_of(cpu).map_or(0, |(id, _)| *id);
            cpus.insert(cpu, Cpu { core, socket, numa });
        }
        Self { cpus, nodes: nodes.into_iter().map(|(id, (_, node))| (id, node)).collect() }
    }

    pub(crate) fn all(&self) -> CpuSet {
        self.cpus.keys().copied().collect()
    }

    pub(crate) fn node_ids(&self) -> Vec<u32> {
        self.nodes.keys().copied().collect()
    }

    /// The CPUs for which `is_in` says so.
    pub(crate) fn select(&self, is_in: impl Fn(&Cpu) -> bool) -> CpuSet {
        self.cpus.iter().filter(|(_, it)| is_in(it)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn in_nodes(&self, nodes: impl Fn(u32) -> bool) -> CpuSet {
        self.select(|it| nodes(it.numa))
    }

    fn count(&self, of: impl Fn(&Cpu) -> u32) -> usize {
        let distinct: std::collections::BTreeSet<u32> = self.cpus.values().map(of).collect();
        distinct.len()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.count(|it| it.socket)
    }

    pub(crate) fn numa_nodes(&self) -> usize {
        self.count(|it| it.numa)
    }

    pub(crate) fn cpus_per_core(&self) -> usize {
        self.cpus.len().checked_div(self.count(|it| it.core)).unwrap_or(1).max(1)
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn read_nodes(folder: &Path, total_memory: u64) -> BTreeMap<u32, (CpuSet, NumaNode)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut nodes = BTreeMap::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix("node").and_then(|it| it.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path();
        let cpus = CpuSet::parse(&text(&path.join("cpulist"))).unwrap_or_default();
        let memory = node_memory(&text(&path.join("meminfo")));
        let hugepages = hugepages(&path.join("hugepages"));
        let distances = text(&path.join("distance"));
        let distances = distances.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        nodes.insert(id, (cpus, NumaNode { memory: memory.unwrap_or(0), hugepages, distances }));
    }
    if nodes.is_empty() {
        nodes.insert(0, (CpuSet::default(), NumaNode::default()));
    }
    // What the tree does not say of its only node, `/proc/meminfo` does.
    if nodes.len() == 1 {
        for (_, node) in nodes.values_mut().filter(|(_, it)| it.memory == 0) {
            node.memory = total_memory;
        }
    }
    nodes
}

/// `Node 0 MemTotal: 1024 kB`
fn node_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|it| it.contains("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().rev().find_map(|it| it.parse().ok())?;
    Some(kib * 1024)
}

fn hugepages(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count: u64 = text(&entry.path().join("nr_hugepages")).trim().parse().ok()?;
        Some((page_size(kib * 1024), count * kib * 1024))
    };
    entries.filter_map(read).collect()
}

/// As resource names have it: `hugepages-2Mi`.
pub(crate) fn page_size(bytes: u64) -> String {
    match bytes {
        it if it % (1 << 30) == 0 => format!("{}Gi", it >> 30),
        it if it % (1 << 20) == 0 => format!("{}Mi", it >> 20),
        it => format!("{}Ki", it >> 10),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `sockets` sockets with `nodes` NUMA nodes each, of `cores` cores with two threads, numbered as
    /// the kernel numbers them: first one thread of every core, then the other.
    pub(crate) fn machine(sockets: u32, nodes: u32, cores: u32) -> Topology {
        let all = sockets * nodes * cores;
        let mut topology = Topology::default();
        for core in 0..all {
            let cpu = Cpu { core, socket: core / (nodes * cores), numa: core / cores };
            topology.cpus.insert(core, cpu);
            topology.cpus.insert(core + all, cpu);
        }
        for id in 0..sockets * nodes {
            let distances = (0..sockets * nodes).map(|to| if to == id { 10 } else { 20 }).collect();
            let node = NumaNode { memory: 8 << 30, hugepages: BTreeMap::new(), distances };
            topology.nodes.insert(id, node);
        }
        topology
    }

    #[test]
    fn threads_sockets_nodes_and_their_memory_are_read_from_sys() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join("devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("cpu/online", "0-3\n");
        for (cpu, siblings, socket) in [(0, "0,2", 0), (1, "1,3", 1), (2, "0,2", 0), (3, "1,3", 1)]
        {
            put(&format!("cpu/cpu{cpu}/topology/thread_siblings_list"), siblings);
            put(&format!("cpu/cpu{cpu}/topology/physical_package_id"), &socket.to_string());
        }
        put("node/node0/cpulist", "0,2\n");
        put("node/node1/cpulist", "1,3\n");
        put("node/node1/meminfo", "Node 1 MemTotal:       2048 kB\nNode 1 MemFree: 1 kB\n");
        put("node/node1/hugepages/hugepages-2048kB/nr_hugepages", "3\n");
        put("node/node1/distance", "21 10\n");
        let topology = Topology::read(folder.path(), 1 << 30);
        assert_eq!(topology.cpus[&3], Cpu { core: 1, socket: 1, numa: 1 });
        assert_eq!((topology.sockets(), topology.numa_nodes()), (2, 2));
        assert_eq!(topology.cpus_per_core(), 2);
        let node = &topology.nodes[&1];
        assert_eq!((node.memory, node.hugepages["2Mi"]), (2 << 20, 6 << 20));
        assert_eq!(node.distances, [21, 10]);
    }

    #[test]
    fn a_bare_tree_is_one_node_with_all_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("devices/system/cpu")).unwrap();
        fs::write(folder.path().join("devices/system/cpu/online"), "0-1").unwrap();
        let topology = Topology::read(folder.path(), 1 << 30);
        assert_eq!((topology.cpus_per_core(), topology.numa_nodes()), (1, 1));
        assert_eq!(topology.nodes[&0].memory, 1 << 30);
    }
}
