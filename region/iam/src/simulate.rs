//! What would be decided: the same evaluation that decides at the gateway.
//!
//! Each action is decided on each resource, a page at a time. A page ends early where the policies
//! are so long that its results would take long: IAM may return fewer than were asked for.
//!
//! Deviation: resources are this account's (`ResourceOwner`), and the scenarios of EC2
//! (`ResourceHandlingOption`) are not known: both are refused.

use std::collections::{BTreeSet, HashSet};

use aws_iam::*;
use aws_wire::Fault;
use iam_policy::{
    Context, Identity, IdentityKind, Kind, Layer, Named, Policies, Request, Verdict, evaluate,
    layers,
};
use region_gateway::{Caller, page_mark, page_position};

use crate::{Iam, IamError};

/// Texts that a page compares with, or names as missing, before it ends: about a tenth of a second.
const MOST_LOOKED_AT: usize = 1_000_000;

/// Of one result: a page cannot end within it.
const MOST_COMPARED: usize = 10 * MOST_LOOKED_AT;

/// What both operations ask alike.
struct Asked<'a> {
    actions: &'a [String],
    resources: &'a [String],
    entries: &'a [ContextEntry],
    max_items: Option<i64>,
    marker: Option<&'a str>,
}

/// A page of results, and where the next one begins.
type Results = (Vec<EvaluationResult>, Option<String>);

impl Iam {
    pub(crate) fn simulate_principal(
        &self,
        _: &Caller,
        request: SimulatePrincipalPolicyRequest,
    ) -> Result<SimulatePrincipalPolicyResponse, Fault> {
        let (attached, mut kind) = self.source(&request.policy_source_arn)?;
        let mut policies = Policies {
            identity: attached.identity,
            boundary: attached.boundary,
            ..Policies::default()
        };
        policies.identity.extend(given("PolicyInputList", &request.policy_input_list)?);
        if let Some(it) = boundary(&request.permissions_boundary_policy_input_list)? {
            policies.boundary = Some(it);
        }
        self.check_scenario(
            request.resource_owner.as_deref(),
            request.resource_handling_option.as_deref(),
        )?;
        policies.resource = resource_policy(request.resource_policy.as_deref())?;
        if let Some(arn) = &request.caller_arn {
            kind = self.user_kind(arn)?;
        } else if policies.resource.is_some() && !matches!(kind, IdentityKind::User { .. }) {
            return Err(no_caller().into());
        }
        let identity = Identity { account: self.account.clone(), kind };
        let asked = Asked {
            actions: &request.action_names,
            resources: &request.resource_arns,
            entries: &request.context_entries,
            max_items: request.max_items,
            marker: request.marker.as_deref(),
        };
        let (evaluation_results, marker) = simulate(&identity, &policies, &asked)?;
        let is_truncated = marker.is_some();
        Ok(SimulatePrincipalPolicyResponse { evaluation_results, is_truncated, marker })
    }

    pub(crate) fn simulate_custom(
        &self,
        _: &Caller,
        request: SimulateCustomPolicyRequest,
    ) -> Result<SimulateCustomPolicyResponse, Fault> {
        let identity = given("PolicyInputList", &request.policy_input_list)?;
        let boundary = boundary(&request.permissions_boundary_policy_input_list)?;
        self.check_scenario(
            request.resource_owner.as_deref(),
            request.resource_handling_option.as_deref(),
        )?;
        let resource = resource_policy(request.resource_policy.as_deref())?;
        let kind = match &request.caller_arn {
            Some(arn) => self.user_kind(arn)?,
            None if resource.is_some() => return Err(no_caller().into()),
            None => IdentityKind::User { arn: String::new(), id: String::new() },
        };
        let policies = Policies { identity, boundary, resource, ..Policies::default() };
        let identity = Identity { account: self.account.clone(), kind };
        let asked = Asked {
            actions: &request.action_names,
            resources: &request.resource_arns,
            entries: &request.context_entries,
            max_items: request.max_items,
            marker: request.marker.as_deref(),
        };
        let (evaluation_results, marker) = simulate(&identity, &policies, &asked)?;
        let is_truncated = marker.is_some();
        Ok(SimulateCustomPolicyResponse { evaluation_results, is_truncated, marker })
    }

