//! What a decision of IAM costs, and how many calls the gateway answers.
//!
//! A region's services in this process, over a store in memory: no network, no client that reads the
//! answers. The requests are signed before the clock runs; verifying, deciding, handling and writing
//! the answer and the record are what is measured. Two tasks call, as there are two cores.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use aws_ec2::{
    common::TagInput,
    instance::{DescribeInstances, DescribeInstancesRequest},
    run_instances::{RunInstances, RunInstancesRequest},
    tag::{CreateTags, CreateTagsRequest},
};
use aws_iam::{
    AttachUserPolicy, AttachUserPolicyRequest, CreateAccessKey, CreateAccessKeyRequest, CreateUser,
    CreateUserRequest,
};
use aws_wire::{
    Client,
    client::{Config as ClientConfig, Endpoints, Exchange},
    credentials::Credentials,
};
use bytes::Bytes;
use clock::Clock;
use http::Request;
use http_body_util::Full;
use iam_policy::{Context, Identity, IdentityKind, Kind, Named, Policies, Policy, evaluate};
use parking_lot::Mutex;
use region_ec2::{Ec2, Environment, ProfileInfo};
use region_gateway::{Config, Events, Gateway, Side};
use region_iam::{Iam, RootKey};
use region_store::Store;
use tower::ServiceExt;

use crate::rows::{Row, median, micros, per_second};

const ACCOUNT: &str = "111122223333";
const INSTANCES: i64 = 100;
/// Decisions in one sample.
const DECISIONS: u32 = 10_000;
const SAMPLES: usize = 9;
/// Calls that each follow a change.
const CHANGES: usize = 300;
/// Calls of each task.
const CALLS: usize = 3000;
const TASKS: usize = 2;

pub(crate) async fn rows() -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![decision()?];
    rows.extend(gateway().await?);
    Ok(rows)
}

/// The last of ten policies allows it: all are looked at.
fn decision() -> anyhow::Result<Row> {
    let mut identity = Vec::new();
    for index in 0..10 {
        let last = r#","ec2:DescribeInstances""#;
        let actions = (0..10).map(|it| format!(r#""s{index}:Do*Thing{it}""#)).collect::<Vec<_>>();
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Action":[{}{}],"Resource":"*"}},
            {{"Effect":"Deny","Action":"s{index}:*","Resource":"arn:aws:s3:::b${{aws:username}}/*"}}]}}"#,
            actions.join(","),
            if index == 9 { last } else { "" },
        );
        let policy = Arc::new(Policy::parse(&text, Kind::Identity)?);
        identity.push(Named { name: format!("p{index}"), policy });
    }
    let policies = Policies { identity, ..Policies::default() };
    let kind = IdentityKind::User {
        arn: format!("arn:aws:iam::{ACCOUNT}:user/bob"),
        id: "AIDABOB".to_owned(),
    };
    let identity = Identity { account: ACCOUNT.to_owned(), kind };
    let context = Context::new().with("aws:username", "bob").with("aws:SourceIp", "127.0.0.1");
    let request = iam_policy::Request {
        identity: &identity,
        action: "ec2:DescribeInstances",
        resource: "*",
        context: &context,
    };
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let started = Instant::now();
        for _ in 0..DECISIONS {
            let decision = evaluate(std::hint::black_box(&request), &policies);
            ensure!(decision.is_allowed(), "the last policy allows it");
        }
        samples.push(started.elapsed() / DECISIONS);
    }
    let took = format!("{:.2} µs", median(&samples).as_secs_f64() * 1e6);
    Ok(Row::new("IAM decision, 10 policies attached", took, "-", "5 µs"))
}

/// Has no instance profiles and no consoles.
struct Nothing;

impl Environment for Nothing {
    fn instance_profile(&self, _: &str) -> Option<ProfileInfo> {
        None
    }

