//! Services of type LoadBalancer against a real API server, EC2 and Elastic Load Balancing, in memory
//! and virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_ec2::{
    common::Filter,
    run_instances::{RunInstances, RunInstancesRequest},
    security_group::{DescribeSecurityGroups, DescribeSecurityGroupsRequest, SecurityGroup},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
    tag::{CreateTags, CreateTagsRequest},
};
use aws_elasticloadbalancing::load_balancer::{
    DescribeLoadBalancers, DescribeLoadBalancersRequest, LoadBalancerDescription,
};
use aws_wire::{
    Client, Operation,
    client::{Config as ClientConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use cloud_controller_manager::{Config, LoadBalancers};
use http::Request;
use http_body_util::Full;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Service};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use lifecycle::Scope;
use region_ec2::{Ec2, Environment, ProfileInfo, records::HostReport};
use region_elasticloadbalancing::{Balancers, ElasticLoadBalancing, REQUESTER};
use region_gateway::{
    AccessKey, AccessKeys, Attached, CallerKind, Events, Gateway, Identities, Principal, Role, Side,
};
use region_store::Store;
use serde_json::{Value, json};
use tower::ServiceExt;

const ACCOUNT: &str = "111122223333";
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// The key `able` is root's; any other belongs to a user without a policy.
struct World;

impl Environment for World {
    fn instance_profile(&self, _: &str) -> Option<ProfileInfo> {
        None
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

impl AccessKeys for World {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let kind = match access_key_id {
            "able" => CallerKind::Root,
            name => CallerKind::User { name: name.to_owned() },
        };
        let principal = Principal {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:user/{access_key_id}"),
            user_id: "AIDA".to_owned(),
            kind,
            tags: BTreeMap::new(),
        };
        Some(AccessKey {
            secret: "secret".to_owned(),
            session_token: None,
            expires: None,
            principal,
            session_policies: Vec::new(),
            session_context: BTreeMap::new(),
        })
    }
}

impl Identities for World {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        Some(Attached::default())
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}

struct Cluster {
    kube: kube::Client,
    aws: Client,
    ec2: Arc<Ec2>,
    scope: Scope,
}

impl Cluster {
    /// With the rights of this access key.
    async fn start(key: &str) -> Self {
        let clock = Clock::simulated("2026-11-29T12:00:00Z".parse().unwrap());
        let scope = Scope::new();
        let (gateway, ec2) = region(clock, &scope);
        let aws = gateway.client_as("test.amazonaws.com");
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        let server = ApiServer::start(config).await.unwrap();
        let kube = server.client(UserInfo::master("admin"));
        let theirs = server.client(UserInfo::new("system:cloud-controller-manager", &[]));
        let cluster = Self { kube, aws, ec2, scope };
        let namespace = json!({ "metadata": { "name": "shop" } });
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let namespaces = Api::<Namespace>::all(cluster.kube.clone());
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let vpc_id = cluster.ec2.default_vpc().unwrap().id;
        let client = signed(&gateway, clock, key);
        let load_balancers = LoadBalancers { client, cluster: "stead".to_owned(), vpc_id };
        let config = Config { load_balancers: Some(load_balancers), ..Config::default() };
        let nodes = gateway.client_as("eks.amazonaws.com");
        let running =
            cloud_controller_manager::run(theirs, nodes, config, clock, cluster.scope.clone());
        drop(cluster.scope.spawn("cloud-controller-manager", running));
        cluster
    }

    async fn call<O: Operation>(&self, request: O::Request) -> O::Response {
        self.aws.call::<O>(request).await.unwrap_or_else(|it| panic!("{}: {it}", O::ACTION))
    }

    /// A node on an instance of its own; gives the instance.
    async fn node(&self, name: &str) -> String {
        let request = RunInstancesRequest {
            image_id: Some(region_ec2::seed::releases().last().unwrap().image_id()),
            instance_type: Some("m5.large".to_owned()),
            min_count: 1,
            max_count: 1,
            ..Default::default()
        };
        let instance = self.call::<RunInstances>(request).await.instances.remove(0);
        let id = instance.instance_id.unwrap();
        self.ec2.report(&id, &HostReport::Started).unwrap();
        let node = json!({
            "metadata": { "name": name },
            "spec": { "providerID": format!("aws:///us-east-1a/{id}") },
        });
        let node: Node = serde_json::from_value(node).unwrap();
        let nodes = Api::<Node>::all(self.kube.clone());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        let parameters = PatchParams::default();
        nodes.patch_status(name, &parameters, &Patch::Merge(&ready)).await.unwrap();
        id
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.kube.clone(), "shop")
    }

    async fn serve(&self, annotations: Value, spec: Value) -> Service {
        let mut all = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let service = json!({
            "metadata": { "name": "web", "annotations": annotations }, "spec": all,
        });
        let service: Service = serde_json::from_value(service).unwrap();
        self.services().create(&PostParams::default(), &service).await.unwrap()
    }

    async fn patch(&self, patch: Value) {
        let parameters = PatchParams::default();
        self.services().patch("web", &parameters, &Patch::Merge(&patch)).await.unwrap();
    }

    /// Once nothing more happens by itself.
    async fn settled(&self) {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    async fn load_balancer(&self) -> Option<LoadBalancerDescription> {
        self.settled().await;
        let request = DescribeLoadBalancersRequest::default();
        self.call::<DescribeLoadBalancers>(request).await.load_balancer_descriptions.pop()
    }

    async fn groups(&self, name: &str) -> Vec<SecurityGroup> {
        let filter = Filter { name: Some("group-name".to_owned()), values: vec![name.to_owned()] };
        let request = DescribeSecurityGroupsRequest { filters: vec![filter], ..Default::default() };
        self.call::<DescribeSecurityGroups>(request).await.security_groups
    }

    async fn events(&self) -> Vec<(String, String)> {
        self.settled().await;
        let events = Api::<Event>::namespaced(self.kube.clone(), "shop");
        let listed = events.list(&Default::default()).await.unwrap().items;
        let told = |it: Event| (it.reason.unwrap_or_default(), it.message.unwrap_or_default());
        listed.into_iter().map(told).collect()
    }

    async fn has_told(&self, reason: &str) -> bool {
        self.events().await.iter().any(|(it, _)| it == reason)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

fn region(clock: Clock, scope: &Scope) -> (Gateway, Arc<Ec2>) {
    let (store, name) = (Store::in_memory(), "us-east-1".to_owned());
    let gateway = Gateway::new(region_gateway::Config {
        region: name.clone(),
        account: ACCOUNT.to_owned(),
        clock,
        keys: vec![Arc::new(World)],
        identities: Arc::new(World),
        events: Events::in_memory(),
    });
    let config = region_ec2::Config::new(ACCOUNT, &name);
    let ec2 = Arc::new(Ec2::open(&store, config, clock, Arc::new(World)).unwrap());
    let config = region_elasticloadbalancing::Config {
        account: ACCOUNT.to_owned(),
        region: name,
        host_network: "127.64.0.0/24".parse().unwrap(),
    };
    let own = gateway.client_as(REQUESTER);
    let balancers = Balancers::new(None, scope.child());
    let elb = ElasticLoadBalancing::open(&store, config, own, balancers, clock).unwrap();
    let elb = Arc::new(elb);
    let routes = region_ec2::routes(&ec2).merge(region_elasticloadbalancing::routes(&elb));
    assert!(gateway.open(routes));
    (gateway, ec2)
}

fn signed(gateway: &Gateway, clock: Clock, key: &str) -> Client {
    let service = gateway.service(Side::Host);
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        service.clone().oneshot(request.map(Full::new))
    }));
    Client::new(ClientConfig {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::single("http://127.0.0.1:4566"),
        exchange,
        credentials: Some(Arc::new(Credentials::new(key, "secret"))),
        clock,
        attempts: 1,
    })
}

fn ingress(service: &Service) -> Value {
    let status = service.status.clone().unwrap_or_default().load_balancer.unwrap_or_default();
    serde_json::to_value(status.ingress.unwrap_or_default()).unwrap()
}

fn instances(it: &LoadBalancerDescription) -> Vec<String> {
    it.instances.iter().filter_map(|it| it.instance_id.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_a_load_balancer_with_a_group_that_nodes_admit_and_takes_all_with_it() {
    let cluster = Cluster::start("able").await;
    let node = cluster.node("n1").await;
    let made =
        cluster.serve(json!({}), json!({ "loadBalancerSourceRanges": ["10.0.0.0/8"] })).await;
    let found = cluster.load_balancer().await.expect("a load balancer");
    let name = format!("a{}", made.uid().unwrap().replace('-', ""))[..32].to_owned();
    assert_eq!(found.load_balancer_name.as_ref(), Some(&name));
    assert_eq!((found.subnets.len(), found.scheme.as_deref()), (3, Some("internet-facing")));
    assert_eq!(instances(&found), std::slice::from_ref(&node));
    let service = cluster.services().get("web").await.unwrap();
    assert_eq!(service.finalizers(), [FINALIZER]);
    let node_port = service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].node_port.unwrap();
    assert_eq!(found.health_check.unwrap().target, format!("TCP:{node_port}"));
    assert_eq!(
        ingress(&service),
        json!([{ "hostname": found.dns_name, "ip": "127.64.0.1", "ipMode": "Proxy" }])
    );
    let own = cluster.groups(&format!("k8s-elb-{name}")).await.remove(0);
    let ports: Vec<_> = own.ip_permissions.iter().map(|it| (it.from_port, it.to_port)).collect();
    assert!(
        ports.contains(&(Some(80), Some(80))) && ports.contains(&(Some(3), Some(4))),
        "{ports:?}"
    );
    assert_eq!(own.ip_permissions[0].ip_ranges[0].cidr_ip.as_deref(), Some("10.0.0.0/8"));
    let admits = |groups: Vec<SecurityGroup>| {
        let pairs = groups.into_iter().flat_map(|it| it.ip_permissions);
        let mut pairs = pairs.flat_map(|it| it.user_id_group_pairs);
        pairs.any(|it| it.group_id == own.group_id)
    };
    assert!(admits(cluster.groups("default").await), "the nodes' group lets the load balancer in");
    assert!(cluster.has_told("EnsuredLoadBalancer").await);

    cluster.services().delete("web", &DeleteParams::default()).await.unwrap();
    assert!(cluster.load_balancer().await.is_none());
    assert!(cluster.groups(&format!("k8s-elb-{name}")).await.is_empty());
    assert!(!admits(cluster.groups("default").await));
    assert!(cluster.services().get_opt("web").await.unwrap().is_none());
    assert!(cluster.has_told("DeletedLoadBalancer").await);
}

#[tokio::test(start_paused = true)]
async fn nodes_come_and_go_and_the_load_balancer_follows() {
    let cluster = Cluster::start("able").await;
    let first = cluster.node("n1").await;
    cluster.serve(json!({}), json!({})).await;
    assert_eq!(instances(&cluster.load_balancer().await.unwrap()), std::slice::from_ref(&first));
    let second = cluster.node("n2").await;
    assert_eq!(instances(&cluster.load_balancer().await.unwrap()).len(), 2);
    assert!(cluster.has_told("UpdatedLoadBalancer").await);
    let nodes = Api::<Node>::all(cluster.kube.clone());
    let label = json!({ "metadata": { "labels": {
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    }}});
    nodes.patch("n1", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
    assert_eq!(instances(&cluster.load_balancer().await.unwrap()), [second]);
    let taint = json!({ "spec": { "taints": [
        { "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" },
    ]}});
    nodes.patch("n2", &PatchParams::default(), &Patch::Merge(&taint)).await.unwrap();
    assert!(instances(&cluster.load_balancer().await.unwrap()).is_empty());
    assert!(cluster.has_told("UnAvailableLoadBalancer").await);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_changes_has_its_load_balancer_changed() {
    let cluster = Cluster::start("able").await;
    cluster.node("n1").await;
    cluster.serve(json!({}), json!({})).await;
    let before = cluster.load_balancer().await.unwrap();
    cluster
        .patch(json!({
            "metadata": { "annotations": {
                "service.beta.kubernetes.io/aws-load-balancer-connection-idle-timeout": "120",
                "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol": "*",
            }},
            "spec": {
                "ports": [{ "port": 81, "protocol": "TCP" }],
                "externalTrafficPolicy": "Local",
            },
        }))
        .await;
    let after = cluster.load_balancer().await.unwrap();
    assert_eq!(after.dns_name, before.dns_name);
    let ports = after.listener_descriptions.iter().filter_map(|it| it.listener.as_ref());
    assert_eq!(ports.map(|it| it.load_balancer_port).collect::<Vec<_>>(), [81]);
    assert_eq!(after.backend_server_descriptions.len(), 1);
    let service = cluster.services().get("web").await.unwrap();
    let port = service.spec.unwrap().health_check_node_port.unwrap();
    assert_eq!(after.health_check.unwrap().target, format!("HTTP:{port}/healthz"));
    let told = cluster.events().await;
    assert!(told.contains(&("ExternalTrafficPolicy".to_owned(), "Cluster -> Local".to_owned())));

    cluster.patch(json!({ "spec": { "type": "ClusterIP" } })).await;
    assert!(cluster.load_balancer().await.is_none());
    let service = cluster.services().get("web").await.unwrap();
    assert_eq!((ingress(&service), service.finalizers().len()), (json!([]), 0));
}

#[tokio::test(start_paused = true)]
async fn subnets_of_the_clusters_role_are_chosen_and_other_controllers_services_left_alone() {
    let cluster = Cluster::start("able").await;
    cluster.node("n1").await;
    let subnets = cluster.call::<DescribeSubnets>(DescribeSubnetsRequest::default()).await.subnets;
    let tag = CreateTagsRequest {
        resources: vec![subnets[0].subnet_id.clone().unwrap()],
        tags: vec![aws_ec2::common::TagInput {
            key: Some("kubernetes.io/cluster/other".to_owned()),
            value: Some("shared".to_owned()),
        }],
        ..Default::default()
    };
    cluster.call::<CreateTags>(tag).await;
    cluster.serve(json!({}), json!({ "loadBalancerClass": "service.k8s.aws/nlb" })).await;
    assert!(cluster.load_balancer().await.is_none());
    cluster.services().delete("web", &DeleteParams::default()).await.unwrap();
    let external = json!({ "service.beta.kubernetes.io/aws-load-balancer-type": "external" });
    cluster.serve(external, json!({})).await;
    assert!(cluster.load_balancer().await.is_none());
    assert!(!cluster.has_told("SyncLoadBalancerFailed").await);
    cluster.services().delete("web", &DeleteParams::default()).await.unwrap();
    cluster.settled().await;
    let internal = json!({ "service.beta.kubernetes.io/aws-load-balancer-internal": "true" });
    cluster.serve(internal, json!({})).await;
    let found = cluster.load_balancer().await.unwrap();
    assert_eq!((found.subnets.len(), found.scheme.as_deref()), (2, Some("internal")));
    let service = cluster.services().get("web").await.unwrap();
    assert_eq!(ingress(&service), json!([{ "hostname": found.dns_name }]));
}

#[tokio::test(start_paused = true)]
async fn what_the_role_may_not_do_or_nobody_can_is_told_in_an_event() {
    let cluster = Cluster::start("nobody").await;
    cluster.serve(json!({}), json!({})).await;
    let told = cluster.events().await;
    let failed = told.iter().find(|(reason, _)| reason == "SyncLoadBalancerFailed").unwrap();
    assert!(failed.1.starts_with("Error syncing load balancer: failed to ensure load balancer: "));
    assert!(failed.1.contains("UnauthorizedOperation"), "{failed:?}");
    assert!(cluster.load_balancer().await.is_none());

    let cluster = Cluster::start("able").await;
    let nlb = json!({ "service.beta.kubernetes.io/aws-load-balancer-type": "nlb" });
    cluster.serve(nlb, json!({})).await;
    let told = cluster.events().await;
    assert!(told.iter().any(|(_, it)| it.contains("Network Load Balancers")), "{told:?}");
    // It is made once it can be, without another change than the annotation's.
    cluster
        .patch(json!({ "metadata": { "annotations": {
            "service.beta.kubernetes.io/aws-load-balancer-type": null,
        }}}))
        .await;
    assert!(cluster.load_balancer().await.is_some());
    let certificate = json!({ "metadata": { "annotations": {
        "service.beta.kubernetes.io/aws-load-balancer-ssl-cert": "arn:aws:acm:x:1:certificate/x",
    }}});
    cluster.patch(certificate).await;
    let told = cluster.events().await;
    assert!(told.iter().any(|(_, it)| it.contains("CertificateNotFound")), "{told:?}");
}
