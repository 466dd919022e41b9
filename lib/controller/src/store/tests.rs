//! What a store shows, and what it tells its subscribers.

use futures::stream;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::*;

fn pod(name: &str, node: &str, version: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some("default".into());
    pod.metadata.name = Some(name.into());
    pod.metadata.resource_version = Some(version.into());
    pod.metadata.annotations = Some([(LAST_APPLIED.to_owned(), "{}".to_owned())].into());
    pod.spec = Some(PodSpec { node_name: Some(node.into()), ..Default::default() });
    pod
}

fn by_node(pod: &Pod) -> Vec<String> {
    pod.spec.iter().filter_map(|it| it.node_name.clone()).collect()
}

fn spec() -> StoreSpec<Pod> {
    StoreSpec::default().index("node", by_node)
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter().map(|it| it.name_any()).collect()
}

async fn follow(store: &Store<Pod>, events: Vec<watcher::Result<Event<Pod>>>) {
    store.clone().follow(stream::iter(events), |_| {}, "pods".into()).await;
}

#[tokio::test]
async fn indexes_follow_objects_from_value_to_value() {
    let store = Store::fixed(spec(), [pod("a", "n1", "1"), pod("b", "n1", "2")]);
    assert_eq!(names(&store.indexed("node", "n1")), ["a", "b"]);
    follow(&store, vec![Ok(Event::Apply(pod("a", "n2", "3")))]).await;
    assert_eq!(names(&store.indexed("node", "n1")), ["b"]);
    assert_eq!(names(&store.indexed("node", "n2")), ["a"]);
    follow(&store, vec![Ok(Event::Delete(pod("a", "n2", "4")))]).await;
    assert!(store.indexed("node", "n2").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_list_reports_only_what_differs() {
    let store = Store::fixed(spec(), [pod("a", "n", "1"), pod("b", "n", "1")]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    store.subscribe(move |change| {
        sink.lock().push((change.key.name.clone(), change.old.is_some(), change.new.is_some()));
    });
    seen.lock().clear();
    let gone = watcher::Error::NoResourceVersion;
    let list = [pod("b", "n", "1"), pod("c", "n", "3")].map(|it| Ok(Event::InitApply(it)));
    let mut events = vec![Err(gone), Ok(Event::Init)];
    events.extend(list);
    events.push(Ok(Event::InitDone));
    follow(&store, events).await;
    let expected = [("a".to_owned(), true, false), ("c".to_owned(), false, true)];
    assert_eq!(*seen.lock(), expected);
}

#[tokio::test]
async fn a_late_subscriber_sees_what_is_there() {
    let store = Store::fixed(spec(), [pod("a", "n", "1")]);
    let count = Arc::new(Mutex::new(0));
    let sink = count.clone();
    store.subscribe(move |_| *sink.lock() += 1);
    assert_eq!(*count.lock(), 1);
    assert!(store.get(&Key::new("default", "a")).unwrap().metadata.annotations.is_none());
}
