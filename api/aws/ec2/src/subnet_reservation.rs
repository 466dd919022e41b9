//! Reservations of a part of a subnet for prefixes, or for addresses that are asked for by name.
//!
//! API reference: Amazon EC2, version 2016-11-15.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::common::{Filter, Tag, TagSpecification};

/// `CreateSubnetCidrReservation`.
#[derive(Debug)]
pub enum CreateSubnetCidrReservation {}

impl Operation for CreateSubnetCidrReservation {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "CreateSubnetCidrReservation";
    type Request = CreateSubnetCidrReservationRequest;
    type Response = CreateSubnetCidrReservationResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateSubnetCidrReservationRequest {
    pub subnet_id: String,
    pub cidr: String,
    pub reservation_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(rename = "TagSpecification", default, skip_serializing_if = "Vec::is_empty")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSubnetCidrReservationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_cidr_reservation: Option<SubnetCidrReservation>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubnetCidrReservation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_cidr_reservation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "tagSet", default)]
    pub tags: Vec<Tag>,
}

/// `DeleteSubnetCidrReservation`.
#[derive(Debug)]
pub enum DeleteSubnetCidrReservation {}

impl Operation for DeleteSubnetCidrReservation {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "DeleteSubnetCidrReservation";
    type Request = DeleteSubnetCidrReservationRequest;
    type Response = DeleteSubnetCidrReservationResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteSubnetCidrReservationRequest {
    pub subnet_cidr_reservation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteSubnetCidrReservationResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_subnet_cidr_reservation: Option<SubnetCidrReservation>,
}

/// `GetSubnetCidrReservations`.
#[derive(Debug)]
pub enum GetSubnetCidrReservations {}

impl Operation for GetSubnetCidrReservations {
    const SERVICE: &'static str = "ec2";
    const ACTION: &'static str = "GetSubnetCidrReservations";
    type Request = GetSubnetCidrReservationsRequest;
    type Response = GetSubnetCidrReservationsResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetSubnetCidrReservationsRequest {
    #[serde(rename = "Filter", default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    pub subnet_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetSubnetCidrReservationsResponse {
    #[serde(rename = "subnetIpv4CidrReservationSet", default)]
    pub subnet_ipv4_cidr_reservations: Vec<SubnetCidrReservation>,
    #[serde(rename = "subnetIpv6CidrReservationSet", default)]
    pub subnet_ipv6_cidr_reservations: Vec<SubnetCidrReservation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
