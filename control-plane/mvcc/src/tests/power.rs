//! Power loss: of what the disk had not been told to keep, any part is gone.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::*;

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

fn change(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write(at, data) => {
            let end = at + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(data);
        }
    }
}

/// What the disk holds at the moment of the power loss, and what had been acknowledged by then.
#[derive(Clone, Debug)]
struct Wreck {
    bytes: Vec<u8>,
    acknowledged: usize,
}

#[derive(Debug, Default)]
struct Platter {
    /// As it is read.
    seen: Vec<u8>,
    /// As it certainly stays.
    kept: Vec<u8>,
    unsynced: Vec<Change>,
    changes: usize,
    /// The power fails after so many changes; which of the unsynced ones are kept is drawn from the
    /// other number.
    fails_at: usize,
    seed: u64,
    acknowledged: Arc<AtomicUsize>,
    wreck: Option<Wreck>,
}

impl Platter {
    fn tick(&mut self) {
        self.changes += 1;
        if self.changes != self.fails_at {
            return;
        }
        let mut bytes = self.kept.clone();
        for unsynced in &self.unsynced {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if self.seed >> 63 == 1 {
                change(&mut bytes, unsynced);
            }
        }
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        self.wreck = Some(Wreck { bytes, acknowledged });
    }

    fn change(&mut self, it: Change) {
        change(&mut self.seen, &it);
        self.unsynced.push(it);
        self.tick();
    }
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock();
        let from = place(offset);
        let found = platter.seen.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.lock().change(Change::Length(place(length)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.tick();
        platter.kept = platter.seen.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().change(Change::Write(place(offset), data.to_vec()));
        Ok(())
    }
}

fn over(disk: Disk) -> Store {
    Store::over(redb::Database::builder().create_with_backend(disk).unwrap(), SMALL).unwrap()
}

/// The commits of the test: puts, deletes, and two changes at once.
fn commit(number: usize) -> Txn {
    let key = |it: usize| format!("a/b/{}", it % 4);
    let put = |it: usize| Op::Put(key(it), number.to_string().into());
    let ops = match number % 3 {
        0 => vec![put(number)],
        1 => vec![put(number), put(number + 1)],
        _ => vec![Op::Delete(key(number - 1)), put(number + 2)],
    };
    Txn { guards: Vec::new(), ops }
}

const COMMITS: usize = 14;

/// What is there after each number of commits.
fn states() -> Vec<BTreeMap<String, String>> {
    let mut states = vec![BTreeMap::new()];
    for number in 0..COMMITS {
        let mut state = states[number].clone();
        for op in commit(number).ops {
            match op {
                Op::Put(key, value) => {
                    state.insert(key, String::from_utf8(value.to_vec()).unwrap());
                }
                Op::Delete(key) => drop(state.remove(&key)),
            }
        }
        states.push(state);
    }
    states
}

/// All commits, on a disk whose power fails meanwhile. `None`: there are not so many changes.
async fn wreck(fails_at: usize, seed: u64) -> Option<Wreck> {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let disk = Disk::default();
    // What is being made has not its name yet: see `backend::make`.
    drop(redb::Database::builder().create_with_backend(disk.clone()).unwrap());
    let made = disk.0.lock().seen.clone();
    let kept = made.clone();
    let its = acknowledged.clone();
    *disk.0.lock() =
        Platter { seen: made, kept, fails_at, seed, acknowledged: its, ..Platter::default() };
    let store = over(disk.clone());
    for number in 0..COMMITS {
        store.commit(commit(number)).await.unwrap();
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    drop(store);
    let mut platter = disk.0.lock();
    platter.wreck.take()
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_loss_at_any_moment() {
    let states = states();
    for fails_at in 1.. {
        let Some(wreck) = wreck(fails_at, fails_at as u64).await else {
            assert!(fails_at > 2 * COMMITS, "each commit is synced");
            return;
        };
        let platter =
            Platter { seen: wreck.bytes.clone(), kept: wreck.bytes, ..Platter::default() };
        let store = over(Disk(Arc::new(Mutex::new(platter))));
        // The store is as it was after one of the commits, and not before the last acknowledged.
        let commits = usize::try_from(store.revision() - 1).unwrap();
        assert!(commits >= wreck.acknowledged, "at {fails_at} {commits} were left");
        assert_eq!(snapshot(&store.scan("a/b/")), states[commits], "at {fails_at}");
    }
}
