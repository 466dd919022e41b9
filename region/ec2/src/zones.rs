//! Regions, Availability Zones, account attributes.
//!
//! Deviation: there is one region, the one that is asked.

use aws_ec2::zone::{
    AccountAttribute, AccountAttributeValue, AvailabilityZone, DescribeAccountAttributesRequest,
    DescribeAccountAttributesResponse, DescribeAvailabilityZonesRequest,
    DescribeAvailabilityZonesResponse, DescribeRegionsRequest, DescribeRegionsResponse, Region,
};
use aws_wire::Fault;

use crate::{
    Call, faults,
    query::{self, one},
    state::State,
};

pub(crate) fn describe_zones(
    call: &Call<'_>,
    _state: &State,
    request: DescribeAvailabilityZonesRequest,
) -> Result<DescribeAvailabilityZonesResponse, Fault> {
    let zones = &call.config.zones;
    for asked in &request.zone_names {
        if !zones.iter().any(|(name, _)| name == asked) {
            return Err(faults::invalid(format!("Invalid availability zone: [{asked}]")));
        }
    }
    let mut availability_zones = Vec::new();
    for (name, id) in zones {
        let is_named = (request.zone_names.is_empty() || request.zone_names.contains(name))
            && (request.zone_ids.is_empty() || request.zone_ids.contains(id));
        let passes = query::passes(&request.filters, query::no_tags(), |filter| match filter {
            "zone-name" => one(name),
            "zone-id" => one(id),
            "state" => one("available"),
            "region-name" => one(&call.config.region),
            "opt-in-status" => one("opt-in-not-required"),
            "zone-type" => one("availability-zone"),
            "group-name" => one(format!("{}-zg-1", call.config.region)),
            "message" | "parent-zone-id" | "parent-zone-name" | "group-long-name" => {
                Some(Vec::new())
            }
            _ => None,
        })?;
        if is_named && passes {
            availability_zones.push(zone(call, name, id));
        }
    }
    Ok(DescribeAvailabilityZonesResponse { availability_zones })
}

fn zone(call: &Call<'_>, name: &str, id: &str) -> AvailabilityZone {
    AvailabilityZone {
        opt_in_status: Some("opt-in-not-required".to_owned()),
        region_name: Some(call.config.region.clone()),
        zone_name: Some(name.to_owned()),
        zone_id: Some(id.to_owned()),
        group_name: Some(format!("{}-zg-1", call.config.region)),
        zone_type: Some("availability-zone".to_owned()),
        state: Some("available".to_owned()),
        ..Default::default()
    }
}

pub(crate) fn describe_regions(
    call: &Call<'_>,
    _state: &State,
    request: DescribeRegionsRequest,
) -> Result<DescribeRegionsResponse, Fault> {
    let name = &call.config.region;
    if let Some(other) = request.region_names.iter().find(|it| *it != name) {
        return Err(faults::invalid(format!("Invalid region: [{other}]")));
    }
    let endpoint = format!("ec2.{name}.amazonaws.com");
    let passes = query::passes(&request.filters, query::no_tags(), |filter| match filter {
        "region-name" => one(name),
        "endpoint" => one(&endpoint),
        "opt-in-status" => one("opt-in-not-required"),
        _ => None,
    })?;
    let region = Region {
        opt_in_status: Some("opt-in-not-required".to_owned()),
        region_name: Some(name.clone()),
        endpoint: Some(endpoint),
    };
    Ok(DescribeRegionsResponse { regions: passes.then_some(region).into_iter().collect() })
}

pub(crate) fn describe_account(
    _call: &Call<'_>,
    state: &State,
    request: DescribeAccountAttributesRequest,
) -> Result<DescribeAccountAttributesResponse, Fault> {
    let default_vpc = state.vpcs.iter().find(|it| it.is_default);
    let default_vpc = default_vpc.map_or("none".to_owned(), |it| it.id.clone());
    let all = [
        ("supported-platforms", "VPC".to_owned()),
        ("default-vpc", default_vpc),
        ("max-instances", "1000".to_owned()),
        ("vpc-max-security-groups-per-interface", "5".to_owned()),
        ("max-elastic-ips", "5".to_owned()),
        ("vpc-max-elastic-ips", "20".to_owned()),
    ];
    let asked = &request.attribute_names;
    let wanted =
        all.into_iter().filter(|(it, _)| asked.is_empty() || asked.iter().any(|name| name == it));
    let account_attributes = wanted
        .map(|(name, value)| AccountAttribute {
            attribute_name: Some(name.to_owned()),
            attribute_values: vec![AccountAttributeValue { attribute_value: Some(value) }],
        })
        .collect();
    Ok(DescribeAccountAttributesResponse { account_attributes })
}
