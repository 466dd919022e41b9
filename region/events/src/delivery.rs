//! Events on their way to targets.
//!
//! What may pass is tried again with longer and longer pauses, as long as the target's retry policy
//! says; what will not pass (the queue is gone, or does not let EventBridge in) is not. An event that
//! cannot be delivered goes to the target's dead-letter queue, if it has one that can be written to.
//!
//! Source: EventBridge user guide, "How EventBridge retries delivering events" and "Using dead-letter
//! queues to process undelivered events".

use std::{collections::BTreeMap, time::Duration};

use aws_sqs::message::{MessageAttributeValue, SendMessage, SendMessageRequest};
use aws_wire::{CallError, Fault};
use jiff::Timestamp;
use tracing::{debug, warn};

use crate::{EventBridge, records::Delivery, targets};

const DEFAULT_ATTEMPTS: u32 = 185;
const DEFAULT_AGE: Duration = Duration::from_secs(24 * 3600);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// When the state itself could not be written.
const AGAIN: Duration = Duration::from_secs(1);

impl EventBridge {
    /// Carries events until it is dropped.
    pub async fn run(self) {
        loop {
            let accepted = self.accepted().notified();
            let wait = match self.deliver_due().await {
                Ok(next) => next.map(|at| self.clock().until(at)),
                Err(fault) => {
                    warn!(%fault, "events could not be carried on, it is tried again");
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
                () = accepted => {}
                () = due => {}
            }
        }
    }

    /// Tries what is due once. Says when the next is.
    pub(crate) async fn deliver_due(&self) -> Result<Option<Timestamp>, Fault> {
        let due = |it: &Delivery| it.next_at <= self.now();
        for (key, delivery) in self.deliveries() {
            if due(&delivery) {
                self.attempt(&key, &delivery).await?;
            }
        }
        Ok(self.deliveries().into_iter().map(|(_, it)| it.next_at).min())
    }

    async fn attempt(&self, key: &str, delivery: &Delivery) -> Result<(), Fault> {
        let sent = self.send(&delivery.rule_arn, &delivery.target.arn, &delivery.body, None).await;
        let Err(failure) = sent else { return self.done(key) };
        let attempts = delivery.attempts + 1;
        let next_at = next(delivery, attempts, self.now());
        if let Some(next_at) = next_at.filter(|_| failure.may_pass) {
            debug!(target = delivery.target.arn, code = failure.code, "an event is tried again");
            let later = Delivery { attempts, next_at, ..delivery.clone() };
            return self.change_deliveries(|transaction, bucket| {
                transaction.put(bucket, key, later);
            });
        }
        self.give_up(delivery, &failure, attempts).await;
        self.done(key)
    }

    fn done(&self, key: &str) -> Result<(), Fault> {
        self.change_deliveries(|transaction, bucket| transaction.delete(bucket, key))
    }

    async fn send(
        &self,
        rule_arn: &str,
        arn: &str,
        body: &str,
        attributes: Option<BTreeMap<String, MessageAttributeValue>>,
    ) -> Result<(), Failure> {
        let queue_url = targets::queue_url(self, arn).map_err(Failure::of)?;
        let request = SendMessageRequest {
            queue_url,
            message_body: body.to_owned(),
            message_attributes: attributes.unwrap_or_default(),
            ..Default::default()
        };
        let sent = self.client(rule_arn).call::<SendMessage>(request).await;
        sent.map(drop).map_err(|error| Failure::of_call(&error))
    }

    async fn give_up(&self, delivery: &Delivery, failure: &Failure, attempts: u32) {
        let Delivery { rule_arn, target, .. } = delivery;
        warn!(
            rule = rule_arn,
            target = target.arn,
            code = failure.code,
            reason = failure.message,
            "an event could not be delivered",
        );
        let Some(queue) = target.dead_letter_config.as_ref().and_then(|it| it.arn.as_deref())
        else {
            return;
        };
        let condition = if failure.may_pass { "MaximumRetryAttempts" } else { "NotRetryable" };
        let told = [
            ("RULE_ARN", rule_arn.as_str()),
            ("TARGET_ARN", &target.arn),
            ("ERROR_CODE", &failure.code),
            ("ERROR_MESSAGE", &failure.message),
            ("RETRY_ATTEMPTS", &(attempts - 1).to_string()),
            ("EXHAUSTED_RETRY_CONDITION", condition),
        ]
        .map(|(name, value)| (name.to_owned(), text(value)));
        let sent = self.send(rule_arn, queue, &delivery.body, Some(told.into())).await;
        if let Err(failure) = sent {
            warn!(queue, code = failure.code, "nor could its dead-letter queue be written to");
        }
    }
}

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue {
        string_value: Some(value.to_owned()),
        binary_value: None,
        data_type: "String".to_owned(),
    }
}

/// When it is tried again; `None`: its time is up.
fn next(delivery: &Delivery, attempts: u32, now: Timestamp) -> Option<Timestamp> {
    let policy = delivery.target.retry_policy.as_ref();
    let most = policy.and_then(|it| it.maximum_retry_attempts);
    let most = most.and_then(|it| u32::try_from(it).ok()).unwrap_or(DEFAULT_ATTEMPTS);
    let age = policy.and_then(|it| it.maximum_event_age_in_seconds);
    let age = age.map_or(DEFAULT_AGE, |it| Duration::from_secs(it.unsigned_abs()));
    let pause = FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE);
    let at = clock::later(now, pause);
    (attempts <= most && at <= clock::later(delivery.accepted_at, age)).then_some(at)
}

/// Why an attempt failed.
struct Failure {
    code: String,
    message: String,
    may_pass: bool,
}

impl Failure {
    fn of(fault: Fault) -> Self {
        let may_pass = fault.is_transient();
        // EventBridge names the reasons itself.
        let code = match &*fault.code {
            "AccessDeniedException" => "NO_PERMISSIONS".to_owned(),
            "QueueDoesNotExist" => "NO_RESOURCE".to_owned(),
            other => other.to_owned(),
        };
        Self { code, message: fault.message, may_pass }
    }

    fn of_call(error: &CallError) -> Self {
        match error.fault() {
            Some(fault) => Self::of(fault.clone()),
            None => Self {
                code: "SDK_CLIENT_ERROR".to_owned(),
                message: error.to_string(),
                may_pass: true,
            },
        }
    }
}
