//! What the authenticator and the authorizer of access policies ask EKS and EC2 about.

use std::sync::Arc;

use aws_iam_authenticator::{AccessPolicies, Association, Identity, Mapping, Mappings, Scope};
use futures::future::BoxFuture;
use region_ec2::{Ec2, names};
use region_eks::Eks;

use super::{region::REGION, world};

/// The access entries of one cluster.
pub(crate) struct AccessEntries {
    eks: Eks,
    ec2: Arc<Ec2>,
    cluster: String,
}

impl AccessEntries {
    pub(crate) fn new(eks: Eks, ec2: Arc<Ec2>, cluster: &str) -> Self {
        Self { eks, ec2, cluster: cluster.to_owned() }
    }
}

impl Mappings for AccessEntries {
    fn find<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Option<Mapping>> {
        let found = self.eks.mapping(&self.cluster, &identity.canonical_arn);
        let is_same = |it: &region_eks::Mapping| {
            it.principal_id.as_ref().is_none_or(|id| *id == identity.user_id)
        };
        let found = found.filter(is_same);
        let mapping = found.map(|it| Mapping { username: it.username, groups: it.groups });
        Box::pin(std::future::ready(mapping))
    }

    fn private_dns_name<'a>(&'a self, instance_id: &'a str) -> BoxFuture<'a, Option<String>> {
        let state = self.ec2.view();
        let primary = world::primary(&state, instance_id);
        let name = primary.map(|it| names::private_dns(REGION, it.primary_address));
        Box::pin(std::future::ready(name))
    }
}

impl AccessPolicies for AccessEntries {
    fn associated<'a>(&'a self, principal_arn: &'a str) -> BoxFuture<'a, Vec<Association>> {
        let found = self.eks.mapping(&self.cluster, principal_arn);
        let policies = found.map(|it| it.policies).unwrap_or_default();
        let association = |it: region_eks::AssociatedPolicy| Association {
            policy_arn: it.arn,
            scope: match it.namespaces.is_empty() {
                true => Scope::Cluster,
                false => Scope::Namespaces(it.namespaces),
            },
        };
        Box::pin(std::future::ready(policies.into_iter().map(association).collect()))
    }
}
