//! The hardware that an instance shows: its type's CPUs and memory, not the machine's.
//!
//! Upstream's kubelet reads memory from `/proc/meminfo` and CPUs from `/sys/devices/system`; other
//! programs count `processor` lines in `/proc/cpuinfo`. All of them are files here, generated into
//! the instance's folder and bound over the kernel's.
//!
//! Deviation: memory is shown as the type has it. On EC2 the firmware and the kernel keep some 5 to
//! 7 % of it, so a pod that only just fits here may not fit there.

use std::{fmt::Write as _, fs, path::Path};

use crate::state::{FileError, make_folder, write};

/// The sysctls that a kubelet writes and that are not per namespace: the instance gets private
/// files, so that they do not change on the machine.
pub(crate) const PRIVATE_SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// An instance's processors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    pub(crate) count: u32,
    /// Two, as most of EC2's x86 types have, or one.
    pub(crate) threads_per_core: u32,
}

/// Writes everything that is bound into the instance below `folder`.
pub(crate) fn generate(folder: &Path, cpus: Cpus, memory_bytes: u64) -> Result<(), FileError> {
    make_folder(folder)?;
    write(&folder.join("meminfo"), meminfo(memory_bytes).as_bytes())?;
    // The machine's swap is none of the instance's: a kubelet does not start where there is some.
    write(&folder.join("swaps"), b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")?;
    let host = fs::read_to_string("/proc/cpuinfo")
        .map_err(FileError::io("read", Path::new("/proc/cpuinfo")))?;
    write(&folder.join("cpuinfo"), cpuinfo(&host, cpus).as_bytes())?;
    tree(&folder.join("cpu"), &cpu_files(cpus))?;
    tree(&folder.join("node"), &node_files(cpus, memory_bytes))?;
    for name in PRIVATE_SYSCTLS {
        private_sysctl(folder, name)?;
    }
    Ok(())
}

/// The file that stands for the sysctl `name` (`vm/panic_on_oom`).
pub(crate) fn sysctl_file(name: &str) -> String {
    format!("sysctl-{}", name.replace('/', "-"))
}

/// A private sysctl begins with the machine's value and keeps what the instance makes of it.
fn private_sysctl(folder: &Path, name: &str) -> Result<(), FileError> {
    let file = folder.join(sysctl_file(name));
    if file.exists() {
        return Ok(());
    }
    let kernel = Path::new("/proc/sys").join(name);
    match fs::read(&kernel) {
        Ok(value) => write(&file, &value),
        // Not every kernel has all of them.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::io("read", &kernel)(error)),
    }
}

fn tree(folder: &Path, files: &[(String, String)]) -> Result<(), FileError> {
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        write(&path, content.as_bytes())?;
    }
    Ok(())
}

fn meminfo(bytes: u64) -> String {
    let total = bytes / 1024;
    let free = total / 100 * 95;
    let mut text = String::new();
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("Hugepagesize", 2048),
    ];
    for (name, value) in lines {
        let label = format!("{name}:");
        writeln!(text, "{label:<16}{value:>8} kB").expect("writing to a string does not fail");
        if name == "Slab" {
            text.push_str("HugePages_Total:       0\nHugePages_Free:        0\n");
        }
    }
    text
}

/// The first processor of the machine, as often as the instance has vCPUs.
fn cpuinfo(host: &str, cpus: Cpus) -> String {
    let Cpus { count: vcpus, threads_per_core } = cpus;
    let sample = host.split("\n\n").next().unwrap_or_default();
    let mut text = String::new();
    for cpu in 0..vcpus {
        for line in sample.lines() {
            let (key, _) = line.split_once(':').unwrap_or((line, ""));
            let value = match key.trim() {
                "processor" => Some(cpu),
                "core id" => Some(cpu / threads_per_core),
                "apicid" | "initial apicid" => Some(cpu),
                "physical id" => Some(0),
                "siblings" => Some(vcpus),
                "cpu cores" => Some(vcpus.div_ceil(threads_per_core)),
                _ => None,
            };
            match value {
                Some(value) => text.push_str(&format!("{key}: {value}\n")),
                None => text.push_str(&format!("{line}\n")),
            }
        }
        text.push('\n');
    }
    text
}

fn range(vcpus: u32) -> String {
    if vcpus <= 1 { "0\n".to_owned() } else { format!("0-{}\n", vcpus - 1) }
}

