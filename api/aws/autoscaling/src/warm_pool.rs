//! Warm pools: instances that are made ready beforehand.
//!
//! API reference: Amazon EC2 Auto Scaling, version 2011-01-01.

use aws_wire::Operation;
use serde::{Deserialize, Serialize};

use crate::group::Instance;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WarmPoolConfiguration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_group_prepared_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_reuse_policy: Option<InstanceReusePolicy>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceReusePolicy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse_on_scale_in: Option<bool>,
}

/// `PutWarmPool`.
#[derive(Debug)]
pub enum PutWarmPool {}

impl Operation for PutWarmPool {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "PutWarmPool";
    type Request = PutWarmPoolRequest;
    type Response = PutWarmPoolResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutWarmPoolRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_group_prepared_capacity: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_reuse_policy: Option<InstanceReusePolicy>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PutWarmPoolResponse {}

/// `DeleteWarmPool`.
#[derive(Debug)]
pub enum DeleteWarmPool {}

impl Operation for DeleteWarmPool {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DeleteWarmPool";
    type Request = DeleteWarmPoolRequest;
    type Response = DeleteWarmPoolResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteWarmPoolRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_delete: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DeleteWarmPoolResponse {}

/// `DescribeWarmPool`.
#[derive(Debug)]
pub enum DescribeWarmPool {}

impl Operation for DescribeWarmPool {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "DescribeWarmPool";
    type Request = DescribeWarmPoolRequest;
    type Response = DescribeWarmPoolResponse;
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeWarmPoolRequest {
    pub auto_scaling_group_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeWarmPoolResponse {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool_configuration: Option<WarmPoolConfiguration>,
    #[serde(default)]
    pub instances: Vec<Instance>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
