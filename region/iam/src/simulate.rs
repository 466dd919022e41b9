//! What would be decided: the same evaluation that decides at the gateway.

use aws_iam::*;
use aws_wire::Fault;
use iam_policy::{
    Context, Identity, IdentityKind, Kind, Named, Policies, Request, Verdict, evaluate,
};
use region_gateway::Caller;

use crate::{Iam, IamError};

impl Iam {
    pub(crate) fn simulate_principal(
        &self,
        _: &Caller,
        request: SimulatePrincipalPolicyRequest,
    ) -> Result<SimulatePrincipalPolicyResponse, Fault> {
        let arn = &request.policy_source_arn;
        let name = arn.rsplit('/').next().unwrap_or_default();
        let (attached, kind) = match arn.split(':').nth(5).and_then(|it| it.split('/').next()) {
            Some("role") => {
                let role = Self::holder(&self.roles, name)?;
                let kind = IdentityKind::Session {
                    role_arn: role.entity.arn.clone(),
                    role_id: role.entity.id.clone(),
                    session_arn: role.entity.arn.clone(),
                };
                (self.named(&role.grants), kind)
            }
            Some("user") => {
                let user = Self::holder(&self.users, name)?;
                let (arn, id) = (user.entity.arn.clone(), user.entity.id.clone());
                (self.named(&user.grants), IdentityKind::User { arn, id })
            }
            _ => {
                let message = format!(
                    "Invalid Entity Arn: {arn} does not clearly define entity type and name."
                );
                return Err(IamError::Input { message }.into());
            }
        };
        let mut policies = Policies {
            identity: attached.identity,
            boundary: attached.boundary,
            ..Policies::default()
        };
        policies.identity.extend(self.given(&request.policy_input_list)?);
        let identity = Identity { account: self.account.clone(), kind };
        let evaluation_results = simulate(
            &identity,
            &policies,
            &request.action_names,
            &request.resource_arns,
            &request.context_entries,
        );
        Ok(SimulatePrincipalPolicyResponse { evaluation_results, is_truncated: false })
    }

    pub(crate) fn simulate_custom(
        &self,
        _: &Caller,
        request: SimulateCustomPolicyRequest,
    ) -> Result<SimulateCustomPolicyResponse, Fault> {
        let identity = self.given(&request.policy_input_list)?;
        let policies = Policies { identity, ..Policies::default() };
        let nobody = IdentityKind::User { arn: String::new(), id: String::new() };
        let identity = Identity { account: self.account.clone(), kind: nobody };
        let evaluation_results = simulate(
            &identity,
            &policies,
            &request.action_names,
            &request.resource_arns,
            &request.context_entries,
        );
        Ok(SimulateCustomPolicyResponse { evaluation_results, is_truncated: false })
    }

    fn given(&self, documents: &[String]) -> Result<Vec<Named>, IamError> {
        let named = documents.iter().enumerate().map(|(index, document)| {
            let policy = self.parse(document, Kind::Identity)?;
            Ok(Named { name: format!("PolicyInputList.{}", index + 1), policy })
        });
        named.collect()
    }
}

fn simulate(
    identity: &Identity,
    policies: &Policies,
    actions: &[String],
    resources: &[String],
    entries: &[ContextEntry],
) -> Vec<EvaluationResult> {
    let mut context = Context::new();
    for entry in entries {
        context.set_all(&entry.context_key_name, entry.context_key_values.clone());
    }
    let all = ["*".to_owned()];
    let resources = if resources.is_empty() { &all[..] } else { resources };
    let mut results = Vec::new();
    for action in actions {
        for resource in resources {
            let request = Request { identity, action, resource, context: &context };
            let decision = evaluate(&request, policies);
            let verdict = match decision.verdict {
                Verdict::Allowed => "allowed",
                Verdict::ExplicitDeny => "explicitDeny",
                Verdict::ImplicitDeny => "implicitDeny",
            };
            let matched = decision.deciding.into_iter().map(|it| MatchedStatement {
                source_policy_id: it.policy,
                source_policy_type: Some("IAM Policy".to_owned()),
            });
            results.push(EvaluationResult {
                eval_action_name: action.clone(),
                eval_resource_name: Some(resource.clone()),
                eval_decision: verdict.to_owned(),
                matched_statements: matched.collect(),
                missing_context_values: Vec::new(),
            });
        }
    }
    results
}
