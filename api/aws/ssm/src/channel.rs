//! The message gateway (`ssmmessages`): channels between it, agents and clients.
//!
//! A channel is created by a call that is signed; it gives a token. The token is the first message on
//! a WebSocket at `/v1/control-channel/INSTANCE` or `/v1/data-channel/SESSION`. What follows are
//! [`AgentMessage`](crate::message::AgentMessage)s, whose payloads are below.
//!
//! Source: the sources of `amazon-ssm-agent` and `session-manager-plugin`; AWS documents it nowhere.
//!
//! Deviation: the two calls answer JSON; AWS's answer XML to a request in JSON.

use aws_wire::{operations, structures};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub const SCHEMA: &str = "1.0";
pub const CONTROL_CHANNEL: &str = "/v1/control-channel/";
pub const DATA_CHANNEL: &str = "/v1/data-channel/";

operations! {
    service "ssmmessages", case "PascalCase";

    /// Gives an agent the token of its control channel.
    CreateControlChannel "POST" "/v1/control-channel/{ChannelId}"
    (CreateControlChannelRequest {
        /// The instance.
        pub channel_id: String,
        pub message_schema_version: String,
        pub request_id: String,
    }) -> CreateControlChannelResponse {
        pub message_schema_version: String,
        pub token_value: String,
    }

    /// Gives an agent the token of a session's data channel.
    CreateDataChannel "POST" "/v1/data-channel/{SessionId}"
    (CreateDataChannelRequest {
        pub session_id: String,
        pub message_schema_version: String,
        pub request_id: String,
        pub client_id: String,
    }) -> CreateDataChannelResponse {
        pub message_schema_version: String,
        pub token_value: String,
    }
}

structures! {
    case "PascalCase";

    /// The first message on either channel, as text.
    OpenChannel {
        pub message_schema_version: String,
        pub request_id: String,
        pub token_value: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub client_instance_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub client_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub client_version: Option<String>,
    }

    /// `acknowledge`
    Acknowledge {
        #[serde(rename = "AcknowledgedMessageType")]
        pub message_type: String,
        #[serde(rename = "AcknowledgedMessageId")]
        pub message_id: String,
        #[serde(rename = "AcknowledgedMessageSequenceNumber")]
        pub sequence_number: i64,
        pub is_sequential_message: bool,
    }

    /// `channel_closed`
    ChannelClosed {
        pub message_id: String,
        pub created_date: String,
        pub destination_id: String,
        pub session_id: String,
        pub message_type: String,
        pub schema_version: i64,
        /// Why, for the client's eyes.
        pub output: String,
    }

    /// `interactive_shell` and `agent_job`: the content is JSON as text.
    Task {
        pub content: String,
        #[serde(default)]
        pub task_id: String,
        #[serde(default)]
        pub job_id: String,
        pub topic: String,
        pub schema_version: i64,
    }

    /// The content of `interactive_shell`.
    SessionTask {
        pub document_name: String,
        pub document_content: DocumentContent,
        pub session_id: String,
        #[serde(default)]
        pub parameters: crate::session::Parameters,
        #[serde(default)]
        pub run_as_user: String,
        #[serde(default)]
        pub session_owner: String,
    }

    /// `agent_task_complete`: a session has come to its end on the instance.
    TaskComplete {
        pub schema_version: i64,
        pub task_id: String,
        pub topic: String,
        pub final_task_status: String,
        pub instance_id: String,
        pub output: String,
    }
}

/// What a session document says to the agent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentContent {
    pub schema_version: String,
    /// `Standard_Stream`, `Port`, `InteractiveCommands`, `NonInteractiveCommands`.
    pub session_type: String,
    #[serde(default)]
    pub properties: Value,
}

/// The content of `agent_job`: a command.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CommandJob {
    pub command_id: String,
    pub document_name: String,
    pub parameters: crate::session::Parameters,
}

/// The content of `agent_job_reply`: what became of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReply {
    pub schema_version: i64,
    pub job_id: String,
    pub topic: String,
    /// A [`CommandResult`] as text.
    pub content: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandResult {
    /// `InProgress`, `Success`, `Failed`, `TimedOut`.
    pub status: String,
    pub code: i64,
    pub standard_output: String,
    pub standard_error: String,
}

/// The payload of a handshake request: what the agent wants of the client.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeRequest {
    pub agent_version: String,
    pub requested_client_actions: Vec<RequestedAction>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedAction {
    pub action_type: String,
    pub action_parameters: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeResponse {
    pub client_version: String,
    #[serde(default)]
    pub processed_client_actions: Option<Vec<ProcessedAction>>,
    #[serde(default)]
    pub errors: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedAction {
    pub action_type: String,
    /// 1: done; 2: failed; 3: not known.
    pub action_status: i64,
    #[serde(default)]
    pub action_result: Value,
    #[serde(default)]
    pub error: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeComplete {
    /// Nanoseconds.
    pub handshake_time_to_complete: i64,
    pub customer_message: String,
}

/// The size of the client's terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Size {
    pub cols: u32,
    pub rows: u32,
}
