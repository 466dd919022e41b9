//! Rules and deliveries, with real queues behind the gateway, in virtual time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_events::{event::*, rule::*, tag::*, target::*};
use aws_sqs::{
    message::{ReceiveMessage, ReceiveMessageRequest},
    queue::{CreateQueue, CreateQueueRequest, DeleteQueue, DeleteQueueRequest},
};
use aws_wire::{Fault, Operation};
use clock::Clock;
use latency::Latency;
use region_gateway::{
    Attached, Caller, CallerKind, Config as GatewayConfig, Events, Gateway, Handle, Identities,
    Role,
};
use region_sqs::Sqs;
use region_store::Store;
use serde_json::{Value, json};

use crate::{Config, EventBridge, routes};

const ACCOUNT: &str = "111122223333";
const REGION: &str = "us-east-1";
const RULE: &str = "arn:aws:events:us-east-1:111122223333:rule/warnings";
const QUEUE: &str = "arn:aws:sqs:us-east-1:111122223333:jobs";
const PATTERN: &str = r#"{"source":["aws.ec2"],"detail":{"state":["running"]}}"#;

struct Nobody;

impl Identities for Nobody {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        None
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}

struct Region {
    events: EventBridge,
    sqs: Arc<Sqs>,
    gateway: Gateway,
    root: Caller,
}

fn over(store: &Store) -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let (account, region) = (ACCOUNT.to_owned(), REGION.to_owned());
    let gateway = Gateway::new(GatewayConfig {
        region: region.clone(),
        account: account.clone(),
        clock,
        keys: Vec::new(),
        identities: Arc::new(Nobody),
        events: Events::in_memory(),
    });
    let config = region_sqs::Config {
        account: account.clone(),
        region: region.clone(),
        latency: Latency::INSTANT,
        authorizer: gateway.authorizer().clone(),
    };
    let sqs = Arc::new(Sqs::open(store, config, clock).unwrap());
    let config = Config { account, region, gateway: gateway.clone() };
    let events = EventBridge::open(store, config, clock).unwrap();
    let served = routes(&Arc::new(events.clone())).merge(region_sqs::routes(&sqs));
    assert!(gateway.open(served));
    Region { events, sqs, gateway, root: Caller::root(ACCOUNT, REGION, clock.now()) }
}

impl Region {
    fn new() -> Self {
        over(&Store::in_memory())
    }

    async fn call<O: Operation>(&self, request: O::Request) -> Result<O::Response, Fault>
    where
        EventBridge: Handle<O>,
    {
        Handle::<O>::handle(&self.events, &self.root, request).await
    }

    async fn queue(&self, name: &str, rule: &str) {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "Service": "events.amazonaws.com" },
                "Action": "sqs:SendMessage",
                "Resource": "*",
                "Condition": { "ArnEquals": { "aws:SourceArn": rule } },
            }],
        });
        let request = CreateQueueRequest {
            queue_name: name.to_owned(),
            attributes: BTreeMap::from([("Policy".to_owned(), policy.to_string())]),
            ..Default::default()
        };
        Handle::<CreateQueue>::handle(&*self.sqs, &self.root, request).await.unwrap();
    }

    async fn rule(&self, target: Target) {
        let rule = PutRuleRequest {
            name: "warnings".to_owned(),
            event_pattern: Some(PATTERN.to_owned()),
            ..Default::default()
        };
        let made = self.call::<PutRule>(rule).await.unwrap();
        assert_eq!(made.rule_arn.as_deref(), Some(RULE));
        let request = PutTargetsRequest {
            rule: "warnings".to_owned(),
            targets: vec![target],
            ..Default::default()
        };
        self.call::<PutTargets>(request).await.unwrap();
    }

    /// As EC2 does it.
    async fn started(&self, state: &str) {
        let client = self.gateway.client_as("ec2.amazonaws.com");
        let put = PutEventsRequest { entries: vec![entry("aws.ec2", state)] };
        let done = client.call::<PutEvents>(put).await.unwrap();
        assert_eq!(done.failed_entry_count, Some(0));
    }

    async fn received(&self, name: &str) -> Vec<aws_sqs::message::Message> {
        let request = ReceiveMessageRequest {
            queue_url: url(name),
            max_number_of_messages: Some(10),
            message_attribute_names: vec!["All".to_owned()],
            ..Default::default()
        };
        let received = Handle::<ReceiveMessage>::handle(&*self.sqs, &self.root, request).await;
        received.unwrap().messages
    }
}

