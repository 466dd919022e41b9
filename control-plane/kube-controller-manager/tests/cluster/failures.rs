//! Whatever fails, in whatever order: what must hold at every moment, and what must be so in the end.
//!
//! At every moment: no two pods of one StatefulSet ordinal run at once, on machines that cannot be
//! reached either, and no eviction breaks a disruption budget, be it of how many must be there or of how
//! many may be missing. In the end: the numbers of pods are what is asked for, every Job has succeeded and
//! is gone, and when the owners are deleted nothing of them is left.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{Endpoints, Node, PersistentVolumeClaim, Pod},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams},
};
use serde_json::{Value, json};

use crate::support::{Cluster, is_ready};

const STEPS: usize = 12;
const GUARDED: usize = 2;

/// A small generator: the same seed gives the same failures.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

struct World {
    cluster: Cluster,
    dice: Dice,
    nodes: Vec<String>,
    made: usize,
    web: i32,
    db: i32,
    /// What happened, for the message of a failure.
    story: Vec<String>,
}

fn template(app: &str, image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": app } }, "spec": { "terminationGracePeriodSeconds": 1,
        "containers": [{ "name": "c", "image": image,
            "resources": { "requests": { "cpu": "50m" } } }] } })
}

impl World {
    async fn start(seed: u64) -> Self {
        // Whoever the controllers are.
        let cluster = match seed {
            1 => Cluster::start(4).await,
            _ => Cluster::start_shared(4).await,
        };
        let labels = |app: &str| json!({ "matchLabels": { "app": app } });
        cluster
            .create::<Deployment>(json!({ "metadata": { "name": "web" }, "spec": { "replicas": 4,
                "selector": labels("web"), "template": template("web", "one") } }))
            .await;
        cluster
            .create::<StatefulSet>(json!({ "metadata": { "name": "db" }, "spec": { "replicas": 3,
                "serviceName": "db", "selector": labels("db"), "template": template("db", "one"),
                "persistentVolumeClaimRetentionPolicy": {
                    "whenDeleted": "Delete", "whenScaled": "Delete" } } }))
            .await;
        cluster
            .create::<DaemonSet>(json!({ "metadata": { "name": "agent" }, "spec": {
                "selector": labels("agent"), "template": template("agent", "one") } }))
            .await;
        cluster
            .create::<PodDisruptionBudget>(json!({ "metadata": { "name": "web" },
                "spec": { "minAvailable": GUARDED, "selector": labels("web") } }))
            .await;
        cluster
            .create::<PodDisruptionBudget>(json!({ "metadata": { "name": "db" },
                "spec": { "maxUnavailable": 1, "selector": labels("db") } }))
            .await;
        let nodes = (0..4).map(|it| format!("n{it}")).collect();
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Self { cluster, dice, nodes, made: 4, web: 4, db: 3, story: Vec::new() }
    }

    async fn step(&mut self) {
        match self.dice.below(11) {
            0 => self.kill_pod().await,
            1 => self.evict("web").await,
            2 => self.evict("db").await,
            8 | 9 => self.start_job().await,
            3 => self.silence(),
            4 => self.reconnect(),
            5 => self.replace_node().await,
            6 => self.scale().await,
            7 => self.update().await,
            _ => {
                self.story.push("the control plane dies".into());
                self.cluster.restart();
            }
        }
        let pause = [1, 5, 30, 90, 400][self.dice.below(5)];
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let doubles = self.cluster.machines.doubles();
        let of_set: Vec<_> = doubles.iter().filter(|it| it.contains("db-")).collect();
        assert!(of_set.is_empty(), "{of_set:?} ran twice after {:#?}", self.story);
        for job in self.cluster.list::<Job>().await {
            let conditions = job.status.and_then(|it| it.conditions).unwrap_or_default();
            let failed = conditions.iter().find(|it| it.type_ == "Failed");
            assert!(failed.is_none(), "{failed:?} after {:#?}", self.story);
        }
    }

    async fn pick(&mut self, app: Option<&str>) -> Option<Pod> {
        let mut pods = self.cluster.list::<Pod>().await;
        pods.retain(|it| {
            let has = it.labels().get("app").map(String::as_str);
            app.is_none_or(|app| has == Some(app)) && it.metadata.deletion_timestamp.is_none()
        });
        let index = self.dice.below(pods.len());
        pods.into_iter().nth(index)
    }

    async fn kill_pod(&mut self) {
        let Some(pod) = self.pick(None).await else { return };
        self.story.push(format!("{} is deleted", pod.name_any()));
        self.cluster.delete::<Pod>(&pod.name_any()).await;
    }

    /// Whatever is taken from it while it runs, it is done in the end.
    async fn start_job(&mut self) {
        let name = format!("j{}", self.story.len());
        self.story.push(format!("{name} begins"));
        let mut template = template("job", "exits");
        template["spec"]["restartPolicy"] = json!("Never");
        self.cluster
            .create::<Job>(json!({ "metadata": { "name": name }, "spec": {
                "completions": 6, "parallelism": 2, "completionMode": "Indexed",
                "backoffLimit": 1000, "ttlSecondsAfterFinished": 5, "template": template } }))
            .await;
    }

