//! Watches, byte for byte: initial events, bookmarks, tables, expiry.

use futures::FutureExt;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use transport::Body;

use super::Cluster;
use crate::request::UserInfo;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A watch's stream, read line by line.
pub(super) struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    pub(super) async fn open(cluster: &Cluster, query: &str, accept: &str) -> Self {
        Self::try_open(cluster, query, accept).await.unwrap()
    }

    /// `None`: the revision is gone.
    pub(super) async fn try_open(cluster: &Cluster, query: &str, accept: &str) -> Option<Self> {
        Self::try_follow(cluster, &format!("{MAPS}?watch=1&{query}"), accept).await
    }

    /// Any watch.
    pub(super) async fn follow(cluster: &Cluster, target: &str) -> Self {
        Self::try_follow(cluster, target, "application/json").await.unwrap()
    }

    async fn try_follow(cluster: &Cluster, target: &str, accept: &str) -> Option<Self> {
        let request = Request::get(target).header("accept", accept);
        let request = request.body(transport::empty()).unwrap();
        let service = cluster.api.service_as(UserInfo::master("admin"));
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        // A stream whose revision is gone says so at once and ends.
        let first = body.frame().now_or_never().flatten();
        let text = first.map(|it| it.unwrap().into_data().unwrap()).unwrap_or_default();
        let text = String::from_utf8(text.to_vec()).unwrap();
        (!text.starts_with(r#"{"type":"ERROR""#)).then_some(Self { body, text })
    }

    /// The next event; `None` when the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Value> {
        while !self.text.contains('\n') {
            let data = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
        let (line, rest) = self.text.split_once('\n').unwrap();
        let event = serde_json::from_str(line).unwrap();
        self.text = rest.to_owned();
        Some(event)
    }

    pub(super) async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let event = self.next().await.unwrap();
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
            names.push(format!("{} {name}", event["type"].as_str().unwrap()));
        }
        names
    }
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        cluster.post(MAPS, json!({"metadata": {"name": name, "labels": {"x": name}}})).await;
    }
    cluster
}

const INITIAL: &str =
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

#[tokio::test]
async fn a_streaming_list_ends_with_the_marked_bookmark_and_goes_on_with_events() {
    let cluster = cluster().await;
    let mut stream = Stream::open(&cluster, INITIAL, "application/json").await;
    assert_eq!(stream.names(2).await, ["ADDED a", "ADDED b"]);
    let mark = stream.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    cluster.delete(&format!("{MAPS}/a")).await;
    let gone = stream.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    let version = |event: &Value| -> u64 {
        event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
    };
    assert!(version(&gone) > version(&mark));
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_at_its_timeout_with_a_bookmark_of_where_it_was() {
    let cluster = cluster().await;
    let query = "resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=5&labelSelector=x%3Db";
    let mut stream = Stream::open(&cluster, query, "application/json").await;
    assert_eq!(stream.names(1).await, ["ADDED b"]);
    let last = stream.next().await.unwrap();
    assert_eq!(last["type"], "BOOKMARK");
    let now = cluster.get(MAPS).await["metadata"]["resourceVersion"].clone();
    assert_eq!(last["object"]["metadata"]["resourceVersion"], now);
    assert_eq!(stream.next().await, None);
}

/// A bookmark there would make the client go on behind what it never saw. Which of the things that
/// have come to pass is looked at first is drawn by lot, so there are several watches.
#[tokio::test(start_paused = true)]
async fn a_watch_that_fell_behind_ends_without_a_bookmark() {
    let cluster = cluster().await;
    let query = "allowWatchBookmarks=true&timeoutSeconds=3600";
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(Stream::open(&cluster, query, "application/json").await);
    }
    let store = &cluster.api.server.store;
    for _ in 0..9000 {
        let text = r#"{"metadata":{"name":"c","namespace":"default"}}"#;
        store.commit(mvcc::Txn::put("core/configmaps/default/c", text)).await.unwrap();
    }
    for stream in &mut streams {
        // Two that were there, and as many as may wait.
        for _ in 0..2 + 8192 {
            assert_ne!(stream.next().await.unwrap()["type"], "BOOKMARK");
        }
        tokio::time::advance(std::time::Duration::from_secs(61)).await;
        assert_eq!(stream.next().await, None, "it was cancelled");
    }
}

