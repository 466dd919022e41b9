//! The members of the cluster, and which of them is asked now.
//!
//! Reads are asked again of the next member where one does not answer. A commit is not: the member
//! may have done it before it went away.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use api_etcd::{
    Channel, Code, KvClient, Status, WatchClient,
    pb::{KeyValue, RangeRequest, RangeResponse},
    range_end,
};
use tokio::time::timeout;

use super::{EtcdConfig, EtcdError, convert};
use crate::{Txn, state::State};

/// How long a call may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Records per page of a whole read.
const PAGE: i64 = 256;
/// A page of the largest objects that Kubernetes takes.
const MESSAGE_LIMIT: usize = 512 << 20;

#[derive(Debug)]
pub(super) struct Members {
    channels: Vec<Channel>,
    current: AtomicUsize,
}

/// Whose turn it was when a call began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn(usize);

impl Members {
    pub(super) fn new(config: &EtcdConfig) -> Result<Self, EtcdError> {
        let connect = |it: &String| api_etcd::connect(it, config.tls.as_ref());
        let channels: Vec<_> = config.endpoints.iter().map(connect).collect::<Result<_, _>>()?;
        if channels.is_empty() {
            return Err(EtcdError::NoEndpoint);
        }
        Ok(Self { channels, current: AtomicUsize::new(0) })
    }

    fn channel(&self) -> (Turn, Channel) {
        let current = self.current.load(Ordering::Relaxed);
        (Turn(current), self.channels[current % self.channels.len()].clone())
    }

    /// The next call goes to the next member. Of many calls that failed at one member only the
    /// first moves on, or the others would come back to it.
    pub(super) fn leave(&self, Turn(turn): Turn) {
        let next = turn.wrapping_add(1);
        // Whether it was the first makes no difference to it.
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let _was_first = self.current.compare_exchange(turn, next, success, failure).is_ok();
    }

    pub(super) fn watch(&self) -> (Turn, WatchClient) {
        let (turn, channel) = self.channel();
        (turn, WatchClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT))
    }

    /// One call, of the member whose turn it is.
    pub(super) async fn call<T, F>(
        &self,
        what: &'static str,
        call: impl FnOnce(KvClient) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let (turn, channel) = self.channel();
        let client = KvClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let failure = match timeout(CALL_LIMIT, call(client)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) if status.code() != Code::Unavailable => {
                return Err(EtcdError::Call { what, source: Box::new(status) });
            }
            Ok(Err(status)) => EtcdError::Call { what, source: Box::new(status) },
            Err(_) => EtcdError::TimedOut { what },
        };
        self.leave(turn);
        Err(failure)
    }

    /// A linearizable read, of each member in turn until one answers.
    pub(super) async fn range(
        &self,
        what: &'static str,
        request: RangeRequest,
    ) -> Result<RangeResponse, EtcdError> {
        let mut attempts = self.channels.len();
        loop {
            attempts -= 1;
            let request = request.clone();
            let ask = |mut kv: KvClient| async move { kv.range(request).await };
            match self.call(what, ask).await {
                Err(error) if attempts > 0 && error.is_of_one_member() => {
                    tracing::warn!(%error, "a member of etcd does not answer");
                }
                done => return done,
            }
        }
    }

    /// Writes the mark of the store below `prefix`; says at which revision. Twice is as good as once.
    pub(super) async fn mark(&self, prefix: &str) -> Result<u64, EtcdError> {
        let mut attempts = self.channels.len();
        loop {
            attempts -= 1;
            let request = convert::request(prefix, &Txn::put(convert::MARK, ""));
            let ask = |mut kv: KvClient| async move { kv.txn(request).await };
            match self.call("write a mark", ask).await {
                Err(error) if attempts > 0 && error.is_of_one_member() => {
                    tracing::warn!(%error, "a member of etcd does not answer");
                }
                done => return done.map(|it| convert::revision(it.header.as_ref())),
            }
        }
    }

    /// Everything below `prefix` at a revision; the latest if it is 0.
    pub(super) async fn load(&self, prefix: &str, at: i64) -> Result<State, EtcdError> {
        let end = range_end(prefix.as_bytes());
        let mut key = prefix.as_bytes().to_vec();
        let (mut revision, mut all) = (at, Vec::<KeyValue>::new());
        loop {
            let range_end = end.clone();
            let request =
                RangeRequest { key, range_end, limit: PAGE, revision, ..RangeRequest::default() };
            let page = self.range("read the store", request).await?;
            if revision == 0 {
                revision = page.header.unwrap_or_default().revision;
            }
            all.extend(page.kvs);
            match all.last() {
                Some(last) if page.more => key = [&last.key[..], &[0]].concat(),
                _ => break,
            }
        }
        Ok(convert::state(prefix, all, revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_that_fail_together_move_on_by_one_member() {
        let endpoints = (1..=3).map(|port| format!("http://127.0.0.1:{port}")).collect();
        let config = EtcdConfig { endpoints, ..EtcdConfig::default() };
        let members = Members::new(&config).unwrap();
        let turns = [members.channel().0, members.channel().0, members.channel().0];
        for turn in turns {
            members.leave(turn);
        }
        assert_eq!(members.channel().0.0, 1);
    }
}
