//! The tokens that Secrets hold: who makes them, by whom they are believed, and when they go.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewStatus},
    core::v1::{ConfigMap, Secret, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::Cluster;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

async fn put(cluster: &Cluster, name: &str, account: &str) {
    cluster
        .create::<Secret>(json!({ "type": TYPE,
            "metadata": { "name": name, "annotations": { ACCOUNT: account } } }))
        .await;
}

fn data(secret: &Secret, key: &str) -> String {
    let found = secret.data.as_ref().and_then(|it| it.get(key));
    found.map(|it| String::from_utf8(it.0.clone()).unwrap()).unwrap_or_default()
}

async fn token(cluster: &Cluster, name: &str) -> String {
    cluster
        .eventually("the Secret has a token", async |it| {
            it.get::<Secret>(name).await.is_some_and(|it| !data(&it, "token").is_empty())
        })
        .await;
    data(&cluster.get::<Secret>(name).await.unwrap(), "token")
}

async fn review(cluster: &Cluster, token: &str) -> TokenReviewStatus {
    let reviews = Api::<TokenReview>::all(cluster.client.clone());
    let review = serde_json::from_value(json!({ "spec": { "token": token } })).unwrap();
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_secret_for_an_account_gets_a_token_by_which_the_api_server_knows_it() {
    let cluster = Cluster::start(0).await;
    let account = cluster.create::<ServiceAccount>(json!({ "metadata": { "name": "web" } })).await;
    put(&cluster, "web-token", "web").await;
    let token = token(&cluster, "web-token").await;
    let secret = cluster.get::<Secret>("web-token").await.unwrap();
    assert!(data(&secret, "ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(data(&secret, "namespace"), "default");
    assert_eq!(secret.annotations()["kubernetes.io/service-account.uid"], account.uid().unwrap());
    let status = review(&cluster, &token).await;
    let user = status.user.unwrap();
    assert_eq!(status.authenticated, Some(true));
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:web"));
    assert_eq!(user.uid, account.uid());
    assert!(user.extra.is_none());
    cluster.patch::<ServiceAccount>("web", json!({ "secrets": [{ "name": "web-token" }] })).await;
    cluster.delete::<Secret>("web-token").await;
    let status = review(&cluster, &token).await;
    assert_eq!(status.error.as_deref(), Some("[invalid bearer token, Token has been invalidated]"));
    cluster
        .eventually("the account names it no more", async |it| {
            it.get::<ServiceAccount>("web").await.unwrap().secrets.unwrap_or_default().is_empty()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_goes_with_its_account_and_its_token_is_not_the_next_ones() {
    let cluster = Cluster::start(0).await;
    cluster.create::<ServiceAccount>(json!({ "metadata": { "name": "web" } })).await;
    put(&cluster, "web-token", "web").await;
    let before = token(&cluster, "web-token").await;
    cluster.delete::<ServiceAccount>("web").await;
    cluster
        .eventually("the Secret goes with its account", async |it| {
            it.get::<Secret>("web-token").await.is_none()
        })
        .await;
    cluster.create::<ServiceAccount>(json!({ "metadata": { "name": "web" } })).await;
    put(&cluster, "web-token", "web").await;
    let after = token(&cluster, "web-token").await;
    assert_ne!(before, after);
    assert_eq!(review(&cluster, &after).await.authenticated, Some(true));
    assert_eq!(
        review(&cluster, &before).await.error.as_deref(),
        Some("[invalid bearer token, Token does not match server's copy]")
    );
}

#[tokio::test(start_paused = true)]
async fn a_secret_for_nobody_goes_and_one_without_an_account_is_refused() {
    let cluster = Cluster::start(0).await;
    put(&cluster, "stray", "nobody").await;
    cluster.eventually("it is gone", async |it| it.get::<Secret>("stray").await.is_none()).await;
    let nameless: Secret =
        serde_json::from_value(json!({ "type": TYPE, "metadata": { "name": "t" } })).unwrap();
    let refused = cluster.api::<Secret>().create(&PostParams::default(), &nameless).await;
    let message = refused.unwrap_err().to_string();
    let expected = "metadata.annotations[kubernetes.io/service-account.name]: Required value";
    assert!(message.contains(expected), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_day_on_which_a_token_was_used_is_written_on_its_secret() {
    let cluster = Cluster::start(0).await;
    let server = cluster.server.clone();
    drop(cluster.scope.spawn("upkeep", async move { server.maintain().await }));
    cluster.create::<ServiceAccount>(json!({ "metadata": { "name": "web" } })).await;
    put(&cluster, "web-token", "web").await;
    let token = token(&cluster, "web-token").await;
    assert!(label(&cluster, "web-token", LAST_USED).await.is_none());
    assert_eq!(review(&cluster, &token).await.authenticated, Some(true));
    cluster
        .eventually("it is written", async |it| {
            label(it, "web-token", LAST_USED).await.as_deref() == Some("2026-11-23")
        })
        .await;
    assert_eq!(review(&cluster, &token).await.authenticated, Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_an_older_cluster_that_nobody_uses_is_marked_and_goes() {
    let cluster = Cluster::start(0).await;
    cluster.create::<ServiceAccount>(json!({ "metadata": { "name": "web" } })).await;
    for name in ["made", "new", "old", "used"] {
        put(&cluster, name, "web").await;
    }
    let secrets = json!([{ "name": "new" }, { "name": "old" }, { "name": "used" }]);
    cluster.patch::<ServiceAccount>("web", json!({ "secrets": secrets })).await;
    // As after months, of which half a day is enough here.
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), "kube-system");
    let since = json!({ "data": { "since": "2026-01-01" } });
    let tracking = "kube-apiserver-legacy-service-account-token-tracking";
    maps.patch(tracking, &PatchParams::default(), &Patch::Merge(&since)).await.unwrap();
    for (name, key, day) in
        [("old", INVALID_SINCE, "2026-06-01"), ("used", LAST_USED, "2026-11-24")]
    {
        cluster.patch::<Secret>(name, json!({ "metadata": { "labels": { key: day } } })).await;
    }
    let new = token(&cluster, "new").await;
    assert_eq!(review(&cluster, &new).await.authenticated, Some(true));
    tokio::time::sleep(Duration::from_secs(24 * 3600 + 60)).await;
    assert!(cluster.get::<Secret>("old").await.is_none(), "nobody used it");
    assert_eq!(label(&cluster, "new", INVALID_SINCE).await.as_deref(), Some("2026-11-24"));
    let refused = review(&cluster, &new).await.error.unwrap();
    assert!(refused.contains("has been marked invalid"), "{refused}");
    for name in ["made", "used"] {
        let kept = cluster.get::<Secret>(name).await.unwrap();
        assert!(!kept.labels().contains_key(INVALID_SINCE), "{name}");
    }
}

async fn label(cluster: &Cluster, name: &str, label: &str) -> Option<String> {
    cluster.get::<Secret>(name).await?.labels().get(label).cloned()
}
