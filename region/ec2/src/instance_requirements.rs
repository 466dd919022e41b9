//! Instance types by their attributes.
//!
//! Source: EC2 API reference, `InstanceRequirementsRequest`. As there, price protection is no part of this
//! answer: it is applied by who launches.
//! Deviation: a type whose bandwidth is not known matches no bound of it, GPUs are the only accelerators
//! that are known, and no type encrypts in transit. `BaselinePerformanceFactors` is not read.

use aws_ec2::instance_requirements::{
    DoubleRange, GetInstanceTypesFromInstanceRequirementsRequest,
    GetInstanceTypesFromInstanceRequirementsResponse, InstanceRequirementsRequest,
    InstanceTypeInfoFromInstanceRequirements, IntegerRange,
};
use aws_wire::Fault;
use instance_types::{Gpu, InstanceType};

use crate::{Call, faults, instances::hibernation, query, state::State, types};

pub(crate) fn types_of(
    _call: &Call<'_>,
    _state: &State,
    request: GetInstanceTypesFromInstanceRequirementsRequest,
) -> Result<GetInstanceTypesFromInstanceRequirementsResponse, Fault> {
    let wanted = &request.instance_requirements;
    check(&request)?;
    let is_of = |it: &&InstanceType| {
        request.architecture_types.iter().any(|name| name == it.arch.as_str())
            && request.virtualization_types.iter().any(|name| name == "hvm")
    };
    let found = types::offered().filter(is_of).filter(|it| matches(it, wanted)).collect();
    let max = Some(request.max_results.unwrap_or(1000).min(1000));
    let (found, next_token) = query::page(found, max, request.next_token.as_deref(), |it| it.name)?;
    let answer = |it: &InstanceType| InstanceTypeInfoFromInstanceRequirements {
        instance_type: Some(it.name.to_owned()),
    };
    let instance_types = found.into_iter().map(answer).collect();
    Ok(GetInstanceTypesFromInstanceRequirementsResponse { instance_types, next_token })
}

fn check(request: &GetInstanceTypesFromInstanceRequirementsRequest) -> Result<(), Fault> {
    let wanted = &request.instance_requirements;
    let least = |range: Option<IntegerRange>| range.and_then(|it| it.min);
    for (name, is_missing) in [
        ("ArchitectureType", request.architecture_types.is_empty()),
        ("VirtualizationType", request.virtualization_types.is_empty()),
        ("InstanceRequirements.VCpuCount.Min", least(wanted.v_cpu_count).is_none()),
        ("InstanceRequirements.MemoryMiB.Min", least(wanted.memory_mi_b).is_none()),
    ] {
        if is_missing {
            return Err(faults::missing(name));
        }
    }
    for (name, value) in [
        ("BareMetal", &wanted.bare_metal),
        ("BurstablePerformance", &wanted.burstable_performance),
        ("LocalStorage", &wanted.local_storage),
    ] {
        match value.as_deref() {
            None | Some("included" | "excluded" | "required") => {}
            Some(other) => return Err(faults::invalid_value(name, other)),
        }
    }
    if !wanted.allowed_instance_types.is_empty() && !wanted.excluded_instance_types.is_empty() {
        return Err(faults::combination(
            "AllowedInstanceTypes and ExcludedInstanceTypes cannot both be specified.",
        ));
    }
    Ok(())
}

/// Whether the type has all that is asked for.
fn matches(facts: &InstanceType, wanted: &InstanceRequirementsRequest) -> bool {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let is_burstable = facts.family().starts_with('t');
    within(wanted.v_cpu_count, facts.vcpus)
        && within(wanted.memory_mi_b, facts.memory_mib)
        && between(wanted.memory_gi_b_per_v_cpu, Some(memory_per_cpu(facts)))
        && any_or_one(&wanted.cpu_manufacturers, facts.cpu_manufacturer.map(manufacturer))
        && any_or_one(&wanted.instance_generations, Some(generation(facts)))
        && is_named(facts, wanted)
        && is_wanted(&text(&wanted.bare_metal), "excluded", facts.is_bare_metal)
        && is_wanted(&text(&wanted.burstable_performance), "excluded", is_burstable)
        && (wanted.require_hibernate_support != Some(true) || hibernation::is_supported(facts))
        && wanted.require_encryption_in_transit != Some(true)
        && within(wanted.network_interface_count, facts.enis)
        && has_bandwidth(facts, wanted)
        && has_storage(facts, wanted)
        && has_accelerators(facts, wanted)
}

fn has_bandwidth(facts: &InstanceType, wanted: &InstanceRequirementsRequest) -> bool {
    let gigabits = facts.network_bandwidth_mbps.map(thousandth);
    between(wanted.network_bandwidth_gbps, gigabits)
        && match (wanted.baseline_ebs_bandwidth_mbps, facts.ebs_bandwidth_mbps) {
            (None, _) => true,
            (asked, Some(known)) => within(asked, known),
            (Some(_), None) => false,
        }
}

/// All local disks are SSDs.
fn has_storage(facts: &InstanceType, wanted: &InstanceRequirementsRequest) -> bool {
    let has_disk = facts.local_nvme_gb > 0;
    let kinds = &wanted.local_storage_types;
    is_wanted(wanted.local_storage.as_deref().unwrap_or_default(), "included", has_disk)
        && (kinds.is_empty() || !has_disk || kinds.iter().any(|it| it == "ssd"))
        && between(wanted.total_local_storage_gb, Some(thousandth(facts.local_nvme_gb * 1000)))
}

