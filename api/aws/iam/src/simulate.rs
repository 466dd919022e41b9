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
        /// Documents that limit, in the place of the principal's own boundary.
        #[serde(default)]
        pub permissions_boundary_policy_input_list: Vec<String>,
        #[serde(default)]
        pub action_names: Vec<String>,
        #[serde(default)]
        pub resource_arns: Vec<String>,
        #[serde(default)]
        pub context_entries: Vec<ContextEntry>,
        /// The policy of the resources, and whose they are.
        pub resource_policy: Option<String>,
        pub resource_owner: Option<String>,
        /// The user whom the resource's policy sees.
        pub caller_arn: Option<String>,
        pub resource_handling_option: Option<String>,
        /// From 1 to 1000; 100 where it is not said.
        pub max_items: Option<i64>,
        pub marker: Option<String>,
    }) -> SimulatePrincipalPolicyResponse {
        #[serde(default)]
        pub evaluation_results: Vec<EvaluationResult>,
        #[serde(default)]
        pub is_truncated: bool,
        /// Where the next page begins; there only where there is one.
        pub marker: Option<String>,
    }

    /// Decides with the given policies.
    SimulateCustomPolicy(SimulateCustomPolicyRequest {
        #[serde(default)]
        pub policy_input_list: Vec<String>,
        /// Documents that limit, in the place of the principal's own boundary.
        #[serde(default)]
        pub permissions_boundary_policy_input_list: Vec<String>,
        #[serde(default)]
        pub action_names: Vec<String>,
        #[serde(default)]
        pub resource_arns: Vec<String>,
        #[serde(default)]
        pub context_entries: Vec<ContextEntry>,
        /// The policy of the resources, and whose they are.
        pub resource_policy: Option<String>,
        pub resource_owner: Option<String>,
        /// The user whom the resource's policy sees.
        pub caller_arn: Option<String>,
        pub resource_handling_option: Option<String>,
        /// From 1 to 1000; 100 where it is not said.
        pub max_items: Option<i64>,
        pub marker: Option<String>,
    }) -> SimulateCustomPolicyResponse {
        #[serde(default)]
        pub evaluation_results: Vec<EvaluationResult>,
        #[serde(default)]
        pub is_truncated: bool,
        /// Where the next page begins; there only where there is one.
        pub marker: Option<String>,
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
        /// There only where there is a boundary.
        pub permissions_boundary_decision_detail: Option<PermissionsBoundaryDecisionDetail>,
    }

    PermissionsBoundaryDecisionDetail {
        #[serde(default)]
        pub allowed_by_permissions_boundary: bool,
    }

    MatchedStatement {
        pub source_policy_id: String,
        pub source_policy_type: Option<String>,
    }
}
