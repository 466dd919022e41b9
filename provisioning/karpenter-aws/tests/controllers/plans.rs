//! What `nodestead plan` shows is what Karpenter then does, in random worlds.
//!
//! The plan is made of what the API server says while nobody works, by the functions that the command
//! calls; then Karpenter starts.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use api_kube::karpenter::{NodeClaim, NodePool};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use karpenter_aws::{Market, offers};
use karpenter_core::{
    Effort, InstanceType, NewClaim, Pending, Snapshot, disrupt, disruption::Gates, provision,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{MANY, support::World};

/// Splitmix64: small, and the same everywhere.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn spec(&mut self) -> Value {
        let requests = json!({ "cpu": self.pick(&["100m", "700m", "1500m", "3", "7"]),
            "memory": self.pick(&["128Mi", "1Gi", "6Gi"]) });
        let mut spec = json!({ "containers": [{ "name": "c", "image": "i",
            "resources": { "requests": requests } }] });
        match self.below(5) {
            0 => {
                let zone = self.pick(&["us-east-1a", "us-east-1b", "us-east-1z"]);
                spec["nodeSelector"] = json!({ "topology.kubernetes.io/zone": zone });
            }
            1 => {
                spec["topologySpreadConstraints"] = json!([{ "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {} }]);
            }
            _ => {}
        }
        spec
    }
}

async fn all<K>(world: &World) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    Api::<K>::all(world.admin.clone()).list(&ListParams::default()).await.unwrap().items
}

async fn snapshot(world: &World) -> Snapshot {
    Snapshot {
        pools: all(world).await,
        claims: all(world).await,
        nodes: all(world).await,
        pods: all(world).await,
        namespaces: all(world).await,
        ..Snapshot::default()
    }
}

/// What the classes offer, as the plan sees it.
async fn offered(world: &World) -> impl Fn(&NodePool) -> Option<Arc<[InstanceType]>> + use<> {
    let class = world.classes().get("default").await.unwrap();
    let market = Market { region: "us-east-1".to_owned(), ..Market::default() };
    let types = offers(&class, market, |_| true);
    move |_| types.clone()
}

/// A claim as everybody sees it; requests and requirements in one order.
fn written(
    pool: &str,
    requirements: &impl serde::Serialize,
    requests: &impl serde::Serialize,
) -> String {
    let mut requirements = serde_json::to_value(requirements).unwrap();
    let list = requirements.as_array_mut().unwrap();
    for it in list.iter_mut() {
        if let Some(values) = it["values"].as_array_mut() {
            values.sort_by_key(Value::to_string);
        }
    }
    list.sort_by_key(Value::to_string);
    format!("{pool} {requirements} {}", serde_json::to_value(requests).unwrap())
}

fn planned(claims: &[NewClaim]) -> Vec<String> {
    let each = claims.iter().map(|it| written(&it.pool, &it.to_api(), &it.requests.to_list()));
    let mut all: Vec<String> = each.collect();
    all.sort();
    all
}

fn made(claims: &[NodeClaim]) -> Vec<String> {
    let each = claims.iter().map(|it| {
        let spec = &it.spec;
        written("default", &spec.requirements, &spec.resources.requests)
    });
    let mut all: Vec<String> = each.collect();
    all.sort();
    all
}

/// Pods wait, the plan is made, and Karpenter is let at them.
async fn comes_as_planned(world: &mut World, draw: &mut Draw) {
    world.stop();
    for at in 0..2 + draw.below(6) {
        let spec = draw.spec();
        world.pending_with(&format!("pod-{at}"), spec).await;
    }
    let (snapshot, types) = (snapshot(world).await, offered(world).await);
    let (planned_world, outcome) =
        provision(&snapshot, &types, Pending::Unschedulable, Effort::Improve);
    world.start();
    let count = outcome.claims.len();
    let claims = world
        .until("what was planned is launched", || async {
            let claims = world.claims().await;
            let launched = claims.iter().filter(|it| it.is_true("Launched")).count();
            (launched >= count).then_some(claims)
        })
        .await;
    assert_eq!(made(&claims), planned(&outcome.claims));
    for it in &outcome.unschedulable {
        let about = format!("Pod/{}", planned_world.pods[it.pod].name);
        let message = format!("Failed to schedule pod, {}", it.reason);
        world.until_told(&about, "FailedScheduling", &message).await;
    }
    settle(world, &planned_world, &outcome.claims, claims).await;
}

/// The nodes join, and the scheduler does what was planned.
async fn settle(
    world: &World,
    planned: &karpenter_core::World,
    wanted: &[NewClaim],
    mut claims: Vec<NodeClaim>,
) {
    for claim in wanted {
        let like = written(&claim.pool, &claim.to_api(), &claim.requests.to_list());
        let is_it = |it: &NodeClaim| made(std::slice::from_ref(it)) == [like.clone()];
        let found = claims.remove(claims.iter().position(is_it).unwrap());
        let node = world.join(&found).await;
        for pod in &claim.pods {
            let name = &planned.pods[*pod].name;
            let mut spec = world.pods().get(name).await.unwrap().spec.unwrap();
            let now = DeleteParams::default().grace_period(0);
            world.pods().delete(name, &now).await.unwrap();
            spec.node_name = None;
            world.running_with(name, &node, "1", serde_json::to_value(spec).unwrap()).await;
        }
    }
}

fn is_going(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|it| it.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|it| it.key == "karpenter.sh/disrupted")
}

