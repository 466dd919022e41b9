//! Which instance types have certain attributes.
//!
//! API reference: Amazon EC2, version 2016-11-15. The requirements are read under Auto Scaling's names for
//! lists too: those of a mixed instances policy are asked about here.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

/// Of whole numbers; without a bound there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IntegerRange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

/// The same of other numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DoubleRange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceRequirementsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v_cpu_count: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mi_b: Option<IntegerRange>,
    #[serde(
        rename = "CpuManufacturer",
        alias = "CpuManufacturers",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cpu_manufacturers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gi_b_per_v_cpu: Option<DoubleRange>,
    #[serde(
        rename = "ExcludedInstanceType",
        alias = "ExcludedInstanceTypes",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub excluded_instance_types: Vec<String>,
    #[serde(
        rename = "InstanceGeneration",
        alias = "InstanceGenerations",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub instance_generations: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_max_price_percentage_over_lowest_price: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_spot_price_as_percentage_of_optimal_on_demand_price: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_max_price_percentage_over_lowest_price: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare_metal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burstable_performance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_hibernate_support: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_count: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_storage: Option<String>,
    #[serde(
        rename = "LocalStorageType",
        alias = "LocalStorageTypes",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub local_storage_types: Vec<String>,
    #[serde(rename = "TotalLocalStorageGB", default, skip_serializing_if = "Option::is_none")]
    pub total_local_storage_gb: Option<DoubleRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_ebs_bandwidth_mbps: Option<IntegerRange>,
    #[serde(
        rename = "AcceleratorType",
        alias = "AcceleratorTypes",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub accelerator_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_count: Option<IntegerRange>,
    #[serde(
        rename = "AcceleratorManufacturer",
        alias = "AcceleratorManufacturers",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub accelerator_manufacturers: Vec<String>,
    #[serde(
        rename = "AcceleratorName",
        alias = "AcceleratorNames",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub accelerator_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_total_memory_mi_b: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bandwidth_gbps: Option<DoubleRange>,
    #[serde(
        rename = "AllowedInstanceType",
        alias = "AllowedInstanceTypes",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub allowed_instance_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_encryption_in_transit: Option<bool>,
}

/// `GetInstanceTypesFromInstanceRequirements`.
#[derive(Debug)]
pub enum GetInstanceTypesFromInstanceRequirements {}

impl Operation for GetInstanceTypesFromInstanceRequirements {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetInstanceTypesFromInstanceRequirements";
    type Request = GetInstanceTypesFromInstanceRequirementsRequest;
    type Response = GetInstanceTypesFromInstanceRequirementsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetInstanceTypesFromInstanceRequirementsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "ArchitectureType", default, skip_serializing_if = "Vec::is_empty")]
    pub architecture_types: Vec<String>,
    #[serde(rename = "VirtualizationType", default, skip_serializing_if = "Vec::is_empty")]
    pub virtualization_types: Vec<String>,
    #[serde(default)]
    pub instance_requirements: InstanceRequirementsRequest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetInstanceTypesFromInstanceRequirementsResponse {
    #[serde(rename = "instanceTypeSet", default)]
    pub instance_types: Vec<InstanceTypeInfoFromInstanceRequirements>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeInfoFromInstanceRequirements {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
}
