//! Clusters over a real EC2, with control planes that only say that they run.

use std::{convert::Infallible, sync::Arc, time::Duration};

use aws_ec2::{
    launch_template::{
        CreateLaunchTemplate, CreateLaunchTemplateRequest, CreateLaunchTemplateVersion,
        CreateLaunchTemplateVersionRequest,
    },
    launch_template_request::RequestLaunchTemplateData,
    network_interface::{CreateNetworkInterface, CreateNetworkInterfaceRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_eks::{
    CreateAccessEntry, CreateAccessEntryRequest, CreateCluster, CreateClusterRequest,
    CreateNodegroupRequest, DeleteCluster, DeleteClusterRequest, LaunchTemplateSpecification,
    UpdateAddon, UpdateAddonRequest, UpdateClusterConfig, UpdateClusterConfigRequest,
    UpdateNodegroupVersion, UpdateNodegroupVersionRequest, VpcConfigRequest,
};
use base64::{Engine, engine::general_purpose::STANDARD};
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
    nodegroups::{
        records::{self, Base, Release, State},
        template,
    },
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

/// A group of cluster `a` whose customer's template says this.
async fn templated(
    region: &Region,
    data: RequestLaunchTemplateData,
) -> crate::nodegroups::Nodegroup {
    let made = CreateLaunchTemplateRequest {
        launch_template_name: format!("theirs-{}", entropy::hex(4)),
        launch_template_data: data,
        ..Default::default()
    };
    let name = made.launch_template_name.clone();
    let root = region.root();
    Handle::<CreateLaunchTemplate>::handle(&*region.ec2, &root, made).await.unwrap();
    let asked = LaunchTemplateSpecification { name: Some(name), ..Default::default() };
    let source = template::read(&region.eks, &asked).await.unwrap();
    assert_eq!(source.version, 1, "the default one");
    let release = Release { image_id: "ami-eks".to_owned(), version: "1".to_owned() };
    let request = CreateNodegroupRequest { nodegroup_name: "g".to_owned(), ..Default::default() };
    let base = Base { release, source: Some(source) };
    records::new(&region.eks, &region.cluster("a"), &request, base)
}

#[tokio::test(start_paused = true)]
async fn eks_joins_a_customers_template_with_what_a_node_needs() {
    let region = region().await;
    region.create("a").await;
    let cluster = region.cluster("a");
    let theirs = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"B\"\n\n--B\n\
                  Content-Type: text/x-shellscript\n\n#!/bin/sh\ntrue\n--B--\n";
    let group = templated(
        &region,
        RequestLaunchTemplateData {
            user_data: Some(STANDARD.encode(theirs)),
            security_group_ids: vec!["sg-theirs".to_owned()],
            instance_type: Some("m5.large".to_owned()),
            ..Default::default()
        },
    )
    .await;
    assert!(group.instance_types.is_empty(), "the template says it");
    let own = template::own(&region.eks, &cluster, &group).unwrap();
    assert_eq!(own.image_id.as_deref(), Some("ami-eks"));
    assert_eq!(own.security_group_ids, ["sg-theirs"], "and not the cluster's");
    assert_eq!(own.iam_instance_profile.unwrap().name, Some(group.template()));
    let text = String::from_utf8(STANDARD.decode(own.user_data.unwrap()).unwrap()).unwrap();
    assert!(text.starts_with("MIME-Version: 1.0\nContent-Type: multipart/mixed"), "{text}");
    assert!(text.contains("#!/bin/sh\ntrue\n--B\r\nContent-Type: application/node.eks.aws"));
    assert!(text.contains("eks.amazonaws.com/sourceLaunchTemplateVersion=1"), "{text}");
    assert_eq!(text.matches("--B--").count(), 1, "{text}");
    assert!(text.trim_end().ends_with("--B--"));
}

#[tokio::test(start_paused = true)]
async fn with_an_image_of_their_own_customers_see_to_joining() {
    let region = region().await;
    region.create("a").await;
    let cluster = region.cluster("a");
    let script = STANDARD.encode("#!/bin/sh\ntrue\n");
    let theirs = RequestLaunchTemplateData {
        image_id: Some("ami-theirs".to_owned()),
        user_data: Some(script.clone()),
        ..Default::default()
    };
    let group = templated(&region, theirs.clone()).await;
    assert_eq!(group.ami_type, "CUSTOM");
    let own = template::own(&region.eks, &cluster, &group).unwrap();
    assert_eq!(own.user_data, Some(script));
    assert_eq!(own.image_id.as_deref(), Some("ami-theirs"));
    let of_cluster: Vec<_> = cluster.cluster_security_group_id.iter().cloned().collect();
    assert_eq!(own.security_group_ids, of_cluster);

    let mergeable = RequestLaunchTemplateData { image_id: None, ..theirs };
    let group = templated(&region, mergeable).await;
    let issue = template::own(&region.eks, &cluster, &group).unwrap_err();
    assert_eq!(issue.code, "Ec2LaunchTemplateInvalidConfiguration");
    assert_eq!(issue.message, "User data was not in the MIME multipart format.");
}

type Change<'a> = &'a dyn Fn(&mut UpdateNodegroupVersionRequest);

fn version_of(template: &str, version: &str) -> LaunchTemplateSpecification {
    LaunchTemplateSpecification {
        name: Some(template.to_owned()),
        version: Some(version.to_owned()),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_updated_to_versions_of_its_own_template_alone() {
    let region = region().await;
    region.create("a").await;
    let image = |id: &str| RequestLaunchTemplateData {
        image_id: Some(id.to_owned()),
        ..Default::default()
    };
    let mut group = templated(&region, image("ami-1")).await;
    group.state = State::Active;
    let template = group.source.as_ref().unwrap().name.clone();
    let store = &region.eks.0.store;
    let put = store.transaction(|transaction| {
        transaction.put(&region.eks.0.nodegroups, "a/g".to_owned(), group);
        Ok::<_, aws_wire::Fault>(())
    });
    put.unwrap();
    for data in [image("ami-2"), RequestLaunchTemplateData::default()] {
        let made = CreateLaunchTemplateVersionRequest {
            launch_template_name: Some(template.clone()),
            launch_template_data: data,
            ..Default::default()
        };
        let root = region.root();
        Handle::<CreateLaunchTemplateVersion>::handle(&*region.ec2, &root, made).await.unwrap();
    }
    let update = async |change: Change<'_>| {
        let mut request = UpdateNodegroupVersionRequest {
            cluster_name: "a".to_owned(),
            nodegroup_name: "g".to_owned(),
            launch_template: Some(version_of(&template, "2")),
            ..Default::default()
        };
        change(&mut request);
        let root = region.root();
        Handle::<UpdateNodegroupVersion>::handle(&region.eks, &root, request).await
    };
    let refused: [(Change<'_>, &str); 5] = [
        (&|it| it.launch_template = None, "Launch template details can't be null for Custom ami"),
        (
            &|it| it.version = Some("1.36".to_owned()),
            "You cannot specify the field kubernetesVersion when using custom AMIs.",
        ),
        (
            &|it| it.launch_template = Some(version_of("another", "1")),
            "The launch template of a nodegroup cannot be changed",
        ),
        (
            &|it| it.launch_template = Some(version_of(&template, "3")),
            "A nodegroup cannot be changed",
        ),
        (
            &|it| it.launch_template = Some(version_of(&template, "9")),
            "Could not find the specified",
        ),
    ];
    for (change, message) in refused {
        let fault = update(change).await.unwrap_err();
        assert_eq!(fault.code, "InvalidParameterException");
        assert!(fault.message.starts_with(message), "{}", fault.message);
    }
    let begun = update(&|it| it.force = Some(true)).await.unwrap().update.unwrap();
    assert_eq!((begun.kind.as_str(), begun.status.as_str()), ("VersionUpdate", "InProgress"));
    let params: Vec<_> = begun.params.iter().map(|it| (&*it.kind, &*it.value)).collect();
    let named = [("LaunchTemplateName", template.as_str()), ("LaunchTemplateVersion", "2")];
    assert_eq!(params, named);
    let group = region.eks.find_nodegroup("a", "g").unwrap();
    assert_eq!(group.state, State::Updating);
    let rollout = group.rollout.unwrap();
    assert_eq!((rollout.target.image_id.as_str(), rollout.force), ("ami-2", true));
    assert_eq!(group.image_id, "ami-1", "until the update has succeeded");
    assert_eq!(update(&|_| ()).await.unwrap_err().code, "ResourceInUseException");
}
