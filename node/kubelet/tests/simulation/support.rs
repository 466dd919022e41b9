//! A node in memory.

#![allow(dead_code, reason = "each of the tests that include it uses a part")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clock::{Clock, Shift};
use fake_cri::FakeCri;
use futures::StreamExt;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Event, Node, Pod, PodStatus, ServiceAccount},
        resource::v1::{ResourceClaim, ResourceSlice},
        scheduling::v1::PriorityClass,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kube_apiserver::{ApiServer, request::UserInfo};
use kubelet::{Kubelet, KubeletConfiguration, Settings, Shutdown};
use lifecycle::Scope;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

pub(crate) const NODE: &str = "node";
/// In virtual time.
const LIMIT: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_millis(50);

pub(crate) struct World {
    pub runtime: FakeCri,
    api: ApiServer,
    client: Client,
    clock: Clock,
    /// Moves the date of everything on this node.
    pub shift: Shift,
    folder: TempDir,
    scope: Scope,
    kubelet: Scope,
    /// How often a pod's status was sent.
    pub patches: Arc<AtomicUsize>,
    /// Whether the kubelet cannot reach the API server.
    is_away: watch::Sender<bool>,
    /// Whether requests of the kubelet are taken and never answered.
    is_hanging: watch::Sender<bool>,
    /// Begins the end of the node.
    pub shutdown: Option<Shutdown>,
    configure: Configure,
}

/// Changes what a kubelet is told, each time that one begins.
type Configure = Box<dyn Fn(&mut Settings) + Send + Sync>;

impl World {
    pub(crate) async fn new() -> Self {
        Self::configured(|_| {}).await
    }

    /// A node whose kubelet is told something else; its `/proc` is a folder of the world.
    pub(crate) async fn configured(
        configure: impl Fn(&mut Settings) + Send + Sync + 'static,
    ) -> Self {
        let world = Self::begin(Box::new(configure)).await;
        world.runtime.set_network_ready(true);
        world
    }

    pub(crate) async fn without_network() -> Self {
        Self::begin(Box::new(|_| {})).await
    }

    async fn begin(configure: Configure) -> Self {
        telemetry::init("error");
        let start: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let ((clock, shift), scope) = (Clock::movable(start), Scope::new());
        let mut config = kube_apiserver::Config::new(mvcc::Store::memory(), clock);
        config.endpoints.push([192, 0, 2, 1].into());
        let api = ApiServer::start(config).await.unwrap();
        let client = api.client(UserInfo::master("admin"));
        let runtime = FakeCri::new(clock, scope.clone());
        let folder = tempfile::tempdir().unwrap();
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
        let account = serde_json::from_value(json!({ "metadata": { "name": "default" } })).unwrap();
        drop(accounts.create(&PostParams::default(), &account).await);
        let kubelet = Scope::new();
        let mut world = Self {
            runtime,
            api,
            client,
            clock,
            shift,
            folder,
            scope,
            kubelet,
            patches: Arc::default(),
            is_away: watch::Sender::new(false),
            is_hanging: watch::Sender::new(false),
            shutdown: None,
            configure,
        };
        world.restart_kubelet().await;
        world
    }

    pub(crate) async fn stop_kubelet(&self) {
        self.kubelet.drain(Duration::from_secs(1)).await;
    }

    /// The kubelet ends like a killed process, and a new one begins.
    pub(crate) async fn restart_kubelet(&mut self) {
        self.stop_kubelet().await;
        self.kubelet = self.scope.child();
        let root = self.folder.path().display().to_string();
        let config = KubeletConfiguration {
            port: 0,
            healthz_port: 0,
            address: "127.0.0.1".to_owned(),
            cgroups_per_qos: false,
            pod_logs_dir: format!("{root}/log/pods"),
            static_pod_path: format!("{root}/manifests"),
            ..KubeletConfiguration::default()
        };
        let mut settings = Settings::new(config, NODE);
        settings.root_dir = format!("{root}/kubelet");
        settings.node_ips = vec!["192.0.2.7".parse().unwrap()];
        (self.configure)(&mut settings);
        let user = UserInfo::new(&format!("system:node:{NODE}"), &["system:nodes"]);
        let service = self.link(user);
        let (client, channel) = (Client::new(service, "default"), self.runtime.channel());
        let kubelet =
            Kubelet::new(settings, client, channel, self.clock, self.kubelet.clone()).unwrap();
        self.shutdown = Some(kubelet.shutdown());
        drop(self.kubelet.spawn("kubelet", kubelet.run()));
    }

