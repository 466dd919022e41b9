//! Load balancers as a whole: made, listed, deleted.

use std::collections::{BTreeMap, BTreeSet};

use aws_elasticloadbalancing::load_balancer::{
    CreateLoadBalancerRequest, CreateLoadBalancerResponse, DeleteLoadBalancerRequest,
    DeleteLoadBalancerResponse, DescribeLoadBalancersRequest, DescribeLoadBalancersResponse,
};
use aws_wire::Fault;
use region_gateway::page;

use crate::{
    Call, ElasticLoadBalancing, faults, listeners, network,
    records::{Attributes, HealthCheck, LoadBalancer},
    shape, tags,
};

/// AWS's quota.
const MOST: usize = 20;

/// Making what is there already, in all that was asked for, is no mistake.
pub(crate) async fn create(
    service: &ElasticLoadBalancing,
    call: Call,
    request: CreateLoadBalancerRequest,
) -> Result<CreateLoadBalancerResponse, Fault> {
    check_name(&request.load_balancer_name)?;
    let wanted = wanted(service, &call, &request).await?;
    let made = service.transaction(|transaction, all| {
        let known = transaction.list(all);
        if let Some(it) = transaction.get(all, &wanted.name) {
            return match is_same(&it, &wanted) {
                true => Ok(LoadBalancer::clone(&it)),
                false => Err(Fault::new(
                    "DuplicateLoadBalancerName",
                    format!(
                        "Load Balancer named '{}' already exists and it is configured with \
                         different parameters.",
                        it.name
                    ),
                )),
            };
        }
        if known.len() >= MOST {
            let account = &service.config().account;
            return Err(Fault::new(
                "TooManyLoadBalancers",
                format!("Exceeded quota of account {account}"),
            ));
        }
        let mut made = wanted;
        if !made.is_internal {
            made.host_address = service.free_host_address(&known);
        }
        transaction.put(all, made.name.clone(), made.clone());
        Ok(made)
    })?;
    service.settle_soon(&made.name).await;
    Ok(CreateLoadBalancerResponse { dns_name: Some(made.dns_name) })
}

fn is_same(known: &LoadBalancer, wanted: &LoadBalancer) -> bool {
    let set = |it: &LoadBalancer| it.security_groups.iter().cloned().collect::<BTreeSet<_>>();
    known.listeners == wanted.listeners
        && known.subnets == wanted.subnets
        && set(known) == set(wanted)
        && known.is_internal == wanted.is_internal
}

async fn wanted(
    service: &ElasticLoadBalancing,
    call: &Call,
    request: &CreateLoadBalancerRequest,
) -> Result<LoadBalancer, Fault> {
    let name = request.load_balancer_name.clone();
    let is_internal = match request.scheme.as_deref().unwrap_or("internet-facing") {
        "internal" => true,
        "internet-facing" => false,
        other => {
            return Err(Fault::new(
                "InvalidScheme",
                format!("The specified scheme '{other}' for the load balancer is not valid"),
            ));
        }
    };
    let listeners = listeners::read(&request.listeners)?;
    let tags = tags::read(&request.tags)?;
    let ec2 = service.ec2();
    let asked = network::of_zones(ec2, &request.subnets, &request.availability_zones).await?;
    let place = network::place(ec2, &asked, is_internal).await?;
    let groups = network::groups(ec2, &place.vpc_id, &request.security_groups).await?;
    let instance_port = listeners.values().next().map_or(80, |it| it.instance_port);
    Ok(LoadBalancer {
        dns_name: dns_name(&name, is_internal, &service.config().region),
        name,
        vpc_id: place.vpc_id,
        is_internal,
        created_at: call.now,
        listeners,
        subnets: place.subnets,
        source_group: groups.first().map(|it| it.name.clone()).unwrap_or_default(),
        security_groups: groups.into_iter().map(|it| it.id).collect(),
        instances: BTreeSet::new(),
        health_check: HealthCheck::of_port(instance_port),
        attributes: Attributes::default(),
        policies: BTreeMap::new(),
        backend_policies: BTreeMap::new(),
        tags,
        host_address: None,
    })
}

/// Names come again, DNS names do not.
fn dns_name(name: &str, is_internal: bool, region: &str) -> String {
    let prefix = if is_internal { "internal-" } else { "" };
    let number = 100_000_000 + entropy::below(1_900_000_000);
    format!("{prefix}{name}-{number}.{region}.elb.amazonaws.com")
}

fn check_name(name: &str) -> Result<(), Fault> {
    let is_allowed = |it: char| it.is_ascii_alphanumeric() || it == '-';
    let refusal = if name.is_empty() || name.len() > 32 {
        "The load balancer name must have between 1 and 32 characters."
    } else if !name.chars().all(is_allowed) {
        "LoadBalancerName cannot contain characters that are not letters, or digits or the dash."
    } else if name.starts_with('-') || name.ends_with('-') {
        "LoadBalancerName cannot begin or end with a dash."
    } else {
        return Ok(());
    };
    Err(faults::validation(refusal))
}

pub(crate) async fn delete(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DeleteLoadBalancerRequest,
) -> Result<DeleteLoadBalancerResponse, Fault> {
    let name = request.load_balancer_name;
    service.transaction(|transaction, all| {
        transaction.delete(all, &name);
        Ok(())
    })?;
    service.settle_soon(&name).await;
    Ok(DeleteLoadBalancerResponse {})
}

pub(crate) async fn describe(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DescribeLoadBalancersRequest,
) -> Result<DescribeLoadBalancersResponse, Fault> {
    let size = match request.page_size {
        None => 400,
        Some(size @ 1..=400) => usize::try_from(size).unwrap_or(400),
        Some(size) => {
            return Err(faults::validation(format!("PageSize must be between 1 and 400: {size}")));
        }
    };
    let names = &request.load_balancer_names;
    let found = match names.is_empty() {
        true => service.load_balancers(),
        false => names.iter().map(|it| service.get(it)).collect::<Result<_, Fault>>()?,
    };
    let page = page(found, size, request.marker.as_deref(), |it| it.name.clone());
    let page = page.map_err(|it| it.fault("ValidationError"))?;
    let account = &service.config().account;
    let shown = page.items.iter().map(|it| shape::description(it, account));
    Ok(DescribeLoadBalancersResponse {
        load_balancer_descriptions: shown.collect(),
        next_marker: page.next,
    })
}
