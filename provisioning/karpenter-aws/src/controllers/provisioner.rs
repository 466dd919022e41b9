//! Pending pods, in batches, become NodeClaims.
//!
//! A batch ends one second after its last new pod, or ten after its first. The next one begins when
//! the NodeClaims of the one before have been launched or given up, however long that takes, so that
//! nothing is made twice: a launch that does not succeed is given up after five minutes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api_kube::karpenter::{
    NodeClaim, NodeClaimResources, NodeClaimSpec, NodePool, TERMINATION_FINALIZER, annotations,
    labels,
};
use controller::{ApplyError, Key};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use karpenter_core::{
    Effort, NewClaim, Outcome, Pending, World,
    disruption::{HASH_VERSION, class_hash, pool_hash},
    provision,
};
use kube::{Api, api::PostParams};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{Context, blocking, lifecycle::pool_of};

/// How long a node is left alone that a pod is on its way to: twice the longest batch.
const NOMINATION: Duration = Duration::from_secs(20);
/// Pending pods are looked at again after this, whatever happens.
const PERIOD: Duration = Duration::from_secs(10);

impl Context {
    pub(super) async fn provision(self: &Arc<Self>) {
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        self.pods.subscribe(move |change| {
            let is_unbound = change
                .new
                .as_ref()
                .is_some_and(|it| it.spec.as_ref().is_some_and(|it| it.node_name.is_none()));
            if is_unbound {
                notify.notify_one();
            }
        });
        // What is on a node that goes is looked at at once, not when its first pod is gone.
        let notify = changed.clone();
        self.claims.subscribe(move |change| {
            let goes = |it: &Option<Arc<NodeClaim>>| {
                it.as_ref().is_some_and(|it| it.metadata.deletion_timestamp.is_some())
            };
            if goes(&change.new) && !goes(&change.old) {
                notify.notify_one();
            }
        });
        loop {
            drop(tokio::time::timeout(PERIOD, changed.notified()).await);
            self.batch(&changed).await;
            if let Err(error) = self.provision_once().await {
                warn!(error = %telemetry::chain(&error), "failed to provision");
            }
        }
    }

    /// Waits until no more pods come.
    async fn batch(&self, changed: &Notify) {
        let more = async {
            while tokio::time::timeout(self.config.batch_idle, changed.notified()).await.is_ok() {}
        };
        drop(tokio::time::timeout(self.config.batch_max, more).await);
    }

    async fn provision_once(self: &Arc<Self>) -> Result<(), ApplyError> {
        self.finish_batch().await;
        let context = self.clone();
        let decided = blocking(move || context.place()).await?;
        let Some((pools, world, outcome)) = decided else { return Ok(()) };
        self.nominate(&world, &outcome);
        self.tell_failures(&pools, &world, &outcome);
        let mut made = Vec::new();
        for claim in &outcome.claims {
            let Some(pool) = pools.iter().find(|it| it.name() == claim.pool) else {
                continue;
            };
            let name = self.create_claim(pool, claim, "provisioned").await?;
            for pod in claim.pods.iter().filter_map(|it| self.pod_of(&world, *it)) {
                self.events.nominated(&pod, Some(&name), None);
            }
            made.push(name);
        }
        info!(
            pods = world.pods.len(),
            claims = made.len(),
            left = outcome.unschedulable.len(),
            price = outcome.price,
            "decided"
        );
        self.launched(&made).await;
        Ok(())
    }

    /// Finds places for the pending pods; `None` where there are none.
    fn place(&self) -> Option<(Vec<NodePool>, World, Outcome)> {
        let snapshot = self.snapshot();
        snapshot.pending(Pending::Unschedulable).next()?;
        let begun = self.clock.now();
        let (world, outcome) =
            provision(&snapshot, |it| self.types(it), Pending::Unschedulable, Effort::Improve);
        let took = self.clock.now().duration_since(begun).as_secs_f64();
        let of = [("controller", "provisioner")];
        self.metrics.observe("scheduler_scheduling_duration_seconds", &of, took);
        let count = |it: usize| u32::try_from(it).map_or(f64::MAX, f64::from);
        for (name, value) in [
            ("scheduler_queue_depth", world.pods.len()),
            ("scheduler_unschedulable_pods_count", outcome.unschedulable.len()),
        ] {
            self.metrics.replace(name, vec![(of.into(), count(value))]);
        }
        Some((snapshot.pools, world, outcome))
    }

    /// Waits for claims of a batch that has failed half-way, or of a Karpenter before this one: a
    /// decision that does not see them makes them twice. Those that no pod has asked for (of static
    /// pools, or a user's own) hold up nobody.
    async fn finish_batch(&self) {
        let claims = self.claims.all();
        let is_for_pods = |it: &NodeClaim| {
            let pool = self.pools.get(&Key::new("", pool_of(it)));
            pool.is_some_and(|it| it.spec.replicas.is_none())
        };
        let is_coming = |it: &NodeClaim| {
            !it.is_true("Launched") && it.metadata.deletion_timestamp.is_none() && is_for_pods(it)
        };
        let coming = claims.iter().filter(|it| is_coming(it));
        let names: Vec<String> = coming.map(|it| it.name().to_owned()).collect();
        if !names.is_empty() {
            self.launched(&names).await;
        }
    }

