//! What the authenticator and the authorizer of access policies ask EKS and EC2 about.

use std::sync::Arc;

use aws_iam_authenticator::{
    AccessPolicies, Association, ConfigMapMappings, Identity, Mapping, Mappings, Scope,
};
use futures::future::BoxFuture;
use region_ec2::{Ec2, names};
use region_eks::Eks;

use super::{region::REGION, world};

/// The access entries of one cluster, and after them its `aws-auth` ConfigMap: a principal that is in
/// both is who its entry says.
pub(crate) struct AccessEntries {
    eks: Eks,
    ec2: Arc<Ec2>,
    cluster: String,
    aws_auth: ConfigMapMappings,
}

impl AccessEntries {
    pub(crate) fn new(eks: Eks, ec2: Arc<Ec2>, cluster: &str, aws_auth: ConfigMapMappings) -> Self {
        Self { eks, ec2, cluster: cluster.to_owned(), aws_auth }
    }
}

/// Whether the entry is that principal's, and not a deleted one's of the same name.
fn is_of(entry: &region_eks::Mapping, principal_id: &str) -> bool {
    entry.principal_id.as_ref().is_none_or(|id| id == principal_id)
}

impl Mappings for AccessEntries {
    fn find<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Option<Mapping>> {
        let found = self.eks.mapping(&self.cluster, &identity.canonical_arn);
        let by_entry = found
            .filter(|it| is_of(it, &identity.user_id))
            .map(|it| Mapping { username: it.username, groups: it.groups });
        let mapping = by_entry.or_else(|| {
            let is_read = self.eks.reads_config_map(&self.cluster);
            is_read.then(|| self.aws_auth.find(identity)).flatten()
        });
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
    fn associated<'a>(
        &'a self,
        principal_arn: &'a str,
        principal_id: &'a str,
    ) -> BoxFuture<'a, Vec<Association>> {
        // Those of the ConfigMap have none: RBAC knows their groups.
        let found = self.eks.mapping(&self.cluster, principal_arn);
        let found = found.filter(|it| is_of(it, principal_id));
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
