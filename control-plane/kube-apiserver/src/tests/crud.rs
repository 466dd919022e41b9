//! Create, read, change, delete, watch.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
    core::WatchEvent,
};
use serde_json::json;

use super::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"n": name}}})).unwrap()
}

fn pod(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "x:1"}]}})
}

#[tokio::test]
async fn a_kube_client_can_do_all_that_it_needs() {
    let cluster = Cluster::start().await;
    let maps = Api::<ConfigMap>::default_namespaced(cluster.client());
    let made = maps.create(&PostParams::default(), &map("a")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    let again = maps.create(&PostParams::default(), &map("a")).await.unwrap_err();
    assert!(again.to_string().contains("configmaps \"a\" already exists"), "{again}");
    let patch = Patch::Merge(json!({"data": {"k": "v"}}));
    let patched = maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["k"], "v");
    let stale = maps.replace("a", &PostParams::default(), &made).await.unwrap_err();
    assert!(stale.to_string().contains("the object has been modified"), "{stale}");
    assert_eq!(maps.list(&ListParams::default().labels("n in (a)")).await.unwrap().items.len(), 1);
    assert_eq!(maps.list(&ListParams::default().labels("n!=a")).await.unwrap().items.len(), 0);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_watch_tells_what_happened_since_its_revision() {
    let cluster = Cluster::start().await;
    let maps = Api::<ConfigMap>::default_namespaced(cluster.client());
    let made = maps.create(&PostParams::default(), &map("a")).await.unwrap();
    let version = made.metadata.resource_version.unwrap();
    let stream = maps.watch(&WatchParams::default().labels("n=a"), &version).await.unwrap();
    let unlabel = Patch::Merge(json!({"metadata": {"labels": {"n": "other"}}}));
    maps.create(&PostParams::default(), &map("b")).await.unwrap();
    maps.patch("a", &PatchParams::default(), &unlabel).await.unwrap();
    let event = stream.boxed().try_next().await.unwrap().unwrap();
    let WatchEvent::Deleted(gone) = event else { panic!("{event:?}") };
    assert_eq!(gone.metadata.name.unwrap(), "a");
    assert!(gone.metadata.resource_version.unwrap() > version);
}

#[tokio::test]
async fn lists_are_paged_at_one_revision() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.post(MAPS, json!({"metadata": {"name": name}})).await;
    }
    let first = cluster.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    cluster.delete(&format!("{MAPS}/c")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(rest["items"][0]["metadata"]["name"], "c");
    assert!(rest["metadata"].get("continue").is_none());
}

#[tokio::test]
async fn a_list_whose_revision_was_compacted_away_goes_on_as_it_is_now() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "d"] {
        cluster.post(MAPS, json!({"metadata": {"name": name}})).await;
    }
    let first = cluster.get(&format!("{MAPS}?limit=1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    cluster.post(MAPS, json!({"metadata": {"name": "c"}})).await;
    let store = &cluster.api.server.store;
    store.compact(store.revision()).await.unwrap();
    let gone = cluster.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(410), &json!("Expired")), "{gone}");
    let mut token = gone["metadata"]["continue"].as_str().unwrap().to_owned();
    let mut names = Vec::new();
    loop {
        let page = cluster.get(&format!("{MAPS}?limit=1&continue={token}")).await;
        assert_ne!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        names.push(page["items"][0]["metadata"]["name"].as_str().unwrap().to_owned());
        let Some(next) = page["metadata"]["continue"].as_str() else { break };
        token = next.to_owned();
        // What comes after the first page is of one revision again.
        cluster.delete(&format!("{MAPS}/d")).await;
    }
    assert_eq!(names, ["b", "c", "d"]);
}

