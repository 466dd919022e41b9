//! The service in virtual time, over an EC2 that answers the few calls it makes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_autoscaling::{
    activity::{Activity, DescribeScalingActivities, DescribeScalingActivitiesRequest},
    capacity::{
        SetDesiredCapacity, SetDesiredCapacityRequest, TerminateInstanceInAutoScalingGroup,
        TerminateInstanceInAutoScalingGroupRequest,
    },
    group::{
        AutoScalingGroup, CreateAutoScalingGroup, CreateAutoScalingGroupRequest,
        DeleteAutoScalingGroup, DeleteAutoScalingGroupRequest, DescribeAutoScalingGroups,
        DescribeAutoScalingGroupsRequest, LaunchTemplateSpecification, UpdateAutoScalingGroup,
        UpdateAutoScalingGroupRequest,
    },
    lifecycle_hook::{
        CompleteLifecycleAction, CompleteLifecycleActionRequest, PutLifecycleHook,
        PutLifecycleHookRequest,
    },
    tag::Tag,
};
use aws_ec2::{
    instance::{
        DescribeInstances, DescribeInstancesRequest, DescribeInstancesResponse, Instance,
        InstanceState, Reservation,
    },
    instance_requirements::{
        GetInstanceTypesFromInstanceRequirements, GetInstanceTypesFromInstanceRequirementsRequest,
        GetInstanceTypesFromInstanceRequirementsResponse, InstanceTypeInfoFromInstanceRequirements,
    },
    instance_state::{
        DescribeInstanceStatus, DescribeInstanceStatusRequest, DescribeInstanceStatusResponse,
        InstanceStatus, StartInstances, StartInstancesRequest, StartInstancesResponse,
        StopInstances, StopInstancesRequest, StopInstancesResponse, TerminateInstances,
        TerminateInstancesRequest, TerminateInstancesResponse,
    },
    launch_template::{
        DescribeLaunchTemplateVersions, DescribeLaunchTemplateVersionsRequest,
        DescribeLaunchTemplateVersionsResponse, LaunchTemplateVersion,
    },
    launch_template_data::{LaunchTemplateHibernationOptions, ResponseLaunchTemplateData},
    run_instances::{RunInstances, RunInstancesRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest, DescribeSubnetsResponse, Subnet},
};
use aws_wire::{Client, Fault, Operation};
use clock::Clock;
use latency::Latency;
use lifecycle::Scope;
use parking_lot::Mutex;
use region_gateway::{
    Attached, Caller, CallerKind, Config as GatewayConfig, Events, Gateway, Handle, Identities,
    Role, Target,
};
use region_store::Store;
use tokio::sync::watch;

use super::*;

mod groups;
mod ranges;
mod refreshes;
mod requirements;
mod rights;
mod sizing;
mod warm_pools;

/// Instances by client token; a state for each. Subnets in `full` have no room.
#[derive(Default)]
struct FakeEc2 {
    world: Mutex<World>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct World {
    instances: BTreeMap<String, (RunInstancesRequest, &'static str)>,
    full: Vec<String>,
    /// Types of which there are none.
    scarce: Vec<String>,
    /// Instances that fail their status checks.
    impaired: Vec<String>,
    /// Whether the launch template is configured for hibernation.
    hibernates: bool,
    /// Instances that were stopped with their memory.
    hibernated: Vec<String>,
    asked: usize,
}

impl FakeEc2 {
    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock());
        self.changes.send_modify(|it| *it += 1);
    }

    /// Everyone pending runs, everyone shutting down is gone.
    fn settle(&self) {
        self.change(|world| {
            for (_, state) in world.instances.values_mut() {
                *state = match *state {
                    "pending" => "running",
                    "shutting-down" => "terminated",
                    "stopping" => "stopped",
                    other => other,
                };
            }
        });
    }
}

fn shown(token: &str, request: &RunInstancesRequest, state: &str) -> Instance {
    Instance {
        instance_id: Some(format!("i-{}", &token[..8])),
        instance_type: Some("m5.large".to_owned()),
        subnet_id: request.subnet_id.clone(),
        state: Some(InstanceState { code: None, name: Some(state.to_owned()) }),
        ..Default::default()
    }
}

impl Handle<RunInstances> for FakeEc2 {
    fn targets(&self, _: &Caller, request: &RunInstancesRequest) -> Vec<Target> {
        let subnet = request.subnet_id.as_deref().unwrap_or("*");
        vec![
            Target::resource(format!("arn:aws:ec2:us-east-1:111122223333:subnet/{subnet}"))
                .with("ec2:InstanceType", request.instance_type.clone()),
            Target::pass_role("arn:aws:iam::111122223333:role/nodes", "ec2.amazonaws.com"),
        ]
    }

