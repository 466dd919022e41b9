//! Elastic network interfaces: life cycle, attachment, attributes.
//!
//! Request fields carry the names of query parameters, response fields those of XML elements.
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{
    AttributeBooleanValue, AttributeBooleanValueInput, AttributeValue, AttributeValueInput, Filter,
    GroupIdentifier, Tag, TagSpecification,
};

/// `CreateNetworkInterface`.
#[derive(Debug)]
pub enum CreateNetworkInterface {}

impl Operation for CreateNetworkInterface {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateNetworkInterface";
    type Request = CreateNetworkInterfaceRequest;
    type Response = CreateNetworkInterfaceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetworkInterfaceRequest {
    #[serde(rename = "Ipv4Prefix", default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_prefixes: Vec<Ipv4PrefixSpecificationRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_prefix_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_type: Option<String>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_primary_ipv6: Option<bool>,
    pub subnet_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
    #[serde(rename = "SecurityGroupId", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_ip_addresses: Vec<PrivateIpAddressSpecificationInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary_private_ip_address_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<InstanceIpv6AddressInput>,
    #[serde(rename = "Ipv6Prefix", default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_prefixes: Vec<Ipv6PrefixSpecificationRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_prefix_count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_tracking_specification: Option<ConnectionTrackingSpecificationRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// Seconds after which an idle connection is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectionTrackingSpecificationRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_established_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_stream_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_timeout: Option<i64>,
}

/// Seconds after which an idle connection is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionTrackingSpecification {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_established_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_stream_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_timeout: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceIpv6AddressInput {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv6PrefixSpecificationRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ipv4PrefixSpecificationRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PrivateIpAddressSpecificationInput {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateNetworkInterfaceResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface: Option<NetworkInterface>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<NetworkInterfaceAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_tracking_configuration: Option<ConnectionTrackingSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<NetworkInterfaceAttachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "groupSet", default)]
    pub groups: Vec<GroupIdentifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_dns_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
    #[serde(rename = "privateIpAddressesSet", default)]
    pub private_ip_addresses: Vec<NetworkInterfacePrivateIpAddress>,
    #[serde(rename = "ipv4PrefixSet", default)]
    pub ipv4_prefixes: Vec<Ipv4PrefixSpecification>,
    #[serde(rename = "ipv6AddressesSet", default)]
    pub ipv6_addresses: Vec<NetworkInterfaceIpv6Address>,
    #[serde(rename = "ipv6PrefixSet", default)]
    pub ipv6_prefixes: Vec<Ipv6PrefixSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester_managed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    #[serde(default)]
    pub tag_set: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_all_igw_traffic: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_native: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    #[serde(rename = "associatedSubnetSet", default)]
    pub associated_subnets: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceAssociation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_dns_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceAttachment {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfacePrivateIpAddress {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association: Option<NetworkInterfaceAssociation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv4PrefixSpecification {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterfaceIpv6Address {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_primary_ipv6: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv6PrefixSpecification {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteNetworkInterfaceResponse {}

/// `DeleteNetworkInterface`.
#[derive(Debug)]
pub enum DeleteNetworkInterface {}

impl Operation for DeleteNetworkInterface {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteNetworkInterface";
    type Request = DeleteNetworkInterfaceRequest;
    type Response = DeleteNetworkInterfaceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteNetworkInterfaceRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_interface_id: String,
}

/// `DescribeNetworkInterfaces`.
#[derive(Debug)]
pub enum DescribeNetworkInterfaces {}

impl Operation for DescribeNetworkInterfaces {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeNetworkInterfaces";
    type Request = DescribeNetworkInterfacesRequest;
    type Response = DescribeNetworkInterfacesResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeNetworkInterfacesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_managed_resources: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "NetworkInterfaceId", default, skip_serializing_if = "Vec::is_empty")]
    pub network_interface_ids: Vec<String>,
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfacesResponse {
    #[serde(rename = "networkInterfaceSet", default)]
    pub network_interfaces: Vec<NetworkInterface>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// `AttachNetworkInterface`.
#[derive(Debug)]
pub enum AttachNetworkInterface {}

impl Operation for AttachNetworkInterface {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "AttachNetworkInterface";
    type Request = AttachNetworkInterfaceRequest;
    type Response = AttachNetworkInterfaceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttachNetworkInterfaceRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_interface_id: String,
    pub instance_id: String,
    pub device_index: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachNetworkInterfaceResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DetachNetworkInterfaceResponse {}

/// `DetachNetworkInterface`.
#[derive(Debug)]
pub enum DetachNetworkInterface {}

impl Operation for DetachNetworkInterface {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DetachNetworkInterface";
    type Request = DetachNetworkInterfaceRequest;
    type Response = DetachNetworkInterfaceResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DetachNetworkInterfaceRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub attachment_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ModifyNetworkInterfaceAttributeResponse {}

/// `ModifyNetworkInterfaceAttribute`.
#[derive(Debug)]
pub enum ModifyNetworkInterfaceAttribute {}

impl Operation for ModifyNetworkInterfaceAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "ModifyNetworkInterfaceAttribute";
    type Request = ModifyNetworkInterfaceAttributeRequest;
    type Response = ModifyNetworkInterfaceAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyNetworkInterfaceAttributeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_primary_ipv6: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associate_public_ip_address: Option<bool>,
    #[serde(rename = "AssociatedSubnetId", default, skip_serializing_if = "Vec::is_empty")]
    pub associated_subnet_ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_interface_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<AttributeValueInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<AttributeBooleanValueInput>,
    #[serde(rename = "SecurityGroupId", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<NetworkInterfaceAttachmentChanges>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_tracking_specification: Option<ConnectionTrackingSpecificationRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterfaceAttachmentChanges {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_on_termination: Option<bool>,
}

/// `DescribeNetworkInterfaceAttribute`.
#[derive(Debug)]
pub enum DescribeNetworkInterfaceAttribute {}

impl Operation for DescribeNetworkInterfaceAttribute {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DescribeNetworkInterfaceAttribute";
    type Request = DescribeNetworkInterfaceAttributeRequest;
    type Response = DescribeNetworkInterfaceAttributeResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeNetworkInterfaceAttributeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    pub network_interface_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeNetworkInterfaceAttributeResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<NetworkInterfaceAttachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<AttributeValue>,
    #[serde(rename = "groupSet", default)]
    pub groups: Vec<GroupIdentifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_dest_check: Option<AttributeBooleanValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associate_public_ip_address: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateIpAddressSpecification {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
}
