//! A node: its CNINode, its trunk, what it can hold, and what its pods have left.
//!
//! Upstream: `pkg/node/manager`, `pkg/provider/branch`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use api_kube::vpc_resources::{
    CUSTOM_NETWORKING, CniNode, CniNodeSpec, POD_ENI, PodEni, SECURITY_GROUPS_FOR_PODS, TRUNK_LABEL,
};
use controller::{Action, ApplyError, Key, object};
use k8s_openapi::{
    api::core::v1::Node,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};

use crate::{
    BY_NODE, Context,
    cloud::{CloudError, Home, Instance},
    ledger::Ledger,
    pod,
    trunk::Trunk,
};

/// Pods are evicted from a node that is gone: only then its branches go.
const AFTER_NODE: Duration = Duration::from_secs(60);
/// How long a branch that could not be deleted is left alone.
const DELETE_RETRY: Duration = Duration::from_secs(30);
const ENI_CONFIG_LABEL: &str = "vpc.amazonaws.com/eniConfig";
const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";
const INITIATED: &str = "The node has trunk interface initialized successfully";
const NOT_INITIATED: &str = "The node failed initializing trunk interface";

/// `spec` of an ENIConfig.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EniConfigSpec {
    subnet: String,
    security_groups: Vec<String>,
}

pub(crate) fn failed(error: &CloudError) -> ApplyError {
    ApplyError::other(telemetry::chain(error).to_string())
}

impl Context {
    pub(crate) async fn reconcile_node(&self, key: &Key) -> Result<Action, ApplyError> {
        let Some(node) = self.nodes.get(key) else { return self.retire(&key.name).await };
        let Some(instance) = instance_of(&node) else { return Ok(Action::Done) };
        let Some(asked) = self.cni_nodes.get(key) else {
            return self.make_cni_node(&node).await.map(|()| Action::Done);
        };
        let is_asked = asked.feature(SECURITY_GROUPS_FOR_PODS).is_some()
            || node.labels().contains_key(TRUNK_LABEL);
        if !is_asked {
            return Ok(Action::Done);
        }
        if self.trunks.get(&key.name).is_some_and(|it| it.instance != instance) {
            // Another instance has got the address, and so the name, of one that is gone.
            self.delete_all(&key.name).await?;
        }
        let trunk = match self.trunks.get(&key.name) {
            Some(trunk) => trunk,
            None => match self.begin(&node, &asked, instance).await? {
                Some(trunk) => trunk,
                None => return Ok(Action::Done),
            },
        };
        *trunk.gone.lock() = None;
        self.follow_home(&node, &asked, &trunk).await?;
        self.advertise(&node, &trunk).await?;
        self.collect(&key.name, &trunk).await
    }

