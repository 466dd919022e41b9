//! The subnets of a load balancer: one per zone, public ones where it faces the internet.

use std::collections::BTreeMap;

use aws_ec2::{
    common::Tag,
    route_table::{DescribeRouteTables, DescribeRouteTablesRequest, RouteTable},
    subnet::{DescribeSubnets, DescribeSubnetsRequest, Subnet},
};

use super::{
    Aws, CLUSTER_TAG, ProviderError, annotations::Annotations, cluster_tag, failed, filter,
};

const INTERNAL_ROLE: &str = "kubernetes.io/role/internal-elb";
const PUBLIC_ROLE: &str = "kubernetes.io/role/elb";

impl Aws {
    pub(super) async fn subnets(
        &self,
        annotations: &Annotations<'_>,
        is_internal: bool,
    ) -> Result<Vec<String>, ProviderError> {
        if annotations.get("subnets").is_some() {
            return self.named_subnets(annotations.list("subnets")).await;
        }
        let vpc = || vec![filter("vpc-id", vec![self.vpc_id.clone()])];
        let request = DescribeSubnetsRequest { filters: vpc(), ..Default::default() };
        let subnets = self.client.call::<DescribeSubnets>(request).await;
        let subnets =
            subnets.map_err(|it| ProviderError::from(it).of("error describing subnets"))?.subnets;
        let request = DescribeRouteTablesRequest { filters: vpc(), ..Default::default() };
        let tables = self.client.call::<DescribeRouteTables>(request).await;
        let tables = tables
            .map_err(|it| ProviderError::from(it).of("error describe route table"))?
            .route_tables;
        chosen(&subnets, &tables, &self.cluster, is_internal)
    }

    /// By their ids or their tags `Name`.
    async fn named_subnets(&self, named: Vec<String>) -> Result<Vec<String>, ProviderError> {
        if named.is_empty() {
            return Err(failed("unable to resolve empty subnet slice"));
        }
        let count = named.len();
        let (ids, names): (Vec<String>, Vec<String>) =
            named.into_iter().partition(|it| it.starts_with("subnet-"));
        let mut found = Vec::new();
        if !ids.is_empty() {
            let request = DescribeSubnetsRequest { subnet_ids: ids, ..Default::default() };
            found.extend(self.client.call::<DescribeSubnets>(request).await?.subnets);
        }
        if !names.is_empty() {
            let filters =
                vec![filter("tag:Name", names), filter("vpc-id", vec![self.vpc_id.clone()])];
            let request = DescribeSubnetsRequest { filters, ..Default::default() };
            found.extend(self.client.call::<DescribeSubnets>(request).await?.subnets);
        }
        if found.len() != count {
            let found = found.len();
            return Err(failed(format!("expected to find {count}, but found {found} subnets")));
        }
        Ok(found.into_iter().filter_map(|it| it.subnet_id).collect())
    }
}

/// Of several in a zone the one with the role's tag, then the one with the cluster's, then the first
/// by id. Subnets of other clusters are none of ours.
fn chosen(
    subnets: &[Subnet],
    tables: &[RouteTable],
    cluster: &str,
    is_internal: bool,
) -> Result<Vec<String>, ProviderError> {
    let own = cluster_tag(cluster);
    let is_other = |it: &Subnet| {
        !has(&it.tags, |key| key == own) && has(&it.tags, |key| key.starts_with(CLUSTER_TAG))
    };
    let role = if is_internal { INTERNAL_ROLE } else { PUBLIC_ROLE };
    let mut by_zone: BTreeMap<&str, &Subnet> = BTreeMap::new();
    for subnet in subnets.iter().filter(|it| !is_other(it)) {
        let (Some(zone), Some(id)) = (&subnet.availability_zone, &subnet.subnet_id) else {
            continue;
        };
        if !is_public(tables, id)? && !is_internal {
            continue;
        }
        let rank = |it: &Subnet| {
            let has_role = has(&it.tags, |key| key == role);
            let is_own = has(&it.tags, |key| key == own);
            (!has_role, !is_own, it.subnet_id.clone())
        };
        let best = by_zone.entry(zone).or_insert(subnet);
        if rank(subnet) < rank(best) {
            *best = subnet;
        }
    }
    Ok(by_zone.into_values().filter_map(|it| it.subnet_id.clone()).collect())
}

fn has(tags: &[Tag], mut test: impl FnMut(&str) -> bool) -> bool {
    tags.iter().filter_map(|it| it.key.as_deref()).any(&mut test)
}

/// One whose route table, or the VPC's main one, leads to an internet gateway.
fn is_public(tables: &[RouteTable], subnet: &str) -> Result<bool, ProviderError> {
    let is_its =
        |it: &&RouteTable| it.associations.iter().any(|it| it.subnet_id.as_deref() == Some(subnet));
    let is_main = |it: &&RouteTable| it.associations.iter().any(|it| it.main == Some(true));
    let table = tables.iter().find(is_its).or_else(|| tables.iter().find(is_main));
    let table = table
        .ok_or_else(|| failed(format!("could not locate routing table for subnet {subnet}")))?;
    let leads_out = |it: &Option<String>| it.as_ref().is_some_and(|it| it.starts_with("igw"));
    Ok(table.routes.iter().any(|it| leads_out(&it.gateway_id)))
}

#[cfg(test)]
mod tests {
    use aws_ec2::route_table::{Route, RouteTableAssociation};

    use super::*;

    fn subnet(id: &str, zone: &str, tags: &[&str]) -> Subnet {
        let tag = |it: &&str| Tag { key: Some((*it).to_owned()), value: None };
        Subnet {
            subnet_id: Some(id.to_owned()),
            availability_zone: Some(zone.to_owned()),
            tags: tags.iter().map(tag).collect(),
            ..Subnet::default()
        }
    }

    fn table(subnet: Option<&str>, gateway: &str) -> RouteTable {
        RouteTable {
            associations: vec![RouteTableAssociation {
                main: Some(subnet.is_none()),
                subnet_id: subnet.map(str::to_owned),
                ..RouteTableAssociation::default()
            }],
            routes: vec![Route { gateway_id: Some(gateway.to_owned()), ..Route::default() }],
            ..RouteTable::default()
        }
    }

    #[test]
    fn one_per_zone_is_chosen_by_its_tags_and_public_where_it_must_be() {
        let subnets = [
            subnet("subnet-b", "a", &[]),
            subnet("subnet-a", "a", &[]),
            subnet("subnet-private", "b", &[INTERNAL_ROLE]),
            subnet("subnet-d", "b", &["kubernetes.io/cluster/stead"]),
            subnet("subnet-e", "b", &[PUBLIC_ROLE]),
            subnet("subnet-other", "c", &["kubernetes.io/cluster/other"]),
        ];
        let tables = [table(None, "igw-1"), table(Some("subnet-private"), "local")];
        let chosen = |is_internal| chosen(&subnets, &tables, "stead", is_internal).unwrap();
        assert_eq!(chosen(false), ["subnet-a", "subnet-e"]);
        assert_eq!(chosen(true), ["subnet-a", "subnet-private"]);
    }
}
