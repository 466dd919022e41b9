//! Every operation that EKS serves here.

use std::sync::Arc;

use aws_eks::{
    AssociateAccessPolicy, CreateAccessEntry, CreateAddon, CreateCluster, CreateFargateProfile,
    CreateNodegroup, CreatePodIdentityAssociation, DeleteAccessEntry, DeleteAddon, DeleteCluster,
    DeleteFargateProfile, DeleteNodegroup, DeletePodIdentityAssociation, DescribeAccessEntry,
    DescribeAddon, DescribeAddonConfiguration, DescribeAddonVersions, DescribeCluster,
    DescribeClusterVersions, DescribeFargateProfile, DescribeNodegroup,
    DescribePodIdentityAssociation, DescribeUpdate, DisassociateAccessPolicy, ListAccessEntries,
    ListAccessPolicies, ListAddons, ListAssociatedAccessPolicies, ListClusters,
    ListFargateProfiles, ListIdentityProviderConfigs, ListNodegroups, ListPodIdentityAssociations,
    ListTagsForResource, ListUpdates, TagResource, UntagResource, UpdateAccessEntry, UpdateAddon,
    UpdateClusterConfig, UpdateNodegroupConfig, UpdateNodegroupVersion,
    UpdatePodIdentityAssociation,
};
use region_gateway::Routes;

use crate::Eks;

/// The table for the gateway.
pub fn routes(eks: &Eks) -> Routes {
    let eks = Arc::new(eks.clone());
    Routes::new()
        .operation::<CreateCluster, _>(eks.clone())
        .operation::<DescribeCluster, _>(eks.clone())
        .operation::<ListClusters, _>(eks.clone())
        .operation::<DeleteCluster, _>(eks.clone())
        .operation::<UpdateClusterConfig, _>(eks.clone())
        .operation::<CreateNodegroup, _>(eks.clone())
        .operation::<DescribeNodegroup, _>(eks.clone())
        .operation::<ListNodegroups, _>(eks.clone())
        .operation::<DeleteNodegroup, _>(eks.clone())
        .operation::<UpdateNodegroupConfig, _>(eks.clone())
        .operation::<UpdateNodegroupVersion, _>(eks.clone())
        .operation::<CreateAccessEntry, _>(eks.clone())
        .operation::<DescribeAccessEntry, _>(eks.clone())
        .operation::<ListAccessEntries, _>(eks.clone())
        .operation::<UpdateAccessEntry, _>(eks.clone())
        .operation::<DeleteAccessEntry, _>(eks.clone())
        .operation::<AssociateAccessPolicy, _>(eks.clone())
        .operation::<DisassociateAccessPolicy, _>(eks.clone())
        .operation::<ListAssociatedAccessPolicies, _>(eks.clone())
        .operation::<ListAccessPolicies, _>(eks.clone())
        .operation::<CreateAddon, _>(eks.clone())
        .operation::<DescribeAddon, _>(eks.clone())
        .operation::<ListAddons, _>(eks.clone())
        .operation::<DeleteAddon, _>(eks.clone())
        .operation::<UpdateAddon, _>(eks.clone())
        .operation::<DescribeAddonVersions, _>(eks.clone())
        .operation::<DescribeUpdate, _>(eks.clone())
        .operation::<ListUpdates, _>(eks.clone())
        .operation::<TagResource, _>(eks.clone())
        .operation::<UntagResource, _>(eks.clone())
        .operation::<DescribeClusterVersions, _>(eks.clone())
        .operation::<DescribeAddonConfiguration, _>(eks.clone())
        .operation::<CreateFargateProfile, _>(eks.clone())
        .operation::<DescribeFargateProfile, _>(eks.clone())
        .operation::<ListFargateProfiles, _>(eks.clone())
        .operation::<DeleteFargateProfile, _>(eks.clone())
        .operation::<ListIdentityProviderConfigs, _>(eks.clone())
        .operation::<CreatePodIdentityAssociation, _>(eks.clone())
        .operation::<DescribePodIdentityAssociation, _>(eks.clone())
        .operation::<ListPodIdentityAssociations, _>(eks.clone())
        .operation::<UpdatePodIdentityAssociation, _>(eks.clone())
        .operation::<DeletePodIdentityAssociation, _>(eks.clone())
        .operation::<ListTagsForResource, _>(eks)
}
