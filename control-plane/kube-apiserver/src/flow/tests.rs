//! What must hold of `flow`.

use super::*;

const PATIENCE: Duration = Duration::from_secs(15);

async fn put(store: &Store, object: &Value) {
    let plural = if object["kind"] == "FlowSchema" { SCHEMAS } else { LEVELS };
    let mut object = object.clone();
    object["metadata"]["uid"] = format!("{plural}/{}", meta(&object, "name")).into();
    let key = registry::key(GROUP, plural, "", meta(&object, "name"));
    store.commit(Txn::put(key, registry::encode(&object))).await.unwrap();
}

async fn limiter(seats: usize) -> (Store, Limiter) {
    let store = Store::memory();
    for object in bootstrap_objects() {
        put(&store, object).await;
    }
    let limiter = Limiter::new(Reader::new(store.clone()), seats);
    (store, limiter)
}

fn get(path: &str) -> RequestInfo {
    RequestInfo::parse(&http::Method::GET, path, "")
}

fn node() -> UserInfo {
    UserInfo::new("system:node:n", &["system:nodes"])
}

async fn schema_of(limiter: &Limiter, user: &UserInfo, info: &RequestInfo) -> String {
    let (class, seat) = limiter.admit(user, info, PATIENCE).await;
    assert!(seat.is_ok());
    class.unwrap().schema.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn requests_are_classified_by_who_asks_for_what() {
    let (_, limiter) = limiter(600).await;
    let account = UserInfo::new("system:serviceaccount:a:b", &["system:serviceaccounts"]);
    let system = UserInfo::new("system:serviceaccount:kube-system:b", &["system:serviceaccounts"]);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    for (user, path, schema) in [
        (UserInfo::master("a"), "/api/v1/pods", "exempt"),
        (UserInfo::anonymous(), "/livez", "probes"),
        (node(), lease, "system-node-high"),
        (node(), "/api/v1/nodes/n", "system-node-high"),
        (node(), "/api/v1/pods", "system-nodes"),
        (account, "/api/v1/pods", "service-accounts"),
        (system.clone(), "/api/v1/pods", "kube-system-service-accounts"),
        (system, "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", "system-leader-election"),
        (UserInfo::new("system:kube-scheduler", &[]), "/api/v1/pods", "kube-scheduler"),
        (UserInfo::new("eve", &[]), "/api/v1/pods", "global-default"),
        (UserInfo::new("eve", &[]), "/version", "global-default"),
    ] {
        let found = schema_of(&limiter, &user, &get(path)).await;
        assert_eq!(found, schema, "{} {path}", user.username);
    }
}

#[tokio::test(start_paused = true)]
async fn one_users_flood_starves_neither_the_kubelets_nor_another_user() {
    let (_, limiter) = limiter(60).await;
    let (eve, bob) = (UserInfo::new("eve", &[]), UserInfo::new("bob", &[]));
    let pods = get("/api/v1/pods");
    let mut held = Vec::new();
    // One after the other, as long as there is a seat at once.
    while let Ok((_, Ok(seat))) =
        tokio::time::timeout(Duration::from_millis(1), limiter.admit(&eve, &pods, PATIENCE)).await
    {
        held.push(seat);
    }
    assert!(held.len() > 5, "a flood may use what nobody needs");
    assert!(limiter.admit(&node(), &pods, PATIENCE).await.1.unwrap().is_some());
    assert!(limiter.admit(&UserInfo::master("admin"), &pods, PATIENCE).await.1.is_ok());
    let (refused, seat) = tokio::join!(limiter.admit(&eve, &pods, PATIENCE), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(held.split_off(2));
        limiter.admit(&bob, &pods, PATIENCE).await
    });
    assert!(seat.1.unwrap().is_some() && refused.1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_is_told_to_come_back() {
    let (store, limiter) = limiter(10).await;
    let level = json!({"kind": "PriorityLevelConfiguration", "metadata": {"name": "one"}, "spec": {
        "type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue",
                "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}}}}});
    let everyone = bootstrap_objects()
        .iter()
        .find(|it| it["kind"] == "FlowSchema" && meta(it, "name") == "global-default");
    let mut schema = everyone.unwrap().clone();
    schema["metadata"]["name"] = "mine".into();
    schema["spec"]["matchingPrecedence"] = 50.into();
    schema["spec"]["priorityLevelConfiguration"]["name"] = "one".into();
    put(&store, &schema).await;
    let eve = UserInfo::new("eve", &[]);
    let pods = get("/api/v1/pods");
    let (class, _) = limiter.admit(&eve, &pods, PATIENCE).await;
    assert_eq!(class.unwrap().level, format!("{LEVELS}/global-default"), "no such level yet");
    put(&store, &level).await;
    let (class, held) = limiter.admit(&eve, &pods, PATIENCE).await;
    assert_eq!(class.unwrap().level, format!("{LEVELS}/one"));
    let (class, refused) = limiter.admit(&eve, &pods, PATIENCE).await;
    assert_eq!(class.unwrap().schema, format!("{SCHEMAS}/mine"), "a refusal is marked too");
    let refused = refused.unwrap_err();
    assert_eq!((refused.code.as_u16(), refused.retry_after), (429, Some(1)));
    drop(held);
    assert!(limiter.admit(&eve, &pods, PATIENCE).await.1.is_ok());
    let mut text = String::new();
    limiter.metrics(&mut text);
    assert!(text.contains("apiserver_flowcontrol_nominal_limit_seats{priority_level=\"one\"} 1\n"));
}

#[tokio::test]
async fn a_schema_says_whether_its_level_is_there() {
    let (store, _) = limiter(10).await;
    tell_dangling(&store, "2026-01-01T00:00:00Z").await.unwrap();
    let revision = store.revision();
    tell_dangling(&store, "2026-01-02T00:00:00Z").await.unwrap();
    assert_eq!(store.revision(), revision, "nothing is said twice");
    let objects = Reader::new(store.clone());
    let status = |it: &Value| it["status"]["conditions"][0]["status"].clone();
    let schema = objects.get(GROUP, SCHEMAS, "", "system-nodes").unwrap();
    assert_eq!(status(&schema), "False");
    let level = registry::key(GROUP, LEVELS, "", "system");
    let at = store.get(&level).unwrap().mod_revision;
    store.commit(Txn::delete(level, at)).await.unwrap();
    tell_dangling(&store, "2026-01-03T00:00:00Z").await.unwrap();
    let schema = objects.get(GROUP, SCHEMAS, "", "system-nodes").unwrap();
    assert_eq!(status(&schema), "True");
}
