//! Instances that Systems Manager manages: what their agents say of them.
//!
//! API reference: AWS Systems Manager, version 2014-11-06; `UpdateInstanceInformation` is the
//! agent's, and in no SDK.

use aws_wire::{operations, structures};

operations! {
    service "ssm", case "PascalCase";

    /// Lists the managed instances.
    DescribeInstanceInformation(DescribeInstanceInformationRequest {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub instance_information_filter_list: Vec<InstanceInformationFilter>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub filters: Vec<InstanceInformationStringFilter>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub max_results: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub next_token: Option<String>,
    }) -> DescribeInstanceInformationResponse {
        #[serde(default)]
        pub instance_information_list: Vec<InstanceInformation>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub next_token: Option<String>,
    }

    /// What an agent says of its instance, again and again.
    UpdateInstanceInformation(UpdateInstanceInformationRequest {
        pub instance_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub agent_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub agent_status: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub agent_version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub computer_name: Option<String>,
        #[serde(rename = "IPAddress", default, skip_serializing_if = "Option::is_none")]
        pub ip_address: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub platform_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub platform_type: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub platform_version: Option<String>,
    }) -> UpdateInstanceInformationResponse {}
}

structures! {
    case "PascalCase";

    /// The older form of a filter, in lower case on the wire.
    InstanceInformationFilter {
        #[serde(rename = "key")]
        pub key: String,
        #[serde(rename = "valueSet", default)]
        pub value_set: Vec<String>,
    }

    InstanceInformationStringFilter {
        pub key: String,
        #[serde(default)]
        pub values: Vec<String>,
    }

    InstanceInformation {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub instance_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ping_status: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub last_ping_date_time: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub agent_version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub is_latest_version: Option<bool>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub platform_type: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub platform_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub platform_version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub resource_type: Option<String>,
        #[serde(rename = "IPAddress", default, skip_serializing_if = "Option::is_none")]
        pub ip_address: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub computer_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub source_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub source_type: Option<String>,
    }
}
