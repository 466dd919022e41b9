//! Attribute-based selection of instance types: what the overrides' requirements come to, through EC2.
//!
//! Source: user guide, "Create a mixed instances group using attribute-based instance type selection".
//! Price protection is applied here: types much dearer than the cheapest current C, M or R type that
//! meets the requirements are left out.
//! Deviation: Spot prices are taken for those of On-Demand, as in `plan/mixed.rs`.

use aws_autoscaling::instance_requirements::InstanceRequirements;
use aws_ec2::instance_requirements::{
    GetInstanceTypesFromInstanceRequirements, GetInstanceTypesFromInstanceRequirementsRequest,
    InstanceRequirementsRequest,
};
use aws_wire::{CallError, Client, Fault};

use crate::{
    faults,
    plan::mixed,
    records::{Alternative, Group},
};

/// As many types are tried for one launch.
const MOST_TYPES: usize = 30;
/// Percent above the cheapest that a type may cost unless something else is said.
const ON_DEMAND_PROTECTION: i64 = 20;
const SPOT_PROTECTION: i64 = 100;

/// The types that may be launched now, the best first.
pub(crate) async fn alternatives(
    ec2: &Client,
    group: &Group,
    is_spot: bool,
) -> Result<Vec<Alternative>, CallError> {
    if !mixed::has_requirements(group) {
        return Ok(mixed::alternatives(group, is_spot));
    }
    let mut found = Vec::new();
    for given in mixed::overrides(group) {
        let Some(wanted) = &given.instance_requirements else { continue };
        let types = affordable(types(ec2, wanted).await?, wanted, is_spot);
        found.extend(types.into_iter().map(|name| Alternative {
            instance_type: Some(name),
            image_id: given.image_id.clone(),
            weight: mixed::weight(given),
        }));
    }
    mixed::sort(&mut found, group, is_spot);
    found.truncate(MOST_TYPES);
    match found.is_empty() {
        false => Ok(found),
        true => Err(CallError::Service {
            service: "autoscaling",
            action: "Launch",
            fault: faults::validation("No instance types meet the instance requirements."),
        }),
    }
}

/// Refuses requirements that EC2 would.
pub(crate) async fn check(ec2: &Client, wanted: &InstanceRequirements) -> Result<(), Fault> {
    match types(ec2, wanted).await {
        Ok(found) if found.is_empty() => {
            Err(faults::validation("No instance types meet the instance requirements."))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(faults::of_call(&error)),
    }
}

async fn types(ec2: &Client, wanted: &InstanceRequirements) -> Result<Vec<String>, CallError> {
    let mut request = GetInstanceTypesFromInstanceRequirementsRequest {
        architecture_types: vec!["x86_64".to_owned()],
        virtualization_types: vec!["hvm".to_owned()],
        instance_requirements: asked(wanted)?,
        ..Default::default()
    };
    let mut found = Vec::new();
    loop {
        let page = ec2.call::<GetInstanceTypesFromInstanceRequirements>(request.clone()).await?;
        found.extend(page.instance_types.into_iter().filter_map(|it| it.instance_type));
        request.next_token = page.next_token;
        if request.next_token.is_none() {
            return Ok(found);
        }
    }
}

/// The two services spell their lists differently, and EC2's shape reads both.
fn asked(wanted: &InstanceRequirements) -> Result<InstanceRequirementsRequest, CallError> {
    let same = serde_json::to_value(wanted).and_then(serde_json::from_value);
    same.map_err(|error| CallError::Service {
        service: "autoscaling",
        action: "Launch",
        fault: Fault::internal(error.to_string()),
    })
}

/// Those within the price protection; whose price is not known is left out unless all are.
fn affordable(types: Vec<String>, wanted: &InstanceRequirements, is_spot: bool) -> Vec<String> {
    let common = types.iter().filter(|it| it.starts_with(['c', 'm', 'r']));
    let least = cheapest(common).or_else(|| cheapest(types.iter()));
    let Some(least) = least else { return types };
    let above = match (is_spot, wanted.max_spot_price_as_percentage_of_optimal_on_demand_price) {
        (true, Some(share)) => share - 100,
        (true, None) => {
            wanted.spot_max_price_percentage_over_lowest_price.unwrap_or(SPOT_PROTECTION)
        }
        (false, _) => {
            wanted.on_demand_max_price_percentage_over_lowest_price.unwrap_or(ON_DEMAND_PROTECTION)
        }
    };
    let most = least * (1.0 + f64::from(i32::try_from(above).unwrap_or(i32::MAX)) / 100.0);
    // A share of a price is never exact.
    let is_affordable = |it: &String| price(it).is_some_and(|it| it <= most + 1e-9);
    types.into_iter().filter(is_affordable).collect()
}

fn price(name: &str) -> Option<f64> {
    instance_types::find(name).and_then(|it| it.price)
}

fn cheapest<'a>(names: impl Iterator<Item = &'a String>) -> Option<f64> {
    names.filter_map(|it| price(it)).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use aws_autoscaling::instance_requirements::IntegerRange;

    use super::*;

    #[test]
    fn what_is_asked_of_ec2_is_what_the_override_says() {
        let wanted = InstanceRequirements {
            v_cpu_count: Some(IntegerRange { min: Some(2), max: None }),
            excluded_instance_types: vec!["m5*".to_owned()],
            accelerator_names: vec!["t4".to_owned()],
            ..Default::default()
        };
        let asked = asked(&wanted).unwrap();
        assert_eq!(asked.v_cpu_count.unwrap().min, Some(2));
        assert_eq!(asked.excluded_instance_types, ["m5*"]);
        assert_eq!(asked.accelerator_names, ["t4"]);
    }

    #[test]
    fn what_is_much_dearer_than_the_cheapest_common_type_is_left_out() {
        let names = |of: &[&str]| of.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        // 0.096, 0.113, 0.526 and 0.192 dollars.
        let all = names(&["m5.large", "m5d.large", "g4dn.xlarge", "m5.xlarge"]);
        let default = InstanceRequirements::default();
        assert_eq!(affordable(all.clone(), &default, false), ["m5.large", "m5d.large"]);
        let spot = affordable(all.clone(), &default, true);
        assert_eq!(spot, ["m5.large", "m5d.large", "m5.xlarge"], "twice as much");
        let any = InstanceRequirements {
            on_demand_max_price_percentage_over_lowest_price: Some(999_999),
            ..Default::default()
        };
        assert_eq!(affordable(all.clone(), &any, false), all);
        let gpus = names(&["g4dn.xlarge"]);
        assert_eq!(affordable(gpus.clone(), &default, false), gpus, "none of them is common");
    }
}
