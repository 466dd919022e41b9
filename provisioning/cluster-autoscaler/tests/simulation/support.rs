//! A cluster whose nodes follow EC2's instances.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_autoscaling::{
    group::{
        CreateAutoScalingGroup, CreateAutoScalingGroupRequest, DescribeAutoScalingGroups,
        DescribeAutoScalingGroupsRequest, LaunchTemplate, LaunchTemplateOverrides,
        LaunchTemplateSpecification, MixedInstancesPolicy, UpdateAutoScalingGroup,
        UpdateAutoScalingGroupRequest,
    },
    instance_requirements::{InstanceRequirements, IntegerRange},
    tag::Tag,
};
use aws_ec2::{
    instance::{DescribeInstances, DescribeInstancesRequest, Instance},
    launch_template::{CreateLaunchTemplate, CreateLaunchTemplateRequest},
    launch_template_request::RequestLaunchTemplateData,
    subnet::{CreateSubnet, CreateSubnetRequest},
};
use aws_wire::{Client, Operation};
use clock::Clock;
use cluster_autoscaler::{Cloud, Config, Discovery, Election, Options};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Event, Namespace, Node, Pod, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use latency::Latency;
use lifecycle::Scope;
use region_autoscaling::AutoScaling;
use region_ec2::{Ec2, Environment, ProfileInfo, records::HostReport};
use region_gateway::{Attached, CallerKind, Events, Gateway, Identities, Role};
use region_store::Store;
use serde_json::{Value, json};

const ACCOUNT: &str = "111122223333";
const GROUP: &str = "workers";
pub(crate) const NAMESPACE: &str = "kube-system";

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
        Some(Attached::default())
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}

pub(crate) struct Cluster {
    pub(crate) kube: kube::Client,
    aws: Client,
    ec2: Arc<Ec2>,
    clock: Clock,
    scope: Scope,
    latency: Latency,
    /// Instances boot, and never become nodes.
    is_mute: AtomicBool,
    /// Since when each instance has its power.
    booting: Mutex<BTreeMap<String, tokio::time::Instant>>,
}

impl Cluster {
    pub(crate) async fn start(options: Options, sizes: (i64, i64)) -> Self {
        let cluster = Self::idle(sizes).await;
        drop(cluster.autoscaler(options, None));
        cluster
    }

    /// Where AWS takes so long.
    pub(crate) async fn slow(options: Options, sizes: (i64, i64), latency: Latency) -> Self {
        let cluster = Self::idle_with(sizes, latency).await;
        drop(cluster.autoscaler(options, None));
        cluster
    }

    /// Without an autoscaler.
    pub(crate) async fn idle(sizes: (i64, i64)) -> Self {
        Self::idle_with(sizes, Latency::INSTANT).await
    }

    async fn idle_with(sizes: (i64, i64), latency: Latency) -> Self {
        let clock = Clock::simulated("2026-11-29T12:00:00Z".parse().unwrap());
        let scope = Scope::new();
        let (gateway, ec2) = region(clock, &scope, latency);
        let config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        let server = ApiServer::start(config).await.unwrap();
        let kube = server.client(UserInfo::master("admin"));
        let aws = gateway.client_as("test.amazonaws.com");
        let booting = Mutex::default();
        let is_mute = AtomicBool::new(false);
        let cluster = Self { kube, aws, ec2, clock, scope, latency, is_mute, booting };
        let scheduler = server.client(UserInfo::new("system:kube-scheduler", &[]));
        let running = kube_scheduler::run(scheduler, clock, cluster.scope.clone());
        drop(cluster.scope.spawn("kube-scheduler", running));
        for name in ["kube-system", "default"] {
            let namespace = json!({ "metadata": { "name": name } });
            let namespace: Namespace = serde_json::from_value(namespace).unwrap();
            let namespaces = Api::<Namespace>::all(cluster.kube.clone());
            drop(namespaces.create(&PostParams::default(), &namespace).await);
        }
        let account = json!({ "metadata": { "name": "default" } });
        let account: ServiceAccount = serde_json::from_value(account).unwrap();
        let accounts = Api::<ServiceAccount>::namespaced(cluster.kube.clone(), "default");
        accounts.create(&PostParams::default(), &account).await.unwrap();
        // What controls the pods; nobody here makes any for it.
        let selector = json!({ "matchLabels": { "app": "none" } });
        let set: ReplicaSet = serde_json::from_value(json!({ "metadata": { "name": "rs" },
            "spec": { "replicas": 3, "selector": selector, "template": {
                "metadata": { "labels": { "app": "none" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] } } } }))
        .unwrap();
        cluster.sets().create(&PostParams::default(), &set).await.unwrap();
        cluster.group(sizes).await;
        cluster
    }

