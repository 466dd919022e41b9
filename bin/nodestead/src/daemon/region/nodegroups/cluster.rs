//! Hosts that do at once what they are told, and the API server that they join.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use aws_eks::{TagResource, TagResourceRequest};
use aws_wire::Client;
use clock::Clock;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use region_autoscaling::AutoScaling;
use region_ec2::{
    Ec2,
    records::{HostReport, InstanceState},
};
use region_eks::{Cluster, ControlPlane, ControlPlaneError, ControlPlanes};
use serde_json::{Value, json};

use super::{ACCOUNT, REGION};

/// What there is. Each node has a pod that must move.
#[derive(Default)]
pub(super) struct State {
    nodes: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    /// Nodes whose pods a budget lets nobody evict.
    pub(super) stuck: Vec<String>,
    /// The API server does not answer.
    pub(super) is_away: bool,
    poked: u32,
}

impl State {
    fn is_stuck(&self, pod: &str) -> bool {
        let node = self.pods.get(pod).and_then(|it| it["spec"]["nodeName"].as_str());
        node.is_some_and(|it| self.stuck.iter().any(|stuck| stuck == it))
    }
}

/// See the module. Clones are the same.
#[derive(Clone)]
pub(super) struct World {
    ec2: Arc<Ec2>,
    autoscaling: Arc<AutoScaling>,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

impl World {
    pub(super) fn new(ec2: Arc<Ec2>, autoscaling: Arc<AutoScaling>, clock: Clock) -> Self {
        Self { ec2, autoscaling, clock, state: Arc::default() }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
    }

    pub(super) fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// By name.
    pub(super) fn nodes(&self) -> Vec<String> {
        self.state.lock().nodes.keys().cloned().collect()
    }

    pub(super) fn instance(&self, id: &str) -> region_ec2::records::Instance {
        self.ec2.view().instances.get(id).unwrap().clone()
    }

    /// Nothing is heard of its kubelet any more.
    pub(super) fn fall_silent(&self, node: &str) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.nodes.get_mut(node).unwrap()["status"]["conditions"][0] = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                   "lastTransitionTime": now});
    }

    /// Changes something in the region that means nothing.
    pub(super) async fn poke(&self, aws: &Client) {
        let poked = {
            let mut state = self.state.lock();
            state.poked += 1;
            state.poked.to_string()
        };
        let request = TagResourceRequest {
            resource_arn: format!("arn:aws:eks:{REGION}:{ACCOUNT}:cluster/stead"),
            tags: [("poked".to_owned(), poked)].into(),
        };
        aws.call::<TagResource>(request).await.unwrap();
    }

    /// As nodeadm asks IMDS.
    fn is_pooled(&self, instance: &str) -> bool {
        let state = self.autoscaling.target_state(instance, None);
        state.is_some_and(|it| it.starts_with("Warmed:"))
    }

    /// Hosts boot, join, stop and end.
    pub(super) async fn run(self) {
        loop {
            for instance in self.ec2.view().instances.iter() {
                let report = match instance.state {
                    InstanceState::Pending => Some(HostReport::Started),
                    InstanceState::Stopping => Some(HostReport::Stopped),
                    InstanceState::ShuttingDown => Some(HostReport::Terminated),
                    _ => None,
                };
                if let Some(report) = report {
                    self.ec2.report(&instance.id, &report).unwrap();
                }
                let mut state = self.state.lock();
                let is_node = state.nodes.contains_key(&instance.id);
                match instance.state {
                    InstanceState::Running if !is_node && !self.is_pooled(&instance.id) => {
                        self.join(&mut state, &instance.id);
                    }
                    InstanceState::Terminated if is_node => {
                        state.nodes.remove(&instance.id);
                        state.pods.retain(|_, it| it["spec"]["nodeName"] != *instance.id);
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// A node is named as its instance.
    fn join(&self, state: &mut State, id: &str) {
        let node = json!({
            "metadata": {"name": id, "labels": {"eks.amazonaws.com/nodegroup": "g"}},
            "spec": {"providerID": format!("aws:///us-east-1a/{id}")},
            "status": {"conditions": [{"type": "Ready", "status": "True",
                                       "lastTransitionTime": self.clock.now()}]},
        });
        let name = format!("pod-{id}");
        let pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"nodeName": id, "containers": []},
            "status": {"phase": "Running"},
        });
        state.nodes.insert(id.to_owned(), node);
        state.pods.insert(name, pod);
    }

    fn client(&self) -> kube::Client {
        let world = self.clone();
        let answer = move |request: Request<Body>| {
            let world = world.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                let query = head.uri.query().unwrap_or_default().to_owned();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answer) = world.answer(&head.method, head.uri.path(), &query, &body);
                let answer = Body::from(serde_json::to_vec(&answer).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(answer).unwrap())
            }
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &Value) -> (u16, Value) {
        let mut state = self.state.lock();
        let failure = |code: u16| (code, json!({"kind": "Status", "code": code, "message": "no"}));
        if state.is_away || query.contains("watch=") {
            return failure(503);
        }
        let list = |items: Vec<Value>| (200, json!({"metadata": {}, "items": items}));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["api", "v1", "nodes"]) => list(state.nodes.values().cloned().collect()),
            ("PATCH", ["api", "v1", "nodes", name]) => match state.nodes.get_mut(*name) {
                None => failure(404),
                Some(node) => {
                    merge(node, body);
                    (200, node.clone())
                }
            },
            ("DELETE", ["api", "v1", "nodes", name]) => {
                state.nodes.remove(*name);
                state.pods.retain(|_, it| it["spec"]["nodeName"] != **name);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
            ("GET", ["api", "v1", "pods"]) => {
                let of_node = |it: &&Value| {
                    let node = it["spec"]["nodeName"].as_str().unwrap_or_default();
                    query.contains(node)
                };
                list(state.pods.values().filter(of_node).cloned().collect())
            }
            ("POST", [.., "pods", name, "eviction"]) if state.is_stuck(name) => failure(429),
            ("POST", [.., "pods", name, "eviction"]) | ("DELETE", [.., "pods", name]) => {
                state.pods.remove(*name);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
            _ => failure(404),
        }
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        match (value, target.as_object_mut()) {
            (Value::Null, Some(target)) => {
                target.remove(key);
            }
            (value, Some(target)) => merge(target.entry(key).or_insert(Value::Null), value),
            (_, None) => {}
        }
    }
}

impl ControlPlanes for World {
    fn ensure<'a>(
        &'a self,
        _: &'a Cluster,
    ) -> BoxFuture<'a, Result<ControlPlane, ControlPlaneError>> {
        Box::pin(std::future::ready(Ok(ControlPlane {
            certificate_authority_pem: String::new(),
            host_endpoint: "https://127.0.0.1:6443".to_owned(),
            client: self.client(),
            fargate: None,
        })))
    }

    fn remove<'a>(&'a self, _: &'a Cluster) -> BoxFuture<'a, Result<(), ControlPlaneError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