fn url(name: &str) -> String {
    format!("https://sqs.us-east-1.amazonaws.com/111122223333/{name}")
}

fn target() -> Target {
    Target { id: "queue".to_owned(), arn: QUEUE.to_owned(), ..Default::default() }
}

fn entry(source: &str, state: &str) -> PutEventsRequestEntry {
    PutEventsRequestEntry {
        source: Some(source.to_owned()),
        detail_type: Some("EC2 Instance State-change Notification".to_owned()),
        detail: Some(json!({ "instance-id": "i-1", "state": state }).to_string()),
        resources: vec!["arn:aws:ec2:us-east-1:111122223333:instance/i-1".to_owned()],
        ..Default::default()
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
    result.unwrap_err().code.into_owned()
}

#[tokio::test(start_paused = true)]
async fn an_event_that_matches_reaches_the_queue_in_the_shape_of_aws() {
    let region = Region::new();
    region.queue("jobs", RULE).await;
    region.rule(target()).await;
    region.started("pending").await;
    region.started("running").await;
    assert_eq!(region.events.deliver_due().await.unwrap(), None);
    let received = region.received("jobs").await;
    assert_eq!(received.len(), 1, "one matched");
    let mut event: Value = serde_json::from_str(received[0].body.as_ref().unwrap()).unwrap();
    assert_eq!(event["id"].take().as_str().unwrap().len(), 36);
    let wanted = json!({
        "version": "0",
        "id": null,
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": ACCOUNT,
        "time": "2026-11-23T12:00:00Z",
        "region": REGION,
        "resources": ["arn:aws:ec2:us-east-1:111122223333:instance/i-1"],
        "detail": { "instance-id": "i-1", "state": "running" },
    });
    assert_eq!(event, wanted);
}

#[tokio::test(start_paused = true)]
async fn only_aws_speaks_for_aws() {
    let region = Region::new();
    let entries = vec![entry("aws.ec2", "running"), entry("my.app", "running")];
    let put = region.call::<PutEvents>(PutEventsRequest { entries }).await.unwrap();
    assert_eq!(put.failed_entry_count, Some(1));
    let first = put.entries[0].error_code.as_deref();
    assert_eq!(first, Some("NotAuthorizedForSourceException"));
    assert!(put.entries[1].event_id.is_some());
    let broken = PutEventsRequestEntry { detail: Some("{".to_owned()), ..entry("my.app", "x") };
    let entries = vec![broken];
    let put = region.call::<PutEvents>(PutEventsRequest { entries }).await.unwrap();
    assert_eq!(put.entries[0].error_code.as_deref(), Some("MalformedDetail"));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_disabled_or_has_no_targets_sends_nothing() {
    let region = Region::new();
    region.queue("jobs", RULE).await;
    region.rule(target()).await;
    let name = || "warnings".to_owned();
    let off = DisableRuleRequest { name: name(), ..Default::default() };
    region.call::<DisableRule>(off).await.unwrap();
    region.started("running").await;
    let on = EnableRuleRequest { name: name(), ..Default::default() };
    region.call::<EnableRule>(on).await.unwrap();
    let delete = || DeleteRuleRequest { name: name(), ..Default::default() };
    assert_eq!(code(region.call::<DeleteRule>(delete()).await), "ValidationException");
    let remove =
        RemoveTargetsRequest { rule: name(), ids: vec!["queue".to_owned()], ..Default::default() };
    region.call::<RemoveTargets>(remove).await.unwrap();
    region.started("running").await;
    region.events.deliver_due().await.unwrap();
    assert!(region.received("jobs").await.is_empty());
    region.call::<DeleteRule>(delete()).await.unwrap();
    region.call::<DeleteRule>(delete()).await.unwrap();
    let describe = DescribeRuleRequest { name: name(), ..Default::default() };
    let gone = region.call::<DescribeRule>(describe).await;
    assert_eq!(code(gone), "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_lets_nobody_in_gets_nothing_and_the_dead_letter_queue_says_why() {
    let region = Region::new();
    region.queue("jobs", "arn:aws:events:us-east-1:111122223333:rule/another").await;
    region.queue("dead", RULE).await;
    let dead = DeadLetterConfig { arn: Some(QUEUE.replace("jobs", "dead")) };
    region.rule(Target { dead_letter_config: Some(dead), ..target() }).await;
    region.started("running").await;
    assert_eq!(region.events.deliver_due().await.unwrap(), None);
    assert!(region.received("jobs").await.is_empty());
    let letter = region.received("dead").await.remove(0);
    let told = |name: &str| letter.message_attributes[name].string_value.clone().unwrap();
    assert_eq!(told("ERROR_CODE"), "NO_PERMISSIONS");
    assert_eq!((told("RULE_ARN"), told("TARGET_ARN")), (RULE.to_owned(), QUEUE.to_owned()));
    assert_eq!(told("EXHAUSTED_RETRY_CONDITION"), "NotRetryable");
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_delivered_after_a_restart() {
    let store = Store::in_memory();
    let first = over(&store);
    first.queue("jobs", RULE).await;
    first.rule(target()).await;
    first.started("running").await;
    // The first one ends here; nothing was carried.
    let second = over(&store);
    second.events.deliver_due().await.unwrap();
    assert_eq!(second.received("jobs").await.len(), 1);
    second.events.deliver_due().await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(second.received("jobs").await.len(), 1, "the same, and no other");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_carried_as_soon_as_it_is_accepted() {
    let region = Region::new();
    region.queue("jobs", RULE).await;
    region.rule(target()).await;
    let asked = async {
        region.started("running").await;
        let request = ReceiveMessageRequest {
            queue_url: url("jobs"),
            wait_time_seconds: Some(20),
            ..Default::default()
        };
        Handle::<ReceiveMessage>::handle(&*region.sqs, &region.root, request).await
    };
    tokio::select! {
        () = region.events.clone().run() => panic!("it does not end"),
        received = asked => assert_eq!(received.unwrap().messages.len(), 1),
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_gone_is_given_up() {
    let region = Region::new();
    region.queue("jobs", RULE).await;
    region.rule(target()).await;
    let delete = DeleteQueueRequest { queue_url: url("jobs") };
    Handle::<DeleteQueue>::handle(&*region.sqs, &region.root, delete).await.unwrap();
    region.started("running").await;
    assert_eq!(region.events.deliver_due().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_or_not_valid_is_refused() {
    let region = Region::new();
    let rule = |pattern: Option<&str>| PutRuleRequest {
        name: "r".to_owned(),
        event_pattern: pattern.map(str::to_owned),
        ..Default::default()
    };
    let put = |request| region.call::<PutRule>(request);
    let schedule =
        PutRuleRequest { schedule_expression: Some("rate(1 minute)".to_owned()), ..rule(None) };
    assert_eq!(code(put(schedule).await), "ValidationException");
    assert_eq!(code(put(rule(None)).await), "ValidationException");
    assert_eq!(code(put(rule(Some("{}"))).await), "InvalidEventPatternException");
    let bus = PutRuleRequest { event_bus_name: Some("mine".to_owned()), ..rule(Some(PATTERN)) };
    assert_eq!(code(put(bus).await), "ResourceNotFoundException");
    put(rule(Some(PATTERN))).await.unwrap();
    let lambda =
        Target { arn: "arn:aws:lambda:us-east-1:111122223333:function:f".to_owned(), ..target() };
    let targets = |target| PutTargetsRequest {
        rule: "r".to_owned(),
        targets: vec![target],
        ..Default::default()
    };
    let refused = region.call::<PutTargets>(targets(lambda)).await.unwrap_err();
    assert_eq!(refused.code, "ValidationException");
    assert!(refused.message.contains("lambda is not supported"), "{}", refused.message);
    for number in 0..6 {
        let one = Target { id: number.to_string(), ..target() };
        let put = region.call::<PutTargets>(targets(one)).await;
        assert_eq!(put.is_ok(), number < 5, "{put:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_replaced_but_for_its_targets_and_tags() {
    let region = Region::new();
    let tag = |key: &str| Tag { key: key.to_owned(), value: "x".to_owned() };
    let rule = PutRuleRequest {
        name: "warnings".to_owned(),
        event_pattern: Some(PATTERN.to_owned()),
        description: Some("first".to_owned()),
        tags: vec![tag("a")],
        ..Default::default()
    };
    region.call::<PutRule>(rule.clone()).await.unwrap();
    region.queue("jobs", RULE).await;
    let put = PutTargetsRequest {
        rule: "warnings".to_owned(),
        targets: vec![target()],
        ..Default::default()
    };
    region.call::<PutTargets>(put).await.unwrap();
    let second = PutRuleRequest { description: None, tags: vec![tag("b")], ..rule };
    region.call::<PutRule>(second).await.unwrap();
    let describe = DescribeRuleRequest { name: "warnings".to_owned(), ..Default::default() };
    assert_eq!(region.call::<DescribeRule>(describe).await.unwrap().description, None);
    let list = ListTagsForResourceRequest { resource_arn: RULE.to_owned() };
    assert_eq!(region.call::<ListTagsForResource>(list).await.unwrap().tags, [tag("a")]);
    let list = ListTargetsByRuleRequest { rule: "warnings".to_owned(), ..Default::default() };
    assert_eq!(region.call::<ListTargetsByRule>(list).await.unwrap().targets, [target()]);
}

#[tokio::test(start_paused = true)]
async fn who_makes_a_rule_with_tags_must_be_allowed_to_tag_it() {
    let region = Region::new();
    let actions = |tags: Vec<Tag>| {
        let request = PutRuleRequest {
            name: "warnings".to_owned(),
            event_pattern: Some(PATTERN.to_owned()),
            tags,
            ..Default::default()
        };
        let targets = Handle::<PutRule>::targets(&region.events, &region.root, &request);
        targets.into_iter().map(|it| it.action).collect::<Vec<_>>()
    };
    assert_eq!(actions(Vec::new()), [None::<String>]);
    let tag = Tag { key: "a".to_owned(), value: "x".to_owned() };
    assert_eq!(actions(vec![tag]), [None, Some("events:TagResource".to_owned())]);
}

/// One call may be for hundreds of rules: what it would become is bounded, and told.
#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_refused_and_nothing_after_it_is_taken() {
    let region = Region::new();
    region.queue("jobs", RULE).await;
    for number in 0..80 {
        let rule = PutRuleRequest {
            name: format!("r{number}"),
            event_pattern: Some(PATTERN.to_owned()),
            ..Default::default()
        };
        region.call::<PutRule>(rule).await.unwrap();
        let targets = (0..5).map(|it| Target { id: format!("t{it}"), ..target() }).collect();
        let request =
            PutTargetsRequest { rule: format!("r{number}"), targets, ..Default::default() };
        region.call::<PutTargets>(request).await.unwrap();
    }
    let large = |filler: usize| {
        let detail = json!({ "state": "running", "filler": "x".repeat(filler) });
        PutEventsRequestEntry { detail: Some(detail.to_string()), ..entry("aws.ec2", "running") }
    };
    // 400 targets: the second does not fit in any more, and the small one does not pass it.
    let entries = vec![large(100_000), large(100_000), entry("aws.ec2", "running")];
    let client = region.gateway.client_as("ec2.amazonaws.com");
    let done = client.call::<PutEvents>(PutEventsRequest { entries }).await.unwrap();
    assert_eq!(done.failed_entry_count, Some(2));
    let codes: Vec<_> = done.entries.iter().map(|it| it.error_code.as_deref()).collect();
    let throttled = Some("ThrottlingException");
    assert_eq!(codes, [None, throttled, throttled]);
    assert_eq!(region.events.deliveries().len(), 400);

    // One that would be too much alone is not to be sent again, and keeps no other out.
    let entries = vec![large(200_000), entry("aws.ec2", "running")];
    let done = client.call::<PutEvents>(PutEventsRequest { entries }).await.unwrap();
    let codes: Vec<_> = done.entries.iter().map(|it| it.error_code.as_deref()).collect();
    assert_eq!(codes, [Some("InvalidArgument"), None]);
    assert_eq!(region.events.deliveries().len(), 800);
}