    /// The kubelet's way to the API server: it counts statuses, and can be cut.
    fn link(
        &self,
        user: UserInfo,
    ) -> tower::util::BoxService<
        http::Request<kube::client::Body>,
        http::Response<transport::Body>,
        tower::BoxError,
    > {
        let (api, patches) = (self.api.service_as(user), self.patches.clone());
        let (is_away, is_hanging) = (self.is_away.clone(), self.is_hanging.clone());
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (api, patches) = (api.clone(), patches.clone());
            let mut away = is_away.subscribe();
            let hangs = *is_hanging.borrow();
            async move {
                // Watches that there are go on.
                if hangs {
                    std::future::pending::<()>().await;
                }
                if *away.borrow_and_update() {
                    return Err("connection refused".into());
                }
                let path = request.uri().path();
                if path.contains("/pods/") && path.ends_with("/status") {
                    patches.fetch_add(1, Ordering::SeqCst);
                }
                let response = api.oneshot(request).await.map_err(tower::BoxError::from)?;
                let cut = Box::pin(async move { drop(away.wait_for(|it| *it).await) });
                Ok(response.map(|body| {
                    let frames = BodyStream::new(body).take_until(cut);
                    StreamBody::new(frames).map_err(Into::into).boxed_unsync()
                }))
            }
        });
        tower::util::BoxService::new(service)
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Cuts the kubelet off from the API server, its watches included, or lets it through again.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.send_replace(is_away);
    }

    /// What is asked from now on is never answered, or is again. What was asked stays unanswered.
    pub(crate) fn set_hanging(&self, is_hanging: bool) {
        self.is_hanging.send_replace(is_hanging);
    }

    pub(crate) async fn put_priority_class(&self, name: &str, value: i32) {
        let class = serde_json::from_value(json!({ "metadata": { "name": name }, "value": value }));
        let api = Api::<PriorityClass>::all(self.client.clone());
        api.create(&PostParams::default(), &class.unwrap()).await.unwrap();
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// A condition of the node: its status, reason and message.
    pub(crate) async fn condition(&self, kind: &str) -> (String, String, String) {
        let node = self.nodes().get(NODE).await.unwrap();
        let conditions = node.status.and_then(|it| it.conditions).unwrap_or_default();
        let found = conditions.into_iter().find(|it| it.type_ == kind).unwrap();
        (found.status, found.reason.unwrap_or_default(), found.message.unwrap_or_default())
    }

    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create(&self, mut pod: Value) {
        pod["spec"]["nodeName"] = json!(NODE);
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        let pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    pub(crate) async fn put<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object = serde_json::from_value(object).unwrap();
        Api::<K>::all(self.client.clone()).create(&PostParams::default(), &object).await.unwrap();
    }

    /// Makes a ResourceClaim with this status, or gives it to the one that there is.
    pub(crate) async fn put_claim(&self, name: &str, status: Value) {
        let api = Api::<ResourceClaim>::namespaced(self.client.clone(), "default");
        let exactly = json!({ "deviceClassName": "gpu" });
        let spec = json!({ "devices": { "requests": [{ "name": "gpu", "exactly": exactly }] } });
        let claim = json!({ "metadata": { "name": name }, "spec": spec });
        let claim = serde_json::from_value(claim).unwrap();
        match api.create(&PostParams::default(), &claim).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            made => drop(made.unwrap()),
        }
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub(crate) async fn claim_uid(&self, name: &str) -> String {
        let api = Api::<ResourceClaim>::namespaced(self.client.clone(), "default");
        api.get(name).await.unwrap().metadata.uid.unwrap()
    }

    /// The names of all ResourceSlices.
    pub(crate) async fn slices(&self) -> Vec<String> {
        let api = Api::<ResourceSlice>::all(self.client.clone());
        let all = api.list(&ListParams::default()).await.unwrap().items;
        all.into_iter().filter_map(|it| it.metadata.name).collect()
    }

    /// Asks for other resources of a pod's only container.
    pub(crate) async fn resize(&self, name: &str, resources: Value) {
        let pod = self.pods().get(name).await.unwrap();
        let container = &pod.spec.unwrap().containers[0].name.clone();
        let patch =
            json!({ "spec": { "containers": [{ "name": container, "resources": resources }] } });
        let patch = Patch::Strategic(patch);
        let params = PatchParams::default();
        self.pods().patch_subresource("resize", name, &params, &patch).await.unwrap();
    }

    /// Asks for other resources of a pod as a whole.
    pub(crate) async fn resize_whole(&self, name: &str, resources: Value) {
        let patch = Patch::Strategic(json!({ "spec": { "resources": resources } }));
        let params = PatchParams::default();
        self.pods().patch_subresource("resize", name, &params, &patch).await.unwrap();
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        let patch = Patch::Strategic(patch);
        self.pods().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Adds ephemeral containers to a pod.
    pub(crate) async fn debug(&self, name: &str, containers: Value) {
        let patch = Patch::Strategic(json!({ "spec": { "ephemeralContainers": containers } }));
        let params = PatchParams::default();
        self.pods().patch_subresource("ephemeralcontainers", name, &params, &patch).await.unwrap();
    }

    pub(crate) async fn patch_status(&self, name: &str, patch: Value) {
        let patch = Patch::Strategic(patch);
        self.pods().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub(crate) async fn patch_node(&self, patch: Value) {
        let nodes = self.nodes();
        let deadline = tokio::time::Instant::now() + LIMIT;
        while nodes.get_opt(NODE).await.unwrap().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "the node is not registered");
            tokio::time::sleep(STEP).await;
        }
        nodes.patch(NODE, &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    }

    pub(crate) async fn allocatable_cpu_milli(&self) -> i64 {
        self.patch_node(json!({})).await;
        let nodes = self.nodes();
        let node = nodes.get(NODE).await.unwrap();
        let cpu = node.status.unwrap().allocatable.unwrap()["cpu"].0.clone();
        match cpu.strip_suffix('m') {
            Some(milli) => milli.parse().unwrap(),
            None => cpu.parse::<i64>().unwrap() * 1000,
        }
    }

    pub(crate) async fn condition_message(&self, name: &str, kind: &str) -> String {
        let status = self.status(name).await;
        let conditions = status.conditions.unwrap();
        conditions.into_iter().find(|it| it.type_ == kind).unwrap().message.unwrap()
    }

    /// Waits for another object of this name.
    pub(crate) async fn until_other(&self, name: &str, uid: &str) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let found = self.pods().get_opt(name).await.unwrap();
            if found.is_some_and(|it| it.metadata.uid.as_deref() != Some(uid)) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} stays the same");
            tokio::time::sleep(STEP).await;
        }
    }

    pub(crate) async fn put_pull_secret(&self, name: &str, host: &str, user: &str, word: &str) {
        let config = json!({ "auths": { host: { "username": user, "password": word } } });
        let secret = serde_json::from_value(json!({
            "metadata": { "name": name },
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": { ".dockerconfigjson": config.to_string() },
        }))
        .unwrap();
        let api =
            Api::<k8s_openapi::api::core::v1::Secret>::namespaced(self.client.clone(), "default");
        api.create(&PostParams::default(), &secret).await.unwrap();
    }

    /// Removes what the kubelet has written down of resources.
    pub(crate) fn lose_promises(&self) {
        let path = self.folder.path().join("kubelet/pod_resources_state");
        std::fs::remove_file(path).unwrap();
    }

    pub(crate) async fn uid(&self, name: &str) -> String {
        self.pods().get(name).await.unwrap().metadata.uid.unwrap()
    }

    /// How often an event was told.
    pub(crate) async fn told(&self, reason: &str) -> i32 {
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        let events = api.list(&ListParams::default()).await.unwrap().items;
        let own = events.into_iter().filter(|it| it.reason.as_deref() == Some(reason));
        own.map(|it| it.count.unwrap_or(1)).sum()
    }

    /// As the API server does when their time is over.
    pub(crate) async fn expire_events(&self) {
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        for event in api.list(&ListParams::default()).await.unwrap().items {
            let name = event.metadata.name.unwrap();
            drop(api.delete(&name, &DeleteParams::default()).await.unwrap());
        }
    }

    pub(crate) async fn put_config_map(&self, name: &str, key: &str, value: &str) {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), "default");
        let map = serde_json::from_value(json!({
            "metadata": { "name": name },
            "data": { key: value },
        }))
        .unwrap();
        if api.get_opt(name).await.unwrap().is_some() {
            api.replace(name, &PostParams::default(), &map).await.unwrap();
        } else {
            api.create(&PostParams::default(), &map).await.unwrap();
        }
    }

    /// The kubelet's folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("kubelet")
    }

    /// Capacity and allocatable of the node, as the API knows them.
    pub(crate) async fn node_resource(&self, name: &str) -> (Option<String>, Option<String>) {
        let node = Api::<Node>::all(self.client.clone()).get_opt(NODE).await.unwrap();
        let status = node.and_then(|it| it.status).unwrap_or_default();
        let of = |list: Option<std::collections::BTreeMap<String, Quantity>>| {
            list.and_then(|it| it.get(name).map(|it| it.0.clone()))
        };
        (of(status.capacity), of(status.allocatable))
    }

    pub(crate) async fn until_node_has(&self, name: &str, capacity: &str, allocatable: &str) {
        let wanted = (Some(capacity.to_owned()), Some(allocatable.to_owned()));
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let has = self.node_resource(name).await;
            if has == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name}: {has:?}, not {wanted:?}");
            tokio::time::sleep(STEP).await;
        }
    }

    /// A file in a volume of the only pod.
    pub(crate) fn volume_file(&self, path: &str) -> String {
        let pods = self.folder.path().join("kubelet/pods");
        let pod = std::fs::read_dir(pods).unwrap().next().unwrap().unwrap().path();
        std::fs::read_to_string(pod.join("volumes").join(format!("kubernetes.io~{path}"))).unwrap()
    }

    /// Writes or removes a file of a static pod.
    pub(crate) fn put_static_pod(&self, file: &str, text: Option<&str>) {
        let folder = self.folder.path().join("manifests");
        std::fs::create_dir_all(&folder).unwrap();
        match text {
            Some(text) => std::fs::write(folder.join(file), text).unwrap(),
            None => std::fs::remove_file(folder.join(file)).unwrap(),
        }
    }

    pub(crate) async fn is_there(&self, name: &str) -> bool {
        self.pods().get_opt(name).await.unwrap().is_some()
    }

    pub(crate) async fn until_there(&self, name: &str) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !self.is_there(name).await {
            assert!(tokio::time::Instant::now() < deadline, "{name} does not come");
            tokio::time::sleep(STEP).await;
        }
    }

    pub(crate) async fn delete(&self, name: &str, grace: u32) {
        let params = DeleteParams::default().grace_period(grace);
        self.pods().delete(name, &params).await.unwrap();
    }

    pub(crate) async fn status(&self, name: &str) -> PodStatus {
        self.pods().get(name).await.unwrap().status.unwrap_or_default()
    }

    pub(crate) async fn until(&self, name: &str, is_it: impl Fn(&PodStatus) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let status = self.status(name).await;
            if is_it(&status) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name}: {}\n{:?}",
                json!(status),
                self.runtime.calls()
            );
            tokio::time::sleep(STEP).await;
        }
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while self.pods().get_opt(name).await.unwrap().is_some() {
            assert!(tokio::time::Instant::now() < deadline, "{name} stays");
            tokio::time::sleep(STEP).await;
        }
    }

    /// How often something was told of an object.
    pub(crate) async fn event_count(&self, name: &str) -> i32 {
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        let events = api.list(&ListParams::default()).await.unwrap().items;
        let own = events.iter().filter(|it| it.involved_object.name.as_deref() == Some(name));
        own.map(|it| it.count.unwrap_or(1)).sum()
    }

    pub(crate) async fn until_event(&self, reason: &str, message: &str) {
        self.until_event_that(reason, |it| it == message).await;
    }

    pub(crate) async fn until_event_that(&self, reason: &str, fits: impl Fn(&str) -> bool) {
        let api = Api::<Event>::namespaced(self.client.clone(), "default");
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let events = api.list(&ListParams::default()).await.unwrap().items;
            let is_it = |it: &Event| {
                it.reason.as_deref() == Some(reason) && it.message.as_deref().is_some_and(&fits)
            };
            if events.iter().any(is_it) {
                return;
            }
            let told: Vec<_> = events.into_iter().map(|it| (it.reason, it.message)).collect();
            assert!(tokio::time::Instant::now() < deadline, "no {reason}: {told:?}");
            tokio::time::sleep(STEP).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

pub(crate) fn waiting(status: &PodStatus) -> Option<&str> {
    let first = status.container_statuses.as_ref()?.first()?;
    first.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

pub(crate) fn restarts(status: &PodStatus) -> i32 {
    status.container_statuses.iter().flatten().map(|it| it.restart_count).sum()
}

pub(crate) fn is_ready(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

/// A condition's status and reason.
pub(crate) fn condition(status: &PodStatus, kind: &str) -> Option<(String, String)> {
    let found = status.conditions.iter().flatten().find(|it| it.type_ == kind)?;
    Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
}

pub(crate) fn is_running(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Running")
}