    fn pod_of(&self, world: &World, pod: usize) -> Option<Arc<Pod>> {
        let pod = &world.pods[pod];
        self.pods.get(&Key::new(&pod.namespace, &pod.name))
    }

    fn nominate(&self, world: &World, outcome: &Outcome) {
        let until = clock::later(self.clock.now(), NOMINATION);
        for (pod, node) in &outcome.existing {
            let name = &world.nodes[*node].name;
            self.nominated.lock().insert(name.clone(), until);
            let Some(pod) = self.pod_of(world, *pod) else { continue };
            // What has not joined yet is known by its claim's name.
            let of_node = |it: &&Arc<NodeClaim>| {
                it.status.as_ref().and_then(|it| it.node_name.as_ref()) == Some(name)
            };
            let claims = self.claims.all();
            let claim = claims.iter().find(of_node).map(|it| it.name());
            match self.nodes.get(&Key::new("", name)) {
                Some(_) => self.events.nominated(&pod, claim, Some(name)),
                None => self.events.nominated(&pod, Some(name), None),
            }
        }
    }

    /// Says which pods have no place, and which pools can have no node.
    fn tell_failures(&self, pools: &[NodePool], world: &World, outcome: &Outcome) {
        for it in &outcome.unschedulable {
            if let Some(pod) = self.pod_of(world, it.pod) {
                self.events.failed_scheduling(&pod, &it.reason);
            }
        }
        for it in &outcome.barren {
            if let Some(pool) = pools.iter().find(|pool| pool.name() == it.pool) {
                self.events.no_compatible_types(pool, it.is_by_min_values);
            }
        }
    }

    /// Makes the NodeClaim; returns its name.
    pub(super) async fn create_claim(
        &self,
        pool: &NodePool,
        claim: &NewClaim,
        reason: &str,
    ) -> Result<String, ApplyError> {
        let name = format!("{}-{}", pool.name(), entropy::name_suffix(5));
        let object = self.claim(pool, claim, &name);
        let api = Api::<NodeClaim>::all(self.client.clone());
        let made = api.create(&PostParams::default(), &object).await;
        made.map_err(|error| ApplyError::new::<NodeClaim>("create", &name, error))?;
        let labels = [("reason", reason), ("nodepool", pool.name())];
        self.metrics.add("nodeclaims_created_total", &labels, 1.0);
        Ok(name)
    }

    fn claim(&self, pool: &NodePool, claim: &NewClaim, name: &str) -> NodeClaim {
        let template = &pool.spec.template;
        let class = self.class(&template.spec.node_class_ref.name);
        let mut all: BTreeMap<String, String> = template.metadata.labels.clone();
        all.insert(labels::NODE_POOL.to_owned(), pool.name().to_owned());
        all.insert(labels::NODE_CLASS.to_owned(), template.spec.node_class_ref.name.clone());
        // What no instance has of itself the node has from here.
        for (key, requirement) in claim.requirements.iter() {
            if !labels::WELL_KNOWN.contains(&&**key)
                && !all.contains_key(&**key)
                && let Some(value) = requirement.example()
            {
                all.insert(key.to_string(), value);
            }
        }
        let mut marks = template.metadata.annotations.clone();
        let is_relaxed = claim.is_relaxed.to_string();
        marks.insert(annotations::MIN_VALUES_RELAXED.to_owned(), is_relaxed);
        marks.insert(annotations::NODE_POOL_HASH.to_owned(), pool_hash(pool));
        marks.insert(annotations::NODE_POOL_HASH_VERSION.to_owned(), HASH_VERSION.to_owned());
        if let Some(class) = &class {
            marks.insert(annotations::NODE_CLASS_HASH.to_owned(), class_hash(class));
            marks.insert(annotations::NODE_CLASS_HASH_VERSION.to_owned(), HASH_VERSION.to_owned());
        }
        let spec = NodeClaimSpec {
            expire_after: template.spec.expire_after,
            node_class_ref: template.spec.node_class_ref.clone(),
            requirements: claim.to_api(),
            resources: NodeClaimResources { requests: claim.requests.to_list() },
            startup_taints: template.spec.startup_taints.clone(),
            taints: template.spec.taints.clone(),
            termination_grace_period: template.spec.termination_grace_period,
        };
        let mut object = NodeClaim::new(name, spec);
        object.metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(all),
            annotations: Some(marks),
            finalizers: Some(vec![TERMINATION_FINALIZER.to_owned()]),
            owner_references: Some(vec![controller::object::controller_reference(pool)]),
            ..ObjectMeta::default()
        };
        object
    }

    /// Waits until the claims have instances, or are gone.
    async fn launched(&self, names: &[String]) {
        let is_settled = |name: &String| match self.claims.get(&Key::new("", name)) {
            Some(it) => it.is_true("Launched") || it.metadata.deletion_timestamp.is_some(),
            None => false,
        };
        // A claim that the cache does not have yet is not there for it either way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        while !names.iter().all(|it| is_settled(it) || self.claims.get(&Key::new("", it)).is_none())
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