#[tokio::test]
async fn a_limit_below_one_is_none_and_what_is_no_number_is_refused() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        cluster.post(MAPS, json!({"metadata": {"name": name}})).await;
    }
    for limit in ["-1", "0"] {
        let all = cluster.get(&format!("{MAPS}?limit={limit}")).await;
        assert_eq!(all["items"].as_array().map(Vec::len), Some(2), "{limit}");
    }
    let refused = cluster.get(&format!("{MAPS}?limit=many")).await;
    assert_eq!((&refused["code"], &refused["reason"]), (&json!(400), &json!("BadRequest")));
}

#[tokio::test]
async fn a_pod_is_defaulted_bound_and_deleted_gracefully() {
    let cluster = Cluster::start().await.with_default_account().await;
    let (code, made) = cluster.post(PODS, pod("p")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["restartPolicy"], "Always");
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let zone = "topology.kubernetes.io/zone";
    let node = json!({"metadata": {"name": "n1", "labels": {zone: "a", "other": "b"}}});
    assert_eq!(cluster.post("/api/v1/nodes", node).await.0, 201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    let (code, answer) = cluster.post(&format!("{PODS}/p/binding"), binding.clone()).await;
    assert_eq!(code, 201, "{answer}");
    let labels = &cluster.get(&format!("{PODS}/p")).await["metadata"]["labels"];
    assert_eq!((&labels[zone], labels.get("other")), (&json!("a"), None));
    let (code, answer) = cluster.post(&format!("{PODS}/p/binding"), binding).await;
    assert_eq!(code, 409);
    assert!(answer["message"].as_str().unwrap().contains("already assigned to node \"n1\""));
    assert_eq!(cluster.get(&format!("{PODS}/p")).await["metadata"]["generation"], 1);
    let bound: Pod = serde_json::from_value(cluster.get(&format!("{PODS}/p")).await).unwrap();
    assert_eq!(bound.spec.unwrap().node_name.unwrap(), "n1");
    let (_, going) = cluster.delete(&format!("{PODS}/p")).await;
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    cluster.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await;
    assert_eq!(cluster.get(&format!("{PODS}/p")).await["reason"], "NotFound");
}

#[tokio::test]
async fn status_and_spec_are_written_through_their_own_doors() {
    let cluster = Cluster::start().await.with_default_account().await;
    cluster.post(PODS, pod("p")).await;
    let mut object = cluster.get(&format!("{PODS}/p")).await;
    object["status"]["phase"] = "Running".into();
    object["spec"]["containers"][0]["image"] = "y:1".into();
    let (_, updated) = cluster.put(&format!("{PODS}/p/status"), object.clone()).await;
    assert_eq!(updated["status"]["phase"], "Running");
    assert_eq!(updated["spec"]["containers"][0]["image"], "x:1");
    object["status"]["phase"] = "Failed".into();
    object["metadata"]["resourceVersion"] = "".into();
    let (_, updated) = cluster.put(&format!("{PODS}/p"), object).await;
    assert_eq!(updated["status"]["phase"], "Running");
    assert_eq!(updated["spec"]["containers"][0]["image"], "y:1");
    assert_eq!(updated["metadata"]["generation"], 2);
}

#[tokio::test]
async fn finalizers_hold_and_their_removal_deletes() {
    let cluster = Cluster::start().await;
    let held = json!({"metadata": {"name": "h", "finalizers": ["example.com/hold"]}});
    cluster.post(MAPS, held).await;
    let (_, going) = cluster.delete(&format!("{MAPS}/h")).await;
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let patch = json!({"metadata": {"finalizers": null}});
    cluster.patch(&format!("{MAPS}/h"), "merge-patch+json", patch).await;
    assert_eq!(cluster.get(&format!("{MAPS}/h")).await["code"], 404);
}

#[tokio::test]
async fn creations_at_the_same_moment_do_not_exceed_a_quota_together() {
    // On a disk a commit takes a while, in which others are decided.
    let folder = tempfile::tempdir().unwrap();
    let store = mvcc::Store::open(&folder.path().join("state")).unwrap();
    let cluster = Cluster::over(store).await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"configmaps": "2"}}});
    assert_eq!(cluster.post(quotas, quota).await.0, 201);
    let maps = "/api/v1/namespaces/default/configmaps";
    let one = || json!({"metadata": {"generateName": "m-"}});
    let all = futures::future::join_all((0..8).map(|_| cluster.post(maps, one()))).await;
    let (made, refused): (Vec<_>, Vec<_>) = all.iter().partition(|it| it.0 == 201);
    assert_eq!(made.len(), 2, "{all:?}");
    assert!(refused.iter().all(|it| it.0 == 403), "{refused:?}");
}

