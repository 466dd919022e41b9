//! Watches, byte for byte: initial events, bookmarks, tables, expiry.

use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use transport::Body;

use super::Cluster;
use crate::request::UserInfo;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A watch's stream, read line by line.
struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    async fn open(cluster: &Cluster, query: &str, accept: &str) -> Self {
        let request = Request::get(format!("{MAPS}?watch=1&{query}")).header("accept", accept);
        let request = request.body(transport::empty()).unwrap();
        let service = cluster.api.service_as(UserInfo::master("admin"));
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        while !self.text.contains('\n') {
            let data = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
        let (line, rest) = self.text.split_once('\n').unwrap();
        let event = serde_json::from_str(line).unwrap();
        self.text = rest.to_owned();
        Some(event)
    }

    async fn names(&mut self, count: usize) -> Vec<String> {
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
async fn a_watch_from_a_compacted_revision_is_gone() {
    let cluster = cluster().await;
    let store = &cluster.api.server.store;
    store.compact(store.revision()).await.unwrap();
    let gone = cluster.get(&format!("{MAPS}?watch=1&resourceVersion=2")).await;
    assert_eq!((gone["code"].clone(), gone["reason"].clone()), (json!(410), json!("Expired")));
    let list = cluster.get(&format!("{MAPS}?resourceVersion=2&resourceVersionMatch=Exact")).await;
    assert_eq!(list["code"], 410);
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
