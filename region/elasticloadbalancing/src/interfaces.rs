//! Gives each load balancer an interface in each of its subnets, and takes away those that belong to
//! none: observe, plan, call EC2; again whenever something changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_ec2::{
    common::Filter,
    instance::{DescribeInstances, DescribeInstancesRequest},
    network_interface::{
        CreateNetworkInterface, CreateNetworkInterfaceRequest, DeleteNetworkInterface,
        DeleteNetworkInterfaceRequest, DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest,
        ModifyNetworkInterfaceAttribute, ModifyNetworkInterfaceAttributeRequest, NetworkInterface,
    },
};
use aws_wire::CallError;

use crate::{ElasticLoadBalancing, records::LoadBalancer};

/// As whom they are made: what a customer describes in the same words is not ours.
pub const REQUESTER: &str = "amazon-elb";

const DESCRIPTION: &str = "ELB ";
/// At the latest: for changes that nobody announced, and for instances that have ended.
const RESYNC: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

/// The load balancer that an interface belongs to, by who made it and its description.
pub fn load_balancer_of<'a>(requester: Option<&str>, description: &'a str) -> Option<&'a str> {
    description.strip_prefix(DESCRIPTION).filter(|_| requester == Some(REQUESTER))
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Create { subnet: String },
    Delete { id: String },
    Regroup { id: String },
}

