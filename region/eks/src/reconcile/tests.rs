//! Clusters over a real EC2, with control planes that only say that they run.

use std::{convert::Infallible, sync::Arc, time::Duration};

use aws_autoscaling::group::{
    DescribeAutoScalingGroups, DescribeAutoScalingGroupsRequest, DescribeAutoScalingGroupsResponse,
};
use aws_ec2::{
    network_interface::{CreateNetworkInterface, CreateNetworkInterfaceRequest},
    security_group::{DescribeSecurityGroups, DescribeSecurityGroupsRequest},
    subnet::{CreateSubnet, CreateSubnetRequest, DescribeSubnets, DescribeSubnetsRequest},
    vpc::{CreateVpc, CreateVpcRequest},
};
use aws_eks::{
    AccessConfig, AssociateAccessPolicy, AssociateAccessPolicyRequest, CreateAccessEntry,
    CreateAccessEntryRequest, CreateCluster, CreateClusterRequest, DeleteCluster,
    DeleteClusterRequest, KubernetesNetworkConfig, ListAccessEntries, ListAccessEntriesRequest,
    UpdateAddon, UpdateAddonRequest, UpdateClusterConfig, UpdateClusterConfigRequest,
    VpcConfigRequest,
};
use aws_wire::Fault;
use clock::Clock;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use lifecycle::Scope;
use region_ec2::{Ec2, Environment, ProfileInfo};
use region_gateway::{
    Attached, Caller, CallerKind, Config as GatewayConfig, Events, Gateway, Handle, Identities,
    Role,
};
use region_store::Store;
use tower::ServiceExt;

use crate::{
    Cluster, Config, ControlPlane, ControlPlaneError, ControlPlanes, Eks, IssuerService, Roles,
    Status, Trust,
    reconcile::{self, Context},
};

const ACCOUNT: &str = "111122223333";

struct Nothing;

