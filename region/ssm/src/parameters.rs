//! A parameter, wherever it comes from, and how it looks to clients.

use std::collections::BTreeMap;

use aws_ssm::parameter::{self, ParameterMetadata};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Config;

/// A parameter of the account's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Parameter {
    pub name: String,
    pub kind: String,
    pub value: String,
    pub version: i64,
    pub description: Option<String>,
    pub data_type: String,
    pub modified_at: Timestamp,
    pub modified_by: String,
    pub tags: BTreeMap<String, String>,
}

impl Parameter {
    /// One of AWS's own.
    pub(crate) fn public(name: &str, value: &str, at: Timestamp) -> Self {
        let is_image = name.ends_with("/image_id");
        Self {
            name: name.to_owned(),
            kind: "String".to_owned(),
            value: value.to_owned(),
            version: 1,
            description: None,
            data_type: if is_image { "aws:ec2:image" } else { "text" }.to_owned(),
            modified_at: at,
            modified_by: "arn:aws:iam::amazon:root".to_owned(),
            tags: BTreeMap::new(),
        }
    }

    fn is_public(&self) -> bool {
        self.name.starts_with("/aws/service/")
    }

    pub(crate) fn arn(&self, config: &Config) -> String {
        let account = if self.is_public() { "" } else { &config.account };
        arn(config, account, &self.name)
    }

    pub(crate) fn answer(&self, config: &Config, selector: Option<&str>) -> parameter::Parameter {
        parameter::Parameter {
            name: Some(self.name.clone()),
            r#type: Some(self.kind.clone()),
            value: Some(self.value.clone()),
            version: Some(self.version),
            selector: selector.map(str::to_owned),
            source_result: None,
            last_modified_date: Some(epoch(self.modified_at)),
            arn: Some(self.arn(config)),
            data_type: Some(self.data_type.clone()),
        }
    }

    pub(crate) fn metadata(&self, config: &Config) -> ParameterMetadata {
        ParameterMetadata {
            name: Some(self.name.clone()),
            arn: Some(self.arn(config)),
            r#type: Some(self.kind.clone()),
            last_modified_date: Some(epoch(self.modified_at)),
            last_modified_user: Some(self.modified_by.clone()),
            description: self.description.clone(),
            version: Some(self.version),
            tier: Some("Standard".to_owned()),
            data_type: Some(self.data_type.clone()),
            ..Default::default()
        }
    }
}

pub(crate) fn arn(config: &Config, account: &str, name: &str) -> String {
    let slash = if name.starts_with('/') { "" } else { "/" };
    format!("arn:aws:ssm:{}:{account}:parameter{slash}{name}", config.region)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit in 53 bits")]
pub(crate) fn epoch(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