#[tokio::test]
async fn what_is_empty_is_not_kept_where_upstreams_types_leave_it_out() {
    let cluster = Cluster::start().await.with_default_account().await;
    let mut empty = pod("empty");
    empty["metadata"]["labels"] = json!({});
    empty["metadata"]["annotations"] = json!(null);
    let more = json!({"nodeName": "", "hostNetwork": false, "nodeSelector": {}, "dnsPolicy": "",
        "terminationGracePeriodSeconds": 0});
    empty["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (code, made) = cluster.post(PODS, empty).await;
    assert_eq!(code, 201, "{made}");
    let spec = &made["spec"];
    for left_out in ["nodeName", "hostNetwork", "nodeSelector"] {
        assert!(spec.get(left_out).is_none(), "{left_out}: {spec}");
    }
    assert_eq!(
        spec["dnsPolicy"], "ClusterFirst",
        "an empty one is none, for which there is a default"
    );
    assert_eq!(spec["terminationGracePeriodSeconds"], 0, "a pointer's zero counts");
    assert!(made["metadata"].get("labels").is_none(), "{}", made["metadata"]);
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"];
    assert!(owned.get("f:metadata").is_none(), "nobody owns what is not there: {owned}");
    let path = format!("{PODS}/empty");
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    cluster.patch(&path, "merge-patch+json", labelled).await;
    let patch = json!([{"op": "remove", "path": "/metadata/labels/a"}]);
    let (_, patched) = cluster.patch(&path, "json-patch+json", patch).await;
    assert!(patched["metadata"].get("labels").is_none(), "the last one is gone: {patched}");
}

#[tokio::test]
async fn classes_of_the_system_stay_and_one_class_is_the_default() {
    const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let cluster = Cluster::start().await;
    let class = |name: &str, is_default: bool| json!({"metadata": {"name": name}, "value": 1, "globalDefault": is_default});
    let why = |name: &str, why: &str| {
        format!("priorityclasses.scheduling.k8s.io \"{name}\" is forbidden: {why}")
    };
    let (code, status) = cluster.delete(&format!("{CLASSES}/system-node-critical")).await;
    let told = why("system-node-critical", "this is a system priority class and cannot be deleted");
    assert_eq!((code.as_u16(), status["message"].as_str()), (403, Some(&*told)));
    assert_eq!(cluster.post(CLASSES, class("d1", true)).await.0, 201);
    let (_, d2) = cluster.post(CLASSES, class("d2", false)).await;
    let taken = "PriorityClass d1 is already marked as default. Only one default can exist";
    let (code, status) = cluster.post(CLASSES, class("d3", true)).await;
    let told = why("d3", taken);
    assert_eq!((code.as_u16(), status["message"].as_str()), (403, Some(&*told)));
    let mut second = d2.clone();
    second["globalDefault"] = true.into();
    let (code, status) = cluster.put(&format!("{CLASSES}/d2"), second).await;
    let told = why("d2", taken);
    assert_eq!((code.as_u16(), status["message"].as_str()), (403, Some(&*told)));
    let described = json!({"description": "still the default"});
    let (code, _) = cluster.patch(&format!("{CLASSES}/d1"), "merge-patch+json", described).await;
    assert_eq!(code, 200);
    assert_eq!(cluster.delete(&format!("{CLASSES}/d2")).await.0, 200);
}
