//! Two stores over three members of etcd, of which one is killed while clients write: nothing that was
//! acknowledged is lost, and some order explains all that anybody saw.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lifecycle::Scope;
use mvcc::{CommitError, EtcdConfig, Op, Store, Txn};
use parking_lot::Mutex;
use store_histories::{Answer, Ask, Cluster, Recorder, check};
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const KEYS: u64 = 5;
const CLIENTS: usize = 6;
/// After an error, so that an outage is not one long list of errors.
const PAUSE: Duration = Duration::from_millis(50);

fn config(endpoints: Vec<String>) -> EtcdConfig {
    EtcdConfig { endpoints, tls: None, prefix: "/nst-t/".to_owned() }
}

async fn open(endpoints: Vec<String>) -> Store {
    let opened = async {
        loop {
            match Store::etcd(config(endpoints.clone())).await {
                Ok(store) => return store,
                Err(_) => sleep(PAUSE).await,
            }
        }
    };
    timeout(PATIENCE, opened).await.expect("etcd answers")
}

/// What all clients share.
#[derive(Default)]
struct Notes {
    recorder: Recorder,
    values: AtomicU64,
    /// What was created once, under a name of its own, and acknowledged.
    created: Mutex<BTreeMap<String, u64>>,
}

fn key(number: u64) -> String {
    format!("core/maps/default/{number}")
}

fn held(store: &Store, key: &str) -> Option<u64> {
    store.get(key).map(|it| std::str::from_utf8(&it.value).unwrap().parse().unwrap())
}

/// One client: reads, writes, deletes, compares and sets, lists and creates, drawn by lot.
async fn client(store: Store, notes: Arc<Notes>, mut seed: u64) {
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = seed >> 33;
        let key = key(draw % KEYS);
        let is_well = match (draw >> 8) % 10 {
            0..=2 => read(&store, &notes, &key).await,
            3..=4 => write(&store, &notes, &key, true).await,
            5 => write(&store, &notes, &key, false).await,
            6..=7 => swap(&store, &notes, &key).await,
            8 => list(&store, &notes).await,
            _ => create(&store, &notes).await,
        };
        if !is_well {
            sleep(PAUSE).await;
        }
    }
}

async fn read(store: &Store, notes: &Notes, key: &str) -> bool {
    let ticket = notes.recorder.begin(key, Ask::Read);
    let is_fresh = store.sync_key(key).await.is_ok();
    if is_fresh {
        notes.recorder.end(&ticket, Answer::Found(held(store, key)));
    }
    is_fresh
}

/// A list reads all keys at once; each of them is a read.
async fn list(store: &Store, notes: &Notes) -> bool {
    let begin = |number| (key(number), notes.recorder.begin(&key(number), Ask::Read));
    let tickets: Vec<_> = (0..KEYS).map(begin).collect();
    if store.sync_prefix("core/maps/").await.is_err() {
        return false;
    }
    let records = store.range("core/maps/", None, None, None).unwrap().records;
    for (key, ticket) in tickets {
        let found = records.iter().find(|it| *it.key == *key);
        let found = found.map(|it| std::str::from_utf8(&it.value).unwrap().parse().unwrap());
        notes.recorder.end(&ticket, Answer::Found(found));
    }
    true
}

async fn write(store: &Store, notes: &Notes, key: &str, is_put: bool) -> bool {
    let value = is_put.then(|| notes.values.fetch_add(1, Ordering::Relaxed));
    let op = match value {
        Some(value) => Op::Put(key.to_owned(), value.to_string().into()),
        None => Op::Delete(key.to_owned()),
    };
    let ticket = notes.recorder.begin(key, Ask::Write(value));
    let done = store.commit(Txn { guards: Vec::new(), ops: vec![op] }).await;
    if done.is_ok() {
        notes.recorder.end(&ticket, Answer::Done);
    }
    done.is_ok()
}

async fn swap(store: &Store, notes: &Notes, key: &str) -> bool {
    // Of memory, which may be behind: then etcd refuses.
    let Some(record) = store.get(key) else { return true };
    let expected = std::str::from_utf8(&record.value).unwrap().parse().ok();
    let to = notes.values.fetch_add(1, Ordering::Relaxed);
    let ticket = notes.recorder.begin(key, Ask::Swap { expected, to: Some(to) });
    match store.commit(Txn::update(key, record.mod_revision, to.to_string())).await {
        Ok(_) => notes.recorder.end(&ticket, Answer::Done),
        Err(CommitError::Conflict { .. }) => notes.recorder.end(&ticket, Answer::Refused),
        Err(_) => return false,
    }
    true
}

async fn create(store: &Store, notes: &Notes) -> bool {
    let value = notes.values.fetch_add(1, Ordering::Relaxed);
    let key = format!("core/once/default/{value}");
    let done = store.commit(Txn::create(&*key, value.to_string())).await;
    if done.is_ok() {
        notes.created.lock().insert(key, value);
    }
    done.is_ok()
}

/// Waits until this many more operations were answered.
async fn progress(notes: &Notes, more: usize) {
    let wanted = notes.recorder.answered() + more;
    let waited = async {
        while notes.recorder.answered() < wanted {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waited).await.expect("clients get on");
}

async fn leader(cluster: &Cluster) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(leader) = cluster.leader() {
            return leader;
        }
        assert!(Instant::now() < deadline, "nobody leads");
        sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_loses_nothing_and_all_reads_and_writes_are_linearizable() {
    let Some(mut cluster) = Cluster::start(3).unwrap() else { return };
    let stores = [open(cluster.endpoints(0)).await, open(cluster.endpoints(1)).await];
    let (notes, scope) = (Arc::new(Notes::default()), Scope::new());
    for number in 0..CLIENTS {
        let store = stores[number % stores.len()].clone();
        drop(scope.spawn("client", client(store, notes.clone(), number as u64)));
    }
    progress(&notes, 100).await;
    let first = leader(&cluster).await;
    cluster.kill(first);
    progress(&notes, 100).await;
    let second = leader(&cluster).await;
    assert_ne!(second, first);
    cluster.restart(first).unwrap();
    progress(&notes, 50).await;
    // The third one: neither led before.
    let third = (0..3).find(|it| ![first, second].contains(it)).unwrap();
    cluster.kill(third);
    progress(&notes, 100).await;
    assert!(scope.drain(PATIENCE).await, "clients end");
    drop(stores);

    // Who comes later, over the members that are left.
    let store = open(cluster.endpoints(third + 1)).await;
    let created = std::mem::take(&mut *notes.created.lock());
    assert!(!created.is_empty());
    for (key, value) in &created {
        assert_eq!(held(&store, key), Some(*value), "`{key}` was acknowledged");
    }
    assert!(list(&store, &notes).await);
    let keys = notes.recorder.keys();
    assert_eq!(keys.len() as u64, KEYS);
    if let Err(violation) = check(&keys) {
        panic!("{violation}");
    }
}
