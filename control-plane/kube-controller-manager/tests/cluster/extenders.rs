//! A scheduler with extenders: nodes they refuse, nodes they like, pods they bind, and how they fail.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Response, StatusCode};
use k8s_openapi::api::{
    core::v1::{Event, Pod},
    scheduling::v1::PriorityClass,
};
use kube::{Api, api::PostParams};
use kube_scheduler::{Exchange, Extender, Settings};
use serde_json::{Value, json};

use crate::support::{Cluster, is_ready};

/// Asks `answer` with the verb and what is sent.
fn extender(
    config: Value,
    answer: impl Fn(&str, &Value) -> Result<Value, StatusCode> + Send + Sync + 'static,
) -> Extender {
    let answer = Arc::new(answer);
    let exchange: Exchange = Arc::new(move |request| {
        let answer = answer.clone();
        Box::pin(async move {
            let verb = request.uri().path().trim_start_matches('/').to_owned();
            let sent = serde_json::from_slice(request.body())?;
            let response = match answer(&verb, &sent) {
                Ok(value) => Response::new(value.to_string().into()),
                Err(code) => Response::builder().status(code).body(Default::default())?,
            };
            Ok(response)
        })
    });
    let mut config: kube_scheduler::config::extender::ExtenderConfig =
        serde_json::from_value(config).unwrap();
    config.url_prefix = "http://extender".into();
    config.node_cache_capable = true;
    Extender::new(config, exchange)
}

fn settings(extenders: Vec<Extender>) -> Settings {
    Settings { extenders, ..Settings::default() }
}

fn sent_names(sent: &Value) -> Vec<String> {
    serde_json::from_value(sent["NodeNames"].clone()).unwrap()
}

async fn run(cluster: &Cluster, name: &str, cpu: &str) {
    let resources = json!({ "requests": { "cpu": cpu } });
    let spec = json!({ "containers": [{ "name": "c", "image": "one", "resources": resources }] });
    cluster.create::<Pod>(json!({ "metadata": { "name": name }, "spec": spec })).await;
}

async fn runs_on(cluster: &Cluster, name: &str) -> String {
    cluster
        .eventually("it runs", async |it| it.get::<Pod>(name).await.as_ref().is_some_and(is_ready))
        .await;
    let pod = cluster.get::<Pod>(name).await.unwrap();
    pod.spec.unwrap().node_name.unwrap()
}

async fn messages(cluster: &Cluster, pod: &str) -> Vec<String> {
    let events = cluster.list::<Event>().await;
    let of = events.into_iter().filter(|it| it.involved_object.name.as_deref() == Some(pod));
    of.filter_map(|it| it.message).collect()
}

