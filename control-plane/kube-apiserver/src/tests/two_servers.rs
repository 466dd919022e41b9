//! Two API servers over one etcd (Debian's package etcd-server). Where it is not installed nothing runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use lifecycle::Scope;
use mvcc::{EtcdConfig, Store, Txn};
use serde_json::{Value, json};
use store_histories::{Answer, Ask, Cluster as Etcd, Recorder, check};
use tokio::time::{sleep, timeout};

use super::{Cluster, watches::Stream};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PATIENCE: Duration = Duration::from_secs(30);

async fn store(etcd: &Etcd, prefix: &str) -> Store {
    let config =
        || EtcdConfig { endpoints: etcd.endpoints(0), tls: None, prefix: prefix.to_owned() };
    let opened = async {
        loop {
            match Store::etcd(config()).await {
                Ok(store) => return store,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(PATIENCE, opened).await.expect("etcd answers")
}

async fn server(etcd: &Etcd) -> Cluster {
    Cluster::over(store(etcd, "/nst-t/").await).await
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_else(|| panic!("{object}"))
}

fn map(name: &str, value: u64) -> Value {
    json!({"metadata": {"name": name}, "data": {"n": value.to_string()}})
}

/// Another cluster's writes: the revisions of etcd are not only of this one's keys.
async fn disturb(store: Store) {
    for count in 0_u64.. {
        drop(store.commit(Txn::put("core/maps/default/x", count.to_string())).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_has_acknowledged_the_other_knows() {
    let Some(etcd) = Etcd::start(1).unwrap() else { return };
    let (one, other) = (server(&etcd).await, server(&etcd).await);
    let scope = Scope::new();
    for round in 0..12_u64 {
        if round == 6 {
            drop(scope.spawn("another cluster", disturb(store(&etcd, "/nst-other/").await)));
        }
        let (one, other) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        // What is read, listed and watched is what was written.
        let name = format!("m{round}");
        let path = format!("{MAPS}/{name}");
        let (code, made) = one.post(MAPS, map(&name, 0)).await;
        assert_eq!(code, 201, "{made}");
        assert_eq!(version(&other.get(&path).await), version(&made), "round {round}");
        let query = format!("resourceVersion={}", version(&made));
        let mut watch = Stream::open(other, &query, "application/json").await;

        let mut changed = made.clone();
        changed["data"]["n"] = "1".into();
        let (code, second) = one.put(&path, changed.clone()).await;
        assert_eq!(code, 200, "{second}");
        let list = other.get(MAPS).await;
        let items = list["items"].as_array().unwrap().iter();
        let listed: Vec<_> = items.filter(|it| it["metadata"]["name"] == *name).collect();
        assert_eq!(version(listed[0]), version(&second), "round {round}");
        let number = |it: &Value| version(it).parse::<u64>().unwrap();
        assert!(number(&list) >= number(&second));

        // A conflict is one, and a version that is right is none.
        let (code, refused) = other.put(&path, changed).await;
        assert_eq!((code.as_u16(), &refused["reason"]), (409, &json!("Conflict")), "{refused}");
        let (code, third) = other.put(&path, second).await;
        assert_eq!(code, 200, "{third}");
        let patch = json!({"metadata": {"resourceVersion": version(&third)}, "data": {"n": "2"}});
        let (code, fourth) = one.patch(&path, "merge-patch+json", patch).await;
        assert_eq!(code, 200, "{fourth}");
        let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"m": "3"}});
        let applied = format!("{path}?fieldManager=m");
        assert_eq!(other.patch(&applied, "apply-patch+yaml", apply).await.0, 200);

        // What is gone is gone, and can be made again.
        assert_eq!(one.delete(&path).await.0, 200);
        assert_eq!(other.get(&path).await["code"], 404, "round {round}");
        assert_eq!(other.delete(&path).await.0, 404);
        assert_eq!(one.post(MAPS, map(&name, 4)).await.0, 201);
        assert_eq!(other.delete(&path).await.0, 200);
        assert_eq!(one.post(MAPS, map(&name, 5)).await.0, 201);
        let (code, clash) = other.post(MAPS, map(&name, 6)).await;
        assert_eq!((code.as_u16(), &clash["reason"]), (409, &json!("AlreadyExists")), "{clash}");

        let expected = ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED", "ADDED", "DELETED", "ADDED"];
        let seen = timeout(PATIENCE, watch.names(expected.len())).await.expect("the watch tells");
        assert_eq!(seen, expected.map(|it| format!("{it} {name}")), "round {round}");

        // A namespace that the other one has just made.
        let space = format!("n{round}");
        let (code, _) = one.post("/api/v1/namespaces", json!({"metadata": {"name": space}})).await;
        assert_eq!(code, 201);
        let maps = format!("/api/v1/namespaces/{space}/configmaps");
        let (code, made) = other.post(&maps, map("a", 0)).await;
        assert_eq!(code, 201, "{made}");
    }
    assert!(scope.drain(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_of_one_server_are_served_by_the_other_and_watches_outlive_a_restart() {
    let Some(etcd) = Etcd::start(1).unwrap() else { return };
    let (one, other) = (server(&etcd).await, server(&etcd).await);
    let scope = Scope::new();
    let keeper = other.api.clone();
    drop(scope.spawn("maintenance", async move { keeper.maintain().await }));
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object",
                "x-kubernetes-preserve-unknown-fields": true}}}],
    }});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(one.post(path, definition).await.0, 201);
    let things = "/apis/example.com/v1/namespaces/default/things";
    let learned = async {
        while other.get(things).await["kind"] != "ThingList" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, learned).await.expect("the other server serves it");
    assert_eq!(other.post(things, json!({"metadata": {"name": "t"}})).await.0, 201);
    assert_eq!(one.get(&format!("{things}/t")).await["kind"], "Thing");
    assert_eq!(one.delete(&format!("{path}/things.example.com")).await.0, 200);
    let forgotten = async {
        while other.serves(things).await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, forgotten).await.expect("the other server serves it no more");
    assert!(scope.drain(PATIENCE).await);

    let (_, first) = one.post(MAPS, map("a", 0)).await;
    let since = version(&first).to_owned();
    one.post(MAPS, map("b", 0)).await;
    one.delete(&format!("{MAPS}/a")).await;
    drop((one, other));
    let again = server(&etcd).await;
    let query = format!("resourceVersion={since}");
    let mut watch = Stream::open(&again, &query, "application/json").await;
    let seen = timeout(PATIENCE, watch.names(2)).await.expect("the watch tells");
    assert_eq!(seen, ["ADDED b", "DELETED a"]);
    let past = again.get(&format!("{MAPS}?{query}&resourceVersionMatch=Exact")).await;
    assert_eq!(past["items"][0]["metadata"]["name"], "a", "a list of before the restart");
}

