//! Between the store's values and etcd's messages: pure.

use std::sync::Arc;

use api_etcd::pb::{
    Compare, DeleteRangeRequest, Event as Change, KeyValue, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    event::EventType,
    request_op::Request,
    response_op::Response,
};

use crate::{Event, Guard, Op, Record, Txn, state::State};

/// A transaction that, where a guard does not hold, reads what the guards were about.
pub(super) fn request(prefix: &str, txn: &Txn) -> TxnRequest {
    let key = |key: &str| format!("{prefix}{key}").into_bytes();
    let compare = txn.guards.iter().map(|guard| {
        let (name, revision) = match guard {
            Guard::Absent(name) => (name, 0),
            Guard::At(name, revision) => (name, i64::try_from(*revision).unwrap_or(i64::MAX)),
        };
        Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key(name),
            target_union: Some(TargetUnion::ModRevision(revision)),
        }
    });
    let success = txn.ops.iter().map(|op| match op {
        Op::Put(name, value) => {
            Request::RequestPut(PutRequest { key: key(name), value: value.to_vec() })
        }
        Op::Delete(name) => {
            let request = DeleteRangeRequest { key: key(name), range_end: Vec::new() };
            Request::RequestDeleteRange(request)
        }
    });
    let failure = txn.guards.iter().map(|guard| {
        Request::RequestRange(RangeRequest { key: key(name_of(guard)), ..RangeRequest::default() })
    });
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: compare.collect(),
        success: success.map(op).collect(),
        failure: failure.map(op).collect(),
    }
}

fn name_of(guard: &Guard) -> &str {
    match guard {
        Guard::Absent(name) | Guard::At(name, _) => name,
    }
}

/// The first guard that did not hold, and the record that it was about.
pub(super) fn conflict(
    prefix: &str,
    txn: &Txn,
    answer: &TxnResponse,
) -> (String, Option<Arc<Record>>) {
    let found = answer.responses.iter().map(|it| match &it.response {
        Some(Response::ResponseRange(range)) => {
            range.kvs.first().and_then(|it| record(prefix, it.clone()))
        }
        _ => None,
    });
    let failed = txn.guards.iter().zip(found).find(|(guard, record)| {
        let expected = match guard {
            Guard::Absent(_) => None,
            Guard::At(_, revision) => Some(*revision),
        };
        record.as_ref().map(|it| it.mod_revision) != expected
    });
    match failed {
        Some((guard, record)) => (name_of(guard).to_owned(), record),
        None => (String::new(), None),
    }
}

/// Whether a transaction that succeeded has made a revision.
pub(super) fn has_changed(answer: &TxnResponse) -> bool {
    answer.responses.iter().any(|it| match &it.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        _ => false,
    })
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> u64 {
    header.map_or(0, |it| u64::try_from(it.revision).unwrap_or_default())
}

/// What a first read found. It knows no history.
pub(super) fn state(prefix: &str, all: Vec<KeyValue>, revision: i64) -> State {
    let records = all.into_iter().filter_map(|it| record(prefix, it));
    State::loaded(records, u64::try_from(revision).unwrap_or_default())
}

/// `None` for a key that is not text, which no store of ours has written, and for the mark.
fn record(prefix: &str, kv: KeyValue) -> Option<Arc<Record>> {
    let key = name(prefix, &kv.key).filter(|it| *it != MARK)?.into();
    let number = |it: i64| u64::try_from(it).unwrap_or_default();
    let (created, modified) = (number(kv.create_revision), number(kv.mod_revision));
    Some(Arc::new(Record::new(key, kv.value.into(), created, modified, 0)))
}

/// A key of the store's own that is written to be seen in the watch. It is in no answer.
pub(super) const MARK: &str = "mark";

fn name<'a>(prefix: &str, key: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(key).ok()?.strip_prefix(prefix)
}

/// A change of the watch, over the state before it.
pub(super) fn event(prefix: &str, state: &State, change: Change) -> Option<Event> {
    let is_deleted = change.r#type() == EventType::Delete;
    let kv = change.kv?;
    let revision = u64::try_from(kv.mod_revision).ok()?;
    let previous = state.current.get(name(prefix, &kv.key)?).cloned();
    if is_deleted {
        let key = previous.as_ref()?.key.clone();
        return Some(Event { revision, key, record: None, previous });
    }
    let record = record(prefix, kv)?;
    Some(Event { revision, key: record.key.clone(), record: Some(record), previous })
}

#[cfg(test)]
mod tests {
    use api_etcd::pb::{RangeResponse, ResponseOp};

    use super::*;

    fn kv(key: &str, revision: i64) -> KeyValue {
        let key = key.as_bytes().to_vec();
        KeyValue { key, create_revision: 1, mod_revision: revision, value: b"v".to_vec() }
    }

    #[test]
    fn a_guard_is_a_comparison_of_the_last_revision() {
        let asked = request("/p/", &Txn::create("a", "1"));
        assert_eq!(asked.compare[0].key, b"/p/a");
        assert_eq!(asked.compare[0].target_union, Some(TargetUnion::ModRevision(0)));
        let asked = request("/p/", &Txn::delete("a", 7));
        assert_eq!(asked.compare[0].target_union, Some(TargetUnion::ModRevision(7)));
        assert_eq!(asked.failure.len(), 1, "what is there is read with the refusal");
    }

    #[test]
    fn the_guard_that_failed_is_named_with_what_is_there() {
        let txn = Txn {
            guards: vec![Guard::At("a".into(), 3), Guard::At("b".into(), 4)],
            ops: Vec::new(),
        };
        let range = |kvs| {
            let range = RangeResponse { kvs, ..RangeResponse::default() };
            ResponseOp { response: Some(Response::ResponseRange(range)) }
        };
        let answer = TxnResponse {
            responses: vec![range(vec![kv("/p/a", 3)]), range(vec![kv("/p/b", 9)])],
            ..TxnResponse::default()
        };
        let (key, current) = conflict("/p/", &txn, &answer);
        assert_eq!((key.as_str(), current.unwrap().mod_revision), ("b", 9));
    }

    #[test]
    fn changes_become_events_over_what_was_there() {
        let mut state = state("/p/", vec![kv("/p/x/y/a", 5), kv("/p/x/y/b", 6)], 8);
        assert_eq!((state.revision, state.compacted), (8, 8));
        let put = Change { r#type: EventType::Put.into(), kv: Some(kv("/p/x/y/a", 9)) };
        let event = event_of(&state, put).unwrap();
        assert_eq!(event.previous.as_ref().unwrap().mod_revision, 5);
        state.apply(event);
        let gone = Change { r#type: EventType::Delete.into(), kv: Some(kv("/p/x/y/b", 10)) };
        state.apply(event_of(&state, gone).unwrap());
        assert_eq!(state.revision, 10);
        assert_eq!(state.scan("x/y/").len(), 1);
        let foreign = Change { r#type: EventType::Put.into(), kv: Some(kv("/q/a", 11)) };
        assert!(event_of(&state, foreign).is_none());
    }

    fn event_of(state: &State, change: Change) -> Option<Event> {
        event("/p/", state, change)
    }
}