#[tokio::test(start_paused = true)]
async fn nodes_are_refused_by_one_extender_and_liked_by_another() {
    let refuses = extender(json!({ "filterVerb": "filter" }), |_, sent| {
        let left: Vec<_> = sent_names(sent).into_iter().filter(|it| it != "n0").collect();
        Ok(json!({ "NodeNames": left, "FailedNodes": { "n0": "is too warm" } }))
    });
    let config = json!({ "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 5 });
    let likes = extender(config, |verb, sent| {
        let names = sent_names(sent);
        assert!(!names.contains(&"n0".to_owned()), "it was refused before: {names:?}");
        match verb {
            "filter" => Ok(json!({ "NodeNames": names })),
            _ => Ok(json!([{ "Host": "n2", "Score": 10 }])),
        }
    });
    let cluster = Cluster::start_with(4, settings(vec![refuses, likes])).await;
    for pod in ["p0", "p1", "p2"] {
        run(&cluster, pod, "100m").await;
        assert_eq!(runs_on(&cluster, pod).await, "n2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_extenders_leave_no_node_waits_with_their_words_and_is_tried_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let refuses = extender(json!({ "filterVerb": "filter" }), move |_, sent| {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            return Ok(json!({ "FailedAndUnresolvableNodes": { "n0": "is haunted" } }));
        }
        Ok(json!({ "NodeNames": sent["NodeNames"] }))
    });
    let cluster = Cluster::start_with(1, settings(vec![refuses])).await;
    run(&cluster, "p", "100m").await;
    assert_eq!(runs_on(&cluster, "p").await, "n0");
    let told = messages(&cluster, "p").await;
    let expected = "0/1 nodes are available: 1 is haunted.";
    assert!(told.iter().any(|it| it.starts_with(expected)), "{told:?}");
    assert!(asked.load(Ordering::Relaxed) >= 2);
}

#[tokio::test(start_paused = true)]
async fn an_extender_that_fails_is_passed_by_where_that_is_allowed_and_else_asked_again() {
    let broken = |ignorable: bool, fails: usize| {
        let asked = AtomicUsize::new(0);
        let config = json!({ "filterVerb": "filter", "ignorable": ignorable });
        extender(config, move |_, sent| match asked.fetch_add(1, Ordering::Relaxed) < fails {
            true => Err(StatusCode::SERVICE_UNAVAILABLE),
            false => Ok(json!({ "NodeNames": sent["NodeNames"] })),
        })
    };
    let cluster = Cluster::start_with(1, settings(vec![broken(true, usize::MAX)])).await;
    run(&cluster, "p", "100m").await;
    runs_on(&cluster, "p").await;
    let told = messages(&cluster, "p").await;
    assert!(!told.iter().any(|it| it.contains("code 503")), "{told:?}");

    let cluster = Cluster::start_with(1, settings(vec![broken(false, 2)])).await;
    run(&cluster, "p", "100m").await;
    runs_on(&cluster, "p").await;
    let told = messages(&cluster, "p").await;
    let expected = "failed filter with extender at URL http://extender/filter, code 503";
    assert!(told.iter().any(|it| it == expected), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_extender_binds_the_pods_of_its_resource_and_no_others() {
    let managed = json!([{ "name": "example.com/gpu", "ignoredByScheduler": true }]);
    let config = json!({ "bindVerb": "bind", "managedResources": managed });
    let binds = extender(config, |_, sent| {
        Ok(json!({ "Error": format!("no {} for {}", sent["Node"], sent["PodName"]) }))
    });
    let cluster = Cluster::start_with(1, settings(vec![binds])).await;
    run(&cluster, "plain", "100m").await;
    assert_eq!(runs_on(&cluster, "plain").await, "n0");
    let gpu = json!({ "limits": { "example.com/gpu": "0" } });
    cluster
        .create::<Pod>(json!({ "metadata": { "name": "gpu" }, "spec": {
            "containers": [{ "name": "c", "image": "one", "resources": gpu }] } }))
        .await;
    cluster
        .eventually("the extender refused it", async |it| {
            let told = messages(it, "gpu").await;
            told.iter().any(|it| it == "binding rejected: no \"n0\" for \"gpu\"")
        })
        .await;
    assert_eq!(cluster.get::<Pod>("gpu").await.unwrap().spec.unwrap().node_name, None);
}

#[tokio::test(start_paused = true)]
async fn an_extender_has_a_say_in_whose_place_a_pod_takes() {
    let config = json!({ "preemptVerb": "preempt" });
    let spares = extender(config, |_, sent| {
        let mut victims = sent["NodeNameToMetaVictims"].clone();
        victims.as_object_mut().unwrap().remove("n0");
        Ok(json!({ "NodeNameToMetaVictims": victims }))
    });
    let cluster = Cluster::start_with(2, settings(vec![spares])).await;
    for name in ["first", "second"] {
        run(&cluster, name, "1500m").await;
        runs_on(&cluster, name).await;
    }
    let class = json!({ "metadata": { "name": "high" }, "value": 1000 });
    let class: PriorityClass = serde_json::from_value(class).unwrap();
    let classes = Api::<PriorityClass>::all(cluster.client.clone());
    classes.create(&PostParams::default(), &class).await.unwrap();
    let resources = json!({ "requests": { "cpu": "1500m" } });
    cluster
        .create::<Pod>(json!({ "metadata": { "name": "urgent" }, "spec": {
            "priorityClassName": "high",
            "containers": [{ "name": "c", "image": "one", "resources": resources }] } }))
        .await;
    assert_eq!(runs_on(&cluster, "urgent").await, "n1");
    let left = cluster.list::<Pod>().await;
    let on_n0 = left
        .iter()
        .filter(|it| it.spec.as_ref().and_then(|it| it.node_name.as_deref()) == Some("n0"));
    assert_eq!(on_n0.count(), 1, "the extender spared it");
}
