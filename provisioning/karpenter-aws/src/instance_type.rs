//! EC2 instance types as Karpenter sees them: labels, capacity, and what is left for pods.
//!
//! What is left has to be what the node's kubelet will say, or nodes are packed too full or not full
//! enough; the rules are those of the EKS-optimized images. Memory is taken to be 7.5 % less than
//! EC2 says (`VM_MEMORY_OVERHEAD_PERCENT`), on arm64 after 64 MiB for the hypervisor.
//!
//! Upstream: `pkg/providers/instancetype/types.go` of aws/karpenter-provider-aws. Deviation: no
//! labels of accelerators other than GPUs and of encryption in transit, which the table of types
//! lacks; EFA and Neuron devices are not counted.

use std::{collections::BTreeMap, sync::Arc};

use api_kube::karpenter::{capacity_types, labels};
use instance_types::{
    Arch, Hypervisor, InstanceType, kube_reserved_cpu_millis, kube_reserved_memory_mib,
};
use karpenter_core::{InstanceType as Kind, Offering, Reservation};
use resources::Amounts;

use crate::{Kubelet, Market, Zone, kubelet::Threshold, market::Reserved};

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
/// What virtualization keeps, in thousandths.
const MEMORY_OVERHEAD: i64 = 75;
/// What the hypervisor keeps on arm64.
const ARM_OVERHEAD_MIB: i64 = 64;
const DEFAULT_VOLUME: i64 = 20 * GIB;
const DEFAULT_EVICTION: i64 = 100 * MIB;
/// In percent.
const DEFAULT_EVICTION_OF_STORAGE: f64 = 10.0;

/// All types with a price, as a class with these settings offers them in the market.
pub fn instance_types(kubelet: &Kubelet, market: &Market) -> Arc<[Kind]> {
    instance_types::all().filter_map(|it| instance_type(it, kubelet, market)).collect()
}

fn instance_type(it: &InstanceType, kubelet: &Kubelet, market: &Market) -> Option<Kind> {
    let price = it.price?;
    let capacity = capacity(it, kubelet);
    let mut allocatable = capacity.clone();
    allocatable.subtract(&reserved(it, kubelet, &capacity));
    let offerings = market.zones.iter().flat_map(|zone| {
        let spot = market.spot_price(it.name, &zone.name, price);
        let sold = [(capacity_types::ON_DEMAND, Some(price)), (capacity_types::SPOT, spot)];
        sold.into_iter().filter_map(move |(capacity_type, price)| {
            let mut offering = Offering::new(&zone.name, capacity_type, price?);
            if let Some(id) = &zone.id {
                offering.labels.insert(labels::ZONE_ID.to_owned(), id.clone());
            }
            offering.is_available = market.is_available(it.name, &zone.name, capacity_type);
            Some(offering)
        })
    });
    let reserved = market.reservations.iter().filter(|room| room.instance_type == it.name);
    let reserved = reserved.filter_map(|room| {
        let zone = market.zones.iter().find(|zone| zone.name == room.zone)?;
        let mut offering = offering_of(room, zone, price);
        let kind = capacity_types::RESERVED;
        offering.is_available &= market.is_available(it.name, &zone.name, kind);
        Some(offering)
    });
    Some(Kind {
        name: it.name.into(),
        labels: labels_of(it, &market.region),
        offerings: offerings.chain(reserved).flat_map(|it| placed(it, market)).collect(),
        capacity,
        allocatable,
    })
}

/// One offering for each partition of the placement group, as pods may spread over them.
fn placed(mut offering: Offering, market: &Market) -> Vec<Offering> {
    let Some(group) = &market.group else { return vec![offering] };
    offering.labels.insert(labels::PLACEMENT_GROUP_ID.to_owned(), group.id.clone());
    let Some(partitions) = group.partitions else { return vec![offering] };
    let in_one = |number: u32| {
        let mut offering = offering.clone();
        let label = labels::PLACEMENT_GROUP_PARTITION.to_owned();
        offering.labels.insert(label, number.to_string());
        offering
    };
    (1..=partitions).map(in_one).collect()
}