    async fn handle(&self, _: &Caller, request: RunInstancesRequest) -> Result<Reservation, Fault> {
        let subnet = request.subnet_id.clone().unwrap();
        self.world.lock().asked += 1;
        if self.world.lock().full.contains(&subnet) {
            return Err(Fault::new("InsufficientFreeAddressesInSubnet", "The subnet is full."));
        }
        let is_scarce = |it: &String| request.instance_type.as_ref() == Some(it);
        if self.world.lock().scarce.iter().any(is_scarce) {
            return Err(Fault::new("InsufficientInstanceCapacity", "There is none."));
        }
        let token = request.client_token.clone().unwrap();
        let instance = shown(&token, &request, "pending");
        self.change(|world| {
            world.instances.entry(token).or_insert((request, "pending"));
        });
        Ok(Reservation { instances: vec![instance], ..Default::default() })
    }
}

impl Handle<DescribeInstances> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeInstancesRequest,
    ) -> Result<DescribeInstancesResponse, Fault> {
        let world = self.world.lock();
        let all = world.instances.iter().map(|(token, (it, state))| shown(token, it, state));
        let wanted = &request.filters[0].values;
        let instances =
            all.filter(|it| wanted.contains(it.instance_id.as_ref().unwrap())).collect();
        let reservation = Reservation { instances, ..Default::default() };
        Ok(DescribeInstancesResponse { reservations: vec![reservation], next_token: None })
    }
}

impl Handle<DescribeInstanceStatus> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeInstanceStatusRequest,
    ) -> Result<DescribeInstanceStatusResponse, Fault> {
        assert_eq!(request.filters[0].values, ["impaired"]);
        let status =
            |id: &String| InstanceStatus { instance_id: Some(id.clone()), ..Default::default() };
        let instance_statuses = self.world.lock().impaired.iter().map(status).collect();
        Ok(DescribeInstanceStatusResponse { instance_statuses, next_token: None })
    }
}

impl Handle<TerminateInstances> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: TerminateInstancesRequest,
    ) -> Result<TerminateInstancesResponse, Fault> {
        self.change(|world| {
            for (token, (_, state)) in &mut world.instances {
                if request.instance_ids[0] == format!("i-{}", &token[..8]) {
                    *state = "shutting-down";
                }
            }
        });
        Ok(TerminateInstancesResponse::default())
    }
}

impl FakeEc2 {
    fn turn(&self, ids: &[String], to: &'static str) {
        self.change(|world| {
            for (token, (_, state)) in &mut world.instances {
                if ids.contains(&format!("i-{}", &token[..8])) {
                    *state = to;
                }
            }
        });
    }
}

impl Handle<StopInstances> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: StopInstancesRequest,
    ) -> Result<StopInstancesResponse, Fault> {
        if request.hibernate == Some(true) {
            if !self.world.lock().hibernates {
                return Err(Fault::new("UnsupportedHibernationConfiguration", "It cannot."));
            }
            self.world.lock().hibernated.extend(request.instance_ids.clone());
        }
        self.turn(&request.instance_ids, "stopping");
        Ok(StopInstancesResponse::default())
    }
}

impl Handle<StartInstances> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: StartInstancesRequest,
    ) -> Result<StartInstancesResponse, Fault> {
        self.turn(&request.instance_ids, "pending");
        Ok(StartInstancesResponse::default())
    }
}

