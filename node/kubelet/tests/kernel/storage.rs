//! Claims, volumes and drivers for tests of the kubelet's volumes.

use std::{process::Command, time::Duration};

use fake_csi::{Config, FakeCsi};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, CSINode},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{self, Bed, LIMIT};

pub(crate) const DRIVER: &str = "nst.csi.test";

impl Bed {
    /// Creates an object in the test's namespace, or in none.
    pub(crate) async fn create<K>(&self, api: &Api<K>, object: Value)
    where
        K: kube::Resource
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// How many snapshots of containerd are image volumes.
    pub(crate) fn volume_snapshots(&self) -> usize {
        let listed = Command::new("ctr")
            .args(["-a", &self.socket(), "-n", "k8s.io", "snapshots", "list"])
            .output()
            .unwrap();
        assert!(listed.status.success());
        let text = String::from_utf8(listed.stdout).unwrap();
        text.lines().filter(|it| it.starts_with("kubelet-volume-")).count()
    }

    /// Waits for an event with this text.
    pub(crate) async fn until_event(&self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let events = self.events().await;
            if events.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "no {text}:\n{events}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A node with its network, ready for pods.
    pub(crate) async fn ready(&self) -> support::Running {
        self.install_cni();
        let kubelet = self.start_kubelet().await;
        self.until_node("True", "").await;
        kubelet
    }

    pub(crate) fn driver_config(&self) -> Config {
        Config::new(DRIVER, &self.folder().join("storage"), &self.folder().join("kubelet"))
    }

    /// A driver, its object, and the node that knows it.
    pub(crate) async fn start_driver(&self, config: Config, spec: Value) -> FakeCsi {
        let drivers = Api::<CSIDriver>::all(self.client());
        self.create(&drivers, json!({ "metadata": { "name": DRIVER }, "spec": spec })).await;
        let driver = FakeCsi::start(config).unwrap();
        self.until_registered(true).await;
        driver
    }

    pub(crate) async fn until_registered(&self, is_registered: bool) {
        let nodes = Api::<CSINode>::all(self.client());
        self.eventually(async || {
            let found = nodes.get_opt(self.node_name()).await.unwrap();
            let mut drivers = found.into_iter().flat_map(|it| it.spec.drivers);
            (drivers.any(|it| it.name == DRIVER) == is_registered).then_some(())
        })
        .await;
    }

    pub(crate) async fn node(&self) -> Node {
        Api::<Node>::all(self.client()).get(self.node_name()).await.unwrap()
    }

    /// A volume, and a claim that is bound to it as the controller does it.
    pub(crate) async fn bind(&self, name: &str, mut spec: Value, claim: Value) {
        let volumes = Api::<PersistentVolume>::all(self.client());
        let claims = self.claims();
        let mut wanted = json!({
            "metadata": { "name": name },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } },
                "volumeName": format!("pv-{name}"),
                "storageClassName": "",
                "volumeMode": spec.get("volumeMode").cloned().unwrap_or(json!("Filesystem")),
            },
        });
        merge(&mut wanted, &claim);
        self.create(&claims, wanted).await;
        let uid = claims.get(name).await.unwrap().metadata.uid;
        merge(
            &mut spec,
            &json!({
                "accessModes": ["ReadWriteOnce"],
                "capacity": { "storage": "1Gi" },
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": { "kind": "PersistentVolumeClaim", "namespace": self.namespace(), "name": name, "uid": uid },
            }),
        );
        let it = json!({ "metadata": { "name": format!("pv-{name}") }, "spec": spec });
        self.create(&volumes, it).await;
        let status = json!({ "status": {
            "phase": "Bound",
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "1Gi" },
        }});
        let params = PatchParams::default();
        claims.patch_status(name, &params, &Patch::Merge(status)).await.unwrap();
    }

    pub(crate) fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client(), self.namespace())
    }

    /// A claim for a volume of the test's driver; the handle is the claim's name.
    pub(crate) async fn bind_csi(&self, name: &str, changes: Value) {
        let mut spec = json!({ "csi": { "driver": DRIVER, "volumeHandle": name } });
        merge(&mut spec, &changes);
        self.bind(name, spec, json!({})).await;
    }

    /// A pod whose container runs a script with volume `v` at `/v`.
    pub(crate) async fn create_with(&self, name: &str, volume: Value, script: &str) {
        self.create_with_spec(name, volume, script, json!({})).await;
    }

    pub(crate) async fn create_with_spec(
        &self,
        name: &str,
        mut volume: Value,
        script: &str,
        changes: Value,
    ) {
        volume["name"] = json!("v");
        let mut container = self.container("main", script);
        container["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
        let mut spec = json!({
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [volume],
        });
        merge(&mut spec, &changes);
        self.create_pod(json!({ "metadata": { "name": name }, "spec": spec })).await;
    }

    pub(crate) async fn end_pod(&self, name: &str) {
        self.delete_pod(name, 0).await;
        self.until_gone(name).await;
    }
}

pub(crate) fn claim(name: &str) -> Value {
    json!({ "persistentVolumeClaim": { "claimName": name } })
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) if into.len() == from.len() => {
            for (into, from) in into.iter_mut().zip(from) {
                merge(into, from);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