fn has_accelerators(facts: &InstanceType, wanted: &InstanceRequirementsRequest) -> bool {
    let gpu = facts.gpu.as_ref();
    let text = |of: fn(&Gpu) -> &'static str| gpu.map(|it| of(it).to_ascii_lowercase());
    let total = gpu.map_or(0, |it| u64::from(it.count) * it.memory_mib);
    within(wanted.accelerator_count, gpu.map_or(0, |it| it.count))
        && any_or_one(&wanted.accelerator_types, gpu.map(|_| "gpu".to_owned()))
        && any_or_one(&wanted.accelerator_manufacturers, text(|it| it.manufacturer))
        && any_or_one(&wanted.accelerator_names, text(|it| it.name))
        && within(wanted.accelerator_total_memory_mi_b, total)
}

fn is_named(facts: &InstanceType, wanted: &InstanceRequirementsRequest) -> bool {
    let names = |patterns: &[String]| patterns.iter().any(|it| is_like(it, facts.name));
    let allowed = &wanted.allowed_instance_types;
    (allowed.is_empty() || names(allowed)) && !names(&wanted.excluded_instance_types)
}

/// `*` stands for any letters: `m5.*`, `r*`.
fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| is_like(tail, rest))
        }),
    }
}

fn is_wanted(asked: &str, default: &str, has: bool) -> bool {
    match if asked.is_empty() { default } else { asked } {
        "required" => has,
        "excluded" => !has,
        _ => true,
    }
}

fn any_or_one(asked: &[String], known: Option<String>) -> bool {
    asked.is_empty() || known.is_some_and(|known| asked.contains(&known))
}

fn within(range: Option<IntegerRange>, value: impl Into<u64>) -> bool {
    let value = i64::try_from(value.into()).unwrap_or(i64::MAX);
    range.is_none_or(|it| {
        it.min.is_none_or(|least| least <= value) && it.max.is_none_or(|most| value <= most)
    })
}

fn between(range: Option<DoubleRange>, value: Option<f64>) -> bool {
    range.is_none_or(|it| {
        value.is_some_and(|value| {
            it.min.is_none_or(|least| least <= value) && it.max.is_none_or(|most| value <= most)
        })
    })
}

/// As the requirements spell it.
fn manufacturer(name: &str) -> String {
    match name {
        "aws" => "amazon-web-services".to_owned(),
        other => other.to_owned(),
    }
}

fn generation(facts: &InstanceType) -> String {
    if types::is_current(facts) { "current" } else { "previous" }.to_owned()
}

fn memory_per_cpu(facts: &InstanceType) -> f64 {
    thousandth(facts.memory_mib * 1000 / 1024) / f64::from(facts.vcpus)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of machines are small")]
fn thousandth(it: u64) -> f64 {
    it as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: i64, max: i64) -> Option<IntegerRange> {
        Some(IntegerRange { min: Some(min), max: Some(max) })
    }

    fn sized() -> InstanceRequirementsRequest {
        InstanceRequirementsRequest {
            v_cpu_count: range(2, 2),
            memory_mi_b: range(8192, 8192),
            ..Default::default()
        }
    }

    fn has(wanted: &InstanceRequirementsRequest, name: &str) -> bool {
        matches(instance_types::find(name).unwrap(), wanted)
    }

    #[test]
    fn what_is_not_asked_for_leaves_out_metal_and_burstable_types_alone() {
        assert!(has(&sized(), "m5.large"));
        assert!(has(&sized(), "m5d.large"), "with a local disk too");
        assert!(!has(&sized(), "t3.large"));
        assert!(!has(&sized(), "c5.large"), "it has half of the memory");
        let burstable = Some("required".to_owned());
        let wanted = InstanceRequirementsRequest { burstable_performance: burstable, ..sized() };
        assert!(has(&wanted, "t3.large") && !has(&wanted, "m5.large"));
    }

    #[test]
    fn each_attribute_narrows_the_choice() {
        let list = |it: &str| vec![it.to_owned()];
        let required = || Some("required".to_owned());
        for (wanted, yes, no) in [
            (
                InstanceRequirementsRequest { cpu_manufacturers: list("amd"), ..sized() },
                "m5a.large",
                "m5.large",
            ),
            (
                InstanceRequirementsRequest { excluded_instance_types: list("m5*"), ..sized() },
                "m6i.large",
                "m5d.large",
            ),
            (
                InstanceRequirementsRequest { allowed_instance_types: list("m5.*"), ..sized() },
                "m5.large",
                "m5d.large",
            ),
            (
                InstanceRequirementsRequest { local_storage: required(), ..sized() },
                "m5d.large",
                "m5.large",
            ),
            (
                InstanceRequirementsRequest { require_hibernate_support: Some(true), ..sized() },
                "m5.large",
                "m6a.large",
            ),
            (
                InstanceRequirementsRequest {
                    v_cpu_count: range(1, 8),
                    memory_mi_b: range(1, 1 << 20),
                    accelerator_manufacturers: list("nvidia"),
                    accelerator_count: range(1, 1),
                    ..Default::default()
                },
                "g4dn.xlarge",
                "m5.large",
            ),
        ] {
            assert!(has(&wanted, yes), "{yes}: {wanted:?}");
            assert!(!has(&wanted, no), "{no}: {wanted:?}");
        }
    }

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, expected) in [
            ("m5.*", "m5.large", true),
            ("m5.*", "m5d.large", false),
            ("*.large", "m5d.large", true),
            ("r*", "r5.xlarge", true),
            ("m5.large", "m5.large", true),
            ("m5.l", "m5.large", false),
        ] {
            assert_eq!(is_like(pattern, name), expected, "{pattern} {name}");
        }
    }
}
