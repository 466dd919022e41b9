//! A client's cache, fed by lists and watches: whatever becomes of its connections, of the server and of
//! the history, it ends equal to the store.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use futures::FutureExt;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{Cluster, watches::Stream};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Little, so that what a client was at is often gone.
const LIMITS: mvcc::Limits = mvcc::Limits { history_events: 10, history_bytes: 1 << 20 };

#[derive(Clone, Debug)]
enum Step {
    /// Which object, and whether clients that select see it.
    Write(u8, bool),
    Delete(u8),
    /// A client takes as many events.
    Take(usize, usize),
    /// A client's connection is dropped.
    Drop(usize),
    Compact,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6_u8, any::<bool>()).prop_map(|(name, is_seen)| Step::Write(name, is_seen)),
        4 => (0..6_u8).prop_map(Step::Delete),
        6 => (0..4_usize, 0..5_usize).prop_map(|(client, events)| Step::Take(client, events)),
        3 => (0..4_usize).prop_map(Step::Drop),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

/// What is cached of an object.
type Known = BTreeMap<String, (String, Value)>;

fn entry(object: &Value) -> (String, (String, Value)) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    (text("name"), (text("resourceVersion"), object["data"].clone()))
}

/// One client, as informers are.
struct Client {
    selector: &'static str,
    /// It begins with a streaming list, not with pages.
    is_streaming: bool,
    known: Known,
    /// Where it goes on; `None`: it begins anew.
    version: Option<String>,
    stream: Option<Stream>,
    /// Of a streaming list that is under way.
    fresh: Option<Known>,
}

impl Client {
    fn new(selector: &'static str, is_streaming: bool) -> Self {
        let (known, version, stream, fresh) = (Known::new(), None, None, None);
        Self { selector, is_streaming, known, version, stream, fresh }
    }

    /// Pages of two. `None`: the list got too old on the way.
    async fn list(&self, cluster: &Cluster) -> Option<(Known, String)> {
        let (mut known, mut token) = (Known::new(), String::new());
        loop {
            let query = format!("labelSelector={}&limit=2&continue={token}", self.selector);
            let page = cluster.get(&format!("{MAPS}?{query}")).await;
            if page["code"] == 410 {
                return None;
            }
            known.extend(page["items"].as_array().unwrap().iter().map(entry));
            match page["metadata"]["continue"].as_str() {
                Some(next) => token = next.to_owned(),
                None => return Some((known, page["metadata"]["resourceVersion"].as_str()?.into())),
            }
        }
    }

    async fn connect(&mut self, cluster: &Cluster) {
        let mut query = format!("labelSelector={}&allowWatchBookmarks=true", self.selector);
        if self.version.is_none() && self.is_streaming {
            query += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
            self.fresh = Some(Known::new());
        } else if self.version.is_none() {
            let Some((known, version)) = self.list(cluster).await else { return };
            (self.known, self.version) = (known, Some(version));
        }
        if let Some(version) = &self.version {
            query += &format!("&resourceVersion={version}");
        }
        self.stream = Stream::try_open(cluster, &query, "application/json").await;
        if self.stream.is_none() {
            // What it was at is gone.
            self.version = None;
        }
    }

    fn disconnect(&mut self) {
        // A streaming list that was cut off is begun anew.
        (self.stream, self.fresh) = (None, None);
    }

    /// Takes events that are there. Says whether none was left.
    async fn take(&mut self, cluster: &Cluster, events: usize) -> bool {
        if self.stream.is_none() {
            self.connect(cluster).await;
        }
        for _ in 0..events {
            let Some(stream) = &mut self.stream else { return false };
            match stream.next().now_or_never() {
                None => return true,
                Some(None) => self.disconnect(),
                Some(Some(event)) => self.learn(&event),
            }
        }
        false
    }

    fn learn(&mut self, event: &Value) {
        let object = &event["object"];
        let version = object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        if event["type"] == "BOOKMARK" {
            let is_end = object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
            if let Some(fresh) = self.fresh.take_if(|_| is_end) {
                self.known = fresh;
            }
        } else {
            let known = self.fresh.as_mut().unwrap_or(&mut self.known);
            let (name, held) = entry(object);
            match event["type"].as_str().unwrap() {
                "ADDED" | "MODIFIED" => drop(known.insert(name, held)),
                "DELETED" => drop(known.remove(&name)),
                other => panic!("{other}: {event}"),
            }
        }
        if self.fresh.is_none() {
            self.version = Some(version);
        }
    }
}

/// A store in which a server has started once.
fn template() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        drop(runtime().block_on(cluster(&path)));
        std::fs::read(&path).unwrap()
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn cluster(path: &Path) -> Cluster {
    Cluster::over(mvcc::Store::open_with(path, LIMITS).unwrap()).await
}

async fn write(cluster: &Cluster, name: u8, is_seen: bool, value: usize) {
    let labels = if is_seen { json!({"x": "1"}) } else { json!({}) };
    let body = json!({"metadata": {"name": format!("m{name}"), "labels": labels},
        "data": {"n": value.to_string()}});
    let (code, _) = cluster.put(&format!("{MAPS}/m{name}"), body.clone()).await;
    if code == 404 {
        assert_eq!(cluster.post(MAPS, body).await.0, 201);
    }
}

async fn run(steps: Vec<Step>, path: PathBuf) {
    let mut server = cluster(&path).await;
    let mut clients = [
        Client::new("", false),
        Client::new("x%3D1", false),
        Client::new("", true),
        Client::new("x%3D1", true),
    ];
    for (value, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write(name, is_seen) => write(&server, name, is_seen, value).await,
            Step::Delete(name) => drop(server.delete(&format!("{MAPS}/m{name}")).await),
            Step::Take(client, events) => {
                clients[client].take(&server, events).await;
            }
            Step::Drop(client) => clients[client].disconnect(),
            Step::Compact => {
                let store = &server.api.server.store;
                store.compact(store.revision()).await.unwrap();
            }
            Step::Restart => {
                clients.iter_mut().for_each(Client::disconnect);
                drop(server);
                server = cluster(&path).await;
            }
        }
    }
    for client in &mut clients {
        let mut rounds = 0;
        while !client.take(&server, 1000).await {
            rounds += 1;
            assert!(rounds < 10, "it never catches up");
        }
        assert!(client.fresh.is_none(), "the streaming list has ended");
        let list = server.get(&format!("{MAPS}?labelSelector={}", client.selector)).await;
        let stored: Known = list["items"].as_array().unwrap().iter().map(entry).collect();
        assert_eq!(client.known, stored, "{} {}", client.selector, client.is_streaming);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn a_cache_ends_equal_to_the_store(steps in vec(step(), 10..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        std::fs::write(&path, template()).unwrap();
        runtime().block_on(run(steps, path));
    }
}
