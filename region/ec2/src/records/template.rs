//! Launch templates.

use std::collections::BTreeMap;

use aws_ec2::launch_template_request::RequestLaunchTemplateData;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Tags, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct LaunchTemplate {
    pub id: String,
    pub name: String,
    pub created_at: Timestamp,
    pub created_by: String,
    pub default_version: i64,
    /// Never decreases: the number of a deleted version is not used again.
    pub latest_version: i64,
    pub versions: BTreeMap<i64, TemplateVersion>,
    pub tags: Tags,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct TemplateVersion {
    pub description: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub data: RequestLaunchTemplateData,
}

record!(LaunchTemplate, "launch-template", "lt-", "InvalidLaunchTemplateId", "launch template");