impl ElasticLoadBalancing {
    /// Keeps all interfaces as they shall be until it is dropped.
    pub async fn run(self) {
        loop {
            let pause = match self.settle(None).await {
                Ok(()) => RESYNC,
                Err(error) => {
                    let error = telemetry::chain(&error);
                    tracing::warn!(%error, "load balancers' interfaces are not all in place");
                    RETRY
                }
            };
            tokio::select! {
                () = self.unsettled().notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What a call changed is in place before its answer, if it can be; else it will be.
    pub(crate) async fn settle_soon(&self, name: &str) {
        if let Err(error) = self.settle(Some(name)).await {
            let error = telemetry::chain(&error);
            tracing::warn!(name, %error, "a load balancer's interfaces are not all in place");
            self.unsettled().notify_one();
        }
    }

    /// All of them, or those of one load balancer.
    async fn settle(&self, only: Option<&str>) -> Result<(), CallError> {
        let _alone = self.settling().lock().await;
        let mut observed: BTreeMap<String, Vec<NetworkInterface>> = BTreeMap::new();
        for interface in self.interfaces(only).await? {
            let description = interface.description.clone().unwrap_or_default();
            let owner = load_balancer_of(interface.requester_id.as_deref(), &description);
            if let Some(owner) = owner {
                observed.entry(owner.to_owned()).or_default().push(interface);
            }
        }
        let known = self.load_balancers();
        let known = known.iter().filter(|it| only.is_none_or(|only| it.name == only));
        let mut result = Ok(());
        for load_balancer in known {
            let present = observed.remove(&load_balancer.name).unwrap_or_default();
            for step in plan(load_balancer, &present) {
                result = result.and(self.take(&load_balancer.name, load_balancer, step).await);
            }
            if only.is_none() {
                result = result.and(self.forget_ended(load_balancer).await);
            }
        }
        for id in observed.into_values().flatten().filter_map(|it| it.network_interface_id) {
            result = result.and(self.delete(id).await);
        }
        result
    }

    async fn interfaces(&self, only: Option<&str>) -> Result<Vec<NetworkInterface>, CallError> {
        let filter =
            |name: &str, value: String| Filter { name: Some(name.to_owned()), values: vec![value] };
        let mut filters = vec![filter("requester-id", REQUESTER.to_owned())];
        filters.extend(only.map(|it| filter("description", format!("{DESCRIPTION}{it}"))));
        let (mut all, mut next_token) = (Vec::new(), None);
        loop {
            let request = DescribeNetworkInterfacesRequest {
                filters: filters.clone(),
                next_token,
                ..Default::default()
            };
            let page = self.ec2().call::<DescribeNetworkInterfaces>(request).await?;
            all.extend(page.network_interfaces);
            next_token = page.next_token.filter(|it| !it.is_empty());
            if next_token.is_none() {
                return Ok(all);
            }
        }
    }

    async fn take(&self, name: &str, wanted: &LoadBalancer, step: Step) -> Result<(), CallError> {
        match step {
            Step::Create { subnet } => {
                let request = CreateNetworkInterfaceRequest {
                    subnet_id: subnet,
                    description: Some(format!("{DESCRIPTION}{name}")),
                    groups: wanted.security_groups.clone(),
                    ..Default::default()
                };
                self.ec2().call::<CreateNetworkInterface>(request).await.map(drop)
            }
            Step::Regroup { id } => {
                let request = ModifyNetworkInterfaceAttributeRequest {
                    network_interface_id: id,
                    groups: wanted.security_groups.clone(),
                    ..Default::default()
                };
                self.ec2().call::<ModifyNetworkInterfaceAttribute>(request).await.map(drop)
            }
            Step::Delete { id } => self.delete(id).await,
        }
    }

    async fn delete(&self, id: String) -> Result<(), CallError> {
        let request = DeleteNetworkInterfaceRequest { network_interface_id: id, dry_run: None };
        match self.ec2().call::<DeleteNetworkInterface>(request).await {
            Err(error) if error.is("InvalidNetworkInterfaceID.NotFound") => Ok(()),
            result => result.map(drop),
        }
    }

    /// Instances that have ended are taken out, as on AWS.
    async fn forget_ended(&self, load_balancer: &LoadBalancer) -> Result<(), CallError> {
        if load_balancer.instances.is_empty() {
            return Ok(());
        }
        let alive = ["pending", "running", "stopping", "stopped"].map(str::to_owned);
        let ids: Vec<String> = load_balancer.instances.iter().cloned().collect();
        let filter =
            |name: &str, values: Vec<String>| Filter { name: Some(name.to_owned()), values };
        let filters =
            vec![filter("instance-id", ids), filter("instance-state-name", alive.to_vec())];
        let request = DescribeInstancesRequest { filters, ..Default::default() };
        let found = self.ec2().call::<DescribeInstances>(request).await?.reservations;
        let found = found.into_iter().flat_map(|it| it.instances);
        let alive: BTreeSet<String> = found.filter_map(|it| it.instance_id).collect();
        let ended: BTreeSet<_> = load_balancer.instances.difference(&alive).collect();
        if !ended.is_empty() {
            let forgotten = self.update(&load_balancer.name, |it| {
                it.instances.retain(|id| !ended.contains(id));
                Ok(())
            });
            if let Err(fault) = forgotten {
                tracing::debug!(%fault, "ended instances stay registered for now");
            }
        }
        Ok(())
    }
}

/// Deletions come first: they make room.
fn plan(wanted: &LoadBalancer, present: &[NetworkInterface]) -> Vec<Step> {
    let groups: BTreeSet<&String> = wanted.security_groups.iter().collect();
    let (mut steps, mut kept) = (Vec::new(), BTreeSet::new());
    for interface in present {
        let Some(id) = interface.network_interface_id.clone() else { continue };
        let subnet = interface.subnet_id.as_ref().filter(|it| wanted.subnets.contains_key(*it));
        if subnet.filter(|it| kept.insert(*it)).is_none() {
            steps.insert(0, Step::Delete { id });
            continue;
        }
        let has: BTreeSet<&String> =
            interface.groups.iter().filter_map(|it| it.group_id.as_ref()).collect();
        if has != groups {
            steps.push(Step::Regroup { id });
        }
    }
    let missing = wanted.subnets.keys().filter(|it| !kept.contains(*it));
    steps.extend(missing.map(|it| Step::Create { subnet: it.clone() }));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_elastic_load_balancings_own_interfaces_are_a_load_balancers() {
        assert_eq!(load_balancer_of(Some("amazon-elb"), "ELB web"), Some("web"));
        assert_eq!(load_balancer_of(None, "ELB web"), None);
        assert_eq!(load_balancer_of(Some("eks.amazonaws.com"), "ELB web"), None);
        assert_eq!(load_balancer_of(Some("amazon-elb"), "web"), None);
    }
}
