//! Instances behind a load balancer, and what is known of their health.

use std::collections::BTreeMap;

use aws_ec2::{
    common::Filter,
    instance::{DescribeInstances, DescribeInstancesRequest, Instance as Ec2Instance},
};
use aws_elasticloadbalancing::instance::{
    DeregisterInstancesFromLoadBalancerRequest, DeregisterInstancesFromLoadBalancerResponse,
    DescribeInstanceHealthRequest, DescribeInstanceHealthResponse, Instance, InstanceState,
    RegisterInstancesWithLoadBalancerRequest, RegisterInstancesWithLoadBalancerResponse,
};
use aws_wire::Fault;

use crate::{Call, ElasticLoadBalancing, balancer::Health, faults, records::LoadBalancer, shape};

pub(crate) async fn register(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: RegisterInstancesWithLoadBalancerRequest,
) -> Result<RegisterInstancesWithLoadBalancerResponse, Fault> {
    let name = request.load_balancer_name;
    let vpc = service.get(&name)?.vpc_id.clone();
    let ids = ids(request.instances)?;
    let found = found(service, &ids).await?;
    for id in &ids {
        let instance = found.get(id).filter(|it| state(it) != "terminated");
        let instance = instance
            .ok_or_else(|| invalid_instance(format!("Could not find EC2 instance {id}.")))?;
        if instance.vpc_id.as_ref() != Some(&vpc) {
            return Err(invalid_instance(format!(
                "EC2 instance {id} is not in the same VPC as ELB."
            )));
        }
    }
    let instances = service.update(&name, |it| {
        it.instances.extend(ids);
        Ok(shape::instances(it))
    })?;
    Ok(RegisterInstancesWithLoadBalancerResponse { instances })
}

pub(crate) async fn deregister(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DeregisterInstancesFromLoadBalancerRequest,
) -> Result<DeregisterInstancesFromLoadBalancerResponse, Fault> {
    let ids = ids(request.instances)?;
    let instances = service.update(&request.load_balancer_name, |it| {
        it.instances.retain(|id| !ids.contains(id));
        Ok(shape::instances(it))
    })?;
    Ok(DeregisterInstancesFromLoadBalancerResponse { instances })
}

pub(crate) async fn health(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DescribeInstanceHealthRequest,
) -> Result<DescribeInstanceHealthResponse, Fault> {
    let known = service.get(&request.load_balancer_name)?;
    let asked = match request.instances.is_empty() {
        true => known.instances.iter().cloned().collect(),
        false => ids(request.instances)?,
    };
    let found = found(service, &asked).await?;
    let health = service.balancers().health(&known.name);
    let mut instance_states = Vec::new();
    for id in asked {
        let Some(instance) = found.get(&id) else {
            return Err(invalid_instance(format!("Could not find EC2 instance {id}.")));
        };
        let (state, reason, description) = told(&known, instance, &id, health.get(&id).copied());
        instance_states.push(InstanceState {
            instance_id: Some(id),
            state: Some(state.to_owned()),
            reason_code: Some(reason.to_owned()),
            description: Some(description),
        });
    }
    Ok(DescribeInstanceHealthResponse { instance_states })
}

/// State, reason code and description.
fn told(
    load_balancer: &LoadBalancer,
    instance: &Ec2Instance,
    id: &str,
    health: Option<Health>,
) -> (&'static str, &'static str, String) {
    let out = |reason, description: &str| ("OutOfService", reason, description.to_owned());
    if !load_balancer.instances.contains(id) {
        return out("Instance", "Instance is not currently registered with the LoadBalancer.");
    }
    let state = state(instance);
    if state != "running" {
        return out("Instance", &format!("Instance is in {state} state."));
    }
    let zone = instance.placement.as_ref().and_then(|it| it.availability_zone.clone());
    if !load_balancer.subnets.values().any(|it| Some(it) == zone.as_ref()) {
        return out(
            "ELB",
            "Instance is in the EC2 Availability Zone for which LoadBalancer is not configured to \
             route traffic to.",
        );
    }
    match health {
        Some(Health::InService) => ("InService", "N/A", "N/A".to_owned()),
        Some(Health::Failing) => out(
            "Instance",
            "Instance has failed at least the UnhealthyThreshold number of health checks \
             consecutively.",
        ),
        Some(Health::Passing) => out(
            "Instance",
            "Instance has not passed the configured HealthyThreshold number of health checks \
             consecutively.",
        ),
        Some(Health::Unchecked) | None => out("ELB", "Instance registration is still in progress."),
    }
}

fn state(instance: &Ec2Instance) -> &str {
    instance.state.as_ref().and_then(|it| it.name.as_deref()).unwrap_or_default()
}

fn ids(instances: Vec<Instance>) -> Result<Vec<String>, Fault> {
    let ids: Option<Vec<String>> = instances.into_iter().map(|it| it.instance_id).collect();
    match ids {
        Some(ids) if !ids.is_empty() => Ok(ids),
        _ => Err(faults::validation("Instances must not be empty.")),
    }
}

async fn found(
    service: &ElasticLoadBalancing,
    ids: &[String],
) -> Result<BTreeMap<String, Ec2Instance>, Fault> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let filter = Filter { name: Some("instance-id".to_owned()), values: ids.to_vec() };
    let request = DescribeInstancesRequest { filters: vec![filter], ..Default::default() };
    let found = service.ec2().call::<DescribeInstances>(request).await;
    let found = found.map_err(|it| Fault::internal(telemetry::chain(&it).to_string()))?;
    let instances = found.reservations.into_iter().flat_map(|it| it.instances);
    Ok(instances.filter_map(|it| Some((it.instance_id.clone()?, it))).collect())
}

fn invalid_instance(message: String) -> Fault {
    Fault::new("InvalidInstance", message)
}
