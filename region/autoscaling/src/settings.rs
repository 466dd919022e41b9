//! Settings of a group of which few values mean anything here: what means nothing is refused.
//!
//! Source: API reference of `CreateAutoScalingGroup`, `UpdateAutoScalingGroup`; user guide, "Configure
//! deletion protection".

use aws_autoscaling::group::{
    AvailabilityZoneDistribution, CreateAutoScalingGroupRequest, UpdateAutoScalingGroupRequest,
};
use aws_wire::Fault;

use crate::faults;

const NONE: &str = "none";
const NO_FORCE: &str = "prevent-force-deletion";
const NOT_AT_ALL: &str = "prevent-all-deletion";
/// Load balancers and VPC Lattice tell nothing of a group that is behind none.
const HEALTH_CHECKS: [&str; 3] = ["EC2", "ELB", "VPC_LATTICE"];

/// Those that creations and updates have alike.
struct Settings<'a> {
    zone_ids: &'a [String],
    placement_group: Option<&'a str>,
    capacity_type: Option<&'a str>,
    distribution: Option<&'a AvailabilityZoneDistribution>,
    health_check_type: Option<&'a str>,
    deletion_protection: Option<&'a str>,
}

pub(crate) fn of_creation(request: &CreateAutoScalingGroupRequest) -> Result<(), Fault> {
    check(&Settings {
        zone_ids: &request.availability_zone_ids,
        placement_group: request.placement_group.as_deref(),
        capacity_type: request.desired_capacity_type.as_deref(),
        distribution: request.availability_zone_distribution.as_ref(),
        health_check_type: request.health_check_type.as_deref(),
        deletion_protection: request.deletion_protection.as_deref(),
    })
}

pub(crate) fn of_update(request: &UpdateAutoScalingGroupRequest) -> Result<(), Fault> {
    check(&Settings {
        zone_ids: &request.availability_zone_ids,
        placement_group: request.placement_group.as_deref(),
        capacity_type: request.desired_capacity_type.as_deref(),
        distribution: request.availability_zone_distribution.as_ref(),
        health_check_type: request.health_check_type.as_deref(),
        deletion_protection: request.deletion_protection.as_deref(),
    })
}

fn check(it: &Settings<'_>) -> Result<(), Fault> {
    if !it.zone_ids.is_empty() {
        return Err(faults::unsupported("Availability Zone IDs"));
    }
    if it.placement_group.is_some_and(|it| !it.is_empty()) {
        return Err(faults::unsupported("Placement groups of Auto Scaling groups"));
    }
    one_of("DesiredCapacityType", it.capacity_type, &["units"], &["vcpu", "memory-mib"])?;
    let strategy = it.distribution.and_then(|it| it.capacity_distribution_strategy.as_deref());
    one_of(
        "CapacityDistributionStrategy",
        strategy,
        &["balanced-best-effort"],
        &["balanced-only"],
    )?;
    for kind in it.health_check_type.into_iter().flat_map(|it| it.split(',')) {
        one_of("HealthCheckType", Some(kind), &HEALTH_CHECKS, &["EBS"])?;
    }
    one_of("DeletionProtection", it.deletion_protection, &[NONE, NO_FORCE, NOT_AT_ALL], &[])
}

fn one_of(name: &str, value: Option<&str>, good: &[&str], missing: &[&str]) -> Result<(), Fault> {
    match value {
        Some(it) if missing.contains(&it) => {
            Err(faults::unsupported(&format!("Groups with {name} {it}")))
        }
        Some(it) if !good.contains(&it) => {
            let all = [good, missing].concat().join(", ");
            Err(faults::validation(format!("Invalid {name}: {it}. Valid values: {all}")))
        }
        _ => Ok(()),
    }
}

/// Whether a group may be deleted so.
pub(crate) fn may_go(protection: Option<&str>, is_forced: bool) -> Result<(), Fault> {
    let is_kept = match protection {
        Some(NOT_AT_ALL) => true,
        Some(NO_FORCE) => is_forced,
        _ => false,
    };
    match is_kept {
        false => Ok(()),
        true => Err(faults::validation(format!(
            "You cannot delete the AutoScalingGroup: its deletion protection is {}.",
            protection.unwrap_or(NONE)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_nothing_follows_is_refused() {
        let distribution = |it: &str| {
            let capacity_distribution_strategy = Some(it.to_owned());
            Some(AvailabilityZoneDistribution { capacity_distribution_strategy })
        };
        let text = |it: &str| Some(it.to_owned());
        let of = CreateAutoScalingGroupRequest::default;
        for (request, words) in [
            (
                CreateAutoScalingGroupRequest {
                    availability_zone_ids: vec!["use1-az1".into()],
                    ..of()
                },
                "Availability Zone IDs are not supported",
            ),
            (
                CreateAutoScalingGroupRequest { placement_group: text("near"), ..of() },
                "Placement groups of",
            ),
            (
                CreateAutoScalingGroupRequest { desired_capacity_type: text("vcpu"), ..of() },
                "DesiredCapacityType vcpu are not supported",
            ),
            (
                CreateAutoScalingGroupRequest { desired_capacity_type: text("kilos"), ..of() },
                "Invalid DesiredCapacityType: kilos",
            ),
            (
                CreateAutoScalingGroupRequest {
                    availability_zone_distribution: distribution("balanced-only"),
                    ..of()
                },
                "balanced-only are not supported",
            ),
            (
                CreateAutoScalingGroupRequest { health_check_type: text("EC2,EBS"), ..of() },
                "HealthCheckType EBS are not supported",
            ),
            (
                CreateAutoScalingGroupRequest { health_check_type: text("HTTP"), ..of() },
                "Invalid HealthCheckType: HTTP",
            ),
            (
                CreateAutoScalingGroupRequest { deletion_protection: text("yes"), ..of() },
                "Invalid DeletionProtection: yes",
            ),
        ] {
            let fault = of_creation(&request).unwrap_err();
            assert_eq!(fault.code, "ValidationError");
            assert!(fault.message.contains(words), "{}", fault.message);
        }
        let usual = CreateAutoScalingGroupRequest {
            desired_capacity_type: text("units"),
            availability_zone_distribution: distribution("balanced-best-effort"),
            health_check_type: text("ELB"),
            deletion_protection: text(NO_FORCE),
            ..of()
        };
        assert!(of_creation(&usual).is_ok());
    }

    #[test]
    fn a_protected_group_stays_as_far_as_it_is_protected() {
        for (protection, by_force, otherwise) in [
            (None, true, true),
            (Some(NONE), true, true),
            (Some(NO_FORCE), false, true),
            (Some(NOT_AT_ALL), false, false),
        ] {
            assert_eq!(may_go(protection, true).is_ok(), by_force, "{protection:?}");
            assert_eq!(may_go(protection, false).is_ok(), otherwise, "{protection:?}");
        }
    }
}
