//! A cluster's API server and the region's real EC2 in this process, in virtual time, and Karpenter.

mod iam;
mod told;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api_kube::karpenter::{Ec2NodeClass, NodeClaim, NodePool};
use aws_ec2::{
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    security_group::{CreateSecurityGroup, CreateSecurityGroupRequest},
    subnet::{DescribeSubnets, DescribeSubnetsRequest},
};
use aws_events::{
    rule::{PutRule, PutRuleRequest},
    target::{PutTargets, PutTargetsRequest, Target},
};
use aws_sqs::queue::{CreateQueue, CreateQueueRequest};
use aws_wire::{
    Client as Aws,
    client::{Config as AwsConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use controller::lease::{self, Election};
use http::Request;
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use karpenter_aws::Config;
use kube::{
    Api, Client, Resource,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use latency::Latency;
use lifecycle::Scope;
use parking_lot::Mutex;
use region_ec2::{Config as Ec2Config, Ec2, records, routes, seed};
use region_events::EventBridge;
use region_gateway::{Config as GatewayConfig, Events, Gateway, Side};
use region_iam::{Iam, RootKey};
use region_sqs::Sqs;
use region_store::Store;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tower::ServiceExt;
use transport::Body;

use self::iam::Everybody;

const ACCOUNT: &str = "111122223333";

/// What becomes of the next call of an AWS operation.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is carried out, and its answer comes to nobody.
    Lost,
    /// It is carried out, and its answer takes so long.
    Late(Duration),
    /// It is refused with that code.
    Refused(&'static str),
}

/// By operation, the next call first.
type Fates = Arc<Mutex<Vec<(&'static str, Fate)>>>;
/// By operation: what its answers say, and what they say instead.
type Rewrites = Arc<Mutex<Vec<Rewrite>>>;
type Rewrite = (&'static str, String, String);

pub(crate) struct World {
    pub(crate) ec2: Arc<Ec2>,
    pub(crate) admin: Client,
    pub(crate) config: Config,
    /// AWS as everybody else sees it.
    pub(crate) aws: Aws,
    api: ApiServer,
    /// How often Karpenter has asked for NodeOverlays.
    overlay_reads: Arc<AtomicUsize>,
    karpenters: Aws,
    fates: Fates,
    rewrites: Rewrites,
    clock: Clock,
    region: Scope,
    running: Scope,
}

impl Drop for World {
    fn drop(&mut self) {
        self.region.cancel();
        self.running.cancel();
    }
}

impl World {
    /// A machine that holds so many instances; Karpenter runs.
    pub(crate) async fn new(capacity: usize) -> Self {
        Self::with(capacity, Config::new("stead")).await
    }

    pub(crate) async fn with(capacity: usize, karpenter: Config) -> Self {
        let clock = Clock::simulated("2026-11-29T12:00:00Z".parse().expect("a date"));
        let config = Ec2Config { capacity, ..Ec2Config::new(ACCOUNT, "us-east-1") };
        let store = Store::in_memory();
        let ec2 = Ec2::open(&store, config, clock, Arc::new(Everybody)).expect("it is new");
        let ec2 = Arc::new(ec2);
        let gateway = Gateway::new(GatewayConfig {
            region: "us-east-1".to_owned(),
            account: ACCOUNT.to_owned(),
            clock,
            keys: vec![Arc::new(Everybody)],
            identities: Arc::new(Everybody),
            events: Events::in_memory(),
        });
        let region = Scope::new();
        let root = RootKey { access_key_id: "root".into(), secret_access_key: "secret".into() };
        let iam = Iam::open(&store, ACCOUNT, root, clock).expect("it is new");
        let served = messages(&store, &gateway, clock, &region);
        let served = served.merge(routes(&ec2)).merge(region_iam::routes(&iam));
        assert!(gateway.open(served));
        let bus = gateway.client_as("ec2.amazonaws.com");
        drop(region.spawn("events", Ec2::clone(&ec2).publish(bus)));
        drop(region.spawn("clock", settle(ec2.clone())));
        let (fates, rewrites) = (Fates::default(), Rewrites::default());
        let karpenters = aws(&gateway, clock, &fates, &rewrites);
        let aws = aws(&gateway, clock, &Fates::default(), &Rewrites::default());
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        let api = ApiServer::start(config).await.expect("it starts");
        let admin = api.client(UserInfo::master("admin"));
        let running = Scope::new();
        let config = karpenter;
        let overlay_reads = Arc::default();
        let mut world = Self {
            ec2,
            admin,
            config,
            aws,
            api,
            overlay_reads,
            karpenters,
            fates,
            rewrites,
            clock,
            region,
            running,
        };
        world.start();
        world.prepare().await;
        world
    }

    /// Karpenter's, which counts what it asks for.
    fn karpenters_client(&self) -> Client {
        let (inner, count) =
            (self.api.client(UserInfo::master("karpenter")), self.overlay_reads.clone());
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            if request.uri().path().ends_with("/v1alpha1/nodeoverlays") {
                count.fetch_add(1, Ordering::Relaxed);
            }
            let client = inner.clone();
            async move { client.send(request).await }
        });
        Client::new(service, "default")
    }

    pub(crate) fn reads_of_overlays(&self) -> usize {
        self.overlay_reads.load(Ordering::Relaxed)
    }

    /// Runs Karpenter; an earlier one ends wherever it is.
    pub(crate) fn start(&mut self) {
        self.running.cancel();
        self.running = Scope::new();
        let client = self.karpenters_client();
        let (aws, config) = (self.karpenters.clone(), self.config.clone());
        let scope = self.running.child();
        let run = karpenter_aws::run(client, aws, config, self.clock, scope);
        drop(self.running.spawn("karpenter", run));
    }

    /// One more Karpenter, which works while it holds the lease. It goes on until the first scope is
    /// over; without notice, and with nothing released, when the second is.
    pub(crate) fn replica(&self, identity: &str) -> (Scope, Scope) {
        let election = Election {
            namespace: "x".to_owned(),
            name: "karpenter-leader-election".to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        };
        let client = self.api.client(UserInfo::master("karpenter"));
        let (aws, config, clock) = (self.karpenters.clone(), self.config.clone(), self.clock);
        let (told, power) = (self.region.child(), self.region.child());
        let (asked, own) = (told.clone(), power.child());
        let run = async move {
            let asked = async { asked.cancelled().await };
            let work = || karpenter_aws::run(client.clone(), aws, config, clock, own.clone());
            lease::lead(client.clone(), Some(election), clock, &own, asked, work).await;
        };
        drop(power.spawn("replica", run));
        (told, power)
    }

    /// Nobody works any more.
    pub(crate) fn stop(&mut self) {
        self.running.cancel();
    }

    /// The next call of the operation by Karpenter comes to this.
    pub(crate) fn meet(&self, operation: &'static str, fate: Fate) {
        self.fates.lock().push((operation, fate));
    }

    /// From now on answers to Karpenter say that instead: what this region has not.
    pub(crate) fn rewrite(&self, operation: &'static str, from: &str, to: &str) {
        self.rewrites.lock().push((operation, from.to_owned(), to.to_owned()));
    }

    /// Nothing more happens to Karpenter's calls.
    pub(crate) fn pardon(&self) {
        self.fates.lock().clear();
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

    /// A pod that wants more than CPU.
    pub(crate) async fn pending_with(&self, name: &str, spec: Value) {
        self.pending(name, "1").await;
        let pod = self.pods().get(name).await.expect("it is there");
        let now = kube::api::DeleteParams::default().grace_period(0);
        self.pods().delete(name, &now).await.expect("it is there");
        let mut value = serde_json::to_value(&pod).expect("an object");
        value["metadata"] = json!({ "name": name });
        for (key, wanted) in spec.as_object().into_iter().flatten() {
            value["spec"][key] = wanted.clone();
        }
        self.create(&self.pods(), &object::<Pod>(value)).await;
        let patch = json!({ "status": { "conditions": [{ "type": "PodScheduled",
            "status": "False", "reason": "Unschedulable" }] } });
        let patched =
            self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.expect("it is there");
    }

    /// A budget that lets no pod go.
    pub(crate) async fn forbid_evictions(&self) {
        let budget: PodDisruptionBudget = object(json!({ "metadata": { "name": "none" },
            "spec": { "minAvailable": 1, "selector": {} } }));
        self.create(&Api::namespaced(self.admin.clone(), "x"), &budget).await;
    }

    /// Changes what the pool requires.
    pub(crate) async fn require(&self, requirements: Value) {
        let patch = json!({ "spec": { "template": { "spec": { "requirements": requirements } } } });
        let (api, parameters) = (self.node_pools(), PatchParams::default());
        api.patch("default", &parameters, &Patch::Merge(&patch)).await.expect("it is there");
    }

    /// The queue of Karpenter's, with the rules of its documentation.
    pub(crate) async fn queue(&self, name: &str) {
        let policy = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
            "Principal": { "Service": "events.amazonaws.com" }, "Action": "sqs:SendMessage",
            "Resource": "*" }] });
        let request = CreateQueueRequest {
            queue_name: name.to_owned(),
            attributes: BTreeMap::from([("Policy".to_owned(), policy.to_string())]),
            ..Default::default()
        };
        self.aws.call::<CreateQueue>(request).await.expect("it can be made");
        let request = PutRuleRequest {
            name: name.to_owned(),
            event_pattern: Some(json!({ "source": ["aws.ec2"] }).to_string()),
            ..Default::default()
        };
        self.aws.call::<PutRule>(request).await.expect("it can be made");
        let target = Target {
            id: "queue".to_owned(),
            arn: format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"),
            ..Default::default()
        };
        let request = PutTargetsRequest {
            rule: name.to_owned(),
            targets: vec![target],
            ..Default::default()
        };
        self.aws.call::<PutTargets>(request).await.expect("it can be made");
    }

    /// A pod that runs on a node.
    pub(crate) async fn running(&self, name: &str, node: &str, cpu: &str) {
        self.running_with(name, node, cpu, json!({})).await;
    }

    /// A pod that runs on a node, with more in its spec.
    pub(crate) async fn running_with(&self, name: &str, node: &str, cpu: &str, spec: Value) {
        let mut pod = json!({
            "metadata": { "name": name },
            "spec": { "automountServiceAccountToken": false, "nodeName": node, "containers": [{
                "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } }] } });
        for (key, wanted) in spec.as_object().into_iter().flatten() {
            pod["spec"][key] = wanted.clone();
        }
        self.create(&self.pods(), &object::<Pod>(pod)).await;
        let patch = json!({ "status": { "phase": "Running" } });
        let patched =
            self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.expect("it is there");
    }

    /// Sets a node's conditions, as its kubelet or the node lifecycle controller does.
    pub(crate) async fn node_says(&self, name: &str, conditions: Value) {
        let patch = json!({ "status": { "conditions": conditions } });
        let api = Api::<Node>::all(self.admin.clone());
        let patched = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.expect("it is there");
    }

    pub(crate) fn classes(&self) -> Api<Ec2NodeClass> {
        Api::all(self.admin.clone())
    }

    pub(crate) fn node_pools(&self) -> Api<NodePool> {
        Api::all(self.admin.clone())
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

/// EventBridge and SQS, for what EC2 has to say.
fn messages(
    store: &Store,
    gateway: &Gateway,
    clock: Clock,
    scope: &Scope,
) -> region_gateway::Routes {
    let (account, region) = (ACCOUNT.to_owned(), "us-east-1".to_owned());
    let config = region_sqs::Config {
        account: account.clone(),
        region: region.clone(),
        latency: Latency::INSTANT,
        authorizer: gateway.authorizer().clone(),
    };
    let sqs = Arc::new(Sqs::open(store, config, clock).expect("it is new"));
    let config = region_events::Config { account, region, gateway: gateway.clone() };
    let bus = EventBridge::open(store, config, clock).expect("it is new");
    drop(scope.spawn("bus", bus.clone().run()));
    region_events::routes(&Arc::new(bus)).merge(region_sqs::routes(&sqs))
}

/// What takes its time comes to its end.
async fn settle(ec2: Arc<Ec2>) {
    loop {
        ec2.settle().expect("it can be written");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn rewritten(answer: http::Response<Body>, rewrites: &[Rewrite]) -> http::Response<Body> {
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(http::header::CONTENT_LENGTH);
    let body = body.collect().await.expect("an answer").to_bytes();
    let mut text = String::from_utf8(body.to_vec()).expect("a text");
    for (_, from, to) in rewrites {
        text = text.replace(from, to);
    }
    http::Response::from_parts(parts, transport::full(text))
}

fn refusal(code: &str) -> http::Response<Body> {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>No.</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    );
    let refused = http::Response::builder().status(403).body(transport::full(body));
    refused.expect("a response")
}

fn aws(gateway: &Gateway, clock: Clock, fates: &Fates, rewrites: &Rewrites) -> Aws {
    let service = gateway.service(Side::Host);
    let (fates, rewrites) = (fates.clone(), rewrites.clone());
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        let (service, fates, rewrites) = (service.clone(), fates.clone(), rewrites.clone());
        async move {
            let text = String::from_utf8_lossy(request.body()).into_owned();
            let fate = {
                let mut fates = fates.lock();
                let is_it = |(name, _): &(&str, Fate)| text.contains(&format!("Action={name}&"));
                fates.iter().position(is_it).map(|at| fates.remove(at).1)
            };
            if let Some(Fate::Refused(code)) = fate {
                return Ok(refusal(code));
            }
            let answer = service.oneshot(request.map(Full::new)).await;
            let mut rewrites = rewrites.lock().clone();
            rewrites.retain(|(name, ..)| text.contains(&format!("Action={name}&")));
            let answer = match answer {
                Ok(answer) if !rewrites.is_empty() => Ok(rewritten(answer, &rewrites).await),
                other => other,
            };
            match fate {
                Some(Fate::Lost) => Ok(refusal("Unavailable")),
                Some(Fate::Late(wait)) => {
                    tokio::time::sleep(wait).await;
                    answer
                }
                _ => answer,
            }
        }
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
