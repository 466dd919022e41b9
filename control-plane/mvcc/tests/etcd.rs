//! The store over a real etcd (Debian's package etcd-server). Where it is not installed nothing runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use free_port::free_port;
use mvcc::{CommitError, EtcdConfig, Guard, Limits, Op, Store, Txn};

const PATIENCE: Duration = Duration::from_secs(20);

/// One member on this machine; killed with the test.
struct Etcd {
    child: Child,
    port: u16,
    peer_port: u16,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Etcd {
    /// `None` where etcd is not installed.
    fn start(folder: &Path) -> Option<Self> {
        Self::on(folder, free_port(), free_port())
    }

    fn on(folder: &Path, port: u16, peer_port: u16) -> Option<Self> {
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let started = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder)
            .args(["--name", "one", "--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => Some(Self { child, port, peer_port }),
            Err(_) => {
                eprintln!("not run: there is no etcd (apt-get install etcd-server)");
                None
            }
        }
    }

    fn config(&self, prefix: &str) -> EtcdConfig {
        EtcdConfig {
            // The first member is never there.
            endpoints: vec!["http://127.0.0.1:1".to_owned(), self.endpoint()],
            tls: None,
            prefix: prefix.to_owned(),
        }
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The store, as soon as etcd answers.
    async fn store(&self, prefix: &str) -> Store {
        let opened = async {
            loop {
                match Store::etcd(self.config(prefix)).await {
                    Ok(store) => return store,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("etcd answers")
    }
}

/// Commits until etcd is there again.
async fn commit(store: &Store, txn: Txn) -> u64 {
    let committed = async {
        loop {
            match store.commit(txn.clone()).await {
                Err(CommitError::Etcd { .. }) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done => return done.unwrap(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, committed).await.expect("etcd is back")
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_have_etcds_revisions_and_are_there_for_the_next_store() {
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::start(folder.path()) else { return };
    let store = etcd.store("/nst-t/").await;
    let mut watcher = store.watch("core/maps/", store.revision()).unwrap();
    let first = store.commit(Txn::create("core/maps/default/a", "1")).await.unwrap();
    assert_eq!(store.get("core/maps/default/a").unwrap().value, "1", "who wrote reads it");
    let second = store.commit(Txn::update("core/maps/default/a", first, "2")).await.unwrap();
    assert_eq!(second, first + 1);

    let stale = store.commit(Txn::update("core/maps/default/a", first, "3")).await.unwrap_err();
    let CommitError::Conflict { key, current } = stale else { panic!("{stale:?}") };
    assert_eq!((key.as_str(), current.unwrap().mod_revision), ("core/maps/default/a", second));
    let again = store.commit(Txn::create("core/maps/default/a", "4")).await.unwrap_err();
    assert!(matches!(again, CommitError::Conflict { current: Some(_), .. }), "{again:?}");

    // One revision for all of a commit, and none for one that changes nothing.
    let both = Txn {
        guards: vec![Guard::Absent("core/maps/default/b".into())],
        ops: vec![
            Op::Put("core/maps/default/b".into(), "1".into()),
            Op::Delete("core/maps/default/a".into()),
        ],
    };
    let third = store.commit(both).await.unwrap();
    let nothing = Txn { guards: Vec::new(), ops: vec![Op::Delete("core/maps/default/zz".into())] };
    assert_eq!(store.commit(nothing).await.unwrap(), third);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = watcher.next().await.unwrap();
        seen.push((event.revision, event.key.to_string(), event.record.is_some()));
    }
    seen.sort();
    let event = |revision, key: &str, is_there| (revision, key.to_owned(), is_there);
    assert_eq!(
        seen,
        [
            event(first, "core/maps/default/a", true),
            event(second, "core/maps/default/a", true),
            event(third, "core/maps/default/a", false),
            event(third, "core/maps/default/b", true),
        ]
    );
    let past = store.range("core/maps/", None, None, Some(second)).unwrap();
    assert_eq!(past.records.len(), 1, "a read of the past");

    let next = etcd.store("/nst-t/").await;
    let record = next.get("core/maps/default/b").unwrap();
    assert_eq!((record.create_revision, record.mod_revision), (third, third));
    let mut again = next.watch("core/maps/", first).unwrap();
    let event = again.next().await.unwrap();
    assert_eq!((event.revision, &*event.key), (second, "core/maps/default/a"));
    let before = event.previous.as_ref().unwrap();
    assert_eq!((before.mod_revision, &*before.value), (first, &b"1"[..]), "with what was before");
    assert!(etcd.store("/nst-other/").await.scan("core/maps/").is_empty(), "prefixes are apart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_opened_has_the_history_that_etcd_has_and_no_more_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::start(folder.path()) else { return };
    let store = etcd.store("/nst-t/").await;
    let mut revisions = Vec::new();
    for count in 0..20 {
        revisions.push(commit(&store, Txn::put("core/maps/default/a", count.to_string())).await);
    }
    let gone =
        commit(&store, Txn { guards: vec![], ops: vec![delete("core/maps/default/a")] }).await;
    let last = revisions[19];
    let whole = etcd.store("/nst-t/").await;
    let now = whole.revision();
    assert_eq!(now, gone + 1, "that of its mark");
    let past = whole.range("core/maps/", None, None, Some(revisions[7])).unwrap();
    assert_eq!(past.records[0].value, "7");
    let mut watcher = whole.watch("core/maps/", revisions[7]).unwrap();
    for revision in revisions[8..].iter().chain([&gone]) {
        assert_eq!(watcher.next().await.unwrap().revision, *revision);
    }

    let few = Limits { history_events: 4, history_bytes: 1 << 20 };
    let small = Store::etcd_with(etcd.config("/nst-t/"), few).await.unwrap();
    assert!(small.watch("core/maps/", now - 4).is_ok());
    assert!(small.watch("core/maps/", now - 5).is_err(), "that much is kept");
    assert!(small.range("core/maps/", None, None, Some(last)).unwrap().records.len() == 1);

    store.compact(revisions[10]).await.unwrap();
    let compacted = etcd.store("/nst-t/").await;
    assert!(compacted.watch("core/maps/", revisions[9]).is_err());
    let mut watcher = compacted.watch("core/maps/", revisions[10]).unwrap();
    assert_eq!(watcher.next().await.unwrap().revision, revisions[11]);
}

fn delete(key: &str) -> Op {
    Op::Delete(key.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_present_gets_it_whoever_writes_to_the_same_etcd() {
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::start(folder.path()) else { return };
    let (one, other) = (etcd.store("/nst-t/").await, etcd.store("/nst-t/").await);
    let foreign = etcd.store("/nst-other/").await;
    for round in 0..15 {
        // The cluster's revision is above all that the other store's watch will bring.
        let both = async {
            let put = Txn::put("core/maps/default/a", round.to_string());
            let revision = one.commit(put).await.unwrap();
            foreign.commit(Txn::put("core/maps/default/x", "1")).await.unwrap();
            revision
        };
        let revision = both.await;
        assert!(other.sync_key("core/maps/default/a").await.unwrap() >= revision);
        let found = other.get("core/maps/default/a").unwrap();
        assert_eq!(found.mod_revision, revision, "round {round}");

        let gone = one.commit(Txn::delete("core/maps/default/a", revision)).await.unwrap();
        foreign.commit(Txn::put("core/maps/default/x", "2")).await.unwrap();
        assert!(other.sync_prefix("core/maps/").await.unwrap() > gone);
        assert!(other.scan("core/maps/").is_empty(), "round {round}");
        assert!(other.revision() <= gone, "nothing has told it of foreign revisions");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_see_each_others_commits_and_respect_their_guards() {
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::start(folder.path()) else { return };
    let (one, other) = (etcd.store("/nst-t/").await, etcd.store("/nst-t/").await);
    let first = one.commit(Txn::create("core/maps/default/a", "1")).await.unwrap();
    eventually("the other store sees it", || other.get("core/maps/default/a").is_some()).await;
    let second = other.commit(Txn::update("core/maps/default/a", first, "2")).await.unwrap();
    let stale = one.commit(Txn::update("core/maps/default/a", first, "3")).await;
    assert!(matches!(stale, Err(CommitError::Conflict { .. })), "{stale:?}");
    let found = one.get("core/maps/default/a").unwrap();
    assert_eq!(found.mod_revision, second, "who was refused finds what refused him");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_without_loss_where_etcd_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::start(folder.path()) else { return };
    let store = etcd.store("/nst-t/").await;
    let mut watcher = store.watch("core/maps/", store.revision()).unwrap();
    commit(&store, Txn::put("core/maps/default/a", "1")).await;
    let (port, peer_port) = (etcd.port, etcd.peer_port);
    drop(etcd);
    let refused = store.commit(Txn::put("core/maps/default/a", "2")).await;
    assert!(matches!(refused, Err(CommitError::Etcd { .. })), "{refused:?}");
    assert_eq!(store.get("core/maps/default/a").unwrap().value, "1", "reads go on");
    let _etcd = Etcd::on(folder.path(), port, peer_port);
    commit(&store, Txn::put("core/maps/default/a", "3")).await;
    for wanted in ["1", "3"] {
        let event = watcher.next().await.unwrap();
        assert_eq!(event.record.as_ref().unwrap().value, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcd_compacted_meanwhile_is_read_anew_and_watchers_learn_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::start(folder.path()) else { return };
    let store = etcd.store("/nst-t/").await;
    let before = commit(&store, Txn::put("core/maps/default/a", "1")).await;
    let mut watcher = store.watch("core/maps/", store.revision()).unwrap();
    let (port, peer_port) = (etcd.port, etcd.peer_port);
    drop(etcd);
    // Where this store does not see it.
    let elsewhere = Etcd::on(folder.path(), free_port(), peer_port).unwrap();
    let writer = elsewhere.store("/nst-t/").await;
    commit(&writer, Txn::put("core/maps/default/a", "2")).await;
    let last = commit(&writer, Txn::put("core/maps/default/b", "1")).await;
    writer.compact(last).await.unwrap();
    drop(elsewhere);
    let _etcd = Etcd::on(folder.path(), port, peer_port);
    eventually("all is read anew", || store.revision() >= last).await;
    assert_eq!(store.get("core/maps/default/a").unwrap().value, "2");
    assert!(store.get("core/maps/default/b").is_some());
    assert!(watcher.next().await.is_none(), "it was let go");
    assert!(store.watch("core/maps/", before).is_err(), "and its revision is gone");
    assert!(store.watch("core/maps/", last).is_ok());
}
