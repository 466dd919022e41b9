//! Reads that are as new as the moment at which they were asked for, whoever wrote.
//!
//! etcd is asked for its present, with a linearizable read that carries no values, and memory is
//! waited for: then it has all that was acknowledged before, also by other API servers. The answer
//! itself comes from memory.
//!
//! etcd's revision alone does not do where others write to the same etcd: the watch of this store's
//! prefix brings none of their revisions, and etcd's answers to requests for progress can't be relied
//! on before 3.4.25 (they may overtake events). So memory is also taken for new where it holds the
//! same keys at the same revisions.
//!
//! Upstream: `storage/cacher` (consistent reads from cache, KEP-2340) and etcd's quorum reads.

use std::time::Duration;

use api_etcd::{
    pb::{RangeRequest, RangeResponse},
    range_end,
};
use tokio::time::timeout;

use super::{CALL_LIMIT, EtcdError, Shared, convert};
use crate::state::State;

/// How long the watch is given to bring etcd's revision before the keys are compared.
const GRACE: Duration = Duration::from_millis(10);

/// What etcd holds below a prefix at one revision, as far as it tells whether memory has it too.
#[derive(Clone, Copy, Debug)]
struct Present {
    revision: u64,
    /// The last change of a key that is there and was changed after what memory had seen.
    last_change: u64,
    count: usize,
}

impl Present {
    fn of(answer: &RangeResponse, revision: u64) -> Self {
        let changes =
            answer.kvs.iter().map(|it| u64::try_from(it.mod_revision).unwrap_or_default());
        let count = usize::try_from(answer.count).unwrap_or_default();
        Self { revision, last_change: changes.max().unwrap_or_default(), count }
    }

    /// Whether memory has what is below the prefix as it was then, or later.
    ///
    /// Keys that are there then and were last changed before memory's revision are in memory, as
    /// they are; where memory has no more than these, nothing was deleted since.
    fn is_in(&self, state: &State, prefix: &str) -> bool {
        state.revision >= self.revision
            || state.revision >= self.last_change && state.count(prefix) == self.count
    }
}

impl Shared {
    /// Waits until memory has `key` as etcd has it. Says as of which revision.
    pub(super) async fn sync_key(&self, key: &str) -> Result<u64, EtcdError> {
        let full = format!("{}{key}", self.prefix).into_bytes();
        let request = RangeRequest { key: full, keys_only: true, ..RangeRequest::default() };
        let answer = self.members.range("read a key", request).await?;
        let revision = convert::revision(answer.header.as_ref());
        let found = answer.kvs.first().and_then(|it| u64::try_from(it.mod_revision).ok());
        let has_come = |state: &State| {
            let known = state.current.get(key).map(|it| it.mod_revision);
            state.revision >= revision || known == found
        };
        self.wait("bring what a read asks for", has_come).await?;
        Ok(revision)
    }

