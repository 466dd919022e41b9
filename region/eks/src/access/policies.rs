//! Access policies: the rights that EKS gives to an entry, in the whole cluster or in namespaces.

use aws_eks::{
    AccessPolicy, AccessScope, AssociateAccessPolicy, AssociateAccessPolicyRequest,
    AssociateAccessPolicyResponse, DisassociateAccessPolicy, DisassociateAccessPolicyRequest,
    DisassociateAccessPolicyResponse, ListAccessPolicies, ListAccessPoliciesRequest,
    ListAccessPoliciesResponse, ListAssociatedAccessPolicies, ListAssociatedAccessPoliciesRequest,
    ListAssociatedAccessPoliciesResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};

use crate::{Eks, faults, records::AssociatedPolicy, tags, targets::WithSome};

const PREFIX: &str = "arn:aws:eks::aws:cluster-access-policy/";
pub(crate) const CLUSTER_ADMIN: &str =
    "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy";

/// Those that the authorizer knows.
///
/// Deviation: the policies of Auto Mode's components, of insights and of other services are not
/// there; nothing here would use them.
const POLICIES: [&str; 7] = [
    "AmazonEKSAdminPolicy",
    "AmazonEKSAdminViewPolicy",
    "AmazonEKSClusterAdminPolicy",
    "AmazonEKSEditPolicy",
    "AmazonEKSHybridPolicy",
    "AmazonEKSSecretReaderPolicy",
    "AmazonEKSViewPolicy",
];

fn check(arn: &str, scope: &AccessScope) -> Result<(), Fault> {
    let is_known = arn.strip_prefix(PREFIX).is_some_and(|name| POLICIES.contains(&name));
    if !is_known {
        return Err(faults::invalid_parameter(
            "The policyArn parameter format is not valid, or the policy does not exist",
        ));
    }
    match (scope.kind.as_deref(), scope.namespaces.is_empty()) {
        (Some("cluster"), true) | (Some("namespace"), false) => Ok(()),
        (Some("cluster"), false) => Err(faults::invalid_parameter(
            "The namespaces parameter must be empty for an access scope of type cluster",
        )),
        (Some("namespace"), true) => Err(faults::invalid_parameter(
            "The namespaces parameter cannot be empty for an access scope of type namespace",
        )),
        _ => Err(faults::invalid_parameter("The access scope type must be cluster or namespace")),
    }
}

fn shape(policy: &AssociatedPolicy) -> aws_eks::AssociatedAccessPolicy {
    let kind = if policy.namespaces.is_empty() { "cluster" } else { "namespace" };
    aws_eks::AssociatedAccessPolicy {
        policy_arn: policy.arn.clone(),
        access_scope: AccessScope {
            kind: Some(kind.to_owned()),
            namespaces: policy.namespaces.clone(),
        },
        associated_at: Eks::seconds(policy.associated_at),
        modified_at: Eks::seconds(policy.modified_at),
    }
}

impl Handle<AssociateAccessPolicy> for Eks {
    fn targets(&self, _: &Caller, request: &AssociateAccessPolicyRequest) -> Vec<Target> {
        let targets = self.entry_target(&request.cluster_name, &request.principal_arn).into_iter();
        let scope = &request.access_scope;
        let targets = targets.map(|it| {
            it.with("eks:policyArn", [request.policy_arn.clone()])
                .with_some("eks:accessScope", scope.kind.clone())
                .with_all("eks:namespaces", &scope.namespaces)
        });
        targets.collect()
    }

    async fn handle(
        &self,
        _: &Caller,
        request: AssociateAccessPolicyRequest,
    ) -> Result<AssociateAccessPolicyResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        check(&request.policy_arn, &request.access_scope)?;
        let now = self.now();
        let (cluster, arn) = (&request.cluster_name, &request.principal_arn);
        let (_, policy) = self.change_entry(cluster, arn, |entry| {
            if entry.kind != "STANDARD" {
                return Err(faults::invalid_request(format!(
                    "Access policies cannot be associated with an access entry of type {}",
                    entry.kind
                )));
            }
            let before = entry.policies.iter().find(|it| it.arn == request.policy_arn);
            let policy = AssociatedPolicy {
                arn: request.policy_arn.clone(),
                namespaces: request.access_scope.namespaces,
                associated_at: before.map_or(now, |it| it.associated_at),
                modified_at: now,
            };
            entry.policies.retain(|it| it.arn != request.policy_arn);
            entry.policies.push(policy.clone());
            Ok(policy)
        })?;
        Ok(AssociateAccessPolicyResponse {
            cluster_name: request.cluster_name,
            principal_arn: request.principal_arn,
            associated_access_policy: shape(&policy),
        })
    }
}