    async fn make_cni_node(&self, node: &Node) -> Result<(), ApplyError> {
        let name = node.name_any();
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(vec![object::controller_reference(node)]),
            ..ObjectMeta::default()
        };
        let tags = [(CLUSTER_TAG.to_owned(), self.config.cluster.clone())].into();
        let made = CniNode::new(metadata, CniNodeSpec { tags, ..CniNodeSpec::default() });
        let api = Api::<CniNode>::all(self.client.clone());
        match api.create(&PostParams::default(), &made).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            done => done.map(drop).map_err(|it| ApplyError::new::<CniNode>("create", &name, it)),
        }
    }

    /// Finds the node's trunk with all that is on it, or makes it. `None`: there can be none.
    async fn begin(
        &self,
        node: &Node,
        asked: &CniNode,
        instance: &str,
    ) -> Result<Option<Arc<Trunk>>, ApplyError> {
        let version = env!("CARGO_PKG_VERSION");
        let notice = format!("The node is managed by VPC resource controller version v{version}");
        self.node_event(node, "ControllerVersionNotice", &notice);
        let instance = self.cloud.instance(instance).await;
        let instance = instance.map_err(|error| self.trunk_failed(node, &error))?;
        let limit = instance_types::find(&instance.kind).map_or(0, |it| it.branch_enis);
        if limit == 0 {
            let message = format!(
                "The instance type {} is not supported for trunk interface (Security Group for \
                 Pods)",
                instance.kind
            );
            self.recorder.warn(&as_described(node), "Unsupported", message);
            return Ok(None);
        }
        let name = self.eni_config_of(node, asked)?;
        let home = self.home(name.as_deref(), asked, &instance).await?;
        let trunk = self.find_or_make(node, &instance, &home).await;
        let (trunk, found) = trunk.map_err(|error| self.trunk_failed(node, &error))?;
        let mut ledger = Ledger::new(trunk, usize::try_from(limit).unwrap_or(0));
        self.recover(&node.name_any(), &mut ledger, found);
        let trunk = Trunk {
            instance: instance.id,
            kind: instance.kind,
            home: (name, home).into(),
            ledger: ledger.into(),
            gone: None.into(),
        };
        let trunk = self.trunks.insert(&node.name_any(), trunk);
        self.node_event(node, "NodeTrunkInitiated", INITIATED);
        self.wake_pods(&node.name_any());
        Ok(Some(trunk))
    }

    async fn find_or_make(
        &self,
        node: &Node,
        instance: &Instance,
        home: &Home,
    ) -> Result<(String, Vec<PodEni>), CloudError> {
        match &instance.trunk {
            Some(trunk) => {
                self.cloud.await_attached(trunk).await?;
                Ok((trunk.clone(), self.cloud.branches(trunk).await?))
            }
            None => {
                let trunk = self.cloud.add_trunk(instance, home).await?;
                info!(node = node.name_any(), trunk, "made a trunk");
                Ok((trunk, Vec::new()))
            }
        }
    }

    /// Gives the branches that EC2 knows to the pods whose annotations name them; the others are
    /// nobody's.
    fn recover(&self, node: &str, ledger: &mut Ledger, mut found: Vec<PodEni>) {
        for pod in self.pods.indexed(BY_NODE, node) {
            let listed = pod::branches_of(&pod).unwrap_or_default();
            let is_there = |it: &PodEni| found.iter().any(|eni| eni.eni_id == it.eni_id);
            let own: Vec<PodEni> = listed.into_iter().filter(is_there).collect();
            if !own.is_empty() {
                found.retain(|it| !own.iter().any(|own| own.eni_id == it.eni_id));
                ledger.settle(&object::uid(&*pod), own);
            }
        }
        let due = self.clock.now() + self.cooldown.get();
        found.into_iter().for_each(|it| ledger.adopt(it, due));
    }

    fn trunk_failed(&self, node: &Node, error: &CloudError) -> ApplyError {
        if let Some(code) = error.code() {
            let mut message = format!("Failed to create trunk interface: Error Code: {code}");
            if code == "UnauthorizedOperation" {
                message.push_str(
                    ": Please verify the cluster IAM role has AmazonEKSVPCResourceController policy",
                );
            }
            self.recorder.warn(&as_described(node), "TrunkENICreationFailed", message);
        }
        self.node_event(node, "NodeTrunkFailedInit", NOT_INITIATED);
        failed(error)
    }

    /// The name of the ENIConfig in whose subnet the node's branches are made, if there is one.
    fn eni_config_of(&self, node: &Node, asked: &CniNode) -> Result<Option<String>, ApplyError> {
        if let Some(name) = node.labels().get(ENI_CONFIG_LABEL) {
            return Ok(Some(name.clone()));
        }
        match asked.feature(CUSTOM_NETWORKING) {
            None => Ok(None),
            Some("") => {
                let message = format!(
                    "couldn't find custom networking eniconfig name for node {}",
                    node.name_any()
                );
                self.recorder.warn(&as_described(node), "EniConfigNameNotFound", message.clone());
                Err(ApplyError::other(message))
            }
            Some(name) => Ok(Some(name.to_owned())),
        }
    }

    async fn home(
        &self,
        eni_config: Option<&str>,
        asked: &CniNode,
        instance: &Instance,
    ) -> Result<Home, ApplyError> {
        let tags = asked.spec.tags.clone();
        let groups = instance.security_groups.clone();
        let (subnet, security_groups) = match eni_config {
            None => (instance.subnet.clone(), groups),
            Some(name) => {
                let spec = self.eni_config(name).await?;
                let own = spec.security_groups;
                (spec.subnet, if own.is_empty() { groups } else { own })
            }
        };
        let cidrs = self.cloud.cidrs_of(&subnet).await;
        let (cidr, cidr_v6) = cidrs.map_err(|it| failed(&it))?;
        Ok(Home { subnet, cidr, cidr_v6, security_groups, tags })
    }

    async fn eni_config(&self, name: &str) -> Result<EniConfigSpec, ApplyError> {
        let kind = GroupVersionKind::gvk("crd.k8s.amazonaws.com", "v1alpha1", "ENIConfig");
        let resource = ApiResource::from_gvk_with_plural(&kind, "eniconfigs");
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        let missing =
            |why: String| ApplyError::other(format!("failed to find the ENIConfig {name}: {why}"));
        let found = api.get(name).await.map_err(|error| missing(error.to_string()))?;
        let spec = found.data.get("spec").cloned().unwrap_or_default();
        let spec: EniConfigSpec =
            serde_json::from_value(spec).map_err(|error| missing(error.to_string()))?;
        if spec.subnet.is_empty() {
            return Err(missing("it names no subnet".to_owned()));
        }
        Ok(spec)
    }

    /// New branches are made where the node's ENIConfig is now.
    async fn follow_home(
        &self,
        node: &Node,
        asked: &CniNode,
        trunk: &Trunk,
    ) -> Result<(), ApplyError> {
        let name = self.eni_config_of(node, asked)?;
        if trunk.home.lock().0 == name && trunk.home.lock().1.tags == asked.spec.tags {
            return Ok(());
        }
        let instance = self.cloud.instance(&trunk.instance).await.map_err(|it| failed(&it))?;
        let home = self.home(name.as_deref(), asked, &instance).await?;
        *trunk.home.lock() = (name, home);
        Ok(())
    }

    /// Says how many pods with branches the node can hold, and that it has a trunk.
    async fn advertise(&self, node: &Node, trunk: &Trunk) -> Result<(), ApplyError> {
        let limit = instance_types::find(&trunk.kind).map_or(0, |it| it.branch_enis);
        let wanted = Quantity(limit.to_string());
        let (api, name) = (Api::<Node>::all(self.client.clone()), node.name_any());
        let status = node.status.as_ref();
        let lists = status.map(|it| [it.capacity.as_ref(), it.allocatable.as_ref()]);
        let is_told = |list: &Option<&std::collections::BTreeMap<String, Quantity>>| {
            list.and_then(|it| it.get(POD_ENI)) == Some(&wanted)
        };
        let parameters = PatchParams::default();
        if !lists.is_some_and(|it| it.iter().all(is_told)) {
            let patch = json!({ "status": {
                "capacity": { POD_ENI: wanted }, "allocatable": { POD_ENI: wanted },
            } });
            let patched = api.patch_status(&name, &parameters, &Patch::Merge(&patch)).await;
            patched.map_err(|it| ApplyError::new::<Node>("patch the status of", &name, it))?;
        }
        if node.labels().get(TRUNK_LABEL).map(String::as_str) != Some("true") {
            let patch = json!({ "metadata": { "labels": { TRUNK_LABEL: "true" } } });
            let patched = api.patch(&name, &parameters, &Patch::Merge(&patch)).await;
            patched.map_err(|it| ApplyError::new::<Node>("label", &name, it))?;
        }
        Ok(())
    }

    /// Takes back what pods that are gone had, and deletes what has rested.
    async fn collect(&self, node: &str, trunk: &Trunk) -> Result<Action, ApplyError> {
        let pods = self.pods.indexed(BY_NODE, node);
        let live: BTreeSet<String> =
            pods.iter().filter(|it| !pod::has_ended(it)).map(|it| object::uid(&**it)).collect();
        let now = self.clock.now();
        self.resolve_doubts(node, trunk).await?;
        let cooled = {
            let mut ledger = trunk.ledger.lock();
            ledger.release_all_but(&live, now + self.cooldown.get());
            ledger.cooled(now)
        };
        for it in &cooled {
            let eni = &it.eni.eni_id;
            match self.cloud.delete_branch(&it.eni).await {
                Ok(()) => trunk.ledger.lock().forget(eni),
                Err(error) => {
                    warn!(eni, error = %telemetry::chain(&error), "a branch was not deleted");
                    trunk.ledger.lock().postpone(eni, self.clock.now() + DELETE_RETRY);
                }
            }
        }
        if !cooled.is_empty() {
            self.wake_pods(node);
        }
        let next = trunk.ledger.lock().next_due(self.clock.now());
        Ok(next.map_or(Action::Done, |it| Action::After(it.max(Duration::from_millis(100)))))
    }

    /// Asks EC2 what there is, where calls were given up that it may have carried out.
    async fn resolve_doubts(&self, node: &str, trunk: &Trunk) -> Result<(), ApplyError> {
        let id = {
            let ledger = trunk.ledger.lock();
            if !ledger.is_in_doubt(self.clock.now()) {
                return Ok(());
            }
            ledger.trunk.clone()
        };
        let asked = self.clock.now();
        let found = self.cloud.branches(&id).await.map_err(|it| failed(&it))?;
        trunk.ledger.lock().resolve(found, asked);
        self.wake_pods(node);
        Ok(())
    }

    /// Pods that wait for the trunk, or for room on it.
    fn wake_pods(&self, node: &str) {
        for pod in self.pods.indexed(BY_NODE, node) {
            if pod::annotation(&pod).is_none() && !pod::has_ended(&pod) {
                self.pod_queue.add(Key::of(&*pod));
            }
        }
    }

    /// A node that is gone leaves its branches behind; its trunk goes with the instance.
    async fn retire(&self, node: &str) -> Result<Action, ApplyError> {
        let Some(trunk) = self.trunks.get(node) else { return Ok(Action::Done) };
        let now = self.clock.now();
        let since = *trunk.gone.lock().get_or_insert(now);
        let left = Duration::try_from((since + AFTER_NODE).duration_since(now)).unwrap_or_default();
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        self.delete_all(node).await.map(|()| Action::Done)
    }

    async fn delete_all(&self, node: &str) -> Result<(), ApplyError> {
        let Some(trunk) = self.trunks.get(node) else { return Ok(()) };
        let known = trunk.ledger.lock().everything();
        for branch in &known {
            self.cloud.delete_branch(branch).await.map_err(|it| failed(&it))?;
        }
        self.trunks.remove(node);
        info!(node, branches = known.len(), "cleaned up after a node");
        Ok(())
    }

    pub(crate) fn node_event(&self, node: &Node, reason: &'static str, message: &str) {
        self.recorder.normal(&as_described(node), reason, message);
    }
}

/// `kubectl describe node` looks for events whose UID is the node's name.
fn as_described(node: &Node) -> Node {
    let name = node.metadata.name.clone();
    let metadata = ObjectMeta { name: name.clone(), uid: name, ..ObjectMeta::default() };
    Node { metadata, ..Node::default() }
}

/// The instance under a Linux node of EC2's.
fn instance_of(node: &Node) -> Option<&str> {
    let labels = node.labels();
    let os = labels.get("kubernetes.io/os").or_else(|| labels.get("beta.kubernetes.io/os"))?;
    let id = node.spec.as_ref()?.provider_id.as_deref()?.strip_prefix("aws://")?;
    id.rsplit('/').next().filter(|it| os == "linux" && it.starts_with("i-"))
}