fn offering_of(room: &Reserved, zone: &Zone, on_demand: f64) -> Offering {
    let reservation = Reservation { id: room.id.as_str().into(), left: room.left };
    let mut offering = Offering::reserved(&zone.name, reservation, on_demand);
    let id = zone.id.clone().map(|id| (labels::ZONE_ID, id));
    let of_reservation = [
        (labels::CAPACITY_RESERVATION_TYPE, room.kind.clone()),
        (labels::CAPACITY_RESERVATION_INTERRUPTIBLE, room.is_interruptible.to_string()),
    ];
    let all = id.into_iter().chain(of_reservation);
    offering.labels.extend(all.map(|(key, value)| (key.to_owned(), value)));
    offering
}

fn memory(it: &InstanceType) -> i64 {
    let mib = i64::try_from(it.memory_mib).unwrap_or(0);
    let mib = if it.arch == Arch::Arm64 { mib - ARM_OVERHEAD_MIB } else { mib };
    mib - (mib * MEMORY_OVERHEAD + 999) / 1000
}

/// How many pods a node may have.
fn pods(it: &InstanceType, kubelet: &Kubelet) -> u32 {
    let most = kubelet.max_pods.unwrap_or_else(|| it.max_pods());
    kubelet.pods_per_core.filter(|it| *it > 0).map_or(most, |per| most.min(per * it.vcpus))
}

fn capacity(it: &InstanceType, kubelet: &Kubelet) -> Amounts {
    let volume = kubelet.root_volume.unwrap_or(DEFAULT_VOLUME);
    let local = i64::try_from(it.local_nvme_gb).unwrap_or(0) * 1_000_000_000;
    let mut capacity = Amounts {
        cpu_millis: i64::from(it.vcpus) * 1000,
        memory: memory(it) * MIB,
        ephemeral_storage: if kubelet.uses_instance_store && local > 0 { local } else { volume },
        pods: i64::from(pods(it, kubelet)),
        scalars: BTreeMap::new(),
    };
    if it.branch_enis > 0 {
        let name = api_kube::vpc_resources::POD_ENI.to_owned();
        capacity.scalars.insert(name, i64::from(it.branch_enis));
    }
    if let Some(gpu) = &it.gpu {
        capacity.scalars.insert(format!("{}.com/gpu", gpu.manufacturer), i64::from(gpu.count));
    }
    capacity
}

/// What pods do not get: for the kubelet and the runtime, the system, and below the threshold at
/// which pods are evicted.
fn reserved(it: &InstanceType, kubelet: &Kubelet, capacity: &Amounts) -> Amounts {
    let pods = pods(it, kubelet);
    let mut reserved = Amounts {
        cpu_millis: i64::try_from(kube_reserved_cpu_millis(it.vcpus)).unwrap_or(0),
        memory: i64::try_from(kube_reserved_memory_mib(pods)).unwrap_or(0) * MIB,
        ephemeral_storage: GIB,
        ..Amounts::default()
    };
    for (name, amount) in &kubelet.kube_reserved {
        reserved.set(name, *amount);
    }
    reserved.add(&kubelet.system_reserved);
    let storage = capacity.ephemeral_storage;
    let default = share(storage, DEFAULT_EVICTION_OF_STORAGE);
    reserved.memory += most(&kubelet.eviction_memory, capacity.memory).unwrap_or(DEFAULT_EVICTION);
    reserved.ephemeral_storage += most(&kubelet.eviction_storage, storage).unwrap_or(default);
    reserved
}

/// Of several thresholds that which is met first.
fn most(thresholds: &[Threshold], of: i64) -> Option<i64> {
    let bytes = thresholds.iter().map(|it| match it {
        Threshold::Bytes(bytes) => *bytes,
        Threshold::Percent(percent) => share(of, *percent),
    });
    bytes.max()
}

