//! What must hold of `src`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;

use super::*;

mod power;

const SMALL: Limits = Limits { history_events: 8, history_bytes: 1 << 20 };

fn put(key: &str, value: &str) -> Txn {
    Txn::put(key, value.to_owned())
}

async fn keys_at(store: &Store, at: u64) -> Vec<String> {
    let range = store.range("a/b/", None, None, Some(at)).unwrap();
    range.records.iter().map(|it| format!("{}={}", it.key, text(it))).collect()
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(&record.value).into_owned()
}

#[tokio::test]
async fn a_guard_that_does_not_hold_changes_nothing() {
    let store = Store::memory();
    let first = store.commit(Txn::create("a/b/k", "1")).await.unwrap();
    for refused in
        [Txn::create("a/b/k", "2"), Txn::update("a/b/k", first + 1, "2"), Txn::delete("a/b/x", 1)]
    {
        let error = store.commit(refused).await.unwrap_err();
        assert!(matches!(error, CommitError::Conflict { .. }));
    }
    assert_eq!(store.revision(), first);
    assert_eq!(text(&store.get("a/b/k").unwrap()), "1");
}

#[tokio::test]
async fn the_past_can_be_read_until_it_is_compacted() {
    let store = Store::memory();
    let one = store.commit(put("a/b/x", "1")).await.unwrap();
    let two = store.commit(put("a/b/y", "2")).await.unwrap();
    let three = store.commit(put("a/b/x", "3")).await.unwrap();
    store.commit(Txn::delete("a/b/y", two)).await.unwrap();
    assert_eq!(keys_at(&store, one).await, ["a/b/x=1"]);
    assert_eq!(keys_at(&store, two).await, ["a/b/x=1", "a/b/y=2"]);
    assert_eq!(keys_at(&store, three).await, ["a/b/x=3", "a/b/y=2"]);
    store.compact(three).await.unwrap();
    assert!(store.range("a/b/", None, None, Some(two)).is_err());
    assert_eq!(keys_at(&store, three).await, ["a/b/x=3", "a/b/y=2"]);
    assert!(store.watch("a/b/", two).is_err());
}

#[tokio::test]
async fn pages_of_one_revision_fit_together_whatever_is_written_between() {
    let store = Store::memory();
    for name in ["a/b/1", "a/b/2", "a/b/3"] {
        store.commit(put(name, "")).await.unwrap();
    }
    let first = store.range("a/b/", None, Some(2), None).unwrap();
    assert_eq!((first.records.len(), first.remaining), (2, 1));
    store.commit(put("a/b/25", "")).await.unwrap();
    store.commit(Txn { guards: vec![], ops: vec![Op::Delete("a/b/3".into())] }).await.unwrap();
    let after = first.records[1].key.clone();
    let rest = store.range("a/b/", Some(&after), Some(2), Some(first.revision)).unwrap();
    assert_eq!(rest.records.iter().map(|it| &*it.key).collect::<Vec<_>>(), ["a/b/3"]);
}

#[tokio::test]
async fn a_watch_resumes_without_loss_or_repetition() {
    let store = Store::memory();
    let one = store.commit(put("a/b/x", "1")).await.unwrap();
    store.commit(put("a/c/other", "1")).await.unwrap();
    store.commit(put("a/b/x", "2")).await.unwrap();
    let mut watcher = store.watch("a/b/", one).unwrap();
    assert_eq!(watcher.progress(), None);
    store.commit(put("a/b/x", "3")).await.unwrap();
    for expected in ["2", "3"] {
        let event = watcher.next().await.unwrap();
        assert_eq!(text(event.record.as_ref().unwrap()), expected);
    }
    assert_eq!(watcher.progress(), Some(store.revision()));
}

#[tokio::test]
async fn a_slow_watcher_is_cancelled_and_the_writer_is_not() {
    let store = Store::memory();
    let mut watcher = store.watch("a/b/", 1).unwrap();
    for count in 0..9000 {
        store.commit(put("a/b/x", &count.to_string())).await.unwrap();
    }
    let mut seen = 0;
    while let Some(event) = watcher.try_next() {
        seen = event.revision;
    }
    assert!((8192..9000).contains(&seen), "saw {seen}");
    assert_eq!(watcher.progress(), None, "it has not seen what came after its cancellation");
    assert!(watcher.next().await.is_none());
}

