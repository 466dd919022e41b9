//! CPU options: fewer cores than a type has, or one thread for each.
//!
//! Source: EC2 user guide, "Rules for specifying CPU options", "Supported CPU options".
//! Deviation: the numbers of cores that are allowed are the even ones up to the type's own, as for most
//! of EC2's types; newer ones allow odd ones as well. Nothing here encrypts memory or runs machines in
//! instances: AMD SEV-SNP and nested virtualization are refused.

use aws_ec2::run_instances::CpuOptionsRequest;
use aws_wire::Fault;
use instance_types::InstanceType;

use crate::{faults, records::Cpus};

/// The cores that a type's instances may have.
pub(crate) fn valid_cores(kind: &InstanceType) -> Vec<u32> {
    let own = Cpus::of(kind).cores;
    match own > 2 && allows_options(kind) {
        true => (2..=own).step_by(2).filter(|it| *it != own).chain([own]).collect(),
        false => vec![own],
    }
}

pub(crate) fn valid_threads(kind: &InstanceType) -> Vec<u32> {
    let own = Cpus::of(kind).threads_per_core;
    if allows_options(kind) { (1..=own).collect() } else { vec![own] }
}

fn allows_options(kind: &InstanceType) -> bool {
    !kind.is_bare_metal && kind.family() != "t2"
}

/// What is asked for of a type; `None` where it is nothing.
pub(crate) fn wanted(
    kind: &InstanceType,
    asked: Option<&CpuOptionsRequest>,
) -> Result<Option<Cpus>, Fault> {
    let Some(asked) = asked else { return Ok(None) };
    refuse_features(kind, asked)?;
    let (cores, threads) = match (asked.core_count, asked.threads_per_core) {
        (None, None) => return Ok(None),
        (Some(cores), Some(threads)) => (cores, threads),
        _ => {
            return Err(Fault::new(
                "MissingParameter",
                "When specifying CpuOptions you must specify both CoreCount and ThreadsPerCore.",
            ));
        }
    };
    let name = kind.name;
    if !allows_options(kind) {
        return Err(faults::combination(format!(
            "CPU options are not supported for the instance type '{name}'."
        )));
    }
    let found = |all: Vec<u32>, it: i64| all.into_iter().find(|known| i64::from(*known) == it);
    let cores = found(valid_cores(kind), cores).ok_or_else(|| {
        faults::invalid(format!(
            "Value ({cores}) for parameter CpuOptions.CoreCount is invalid. The instance type \
             '{name}' allows: {}",
            listed(&valid_cores(kind))
        ))
    })?;
    let threads_per_core = found(valid_threads(kind), threads).ok_or_else(|| {
        faults::invalid(format!(
            "Value ({threads}) for parameter CpuOptions.ThreadsPerCore is invalid. The instance \
             type '{name}' allows: {}",
            listed(&valid_threads(kind))
        ))
    })?;
    Ok(Some(Cpus { cores, threads_per_core }))
}

fn refuse_features(kind: &InstanceType, asked: &CpuOptionsRequest) -> Result<(), Fault> {
    let refused = |what: &str| {
        Err(Fault::new(
            "Unsupported",
            format!("{what} is not supported for the instance type '{}' here.", kind.name),
        ))
    };
    for (name, what, value) in [
        ("AmdSevSnp", "AMD SEV-SNP", &asked.amd_sev_snp),
        ("NestedVirtualization", "Nested virtualization", &asked.nested_virtualization),
    ] {
        match value.as_deref() {
            None | Some("disabled") => {}
            Some("enabled") => return refused(what),
            Some(other) => return Err(faults::invalid_value(&format!("CpuOptions.{name}"), other)),
        }
    }
    Ok(())
}

fn listed(all: &[u32]) -> String {
    all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores_and_threads(name: &str) -> (Vec<u32>, Vec<u32>) {
        let kind = instance_types::find(name).unwrap();
        (valid_cores(kind), valid_threads(kind))
    }

    #[test]
    fn what_a_type_allows_is_what_ec2_documents() {
        assert_eq!(cores_and_threads("m5.large"), (vec![1], vec![1, 2]));
        assert_eq!(cores_and_threads("m5.xlarge"), (vec![2], vec![1, 2]));
        assert_eq!(cores_and_threads("m5.2xlarge"), (vec![2, 4], vec![1, 2]));
        assert_eq!(cores_and_threads("m5.4xlarge"), (vec![2, 4, 6, 8], vec![1, 2]));
        assert_eq!(cores_and_threads("m7a.large"), (vec![2], vec![1]));
        assert_eq!(cores_and_threads("t2.medium"), (vec![2], vec![1]));
    }
}