/// A percentage of bytes, rounded up.
#[expect(clippy::cast_possible_truncation, reason = "bytes of a node are far below 2^52")]
fn share(of: i64, percent: f64) -> i64 {
    (of as f64 * percent / 100.0).ceil() as i64
}

fn labels_of(it: &InstanceType, region: &str) -> BTreeMap<String, String> {
    let family = it.family();
    let category: String = family.chars().take_while(char::is_ascii_alphabetic).collect();
    let generation = generation(family);
    let hypervisor = match it.hypervisor {
        Hypervisor::Nitro => "nitro",
        Hypervisor::Xen => "xen",
        Hypervisor::None => "",
    };
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            labels.insert(key.to_owned(), value);
        }
    };
    put(labels::INSTANCE_TYPE, it.name.to_owned());
    put(labels::ARCH, it.arch.kubernetes().to_owned());
    put(labels::OS, "linux".to_owned());
    put(labels::REGION, region.to_owned());
    put(labels::INSTANCE_CATEGORY, category);
    put(labels::INSTANCE_FAMILY, family.to_owned());
    put(labels::INSTANCE_GENERATION, generation);
    put(labels::INSTANCE_SIZE, it.size().to_owned());
    put(labels::INSTANCE_CPU, it.vcpus.to_string());
    put(labels::INSTANCE_MEMORY, it.memory_mib.to_string());
    put(labels::INSTANCE_HYPERVISOR, hypervisor.to_owned());
    put(labels::INSTANCE_CAPABILITY_FLEX, family.ends_with("-flex").to_string());
    put(labels::INSTANCE_TENANCY, "default".to_owned());
    put(labels::INSTANCE_CPU_MANUFACTURER, it.cpu_manufacturer.unwrap_or_default().to_owned());
    let number = |it: Option<u64>| it.map_or_else(String::new, |it| it.to_string());
    put(labels::INSTANCE_CPU_MHZ, number(it.cpu_mhz.map(u64::from)));
    put(labels::INSTANCE_EBS_BANDWIDTH, number(it.ebs_bandwidth_mbps));
    put(labels::INSTANCE_NETWORK_BANDWIDTH, number(it.network_bandwidth_mbps));
    put(labels::INSTANCE_LOCAL_NVME, number(Some(it.local_nvme_gb).filter(|it| *it > 0)));
    if let Some(gpu) = &it.gpu {
        put(labels::INSTANCE_GPU_NAME, gpu.name.to_owned());
        put(labels::INSTANCE_GPU_MANUFACTURER, gpu.manufacturer.to_owned());
        put(labels::INSTANCE_GPU_COUNT, gpu.count.to_string());
        put(labels::INSTANCE_GPU_MEMORY, gpu.memory_mib.to_string());
    }
    labels
}

