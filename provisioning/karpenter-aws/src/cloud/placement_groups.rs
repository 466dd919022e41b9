//! The placement group that a class selects.

use api_kube::karpenter::PlacementGroupSelector;
use aws_ec2::placement_group::{DescribePlacementGroups, DescribePlacementGroupsRequest};
use aws_wire::client::CallError;

use super::{Cloud, filter};
use crate::Group;

impl Cloud {
    pub(crate) async fn placement_group(
        &self,
        selector: &PlacementGroupSelector,
    ) -> Result<Option<Group>, CallError> {
        let request = DescribePlacementGroupsRequest {
            filters: vec![filter("state", ["available".to_owned()])],
            group_ids: selector.id.iter().cloned().collect(),
            group_names: selector.name.iter().cloned().collect(),
            ..DescribePlacementGroupsRequest::default()
        };
        let found = match self.aws.call::<DescribePlacementGroups>(request).await {
            Ok(answer) => answer.placement_groups.into_iter().next(),
            Err(error) if error.is("InvalidPlacementGroup.Unknown") => None,
            Err(error) => return Err(error),
        };
        Ok(found.and_then(|it| {
            let partitions = it.partition_count.and_then(|it| u32::try_from(it).ok());
            Some(Group { id: it.group_id?, partitions })
        }))
    }
}