impl Environment for Nothing {
    fn instance_profile(&self, _: &str) -> Option<ProfileInfo> {
        None
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

/// Auto Scaling groups: there are none yet.
struct NoGroups;

impl Handle<DescribeAutoScalingGroups> for NoGroups {
    async fn handle(
        &self,
        _: &Caller,
        _: DescribeAutoScalingGroupsRequest,
    ) -> Result<DescribeAutoScalingGroupsResponse, Fault> {
        Ok(DescribeAutoScalingGroupsResponse::default())
    }
}

impl Identities for Nothing {
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

impl Roles for Nothing {
    fn can_be_assumed(&self, role_arn: &str, _: &str) -> bool {
        !role_arn.ends_with("/untrusting")
    }

    fn trust(&self, role_arn: &str, service: &str) -> Trust {
        match role_arn.rsplit('/').next() {
            Some("known") if service == "pods.eks.amazonaws.com" => Trust::Named,
            Some("node") => Trust::Other,
            _ => Trust::NoRole,
        }
    }

    fn principal_id(&self, arn: &str) -> Option<String> {
        (arn.ends_with("known") || arn.ends_with("known2")).then(|| "AROAKNOWN".to_owned())
    }
}

/// The one of cluster `stuck` never comes up, that of `broken` fails, and that of `a-silent` answers nobody.
struct Planes;

impl ControlPlanes for Planes {
    fn ensure<'a>(
        &'a self,
        cluster: &'a Cluster,
    ) -> BoxFuture<'a, Result<ControlPlane, ControlPlaneError>> {
        Box::pin(async move {
            match cluster.name.as_str() {
                "stuck" => std::future::pending().await,
                "broken" => Err(ControlPlaneError {
                    cluster: cluster.name.clone(),
                    reason: "its interfaces are not in place".to_owned(),
                }),
                _ => Ok(ControlPlane {
                    certificate_authority_pem: String::new(),
                    host_endpoint: "https://127.0.0.1:6443".to_owned(),
                    client: match cluster.name.as_str() {
                        "a-silent" => silent(),
                        "contested" => conflicts::contested(),
                        _ => nobody(),
                    },
                    fargate: None,
                }),
            }
        })
    }

    fn remove<'a>(&'a self, _: &'a Cluster) -> BoxFuture<'a, Result<(), ControlPlaneError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Says nothing but what the keys of service accounts are.
fn nobody() -> kube::Client {
    let answer = async |request: Request<Body>| {
        if request.uri().path() == "/openid/v1/jwks" {
            return Ok(Response::new(Body::from(br#"{"keys":[]}"#.to_vec())));
        }
        let response = Response::builder().status(503).body(Body::empty()).unwrap();
        Ok::<_, Infallible>(response)
    };
    kube::Client::new(tower::service_fn(answer), "default")
}

/// Takes requests and answers none.
fn silent() -> kube::Client {
    let answer = async |_: Request<Body>| {
        std::future::pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Body::empty()))
    };
    kube::Client::new(tower::service_fn(answer), "default")
}

mod changes;
mod conflicts;
mod fargate;
mod nodegroups;
mod pod_identity;

struct Region {
    eks: Eks,
    ec2: Arc<Ec2>,
    subnets: Vec<String>,
    _scope: Scope,
}

async fn region() -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let store = Store::in_memory();
    let config = region_ec2::Config::new(ACCOUNT, "us-east-1");
    let ec2 = Arc::new(Ec2::open(&store, config, clock, Arc::new(Nothing)).unwrap());
    let gateway = Gateway::new(GatewayConfig {
        region: "us-east-1".to_owned(),
        account: ACCOUNT.to_owned(),
        clock,
        keys: Vec::new(),
        identities: Arc::new(Nothing),
        events: Events::in_memory(),
    });
    let groups = Arc::new(NoGroups);
    let routes = region_ec2::routes(&ec2).operation::<DescribeAutoScalingGroups, _>(groups);
    assert!(gateway.open(routes));
    let client = gateway.client_as("eks.amazonaws.com");
    let config = Config {
        account: ACCOUNT.to_owned(),
        region: "us-east-1".to_owned(),
        clock,
        client: client.clone(),
        roles: Arc::new(Nothing),
        join_limit: Duration::from_secs(60),
        latency: latency::Latency::INSTANT,
    };
    let eks = Eks::open(&store, config).unwrap();
    let scope = Scope::new();
    let context = Context::new(eks.clone(), Arc::new(Planes), scope.child());
    drop(scope.spawn("eks", reconcile::run(context)));
    let found = client.call::<DescribeSubnets>(DescribeSubnetsRequest::default()).await.unwrap();
    let subnets = found.subnets.into_iter().filter_map(|it| it.subnet_id).collect();
    Region { eks, ec2, subnets, _scope: scope }
}

impl Region {
    fn root(&self) -> Caller {
        Caller::root(ACCOUNT, "us-east-1", self.eks.now())
    }

    async fn create(&self, name: &str) {
        self.create_in_mode(name, Some("API_AND_CONFIG_MAP")).await;
    }

    async fn create_in_mode(&self, name: &str, mode: Option<&str>) {
        let access_config = mode.map(|mode| AccessConfig {
            authentication_mode: Some(mode.to_owned()),
            ..Default::default()
        });
        let request = CreateClusterRequest {
            name: name.to_owned(),
            access_config,
            role_arn: format!("arn:aws:iam::{ACCOUNT}:role/eks"),
            resources_vpc_config: VpcConfigRequest {
                subnet_ids: self.subnets.clone(),
                ..Default::default()
            },
            ..Default::default()
        };
        Handle::<CreateCluster>::handle(&self.eks, &self.root(), request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
    }

    fn cluster(&self, name: &str) -> Arc<Cluster> {
        self.eks.cluster(name).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_hangs_holds_up_no_other() {
    let region = region().await;
    region.create("stuck").await;
    region.create("zeta").await;
    assert_eq!(region.cluster("stuck").status, Status::Creating);
    assert_eq!(region.cluster("zeta").status, Status::Active);
    let delete = DeleteClusterRequest { name: "zeta".to_owned() };
    Handle::<DeleteCluster>::handle(&region.eks, &region.root(), delete).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(region.eks.cluster("zeta").is_none());
    // A cluster of the name that was just deleted is another one.
    region.create("zeta").await;
    assert_eq!(region.cluster("zeta").status, Status::Active);
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_cluster_takes_subnets_with_ipv6_and_has_a_range_of_its_own_for_services() {
    let region = region().await;
    let request = |family: &str, subnets: &[String]| CreateClusterRequest {
        name: "six".to_owned(),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/eks"),
        resources_vpc_config: VpcConfigRequest {
            subnet_ids: subnets.to_vec(),
            ..Default::default()
        },
        kubernetes_network_config: Some(KubernetesNetworkConfig {
            ip_family: Some(family.to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let create =
        |it| async { Handle::<CreateCluster>::handle(&region.eks, &region.root(), it).await };
    let unknown = create(request("ipv5", &region.subnets)).await.unwrap_err();
    assert_eq!(unknown.code, "InvalidParameterException");
    let without = create(request("ipv6", &region.subnets)).await.unwrap_err();
    assert!(without.message.contains(&region.subnets[0]), "{}", without.message);

    let vpc = CreateVpcRequest {
        cidr_block: Some("10.6.0.0/16".to_owned()),
        amazon_provided_ipv6_cidr_block: Some(true),
        ..Default::default()
    };
    let made = Handle::<CreateVpc>::handle(&*region.ec2, &region.root(), vpc).await;
    let made = made.unwrap().vpc.unwrap();
    let block = made.ipv6_cidr_block_association_set[0].ipv6_cidr_block.clone().unwrap();
    let block: ipnet::Ipv6Net = block.parse().unwrap();
    let parts = block.subnets(64).unwrap();
    let mut subnets = Vec::new();
    let zones = ["us-east-1a", "us-east-1b"];
    for ((number, zone), part) in zones.into_iter().enumerate().zip(parts) {
        let subnet = CreateSubnetRequest {
            vpc_id: made.vpc_id.clone().unwrap(),
            cidr_block: Some(format!("10.6.{number}.0/24")),
            ipv6_cidr_block: Some(part.to_string()),
            availability_zone: Some(zone.to_owned()),
            ..Default::default()
        };
        let made = Handle::<CreateSubnet>::handle(&*region.ec2, &region.root(), subnet).await;
        subnets.push(made.unwrap().subnet.unwrap().subnet_id.unwrap());
    }
    let both = CreateClusterRequest {
        kubernetes_network_config: Some(KubernetesNetworkConfig {
            ip_family: Some("ipv6".to_owned()),
            service_ipv4_cidr: Some("10.100.0.0/16".to_owned()),
            ..Default::default()
        }),
        ..request("ipv6", &subnets)
    };
    assert_eq!(create(both).await.unwrap_err().code, "InvalidParameterException");
    let shown = create(request("ipv6", &subnets)).await.unwrap().cluster.unwrap();
    let network = shown.kubernetes_network_config;
    assert_eq!((network.ip_family.as_deref(), network.service_ipv4_cidr), (Some("ipv6"), None));
    let services = network.service_ipv6_cidr.unwrap();
    assert!(services.starts_with("fd") && services.ends_with("::/108"), "{services}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let cluster = region.cluster("six");
    assert_eq!(cluster.cluster_dns(), services.replace("::/108", "::a"));
    assert!(cluster.interfaces.iter().all(|it| it.ipv6_address.is_some()));
    region.create("four").await;
    assert_eq!(region.cluster("four").cluster_dns(), "10.100.0.10");
}

#[tokio::test(start_paused = true)]
async fn the_issuer_of_a_cluster_publishes_itself_and_its_keys_until_the_cluster_goes() {
    let region = region().await;
    region.create("a").await;
    region.create("stuck").await;
    let service = IssuerService::new(region.eks.clone());
    let ask = async |url: &str| {
        let request = Request::get(url).body(()).unwrap();
        let answer = service.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = transport::collect(body, 1 << 20).await.unwrap().unwrap();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    };
    let issuer = region.cluster("a").issuer("us-east-1");
    let (status, headers, text) = ask(&format!("{issuer}/.well-known/openid-configuration")).await;
    assert_eq!(status, 200);
    assert_eq!(headers["cache-control"], "public, max-age=3600");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["issuer"], issuer);
    assert_eq!(document["jwks_uri"], format!("{issuer}/keys"));
    let (status, headers, text) = ask(&format!("{issuer}/keys")).await;
    assert_eq!((status, text.as_str()), (200, r#"{"keys":[]}"#));
    assert_eq!(headers["content-type"], "application/jwk-set+json");

    // Another cluster's keys are not to be had for a while; nobody's never.
    let stuck = region.cluster("stuck").issuer("us-east-1");
    assert_eq!(ask(&format!("{stuck}/keys")).await.0, 503);
    let host = "https://oidc.eks.us-east-1.amazonaws.com";
    for path in ["/", "/id/ABC/keys", "/id/ABC/.well-known/openid-configuration", "/keys"] {
        assert_eq!(ask(&format!("{host}{path}")).await.0, 404, "{path}");
    }
    let delete = DeleteClusterRequest { name: "a".to_owned() };
    Handle::<DeleteCluster>::handle(&region.eks, &region.root(), delete).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(ask(&format!("{issuer}/keys")).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn only_requests_of_the_issuers_host_are_theirs() {
    let service = IssuerService::new(region().await.eks);
    let asked = |host: &str| {
        let request = Request::get("/").header("host", host).body(()).unwrap();
        service.is_asked(request.headers(), None)
    };
    assert!(asked("oidc.eks.us-east-1.amazonaws.com"));
    assert!(asked("OIDC.eks.us-east-1.amazonaws.com:4566"));
    assert!(!asked("eks.us-east-1.amazonaws.com"));
    assert!(!asked("oidc.eks.eu-west-1.amazonaws.com"));
    let http2 = Request::get("/").body(()).unwrap();
    assert!(service.is_asked(http2.headers(), Some("oidc.eks.us-east-1.amazonaws.com")));
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_cluster_from_coming_up_is_its_health() {
    let region = region().await;
    region.create("broken").await;
    let (code, message) = region.cluster("broken").issues[0].clone();
    assert_eq!(code, "InternalFailure");
    assert!(message.contains("its interfaces are not in place"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_clusters_group_lets_its_members_in_and_everything_out_and_says_whose_it_is() {
    let region = region().await;
    region.create("a").await;
    let id = region.cluster("a").cluster_security_group_id.clone().unwrap();
    let request =
        DescribeSecurityGroupsRequest { group_ids: vec![id.clone()], ..Default::default() };
    let root = region.root();
    let described = Handle::<DescribeSecurityGroups>::handle(&*region.ec2, &root, request);
    let group = described.await.unwrap().security_groups.remove(0);
    assert!(group.group_name.unwrap().starts_with("eks-cluster-sg-a-"));
    let [rule] = &group.ip_permissions[..] else { panic!("{:?}", group.ip_permissions) };
    assert_eq!(rule.ip_protocol.as_deref(), Some("-1"));
    assert_eq!(rule.user_id_group_pairs[0].group_id.as_deref(), Some(id.as_str()));
    assert!(rule.ip_ranges.is_empty() && rule.ipv6_ranges.is_empty());
    let [out] = &group.ip_permissions_egress[..] else { panic!("one rule") };
    assert_eq!(out.ip_ranges[0].cidr_ip.as_deref(), Some("0.0.0.0/0"));
    let owned = |it: &aws_ec2::common::Tag| it.key.as_deref() == Some("kubernetes.io/cluster/a");
    let tag = group.tags.iter().find(|it| owned(it)).and_then(|it| it.value.as_deref());
    assert_eq!(tag, Some("owned"));
    // The control plane's interfaces wear it.
    let state = region.ec2.view();
    let worn = state.network_interfaces.iter().filter(|it| it.security_groups.contains(&id));
    assert!(worn.count() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_takes_no_group_or_interface_that_is_not_its_own() {
    let region = region().await;
    region.create("a-b").await;
    region.create("a").await;
    let group = |name: &str| region.cluster(name).cluster_security_group_id.clone().unwrap();
    assert_ne!(group("a"), group("a-b"));

    let delete = DeleteClusterRequest { name: "a".to_owned() };
    let theirs = CreateNetworkInterfaceRequest {
        subnet_id: region.subnets[0].clone(),
        description: Some("Amazon EKS a".to_owned()),
        ..Default::default()
    };
    let customer = Caller { arn: "me".to_owned(), ..region.root() };
    let made = Handle::<CreateNetworkInterface>::handle(&*region.ec2, &customer, theirs).await;
    let theirs = made.unwrap().network_interface.unwrap().network_interface_id.unwrap();
    Handle::<DeleteCluster>::handle(&region.eks, &region.root(), delete).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(region.eks.cluster("a").is_none());
    assert!(region.ec2.view().network_interfaces.get(&theirs).is_some());
    assert!(region.ec2.view().security_groups.get(&group("a-b")).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_access_entry_is_of_one_principal_and_not_of_its_name() {
    let region = region().await;
    region.create("a").await;
    let create = |principal: &str| CreateAccessEntryRequest {
        cluster_name: "a".to_owned(),
        principal_arn: format!("arn:aws:iam::{ACCOUNT}:role/{principal}"),
        ..Default::default()
    };
    let made =
        Handle::<CreateAccessEntry>::handle(&region.eks, &region.root(), create("known")).await;
    let arn = made.unwrap().access_entry.unwrap().principal_arn;
    let mapping = region.eks.mapping("a", &arn).unwrap();
    assert_eq!(mapping.principal_id.as_deref(), Some("AROAKNOWN"));
    let root = region.root();
    let made = Handle::<CreateAccessEntry>::handle(&region.eks, &root, create("path/too/known2"));
    let entry = made.await.unwrap().access_entry.unwrap();
    assert_eq!(entry.principal_arn, format!("arn:aws:iam::{ACCOUNT}:role/path/too/known2"));
    assert_eq!(
        entry.username,
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/known2/{{{{SessionName}}}}")
    );
    // What STS says of its sessions has no path.
    let session = format!("arn:aws:iam::{ACCOUNT}:role/known2");
    assert_eq!(region.eks.mapping("a", &session).unwrap().username, entry.username);
    assert!(region.eks.mapping("a", &format!("arn:aws:iam::{ACCOUNT}:role/n2")).is_none());
    let none =
        Handle::<CreateAccessEntry>::handle(&region.eks, &region.root(), create("other")).await;
    assert_eq!(none.unwrap_err().code, "InvalidParameterException");
}

#[tokio::test(start_paused = true)]
async fn an_addon_is_given_a_role_that_there_is_and_no_other() {
    let region = region().await;
    region.create("a").await;
    let update = async |role: Option<&str>| {
        let request = UpdateAddonRequest {
            cluster_name: "a".to_owned(),
            addon_name: "vpc-cni".to_owned(),
            service_account_role_arn: role.map(|it| format!("arn:aws:iam::{ACCOUNT}:{it}")),
            ..Default::default()
        };
        Handle::<UpdateAddon>::handle(&region.eks, &region.root(), request).await
    };
    let role = || region.eks.0.addons.get("a/vpc-cni").unwrap().role_arn.clone();
    for wrong in ["role/nobody", "user/known"] {
        let refused = update(Some(wrong)).await;
        assert_eq!(refused.unwrap_err().code, "InvalidParameterException", "{wrong}");
    }
    assert_eq!(role(), None);
    let begun = update(Some("role/known")).await.unwrap().update.unwrap();
    assert!(format!("{begun:?}").contains("ServiceAccountRoleArn"), "{begun:?}");
    assert_eq!(role().unwrap(), format!("arn:aws:iam::{ACCOUNT}:role/known"));
    update(None).await.unwrap();
    assert_eq!(role(), None);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_public_until_it_is_asked_to_be_private_and_each_has_its_address() {
    let region = region().await;
    region.create("a").await;
    region.create("b").await;
    let (a, b) = (region.cluster("a"), region.cluster("b"));
    assert!(a.endpoint_public_access && !a.endpoint_private_access, "as on AWS");
    assert_ne!(a.public_address.unwrap(), b.public_address.unwrap());
    let public = vec![a.public_address.unwrap()];
    let private: Vec<_> = a.interfaces.iter().map(|it| it.address).collect();
    assert_eq!(a.endpoint_addresses(&a.vpc_id), public);

    let update = async |is_public: bool, is_private: bool| {
        let request = UpdateClusterConfigRequest {
            name: "a".to_owned(),
            resources_vpc_config: Some(VpcConfigRequest {
                endpoint_public_access: Some(is_public),
                endpoint_private_access: Some(is_private),
                ..Default::default()
            }),
            ..Default::default()
        };
        Handle::<UpdateClusterConfig>::handle(&region.eks, &region.root(), request).await
    };
    let update_made = update(true, true).await.unwrap().update.unwrap();
    assert_eq!(update_made.kind, "EndpointAccessUpdate");
    let both = region.cluster("a");
    assert_eq!(both.endpoint_addresses(&both.vpc_id), private);
    assert_eq!(both.endpoint_addresses("vpc-other"), public);
    let same = update(true, true).await.unwrap_err();
    assert!(same.message.starts_with("Cluster is already at the desired configuration"));

    update(false, true).await.unwrap();
    assert_eq!(region.cluster("a").endpoint_addresses("vpc-other"), private);
    assert!(update(false, false).await.is_err());
    update(true, false).await.unwrap();
    assert_eq!(region.cluster("a").endpoint_addresses(&a.vpc_id), public);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_of_the_config_map_has_no_entries_but_its_creators_until_its_mode_changes() {
    let region = region().await;
    region.create_in_mode("a", None).await;
    assert_eq!(region.cluster("a").authentication_mode, "CONFIG_MAP");
    let creator = format!("arn:aws:iam::{ACCOUNT}:root");
    assert!(region.eks.mapping("a", &creator).is_some(), "nobody could use the cluster");
    assert!(region.eks.reads_config_map("a"));
    let root = region.root();
    let list = || ListAccessEntriesRequest { cluster_name: "a".to_owned(), ..Default::default() };
    let refused = Handle::<ListAccessEntries>::handle(&region.eks, &root, list()).await;
    assert_eq!(refused.unwrap_err().code, "InvalidRequestException");
    let associate = AssociateAccessPolicyRequest {
        cluster_name: "a".to_owned(),
        principal_arn: creator.clone(),
        policy_arn: crate::access::CLUSTER_ADMIN.to_owned(),
        ..Default::default()
    };
    let refused = Handle::<AssociateAccessPolicy>::handle(&region.eks, &root, associate).await;
    assert_eq!(refused.unwrap_err().code, "InvalidRequestException");

    let update = async |mode: &str| {
        let request = UpdateClusterConfigRequest {
            name: "a".to_owned(),
            access_config: Some(AccessConfig {
                authentication_mode: Some(mode.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        Handle::<UpdateClusterConfig>::handle(&region.eks, &root, request).await
    };
    update("API_AND_CONFIG_MAP").await.unwrap();
    let listed = Handle::<ListAccessEntries>::handle(&region.eks, &root, list()).await.unwrap();
    assert_eq!(listed.access_entries, [creator]);
    update("API").await.unwrap();
    assert!(!region.eks.reads_config_map("a"));
    for back in ["API_AND_CONFIG_MAP", "CONFIG_MAP"] {
        assert_eq!(update(back).await.unwrap_err().code, "InvalidParameterException", "{back}");
    }
}