/// Pods go, the plan is made, and Karpenter begins with the first of its commands.
async fn goes_as_planned(world: &mut World, draw: &mut Draw) {
    world.stop();
    for pod in world.pods().list(&ListParams::default()).await.unwrap().items {
        let is_waiting = pod.spec.as_ref().is_some_and(|it| it.node_name.is_none());
        if is_waiting || draw.below(2) == 0 {
            let now = DeleteParams::default().grace_period(0);
            world.pods().delete(&pod.metadata.name.unwrap(), &now).await.unwrap();
        }
    }
    let before: BTreeSet<String> =
        world.claims().await.iter().map(|it| it.name().to_owned()).collect();
    let (snapshot, types) = (snapshot(world).await, offered(world).await);
    let now: Timestamp = "2026-11-29T13:00:00Z".parse().unwrap();
    let (commands, _) = disrupt(&snapshot, &types, now, Gates::default(), 1);
    world.start();
    let Some(command) = commands.first() else {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert!(!all::<Node>(world).await.iter().any(is_going), "nothing was to go");
        return;
    };
    let wanted: BTreeSet<String> = command.nodes.iter().map(|it| it.name.clone()).collect();
    let name = |it: &Node| it.metadata.name.clone().unwrap();
    world
        .until("the nodes go that were to", || async {
            let nodes: Vec<Node> = all(world).await;
            let going: BTreeSet<String> =
                nodes.iter().filter(|it| is_going(it)).map(name).collect();
            assert!(going.is_subset(&wanted), "{going:?} go, and {wanted:?} were to");
            (going == wanted).then_some(())
        })
        .await;
    let new = world
        .until("what takes their place is made", || async {
            let mut claims = world.claims().await;
            claims.retain(|it| !before.contains(it.name()));
            (claims.len() >= command.replacements.len()).then_some(claims)
        })
        .await;
    assert_eq!(made(&new), planned(&command.replacements));
}

#[tokio::test(start_paused = true)]
async fn karpenter_does_what_the_plan_of_the_same_cluster_says() {
    let mut commands = 0;
    for seed in 0..5 {
        let (mut world, mut draw) = (World::new(MANY).await, Draw(seed));
        world
            .until("the pool is ready", || async {
                let status = world.node_pools().get("default").await.unwrap().status?;
                let mut all = status.conditions.iter();
                all.find(|it| it.type_ == "Ready" && it.status == "True").map(drop)
            })
            .await;
        comes_as_planned(&mut world, &mut draw).await;
        goes_as_planned(&mut world, &mut draw).await;
        commands += all::<Node>(&world).await.iter().filter(|it| is_going(it)).count();
    }
    assert!(commands > 0, "in some world a node goes");
}