    /// Runs one more; it is told to end with its scope.
    pub(crate) fn autoscaler(&self, options: Options, identity: Option<&str>) -> Scope {
        let scope = self.scope.child();
        let (cloud, config) = self.parts(options, identity);
        let (kube, clock, own) = (self.kube.clone(), self.clock, scope.child());
        let told = scope.clone();
        let running = async move {
            let asked = async { told.cancelled().await };
            cluster_autoscaler::run(kube, cloud, config, clock, own, asked).await;
        };
        // It ends by itself, after its work has.
        drop(self.scope.spawn("cluster-autoscaler", running));
        scope
    }

    fn parts(&self, options: Options, identity: Option<&str>) -> (Cloud, Config) {
        let seconds = Duration::from_secs;
        let election = identity.map(|identity| Election {
            namespace: NAMESPACE.to_owned(),
            name: "cluster-autoscaler".to_owned(),
            identity: identity.to_owned(),
            lease_duration: seconds(15),
            renew_deadline: seconds(10),
            retry_period: seconds(2),
        });
        let discovery = Discovery::parse("asg:tag=k8s.io/cluster-autoscaler/enabled").unwrap();
        let defaults = options.scale_down.defaults.clone();
        let cloud = Cloud::new(self.aws.clone(), vec![discovery], vec![], defaults);
        let config = Config {
            options,
            election,
            listener: None,
            status_name: Some("cluster-autoscaler-status".to_owned()),
            frequent_loops: true,
            max_inactivity: seconds(600),
            max_failing: seconds(900),
        };
        (cloud, config)
    }

    /// As a machine that loses its power: nothing is released.
    pub(crate) fn doomed_autoscaler(&self, options: Options, identity: &str) -> Scope {
        let power = self.scope.child();
        let scope = power.child();
        let (cloud, config) = self.parts(options, Some(identity));
        let (kube, clock) = (self.kube.clone(), self.clock);
        let running = async move {
            cluster_autoscaler::run(kube, cloud, config, clock, scope, std::future::pending())
                .await;
        };
        drop(power.spawn("cluster-autoscaler", running));
        power
    }

    async fn call<O: Operation>(&self, request: O::Request) -> O::Response {
        self.aws.call::<O>(request).await.unwrap_or_else(|it| panic!("{}: {it}", O::ACTION))
    }

    /// A group that starts from nothing.
    async fn group(&self, (min, max): (i64, i64)) {
        let template = CreateLaunchTemplateRequest {
            launch_template_name: GROUP.to_owned(),
            launch_template_data: RequestLaunchTemplateData {
                image_id: Some(region_ec2::seed::releases().last().unwrap().image_id()),
                instance_type: Some("m5.large".to_owned()),
                ..Default::default()
            },
            ..Default::default()
        };
        self.call::<CreateLaunchTemplate>(template).await;
        let vpc = self.ec2.default_vpc().unwrap();
        let small = CreateSubnetRequest {
            vpc_id: vpc.id.clone(),
            cidr_block: Some("192.168.255.0/28".to_owned()),
            availability_zone: Some("us-east-1a".to_owned()),
            ..Default::default()
        };
        let subnet = self.call::<CreateSubnet>(small).await.subnet.unwrap();
        let tag = Tag {
            key: "k8s.io/cluster-autoscaler/enabled".to_owned(),
            value: Some("true".to_owned()),
            ..Default::default()
        };
        let request = CreateAutoScalingGroupRequest {
            auto_scaling_group_name: GROUP.to_owned(),
            launch_template: Some(LaunchTemplateSpecification {
                launch_template_name: Some(GROUP.to_owned()),
                ..Default::default()
            }),
            min_size: min,
            max_size: max,
            vpc_zone_identifier: subnet.subnet_id,
            tags: vec![tag],
            ..Default::default()
        };
        self.call::<CreateAutoScalingGroup>(request).await;
    }

    /// From now on no instance becomes a node.
    pub(crate) fn fall_mute(&self) {
        self.is_mute.store(true, Ordering::Relaxed);
    }

