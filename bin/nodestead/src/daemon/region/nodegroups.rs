//! Managed node groups over the region's real services, in virtual time: instances boot and end as soon as
//! they are told to, and the cluster is a small API server with nodes, pods and a budget.

mod cluster;
mod remote_access;
mod warm_pool;

use std::time::Duration;

use aws_autoscaling::group::{
    AutoScalingGroup, DeleteAutoScalingGroup, DeleteAutoScalingGroupRequest,
    DescribeAutoScalingGroups, DescribeAutoScalingGroupsRequest,
};
use aws_ec2::launch_template::{DeleteLaunchTemplate, DeleteLaunchTemplateRequest};
use aws_eks::*;
use aws_iam::{
    AddRoleToInstanceProfile, AddRoleToInstanceProfileRequest, CreateRole, CreateRoleRequest,
    RemoveRoleFromInstanceProfile, RemoveRoleFromInstanceProfileRequest,
};
use aws_wire::{Client, Operation};
use region_ec2::seed;
use region_gateway::{Caller, Handle};

use self::cluster::World;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

struct Simulation {
    aws: Client,
    eks: Eks,
    world: World,
    subnets: Vec<String>,
    _scope: Scope,
    _folder: tempfile::TempDir,
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

impl Simulation {
    /// A region with a cluster and no node group.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let settings = Settings {
            name: "stead".to_owned(),
            nodes: 0,
            instance_type: "m5.large".to_owned(),
            aws_port: 0,
            api_port: 0,
            egress: false,
            latency: latency::Profile::default(),
            spot_seed: None,
            etcd: None,
            without: Vec::new(),
            proxy_unowned: None,
        };
        let clock = Clock::simulated("2026-11-29T08:00:00Z".parse().unwrap());
        let scope = Scope::new();
        let region = Region::open(&layout, &settings, clock, &scope).unwrap();
        let autoscaling = AutoScaling::clone(&region.autoscaling);
        drop(scope.spawn("Auto Scaling", autoscaling.run(region.ec2.changes())));
        let world = World::new(region.ec2.clone(), region.autoscaling.clone(), clock);
        drop(scope.spawn("hosts", world.clone().run()));
        let planes = Arc::new(world.clone());
        let context =
            region_eks::reconcile::Context::new(region.eks.clone(), planes, scope.child());
        drop(scope.spawn("EKS", region_eks::reconcile::run(context)));
        let aws = region.gateway.client_as("eks.amazonaws.com");
        let found = aws.call::<aws_ec2::subnet::DescribeSubnets>(Default::default()).await;
        let subnets = found.unwrap().subnets.into_iter().filter_map(|it| it.subnet_id).collect();
        let eks = region.eks.clone();
        let simulation = Self { aws, eks, world, subnets, _scope: scope, _folder: folder };
        simulation.create_cluster().await;
        simulation
    }

    async fn call<O: Operation>(&self, request: O::Request) -> O::Response {
        self.aws.call::<O>(request).await.unwrap()
    }

    async fn create_cluster(&self) {
        for (name, service) in [("cluster", "eks"), ("node", "ec2")] {
            let trust = serde_json::json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Action": "sts:AssumeRole",
                "Principal": {"Service": format!("{service}.amazonaws.com")},
            }]});
            self.call::<CreateRole>(CreateRoleRequest {
                role_name: name.to_owned(),
                assume_role_policy_document: trust.to_string(),
                ..Default::default()
            })
            .await;
        }
        let root = Caller::root(ACCOUNT, REGION, self.world.now());
        let request = CreateClusterRequest {
            name: "stead".to_owned(),
            role_arn: role("cluster"),
            access_config: Some(AccessConfig {
                authentication_mode: Some("API".to_owned()),
                ..Default::default()
            }),
            bootstrap_self_managed_addons: Some(false),
            resources_vpc_config: VpcConfigRequest {
                subnet_ids: self.subnets.clone(),
                ..Default::default()
            },
            ..Default::default()
        };
        Handle::<CreateCluster>::handle(&self.eks, &root, request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
    }

    /// With three nodes of an older release.
    async fn create_group(&self) {
        let mut releases = seed::releases().iter();
        let oldest = releases.find(|it| it.kubernetes == region_eks::KUBERNETES_VERSION);
        let release = oldest.unwrap().release_version();
        self.call::<CreateNodegroup>(CreateNodegroupRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
            subnets: self.subnets.clone(),
            node_role: role("node"),
            instance_types: vec!["m5.large".to_owned()],
            release_version: Some(release),
            scaling_config: Some(NodegroupScalingConfig {
                min_size: Some(0),
                max_size: Some(4),
                desired_size: Some(3),
            }),
            ..Default::default()
        })
        .await;
        self.until("ACTIVE", MINUTE).await;
    }

    async fn group(&self) -> Option<Nodegroup> {
        let request = DescribeNodegroupRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
        };
        match self.aws.call::<DescribeNodegroup>(request).await {
            Err(error) if error.is("ResourceNotFoundException") => None,
            found => found.unwrap().nodegroup,
        }
    }

    /// Waits for a status of the group, and gives the codes of its issues.
    async fn until(&self, status: &str, limit: Duration) -> Vec<String> {
        let begun = tokio::time::Instant::now();
        loop {
            let group = self.group().await.unwrap();
            if group.status == status {
                return group.health.issues.into_iter().filter_map(|it| it.code).collect();
            }
            assert!(begun.elapsed() <= limit, "not {status}: {group:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn scaling(&self) -> AutoScalingGroup {
        let found =
            self.call::<DescribeAutoScalingGroups>(DescribeAutoScalingGroupsRequest::default());
        found.await.auto_scaling_groups.into_iter().next().unwrap()
    }

    async fn update(&self, force: bool) -> Update {
        let begun = self.call::<UpdateNodegroupVersion>(UpdateNodegroupVersionRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
            force: Some(force),
            ..Default::default()
        });
        let id = begun.await.update.unwrap().id;
        for _ in 0..3600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let found = self.call::<DescribeUpdate>(DescribeUpdateRequest {
                name: "stead".to_owned(),
                update_id: id.clone(),
                nodegroup_name: Some("g".to_owned()),
                ..Default::default()
            });
            let found = found.await.update.unwrap();
            if found.status != "InProgress" {
                return found;
            }
        }
        panic!("the update has no end: {:?}", self.group().await);
    }

    /// The name of the instance profile and of EKS's own launch template.
    async fn own_name(&self) -> String {
        let scaling = self.group().await.unwrap().resources.unwrap().auto_scaling_groups;
        scaling[0].name.as_ref().unwrap().replacen("eks-g-", "eks-", 1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_allows_nothing_ends_an_update_after_a_quarter_of_an_hour_and_force_does_not()
{
    let simulation = Simulation::new().await;
    simulation.create_group().await;
    let old = simulation.world.nodes();
    assert_eq!(old.len(), 3);
    simulation.world.change(|it| it.stuck.clone_from(&old));
    let begun = tokio::time::Instant::now();
    let update = simulation.update(false).await;
    assert_eq!(update.status, "Failed");
    let error = &update.errors[0];
    assert_eq!(error.error_code.as_deref(), Some("PodEvictionFailure"));
    assert!(old.contains(&error.resource_ids[0]), "{error:?}");
    let took = begun.elapsed();
    assert!(took >= 15 * MINUTE && took < 17 * MINUTE, "{took:?}");
    let now = simulation.world.nodes();
    assert!(old.iter().all(|it| now.contains(it)), "old nodes stay: {now:?}");
    assert!(now.len() > 3, "and so do new ones: {now:?}");

    let update = simulation.update(true).await;
    assert_eq!((update.status.as_str(), update.errors), ("Successful", Vec::new()));
    simulation.until("ACTIVE", MINUTE).await;
    tokio::time::sleep(MINUTE).await;
    let now = simulation.world.nodes();
    assert_eq!(now.len(), 3);
    assert!(old.iter().all(|it| !now.contains(it)), "{now:?}");
    let scaling = simulation.scaling().await;
    assert_eq!((scaling.max_size, scaling.desired_capacity), (Some(4), Some(3)));
    assert_eq!(simulation.until("ACTIVE", MINUTE).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_away_from_a_group_degrades_it_until_it_is_back() {
    let simulation = Simulation::new().await;
    simulation.create_group().await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(simulation.group().await.unwrap().status, "ACTIVE");
    let name = simulation.own_name().await;
    simulation
        .call::<RemoveRoleFromInstanceProfile>(RemoveRoleFromInstanceProfileRequest {
            instance_profile_name: name.clone(),
            role_name: "node".to_owned(),
        })
        .await;
    assert_eq!(simulation.until("DEGRADED", MINUTE).await, ["IamInstanceProfileNotFound"]);
    simulation
        .call::<AddRoleToInstanceProfile>(AddRoleToInstanceProfileRequest {
            instance_profile_name: name.clone(),
            role_name: "node".to_owned(),
        })
        .await;
    simulation.until("ACTIVE", MINUTE).await;

    simulation.world.change(|it| it.is_away = true);
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(simulation.group().await.unwrap().status, "ACTIVE", "it may come back");
    // Somebody looks at it, as a change in the region makes EKS do.
    simulation.world.poke(&simulation.aws).await;
    assert_eq!(simulation.until("DEGRADED", 3 * MINUTE).await, ["ClusterUnreachable"]);
    simulation.world.change(|it| it.is_away = false);
    simulation.until("ACTIVE", MINUTE).await;

    simulation
        .call::<DeleteLaunchTemplate>(DeleteLaunchTemplateRequest {
            launch_template_name: Some(name),
            ..Default::default()
        })
        .await;
    assert_eq!(simulation.until("DEGRADED", MINUTE).await, ["Ec2LaunchTemplateNotFound"]);
    simulation
        .call::<DeleteAutoScalingGroup>(DeleteAutoScalingGroupRequest {
            auto_scaling_group_name: simulation.scaling().await.auto_scaling_group_name.unwrap(),
            force_delete: Some(true),
        })
        .await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(simulation.until("DEGRADED", MINUTE).await, ["AutoScalingGroupNotFound"]);
    simulation
        .call::<DeleteNodegroup>(DeleteNodegroupRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
        })
        .await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(simulation.group().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_silent_for_half_an_hour_is_replaced_where_that_is_asked_for() {
    let simulation = Simulation::new().await;
    simulation.create_group().await;
    let old = simulation.world.nodes();
    simulation.world.fall_silent(&old[0]);
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(simulation.world.nodes(), old, "nobody asked for it");
    simulation
        .call::<UpdateNodegroupConfig>(UpdateNodegroupConfigRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
            node_repair_config: Some(NodeRepairConfig {
                enabled: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;
    // The update waits for all nodes, and gives up on the silent one; repair goes on.
    tokio::time::sleep(30 * MINUTE).await;
    let now = simulation.world.nodes();
    assert_eq!(now.len(), 3, "{now:?}");
    assert!(!now.contains(&old[0]) && now.contains(&old[1]), "{now:?}");
    simulation.until("ACTIVE", 5 * MINUTE).await;
}
