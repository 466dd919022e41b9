//! Sessions with instances.
//!
//! API reference: AWS Systems Manager, version 2014-11-06.

use std::collections::BTreeMap;

use aws_wire::{operations, structures};

/// The parameters of a document.
pub type Parameters = BTreeMap<String, Vec<String>>;

operations! {
    service "ssm", case "PascalCase";

    /// Opens a session with an instance, for a client that connects to its stream.
    StartSession(StartSessionRequest {
        pub target: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub parameters: Parameters,
    }) -> StartSessionResponse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub session_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub token_value: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub stream_url: Option<String>,
    }

    /// Gives a new token for a session whose connection was lost.
    ResumeSession(ResumeSessionRequest { pub session_id: String }) -> ResumeSessionResponse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub session_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub token_value: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub stream_url: Option<String>,
    }

    /// Ends a session for good.
    TerminateSession(TerminateSessionRequest { pub session_id: String })
    -> TerminateSessionResponse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub session_id: Option<String>,
    }

    /// Lists sessions that go on, or that have ended.
    DescribeSessions(DescribeSessionsRequest {
        /// `Active` or `History`.
        pub state: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub max_results: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub next_token: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub filters: Vec<SessionFilter>,
    }) -> DescribeSessionsResponse {
        #[serde(default)]
        pub sessions: Vec<Session>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub next_token: Option<String>,
    }

    /// Says whether an instance's agent is connected.
    GetConnectionStatus(GetConnectionStatusRequest { pub target: String })
    -> GetConnectionStatusResponse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub target: Option<String>,
        /// `connected` or `notconnected`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<String>,
    }
}

structures! {
    case "PascalCase";

    /// Filters have lower-case names on the wire.
    SessionFilter {
        #[serde(rename = "key")]
        pub key: String,
        #[serde(rename = "value")]
        pub value: String,
    }

    Session {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub session_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub target: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub status: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub start_date: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub end_date: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub document_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub owner: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub reason: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub details: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub max_session_duration: Option<String>,
    }
}