/// One client of one server: reads, lists, creations, and changes and deletions of what it has read.
async fn client(server: Cluster, recorder: Arc<Recorder>, values: Arc<AtomicU64>, mut seed: u64) {
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = format!("c{}", (seed >> 33) % 4);
        let path = format!("{MAPS}/{name}");
        let read = recorder.begin(&name, Ask::Read);
        let found = match (seed >> 41) % 3 {
            0 => {
                let list = server.get(MAPS).await;
                let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
                let found = items.iter().find(|it| it["metadata"]["name"] == *name);
                found.cloned().unwrap_or(json!({"code": 404}))
            }
            _ => server.get(&path).await,
        };
        let held = found["data"]["n"].as_str().map(|it| it.parse::<u64>().unwrap());
        assert!(held.is_some() || found["code"] == 404, "{found}");
        recorder.end(&read, Answer::Found(held));
        let value = values.fetch_add(1, Ordering::Relaxed);
        let is_deletion = held.is_some() && (seed >> 45).is_multiple_of(4);
        let to = (!is_deletion).then_some(value);
        let swap = recorder.begin(&name, Ask::Swap { expected: held, to });
        let (code, answer) = if held.is_none() {
            server.post(MAPS, map(&name, value)).await
        } else if is_deletion {
            let options = json!({"preconditions": {"resourceVersion": version(&found)}});
            let (head, answer) = server.send("DELETE", &path, &[], options.to_string()).await;
            (head.status, answer)
        } else {
            let mut changed = found.clone();
            changed["data"]["n"] = value.to_string().into();
            server.put(&path, changed).await
        };
        match code.as_u16() {
            200 | 201 => recorder.end(&swap, Answer::Done),
            404 | 409 => recorder.end(&swap, Answer::Refused),
            _ => panic!("{code} {answer}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_writes_through_both_are_linearizable() {
    let Some(etcd) = Etcd::start(1).unwrap() else { return };
    let servers = [server(&etcd).await, server(&etcd).await];
    let (recorder, values) = (Arc::new(Recorder::default()), Arc::new(AtomicU64::new(0)));
    let scope = Scope::new();
    drop(scope.spawn("another cluster", disturb(store(&etcd, "/nst-other/").await)));
    let clients = (0..6_usize).map(|number| {
        let server = Cluster { api: servers[number % 2].api.clone() };
        client(server, recorder.clone(), values.clone(), number as u64)
    });
    let clients = join_all(clients);
    let enough = async {
        while recorder.answered() < 600 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = clients => unreachable!("clients go on for ever"),
        all = timeout(PATIENCE, enough) => all.expect("clients get on"),
    }
    assert!(scope.drain(PATIENCE).await);
    if let Err(violation) = check(&recorder.keys()) {
        panic!("{violation}");
    }
}