    /// The policies of a user or role, and who it is.
    fn source(&self, arn: &str) -> Result<(region_gateway::Attached, IdentityKind), Fault> {
        let name = arn.rsplit('/').next().unwrap_or_default();
        match arn.split(':').nth(5).and_then(|it| it.split('/').next()) {
            Some("role") => {
                let role = Self::holder(&self.roles, name)?;
                let kind = IdentityKind::Session {
                    role_arn: role.entity.arn.clone(),
                    role_id: role.entity.id.clone(),
                    session_arn: role.entity.arn.clone(),
                };
                Ok((self.named(&role.grants), kind))
            }
            Some("user") => {
                let user = Self::holder(&self.users, name)?;
                Ok((self.named(&user.grants), self.user_kind(&user.entity.arn)?))
            }
            _ => {
                let message = format!(
                    "Invalid Entity Arn: {arn} does not clearly define entity type and name."
                );
                Err(IamError::Input { message }.into())
            }
        }
    }

    /// Also a user who does not exist: only the ARN is compared.
    fn user_kind(&self, arn: &str) -> Result<IdentityKind, IamError> {
        if !arn.split(':').nth(5).is_some_and(|it| it.starts_with("user/")) {
            let message = format!("Invalid CallerArn: {arn} is not the ARN of a user.");
            return Err(IamError::Input { message });
        }
        let id = self.principal_id(arn).unwrap_or_default();
        Ok(IdentityKind::User { arn: arn.to_owned(), id })
    }

    fn check_scenario(&self, owner: Option<&str>, option: Option<&str>) -> Result<(), IamError> {
        let is_own = |it: &str| it.split(':').nth(4).unwrap_or(it) == self.account;
        let refused = match (owner, option) {
            (Some(owner), _) if !is_own(owner) => "ResourceOwner of another account",
            (_, Some(_)) => "ResourceHandlingOption",
            _ => return Ok(()),
        };
        let message = format!("This region does not simulate a {refused}.");
        Err(IamError::Input { message })
    }
}

fn resource_policy(document: Option<&str>) -> Result<Option<Named>, IamError> {
    let Some(document) = document else { return Ok(None) };
    let policy = crate::read(document, Kind::Resource).map_err(unreadable)?;
    Ok(Some(Named { name: "ResourcePolicy".to_owned(), policy: policy.into() }))
}

/// At most one, as a principal has at most one.
fn boundary(documents: &[String]) -> Result<Option<Named>, IamError> {
    if documents.len() > 1 {
        return Err(IamError::Invalid {
            field: "permissionsBoundaryPolicyInputList",
            value: format!("{} documents", documents.len()),
            constraint: "Member must have length less than or equal to 1".to_owned(),
        });
    }
    Ok(given("PermissionsBoundaryPolicyInputList", documents)?.pop())
}

/// Documents that are nobody's: they are forgotten with the request.
fn given(list: &str, documents: &[String]) -> Result<Vec<Named>, IamError> {
    let named = documents.iter().enumerate().map(|(index, document)| {
        let policy = crate::read(document, Kind::Identity).map_err(unreadable)?;
        Ok(Named { name: format!("{list}.{}", index + 1), policy: policy.into() })
    });
    named.collect()
}

/// A simulation has no malformed policies, only input that is none.
fn unreadable(error: IamError) -> IamError {
    IamError::Input { message: error.to_string() }
}

fn no_caller() -> IamError {
    let message = "CallerArn is required with a ResourcePolicy, unless the policies are a user's.";
    IamError::Input { message: message.to_owned() }
}