/// `7` of `m7g`; `1` of `u-6tb1`.
fn generation(family: &str) -> String {
    let rest = family.trim_start_matches(|it: char| it.is_ascii_alphabetic());
    let rest = match rest.strip_prefix('-') {
        Some(size) => size.split_once("tb").map_or("", |(_, generation)| generation),
        None => rest,
    };
    rest.chars().take_while(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    fn market() -> Market {
        let zone = Zone { name: "us-east-1a".to_owned(), id: Some("use1-az1".to_owned()) };
        Market { region: "us-east-1".to_owned(), zones: vec![zone], ..Market::default() }
    }

    fn find(name: &str) -> Kind {
        let all = instance_types(&Kubelet::default(), &market());
        all.iter().find(|it| &*it.name == name).unwrap().clone()
    }

    #[test]
    fn what_is_left_for_pods_is_what_karpenter_documents() {
        for (name, cpu, memory, pods) in [
            ("m5.large", 1930, 6903, 29),
            ("c7g.large", 1930, 3055, 29),
            ("a1.2xlarge", 7910, 14103, 58),
            ("t3.micro", 1930, 548, 4),
        ] {
            let it = find(name).allocatable;
            assert_eq!((it.cpu_millis, it.memory / MIB, it.pods), (cpu, memory, pods), "{name}");
        }
    }

    #[test]
    fn labels_say_what_the_name_says() {
        let it = find("m7g.2xlarge").labels;
        for (key, value) in [
            (labels::INSTANCE_CATEGORY, "m"),
            (labels::INSTANCE_FAMILY, "m7g"),
            (labels::INSTANCE_GENERATION, "7"),
            (labels::INSTANCE_SIZE, "2xlarge"),
            (labels::INSTANCE_CPU, "8"),
            (labels::ARCH, "arm64"),
        ] {
            assert_eq!(it[key], value, "{key}");
        }
        assert_eq!((generation("u-6tb1"), generation("u7i-12tb")), ("1".into(), "7".into()));
    }

    #[test]
    fn spot_is_sold_where_it_has_a_price() {
        assert_eq!(find("m5.large").offerings.len(), 1);
        let with_spot = Market { spot_share: Some(0.4), ..market() };
        let all = instance_types(&Kubelet::default(), &with_spot);
        let it = all.iter().find(|it| &*it.name == "m5.large").unwrap();
        assert_eq!(it.offerings.len(), 2);
        assert!((it.offerings[1].price - 0.4 * 0.096).abs() < 1e-12);
    }

    #[test]
    fn a_type_is_offered_in_each_partition_of_its_placement_group() {
        let group = |partitions| Some(Group { id: "pg-1".to_owned(), partitions });
        let of = |partitions| {
            let market = Market { group: group(partitions), ..market() };
            let all = instance_types(&Kubelet::default(), &market);
            all.iter().find(|it| &*it.name == "m5.large").unwrap().offerings.clone()
        };
        let whole = of(None);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].labels[labels::PLACEMENT_GROUP_ID], "pg-1");
        let in_parts = of(Some(3));
        let numbers = in_parts.iter().map(|it| &it.labels[labels::PLACEMENT_GROUP_PARTITION]);
        assert_eq!(numbers.collect::<Vec<_>>(), ["1", "2", "3"]);
    }

    #[test]
    fn a_class_may_set_the_kubelet() {
        let class: api_kube::karpenter::Ec2NodeClass = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "a" }, "spec": { "kubelet": { "maxPods": 10,
                "systemReserved": { "cpu": "100m" }, "evictionHard": { "memory.available": "5%" } },
                "blockDeviceMappings": [{ "ebs": { "volumeSize": "100Gi" } }] } }))
        .unwrap();
        let all = instance_types(&Kubelet::of(&class), &market());
        let it = &all.iter().find(|it| &*it.name == "m5.large").unwrap().allocatable;
        assert_eq!((it.cpu_millis, it.pods), (1830, 10));
        assert_eq!(it.ephemeral_storage, 89 * GIB);
    }

    #[test]
    fn pods_do_not_get_what_is_below_the_threshold_that_is_met_first() {
        let of = |family: &str, kubelet: serde_json::Value| {
            let spec = serde_json::json!({ "kubelet": kubelet, "amiFamily": family,
                "blockDeviceMappings": [{ "rootVolume": true, "ebs": { "volumeSize": "100Gi" } }] });
            let class = serde_json::json!({ "metadata": { "name": "a" }, "spec": spec });
            let class = serde_json::from_value(class).unwrap();
            let all = instance_types(&Kubelet::of(&class), &market());
            let found = all.iter().find(|it| &*it.name == "m5.large").unwrap();
            (found.allocatable.memory, found.allocatable.ephemeral_storage)
        };
        let (memory, storage) = of("AL2023", serde_json::json!({}));
        assert_eq!(storage, 89 * GIB);
        let both = serde_json::json!({
            "evictionHard": { "nodefs.available": "20%", "memory.available": "100Mi" },
            "evictionSoft": { "nodefs.available": "30Gi", "memory.available": "1Gi" },
        });
        assert_eq!(of("AL2023", both.clone()), (memory - 924 * MIB, 69 * GIB));
        assert_eq!(of("Bottlerocket", both), (memory, 79 * GIB));
    }
}
