//! Instance types and where they are offered.
//!
//! The region offers what its hosts can run: x86-64. Deviation: every type is offered in every
//! zone.

use aws_ec2::instance_type::{
    DescribeInstanceTypeOfferingsRequest, DescribeInstanceTypeOfferingsResponse,
    DescribeInstanceTypesRequest, DescribeInstanceTypesResponse, DiskInfo, EbsInfo,
    EbsOptimizedInfo, GpuDeviceInfo, GpuDeviceMemoryInfo, GpuInfo, InstanceStorageInfo,
    InstanceTypeInfo, InstanceTypeOffering, MemoryInfo, NetworkCardInfo, NetworkInfo,
    PlacementGroupInfo, ProcessorInfo, VCpuInfo,
};
use aws_wire::Fault;
use instance_types::{Arch, Hypervisor, InstanceType};

use crate::{
    Call,
    instances::{cpu, hibernation},
    placement_groups,
    query::{self, Values, maybe, one},
    records::Cpus,
    state::State,
};

pub(crate) fn offered() -> impl Iterator<Item = &'static InstanceType> {
    instance_types::all().filter(|it| it.arch == Arch::X86_64)
}

pub(crate) fn describe(
    _call: &Call<'_>,
    _state: &State,
    request: DescribeInstanceTypesRequest,
) -> Result<DescribeInstanceTypesResponse, Fault> {
    let mut unknown =
        request.instance_types.iter().filter(|name| !offered().any(|it| it.name == **name));
    if let Some(name) = unknown.next() {
        return Err(Fault::new(
            "InvalidInstanceType",
            format!("The following supplied instance types do not exist: [{name}]"),
        ));
    }
    let asked = &request.instance_types;
    let mut found = Vec::new();
    for facts in offered().filter(|it| asked.is_empty() || asked.iter().any(|name| name == it.name))
    {
        if query::passes(&request.filters, query::no_tags(), |name| attribute(facts, name))? {
            found.push(facts);
        }
    }
    // EC2 never answers more than 100 at once.
    let max = Some(request.max_results.unwrap_or(100).min(100));
    let (found, next_token) = query::page(found, max, request.next_token.as_deref(), |it| it.name)?;
    let instance_types = found.into_iter().map(answer).collect();
    Ok(DescribeInstanceTypesResponse { instance_types, next_token })
}

fn attribute(facts: &InstanceType, name: &str) -> Values {
    match name {
        "instance-type" => one(facts.name),
        "bare-metal" => one(facts.is_bare_metal),
        "current-generation" => one(is_current(facts)),
        "burstable-performance-supported" => one(facts.family().starts_with('t')),
        "hibernation-supported" => one(hibernation::is_supported(facts)),
        "hypervisor" => maybe(hypervisor(facts)),
        "processor-info.supported-architecture" => one(facts.arch.as_str()),
        "vcpu-info.default-vcpus" => one(facts.vcpus),
        "vcpu-info.default-cores" => one(Cpus::of(facts).cores),
        "vcpu-info.default-threads-per-core" => one(Cpus::of(facts).threads_per_core),
        "vcpu-info.valid-cores" => query::many(cpu::valid_cores(facts)),
        "vcpu-info.valid-threads-per-core" => query::many(cpu::valid_threads(facts)),
        "placement-group-info.supported-strategies" => {
            query::many(placement_groups::strategies(facts))
        }
        "memory-info.size-in-mib" => one(facts.memory_mib),
        "network-info.maximum-network-interfaces" => one(facts.enis),
        "network-info.ipv4-addresses-per-interface" => one(facts.ipv4_per_eni),
        "network-info.ena-support" => one("required"),
        "instance-storage-supported" => one(facts.local_nvme_gb > 0),
        "supported-usage-class" => query::many(["on-demand", "spot"]),
        "supported-root-device-type" => one("ebs"),
        "supported-virtualization-type" => one("hvm"),
        "supported-boot-mode" => query::many(["legacy-bios", "uefi"]),
        "free-tier-eligible" => one(matches!(facts.name, "t2.micro" | "t3.micro")),
        _ => None,
    }
}

