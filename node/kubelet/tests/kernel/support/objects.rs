//! Pods, nodes and events at the API server, and waiting for what they become.

use super::*;

impl Bed {
    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace())
    }

    pub(crate) fn container(&self, name: &str, script: &str) -> Value {
        json!({
            "name": name,
            "image": IMAGE,
            "command": ["/bin/busybox", "sh", "-c", script],
            "volumeMounts": if name == "prepare" {
                json!([{ "name": "work", "mountPath": "/work" }])
            } else {
                json!([])
            },
        })
    }

    pub(crate) async fn create_pod(&self, pod: Value) {
        self.try_pod(pod).await.unwrap();
    }

    /// The words of the API server where it does not want the pod.
    pub(crate) async fn try_pod(&self, mut pod: Value) -> Result<(), String> {
        pod["spec"]["nodeName"] = json!(self.node_name());
        pod["spec"]["automountServiceAccountToken"] = json!(false);
        let pod = serde_json::from_value(pod).unwrap();
        let made = self.pods().create(&PostParams::default(), &pod).await;
        made.map(drop).map_err(|it| it.to_string())
    }

    /// Asks for other resources of a pod's container `main`.
    pub(crate) async fn resize(&self, name: &str, resources: Value) {
        let containers = json!([{ "name": "main", "resources": resources }]);
        let patch = Patch::Strategic(json!({ "spec": { "containers": containers } }));
        let params = PatchParams::default();
        self.pods().patch_subresource("resize", name, &params, &patch).await.unwrap();
    }

    /// Asks for other resources of a pod as a whole.
    pub(crate) async fn resize_whole(&self, name: &str, resources: Value) {
        let patch = Patch::Strategic(json!({ "spec": { "resources": resources } }));
        let params = PatchParams::default();
        self.pods().patch_subresource("resize", name, &params, &patch).await.unwrap();
    }

    pub(crate) async fn create_config_map(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> =
            data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let map: ConfigMap =
            serde_json::from_value(json!({ "metadata": { "name": name }, "data": data })).unwrap();
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), self.namespace());
        api.create(&PostParams::default(), &map).await.unwrap();
    }

    pub(crate) async fn create_secret(&self, name: &str) {
        use k8s_openapi::api::core::v1::Secret;
        let secret = json!({ "metadata": { "name": name }, "stringData": { "key": "value" } });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        let api = Api::<Secret>::namespaced(self.client.clone(), self.namespace());
        api.create(&PostParams::default(), &secret).await.unwrap();
    }

    pub(super) async fn create_service_account(&self) {
        let api = Api::<ServiceAccount>::namespaced(self.client.clone(), self.namespace());
        // Nobody publishes the cluster's CA here, which a token's volume needs.
        let account: ServiceAccount = serde_json::from_value(json!({
            "metadata": { "name": "default" }, "automountServiceAccountToken": false,
        }))
        .unwrap();
        // The namespace is made behind the start of the API server.
        self.eventually(async || {
            let created = api.create(&PostParams::default(), &account).await;
            let is_there = created.is_err_and(|it| it.to_string().contains("already exists"));
            is_there.then_some(())
        })
        .await;
    }

    pub(crate) async fn annotate(&self, name: &str, key: &str, value: &str) {
        let patch = json!({ "metadata": { "annotations": { key: value } } });
        let params = PatchParams::default();
        self.pods().patch(name, &params, &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn label_node(&self, key: &str, value: Option<&str>) {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { key: value } } }));
        let api = Api::<Node>::all(self.client.clone());
        api.patch(self.node_name(), &PatchParams::default(), &patch).await.unwrap();
    }

    /// What the node has of a resource for pods.
    pub(crate) async fn allocatable(&self, resource: &str) -> String {
        let node = Api::<Node>::all(self.client.clone()).get(self.node_name()).await.unwrap();
        node.status.unwrap().allocatable.unwrap()[resource].0.clone()
    }

    pub(crate) async fn delete_pod(&self, name: &str, grace: u32) {
        let params = DeleteParams::default().grace_period(grace);
        self.pods().delete(name, &params).await.unwrap();
    }

    pub(crate) async fn until_node(&self, status: &str, message: &str) {
        let api = Api::<Node>::all(self.client.clone());
        let deadline = Instant::now() + LIMIT;
        loop {
            let node = api.get_opt(self.node_name()).await.unwrap();
            let conditions = node.and_then(|it| it.status?.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|it| it.type_ == "Ready");
            let is_it = ready.as_ref().is_some_and(|it| {
                it.status == status && it.message.as_deref().unwrap_or_default().contains(message)
            });
            if is_it {
                return;
            }
            assert!(Instant::now() < deadline, "the node is not {status}: {ready:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until(&self, name: &str, is_it: impl Fn(&PodStatus) -> bool) -> Pod {
        let deadline = Instant::now() + LIMIT;
        loop {
            let pod = self.pods().get(name).await.unwrap();
            if pod.status.as_ref().is_some_and(&is_it) {
                return pod;
            }
            assert!(
                Instant::now() < deadline,
                "{name}: {}\n{}",
                json!(pod.status),
                self.events().await
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn pod(&self, name: &str) -> Pod {
        self.pods().get(name).await.unwrap()
    }

    pub(crate) async fn events(&self) -> String {
        use k8s_openapi::api::core::v1::Event;
        let api = Api::<Event>::namespaced(self.client.clone(), self.namespace());
        let events = api.list(&Default::default()).await.unwrap();
        let line = |it: Event| {
            let (reason, message) = (it.reason.unwrap_or_default(), it.message.unwrap_or_default());
            format!("{} {reason}: {message}", it.involved_object.name.unwrap_or_default())
        };
        events.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Pod {
        self.until(name, |it| {
            it.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
        })
        .await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let deadline = Instant::now() + LIMIT;
        while let Some(pod) = self.pods().get_opt(name).await.unwrap() {
            assert!(Instant::now() < deadline, "{name} stays: {}", json!(pod.status));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn container_id(&self, name: &str, index: usize) -> Option<String> {
        let status = self.pods().get(name).await.unwrap().status.unwrap();
        status.container_statuses.unwrap()[index].container_id.clone()
    }

    pub(crate) async fn pod_names(&self) -> Vec<String> {
        let pods = self.pods().list(&Default::default()).await.unwrap();
        pods.iter().map(ResourceExt::name_any).collect()
    }

    pub(crate) async fn restarts(&self, name: &str) -> i32 {
        restarts(&self.pods().get(name).await.unwrap().status.unwrap())
    }
}

pub(crate) fn restarts(status: &PodStatus) -> i32 {
    status.container_statuses.iter().flatten().map(|it| it.restart_count).sum()
}

pub(crate) fn waiting(status: &PodStatus) -> Option<String> {
    let first = status.container_statuses.as_ref()?.first()?;
    first.state.as_ref()?.waiting.as_ref()?.reason.clone()
}