    /// Has the group name its types by attributes: those of two vCPUs and 8 GiB.
    pub(crate) async fn choose_by_attributes(&self) {
        let exactly = |it| Some(IntegerRange { min: Some(it), max: Some(it) });
        let wanted = InstanceRequirements {
            v_cpu_count: exactly(2),
            memory_mi_b: exactly(8192),
            ..Default::default()
        };
        let with =
            LaunchTemplateOverrides { instance_requirements: Some(wanted), ..Default::default() };
        let template = LaunchTemplate {
            launch_template_specification: Some(LaunchTemplateSpecification {
                launch_template_name: Some(GROUP.to_owned()),
                ..Default::default()
            }),
            overrides: vec![with],
        };
        self.call::<UpdateAutoScalingGroup>(UpdateAutoScalingGroupRequest {
            auto_scaling_group_name: GROUP.to_owned(),
            mixed_instances_policy: Some(MixedInstancesPolicy {
                launch_template: Some(template),
                instances_distribution: None,
            }),
            ..Default::default()
        })
        .await;
    }

    /// Of the group's members.
    pub(crate) async fn instances(&self) -> Vec<String> {
        let request = DescribeAutoScalingGroupsRequest::default();
        let mut found = self.call::<DescribeAutoScalingGroups>(request).await;
        let members = found.auto_scaling_groups.remove(0).instances;
        members.into_iter().filter_map(|it| it.instance_id).collect()
    }

    pub(crate) async fn desired(&self) -> i64 {
        let request = DescribeAutoScalingGroupsRequest::default();
        let mut found = self.call::<DescribeAutoScalingGroups>(request).await;
        found.auto_scaling_groups.remove(0).desired_capacity.unwrap()
    }

    /// Takes every address of the group's subnet.
    pub(crate) async fn exhaust(&self) {
        use aws_ec2::network_interface::{CreateNetworkInterface, CreateNetworkInterfaceRequest};
        let request = DescribeAutoScalingGroupsRequest::default();
        let found = self.call::<DescribeAutoScalingGroups>(request).await;
        let subnet = found.auto_scaling_groups[0].vpc_zone_identifier.clone().unwrap();
        let one =
            || CreateNetworkInterfaceRequest { subnet_id: subnet.clone(), ..Default::default() };
        while self.aws.call::<CreateNetworkInterface>(one()).await.is_ok() {}
    }

    // === Kubernetes ===

    pub(crate) async fn pod(&self, name: &str, cpu: &str) {
        self.make(name, cpu, Value::Null).await;
    }

    pub(crate) async fn pod_on(&self, name: &str, cpu: &str, node: &str) {
        self.make(name, cpu, node.into()).await;
    }

