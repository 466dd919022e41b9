//! The store over its own file in a process that is killed again and again: nothing that was
//! acknowledged is lost, and some order explains all that anybody saw.
//!
//! The process says on its standard output what it is about to do, and then what came of it: the order
//! of its lines is the order of time, and what was not said was not acknowledged to anybody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use lifecycle::Scope;
use mvcc::{CommitError, Limits, Op, Store, Txn};
use store_histories::{Answer, Ask, Recorder, Ticket, check};

const STORE: &str = "MVCC_KILLED_STORE";
const FIRST_VALUE: &str = "MVCC_KILLED_VALUE";
const MARK: &str = "##";
const KEYS: u64 = 5;
const CLIENTS: u64 = 6;
const KILLS: usize = 5;
/// Answers that are waited for before each kill.
const ANSWERS: usize = 60;
/// Little, so that compactions are under way all the time.
const LIMITS: Limits = Limits { history_events: 16, history_bytes: 1 << 20 };

fn open(path: &Path) -> Store {
    Store::open_with(path, LIMITS).unwrap()
}

fn key(number: u64) -> String {
    format!("core/maps/default/{number}")
}

fn held(store: &Store, key: &str) -> Option<u64> {
    store.get(key).map(|it| std::str::from_utf8(&it.value).unwrap().parse().unwrap())
}

/// `-` or a value.
fn word(held: Option<u64>) -> String {
    held.map_or("-".to_owned(), |it| it.to_string())
}

fn parse(word: &str) -> Option<u64> {
    (word != "-").then(|| word.parse().unwrap())
}

static VALUES: AtomicU64 = AtomicU64::new(0);

fn fresh() -> u64 {
    VALUES.fetch_add(1, Ordering::Relaxed)
}

/// One line, which is in the pipe when this returns.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK} {line}").unwrap();
    out.flush().unwrap();
}

async fn client(store: Store, mut seed: u64) {
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (draw, id) = (seed >> 33, fresh());
        let key = key(draw % KEYS);
        let put = |value: Option<u64>| match value {
            Some(value) => Op::Put(key.clone(), value.to_string().into()),
            None => Op::Delete(key.clone()),
        };
        match (draw >> 8) % 8 {
            0..=1 => {
                say(&format!("begin {id} {key} read"));
                say(&format!("end {id} found {}", word(held(&store, &key))));
            }
            number @ 2..=4 => {
                let value = (number > 2).then(fresh);
                say(&format!("begin {id} {key} write {}", word(value)));
                let txn = Txn { guards: Vec::new(), ops: vec![put(value)] };
                store.commit(txn).await.unwrap();
                say(&format!("end {id} done"));
            }
            _ => {
                let Some(record) = store.get(&key) else { continue };
                let (expected, to) = (std::str::from_utf8(&record.value).unwrap(), fresh());
                say(&format!("begin {id} {key} swap {expected} {to}"));
                let txn = Txn::update(&*key, record.mod_revision, to.to_string());
                match store.commit(txn).await {
                    Ok(_) => say(&format!("end {id} done")),
                    Err(CommitError::Conflict { .. }) => say(&format!("end {id} refused")),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process that the other test kills"]
async fn clients_of_a_store_until_they_are_killed() {
    let path = PathBuf::from(std::env::var(STORE).unwrap());
    VALUES.store(std::env::var(FIRST_VALUE).unwrap().parse().unwrap(), Ordering::Relaxed);
    let (store, scope) = (open(&path), Scope::new());
    let clients = (0..CLIENTS).map(|number| {
        let seed = fresh() + number;
        scope.spawn("client", client(store.clone(), seed))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

fn start(path: &Path, run: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "clients_of_a_store_until_they_are_killed", "--ignored", "--nocapture"])
        .env(STORE, path)
        .env(FIRST_VALUE, (run * 1_000_000).to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Writes a line of the process down. Says whether it was an answer.
fn note(line: &str, recorder: &Recorder, tickets: &mut HashMap<String, Ticket>) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        [MARK, "begin", id, key, ref ask @ ..] => {
            let ask = match *ask {
                ["read"] => Ask::Read,
                ["write", value] => Ask::Write(parse(value)),
                ["swap", expected, to] => Ask::Swap { expected: parse(expected), to: parse(to) },
                _ => panic!("{line}"),
            };
            tickets.insert(id.to_owned(), recorder.begin(key, ask));
            false
        }
        [MARK, "end", id, ref answer @ ..] => {
            let answer = match *answer {
                ["found", value] => Answer::Found(parse(value)),
                ["done"] => Answer::Done,
                ["refused"] => Answer::Refused,
                _ => panic!("{line}"),
            };
            recorder.end(&tickets[id], answer);
            true
        }
        _ => false,
    }
}

/// One life of the process. What was in the pipe when it was killed was said.
fn live_and_die(path: &Path, run: usize, recorder: &Recorder) {
    let mut process = start(path, run);
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    let (mut tickets, mut answers, mut line) = (HashMap::new(), 0, String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        // A line that was cut off was not said.
        if let Some(whole) = line.strip_suffix('\n') {
            answers += usize::from(note(whole, recorder, &mut tickets));
        }
        line.clear();
        if answers == ANSWERS {
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();
    assert!(answers >= ANSWERS, "it ended by itself after {answers} answers");
    recorder.cut();
}

#[tokio::test]
async fn a_killed_process_loses_nothing_and_all_reads_and_writes_are_linearizable() {
    let folder = tempfile::tempdir().unwrap();
    let (path, recorder) = (folder.path().join("store.redb"), Recorder::default());
    for run in 1..=KILLS {
        live_and_die(&path, run, &recorder);
        let store = open(&path);
        assert!(store.compacted() > 1, "compaction runs by itself");
        for number in 0..KEYS {
            let ticket = recorder.begin(&key(number), Ask::Read);
            recorder.end(&ticket, Answer::Found(held(&store, &key(number))));
        }
    }
    if let Err(violation) = check(&recorder.keys()) {
        panic!("{violation}");
    }
}
