//! What would be decided.
//!
//! API reference: AWS Identity and Access Management, version 2010-05-08.

use aws_wire::{operations, structures};

operations! {
    service "iam", case "PascalCase";

    /// Decides with the policies of a user or role.
    SimulatePrincipalPolicy(SimulatePrincipalPolicyRequest {
        pub policy_source_arn: String,
        #[serde(default)]
        pub policy_input_list: Vec<String>,
        #[serde(default)]
        pub action_names: Vec<String>,
        #[serde(default)]
        pub resource_arns: Vec<String>,
        #[serde(default)]
        pub context_entries: Vec<ContextEntry>,
    }) -> SimulatePrincipalPolicyResponse {
        #[serde(default)]
        pub evaluation_results: Vec<EvaluationResult>,
        #[serde(default)]
        pub is_truncated: bool,
    }

    /// Decides with the given policies.
    SimulateCustomPolicy(SimulateCustomPolicyRequest {
        #[serde(default)]
        pub policy_input_list: Vec<String>,
        #[serde(default)]
        pub action_names: Vec<String>,
        #[serde(default)]
        pub resource_arns: Vec<String>,
        #[serde(default)]
        pub context_entries: Vec<ContextEntry>,
    }) -> SimulateCustomPolicyResponse {
        #[serde(default)]
        pub evaluation_results: Vec<EvaluationResult>,
        #[serde(default)]
        pub is_truncated: bool,
    }
}

structures! {
    case "PascalCase";

    ContextEntry {
        pub context_key_name: String,
        #[serde(default)]
        pub context_key_values: Vec<String>,
        pub context_key_type: Option<String>,
    }

    EvaluationResult {
        pub eval_action_name: String,
        pub eval_resource_name: Option<String>,
        /// `allowed`, `explicitDeny` or `implicitDeny`.
        pub eval_decision: String,
        #[serde(default)]
        pub matched_statements: Vec<MatchedStatement>,
        #[serde(default)]
        pub missing_context_values: Vec<String>,
    }

    MatchedStatement {
        pub source_policy_id: String,
        pub source_policy_type: Option<String>,
    }
}
