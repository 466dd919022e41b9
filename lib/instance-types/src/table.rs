//! The table of facts, parsed at its first use.

use std::{collections::BTreeMap, sync::OnceLock};

use crate::{Arch, Gpu, Hypervisor, InstanceType};

/// Tab-separated, one type per line, in the order in which [`parse`] reads the columns.
const TABLE: &str = include_str!("table.tsv");

/// The type of that name.
pub fn find(name: &str) -> Option<&'static InstanceType> {
    table().get(name)
}

/// All types, by name.
pub fn all() -> impl Iterator<Item = &'static InstanceType> {
    table().values()
}

fn table() -> &'static BTreeMap<&'static str, InstanceType> {
    static PARSED: OnceLock<BTreeMap<&'static str, InstanceType>> = OnceLock::new();
    PARSED.get_or_init(|| TABLE.lines().filter_map(parse).map(|it| (it.name, it)).collect())
}

fn parse(line: &'static str) -> Option<InstanceType> {
    let mut columns = line.split('\t');
    let name = columns.next()?;
    let arch = if columns.next()? == "a" { Arch::Arm64 } else { Arch::X86_64 };
    let mut next = || columns.next().unwrap_or_default();
    let vcpus = next().parse().ok()?;
    let memory_mib = next().parse().ok()?;
    let enis = next().parse().ok()?;
    let ipv4_per_eni = next().parse().ok()?;
    let network_cards = next().parse().unwrap_or(1);
    let hypervisor = match next() {
        "n" => Hypervisor::Nitro,
        "x" => Hypervisor::Xen,
        _ => Hypervisor::None,
    };
    Some(InstanceType {
        name,
        arch,
        vcpus,
        memory_mib,
        enis,
        ipv4_per_eni,
        network_cards,
        hypervisor,
        is_bare_metal: next() == "1",
        branch_enis: next().parse().unwrap_or(0),
        network_bandwidth_mbps: next().parse().ok(),
        ebs_bandwidth_mbps: next().parse().ok(),
        local_nvme_gb: next().parse().unwrap_or(0),
        cpu_manufacturer: Some(next()).filter(|it| !it.is_empty()),
        cpu_mhz: next().parse().ok(),
        gpu: gpu(next(), next(), next(), next()),
        price: next().parse().ok(),
    })
}

fn gpu(
    count: &'static str,
    name: &'static str,
    manufacturer: &'static str,
    memory_mib: &'static str,
) -> Option<Gpu> {
    let memory_mib = memory_mib.parse().unwrap_or(0);
    Some(Gpu { count: count.parse().ok()?, name, manufacturer, memory_mib })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_type() {
        assert_eq!(table().len(), TABLE.lines().count());
    }

    #[test]
    fn a_known_type_has_its_published_facts() {
        let large = find("m5.large").unwrap();
        assert_eq!((large.vcpus, large.memory_mib), (2, 8192));
        assert_eq!((large.enis, large.ipv4_per_eni, large.max_pods()), (3, 10, 29));
        assert_eq!((large.arch, large.price), (Arch::X86_64, Some(0.096)));
        assert_eq!((large.family(), large.size()), ("m5", "large"));
        assert_eq!(find("t3.medium").unwrap().max_pods(), 17);
        assert_eq!(find("m7g.large").unwrap().arch, Arch::Arm64);
        assert_eq!(find("m5.huge"), None);
    }
}
