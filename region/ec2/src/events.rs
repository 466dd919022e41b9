//! What EC2 tells the account's event bus of its instances.
//!
//! [`State::tell`] is the place to say something; every change of an instance's state is told without
//! being said. What is told is written down with the change that it is about, and put on the bus
//! afterwards by `PutEvents`, as any producer does it: nothing is lost between the two.
//!
//! **Invariant:** each state that an instance comes into is told once or, after a crash, twice, and in
//! the order in which they came.
//!
//! Source: EC2 user guide, "Automate actions for your instances using EventBridge".

use std::{sync::Arc, time::Duration};

use aws_events::event::{PutEvents, PutEventsRequest, PutEventsRequestEntry, PutEventsResultEntry};
use aws_wire::{Client, Fault};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

use crate::{Config, Ec2, records::InstanceState, state::State};

/// `PutEvents` takes as many at once.
const AT_ONCE: usize = 10;
/// Where the bus cannot be reached.
const AGAIN: Duration = Duration::from_secs(1);

/// Something for the default bus.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Event {
    /// `aws.ec2`
    pub source: String,
    /// `EC2 Instance State-change Notification`
    pub detail_type: String,
    /// ARNs.
    pub resources: Vec<String>,
    pub detail: Value,
}

impl Event {
    /// Of one instance; `detail` gets its id.
    pub(crate) fn of_instance(
        config: &Config,
        id: &str,
        detail_type: &str,
        mut detail: Value,
    ) -> Self {
        detail["instance-id"] = json!(id);
        Self {
            source: "aws.ec2".to_owned(),
            detail_type: detail_type.to_owned(),
            resources: vec![config.arn("instance", id)],
            detail,
        }
    }
}

/// An event that is not on the bus yet.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Pending {
    pub(crate) at: Timestamp,
    pub(crate) event: Event,
}

impl Pending {
    /// Keys are in the order in which events happened, whatever the clock did between them; `last` is
    /// the newest that is not published.
    pub(crate) fn new(at: Timestamp, last: Option<&str>, event: Event) -> (String, Self) {
        let after = last.and_then(|it| it.parse::<i128>().ok()).map_or(0, |it| it + 1);
        (format!("{:020}", at.as_nanosecond().max(after)), Self { at, event })
    }
}

/// Tells every state that instances have come into between the two.
pub(crate) fn of_states(config: &Config, before: &State, after: &mut State) {
    let mut events = Vec::new();
    for instance in after.instances.unsaved() {
        let was = before.instances.get(&instance.id).map(|it| it.state);
        for state in passed(was, instance.state) {
            let detail = json!({ "state": state.name() });
            let kind = "EC2 Instance State-change Notification";
            events.push(Event::of_instance(config, &instance.id, kind, detail));
        }
    }
    events.into_iter().for_each(|it| after.tell(it));
}

/// The states on the way: one call may take an instance through two.
fn passed(was: Option<InstanceState>, is: InstanceState) -> Vec<InstanceState> {
    use InstanceState::{Running, ShuttingDown, Stopped, Stopping, Terminated};
    match (was, is) {
        (Some(was), is) if was == is => Vec::new(),
        (Some(Running), Stopped) => vec![Stopping, Stopped],
        (Some(was), Terminated) if was != ShuttingDown => vec![ShuttingDown, Terminated],
        (_, is) => vec![is],
    }
}

impl Ec2 {
    /// Puts events on the bus until it is dropped. `bus` acts as the service: only AWS's own may use
    /// its sources.
    pub async fn publish(self, bus: Client) {
        loop {
            let told = self.told().notified();
            let wait = match self.publish_some(&bus).await {
                Ok(true) => continue,
                Ok(false) => None,
                Err(error) => {
                    warn!(%error, "instances' events are not on the bus, it is tried again");
                    Some(AGAIN)
                }
            };
            let due = async {
                match wait {
                    None => std::future::pending().await,
                    Some(wait) => tokio::time::sleep(wait).await,
                }
            };
            tokio::select! {
                () = told => {}
                () = due => {}
            }
        }
    }

    /// Says whether there was something.
    async fn publish_some(&self, bus: &Client) -> Result<bool, Fault> {
        let mut pending = self.unpublished();
        pending.truncate(AT_ONCE);
        if pending.is_empty() {
            return Ok(false);
        }
        let entries = pending.iter().map(|(_, it)| entry(it)).collect();
        let put = bus.call::<PutEvents>(PutEventsRequest { entries }).await;
        let put = put.map_err(|error| Fault::internal(error.to_string()))?;
        let (done, kept) = settled(pending, &put.entries);
        self.published(done.into_iter())?;
        if kept > 0 {
            return Err(Fault::internal(format!("the bus has no room for {kept} events")));
        }
        Ok(true)
    }
}

/// The keys of those that are not to be told again, and how many are. The bus takes none after one that
/// it has no room for, so that they stay in their order.
fn settled(
    pending: Vec<(String, Arc<Pending>)>,
    answers: &[PutEventsResultEntry],
) -> (Vec<String>, usize) {
    let (mut done, mut kept, mut dropped) = (Vec::new(), 0, 0);
    for (index, (key, it)) in pending.into_iter().enumerate() {
        let answer = answers.get(index);
        let refused = answer.and_then(|it| it.error_code.as_deref());
        match refused {
            Some("ThrottlingException" | "InternalFailure" | "InternalException") => kept += 1,
            Some(code) => {
                let reason = answer.and_then(|it| it.error_message.as_deref());
                dropped += 1;
                warn!(code, reason, kind = it.event.detail_type, dropped, "an event is dropped");
                done.push(key);
            }
            None => done.push(key),
        }
    }
    (done, kept)
}

fn entry(pending: &Pending) -> PutEventsRequestEntry {
    let Pending { at, event } = pending;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit in 53 bits")]
    let time = at.as_millisecond() as f64 / 1000.0;
    PutEventsRequestEntry {
        time: Some(time),
        source: Some(event.source.clone()),
        resources: event.resources.clone(),
        detail_type: Some(event.detail_type.clone()),
        detail: Some(event.detail.to_string()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_between_are_told_too() {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        assert_eq!(passed(None, Pending), [Pending]);
        assert_eq!(passed(Some(Pending), Running), [Running]);
        assert_eq!(passed(Some(Running), Running), []);
        assert_eq!(passed(Some(Running), Stopped), [Stopping, Stopped]);
        assert_eq!(passed(Some(Stopping), Stopped), [Stopped]);
        assert_eq!(passed(Some(Running), Terminated), [ShuttingDown, Terminated]);
        assert_eq!(passed(Some(ShuttingDown), Terminated), [Terminated]);
    }

    #[test]
    fn what_the_bus_has_no_room_for_is_told_again_and_what_it_will_not_have_is_not() {
        let event = Event {
            source: "aws.ec2".to_owned(),
            detail_type: "EC2 Instance State-change Notification".to_owned(),
            resources: Vec::new(),
            detail: json!({}),
        };
        let pending = |key: &str| {
            let it = Pending { at: Timestamp::UNIX_EPOCH, event: event.clone() };
            (key.to_owned(), Arc::new(it))
        };
        let answer = |code: Option<&str>| PutEventsResultEntry {
            error_code: code.map(str::to_owned),
            ..Default::default()
        };
        let answers =
            [None, Some("MalformedDetail"), Some("ThrottlingException")].map(answer).to_vec();
        let (done, kept) = settled(["1", "2", "3"].map(pending).to_vec(), &answers);
        assert_eq!((done, kept), (vec!["1".to_owned(), "2".to_owned()], 1));
    }
}
