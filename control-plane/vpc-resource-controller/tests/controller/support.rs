//! A cluster's API server and the region's real EC2 in this process, in virtual time: an instance, its
//! Node, and the controller with the rights of its role alone.

use std::{collections::BTreeMap, fmt::Debug, future::Future, sync::Arc, time::Duration};

use api_kube::vpc_resources::{CONTROLLER_USERS, CniNode, POD_ENI, PodEni, SecurityGroupPolicy};
use aws_ec2::{
    common::{TagInput, TagSpecification},
    network_interface::{
        DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, NetworkInterface,
    },
    run_instances::{RunInstances, RunInstancesRequest},
    security_group::{CreateSecurityGroup, CreateSecurityGroupRequest},
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
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, ServiceAccount};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use lifecycle::Scope;
use parking_lot::Mutex;
use region_ec2::{Config as Ec2Config, Ec2, Environment, ProfileInfo, records, routes, seed};
use region_gateway::{
    AccessKey, AccessKeys, Attached, CallerKind, Config as GatewayConfig, Events, Gateway,
    Identities, Principal, Role, Side,
};
use region_store::Store;
use serde_json::{Value, json};
use tower::ServiceExt;
use vpc_resource_controller::{Clients, Config};

const ACCOUNT: &str = "111122223333";
pub(crate) const NODE: &str = "ip-172-31-0-9.ec2.internal";

/// What the region asks about IAM: the root user, and a role without any policy.
struct Iam;

