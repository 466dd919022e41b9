//! Queues in virtual time, called by the account's root and by AWS's services.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_sqs::{batch::*, message::*, queue::*, tag::*};
use aws_wire::{Fault, Operation, credentials::Credentials, sigv4::Signer, xml};
use clock::Clock;
use http::Request;
use latency::Latency;
use region_gateway::{
    AccessKey, AccessKeys, Attached, Authorizer, Caller, CallerKind, Config as GatewayConfig,
    Events, Gateway, Handle, Identities, Principal, Role, Source,
};
use region_store::Store;

use crate::{Config, Sqs};

const ACCOUNT: &str = "111122223333";
const REGION: &str = "us-east-1";
const URL: &str = "https://sqs.us-east-1.amazonaws.com/111122223333/jobs";
const RULE: &str = "arn:aws:events:us-east-1:111122223333:rule/warnings";

/// Nobody has policies of their own: root needs none, and services have the queue's.
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
    sqs: Sqs,
    clock: Clock,
    root: Caller,
}

fn over(store: &Store, latency: Latency) -> Region {
    let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
    let config = Config {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        latency,
        authorizer: Authorizer::new(Arc::new(Nobody)),
    };
    let sqs = Sqs::open(store, config, clock).unwrap();
    Region { sqs, clock, root: Caller::root(ACCOUNT, REGION, clock.now()) }
}

fn region() -> Region {
    over(&Store::in_memory(), Latency::INSTANT)
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
    result.unwrap_err().code.into_owned()
}

impl Region {
    async fn call<O: Operation>(&self, request: O::Request) -> Result<O::Response, Fault>
    where
        Sqs: Handle<O>,
    {
        Handle::<O>::handle(&self.sqs, &self.root, request).await
    }

    async fn create(&self, name: &str, attributes: &[(&str, &str)]) -> Result<String, Fault> {
        let request = CreateQueueRequest {
            queue_name: name.to_owned(),
            attributes: owned(attributes),
            ..Default::default()
        };
        Ok(self.call::<CreateQueue>(request).await?.queue_url.unwrap())
    }

    async fn send(&self, body: &str) -> SendMessageResponse {
        self.call::<SendMessage>(message(body)).await.unwrap()
    }

    async fn receive(&self, url: &str, wait: i64) -> Vec<Message> {
        let all = || vec!["All".to_owned()];
        let request = ReceiveMessageRequest {
            queue_url: url.to_owned(),
            max_number_of_messages: Some(10),
            wait_time_seconds: Some(wait),
            message_system_attribute_names: all(),
            message_attribute_names: all(),
            ..Default::default()
        };
        self.call::<ReceiveMessage>(request).await.unwrap().messages
    }

    async fn bodies(&self, url: &str) -> Vec<String> {
        self.receive(url, 0).await.into_iter().filter_map(|it| it.body).collect()
    }

    async fn attribute(&self, name: &str) -> Option<String> {
        let request = GetQueueAttributesRequest {
            queue_url: URL.to_owned(),
            attribute_names: vec!["All".to_owned()],
        };
        self.call::<GetQueueAttributes>(request).await.unwrap().attributes.remove(name)
    }

    async fn set(&self, attributes: &[(&str, &str)]) -> Result<SetQueueAttributesResponse, Fault> {
        let attributes = owned(attributes);
        let request = SetQueueAttributesRequest { queue_url: URL.to_owned(), attributes };
        self.call::<SetQueueAttributes>(request).await
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }
}

fn message(body: &str) -> SendMessageRequest {
    SendMessageRequest {
        queue_url: URL.to_owned(),
        message_body: body.to_owned(),
        ..Default::default()
    }
}

