//! What is kept: queues by name, messages by queue and time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sqs::message::MessageAttributeValue;
use iam_policy::{Kind, Policy};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Queue {
    pub name: String,
    /// A queue of the same name that is made later has another one, and none of the messages.
    pub id: String,
    pub created_at: Timestamp,
    pub modified_at: Timestamp,
    pub purged_at: Option<Timestamp>,
    /// Those that were set; see [`crate::attributes`] for what the others are.
    pub attributes: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

/// A queue's name whose queue is gone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Deleted {
    pub at: Timestamp,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Message {
    pub id: String,
    pub body: String,
    pub attributes: BTreeMap<String, MessageAttributeValue>,
    pub trace_header: Option<String>,
    pub sender_id: String,
    pub sent_at: Timestamp,
    /// Nobody receives it before.
    pub visible_at: Timestamp,
    /// The last receive's; `None`: it is no receive that hides it.
    pub receipt: Option<String>,
    pub receives: u32,
    pub first_received_at: Option<Timestamp>,
    pub group_id: Option<String>,
    /// The queue that it could not be handled in.
    pub dead_letter_source: Option<String>,
}

/// Of a message beside its body and attributes.
const OVERHEAD: usize = 512;

/// When a queue's messages go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redrive {
    pub target_arn: String,
    pub max_receives: u32,
}

impl Queue {
    pub(crate) fn number(&self, attribute: &str) -> i64 {
        let set = self.attributes.get(attribute).map(String::as_str);
        let text = set.or_else(|| crate::attributes::default(attribute)).unwrap_or_default();
        text.parse().unwrap_or_default()
    }

    pub(crate) fn seconds(&self, attribute: &str) -> Duration {
        Duration::from_secs(self.number(attribute).try_into().unwrap_or_default())
    }

    /// Read anew each time: what is kept was checked when it was set.
    pub(crate) fn policy(&self) -> Option<Arc<Policy>> {
        let text = self.attributes.get("Policy")?;
        Policy::parse(text, Kind::Resource).ok().map(Arc::new)
    }

    pub(crate) fn redrive(&self) -> Option<Redrive> {
        crate::attributes::redrive(self.attributes.get("RedrivePolicy")?)
    }

    /// Before its messages' keys.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/", self.id)
    }
}

impl Message {
    /// Keys are in the order in which messages came.
    pub(crate) fn key(&self, queue: &Queue) -> String {
        format!("{}/{:020}-{}", queue.id, self.sent_at.as_nanosecond(), self.id)
    }

    /// About as much as it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        let of = |(name, it): (&String, &MessageAttributeValue)| {
            let text = it.string_value.as_ref().map_or(0, String::len);
            name.len() + text + it.binary_value.as_ref().map_or(0, String::len)
        };
        OVERHEAD + self.body.len() + self.attributes.iter().map(of).sum::<usize>()
    }

    pub(crate) fn is_expired(&self, queue: &Queue, now: Timestamp) -> bool {
        clock::later(self.sent_at, queue.seconds("MessageRetentionPeriod")) <= now
    }

    /// It was received and not deleted, and is not to be received again yet.
    pub(crate) fn is_in_flight(&self, now: Timestamp) -> bool {
        self.receipt.is_some() && self.visible_at > now
    }
}
