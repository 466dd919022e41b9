//! Attributes by which an override of a mixed instances policy names its instance types.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

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
pub struct InstanceRequirements {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v_cpu_count: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mi_b: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_manufacturers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gi_b_per_v_cpu: Option<DoubleRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_instance_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_storage_types: Vec<String>,
    #[serde(rename = "TotalLocalStorageGB", default, skip_serializing_if = "Option::is_none")]
    pub total_local_storage_gb: Option<DoubleRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_ebs_bandwidth_mbps: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerator_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_count: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerator_manufacturers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accelerator_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_total_memory_mi_b: Option<IntegerRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bandwidth_gbps: Option<DoubleRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_instance_types: Vec<String>,
}