impl Environment for Iam {
    fn instance_profile(&self, _: &str) -> Option<ProfileInfo> {
        None
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

impl AccessKeys for Iam {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let kind = match access_key_id {
            "root" => CallerKind::Root,
            name => CallerKind::User { name: name.to_owned() },
        };
        let principal = Principal {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{ACCOUNT}:{access_key_id}"),
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
    pub(crate) instance: String,
    pub(crate) admin: Client,
    api: ApiServer,
    gateway: Gateway,
    clock: Clock,
    running: Scope,
    silent: Silent,
}

/// The action that EC2 carries out for the controller's role, and never answers.
#[derive(Clone, Default)]
pub(crate) struct Silent(Arc<Mutex<Option<&'static str>>>);

impl Silent {
    fn is(&self, request: &Request<Bytes>) -> bool {
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let is_it = |action: &&str| body.split('&').any(|it| it == format!("Action={action}"));
        self.0.lock().as_ref().is_some_and(is_it)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.cancel();
    }
}

impl World {
    /// An instance of this type and its Node; the controller does not run yet.
    pub(crate) async fn new(instance_type: &str) -> Self {
        let epoch = "2026-11-29T12:00:00Z".parse().expect("a date");
        let clock = Clock::simulated(epoch);
        let config = Ec2Config::new(ACCOUNT, "us-east-1");
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
        let root = aws(&gateway, "root", clock, Silent::default());
        let instance = launch(&root, &ec2, instance_type).await;
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        let api = ApiServer::start(config).await.expect("it starts");
        let admin = api.client(UserInfo::master("admin"));
        let (running, silent) = (Scope::new(), Silent::default());
        let world = Self { ec2, instance, admin, api, gateway, clock, running, silent };
        world.prepare().await;
        world
    }

    async fn prepare(&self) {
        let namespace: Namespace = object(json!({ "metadata": { "name": "x" } }));
        self.create(&Api::all(self.admin.clone()), &namespace).await;
        let account: ServiceAccount = object(json!({ "metadata": { "name": "default" } }));
        self.create(&Api::namespaced(self.admin.clone(), "x"), &account).await;
        self.make_node().await;
    }

    pub(crate) async fn make_node(&self) {
        let id = &self.instance;
        let node: Node = object(json!({
            "metadata": { "name": NODE, "labels": { "kubernetes.io/os": "linux" } },
            "spec": { "providerID": format!("aws:///us-east-1a/{id}") },
            "status": { "capacity": { "cpu": "2" }, "allocatable": { "cpu": "2" } },
        }));
        self.create(&Api::all(self.admin.clone()), &node).await;
    }

    async fn create<K>(&self, api: &Api<K>, wanted: &K)
    where
        K: kube::Resource + Clone + Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        api.create(&PostParams::default(), wanted).await.expect("it can be made");
    }

    /// Runs the controller with this access key for the cluster's role; an earlier one ends.
    pub(crate) fn start(&mut self, key: &str) {
        self.running.cancel();
        self.running = Scope::new();
        let clients = Clients {
            role: aws(&self.gateway, key, self.clock, self.silent.clone()),
            service: self.gateway.client_as("eks.amazonaws.com"),
        };
        let client = self.api.client(UserInfo::new(CONTROLLER_USERS[0], &[]));
        let config = Config { cluster: "stead".to_owned() };
        let scope = self.running.child();
        let run = vpc_resource_controller::run(client, clients, config, self.clock, scope);
        drop(self.running.spawn("controller", run));
    }

    /// EC2 does what this action says, and the controller never hears of it.
    pub(crate) fn silence(&self, action: Option<&'static str>) {
        *self.silent.0.lock() = action;
    }

    /// What `aws-node` does where `ENABLE_POD_ENI` is set.
    pub(crate) async fn ask_for_trunk(&self) {
        let api = Api::<CniNode>::all(self.admin.clone());
        self.until("the CNINode is there", || async {
            // Not before it is defined.
            api.get(NODE).await.ok()
        })
        .await;
        let patch = json!({ "spec": { "features": [{ "name": "SecurityGroupsForPods" }] } });
        let patched = api.patch(NODE, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.expect("it can be patched");
    }

    pub(crate) async fn group(&self, name: &str) -> String {
        let request = CreateSecurityGroupRequest {
            group_name: name.to_owned(),
            description: name.to_owned(),
            vpc_id: self.ec2.default_vpc().map(|it| it.id),
            ..Default::default()
        };
        let made = self.root().call::<CreateSecurityGroup>(request).await;
        made.expect("it can be made").group_id.expect("it has an id")
    }

    pub(crate) async fn policy(&self, group: &str) {
        let policy: SecurityGroupPolicy = object(json!({
            "apiVersion": "vpcresources.k8s.aws/v1beta1", "kind": "SecurityGroupPolicy",
            "metadata": { "name": "db" },
            "spec": { "podSelector": { "matchLabels": { "app": "db" } },
                "securityGroups": { "groupIds": [group] } },
        }));
        self.create(&Api::namespaced(self.admin.clone(), "x"), &policy).await;
    }

    /// A pod that the policy selects, as if it were scheduled.
    pub(crate) async fn pod(&self, name: &str) -> Pod {
        let pod: Pod = object(json!({
            "metadata": { "name": name, "labels": { "app": "db" } },
            "spec": { "nodeName": NODE, "automountServiceAccountToken": false,
                "containers": [{ "name": "c", "image": "i" }] },
        }));
        let made = self.pods().create(&PostParams::default(), &pod).await;
        made.expect("it can be made")
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), "x")
    }

    pub(crate) async fn delete_pod(&self, name: &str) {
        let now = DeleteParams::default().grace_period(0);
        self.pods().delete(name, &now).await.expect("it is there");
    }

    /// What the pod's annotation says, once it is there.
    pub(crate) async fn branch(&self, pod: &str) -> PodEni {
        let api = self.pods();
        self.until(&format!("pod {pod} has a branch"), || async {
            let pod = api.get(pod).await.expect("it is there");
            let text = pod.annotations().get(POD_ENI)?.clone();
            Some(PodEni::parse(&text).expect("a list").remove(0))
        })
        .await
    }

    pub(crate) async fn node(&self) -> Node {
        Api::<Node>::all(self.admin.clone()).get(NODE).await.expect("it is there")
    }

    /// The messages of all events with this reason.
    pub(crate) async fn events(&self, reason: &str) -> Vec<String> {
        let all = Api::<Event>::all(self.admin.clone()).list(&ListParams::default()).await;
        let all = all.expect("they can be listed").items.into_iter();
        let of = all.filter(|it| it.reason.as_deref() == Some(reason));
        of.filter_map(|it| it.message).collect()
    }

    pub(crate) async fn event(&self, reason: &str) -> String {
        self.until(&format!("an event {reason}"), || async {
            self.events(reason).await.into_iter().next()
        })
        .await
    }

    pub(crate) fn root(&self) -> Aws {
        aws(&self.gateway, "root", self.clock, Silent::default())
    }

    /// The interfaces with a description, as EC2 describes them.
    pub(crate) async fn interfaces(&self, description: &str) -> Vec<NetworkInterface> {
        let request = DescribeNetworkInterfacesRequest::default();
        let all = self.root().call::<DescribeNetworkInterfaces>(request).await;
        let all = all.expect("they can be described").network_interfaces.into_iter();
        all.filter(|it| it.description.as_deref() == Some(description)).collect()
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

pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

pub(crate) fn tag<'a>(eni: &'a NetworkInterface, key: &str) -> &'a str {
    let found = eni.tag_set.iter().find(|it| it.key.as_deref() == Some(key));
    found.and_then(|it| it.value.as_deref()).unwrap_or_default()
}

async fn launch(root: &Aws, ec2: &Ec2, instance_type: &str) -> String {
    let request = RunInstancesRequest {
        image_id: Some(seed::releases().last().expect("there are images").image_id()),
        instance_type: Some(instance_type.to_owned()),
        min_count: 1,
        max_count: 1,
        tag_specifications: vec![TagSpecification {
            resource_type: Some("instance".to_owned()),
            tags: vec![TagInput { key: Some("a".into()), value: Some("b".into()) }],
        }],
        ..Default::default()
    };
    let mut launched = root.call::<RunInstances>(request).await.expect("it fits").instances;
    let id = launched.remove(0).instance_id.expect("it has an id");
    ec2.report(&id, &records::HostReport::Started).expect("it is pending");
    id
}

fn aws(gateway: &Gateway, key: &str, clock: Clock, silent: Silent) -> Aws {
    let service = gateway.service(Side::Host);
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        let (service, is_silent) = (service.clone(), silent.is(&request));
        async move {
            let answer = service.oneshot(request.map(Full::new)).await;
            if is_silent {
                std::future::pending::<()>().await;
            }
            answer
        }
    }));
    Aws::new(AwsConfig {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::single("http://127.0.0.1:4566"),
        exchange,
        credentials: Some(Arc::new(Credentials::new(key, "secret"))),
        clock,
        attempts: 1,
    })
}
