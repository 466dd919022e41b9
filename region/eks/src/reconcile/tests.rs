//! Clusters over a real EC2, with control planes that only say that they run.

use std::{convert::Infallible, sync::Arc, time::Duration};

use aws_ec2::{
    network_interface::{CreateNetworkInterface, CreateNetworkInterfaceRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_eks::{
    CreateAccessEntry, CreateAccessEntryRequest, CreateCluster, CreateClusterRequest,
    DeleteCluster, DeleteClusterRequest, UpdateAddon, UpdateAddonRequest, VpcConfigRequest,
};
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

use crate::{
    Cluster, Config, ControlPlane, ControlPlaneError, ControlPlanes, Eks, Roles, Status,
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
    fn can_be_assumed(&self, _: &str, _: &str) -> bool {
        true
    }

    fn principal_id(&self, arn: &str) -> Option<String> {
        (arn.ends_with("known") || arn.ends_with("known2")).then(|| "AROAKNOWN".to_owned())
    }
}

/// The one of cluster `stuck` never comes up, and that of `broken` fails.
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
                    client: nobody(),
                }),
            }
        })
    }

    fn remove<'a>(&'a self, _: &'a Cluster) -> BoxFuture<'a, Result<(), ControlPlaneError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn nobody() -> kube::Client {
    let answer = async |_: Request<Body>| {
        let response = Response::builder().status(503).body(Body::empty()).unwrap();
        Ok::<_, Infallible>(response)
    };
    kube::Client::new(tower::service_fn(answer), "default")
}

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
    assert!(gateway.open(region_ec2::routes(&ec2)));
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
        let request = CreateClusterRequest {
            name: name.to_owned(),
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
async fn what_keeps_a_cluster_from_coming_up_is_its_health() {
    let region = region().await;
    region.create("broken").await;
    let (code, message) = region.cluster("broken").issues[0].clone();
    assert_eq!(code, "InternalFailure");
    assert!(message.contains("its interfaces are not in place"), "{message}");
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
async fn an_addon_is_given_no_role_that_it_would_not_use() {
    let region = region().await;
    region.create("a").await;
    let request = UpdateAddonRequest {
        cluster_name: "a".to_owned(),
        addon_name: "vpc-cni".to_owned(),
        service_account_role_arn: Some(format!("arn:aws:iam::{ACCOUNT}:role/known")),
        ..Default::default()
    };
    let refused = Handle::<UpdateAddon>::handle(&region.eks, &region.root(), request).await;
    assert_eq!(refused.unwrap_err().code, "InvalidParameterException");
}