    async fn evict(&mut self, app: &str) {
        // What has just failed is known before anybody is evicted.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let Some(victim) = self.pick(Some(app)).await else { return };
        let healthy = self.healthy(app).await;
        let guarded = match app {
            "web" => GUARDED,
            _ => usize::try_from(self.db - 1).unwrap(),
        };
        let api = self.cluster.api::<Pod>();
        let was_ready = is_ready(&victim);
        let evicted = api.evict(&victim.name_any(), &EvictParams::default()).await;
        self.story.push(format!("{}: evicted: {}", victim.name_any(), evicted.is_ok()));
        if evicted.is_ok() && was_ready {
            assert!(healthy > guarded, "of {healthy} one was evicted after {:#?}", self.story);
        }
    }

    async fn healthy(&self, app: &str) -> usize {
        let pods = self.cluster.list::<Pod>().await;
        let is_healthy = |it: &&Pod| {
            it.labels().get("app").is_some_and(|it| it == app)
                && is_ready(it)
                && it.metadata.deletion_timestamp.is_none()
        };
        pods.iter().filter(is_healthy).count()
    }

    fn silence(&mut self) {
        let node = self.nodes[self.dice.below(self.nodes.len())].clone();
        self.story.push(format!("{node} falls silent"));
        self.cluster.machines.silence(&node);
    }

    fn reconnect(&mut self) {
        self.story.push("all nodes are heard again".into());
        self.nodes.iter().for_each(|it| self.cluster.machines.reconnect(it));
    }

    /// A machine is destroyed, its Node deleted, and another one comes.
    async fn replace_node(&mut self) {
        let index = self.dice.below(self.nodes.len());
        let node = self.nodes.remove(index);
        let new = format!("n{}", self.made);
        self.made += 1;
        self.story.push(format!("{node} is destroyed, {new} comes"));
        self.cluster.machines.destroy(&node);
        let api = Api::<Node>::all(self.cluster.client.clone());
        drop(api.delete(&node, &DeleteParams::default()).await);
        self.cluster.add_node(&new).await;
        self.nodes.push(new);
    }

    async fn scale(&mut self) {
        self.web = i32::try_from(3 + self.dice.below(4)).unwrap();
        self.db = i32::try_from(1 + self.dice.below(4)).unwrap();
        self.story.push(format!("web {}, db {}", self.web, self.db));
        let to = |count: i32| json!({ "spec": { "replicas": count } });
        self.cluster.patch::<Deployment>("web", to(self.web)).await;
        self.cluster.patch::<StatefulSet>("db", to(self.db)).await;
    }

    async fn update(&mut self) {
        let image = ["one", "two", "three"][self.dice.below(3)];
        self.story.push(format!("all are updated to {image}"));
        let to = |app: &str| json!({ "spec": { "template": template(app, image) } });
        self.cluster.patch::<Deployment>("web", to("web")).await;
        self.cluster.patch::<StatefulSet>("db", to("db")).await;
        self.cluster.patch::<DaemonSet>("agent", to("agent")).await;
        // A rollout makes pods unavailable as it may: evictions come after it.
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    async fn converges(&self) {
        let (web, db) = (self.web, self.db);
        let nodes = i32::try_from(self.nodes.len()).unwrap();
        let total = usize::try_from(web + db + nodes).unwrap();
        let what = format!("{web} web, {db} db and {nodes} agents after {:#?}", self.story);
        self.cluster
            .eventually(&what, async |it| {
                let of_web = it.get::<Deployment>("web").await.unwrap().status.unwrap();
                let of_db = it.get::<StatefulSet>("db").await.unwrap().status.unwrap();
                let of_agent = it.get::<DaemonSet>("agent").await.unwrap().status.unwrap();
                let updated = of_web.updated_replicas.unwrap_or(0);
                (of_web.available_replicas.unwrap_or(0), updated) == (web, web)
                    && (of_db.ready_replicas.unwrap_or(0), of_db.replicas) == (db, db)
                    && of_db.current_revision == of_db.update_revision
                    && (of_agent.number_ready, of_agent.desired_number_scheduled) == (nodes, nodes)
                    && it.list::<Job>().await.is_empty()
                    && it.list::<Pod>().await.len() == total
            })
            .await;
    }

    async fn leaves_nothing(&self) {
        self.cluster.delete::<Deployment>("web").await;
        self.cluster.delete::<StatefulSet>("db").await;
        self.cluster.delete::<DaemonSet>("agent").await;
        self.cluster
            .eventually("nothing is left", async |it| {
                it.list::<Pod>().await.is_empty()
                    && it.list::<ReplicaSet>().await.is_empty()
                    && it.list::<ControllerRevision>().await.is_empty()
                    && it.list::<PersistentVolumeClaim>().await.is_empty()
                    && it.list::<Endpoints>().await.iter().all(|it| it.name_any() == "kubernetes")
                    && it.list::<EndpointSlice>().await.iter().all(|it| {
                        it.labels().get("kubernetes.io/service-name").map(String::as_str)
                            == Some("kubernetes")
                    })
            })
            .await;
    }
}

async fn survives(seed: u64) {
    let mut world = World::start(seed).await;
    world.converges().await;
    for _ in 0..STEPS {
        world.step().await;
    }
    world.reconnect();
    world.converges().await;
    world.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_numbers_converge_and_nothing_is_left() {
    for seed in 1..=2 {
        survives(seed).await;
    }
}
