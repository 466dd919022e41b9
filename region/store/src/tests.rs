//! What the region relies on when it acknowledges a call.

use super::*;

fn fill(store: &Store, pairs: &[(&str, u64)]) {
    let bucket = store.bucket::<u64>("test/numbers").unwrap();
    store
        .transaction(|tx| {
            for (key, value) in pairs {
                tx.put(&bucket, *key, *value);
            }
            Ok::<_, CommitError>(())
        })
        .unwrap();
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    fill(&Store::open(&path).unwrap(), &[("a", 1), ("b", 2)]);

    let store = Store::open(&path).unwrap();
    let bucket = store.bucket::<u64>("test/numbers").unwrap();
    assert_eq!(bucket.entries().len(), 2);
    assert_eq!(bucket.get("b").as_deref(), Some(&2));
    assert!(store.bucket::<u64>("test/other").unwrap().is_empty());
}

#[test]
fn a_failed_transaction_changes_nothing_and_wakes_nobody() {
    let store = Store::in_memory();
    fill(&store, &[("a", 1)]);
    let bucket = store.bucket::<u64>("test/numbers").unwrap();
    let feed = store.subscribe();

    let refused: Result<(), String> = store
        .transaction(|tx| {
            tx.put(&bucket, "a", 7);
            tx.delete(&bucket, "a");
            Err::<(), _>(Refusal("no"))
        })
        .map_err(|it| it.0.to_owned());

    assert_eq!(refused, Err("no".to_owned()));
    assert_eq!(bucket.get("a").as_deref(), Some(&1));
    assert!(!feed.has_changed().unwrap());
}

#[derive(Debug)]
struct Refusal(&'static str);

impl From<CommitError> for Refusal {
    fn from(_: CommitError) -> Self {
        Self("commit")
    }
}

#[test]
fn a_transaction_reads_its_own_writes_before_anyone_else_does() {
    let store = Store::in_memory();
    fill(&store, &[("a", 1), ("b", 2)]);
    let bucket = store.bucket::<u64>("test/numbers").unwrap();
    let mut feed = store.subscribe();
    store
        .transaction(|tx| {
            tx.delete(&bucket, "a");
            assert!(tx.update(&bucket, "b", |it| *it += 40));
            assert!(!tx.update(&bucket, "a", |it| *it += 40));
            assert_eq!(tx.list(&bucket), [Arc::new(42)]);
            assert_eq!(bucket.len(), 2);
            Ok::<_, CommitError>(())
        })
        .unwrap();
    assert_eq!(bucket.list(), [Arc::new(42)]);
    assert!(feed.has_changed().unwrap());
    feed.mark_unchanged();
    store.transaction(|_| Ok::<_, CommitError>(())).unwrap();
    assert!(!feed.has_changed().unwrap());
}

#[test]
fn keys_under_a_prefix_are_found_and_no_others() {
    let store = Store::in_memory();
    fill(&store, &[("stead/a", 1), ("stead/b", 2), ("steady/c", 3), ("a", 4)]);
    let bucket = store.bucket::<u64>("test/numbers").unwrap();
    let keys: Vec<String> = bucket.under("stead/").into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["stead/a", "stead/b"]);
}

#[test]
fn a_bucket_has_one_type() {
    let store = Store::in_memory();
    fill(&store, &[("a", 1)]);
    assert!(matches!(
        store.bucket::<String>("test/numbers"),
        Err(OpenStoreError::TypeMismatch { .. })
    ));
}

#[test]
fn a_quiet_transaction_is_durable_and_wakes_nobody() {
    let store = Store::in_memory();
    let bucket = store.bucket::<u64>("test/numbers").unwrap();
    let feed = store.subscribe();
    let put = |tx: &mut Transaction| {
        tx.put(&bucket, "a", 1);
        Ok::<_, CommitError>(())
    };
    store.transaction_quietly(put).unwrap();
    assert_eq!(bucket.list(), [Arc::new(1)]);
    assert!(!feed.has_changed().unwrap());
}