    /// Waits until memory has all below `prefix` as etcd has it. Says as of which revision.
    pub(super) async fn sync_prefix(&self, prefix: &str) -> Result<u64, EtcdError> {
        loop {
            let key = format!("{}{prefix}", self.prefix).into_bytes();
            let mut request = RangeRequest {
                range_end: range_end(&key),
                key,
                count_only: true,
                ..RangeRequest::default()
            };
            let answer = self.members.range("say its revision", request.clone()).await?;
            let revision = convert::revision(answer.header.as_ref());
            let is_there = self.wait("say its revision", |state| state.revision >= revision);
            if timeout(GRACE, is_there).await.is_ok() {
                return Ok(revision);
            }
            let at = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX);
            request.min_mod_revision = at(self.state.read().revision + 1);
            (request.count_only, request.keys_only) = (false, true);
            request.revision = at(revision);
            match self.members.range("say what was changed", request).await {
                // So much was written meanwhile.
                Err(error) if error.is_compacted() => {}
                Err(error) => return Err(error),
                Ok(answer) => {
                    let present = Present::of(&answer, revision);
                    self.await_present(prefix, present).await?;
                    return Ok(revision);
                }
            }
        }
    }

    /// Waits as long as the watch gets on.
    async fn await_present(&self, prefix: &str, present: Present) -> Result<(), EtcdError> {
        let mut before = 0;
        loop {
            let has_come = |state: &State| present.is_in(state, prefix);
            let waited = self.wait("bring what a read asks for", has_come).await;
            let now = self.state.read().revision;
            if waited.is_ok() || now == before {
                return waited;
            }
            before = now;
        }
    }

    /// Waits until memory has all that etcd has had until now. Keys cannot tell it here: what was
    /// made and deleted since memory's revision has left none. So a mark is written, and the watch,
    /// which brings everything in its order, has to bring it.
    pub(super) async fn sync_all(&self) -> Result<(), EtcdError> {
        let revision = self.members.mark(&self.prefix).await?;
        let mut before = 0;
        loop {
            let waited = self.wait("bring a mark", |state| state.revision >= revision).await;
            let now = self.state.read().revision;
            // As long as the watch gets on.
            if waited.is_ok() || now == before {
                return waited;
            }
            before = now;
        }
    }

    /// Waits until the watch has brought what is asked for.
    pub(super) async fn wait(
        &self,
        what: &'static str,
        has_come: impl Fn(&State) -> bool,
    ) -> Result<(), EtcdError> {
        let mut seen = self.seen.subscribe();
        let come = seen.wait_for(|_| has_come(&self.state.read()));
        match timeout(CALL_LIMIT, come).await {
            // The sender is `self`'s.
            Ok(_) => Ok(()),
            Err(_) => Err(EtcdError::TimedOut { what }),
        }
    }
}

#[cfg(test)]
mod tests {
    use api_etcd::pb::KeyValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{Event, Record};

    /// Puts and deletes of few keys, of which the last ones are of another prefix's revisions.
    fn state(changes: &[(u8, bool)], until: usize) -> State {
        let mut state = State::loaded(std::iter::empty(), 1);
        for (index, (key, is_put)) in changes[..until].iter().enumerate() {
            let (revision, key) = (index as u64 + 2, format!("a/b/{key}"));
            let previous = state.current.get(&*key).cloned();
            if previous.is_none() && !is_put {
                continue;
            }
            let record = is_put.then(|| {
                Record::new(key.as_str().into(), "v".into(), revision, revision, 0).into()
            });
            state.apply(Event { revision, key: key.into(), record, previous });
        }
        state
    }

    fn keys(state: &State) -> Vec<(String, u64)> {
        let records = state.scan("a/b/").into_iter();
        records.map(|it| (it.key.to_string(), it.mod_revision)).collect()
    }

    /// As etcd answers with `min_mod_revision`.
    fn answer(now: &State, known: u64) -> RangeResponse {
        let changed = now.scan("a/b/").into_iter().filter(|it| it.mod_revision > known);
        let kv = |revision: u64| KeyValue {
            mod_revision: i64::try_from(revision).unwrap(),
            ..KeyValue::default()
        };
        RangeResponse {
            kvs: changed.map(|it| kv(it.mod_revision)).collect(),
            count: i64::try_from(now.count("a/b/")).unwrap(),
            ..RangeResponse::default()
        }
    }

    proptest! {
        #[test]
        fn memory_is_taken_for_new_exactly_where_it_holds_the_same(
            changes in prop::collection::vec((0..4_u8, any::<bool>()), 1..20),
            asked in 0..20_usize,
            since in 0..20_usize,
        ) {
            let asked = asked.min(changes.len());
            let since = (asked + since).min(changes.len());
            let now = state(&changes, changes.len());
            // What memory was when etcd was asked, and what has come to it since.
            let (then, memory) = (state(&changes, asked), state(&changes, since));
            let present = Present::of(&answer(&now, then.revision), changes.len() as u64 + 2);
            prop_assert_eq!(present.is_in(&memory, "a/b/"), keys(&memory) == keys(&now));
        }
    }
}
