//! Commands that run on instances.
//!
//! API reference: AWS Systems Manager, version 2014-11-06.

use std::collections::BTreeMap;

use aws_wire::{operations, structures};

use crate::session::Parameters;

operations! {
    service "ssm", case "PascalCase";

    /// Has instances run a document.
    SendCommand(SendCommandRequest {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub instance_ids: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub targets: Vec<Target>,
        pub document_name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document_version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub timeout_seconds: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub comment: Option<String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub parameters: Parameters,
    }) -> SendCommandResponse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub command: Option<Command>,
    }

    /// What became of a command on one instance.
    GetCommandInvocation(GetCommandInvocationRequest {
        pub command_id: String,
        pub instance_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub plugin_name: Option<String>,
    }) -> GetCommandInvocationResponse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub command_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub instance_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub comment: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document_version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub plugin_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub response_code: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub execution_start_date_time: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub execution_end_date_time: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status_details: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub standard_output_content: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub standard_error_content: Option<String>,
    }
}

structures! {
    case "PascalCase";

    Target {
        pub key: String,
        #[serde(default)]
        pub values: Vec<String>,
    }

    Command {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub command_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub comment: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub requested_date_time: Option<f64>,
        #[serde(default)]
        pub instance_ids: Vec<String>,
        #[serde(default)]
        pub targets: Vec<Target>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub parameters: Parameters,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status_details: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub target_count: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub timeout_seconds: Option<i64>,
    }
}
