//! The API over a real EC2, in virtual time: nothing is carried here.

use std::{collections::BTreeSet, sync::Arc};

use aws_ec2::{
    common::Filter,
    network_interface::{
        DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, NetworkInterface,
    },
    run_instances::{RunInstances, RunInstancesRequest},
    security_group::{
        CreateSecurityGroup, CreateSecurityGroupRequest, DeleteSecurityGroup,
        DeleteSecurityGroupRequest,
    },
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
    vpc::{CreateVpc, CreateVpcRequest},
};
use aws_elasticloadbalancing::{
    attribute::*, instance::*, listener::*, load_balancer::*, policy::*, tag::*,
};
use aws_wire::{Client, Operation};
use clock::Clock;
use lifecycle::Scope;
use region_ec2::{Ec2, Environment, ProfileInfo};
use region_gateway::{
    Attached, CallerKind, Config as GatewayConfig, Events, Gateway, Identities, Role,
};
use region_store::Store;

use super::{Balancers, Config, ElasticLoadBalancing, HOST_ADDRESS, REQUESTER, routes};

struct World;

impl Environment for World {
    fn instance_profile(&self, _: &str) -> Option<ProfileInfo> {
        None
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

impl Identities for World {
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
    client: Client,
    store: Store,
    scope: Scope,
    subnets: Vec<String>,
    vpc: String,
}

async fn region() -> Region {
    over(Store::in_memory()).await
}

/// Over what another one has left.
async fn over(store: Store) -> Region {
    let clock = Clock::simulated("2026-11-29T12:00:00Z".parse().unwrap());
    let (account, region) = ("111122223333".to_owned(), "us-east-1".to_owned());
    let gateway = Gateway::new(GatewayConfig {
        region: region.clone(),
        account: account.clone(),
        clock,
        keys: Vec::new(),
        identities: Arc::new(World),
        events: Events::in_memory(),
    });
    let ec2 = region_ec2::Config::new(&account, &region);
    let ec2 = Arc::new(Ec2::open(&store, ec2, clock, Arc::new(World)).unwrap());
    let scope = Scope::new();
    let config = Config { account, region, host_network: "127.64.0.0/24".parse().unwrap() };
    let balancers = Balancers::new(None, scope.child());
    let own = gateway.client_as(REQUESTER);
    let service = ElasticLoadBalancing::open(&store, config, own, balancers, clock).unwrap();
    let service = Arc::new(service);
    assert!(gateway.open(region_ec2::routes(&ec2).merge(routes(&service))));
    drop(scope.spawn("service", ElasticLoadBalancing::clone(&service).run()));
    let client = gateway.client_as("test.amazonaws.com");
    let mut region = Region { client, store, scope, subnets: Vec::new(), vpc: String::new() };
    let found = region.call::<DescribeSubnets>(DescribeSubnetsRequest::default()).await.subnets;
    region.vpc = found[0].vpc_id.clone().unwrap();
    region.subnets = found.into_iter().filter_map(|it| it.subnet_id).collect();
    region
}

impl Region {
    async fn call<O: Operation>(&self, request: O::Request) -> O::Response {
        self.client.call::<O>(request).await.unwrap_or_else(|it| panic!("{}: {it}", O::ACTION))
    }

    async fn code<O: Operation>(&self, request: O::Request) -> String {
        let error = self.client.call::<O>(request).await.err().expect("a refusal");
        error.fault().expect("an answer").code.clone().into_owned()
    }

    /// A listener on port 80 in all subnets but the last.
    fn web(&self) -> CreateLoadBalancerRequest {
        CreateLoadBalancerRequest {
            load_balancer_name: "web".to_owned(),
            listeners: vec![listener(80, 30080)],
            subnets: self.subnets[..2].to_vec(),
            ..Default::default()
        }
    }

    async fn described(&self) -> Option<LoadBalancerDescription> {
        let request = DescribeLoadBalancersRequest::default();
        self.call::<DescribeLoadBalancers>(request).await.load_balancer_descriptions.pop()
    }

    async fn interfaces(&self) -> Vec<NetworkInterface> {
        let filter =
            Filter { name: Some("description".to_owned()), values: vec!["ELB web".to_owned()] };
        let request =
            DescribeNetworkInterfacesRequest { filters: vec![filter], ..Default::default() };
        self.call::<DescribeNetworkInterfaces>(request).await.network_interfaces
    }

    async fn group(&self, name: &str) -> String {
        let request = CreateSecurityGroupRequest {
            group_name: name.to_owned(),
            description: "x".to_owned(),
            vpc_id: Some(self.vpc.clone()),
            ..Default::default()
        };
        self.call::<CreateSecurityGroup>(request).await.group_id.unwrap()
    }

    async fn instance(&self) -> String {
        let request = RunInstancesRequest {
            image_id: Some(region_ec2::seed::releases().last().unwrap().image_id()),
            instance_type: Some("m5.large".to_owned()),
            min_count: 1,
            max_count: 1,
            ..Default::default()
        };
        self.call::<RunInstances>(request).await.instances.remove(0).instance_id.unwrap()
    }
}

fn listener(port: i64, instance_port: i64) -> Listener {
    Listener {
        protocol: "tcp".to_owned(),
        load_balancer_port: port,
        instance_port,
        ..Listener::default()
    }
}

fn named(name: &str) -> Vec<Instance> {
    vec![Instance { instance_id: Some(name.to_owned()) }]
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_has_an_interface_in_each_subnet_and_takes_them_with_it() {
    let region = region().await;
    let group = region.group("elb").await;
    let request =
        CreateLoadBalancerRequest { security_groups: vec![group.clone()], ..region.web() };
    let made = region.call::<CreateLoadBalancer>(request.clone()).await.dns_name.unwrap();
    assert!(made.starts_with("web-") && made.ends_with(".us-east-1.elb.amazonaws.com"), "{made}");
    let interfaces = region.interfaces().await;
    let subnets: BTreeSet<_> = interfaces.iter().filter_map(|it| it.subnet_id.clone()).collect();
    assert_eq!(subnets, region.subnets[..2].iter().cloned().collect());
    for it in &interfaces {
        assert_eq!((it.requester_managed, it.status.as_deref()), (Some(true), Some("in-use")));
        assert_eq!(it.groups[0].group_id.as_ref(), Some(&group));
    }
    let shown = region.described().await.unwrap();
    assert_eq!(shown.dns_name.as_ref(), Some(&made));
    assert_eq!((shown.scheme.as_deref(), shown.subnets.len()), (Some("internet-facing"), 2));
    assert_eq!(shown.source_security_group.unwrap().group_name.as_deref(), Some("elb"));
    assert_eq!(shown.health_check.unwrap().target, "TCP:30080");
    // The same again is the same; something else under the name is not.
    assert_eq!(region.call::<CreateLoadBalancer>(request.clone()).await.dns_name, Some(made));
    let other = CreateLoadBalancerRequest { listeners: vec![listener(81, 1)], ..request };
    assert_eq!(region.code::<CreateLoadBalancer>(other).await, "DuplicateLoadBalancerName");

    let delete = DeleteSecurityGroupRequest { group_id: Some(group), ..Default::default() };
    assert_eq!(region.code::<DeleteSecurityGroup>(delete.clone()).await, "DependencyViolation");
    let gone = || DeleteLoadBalancerRequest { load_balancer_name: "web".to_owned() };
    region.call::<DeleteLoadBalancer>(gone()).await;
    assert!(region.interfaces().await.is_empty());
    region.call::<DeleteSecurityGroup>(delete).await;
    region.call::<DeleteLoadBalancer>(gone()).await;
    assert!(region.described().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_left_half_done_is_finished_by_the_next_start() {
    let first = region().await;
    first.call::<CreateLoadBalancer>(first.web()).await;
    let known = first.described().await;
    // It died between the record and the interfaces: their owner's view of the world is gone.
    first.scope.cancel();
    let buckets =
        first.store.bucket::<crate::records::LoadBalancer>("elasticloadbalancing/load-balancers");
    let bucket = buckets.unwrap();
    let mut record = crate::records::LoadBalancer::clone(&bucket.get("web").unwrap());
    record.subnets.pop_first();
    let written = first.store.transaction(|it| {
        it.put(&bucket, "web", record);
        Ok::<_, aws_wire::Fault>(())
    });
    written.unwrap();
    let second = over(first.store).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(second.interfaces().await.len(), 1);
    assert_eq!(second.described().await.unwrap().dns_name, known.unwrap().dns_name);
}

#[tokio::test(start_paused = true)]
async fn subnets_and_groups_change_and_interfaces_follow() {
    let region = region().await;
    region.call::<CreateLoadBalancer>(region.web()).await;
    let name = || "web".to_owned();
    let attach = AttachLoadBalancerToSubnetsRequest {
        load_balancer_name: name(),
        subnets: vec![region.subnets[2].clone()],
    };
    assert_eq!(region.call::<AttachLoadBalancerToSubnets>(attach).await.subnets.len(), 3);
    assert_eq!(region.interfaces().await.len(), 3);
    let detach = |subnets: &[String]| DetachLoadBalancerFromSubnetsRequest {
        load_balancer_name: name(),
        subnets: subnets.to_vec(),
    };
    region.call::<DetachLoadBalancerFromSubnets>(detach(&region.subnets[..1])).await;
    assert_eq!(region.interfaces().await.len(), 2);
    let all = region.code::<DetachLoadBalancerFromSubnets>(detach(&region.subnets)).await;
    assert_eq!(all, "InvalidConfigurationRequest");
    let group = region.group("other").await;
    let apply = |group: &str| ApplySecurityGroupsToLoadBalancerRequest {
        load_balancer_name: name(),
        security_groups: vec![group.to_owned()],
    };
    region.call::<ApplySecurityGroupsToLoadBalancer>(apply(&group)).await;
    for it in region.interfaces().await {
        assert_eq!(it.groups[0].group_id.as_ref(), Some(&group));
    }
    let unknown = apply("sg-0123456789abcdef0");
    let code = region.code::<ApplySecurityGroupsToLoadBalancer>(unknown).await;
    assert_eq!(code, "InvalidSecurityGroup");
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_that_cannot_be_is_refused_with_awss_code() {
    let region = region().await;
    let vpc = CreateVpcRequest { cidr_block: Some("10.0.0.0/16".to_owned()), ..Default::default() };
    region.call::<CreateVpc>(vpc).await;
    let web = || region.web();
    let https = |certificate: Option<&str>| Listener {
        protocol: "HTTPS".to_owned(),
        ssl_certificate_id: certificate.map(str::to_owned),
        ..listener(443, 1)
    };
    for (request, code) in [
        (CreateLoadBalancerRequest { load_balancer_name: "-x".into(), ..web() }, "ValidationError"),
        (
            CreateLoadBalancerRequest { load_balancer_name: "a".repeat(33), ..web() },
            "ValidationError",
        ),
        (CreateLoadBalancerRequest { listeners: vec![], ..web() }, "ValidationError"),
        (CreateLoadBalancerRequest { listeners: vec![listener(0, 1)], ..web() }, "ValidationError"),
        (
            CreateLoadBalancerRequest { listeners: vec![listener(1, 1), listener(1, 2)], ..web() },
            "DuplicateListener",
        ),
        (CreateLoadBalancerRequest { listeners: vec![https(None)], ..web() }, "ValidationError"),
        (
            CreateLoadBalancerRequest { listeners: vec![https(Some("arn:x"))], ..web() },
            "CertificateNotFound",
        ),
        (CreateLoadBalancerRequest { subnets: vec![], ..web() }, "ValidationError"),
        (
            CreateLoadBalancerRequest { subnets: vec!["subnet-0123456789abcdef0".into()], ..web() },
            "SubnetNotFound",
        ),
        (CreateLoadBalancerRequest { scheme: Some("public".into()), ..web() }, "InvalidScheme"),
        (
            CreateLoadBalancerRequest {
                tags: vec![Tag { key: HOST_ADDRESS.into(), value: None }],
                ..web()
            },
            "ValidationError",
        ),
    ] {
        assert_eq!(region.code::<CreateLoadBalancer>(request.clone()).await, code, "{request:?}");
    }
    assert!(region.described().await.is_none());
    assert!(region.interfaces().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_quota_ends_at_twenty_and_pages_cover_all() {
    let region = region().await;
    for number in 0..20 {
        let load_balancer_name = format!("web-{number:02}");
        let request = CreateLoadBalancerRequest { load_balancer_name, ..region.web() };
        region.call::<CreateLoadBalancer>(request).await;
    }
    assert_eq!(region.code::<CreateLoadBalancer>(region.web()).await, "TooManyLoadBalancers");
    let (mut seen, mut marker) = (BTreeSet::new(), None);
    loop {
        let page_size = Some(7);
        let request = DescribeLoadBalancersRequest { page_size, marker, ..Default::default() };
        let page = region.call::<DescribeLoadBalancers>(request).await;
        assert!(page.load_balancer_descriptions.len() <= 7);
        seen.extend(
            page.load_balancer_descriptions.into_iter().filter_map(|it| it.load_balancer_name),
        );
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn instances_are_registered_checked_and_forgotten() {
    let region = region().await;
    region.call::<CreateLoadBalancer>(region.web()).await;
    let load_balancer_name = || "web".to_owned();
    let register = |id: &str| RegisterInstancesWithLoadBalancerRequest {
        load_balancer_name: load_balancer_name(),
        instances: named(id),
    };
    let unknown = register("i-0123456789abcdef0");
    assert_eq!(region.code::<RegisterInstancesWithLoadBalancer>(unknown).await, "InvalidInstance");
    let id = region.instance().await;
    region.call::<RegisterInstancesWithLoadBalancer>(register(&id)).await;
    let health = || DescribeInstanceHealthRequest {
        load_balancer_name: load_balancer_name(),
        instances: Vec::new(),
    };
    let state = region.call::<DescribeInstanceHealth>(health()).await.instance_states.remove(0);
    assert_eq!(state.state.as_deref(), Some("OutOfService"));
    assert_eq!(state.description.as_deref(), Some("Instance is in pending state."));
    let deregister = DeregisterInstancesFromLoadBalancerRequest {
        load_balancer_name: load_balancer_name(),
        instances: named(&id),
    };
    let left = region.call::<DeregisterInstancesFromLoadBalancer>(deregister).await.instances;
    assert!(left.is_empty());
    let check = |target: &str, interval, timeout| ConfigureHealthCheckRequest {
        load_balancer_name: load_balancer_name(),
        health_check: HealthCheck {
            target: target.to_owned(),
            interval,
            timeout,
            unhealthy_threshold: 2,
            healthy_threshold: 2,
        },
    };
    region.call::<ConfigureHealthCheck>(check("HTTP:10256/healthz", 10, 5)).await;
    let shown = region.described().await.unwrap().health_check.unwrap();
    assert_eq!((shown.target.as_str(), shown.interval), ("HTTP:10256/healthz", 10));
    for wrong in [check("HTTP:1", 10, 5), check("TCP:1", 4, 2), check("TCP:1", 10, 10)] {
        assert_eq!(region.code::<ConfigureHealthCheck>(wrong).await, "ValidationError");
    }
}

#[tokio::test(start_paused = true)]
async fn listeners_attributes_policies_and_tags_change_and_are_told() {
    let region = region().await;
    region.call::<CreateLoadBalancer>(region.web()).await;
    let load_balancer_name = || "web".to_owned();
    let add = |listener: Listener| CreateLoadBalancerListenersRequest {
        load_balancer_name: load_balancer_name(),
        listeners: vec![listener],
    };
    region.call::<CreateLoadBalancerListeners>(add(listener(81, 30081))).await;
    let twice = region.code::<CreateLoadBalancerListeners>(add(listener(81, 1))).await;
    assert_eq!(twice, "DuplicateListener");
    let policy = CreateLoadBalancerPolicyRequest {
        load_balancer_name: load_balancer_name(),
        policy_name: "proxy".to_owned(),
        policy_type_name: "ProxyProtocolPolicyType".to_owned(),
        policy_attributes: vec![PolicyAttribute {
            attribute_name: Some("ProxyProtocol".to_owned()),
            attribute_value: Some("true".to_owned()),
        }],
    };
    let sticky = CreateLoadBalancerPolicyRequest {
        policy_type_name: "LBCookieStickinessPolicyType".to_owned(),
        ..policy.clone()
    };
    assert_eq!(region.code::<CreateLoadBalancerPolicy>(sticky).await, "PolicyTypeNotFound");
    region.call::<CreateLoadBalancerPolicy>(policy).await;
    let set = |names: &[&str]| SetLoadBalancerPoliciesForBackendServerRequest {
        load_balancer_name: load_balancer_name(),
        instance_port: 30081,
        policy_names: names.iter().map(ToString::to_string).collect(),
    };
    let unknown = region.code::<SetLoadBalancerPoliciesForBackendServer>(set(&["x"])).await;
    assert_eq!(unknown, "PolicyNotFound");
    region.call::<SetLoadBalancerPoliciesForBackendServer>(set(&["proxy"])).await;
    let shown = region.described().await.unwrap();
    assert_eq!(shown.listener_descriptions.len(), 2);
    assert_eq!(shown.backend_server_descriptions[0].policy_names, ["proxy"]);

    let modify = |attributes| ModifyLoadBalancerAttributesRequest {
        load_balancer_name: load_balancer_name(),
        load_balancer_attributes: attributes,
    };
    let idle = |idle_timeout| LoadBalancerAttributes {
        connection_settings: Some(ConnectionSettings { idle_timeout }),
        ..LoadBalancerAttributes::default()
    };
    region.call::<ModifyLoadBalancerAttributes>(modify(idle(120))).await;
    assert_eq!(
        region.code::<ModifyLoadBalancerAttributes>(modify(idle(0))).await,
        "ValidationError"
    );
    let describe =
        DescribeLoadBalancerAttributesRequest { load_balancer_name: load_balancer_name() };
    let shown = region.call::<DescribeLoadBalancerAttributes>(describe).await;
    let shown = shown.load_balancer_attributes;
    assert_eq!(shown.connection_settings.unwrap().idle_timeout, 120);
    assert_eq!(shown.connection_draining.unwrap().timeout, Some(300));

    let tags = AddTagsRequest {
        load_balancer_names: vec![load_balancer_name()],
        tags: vec![Tag { key: "team".to_owned(), value: Some("blue".to_owned()) }],
    };
    region.call::<AddTags>(tags).await;
    let described = DescribeTagsRequest { load_balancer_names: vec![load_balancer_name()] };
    let shown = region.call::<DescribeTags>(described).await.tag_descriptions.remove(0).tags;
    let shown: Vec<_> = shown.iter().map(|it| (&*it.key, it.value.as_deref().unwrap())).collect();
    assert_eq!(shown, [("team", "blue"), (HOST_ADDRESS, "127.64.0.1")]);
    let nowhere = DescribeTagsRequest { load_balancer_names: vec!["no".to_owned()] };
    assert_eq!(region.code::<DescribeTags>(nowhere).await, "LoadBalancerNotFound");
}