/// Whether AWS still lists the type among the current ones: by its generation.
pub(crate) fn is_current(facts: &InstanceType) -> bool {
    let generation = facts.family().chars().find_map(|it| it.to_digit(10)).unwrap_or(0);
    generation >= if facts.family().starts_with('t') { 2 } else { 4 }
}

fn hypervisor(facts: &InstanceType) -> Option<&'static str> {
    match facts.hypervisor {
        Hypervisor::Nitro => Some("nitro"),
        Hypervisor::Xen => Some("xen"),
        Hypervisor::None => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "megahertz and megabits are small")]
fn answer(facts: &'static InstanceType) -> InstanceTypeInfo {
    let texts = |it: &[&str]| it.iter().map(ToString::to_string).collect::<Vec<_>>();
    let cpus = Cpus::of(facts);
    let whole_numbers = |all: Vec<u32>| all.into_iter().map(i64::from).collect();
    InstanceTypeInfo {
        instance_type: Some(facts.name.to_owned()),
        current_generation: Some(is_current(facts)),
        supported_usage_classes: texts(&["on-demand", "spot"]),
        supported_root_device_types: texts(&["ebs"]),
        supported_virtualization_types: texts(&["hvm"]),
        bare_metal: Some(facts.is_bare_metal),
        hypervisor: hypervisor(facts).map(str::to_owned),
        processor_info: Some(ProcessorInfo {
            supported_architectures: texts(&[facts.arch.as_str()]),
            sustained_clock_speed_in_ghz: facts.cpu_mhz.map(|it| f64::from(it) / 1000.0),
            supported_features: Vec::new(),
            manufacturer: facts.cpu_manufacturer.map(str::to_owned),
        }),
        v_cpu_info: Some(VCpuInfo {
            default_v_cpus: Some(facts.vcpus.into()),
            default_cores: Some(cpus.cores.into()),
            default_threads_per_core: Some(cpus.threads_per_core.into()),
            valid_cores: whole_numbers(cpu::valid_cores(facts)),
            valid_threads_per_core: whole_numbers(cpu::valid_threads(facts)),
        }),
        memory_info: Some(MemoryInfo { size_in_mi_b: whole(facts.memory_mib) }),
        instance_storage_supported: Some(facts.local_nvme_gb > 0),
        instance_storage_info: storage(facts),
        ebs_info: Some(EbsInfo {
            ebs_optimized_support: Some("default".to_owned()),
            encryption_support: Some("supported".to_owned()),
            ebs_optimized_info: facts.ebs_bandwidth_mbps.map(|it| EbsOptimizedInfo {
                maximum_bandwidth_in_mbps: whole(it),
                maximum_throughput_in_m_bps: Some(it as f64 / 8.0),
                ..Default::default()
            }),
            nvme_support: Some("required".to_owned()),
            ..Default::default()
        }),
        network_info: Some(network(facts)),
        gpu_info: gpu(facts),
        placement_group_info: Some(PlacementGroupInfo {
            supported_strategies: placement_groups::strategies(facts)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }),
        hibernation_supported: Some(hibernation::is_supported(facts)),
        burstable_performance_supported: Some(facts.family().starts_with('t')),
        dedicated_hosts_supported: Some(false),
        auto_recovery_supported: Some(false),
        supported_boot_modes: texts(&["legacy-bios", "uefi"]),
        nitro_enclaves_support: Some("unsupported".to_owned()),
        nitro_tpm_support: Some("unsupported".to_owned()),
        ..Default::default()
    }
}

fn whole(value: u64) -> Option<i64> {
    i64::try_from(value).ok()
}