impl Handle<DisassociateAccessPolicy> for Eks {
    fn targets(&self, _: &Caller, request: &DisassociateAccessPolicyRequest) -> Vec<Target> {
        let (cluster, principal) = (&request.cluster_name, &request.principal_arn);
        let entry = self.0.entries.get(&super::key_of(cluster, principal));
        let known = entry.iter().flat_map(|it| &it.policies);
        let namespaces = known.filter(|it| it.arn == request.policy_arn);
        let namespaces: Vec<String> = namespaces.flat_map(|it| it.namespaces.clone()).collect();
        let scope = if namespaces.is_empty() { "cluster" } else { "namespace" };
        let targets = self.entry_target(cluster, principal).into_iter().map(|it| {
            it.with("eks:policyArn", [request.policy_arn.clone()])
                .with("eks:accessScope", [scope.to_owned()])
                .with_all("eks:namespaces", &namespaces)
        });
        targets.collect()
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DisassociateAccessPolicyRequest,
    ) -> Result<DisassociateAccessPolicyResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        let (cluster, arn) = (&request.cluster_name, &request.principal_arn);
        self.change_entry(cluster, arn, |entry| {
            let before = entry.policies.len();
            entry.policies.retain(|it| it.arn != request.policy_arn);
            if entry.policies.len() == before {
                return Err(faults::not_found("The specified policy is not associated"));
            }
            Ok(())
        })?;
        Ok(DisassociateAccessPolicyResponse {})
    }
}

impl Handle<ListAssociatedAccessPolicies> for Eks {
    fn targets(&self, _: &Caller, request: &ListAssociatedAccessPoliciesRequest) -> Vec<Target> {
        self.entry_target(&request.cluster_name, &request.principal_arn)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListAssociatedAccessPoliciesRequest,
    ) -> Result<ListAssociatedAccessPoliciesResponse, Fault> {
        self.ensure_api_mode(&request.cluster_name)?;
        let entry = self.find_entry(&request.cluster_name, &request.principal_arn)?;
        let names = entry.policies.iter().map(|it| it.arn.clone()).collect();
        let (names, next_token) =
            tags::page(names, request.max_results, request.next_token.as_deref())?;
        let shown = entry.policies.iter().filter(|it| names.contains(&it.arn));
        Ok(ListAssociatedAccessPoliciesResponse {
            associated_access_policies: shown.map(shape).collect(),
            cluster_name: request.cluster_name,
            principal_arn: request.principal_arn,
            next_token,
        })
    }
}

impl Handle<ListAccessPolicies> for Eks {
    async fn handle(
        &self,
        _: &Caller,
        request: ListAccessPoliciesRequest,
    ) -> Result<ListAccessPoliciesResponse, Fault> {
        let names = POLICIES.map(str::to_owned).to_vec();
        let (names, next_token) =
            tags::page(names, request.max_results, request.next_token.as_deref())?;
        let policy = |name: String| AccessPolicy { arn: format!("{PREFIX}{name}"), name };
        let access_policies = names.into_iter().map(policy).collect();
        Ok(ListAccessPoliciesResponse { access_policies, next_token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_namespaces_exactly_when_it_is_one_of_namespaces() {
        let scope = |kind: &str, namespaces: &[&str]| AccessScope {
            kind: Some(kind.to_owned()),
            namespaces: namespaces.iter().map(|it| (*it).to_owned()).collect(),
        };
        assert!(check(CLUSTER_ADMIN, &scope("cluster", &[])).is_ok());
        assert!(check(CLUSTER_ADMIN, &scope("namespace", &["a"])).is_ok());
        assert!(check(CLUSTER_ADMIN, &scope("namespace", &[])).is_err());
        assert!(
            check("arn:aws:iam::aws:policy/AdministratorAccess", &scope("cluster", &[])).is_err()
        );
    }
}