/// One page of every action on every resource, in the order of the request.
fn simulate(
    identity: &Identity,
    policies: &Policies,
    asked: &Asked<'_>,
) -> Result<Results, IamError> {
    let all = ["*".to_owned()];
    let resources = if asked.resources.is_empty() { &all[..] } else { asked.resources };
    let invalid = |field, value: String, constraint: &str| IamError::Invalid {
        field,
        value,
        constraint: constraint.to_owned(),
    };
    let size = match asked.max_items {
        None => 100,
        Some(it @ 1..=1000) => usize::try_from(it).unwrap_or(1000),
        Some(it) => {
            let constraint = "Member must have value between 1 and 1000";
            return Err(invalid("maxItems", it.to_string(), constraint));
        }
    };
    if let Some(long) = asked.actions.iter().find(|it| !(3..=128).contains(&it.len())) {
        let constraint = "Member must have length between 3 and 128";
        return Err(invalid("actionNames", long.clone(), constraint));
    }
    if let Some(long) = resources.iter().find(|it| !(1..=2048).contains(&it.len())) {
        let constraint = "Member must have length between 1 and 2048";
        return Err(invalid("resourceArns", long.clone(), constraint));
    }
    let first = match asked.marker {
        None => 0,
        Some(marker) => page_position(marker)
            .map_err(|_| invalid("marker", marker.to_owned(), "Invalid Marker."))?,
    };
    let mut context = Context::new();
    for entry in asked.entries {
        context.set_all(&entry.context_key_name, entry.context_key_values.clone());
    }
    let missing = missing(policies, asked.entries);
    // Each text of a condition is compared with each value of its key.
    let values = asked.entries.iter().map(|it| it.context_key_values.len()).max().unwrap_or(0);
    let compared = policies.patterns().saturating_mul(values.max(1));
    if compared > MOST_COMPARED {
        let message = format!(
            "The policies and the context entries make {compared} comparisons; this region makes \
             {MOST_COMPARED} at the most."
        );
        return Err(IamError::Input { message });
    }
    let looked_at = (compared + missing.len()).max(1);
    let size = size.min((MOST_LOOKED_AT / looked_at).max(1));
    let number = asked.actions.len() * resources.len();
    let end = number.min(first.saturating_add(size));
    let results = (first..end).map(|index| {
        let action = &asked.actions[index / resources.len()];
        let resource = &resources[index % resources.len()];
        let request = Request { identity, action, resource, context: &context };
        result(&request, policies, &missing)
    });
    let results = results.collect();
    Ok((results, (end < number).then(|| page_mark(end))))
}

fn result(request: &Request<'_>, policies: &Policies, missing: &[String]) -> EvaluationResult {
    let decision = evaluate(request, policies);
    let verdict = match decision.verdict {
        Verdict::Allowed => "allowed",
        Verdict::ExplicitDeny => "explicitDeny",
        Verdict::ImplicitDeny => "implicitDeny",
    };
    let matched = decision.deciding.into_iter().map(|it| MatchedStatement {
        source_policy_id: it.policy,
        source_policy_type: Some("IAM Policy".to_owned()),
    });
    EvaluationResult {
        eval_action_name: request.action.to_owned(),
        eval_resource_name: Some(request.resource.to_owned()),
        eval_decision: verdict.to_owned(),
        matched_statements: matched.collect(),
        missing_context_values: missing.to_vec(),
        permissions_boundary_decision_detail: boundary_said(request, policies),
    }
}

/// What the boundary says by itself.
fn boundary_said(
    request: &Request<'_>,
    policies: &Policies,
) -> Option<PermissionsBoundaryDecisionDetail> {
    policies.boundary.as_ref()?;
    let said = layers(request, policies).into_iter().find(|it| it.layer == Layer::Boundary)?;
    let allowed_by_permissions_boundary = said.is_allowed();
    Some(PermissionsBoundaryDecisionDetail { allowed_by_permissions_boundary })
}

/// The keys that the policies read and the request does not give.
fn missing(policies: &Policies, entries: &[ContextEntry]) -> Vec<String> {
    let given: HashSet<String> =
        entries.iter().map(|it| it.context_key_name.to_ascii_lowercase()).collect();
    let all = policies.identity.iter().chain(&policies.boundary).chain(&policies.resource);
    let keys: BTreeSet<&str> = all.flat_map(|it| it.policy.context_keys()).collect();
    let missing = keys.into_iter().filter(|it| !given.contains(&it.to_ascii_lowercase()));
    missing.map(str::to_owned).collect()
}