    async fn make(&self, name: &str, cpu: &str, node: Value) {
        let pod = json!({
            "metadata": {
                "name": name, "labels": { "app": name },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs",
                    "controller": true,
                }],
            },
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } },
                }],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.kube.clone(), "default")
    }

    pub(crate) fn sets(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.kube.clone(), "default")
    }

    pub(crate) async fn delete(&self, pod: &str) {
        let at_once = DeleteParams::default().grace_period(0);
        self.pods().delete(pod, &at_once).await.unwrap();
    }

    pub(crate) async fn node_of(&self, pod: &str) -> Option<String> {
        self.pods().get_opt(pod).await.unwrap()?.spec?.node_name
    }

    pub(crate) async fn nodes(&self) -> Vec<Node> {
        let nodes = Api::<Node>::all(self.kube.clone());
        nodes.list(&Default::default()).await.unwrap().items
    }

    pub(crate) async fn budget(&self, name: &str, app: &str, allowed: i32) {
        let budget = json!({
            "metadata": { "name": name },
            "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": app } } },
        });
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let budgets = Api::<PodDisruptionBudget>::namespaced(self.kube.clone(), "default");
        budgets.create(&PostParams::default(), &budget).await.unwrap();
        let status = json!({ "status": {
            "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
            "expectedPods": 1, "observedGeneration": 1,
        } });
        let parameters = PatchParams::default();
        budgets.patch_status(name, &parameters, &Patch::Merge(&status)).await.unwrap();
    }

    /// Reasons and messages about one object.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let events = Api::<Event>::all(self.kube.clone());
        let events = events.list(&Default::default()).await.unwrap().items;
        let of = events.into_iter().filter(|it| it.involved_object.name.as_deref() == Some(name));
        of.map(|it| (it.reason.unwrap_or_default(), it.message.unwrap_or_default())).collect()
    }

    pub(crate) async fn all_events(&self) -> Vec<(String, String)> {
        let events = Api::<Event>::all(self.kube.clone());
        let events = events.list(&Default::default()).await.unwrap().items;
        let told = |it: Event| (it.reason.unwrap_or_default(), it.message.unwrap_or_default());
        events.into_iter().map(told).collect()
    }

    // === time ===

    pub(crate) async fn pause(&self, seconds: u64) {
        for _ in 0..seconds {
            self.step().await;
        }
    }

    /// Lets time pass until it is so; half an hour at most.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        for _ in 0..1800 {
            if is_so().await {
                return;
            }
            self.step().await;
        }
        panic!("{what}: not in half an hour; {:?}", self.all_events().await);
    }

    /// A second passes: instances start and end, become Nodes and cease to be; pods that are told to
    /// end do.
    async fn step(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let request = DescribeInstancesRequest::default();
        let found = self.call::<DescribeInstances>(request).await.reservations;
        let mut alive = BTreeMap::new();
        for instance in found.into_iter().flat_map(|it| it.instances) {
            let id = instance.instance_id.clone().unwrap();
            let state = instance.state.as_ref().and_then(|it| it.name.clone()).unwrap();
            match state.as_str() {
                "pending" if self.has_power(&instance) => {
                    self.ec2.report(&id, &HostReport::Started).unwrap();
                }
                "shutting-down" => self.ec2.report(&id, &HostReport::Terminated).unwrap(),
                "running" if self.has_booted(&id) => drop(alive.insert(id, instance)),
                _ => {}
            }
        }
        let nodes = Api::<Node>::all(self.kube.clone());
        for node in self.nodes().await {
            if alive.remove(&node.name_any()).is_none() {
                nodes.delete(&node.name_any(), &DeleteParams::default()).await.unwrap();
            }
        }
        if self.is_mute.load(Ordering::Relaxed) {
            return;
        }
        for (id, instance) in alive {
            self.join(&id, &instance).await;
        }
        for pod in self.pods().list(&Default::default()).await.unwrap().items {
            if pod.metadata.deletion_timestamp.is_some() {
                self.delete(&pod.name_any()).await;
            }
        }
    }

    /// As the region's own driver of hosts waits.
    fn has_power(&self, instance: &Instance) -> bool {
        let launched: jiff::Timestamp = instance.launch_time.as_ref().unwrap().parse().unwrap();
        latency::rest(self.latency.launch, self.clock.now().duration_since(launched)).is_none()
    }

    /// As an instance's init waits.
    fn has_booted(&self, id: &str) -> bool {
        let mut booting = self.booting.lock().unwrap();
        let since = booting.entry(id.to_owned()).or_insert_with(tokio::time::Instant::now);
        since.elapsed() >= self.latency.boot
    }

    async fn join(&self, id: &str, instance: &Instance) {
        let placement = instance.placement.as_ref();
        let zone = placement.and_then(|it| it.availability_zone.clone()).unwrap();
        let node = json!({
            "metadata": { "name": id, "labels": { "kubernetes.io/hostname": id } },
            "spec": { "providerID": format!("aws:///{zone}/{id}") },
        });
        let nodes = Api::<Node>::all(self.kube.clone());
        let node: Node = serde_json::from_value(node).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let amounts = json!({ "cpu": "2", "memory": "8Gi", "pods": "29" });
        let status = json!({ "status": {
            "allocatable": amounts, "capacity": amounts,
            "conditions": [{ "type": "Ready", "status": "True" }],
        } });
        let parameters = PatchParams::default();
        nodes.patch_status(id, &parameters, &Patch::Merge(&status)).await.unwrap();
        // As the node lifecycle controller takes the taint of a new node away.
        let taints = json!({ "spec": { "taints": null } });
        nodes.patch(id, &parameters, &Patch::Merge(&taints)).await.unwrap();
    }
}

fn region(clock: Clock, scope: &Scope, latency: Latency) -> (Gateway, Arc<Ec2>) {
    let (store, name) = (Store::in_memory(), "us-east-1".to_owned());
    let gateway = Gateway::new(region_gateway::Config {
        region: name.clone(),
        account: ACCOUNT.to_owned(),
        clock,
        keys: vec![],
        identities: Arc::new(World),
        events: Events::in_memory(),
    });
    let config = region_ec2::Config { latency, ..region_ec2::Config::new(ACCOUNT, &name) };
    let ec2 = Arc::new(Ec2::open(&store, config, clock, Arc::new(World)).unwrap());
    let config = region_autoscaling::Config { account: ACCOUNT.to_owned(), region: name, latency };
    let autoscaling = AutoScaling::open(&store, config, clock).unwrap();
    autoscaling.connect(gateway.client_as("autoscaling.amazonaws.com"), ec2.clone());
    let service = Arc::new(autoscaling.clone());
    let routes = region_ec2::routes(&ec2).merge(region_autoscaling::routes(&service));
    assert!(gateway.open(routes));
    drop(scope.spawn("Auto Scaling", autoscaling.run(ec2.changes())));
    (gateway, ec2)
}