fn handle(message: &Message) -> String {
    message.receipt_handle.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_made_once_and_its_attributes_are_its_name() {
    let region = region();
    assert_eq!(region.create("jobs", &[("DelaySeconds", "0")]).await.unwrap(), URL);
    assert_eq!(region.create("jobs", &[]).await.unwrap(), URL);
    assert_eq!(region.create("jobs", &[("VisibilityTimeout", "30")]).await.unwrap(), URL);
    let other = region.create("jobs", &[("VisibilityTimeout", "31")]).await.unwrap_err();
    assert_eq!(other.code, "QueueNameExists");
    assert_eq!(other.query_code(), Some("QueueAlreadyExists"));
    let arn = "arn:aws:sqs:us-east-1:111122223333:jobs";
    assert_eq!(region.attribute("QueueArn").await.as_deref(), Some(arn));
    assert_eq!(region.attribute("MessageRetentionPeriod").await.as_deref(), Some("345600"));
    assert_eq!(region.attribute("Policy").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_or_not_valid_is_refused() {
    let region = region();
    let create = |name: &'static str, of: &'static [(&'static str, &'static str)]| {
        let region = &region;
        async move { code(region.create(name, of).await) }
    };
    assert_eq!(create("jobs.fifo", &[("FifoQueue", "true")]).await, "UnsupportedOperation");
    assert_eq!(create("a b", &[]).await, "InvalidParameterValueException");
    assert_eq!(create("a", &[("Nonsense", "1")]).await, "InvalidAttributeName");
    assert_eq!(create("a", &[("DelaySeconds", "901")]).await, "InvalidAttributeValue");
    assert_eq!(create("a", &[("Policy", "{}")]).await, "InvalidAttributeValue");
    assert_eq!(create("a", &[("KmsMasterKeyId", "alias/x")]).await, "UnsupportedOperation");
    let gone = region.call::<SendMessage>(message("x")).await.unwrap_err();
    assert_eq!(gone.query_code(), Some("AWS.SimpleQueueService.NonExistentQueue"));
    region.create("jobs", &[("MaximumMessageSize", "1024")]).await.unwrap();
    let long = region.call::<SendMessage>(message(&"x".repeat(1025))).await;
    assert_eq!(code(long), "InvalidParameterValueException");
    assert_eq!(code(region.call::<SendMessage>(message("\u{1}")).await), "InvalidMessageContents");
}

#[tokio::test(start_paused = true)]
async fn a_message_is_hidden_while_somebody_works_on_it_and_gone_when_they_are_done() {
    let region = region();
    region.create("jobs", &[]).await.unwrap();
    let sent = region.send("work").await;
    assert_eq!(sent.md5_of_message_body.unwrap(), "67e92c8765a9bc7fb2d335c459de9eb5");
    let first = region.receive(URL, 0).await.remove(0);
    assert_eq!(first.message_id, sent.message_id);
    assert_eq!(first.attributes["ApproximateReceiveCount"], "1");
    assert!(region.bodies(URL).await.is_empty());
    assert_eq!(region.attribute("ApproximateNumberOfMessagesNotVisible").await.unwrap(), "1");
    region.pass(31).await;
    let second = region.receive(URL, 0).await.remove(0);
    assert_eq!(second.attributes["ApproximateReceiveCount"], "2");
    // The first one's handle is no good any more.
    for (receipt, left) in [(handle(&first), "1"), (handle(&second), "0")] {
        let request = DeleteMessageRequest { queue_url: URL.to_owned(), receipt_handle: receipt };
        region.call::<DeleteMessage>(request).await.unwrap();
        let counted = region.attribute("ApproximateNumberOfMessagesNotVisible").await.unwrap();
        assert_eq!(counted, left);
    }
    let nonsense =
        DeleteMessageRequest { queue_url: URL.to_owned(), receipt_handle: "x".to_owned() };
    assert_eq!(code(region.call::<DeleteMessage>(nonsense).await), "ReceiptHandleIsInvalid");
}

#[tokio::test(start_paused = true)]
async fn who_polls_long_gets_a_message_when_it_comes_and_nothing_at_the_end() {
    let region = region();
    region.create("jobs", &[]).await.unwrap();
    let started = region.clock.now();
    let waited = |it: &Region| it.clock.now().duration_since(started).as_secs();
    assert!(region.receive(URL, 20).await.is_empty());
    assert_eq!(waited(&region), 20);
    let later = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        region.send("late").await;
    };
    let (received, ()) = tokio::join!(region.receive(URL, 20), later);
    assert_eq!((received.len(), waited(&region)), (1, 25));
    // What is hidden is seen when its time is over.
    let shorter = ChangeMessageVisibilityRequest {
        queue_url: URL.to_owned(),
        receipt_handle: handle(&received[0]),
        visibility_timeout: 7,
    };
    region.call::<ChangeMessageVisibility>(shorter.clone()).await.unwrap();
    assert_eq!((region.receive(URL, 20).await.len(), waited(&region)), (1, 32));
    assert_eq!(code(region.call::<ChangeMessageVisibility>(shorter).await), "MessageNotInflight");
    let queue_gone = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let request = DeleteQueueRequest { queue_url: URL.to_owned() };
        region.call::<DeleteQueue>(request).await.unwrap();
    };
    let request = ReceiveMessageRequest {
        queue_url: URL.to_owned(),
        wait_time_seconds: Some(20),
        ..Default::default()
    };
    let (received, ()) = tokio::join!(region.call::<ReceiveMessage>(request), queue_gone);
    assert_eq!(code(received), "QueueDoesNotExist");
}

#[tokio::test(start_paused = true)]
async fn messages_are_delayed_and_forgotten_in_time() {
    let region = region();
    region.create("jobs", &[("MessageRetentionPeriod", "60")]).await.unwrap();
    let delayed = SendMessageRequest { delay_seconds: Some(10), ..message("later") };
    region.call::<SendMessage>(delayed).await.unwrap();
    assert!(region.bodies(URL).await.is_empty());
    assert_eq!(region.attribute("ApproximateNumberOfMessagesDelayed").await.unwrap(), "1");
    region.pass(10).await;
    assert_eq!(region.bodies(URL).await, ["later"]);
    region.pass(51).await;
    assert!(region.bodies(URL).await.is_empty());
    region.send("next").await;
    let kept = region.sqs.tables().messages.len();
    assert_eq!(kept, 1, "what nobody may receive any more is not kept either");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_handled_goes_to_the_dead_letter_queue() {
    let region = region();
    let dead = region.create("dead", &[]).await.unwrap();
    let redrive = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:111122223333:dead",
                      "maxReceiveCount":"2"}"#;
    region.create("jobs", &[("RedrivePolicy", redrive), ("VisibilityTimeout", "1")]).await.unwrap();
    region.send("poison").await;
    for _ in 0..2 {
        assert_eq!(region.bodies(URL).await, ["poison"]);
        region.pass(2).await;
    }
    assert!(region.bodies(URL).await.is_empty());
    let letter = region.receive(&dead, 0).await.remove(0);
    assert_eq!(letter.body.as_deref(), Some("poison"));
    let source = "arn:aws:sqs:us-east-1:111122223333:jobs";
    assert_eq!(letter.attributes["DeadLetterQueueSourceArn"], source);
    let request =
        ListDeadLetterSourceQueuesRequest { queue_url: dead.clone(), ..Default::default() };
    let sources = region.call::<ListDeadLetterSourceQueues>(request).await.unwrap();
    assert_eq!(sources.queue_urls, [URL]);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_go_to_a_queue_that_there_is_and_not_to_one_to_be() {
    let region = region();
    let redrive = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:111122223333:dead",
                      "maxReceiveCount":1}"#;
    let refused = region.create("jobs", &[("RedrivePolicy", redrive)]).await.unwrap_err();
    assert_eq!(refused.code, "InvalidParameterValueException");
    assert!(refused.message.contains("Dead letter target does not exist"), "{}", refused.message);
    region.create("jobs", &[]).await.unwrap();
    let set = || SetQueueAttributesRequest {
        queue_url: URL.to_owned(),
        attributes: owned(&[("RedrivePolicy", redrive)]),
    };
    let refused = region.call::<SetQueueAttributes>(set()).await;
    assert_eq!(code(refused), "InvalidParameterValueException");
    region.create("dead", &[]).await.unwrap();
    region.call::<SetQueueAttributes>(set()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_nobody_reads_does_not_fill_the_machines_memory() {
    let region = region();
    region.create("jobs", &[]).await.unwrap();
    let large = "x".repeat((1 << 20) - 1024);
    let mut sent = 0;
    let refused = loop {
        match region.call::<SendMessage>(message(&large)).await {
            Ok(_) => sent += 1,
            Err(fault) => break fault,
        }
        assert!(sent < 1000, "there is no end of it");
    };
    assert_eq!((&*refused.code, sent), ("RequestThrottled", 8));
    // What is taken away is room again.
    let purge = PurgeQueueRequest { queue_url: URL.to_owned() };
    region.call::<PurgeQueue>(purge).await.unwrap();
    region.send("next").await;
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_moves_wakes_who_waits_for_it_and_hides_nothing_behind_it() {
    let region = region();
    let dead = region.create("dead", &[]).await.unwrap();
    let redrive = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:111122223333:dead",
                      "maxReceiveCount":1}"#;
    region.create("jobs", &[("RedrivePolicy", redrive), ("VisibilityTimeout", "1")]).await.unwrap();
    region.send("poison").await;
    assert_eq!(region.bodies(URL).await, ["poison"]);
    region.pass(2).await;
    let delayed = SendMessageRequest { delay_seconds: Some(5), ..message("later") };
    region.call::<SendMessage>(delayed).await.unwrap();
    let started = region.clock.now();
    let first = async |url: &str| {
        let body = region.receive(url, 20).await.remove(0).body.unwrap();
        (body, region.clock.now().duration_since(started).as_secs())
    };
    let (letter, next) = tokio::join!(first(dead.as_str()), first(URL));
    assert_eq!(letter, ("poison".to_owned(), 0));
    assert_eq!(next, ("later".to_owned(), 5));
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_in_by_the_queues_policy_alone_and_for_the_rule_that_it_names() {
    let region = region();
    region.create("jobs", &[]).await.unwrap();
    let events = |rule: &str| Caller {
        source_arn: Some(rule.to_owned()),
        ..Caller::service("events.amazonaws.com", ACCOUNT, REGION, region.clock.now())
    };
    let send = |rule: &'static str| {
        let (sqs, caller) = (region.sqs.clone(), events(rule));
        async move { Handle::<SendMessage>::handle(&sqs, &caller, message("warning")).await }
    };
    let denied = send(RULE).await.unwrap_err();
    assert_eq!(
        (&*denied.code, denied.query_code()),
        ("AccessDeniedException", Some("AccessDenied"))
    );
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",
            "Principal":{{"Service":["events.amazonaws.com","sqs.amazonaws.com"]}},
            "Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:111122223333:jobs",
            "Condition":{{"ArnEquals":{{"aws:SourceArn":"{RULE}"}}}}}}]}}"#
    );
    region.set(&[("Policy", &policy)]).await.unwrap();
    send(RULE).await.unwrap();
    let other = send("arn:aws:events:us-east-1:111122223333:rule/other").await;
    assert_eq!(code(other), "AccessDeniedException");
    // It may send, and nothing else.
    let purge = PurgeQueueRequest { queue_url: URL.to_owned() };
    let purged = Handle::<PurgeQueue>::handle(&region.sqs, &events(RULE), purge).await;
    assert_eq!(code(purged), "AccessDeniedException");
    region.set(&[("Policy", "")]).await.unwrap();
    assert_eq!(code(send(RULE).await), "AccessDeniedException");
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_keep_root_out_of_a_queue() {
    let region = region();
    region.create("jobs", &[]).await.unwrap();
    let deny = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*",
        "Action":"sqs:SendMessage","Resource":"*"}]}"#;
    region.set(&[("Policy", deny)]).await.unwrap();
    assert_eq!(code(region.call::<SendMessage>(message("x")).await), "AccessDeniedException");
    let entry = SendMessageBatchRequestEntry {
        id: "a".to_owned(),
        message_body: "x".to_owned(),
        ..Default::default()
    };
    let batch = SendMessageBatchRequest { queue_url: URL.to_owned(), entries: vec![entry] };
    assert_eq!(code(region.call::<SendMessageBatch>(batch).await), "AccessDeniedException");
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_batch_succeed_or_fail_by_themselves() {
    let region = region();
    region.create("jobs", &[]).await.unwrap();
    let entry = |id: &str, body: &str| SendMessageBatchRequestEntry {
        id: id.to_owned(),
        message_body: body.to_owned(),
        ..Default::default()
    };
    let batch = |entries| SendMessageBatchRequest { queue_url: URL.to_owned(), entries };
    let sent = region
        .call::<SendMessageBatch>(batch(vec![entry("a", "one"), entry("b", "\u{2}")]))
        .await
        .unwrap();
    assert_eq!((sent.successful.len(), sent.failed.len()), (1, 1));
    assert_eq!(sent.failed[0].code, "InvalidMessageContents");
    let twice = region.call::<SendMessageBatch>(batch(vec![entry("a", "1"), entry("a", "2")]));
    assert_eq!(code(twice.await), "BatchEntryIdsNotDistinct");
    assert_eq!(code(region.call::<SendMessageBatch>(batch(Vec::new())).await), "EmptyBatchRequest");
    let received = region.receive(URL, 0).await;
    let delete = DeleteMessageBatchRequest {
        queue_url: URL.to_owned(),
        entries: vec![
            DeleteMessageBatchRequestEntry { id: "a".into(), receipt_handle: handle(&received[0]) },
            DeleteMessageBatchRequestEntry { id: "b".into(), receipt_handle: "nonsense".into() },
        ],
    };
    let deleted = region.call::<DeleteMessageBatch>(delete).await.unwrap();
    assert_eq!((deleted.successful.len(), deleted.failed.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn attributes_travel_with_a_message_and_their_digest_is_that_of_the_sdks() {
    let region = region();
    region.create("jobs", &[]).await.unwrap();
    let text = MessageAttributeValue {
        string_value: Some("red".to_owned()),
        data_type: "String".to_owned(),
        ..Default::default()
    };
    let attributes = BTreeMap::from([("colour".to_owned(), text.clone())]);
    let request = SendMessageRequest { message_attributes: attributes, ..message("x") };
    let sent = region.call::<SendMessage>(request).await.unwrap();
    let received = region.receive(URL, 0).await.remove(0);
    assert_eq!(received.message_attributes["colour"], text);
    assert_eq!(received.md5_of_message_attributes, sent.md5_of_message_attributes);
    // Of the bytes that the developer guide describes, by another implementation.
    assert_eq!(sent.md5_of_message_attributes.unwrap(), "0410de28095c8c9ede883953e14dac6c");
}

#[tokio::test(start_paused = true)]
async fn queues_and_messages_are_there_after_a_restart() {
    let folder = tempfile();
    let first = over(&Store::open(&folder).unwrap(), Latency::INSTANT);
    first.create("jobs", &[]).await.unwrap();
    first.send("kept").await;
    let tags = TagQueueRequest { queue_url: URL.to_owned(), tags: owned(&[("team", "a")]) };
    first.call::<TagQueue>(tags).await.unwrap();
    drop(first);
    let second = over(&Store::open(&folder).unwrap(), Latency::INSTANT);
    assert_eq!(second.bodies(URL).await, ["kept"]);
    let tags = ListQueueTagsRequest { queue_url: URL.to_owned() };
    assert_eq!(second.call::<ListQueueTags>(tags).await.unwrap().tags, owned(&[("team", "a")]));
    std::fs::remove_file(folder).unwrap();
}

fn tempfile() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("nodestead-sqs-{}", entropy::hex(12)))
}

#[tokio::test(start_paused = true)]
async fn a_deleted_queues_name_is_free_after_a_minute_where_things_take_their_time() {
    let region = over(&Store::in_memory(), Latency::AWS);
    region.create("jobs", &[]).await.unwrap();
    region.send("old").await;
    region.call::<DeleteQueue>(DeleteQueueRequest { queue_url: URL.to_owned() }).await.unwrap();
    assert_eq!(code(region.create("jobs", &[]).await), "QueueDeletedRecently");
    region.pass(61).await;
    region.create("jobs", &[]).await.unwrap();
    assert!(region.bodies(URL).await.is_empty(), "another queue of the same name");
}

struct RootKey;

impl AccessKeys for RootKey {
    fn access_key(&self, _: &str) -> Option<AccessKey> {
        Some(AccessKey {
            secret: "secret".to_owned(),
            session_token: None,
            expires: None,
            principal: Principal {
                account: ACCOUNT.to_owned(),
                arn: format!("arn:aws:iam::{ACCOUNT}:root"),
                user_id: ACCOUNT.to_owned(),
                kind: CallerKind::Root,
                tags: BTreeMap::new(),
            },
            session_policies: Vec::new(),
            session_context: BTreeMap::new(),
        })
    }
}

/// SDKs of before November 2023, as AWS serves them.
#[tokio::test(start_paused = true)]
async fn the_query_protocol_of_older_clients_is_served() {
    let region = region();
    let gateway = Gateway::new(GatewayConfig {
        region: REGION.to_owned(),
        account: ACCOUNT.to_owned(),
        clock: region.clock,
        keys: vec![Arc::new(RootKey)],
        identities: Arc::new(Nobody),
        events: Events::in_memory(),
    });
    assert!(gateway.open(crate::routes(&Arc::new(region.sqs.clone()))));
    let send_to = async |path: &str, parameters: &str| {
        let body = format!("{parameters}&Version=2012-11-05");
        let request = Request::post(path).header("host", "sqs.us-east-1.amazonaws.com");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let credentials = Credentials::new("root", "secret");
        let now = region.clock.now();
        Signer { credentials: &credentials, region: REGION, service: "sqs", now }
            .sign(&mut parts, body.as_bytes());
        let answer = gateway.answer(&parts, &body.into(), Source::Host, None).await;
        xml::parse(std::str::from_utf8(answer.body()).unwrap()).unwrap().1
    };
    let send = async |parameters: &str| send_to("/", parameters).await;
    let made = "Action=CreateQueue&QueueName=jobs&Attribute.1.Name=VisibilityTimeout\
                &Attribute.1.Value=7&Tag.1.Key=team&Tag.1.Value=a";
    assert_eq!(send(made).await["CreateQueueResult"]["QueueUrl"], URL);
    let url = format!("QueueUrl={}", URL.replace(':', "%3A").replace('/', "%2F"));
    let tags = send(&format!("Action=ListQueueTags&{url}")).await;
    let tag = serde_json::json!({"Key": "team", "Value": "a"});
    assert_eq!(tags["ListQueueTagsResult"]["Tag"], tag);
    let asked = format!("Action=GetQueueAttributes&{url}&AttributeName.1=VisibilityTimeout");
    let attribute = serde_json::json!({"Name": "VisibilityTimeout", "Value": "7"});
    assert_eq!(send(&asked).await["GetQueueAttributesResult"]["Attribute"], attribute);

    let entry = |number: u32, body: &str| {
        let entry = format!("SendMessageBatchRequestEntry.{number}");
        format!(
            "&{entry}.Id=m{number}&{entry}.MessageBody={body}&{entry}.MessageAttribute.1.Name=n\
             &{entry}.MessageAttribute.1.Value.DataType=Number\
             &{entry}.MessageAttribute.1.Value.StringValue=9"
        )
    };
    let batch = format!("Action=SendMessageBatch&{url}{}{}", entry(1, "one"), entry(2, "two"));
    let sent = send(&batch).await;
    let sent = &sent["SendMessageBatchResult"]["SendMessageBatchResultEntry"];
    assert_eq!([&sent[0]["Id"], &sent[1]["Id"]], ["m1", "m2"]);
    let receive = format!(
        "Action=ReceiveMessage&{url}&MaxNumberOfMessages=10&AttributeName.1=All\
         &MessageAttributeName.1=All"
    );
    let got = send(&receive).await;
    let got = got["ReceiveMessageResult"]["Message"].as_array().unwrap().clone();
    let mut bodies: Vec<_> = got.iter().map(|it| it["Body"].as_str().unwrap()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["one", "two"]);
    assert_eq!(got[0]["MessageAttribute"]["Value"]["StringValue"], "9");
    assert!(got[0]["Attribute"].as_array().is_some_and(|it| it.len() > 2), "{}", got[0]);
    let handle = got[0]["ReceiptHandle"].as_str().unwrap();
    let handle = handle.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let done = send(&format!("Action=DeleteMessage&{url}&ReceiptHandle={handle}")).await;
    assert!(done["ResponseMetadata"]["RequestId"].is_string(), "{done}");

    // The queue's own URL says which one is meant.
    let path = format!("/{ACCOUNT}/jobs");
    for path in [path.clone(), format!("{path}/")] {
        let tags = send_to(&path, "Action=ListQueueTags").await;
        assert_eq!(tags["ListQueueTagsResult"]["Tag"], tag, "{path}");
    }
    let other = format!("/{ACCOUNT}/other");
    for none in [send_to(&other, "Action=ListQueueTags").await, {
        send_to(&other, &format!("Action=ListQueueTags&{url}")).await
    }] {
        assert_eq!(none["Error"]["Code"], "AWS.SimpleQueueService.NonExistentQueue");
    }
    let all = send_to(&path, "Action=ListQueues").await;
    assert_eq!(all["ListQueuesResult"]["QueueUrl"], URL);
    let refused = send("Action=GetQueueUrl&QueueName=none").await;
    assert_eq!(refused["Error"]["Code"], "AWS.SimpleQueueService.NonExistentQueue");
}