fn cpu_files(cpus: Cpus) -> Vec<(String, String)> {
    let Cpus { count: vcpus, threads_per_core } = cpus;
    let mut files: Vec<_> =
        ["online", "possible", "present"].map(|name| (name.to_owned(), range(vcpus))).to_vec();
    files.push(("offline".to_owned(), "\n".to_owned()));
    files.push(("isolated".to_owned(), "\n".to_owned()));
    files.push(("kernel_max".to_owned(), format!("{}\n", vcpus.max(1) - 1)));
    for cpu in 0..vcpus {
        let core = cpu / threads_per_core;
        let first = core * threads_per_core;
        let last = (first + threads_per_core).min(vcpus) - 1;
        let siblings = if first == last { format!("{first}") } else { format!("{first}-{last}") };
        let topology = [
            ("core_id", core.to_string()),
            ("physical_package_id", "0".to_owned()),
            ("die_id", "0".to_owned()),
            ("thread_siblings_list", siblings.clone()),
            ("core_cpus_list", siblings),
            ("core_siblings_list", range(vcpus).trim().to_owned()),
            ("package_cpus_list", range(vcpus).trim().to_owned()),
        ];
        for (name, value) in topology {
            files.push((format!("cpu{cpu}/topology/{name}"), format!("{value}\n")));
        }
        files.push((format!("cpu{cpu}/online"), "1\n".to_owned()));
    }
    files
}

/// One NUMA node. A kubelet counts its `cpuN` folders and reads `meminfo` and `distance`.
fn node_files(cpus: Cpus, memory_bytes: u64) -> Vec<(String, String)> {
    let kib = memory_bytes / 1024;
    let memory = format!(
        "Node 0 MemTotal: {kib} kB\nNode 0 MemFree: {} kB\nNode 0 HugePages_Total: 0\n",
        kib / 100 * 95
    );
    let pages = "node0/hugepages/hugepages-2048kB";
    let mut files = vec![
        ("online".to_owned(), "0\n".to_owned()),
        ("possible".to_owned(), "0\n".to_owned()),
        ("has_cpu".to_owned(), "0\n".to_owned()),
        ("has_memory".to_owned(), "0\n".to_owned()),
        ("node0/cpulist".to_owned(), range(cpus.count)),
        ("node0/distance".to_owned(), "10\n".to_owned()),
        ("node0/meminfo".to_owned(), memory),
        (format!("{pages}/nr_hugepages"), "0\n".to_owned()),
        (format!("{pages}/free_hugepages"), "0\n".to_owned()),
        (format!("{pages}/surplus_hugepages"), "0\n".to_owned()),
    ];
    for (name, content) in cpu_files(cpus) {
        if name.starts_with("cpu") {
            files.push((format!("node0/{name}"), content));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_processors_are_shown_where_the_machine_has_one() {
        let host =
            "processor\t: 0\nmodel name\t: X: Y\nsiblings\t: 1\ncore id\t\t: 0\n\nprocessor\t: 1\n";
        let text = cpuinfo(host, Cpus { count: 16, threads_per_core: 2 });
        assert_eq!(text.matches("processor\t:").count(), 16);
        assert_eq!(text.matches("model name\t: X: Y").count(), 16);
        assert!(text.contains("processor\t: 15\n"));
        assert!(text.contains("siblings\t: 16\n"));
        assert!(text.contains("core id\t\t: 7\n"));
    }

    #[test]
    fn memory_is_shown_in_the_kernels_form() {
        let text = meminfo(8 << 30);
        assert!(text.starts_with("MemTotal:        8388608 kB\n"), "{text}");
        assert!(text.contains("HugePages_Total:       0\n"));
    }

    #[test]
    fn a_core_has_two_threads_and_the_last_of_an_odd_number_one() {
        let files = cpu_files(Cpus { count: 3, threads_per_core: 2 });
        let file = |name: &str| files.iter().find(|(it, _)| it == name).unwrap().1.clone();
        assert_eq!(file("online"), "0-2\n");
        assert_eq!(file("cpu1/topology/thread_siblings_list"), "0-1\n");
        assert_eq!(file("cpu2/topology/thread_siblings_list"), "2\n");
        assert_eq!(file("cpu2/topology/core_id"), "1\n");
    }

    #[test]
    fn with_one_thread_each_processor_is_a_core() {
        let cpus = Cpus { count: 2, threads_per_core: 1 };
        let files = cpu_files(cpus);
        let file = |name: &str| files.iter().find(|(it, _)| it == name).unwrap().1.clone();
        assert_eq!(file("cpu1/topology/core_id"), "1\n");
        assert_eq!(file("cpu1/topology/thread_siblings_list"), "1\n");
        let text = cpuinfo("processor\t: 0\ncpu cores\t: 4\n", cpus);
        assert_eq!(text.matches("cpu cores\t: 2").count(), 2, "{text}");
    }
}
