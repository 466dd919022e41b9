//! The service: queues and messages in the store, and who may touch them.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use aws_wire::Fault;
use clock::Clock;
use iam_policy::Named;
use jiff::Timestamp;
use latency::Latency;
use parking_lot::Mutex;
use region_gateway::{Authorizer, Caller, Target};
use region_store::{Bucket, OpenStoreError, Store, Transaction};
use tokio::sync::watch;

use crate::{
    faults,
    records::{Deleted, Message, Queue},
};

/// What the service is told when it starts.
#[derive(Clone)]
pub struct Config {
    pub account: String,
    pub region: String,
    /// Where things take AWS's time, a deleted queue's name is free again only after a minute.
    pub latency: Latency,
    /// Decides with the queue's policy beside the caller's own.
    pub authorizer: Authorizer,
}

/// See the crate. Clones share the state.
#[derive(Clone)]
pub struct Sqs(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    store: Store,
    tables: Tables,
    /// Wakes those who wait for messages.
    sent: watch::Sender<u64>,
    /// At the most so many bytes are held: what was counted, and what has come since.
    held: Mutex<usize>,
}

/// What all queues hold together, in bytes. On AWS there is no limit; here it is this machine's
/// memory; tests have less to fill.
const MOST_HELD: usize = if cfg!(test) { 8 << 20 } else { 256 << 20 };

/// The buckets, for transactions.
pub(crate) struct Tables {
    pub(crate) queues: Bucket<Queue>,
    pub(crate) messages: Bucket<Message>,
    pub(crate) deleted: Bucket<Deleted>,
}

fn count(messages: &Bucket<Message>) -> usize {
    let mut bytes = 0;
    messages.visit("", |_, message| {
        bytes += message.size();
        ControlFlow::Continue(())
    });
    bytes
}

impl Sqs {
    pub fn open(store: &Store, config: Config, clock: Clock) -> Result<Self, OpenStoreError> {
        let tables = Tables {
            queues: store.bucket("sqs/queues")?,
            messages: store.bucket("sqs/messages")?,
            deleted: store.bucket("sqs/deleted")?,
        };
        let store = store.clone();
        let held = Mutex::new(count(&tables.messages));
        let sent = watch::Sender::new(0);
        Ok(Self(Arc::new(Inner { config, clock, store, tables, sent, held })))
    }

    /// Whether so many bytes more may be kept.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        let mut held = self.0.held.lock();
        if *held + bytes > MOST_HELD {
            // What has gone in the meantime was not taken off.
            *held = count(&self.0.tables.messages);
        }
        let has_room = *held + bytes <= MOST_HELD;
        if has_room {
            *held += bytes;
        }
        has_room
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.0.tables
    }

    /// Sees a new number when there may be something to receive.
    pub(crate) fn sent(&self) -> watch::Receiver<u64> {
        self.0.sent.subscribe()
    }

    pub(crate) fn wake(&self) {
        self.0.sent.send_modify(|it| *it += 1);
    }

    pub(crate) fn transaction<R>(
        &self,
        change: impl FnOnce(&mut Transaction, &Tables) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.0.store.transaction_quietly(|it| change(it, &self.0.tables))
    }

    pub(crate) fn update<R>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Queue) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.transaction(|transaction, tables| {
            let current = transaction.get(&tables.queues, name).ok_or_else(faults::no_queue)?;
            let mut changed = Queue::clone(&current);
            let result = change(&mut changed)?;
            if changed != *current {
                transaction.put(&tables.queues, name, changed);
            }
            Ok(result)
        })
    }

    pub(crate) fn arn(&self, name: &str) -> String {
        let Config { account, region, .. } = self.config();
        format!("arn:aws:sqs:{region}:{account}:{name}")
    }

    /// As on AWS, whatever endpoint the caller has used.
    pub(crate) fn url(&self, name: &str) -> String {
        let Config { account, region, .. } = self.config();
        format!("https://sqs.{region}.amazonaws.com/{account}/{name}")
    }

    /// The queue's name of a URL of any host: clients of a local endpoint may name that.
    pub(crate) fn name_of(&self, url: &str) -> Result<String, Fault> {
        let path = url.split_once("://").map_or(url, |(_, rest)| rest);
        let mut parts = path.rsplit('/');
        let (name, account) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if name.is_empty() || account.len() != 12 {
            return Err(faults::bad_address(url));
        }
        if account != self.config().account {
            return Err(faults::no_queue());
        }
        Ok(name.to_owned())
    }

    /// Whether the caller may do this to the queue of that name, by their policies or by the queue's.
    pub(crate) fn authorize(
        &self,
        caller: &Caller,
        action: &str,
        name: &str,
        request_tags: Option<&BTreeMap<String, String>>,
    ) -> Result<(), Fault> {
        let queue = self.tables().queues.get(name);
        let arn = self.arn(name);
        let pairs = |tags: &BTreeMap<String, String>| -> Vec<(String, String)> {
            tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let mut target = Target::resource(arn.clone());
        let groups = [
            ("aws:ResourceTag", queue.as_ref().map(|it| pairs(&it.tags))),
            ("aws:RequestTag", request_tags.map(pairs)),
        ];
        for (prefix, tags) in groups {
            let tags = tags.unwrap_or_default();
            let tags = tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            target = target.with_tags(prefix, tags);
        }
        let policy = queue.and_then(|it| it.policy());
        let policy = policy.map(|policy| (Named { name: arn, policy }, false));
        let decided = self.config().authorizer.decide_on(caller, action, &target, policy);
        let denial = (!decided.decision.is_allowed()).then(|| decided.denial(caller, "sqs"));
        caller.decisions.note(decided);
        denial.map_or(Ok(()), Err)
    }

    /// The queue of that URL, for a caller who may do this to it.
    pub(crate) fn authorized(
        &self,
        caller: &Caller,
        action: &str,
        url: &str,
    ) -> Result<Arc<Queue>, Fault> {
        let name = self.name_of(url)?;
        self.authorize(caller, action, &name, None)?;
        self.queue(&name)
    }

    pub(crate) fn queue(&self, name: &str) -> Result<Arc<Queue>, Fault> {
        self.tables().queues.get(name).ok_or_else(faults::no_queue)
    }

    /// The queue of that ARN, if it is one of this region's.
    pub(crate) fn queue_of_arn(&self, arn: &str) -> Option<Arc<Queue>> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        (self.arn(name) == arn).then(|| self.tables().queues.get(name)).flatten()
    }
}