    fn console(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

async fn gateway() -> anyhow::Result<Vec<Row>> {
    let store = Store::in_memory();
    let clock = Clock::system();
    let root = RootKey { access_key_id: "test".to_owned(), secret_access_key: "test".to_owned() };
    let iam = Iam::open(&store, ACCOUNT, root, clock)?;
    let config = region_ec2::Config::new(ACCOUNT, "us-east-1");
    let ec2 = Arc::new(Ec2::open(&store, config, clock, Arc::new(Nothing))?);
    let gateway = Gateway::new(Config {
        region: "us-east-1".to_owned(),
        account: ACCOUNT.to_owned(),
        clock,
        keys: vec![iam.clone()],
        identities: iam.clone(),
        events: Events::in_memory(),
    });
    gateway.open(region_iam::routes(&iam).merge(region_ec2::routes(&ec2)));
    let user = user(&gateway).await?;
    let root = client(&gateway, Credentials::new("test", "test"), None);
    let request = RunInstancesRequest {
        image_id: region_ec2::seed::releases().last().map(region_ec2::seed::AmiRelease::image_id),
        instance_type: Some("m5.large".to_owned()),
        min_count: INSTANCES,
        max_count: INSTANCES,
        ..Default::default()
    };
    let made = root.call::<RunInstances>(request).await.context("RunInstances")?;
    let changed = made.instances[0].instance_id.clone().context("an id")?;
    let requests = signed(&gateway, user).await?;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let (service, requests) =
            (gateway.service(Side::Host), requests.iter().map(copy).collect::<Vec<_>>());
        tasks.spawn(async move {
            for request in requests {
                let answer = service.clone().oneshot(request.map(Full::new)).await;
                let answer = answer.unwrap_or_else(|never| match never {});
                ensure!(answer.status() == 200, "answered {}", answer.status());
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let took: Duration = started.elapsed();
    let what = format!("gateway: signed DescribeInstances of {INSTANCES}, no network");
    let watched = Row::new(what, per_second(TASKS * CALLS, took), "-", "3,000 per s");
    Ok(vec![watched, after_changes(&gateway, &root, &changed, &requests).await?])
}

/// The same where nothing of the answer can be kept.
async fn after_changes(
    gateway: &Gateway,
    root: &Client,
    changed: &str,
    requests: &[Request<Bytes>],
) -> anyhow::Result<Row> {
    let mut samples = Vec::new();
    for (index, request) in requests.iter().take(CHANGES).enumerate() {
        let tag = TagInput { key: Some("change".to_owned()), value: Some(index.to_string()) };
        let resources = vec![changed.to_owned()];
        let change = CreateTagsRequest { resources, tags: vec![tag], ..Default::default() };
        root.call::<CreateTags>(change).await.context("CreateTags")?;
        let started = Instant::now();
        let answer = gateway.service(Side::Host).oneshot(copy(request).map(Full::new)).await;
        samples.push(started.elapsed());
        let answer = answer.unwrap_or_else(|never| match never {});
        ensure!(answer.status() == 200, "answered {}", answer.status());
    }
    let took = micros(median(&samples));
    Ok(Row::new("– each after a change of one of them, one by one", took, "-", "-"))
}

/// A user whose rights have to be looked for.
async fn user(gateway: &Gateway) -> anyhow::Result<Credentials> {
    let root = client(gateway, Credentials::new("test", "test"), None);
    let user_name = || "bench".to_owned();
    let request = CreateUserRequest { user_name: user_name(), ..Default::default() };
    root.call::<CreateUser>(request).await?;
    for policy in ["IAMReadOnlyAccess", "AmazonEKSWorkerNodePolicy"] {
        let policy_arn = format!("arn:aws:iam::aws:policy/{policy}");
        let request = AttachUserPolicyRequest { user_name: user_name(), policy_arn };
        root.call::<AttachUserPolicy>(request).await?;
    }
    let request = CreateAccessKeyRequest { user_name: Some(user_name()) };
    let key = root.call::<CreateAccessKey>(request).await?.access_key;
    Ok(Credentials::new(&*key.access_key_id, &*key.secret_access_key))
}

type Kept = Arc<Mutex<Option<Request<Bytes>>>>;

/// A client of the gateway; `kept` is given each request instead of the gateway's own client.
fn client(gateway: &Gateway, credentials: Credentials, kept: Option<Kept>) -> Client {
    let service = gateway.service(Side::Host);
    let exchange = Exchange::service(tower::service_fn(move |request: Request<Bytes>| {
        if let Some(kept) = &kept {
            *kept.lock() = Some(copy(&request));
        }
        service.clone().oneshot(request.map(Full::new))
    }));
    Client::new(ClientConfig {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::default(),
        exchange,
        credentials: Some(Arc::new(credentials)),
        clock: Clock::system(),
        attempts: 1,
    })
}

/// As many copies of one signed request as each task makes calls.
async fn signed(gateway: &Gateway, user: Credentials) -> anyhow::Result<Vec<Request<Bytes>>> {
    let kept = Kept::default();
    let client = client(gateway, user, Some(kept.clone()));
    let answer = client.call::<DescribeInstances>(DescribeInstancesRequest::default()).await?;
    let count: usize = answer.reservations.iter().map(|it| it.instances.len()).sum();
    ensure!(i64::try_from(count) == Ok(INSTANCES), "{count} instances are described");
    let request = kept.lock().take().context("no request was made")?;
    Ok((0..CALLS).map(|_| copy(&request)).collect())
}

fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
