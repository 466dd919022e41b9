//! Instance types and where they are offered.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::Filter;

/// `DescribeInstanceTypes`.
#[derive(Debug)]
pub enum DescribeInstanceTypes {}

impl Operation for DescribeInstanceTypes {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeInstanceTypes";
    type Request = DescribeInstanceTypesRequest;
    type Response = DescribeInstanceTypesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceTypesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "InstanceType", default, skip_serializing_if = "Vec::is_empty")]
    pub instance_types: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_unsupported_in_region: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceTypesResponse {
    #[serde(rename = "instanceTypeSet", default)]
    pub instance_types: Vec<InstanceTypeInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_generation: Option<bool>,
    #[serde(default)]
    pub supported_usage_classes: Vec<String>,
    #[serde(default)]
    pub supported_root_device_types: Vec<String>,
    #[serde(default)]
    pub supported_virtualization_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bare_metal: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_info: Option<ProcessorInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v_cpu_info: Option<VCpuInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_info: Option<MemoryInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_storage_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_storage_info: Option<InstanceStorageInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_info: Option<EbsInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_info: Option<NetworkInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_info: Option<GpuInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_group_info: Option<PlacementGroupInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernation_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burstable_performance_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedicated_hosts_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_recovery_supported: Option<bool>,
    #[serde(default)]
    pub supported_boot_modes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nitro_enclaves_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nitro_tpm_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phc_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_migration_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported_in_region: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessorInfo {
    #[serde(default)]
    pub supported_architectures: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sustained_clock_speed_in_ghz: Option<f64>,
    #[serde(default)]
    pub supported_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VCpuInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_v_cpus: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_cores: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_threads_per_core: Option<i64>,
    #[serde(default)]
    pub valid_cores: Vec<i64>,
    #[serde(default)]
    pub valid_threads_per_core: Vec<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_in_mi_b: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStorageInfo {
    #[serde(rename = "totalSizeInGB", default, skip_serializing_if = "Option::is_none")]
    pub total_size_in_gb: Option<i64>,
    #[serde(default)]
    pub disks: Vec<DiskInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvme_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_support: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiskInfo {
    #[serde(rename = "sizeInGB", default, skip_serializing_if = "Option::is_none")]
    pub size_in_gb: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_optimized_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebs_optimized_info: Option<EbsOptimizedInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvme_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_ebs_attachments: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_limit_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_ebs_cards: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EbsOptimizedInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_bandwidth_in_mbps: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_throughput_in_m_bps: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_iops: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_bandwidth_in_mbps: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_throughput_in_m_bps: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_iops: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_performance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_network_interfaces: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_network_cards: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_network_card_index: Option<i64>,
    #[serde(default)]
    pub network_cards: Vec<NetworkCardInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_addresses_per_interface: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_addresses_per_interface: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ena_support: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efa_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_in_transit_supported: Option<bool>,
    #[serde(default)]
    pub bandwidth_weightings: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_network_supported: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_secondary_network_interfaces: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_addresses_per_secondary_interface: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkCardInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_performance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_network_interfaces: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_flexible_network_interfaces: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_bandwidth_in_gbps: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bandwidth_in_gbps: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuInfo {
    #[serde(default)]
    pub gpus: Vec<GpuDeviceInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_gpu_memory_in_mi_b: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuDeviceInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_gpu_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_partition_size: Option<f64>,
    #[serde(rename = "workloadSet", default)]
    pub workloads: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_info: Option<GpuDeviceMemoryInfo>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuDeviceMemoryInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_in_mi_b: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementGroupInfo {
    #[serde(default)]
    pub supported_strategies: Vec<String>,
}

/// `DescribeInstanceTypeOfferings`.
#[derive(Debug)]
pub enum DescribeInstanceTypeOfferings {}

impl Operation for DescribeInstanceTypeOfferings {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeInstanceTypeOfferings";
    type Request = DescribeInstanceTypeOfferingsRequest;
    type Response = DescribeInstanceTypeOfferingsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceTypeOfferingsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_type: Option<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeInstanceTypeOfferingsResponse {
    #[serde(rename = "instanceTypeOfferingSet", default)]
    pub instance_type_offerings: Vec<InstanceTypeOffering>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTypeOffering {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}
