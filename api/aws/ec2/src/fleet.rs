//! `CreateFleet`: instances of whichever of several types, subnets and images can be had.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::{
    common::TagSpecification,
    run_instances::{LaunchTemplateSpecification, PlacementInput},
};

/// `CreateFleet`.
#[derive(Debug)]
pub enum CreateFleet {}

impl Operation for CreateFleet {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateFleet";
    type Request = CreateFleetRequest;
    type Response = CreateFleetResult;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateFleetRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_options: Option<SpotOptionsRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_options: Option<OnDemandOptionsRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_capacity_options: Option<ReservedCapacityOptionsRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_capacity_termination_policy: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launch_template_configs: Vec<FleetLaunchTemplateConfigRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_capacity_specification: Option<TargetCapacitySpecificationRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_instances_with_expiration: Option<bool>,
    /// `request`, `maintain` (the default) or `instant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_unhealthy_instances: Option<bool>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SpotOptionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_interruption_behavior: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_pools_to_use_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_instance_type: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_availability_zone: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_target_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_price: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OnDemandOptionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_reservation_options: Option<CapacityReservationOptionsRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_instance_type: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_availability_zone: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_target_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_price: Option<String>,
}

/// What a fleet of the target `reserved-capacity` may use.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReservedCapacityOptionsRequest {
    /// `interruptible-capacity-reservation` among them.
    #[serde(rename = "ReservationType", default, skip_serializing_if = "Vec::is_empty")]
    pub reservation_types: Vec<String>,
}

/// `use-capacity-reservations-first`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CapacityReservationOptionsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_strategy: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FleetLaunchTemplateConfigRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_specification: Option<LaunchTemplateSpecification>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<FleetLaunchTemplateOverridesRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FleetLaunchTemplateOverridesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_capacity: Option<f64>,
    /// The lower, the sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementInput>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TargetCapacitySpecificationRequest {
    #[serde(default)]
    pub total_target_capacity: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_target_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_target_capacity: Option<i64>,
    /// `spot`, `on-demand`, `capacity-block` or `reserved-capacity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_target_capacity_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_capacity_unit_type: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateFleetResult {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_id: Option<String>,
    #[serde(rename = "errorSet", default)]
    pub errors: Vec<CreateFleetError>,
    #[serde(rename = "fleetInstanceSet", default)]
    pub instances: Vec<CreateFleetInstance>,
}

/// What could not be launched, and why.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateFleetError {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_and_overrides: Option<LaunchTemplateAndOverrides>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateFleetInstance {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_and_overrides: Option<LaunchTemplateAndOverrides>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
    #[serde(default)]
    pub instance_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchTemplateAndOverrides {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_specification: Option<FleetLaunchTemplateSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<FleetLaunchTemplateOverrides>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetLaunchTemplateSpecification {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_template_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetLaunchTemplateOverrides {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_capacity: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementResponse>,
}

/// The placement group of an override.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
}
