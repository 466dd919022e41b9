//! A cluster's API server and the region's real EC2 in this process, in virtual time, and Karpenter.

use std::{collections::BTreeMap, fmt::Debug, future::Future, sync::Arc, time::Duration};

use api_kube::karpenter::{Ec2NodeClass, NodeClaim, NodePool};
use aws_ec2::{
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    security_group::{CreateSecurityGroup, CreateSecurityGroupRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_wire::{
    Client as Aws,
    client::{Config as AwsConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use http::Request;
use http_body_util::Full;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use karpenter_aws::Config;
use kube::{
    Api, Client, Resource,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use lifecycle::Scope;
use region_ec2::{Config as Ec2Config, Ec2, Environment, ProfileInfo, records, routes, seed};
use region_gateway::{
    AccessKey, AccessKeys, Attached, CallerKind, Config as GatewayConfig, Events, Gateway,
    Identities, Principal, Role, Side,
};
use region_store::Store;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tower::ServiceExt;

const ACCOUNT: &str = "111122223333";

struct Iam;

impl Environment for Iam {
    fn instance_profile(&self, name: &str) -> Option<ProfileInfo> {
        Some(ProfileInfo {
            arn: format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}"),
            id: "AIPANODE".to_owned(),
            role_arn: Some(format!("arn:aws:iam::{ACCOUNT}:role/node")),
        })
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

impl AccessKeys for Iam {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let principal = Principal {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:{access_key_id}"),
            user_id: "AIDA".to_owned(),
            kind: CallerKind::Root,
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

impl Identities for Iam {
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

pub(crate) struct World {
    pub(crate) ec2: Arc<Ec2>,
    pub(crate) admin: Client,
    api: ApiServer,
    aws: Aws,
    clock: Clock,
    running: Scope,
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

impl World {
    /// A machine that holds so many instances; Karpenter runs.
    pub(crate) async fn new(capacity: usize) -> Self {
        let clock = Clock::simulated("2026-11-29T12:00:00Z".parse().expect("a date"));
        let config = Ec2Config { capacity, ..Ec2Config::new(ACCOUNT, "us-east-1") };
        let ec2 = Ec2::open(&Store::in_memory(), config, clock, Arc::new(Iam)).expect("it is new");
        let ec2 = Arc::new(ec2);
        let gateway = Gateway::new(GatewayConfig {
            region: "us-east-1".to_owned(),
            account: ACCOUNT.to_owned(),
            clock,
            keys: vec![Arc::new(Iam)],
            identities: Arc::new(Iam),
            events: Events::in_memory(),
        });
        assert!(gateway.open(routes(&ec2)));
        let aws = aws(&gateway, clock);
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        let api = ApiServer::start(config).await.expect("it starts");
        let admin = api.client(UserInfo::master("admin"));
        let mut world = Self { ec2, admin, api, aws, clock, running: Scope::new() };
        world.start();
        world.prepare().await;
        world
    }

    /// Runs Karpenter; an earlier one ends wherever it is.
    pub(crate) fn start(&mut self) {
        self.running.cancel();
        self.running = Scope::new();
        let client = self.api.client(UserInfo::master("karpenter"));
        let config = Config::new("stead");
        let scope = self.running.child();
        let run = karpenter_aws::run(client, self.aws.clone(), config, self.clock, scope);
        drop(self.running.spawn("karpenter", run));
    }

    async fn prepare(&self) {
        let namespace: Namespace = object(json!({ "metadata": { "name": "x" } }));
        self.create(&Api::all(self.admin.clone()), &namespace).await;
        let account: ServiceAccount = object(json!({ "metadata": { "name": "default" } }));
        self.create(&Api::namespaced(self.admin.clone(), "x"), &account).await;
        let subnets = self.aws.call::<DescribeSubnets>(DescribeSubnetsRequest::default()).await;
        let subnets: Vec<Value> = subnets
            .expect("they can be described")
            .subnets
            .into_iter()
            .filter_map(|it| it.subnet_id)
            .map(|it| json!({ "id": it }))
            .collect();
        let request = CreateSecurityGroupRequest {
            group_name: "nodes".to_owned(),
            description: "nodes".to_owned(),
            vpc_id: self.ec2.default_vpc().map(|it| it.id),
            ..Default::default()
        };
        let group = self.aws.call::<CreateSecurityGroup>(request).await.expect("it can be made");
        let image = seed::releases().last().expect("there are images").image_id();
        let class: Ec2NodeClass = object(json!({
            "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
            "metadata": { "name": "default" },
            "spec": { "amiFamily": "Custom", "amiSelectorTerms": [{ "id": image }],
                "instanceProfile": "node", "subnetSelectorTerms": subnets,
                "securityGroupSelectorTerms": [{ "id": group.group_id }] } }));
        let api = Api::<Ec2NodeClass>::all(self.admin.clone());
        // Not before Karpenter has defined it.
        self.until("the class can be made", || async {
            api.create(&PostParams::default(), &class).await.ok()
        })
        .await;
        let pool: NodePool = object(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "default" },
            "spec": { "template": { "spec": {
                "requirements": [{ "key": "karpenter.k8s.aws/instance-category", "operator": "In",
                    "values": ["m"] },
                    { "key": "karpenter.sh/capacity-type", "operator": "In",
                        "values": ["on-demand"] }],
                "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass",
                    "name": "default" } } } } }));
        let api = Api::<NodePool>::all(self.admin.clone());
        self.until("the pool can be made", || async {
            api.create(&PostParams::default(), &pool).await.ok()
        })
        .await;
    }

    async fn create<K>(&self, api: &Api<K>, wanted: &K)
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        api.create(&PostParams::default(), wanted).await.expect("it can be made");
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), "x")
    }

    /// A pod for which the scheduler has found no place.
    pub(crate) async fn pending(&self, name: &str, cpu: &str) {
        let pod: Pod = object(json!({
            "metadata": { "name": name },
            "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "c",
                "image": "i", "resources": { "requests": { "cpu": cpu } } }] } }));
        self.create(&self.pods(), &pod).await;
        let patch = json!({ "status": { "conditions": [{ "type": "PodScheduled",
            "status": "False", "reason": "Unschedulable" }] } });
        let patched =
            self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.expect("it is there");
    }

    pub(crate) async fn claims(&self) -> Vec<NodeClaim> {
        let api = Api::<NodeClaim>::all(self.admin.clone());
        api.list(&ListParams::default()).await.expect("they can be listed").items
    }

    /// The claim, once it has a condition.
    pub(crate) async fn claim_that_is(&self, condition: &str) -> NodeClaim {
        self.until(&format!("a claim is {condition}"), || async {
            self.claims().await.into_iter().find(|it| it.is_true(condition))
        })
        .await
    }

    /// What the kubelet of a claim's instance does.
    pub(crate) async fn join(&self, claim: &NodeClaim) -> String {
        let status = claim.status.clone().expect("it has a status");
        let provider = status.provider_id.expect("it has an instance");
        let id = provider.rsplit('/').next().expect("an id").to_owned();
        self.ec2.report(&id, &records::HostReport::Started).expect("it is pending");
        let name = format!("node-of-{id}");
        let node: Node = object(json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name,
                "karpenter.sh/nodepool": "default" } },
            "spec": { "providerID": provider,
                "taints": [{ "key": "karpenter.sh/unregistered", "effect": "NoExecute" }] },
            "status": { "capacity": status.capacity, "allocatable": status.allocatable,
                "conditions": [{ "type": "Ready", "status": "True" }] } }));
        self.create(&Api::all(self.admin.clone()), &node).await;
        self.until("the node is taken for ready", || self.untaint(&name)).await;
        name
    }

    /// What the node lifecycle controller does with the taint that each new node is given.
    async fn untaint(&self, name: &str) -> Option<()> {
        let node = self.node(name).await?;
        let mut taints = node.spec.unwrap_or_default().taints.unwrap_or_default();
        taints.retain(|it| it.key != "node.kubernetes.io/not-ready");
        let patch = json!({ "spec": { "taints": taints },
            "metadata": { "resourceVersion": node.metadata.resource_version } });
        let api = Api::<Node>::all(self.admin.clone());
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.ok().map(drop)
    }

    pub(crate) async fn node(&self, name: &str) -> Option<Node> {
        Api::<Node>::all(self.admin.clone()).get_opt(name).await.expect("it can be asked for")
    }

    /// Instances that are not terminated.
    pub(crate) async fn instances(&self) -> Vec<Instance> {
        let request = DescribeInstancesRequest::default();
        let found = self.aws.call::<DescribeInstances>(request).await.expect("they can be read");
        let all = found.reservations.into_iter().flat_map(|it| it.instances);
        all.filter(|it| state(it) != "terminated").collect()
    }

    /// What the machine does with instances that are to go.
    pub(crate) async fn end_instances(&self) {
        for it in self.instances().await.iter().filter(|it| state(it) == "shutting-down") {
            let id = it.instance_id.clone().expect("it has an id");
            self.ec2.report(&id, &records::HostReport::Terminated).expect("it is there");
        }
    }

    pub(crate) async fn until<T, F, Fut>(&self, what: &str, found: F) -> T
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Option<T>>,
    {
        for _ in 0..600 {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("never came about: {what}");
    }
}

fn state(instance: &Instance) -> &str {
    instance.state.as_ref().and_then(|it| it.name.as_deref()).unwrap_or_default()
}

pub(crate) fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

fn aws(gateway: &Gateway, clock: Clock) -> Aws {
    let service = gateway.service(Side::Host);
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        service.clone().oneshot(request.map(Full::new))
    }));
    Aws::new(AwsConfig {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::single("http://127.0.0.1:4566"),
        exchange,
        credentials: Some(Arc::new(Credentials::new("root", "secret"))),
        clock,
        attempts: 1,
    })
}