#[tokio::test]
async fn a_table_watch_names_its_columns_once() {
    let cluster = cluster().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut stream = Stream::open(&cluster, "resourceVersion=0", accept).await;
    let (first, second) = (stream.next().await.unwrap(), stream.next().await.unwrap());
    assert_eq!(first["object"]["columnDefinitions"][1]["name"], "Data");
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn tables_and_metadata_are_told_in_the_version_that_was_asked_for() {
    let cluster = cluster().await;
    let old = "meta.k8s.io/v1beta1";
    let partial = "application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io";
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let accept = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    let mut stream = Stream::open(&cluster, query, accept).await;
    for kind in ["ADDED", "ADDED", "BOOKMARK"] {
        let event = stream.next().await.unwrap();
        let (table, row) = (&event["object"], &event["object"]["rows"][0]["object"]);
        assert_eq!((&event["type"], &table["kind"]), (&json!(kind), &json!("Table")));
        assert_eq!((&table["apiVersion"], &row["apiVersion"]), (&json!(old), &json!(old)));
    }
    let mut stream = Stream::open(&cluster, query, partial).await;
    for _ in 0..3 {
        let event = stream.next().await.unwrap();
        assert_eq!(event["object"]["apiVersion"], old, "{event}");
        assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    }
    let of = |form: &str| format!("application/json;as={form};v=v1beta1;g=meta.k8s.io");
    let lists = [("Table", "rows"), ("PartialObjectMetadataList", "items")];
    for (form, items) in lists {
        let (_, list) = cluster.send("GET", MAPS, &[(http::header::ACCEPT, &of(form))], "").await;
        assert_eq!((&list["apiVersion"], &list["kind"]), (&json!(old), &json!(form)));
        assert_eq!(list[items].as_array().map(Vec::len), Some(2));
    }
    let protobuf = partial.replace("json", "vnd.kubernetes.protobuf").replace("data;", "dataList;");
    let (_, list) = cluster.exchange("GET", MAPS, &[(http::header::ACCEPT, &protobuf)], "").await;
    let list = kube_protobuf::decode(&list).unwrap();
    assert_eq!(
        (&list["apiVersion"], &list["items"][1]["metadata"]["name"]),
        (&json!(old), &json!("b"))
    );
}

#[tokio::test]
async fn a_watch_from_a_compacted_revision_is_told_in_its_stream_that_it_is_gone() {
    let cluster = cluster().await;
    let store = &cluster.api.server.store;
    store.compact(store.revision()).await.unwrap();
    let (head, gone) =
        cluster.send("GET", &format!("{MAPS}?watch=1&resourceVersion=2"), &[], "").await;
    assert_eq!((head.status.as_u16(), &gone["type"]), (200, &json!("ERROR")), "{gone}");
    let (code, reason) = (&gone["object"]["code"], &gone["object"]["reason"]);
    assert_eq!((code, reason), (&json!(410), &json!("Expired")));
    let list = cluster.get(&format!("{MAPS}?resourceVersion=2&resourceVersionMatch=Exact")).await;
    assert_eq!(list["code"], 410);
}

#[tokio::test(start_paused = true)]
async fn the_longest_timeout_that_can_be_written_is_no_panic() {
    let cluster = cluster().await;
    let query = "resourceVersion=0&timeoutSeconds=18446744073709551615";
    let mut stream = Stream::open(&cluster, query, "application/json").await;
    assert_eq!(stream.names(2).await, ["ADDED a", "ADDED b"]);
}

#[tokio::test]
async fn a_version_from_the_future_is_not_there_yet() {
    let cluster = cluster().await;
    let early = cluster.get(&format!("{MAPS}?resourceVersion=99999")).await;
    assert_eq!(early["code"], 504);
    assert!(early["message"].as_str().unwrap().starts_with("Too large resource version"));
}

#[tokio::test]
async fn initial_events_need_their_match() {
    let cluster = cluster().await;
    let refused = cluster.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(refused["code"], 422);
}

/// What an informer holds: names and versions.
type Cache = std::collections::BTreeMap<String, String>;

fn entry(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    (text("name"), text("resourceVersion"))
}

/// Lists, then watches until there is nothing more to see, however often it must begin anew.
async fn follow(cluster: &Cluster, cache: &mut Cache, version: &mut String, events: usize) {
    if version.is_empty() {
        let list = cluster.get(MAPS).await;
        *cache = list["items"].as_array().unwrap().iter().map(entry).collect();
        *version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    }
    let query = format!("resourceVersion={version}&timeoutSeconds=1&allowWatchBookmarks=true");
    let Some(mut stream) = Stream::try_open(cluster, &query, "application/json").await else {
        // Gone: the next time begins with a list.
        version.clear();
        return;
    };
    for _ in 0..events {
        let Some(event) = stream.next().await else { return };
        let (name, at) = match event["type"].as_str().unwrap() {
            "BOOKMARK" => {
                *version = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().into();
                continue;
            }
            "DELETED" => {
                let (name, at) = entry(&event["object"]);
                cache.remove(&name);
                *version = at;
                continue;
            }
            _ => entry(&event["object"]),
        };
        version.clone_from(&at);
        cache.insert(name, at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_cut_off_again_and_again_ends_equal_to_the_store() {
    let limits = mvcc::Limits { history_events: 12, history_bytes: 1 << 20 };
    let cluster = Cluster::over(mvcc::Store::memory_with(limits)).await;
    let (mut cache, mut version) = (Cache::new(), String::new());
    let mut seed = 7_u64;
    for round in 0..25 {
        for _ in 0..round % 9 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let name = format!("m{}", (seed >> 33) % 6);
            let path = format!("{MAPS}/{name}");
            let body = json!({"metadata": {"name": name}, "data": {"n": seed.to_string()}});
            match (seed >> 40) % 3 {
                0 => drop(cluster.delete(&path).await),
                1 => drop(cluster.post(MAPS, body).await),
                _ => drop(cluster.put(&path, body).await),
            }
        }
        follow(&cluster, &mut cache, &mut version, round % 4).await;
    }
    // Undisturbed, it catches up: a list if it must, then everything until the watch times out.
    for _ in 0..3 {
        follow(&cluster, &mut cache, &mut version, usize::MAX).await;
    }
    let list = cluster.get(MAPS).await;
    let stored: Cache = list["items"].as_array().unwrap().iter().map(entry).collect();
    assert_eq!(cache, stored);
}

#[tokio::test]
async fn a_watch_of_one_name_shows_nothing_else() {
    let cluster = cluster().await;
    let path = "/api/v1/watch/namespaces/default/configmaps/b";
    let request = Request::get(path).body(transport::empty()).unwrap();
    let service = cluster.api.service_as(UserInfo::master("admin"));
    let body = service.oneshot(request).await.unwrap().into_body();
    let mut stream = Stream { body, text: String::new() };
    assert_eq!(stream.names(1).await, ["ADDED b"]);
    cluster.post(MAPS, json!({"metadata": {"name": "c"}})).await;
    cluster.delete(&format!("{MAPS}/b")).await;
    assert_eq!(stream.names(1).await, ["DELETED b"]);

    let got = cluster.get(&format!("{MAPS}/a?watch=true")).await;
    assert_eq!(
        (got["kind"].as_str(), got["metadata"]["name"].as_str()),
        (Some("ConfigMap"), Some("a"))
    );
    let other = cluster.get(&format!("{path}?fieldSelector=metadata.name%3Da")).await;
    assert_eq!(other["code"], 400, "{other}");
}