impl Handle<DescribeLaunchTemplateVersions> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeLaunchTemplateVersionsRequest,
    ) -> Result<DescribeLaunchTemplateVersionsResponse, Fault> {
        if request.launch_template_id.as_deref() != Some("lt-1") {
            return Err(Fault::new(
                "InvalidLaunchTemplateId.NotFound",
                "The launch template does not exist.",
            ));
        }
        let version = LaunchTemplateVersion {
            launch_template_id: request.launch_template_id,
            launch_template_name: Some("nodes".to_owned()),
            version_number: Some(7),
            launch_template_data: Some(ResponseLaunchTemplateData {
                hibernation_options: Some(LaunchTemplateHibernationOptions {
                    configured: Some(self.world.lock().hibernates),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok(DescribeLaunchTemplateVersionsResponse {
            launch_template_versions: vec![version],
            next_token: None,
        })
    }
}

/// Whoever asks for two vCPUs and more gets these.
const OF_TWO_CPUS: [&str; 3] = ["m5.large", "m5d.large", "x1.16xlarge"];

impl Handle<GetInstanceTypesFromInstanceRequirements> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: GetInstanceTypesFromInstanceRequirementsRequest,
    ) -> Result<GetInstanceTypesFromInstanceRequirementsResponse, Fault> {
        let least = request.instance_requirements.v_cpu_count.and_then(|it| it.min);
        let names = if least == Some(2) { &OF_TWO_CPUS[..] } else { &[] };
        let found = |it: &&str| InstanceTypeInfoFromInstanceRequirements {
            instance_type: Some((*it).to_owned()),
        };
        let instance_types = names.iter().map(found).collect();
        Ok(GetInstanceTypesFromInstanceRequirementsResponse { instance_types, next_token: None })
    }
}

impl Handle<DescribeSubnets> for FakeEc2 {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeSubnetsRequest,
    ) -> Result<DescribeSubnetsResponse, Fault> {
        let subnet = |id: &String| Subnet {
            subnet_id: Some(id.clone()),
            availability_zone: Some(format!("us-east-1{}", &id[7..])),
            ..Default::default()
        };
        let subnets = request.subnet_ids.iter().map(subnet).collect();
        Ok(DescribeSubnetsResponse { subnets, next_token: None })
    }
}

struct Nobody;

impl Identities for Nobody {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        None
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}

struct Region {
    ec2: Arc<FakeEc2>,
    client: Client,
    service: AutoScaling,
    _scope: Scope,
}

fn region() -> Region {
    region_with(Latency::INSTANT)
}

fn region_with(latency: Latency) -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let (account, name) = ("111122223333".to_owned(), "us-east-1".to_owned());
    let config = Config { account: account.clone(), region: name.clone(), latency };
    let service = AutoScaling::open(&Store::in_memory(), config, clock).unwrap();
    let ec2 = Arc::new(FakeEc2::default());
    let gateway = Gateway::new(GatewayConfig {
        region: name,
        account,
        clock,
        keys: Vec::new(),
        identities: Arc::new(Nobody),
        events: Events::in_memory(),
    });
    let fake = region_gateway::Routes::new()
        .operation::<RunInstances, _>(ec2.clone())
        .operation::<DescribeInstances, _>(ec2.clone())
        .operation::<DescribeInstanceStatus, _>(ec2.clone())
        .operation::<TerminateInstances, _>(ec2.clone())
        .operation::<StopInstances, _>(ec2.clone())
        .operation::<StartInstances, _>(ec2.clone())
        .operation::<DescribeLaunchTemplateVersions, _>(ec2.clone())
        .operation::<GetInstanceTypesFromInstanceRequirements, _>(ec2.clone())
        .operation::<DescribeSubnets, _>(ec2.clone());
    assert!(gateway.open(routes(&Arc::new(service.clone())).merge(fake)));
    service.connect(gateway.client_as("autoscaling.amazonaws.com"), ec2.clone());
    let scope = Scope::new();
    drop(scope.spawn("autoscaling", service.clone().run(ec2.changes.subscribe())));
    Region { ec2, client: gateway.client_as("test.amazonaws.com"), service, _scope: scope }
}

impl Region {
    async fn call<O: Operation>(&self, request: O::Request) -> O::Response {
        self.client.call::<O>(request).await.unwrap_or_else(|it| panic!("{}: {it}", O::ACTION))
    }

    async fn code<O: Operation>(&self, request: O::Request) -> String {
        let error = self.client.call::<O>(request).await.err().expect("a refusal");
        error.fault().expect("an answer").code.clone().into_owned()
    }

    async fn group(&self) -> AutoScalingGroup {
        let request = DescribeAutoScalingGroupsRequest::default();
        let mut found = self.call::<DescribeAutoScalingGroups>(request).await.auto_scaling_groups;
        found.pop().unwrap_or_default()
    }

    /// (id, state) of all members, once nothing more happens by itself.
    async fn members(&self) -> Vec<(String, String)> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let members = self.group().await.instances;
        let shown = |it: aws_autoscaling::group::Instance| {
            (it.instance_id.unwrap(), it.lifecycle_state.unwrap())
        };
        members.into_iter().map(shown).collect()
    }

    async fn states(&self) -> Vec<String> {
        self.members().await.into_iter().map(|(_, state)| state).collect()
    }

    async fn activities(&self) -> Vec<Activity> {
        let request = DescribeScalingActivitiesRequest::default();
        self.call::<DescribeScalingActivities>(request).await.activities
    }
}

fn create(desired: i64) -> CreateAutoScalingGroupRequest {
    CreateAutoScalingGroupRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        launch_template: Some(LaunchTemplateSpecification {
            launch_template_id: Some("lt-1".to_owned()),
            version: Some("$Latest".to_owned()),
            ..Default::default()
        }),
        min_size: 1,
        max_size: 4,
        desired_capacity: Some(desired),
        vpc_zone_identifier: Some("subnet-a,subnet-b,subnet-c".to_owned()),
        tags: vec![Tag {
            key: "team".to_owned(),
            value: Some("blue".to_owned()),
            propagate_at_launch: Some(true),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn desire(desired_capacity: i64) -> SetDesiredCapacityRequest {
    SetDesiredCapacityRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        desired_capacity,
        ..Default::default()
    }
}