#[tokio::test]
async fn acknowledged_commits_survive_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds Secrets");
    store.commit(put("a/b/x", "1")).await.unwrap();
    let pair = Txn {
        guards: vec![],
        ops: vec![Op::Put("a/b/y".into(), "2".into()), Op::Put("a/b/z".into(), "3".into())],
    };
    let before = store.commit(pair).await.unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.revision(), before);
    assert_eq!(keys_at(&store, before).await, ["a/b/x=1", "a/b/y=2", "a/b/z=3"]);
    let mut watcher = store.watch("a/b/", before - 1).unwrap();
    assert_eq!(watcher.try_next().unwrap().revision, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_of_one_key_never_overwrite_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    store.commit(put("a/b/n", "0")).await.unwrap();
    let increment = |store: Store| async move {
        for _ in 0..5 {
            loop {
                let record = store.get("a/b/n").unwrap();
                let next = text(&record).parse::<u32>().unwrap() + 1;
                let txn = Txn::update("a/b/n", record.mod_revision, next.to_string());
                if store.commit(txn).await.is_ok() {
                    break;
                }
            }
        }
    };
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            #[expect(clippy::disallowed_methods, reason = "the test needs real concurrency")]
            tokio::spawn(increment(store.clone()))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(text(&store.get("a/b/n").unwrap()), "20");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Guarded(u8, bool, u8),
    Compact,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..6_u8).prop_map(Step::Delete),
        3 => (0..6_u8, any::<bool>(), any::<u8>()).prop_map(|(k, good, v)| Step::Guarded(k, good, v)),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

type Snapshot = BTreeMap<String, String>;

/// The obvious implementation: every revision's whole state.
#[derive(Default)]
struct Model {
    states: BTreeMap<u64, Snapshot>,
    now: Snapshot,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

fn scratch() -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("mvcc-test-{}-{number}", std::process::id()))
}

fn snapshot(records: &[Arc<Record>]) -> Snapshot {
    records.iter().map(|it| (it.key.to_string(), text(it))).collect()
}

async fn run_against_model(steps: Vec<Step>, path: &Path) {
    let mut store = Store::open_with(path, SMALL).unwrap();
    let mut model = Model::default();
    model.states.insert(store.revision(), Snapshot::new());
    for step in steps {
        match step {
            Step::Put(key, value) => {
                let key = format!("a/b/{key}");
                store.commit(put(&key, &value.to_string())).await.unwrap();
                model.now.insert(key, value.to_string());
            }
            Step::Delete(key) => {
                let key = format!("a/b/{key}");
                let txn = Txn { guards: vec![], ops: vec![Op::Delete(key.clone())] };
                store.commit(txn).await.unwrap();
                model.now.remove(&key);
            }
            Step::Guarded(key, is_good, value) => {
                let key = format!("a/b/{key}");
                let revision = store.get(&key).map_or(0, |it| it.mod_revision);
                let guess = if is_good { revision } else { revision + 1 };
                let done = store.commit(Txn::update(&*key, guess, value.to_string())).await.is_ok();
                assert_eq!(done, is_good && revision > 0);
                if done {
                    model.now.insert(key, value.to_string());
                }
            }
            Step::Compact => store.compact(store.revision()).await.unwrap(),
            Step::Reopen => {
                let before = (store.revision(), store.compacted());
                drop(store);
                store = Store::open_with(path, SMALL).unwrap();
                assert_eq!((store.revision(), store.compacted()), before);
            }
        }
        model.states.insert(store.revision(), model.now.clone());
        check(&store, &model);
    }
}

fn check(store: &Store, model: &Model) {
    assert_eq!(snapshot(&store.scan("a/b/")), model.now);
    for (revision, state) in &model.states {
        match store.range("a/b/", None, None, Some(*revision)) {
            Ok(range) => assert_eq!(&snapshot(&range.records), state, "at {revision}"),
            Err(_) => assert!(*revision < store.compacted()),
        }
    }
    // Replaying the events since the oldest known revision ends in the present.
    let oldest = store.compacted().max(1);
    let mut replayed = snapshot(&store.range("a/b/", None, None, Some(oldest)).unwrap().records);
    let mut watcher = store.watch("a/b/", oldest).unwrap();
    while let Some(event) = watcher.try_next() {
        match &event.record {
            Some(record) => replayed.insert(event.key.to_string(), text(record)),
            None => replayed.remove(&*event.key),
        };
    }
    assert_eq!(replayed, model.now);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_the_model_does_also_when_reopened(steps in prop::collection::vec(step(), 1..30)) {
        let path = scratch();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run_against_model(steps, &path));
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn after_a_full_disk_it_goes_on_and_what_failed_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    if linux_mount::tmpfs(folder.path(), "size=8m").is_err() {
        eprintln!("not run: it takes root");
        return;
    }
    let (file, filler) = (folder.path().join("store.redb"), folder.path().join("filler"));
    let store = Store::open(&file).unwrap();
    let before = store.commit(put("a/b/before", "1")).await.unwrap();
    assert!(std::fs::write(&filler, vec![0; 16 << 20]).is_err(), "the disk is full");
    let large = "x".repeat(4 << 20);
    let failed = store.commit(put("a/b/failed", &large)).await.unwrap_err();
    assert!(matches!(failed, CommitError::Append { .. }), "{failed}");
    assert_eq!(store.revision(), before);
    std::fs::remove_file(&filler).unwrap();
    let after = store.commit(put("a/b/after", "2")).await.unwrap();
    assert_eq!(after, before + 1);
    drop(store);

    let store = Store::open(&file).unwrap();
    let keys = keys_at(&store, store.revision()).await;
    drop(store);
    linux_mount::unmount_tree(folder.path()).unwrap();
    assert_eq!(keys, ["a/b/after=2", "a/b/before=1"]);
}