fn storage(facts: &InstanceType) -> Option<InstanceStorageInfo> {
    let size = whole(facts.local_nvme_gb).filter(|it| *it > 0)?;
    let disk = DiskInfo { size_in_gb: Some(size), count: Some(1), r#type: Some("ssd".to_owned()) };
    Some(InstanceStorageInfo {
        total_size_in_gb: Some(size),
        disks: vec![disk],
        nvme_support: Some("required".to_owned()),
        encryption_support: Some("required".to_owned()),
    })
}

#[expect(clippy::cast_precision_loss, reason = "megabits are small")]
fn network(facts: &InstanceType) -> NetworkInfo {
    let gigabits = facts.network_bandwidth_mbps.map(|it| it as f64 / 1000.0);
    let performance = gigabits.map_or("Moderate".to_owned(), |it| format!("{it} Gigabit"));
    let card = NetworkCardInfo {
        network_card_index: Some(0),
        network_performance: Some(performance.clone()),
        maximum_network_interfaces: Some(facts.enis.into()),
        baseline_bandwidth_in_gbps: gigabits,
        peak_bandwidth_in_gbps: gigabits,
        ..Default::default()
    };
    NetworkInfo {
        network_performance: Some(performance),
        maximum_network_interfaces: Some(facts.enis.into()),
        maximum_network_cards: Some(1),
        default_network_card_index: Some(0),
        network_cards: vec![card],
        ipv4_addresses_per_interface: Some(facts.ipv4_per_eni.into()),
        ipv6_addresses_per_interface: Some(facts.ipv4_per_eni.into()),
        ipv6_supported: Some(true),
        ena_support: Some("required".to_owned()),
        efa_supported: Some(false),
        encryption_in_transit_supported: Some(false),
        ..Default::default()
    }
}

fn gpu(facts: &InstanceType) -> Option<GpuInfo> {
    let gpu = facts.gpu.as_ref()?;
    let device = GpuDeviceInfo {
        name: Some(gpu.name.to_owned()),
        manufacturer: Some(gpu.manufacturer.to_owned()),
        count: Some(gpu.count.into()),
        memory_info: Some(GpuDeviceMemoryInfo { size_in_mi_b: whole(gpu.memory_mib) }),
        ..Default::default()
    };
    let total_gpu_memory_in_mi_b = whole(gpu.memory_mib * u64::from(gpu.count));
    Some(GpuInfo { gpus: vec![device], total_gpu_memory_in_mi_b })
}

pub(crate) fn describe_offerings(
    call: &Call<'_>,
    _state: &State,
    request: DescribeInstanceTypeOfferingsRequest,
) -> Result<DescribeInstanceTypeOfferingsResponse, Fault> {
    let kind = request.location_type.as_deref().unwrap_or("region");
    let config = call.config;
    let locations: Vec<&str> = match kind {
        "region" => vec![&config.region],
        "availability-zone" => config.zones.iter().map(|(name, _)| name.as_str()).collect(),
        "availability-zone-id" => config.zones.iter().map(|(_, id)| id.as_str()).collect(),
        other => return Err(crate::faults::invalid_value("locationType", other)),
    };
    let mut found = Vec::new();
    for facts in offered() {
        for location in &locations {
            let passes = query::passes(&request.filters, query::no_tags(), |name| match name {
                "instance-type" => one(facts.name),
                "location" => one(location),
                _ => None,
            })?;
            if passes {
                let offering = InstanceTypeOffering {
                    instance_type: Some(facts.name.to_owned()),
                    location_type: Some(kind.to_owned()),
                    location: Some((*location).to_owned()),
                };
                found.push((format!("{}/{location}", facts.name), offering));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let max = Some(request.max_results.unwrap_or(1000));
    let (page, next_token) =
        query::page(found, max, request.next_token.as_deref(), |(key, _)| key)?;
    let instance_type_offerings = page.into_iter().map(|(_, it)| it).collect();
    Ok(DescribeInstanceTypeOfferingsResponse { instance_type_offerings, next_token })
}
