//! Credentials of EKS Pod Identity on a node whose agent holds them already: one connection and one
//! request, as an SDK makes them.
//!
//! The token is a pod's own, made by the API server for it; it is asked from the node's network, so
//! that no client's start is in the time. The floor is the agent's `404`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http::{Request, StatusCode};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use transport::{HttpClient, Place};

use crate::{
    region::{CLUSTER, Region},
    rows::{Row, median, micros},
};

const SAMPLES: usize = 200;
const AGENT: &str = "http://169.254.170.23";
const LIMIT: Duration = Duration::from_secs(10);
/// For the add-on to be pulled and to run.
const INSTALL_LIMIT: Duration = Duration::from_secs(120);
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;

pub(crate) async fn rows(region: &Region) -> anyhow::Result<Vec<Row>> {
    prepare(region)?;
    let token = token(&region.client().await?).await?;
    let pid = region.instances()?.first().context("no instance")?.pid;
    let place = Place::Netns(PathBuf::from(format!("/proc/{pid}/ns/net")));
    let agent = HttpClient::new(place, None, LIMIT);
    let started = Instant::now();
    while !matches!(ask(&agent, "/", None).await, Ok((StatusCode::NOT_FOUND, _))) {
        ensure!(started.elapsed() < INSTALL_LIMIT, "the agent does not listen");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (status, cold) = ask(&agent, "/v1/credentials", Some(&token)).await?;
    ensure!(status == StatusCode::OK, "the agent answers {status}");
    let (mut warm, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        floor.push(ask(&agent, "/", None).await?.1);
        let (status, took) = ask(&agent, "/v1/credentials", Some(&token)).await?;
        ensure!(status == StatusCode::OK, "the agent answers {status}");
        warm.push(took);
    }
    let floor = format!("{} (the agent's 404)", micros(median(&floor)));
    let (warm, what) = (micros(median(&warm)), "Pod Identity: credentials from the agent");
    Ok(vec![
        Row::new(format!("{what}, warm"), warm, floor.clone(), "5 ms"),
        Row::new(format!("{what}, the first time"), micros(cold), floor, "-"),
    ])
}

/// One request over a connection of its own.
async fn ask(
    agent: &HttpClient,
    path: &str,
    token: Option<&str>,
) -> anyhow::Result<(StatusCode, Duration)> {
    let started = Instant::now();
    let mut request = Request::builder().uri(format!("{AGENT}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let request = request.body(transport::empty())?;
    let answer = agent.fetch(request, 64 * 1024).await.map_err(anyhow::Error::from_boxed)?;
    Ok((answer.status(), started.elapsed()))
}

/// The role, the association of `default/bench` and the add-on.
fn prepare(region: &Region) -> anyhow::Result<()> {
    let trust = ["--assume-role-policy-document", TRUST];
    let role =
        region.aws(&[&["iam", "create-role", "--role-name", "bench"][..], &trust].concat())?;
    let arn = role["Role"]["Arn"].as_str().context("a role has an ARN")?;
    let cluster = ["--cluster-name", CLUSTER];
    let account = ["--namespace", "default", "--service-account", "bench", "--role-arn", arn];
    let associate = ["eks", "create-pod-identity-association"];
    region.aws(&[&associate[..], &cluster, &account].concat())?;
    region.addon("eks-pod-identity-agent", "{}")
}

/// A token of the pod `bench`, which is made for it.
async fn token(client: &Client) -> anyhow::Result<String> {
    let parameters = PostParams::default();
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "bench"}}))?;
    accounts.create(&parameters, &account).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "bench"}, "spec": {
        "serviceAccountName": "bench",
        "containers": [{"name": "app",
            "image": "602401143452.dkr.ecr.us-east-1.amazonaws.com/eks/pause:3.10"}]}}))?;
    let pod = pods.create(&parameters, &pod).await?;
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(vec!["pods.eks.amazonaws.com".to_owned()]),
            bound_object_ref: Some(serde_json::from_value(json!({"apiVersion": "v1",
                "kind": "Pod", "name": "bench", "uid": pod.metadata.uid}))?),
            expiration_seconds: Some(3600),
        }),
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request("bench", &parameters, &request).await?;
    made.status.and_then(|it| it.token).context("a token")
}
