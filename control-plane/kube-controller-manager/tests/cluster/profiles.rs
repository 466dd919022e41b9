//! A scheduler with a configuration file: its profiles, and the pods that are nobody's.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube_scheduler::config::load;
use serde_json::json;

use crate::support::{Cluster, is_ready};

const FILE: &str = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packs
  plugins:
    score:
      disabled: [{ name: '*' }]
      enabled: [{ name: NodeResourcesFit, weight: 1 }]
  pluginConfig:
  - name: NodeResourcesFit
    args: { scoringStrategy: { type: MostAllocated } }
";

async fn run(cluster: &Cluster, name: &str, scheduler: &str) {
    let resources = json!({ "requests": { "cpu": "100m" } });
    cluster
        .create::<Pod>(json!({ "metadata": { "name": name }, "spec": { "schedulerName": scheduler,
            "containers": [{ "name": "c", "image": "one", "resources": resources }] } }))
        .await;
}

async fn node_of(cluster: &Cluster, name: &str) -> Option<String> {
    cluster.get::<Pod>(name).await.unwrap().spec.unwrap().node_name
}

#[tokio::test(start_paused = true)]
async fn each_profile_places_its_own_pods_and_nobody_elses() {
    let settings = load::parse(FILE).unwrap().settings().unwrap();
    let cluster = Cluster::start_with(3, settings).await;
    for name in ["p0", "p1", "p2", "p3"] {
        run(&cluster, name, "packs").await;
        cluster
            .eventually("it runs", async |it| {
                it.get::<Pod>(name).await.as_ref().is_some_and(is_ready)
            })
            .await;
    }
    let first = node_of(&cluster, "p0").await;
    for name in ["p1", "p2", "p3"] {
        assert_eq!(node_of(&cluster, name).await, first, "they are packed");
    }
    run(&cluster, "usual", "default-scheduler").await;
    run(&cluster, "foreign", "somebody-elses").await;
    cluster
        .eventually("it runs", async |it| {
            it.get::<Pod>("usual").await.as_ref().is_some_and(is_ready)
        })
        .await;
    assert_ne!(node_of(&cluster, "usual").await, first, "it is spread");
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    let foreign = cluster.get::<Pod>("foreign").await.unwrap();
    assert_eq!(foreign.spec.unwrap().node_name, None);
    assert!(
        foreign.status.unwrap().conditions.unwrap_or_default().is_empty(),
        "nobody speaks of it"
    );
    let events = cluster.list::<Event>().await;
    let by = |pod: &str| {
        let mut of = events.iter().filter(|it| it.involved_object.name.as_deref() == Some(pod));
        of.find(|it| it.reason.as_deref() == Some("Scheduled"))
            .and_then(|it| it.source.as_ref()?.component.clone())
    };
    assert_eq!(by("p0").as_deref(), Some("packs"));
    assert_eq!(by("usual").as_deref(), Some("default-scheduler"));
}
