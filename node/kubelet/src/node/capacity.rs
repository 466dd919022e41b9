//! What this machine has, and what of it pods may use.
//!
//! CPUs are read from `/sys`, memory from `/proc/meminfo`: an instance shows those of its type there.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{config::KubeletConfiguration, quantity, settings::Settings};

const STORAGE: &str = "ephemeral-storage";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub cpus: i64,
    /// Bytes.
    pub memory: i64,
    pub swap: i64,
    /// Bytes of the file system that holds the kubelet's folder.
    pub storage: i64,
    /// Bytes by page size (`2Mi`).
    pub hugepages: BTreeMap<String, i64>,
    pub architecture: &'static str,
}

/// What pods may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocatable {
    pub cpu_milli: i64,
    pub memory: i64,
    pub storage: i64,
}

impl Machine {
    pub(crate) fn detect(settings: &Settings) -> Self {
        let online = fs::read_to_string(settings.sys.join("devices/system/cpu/online"));
        let cpuinfo = fs::read_to_string(settings.proc.join("cpuinfo")).unwrap_or_default();
        let listed = online.ok().and_then(|it| count_list(it.trim()));
        let meminfo = fs::read_to_string(settings.proc.join("meminfo")).unwrap_or_default();
        Self {
            cpus: listed.unwrap_or_else(|| count_processors(&cpuinfo)),
            memory: meminfo_bytes(&meminfo, "MemTotal").unwrap_or(0),
            swap: meminfo_bytes(&meminfo, "SwapTotal").unwrap_or(0),
            storage: file_system_size(Path::new(&settings.root_dir)),
            hugepages: hugepages(&settings.sys),
            architecture: architecture(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(cpus: i64, memory: i64) -> Self {
        Self { cpus, memory, storage: 1 << 40, architecture: architecture(), ..Self::default() }
    }

    pub(crate) fn capacity(&self, config: &KubeletConfiguration) -> BTreeMap<String, Quantity> {
        let mut list = BTreeMap::from([
            ("cpu".to_owned(), Quantity(self.cpus.to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", self.memory / 1024))),
            ("pods".to_owned(), Quantity(config.max_pods.to_string())),
        ]);
        if config.local_storage_capacity_isolation {
            list.insert(STORAGE.to_owned(), Quantity(format!("{}Ki", self.storage / 1024)));
        }
        for (size, bytes) in &self.hugepages {
            list.insert(format!("hugepages-{size}"), Quantity(quantity::binary(*bytes)));
        }
        list
    }

    /// The memory that all pods together may use: the capacity less what is reserved.
    pub(crate) fn allocatable_absolute(&self, config: &KubeletConfiguration) -> i64 {
        let lists = [&config.kube_reserved, &config.system_reserved];
        let reserved = lists.into_iter().filter_map(|it| quantity::parse(it.get("memory")?));
        (self.memory - reserved.sum::<i64>()).max(0)
    }

    /// The capacity less what is reserved, and less what eviction keeps free.
    pub(crate) fn allocatable(&self, config: &KubeletConfiguration) -> Allocatable {
        let reserved = |name: &str| -> i64 {
            let lists = [&config.kube_reserved, &config.system_reserved];
            let texts = lists.into_iter().filter_map(|it| it.get(name));
            texts
                .filter_map(|it| {
                    let quantity = Quantity(it.clone());
                    if name == "cpu" {
                        quantity::milli(&quantity)
                    } else {
                        quantity::value(&quantity)
                    }
                })
                .sum()
        };
        let reserved_cpu = match config.reserved_system_cpus.as_str() {
            "" => reserved("cpu"),
            // A list of CPUs stands for both amounts.
            list => count_list(list).unwrap_or(0) * 1000,
        };
        let kept = |signal: &str, capacity: i64| {
            let threshold = |it: &String| threshold(it, capacity);
            let hard = config.eviction_hard.get(signal);
            let hard = hard.filter(|_| !config.allocatable_ignores_eviction);
            hard.and_then(threshold).unwrap_or(0)
        };
        let pages: i64 = self.hugepages.values().sum();
        let memory = self.memory - reserved("memory") - kept("memory.available", self.memory);
        let storage = match config.local_storage_capacity_isolation {
            true => self.storage - reserved(STORAGE) - kept("nodefs.available", self.storage),
            false => 0,
        };
        Allocatable {
            cpu_milli: (self.cpus * 1000 - reserved_cpu).max(0),
            memory: (memory - pages).max(0),
            storage: storage.max(0),
        }
    }

    pub(crate) fn allocatable_list(
        &self,
        config: &KubeletConfiguration,
    ) -> BTreeMap<String, Quantity> {
        let allocatable = self.allocatable(config);
        let mut list = self.capacity(config);
        let cpu = match allocatable.cpu_milli {
            milli if milli % 1000 == 0 => (milli / 1000).to_string(),
            milli => format!("{milli}m"),
        };
        list.insert("cpu".to_owned(), Quantity(cpu));
        list.insert("memory".to_owned(), Quantity(format!("{}Ki", allocatable.memory / 1024)));
        if let Some(it) = list.get_mut(STORAGE) {
            *it = Quantity(allocatable.storage.to_string());
        }
        list
    }
}

/// An eviction threshold in bytes: an amount, or a percentage of the capacity.
pub(crate) fn threshold(text: &str, capacity: i64) -> Option<i64> {
    match text.strip_suffix('%') {
        None => quantity::parse(text),
        Some(percent) => {
            // In thousandths of a percent, which is finer than anyone writes.
            let thousandths = quantity::milli(&Quantity(percent.to_owned()))?;
            let bytes = i128::from(capacity) * i128::from(thousandths) / 100_000;
            i64::try_from(bytes).ok()
        }
    }
}

/// `0-3,8` names five.
fn count_list(text: &str) -> Option<i64> {
    let mut count = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i64, i64) = (first.parse().ok()?, last.parse().ok()?);
        count += last - first + 1;
    }
    Some(count)
}

fn count_processors(cpuinfo: &str) -> i64 {
    let count = cpuinfo.lines().filter(|it| it.starts_with("processor")).count();
    i64::try_from(count).unwrap_or(1).max(1)
}

pub(crate) fn meminfo_bytes(meminfo: &str, name: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: i64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

fn file_system_size(path: &Path) -> i64 {
    let existing = path.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    nix::sys::statvfs::statvfs(existing)
        .ok()
        .and_then(|it| i64::try_from(it.blocks() * it.fragment_size()).ok())
        .unwrap_or(0)
}

fn hugepages(sys: &Path) -> BTreeMap<String, i64> {
    let Ok(entries) = fs::read_dir(sys.join("kernel/mm/hugepages")) else {
        return BTreeMap::new();
    };
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kib: i64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        let count: i64 = count.trim().parse().ok()?;
        let size = match kib {
            kib if kib % (1 << 20) == 0 => format!("{}Gi", kib >> 20),
            kib if kib % (1 << 10) == 0 => format!("{}Mi", kib >> 10),
            kib => format!("{kib}Ki"),
        };
        Some((size, count * kib * 1024))
    };
    entries.flatten().filter_map(read).collect()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instances_shown_cpus_and_memory_are_what_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (proc, sys) = (folder.path().join("proc"), folder.path().join("sys"));
        fs::create_dir_all(sys.join("devices/system/cpu")).unwrap();
        fs::create_dir_all(&proc).unwrap();
        fs::write(sys.join("devices/system/cpu/online"), "0-15\n").unwrap();
        fs::write(proc.join("meminfo"), "MemTotal:       8000000 kB\nMemFree: 1 kB\n").unwrap();
        let settings =
            Settings { proc, sys, ..Settings::new(KubeletConfiguration::default(), "n") };
        let machine = Machine::detect(&settings);
        assert_eq!((machine.cpus, machine.memory), (16, 8_000_000 * 1024));
    }

    #[test]
    fn what_is_reserved_and_kept_free_is_not_allocatable() {
        let reserved = [("cpu", "70m"), ("memory", "574Mi")];
        let config = KubeletConfiguration {
            kube_reserved: reserved.map(|(k, v)| (k.into(), v.into())).into(),
            ..KubeletConfiguration::default()
        };
        let machine = Machine::of(2, 8 << 30);
        let allocatable = machine.allocatable(&config);
        assert_eq!(allocatable.cpu_milli, 1930);
        assert_eq!(allocatable.memory, (8 << 30) - (574 << 20) - (100 << 20));
        assert_eq!(allocatable.storage, (1 << 40) - (1_i64 << 40) / 10);
        let ignoring =
            KubeletConfiguration { allocatable_ignores_eviction: true, ..config.clone() };
        assert_eq!(machine.allocatable(&ignoring).memory, (8 << 30) - (574 << 20));
        let list = machine.allocatable_list(&config);
        assert_eq!(list["cpu"].0, "1930m");
        assert_eq!(list[STORAGE].0, allocatable.storage.to_string());
    }

    #[test]
    fn storage_that_is_not_counted_is_not_offered() {
        let config = KubeletConfiguration {
            local_storage_capacity_isolation: false,
            ..KubeletConfiguration::default()
        };
        let machine = Machine::of(2, 8 << 30);
        let lists = [machine.capacity(&config), machine.allocatable_list(&config)];
        assert!(lists.iter().all(|it| !it.contains_key(STORAGE)));
        assert_eq!(machine.allocatable(&config).storage, 0);
    }
}
