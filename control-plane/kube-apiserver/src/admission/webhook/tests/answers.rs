//! What comes of odd answers, and what is asked about deletions.

use super::*;

#[tokio::test]
async fn no_webhook_moves_an_object_to_another_namespace_or_renames_it() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|asked| {
        let move_it = ("/metadata/namespace", "kube-system");
        let (path, value) = match asked["object"]["data"]["a"].as_str() {
            Some("move") => move_it,
            Some("rename") => ("/metadata/name", "other"),
            _ => return Some(json!({"allowed": true})),
        };
        Some(patch(&json!([{"op": "replace", "path": path, "value": value}])))
    })
    .await;
    configure(&cluster, "mutating", "m", vec![hook.webhook("m.example.com", json!({}))]).await;
    let of = |what: &str| json!({"metadata": {"name": "one"}, "data": {"a": what}});
    let elsewhere =
        "the namespace of the provided object does not match the namespace sent on the request";
    let (code, status) = cluster.post(MAPS, of("move")).await;
    assert_eq!((code.as_u16(), status["message"].as_str()), (400, Some(elsewhere)));
    assert_eq!(cluster.post(MAPS, map("one")).await.0, 201);
    let one = format!("{MAPS}/one");
    let (code, status) = cluster.put(&one, of("move")).await;
    assert_eq!((code.as_u16(), status["message"].as_str()), (400, Some(elsewhere)));
    let (code, status) = cluster.put(&one, of("rename")).await;
    let told = "ConfigMap \"one\" is invalid: metadata.name: Invalid value: \"other\": field is \
                immutable";
    assert_eq!((code.as_u16(), status["message"].as_str()), (422, Some(told)));
}

#[tokio::test]
async fn a_patch_that_cannot_be_applied_refuses_whatever_the_failure_policy() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|asked| {
        Some(match asked["name"].as_str() {
            Some("fails") => patch(&json!([{"op": "test", "path": "/data/a", "value": "z"}])),
            Some("unknown") => patch(&json!([{"op": "no", "path": "/data/a"}])),
            Some("undecodable") => patch(&json!({"op": "remove"})),
            _ => patch(&json!([])),
        })
    })
    .await;
    let lenient = hook.webhook("m.example.com", json!({"failurePolicy": "Ignore"}));
    configure(&cluster, "mutating", "m", vec![lenient]).await;
    for (name, wanted) in [("fails", 500), ("unknown", 500), ("undecodable", 201), ("none", 201)] {
        let (code, answer) = cluster.post(MAPS, map(name)).await;
        assert_eq!(code, wanted, "{name}: {answer}");
    }
    let measures = cluster.text("/metrics").await;
    let kind = "error_type=\"apiserver_internal_error\"";
    assert!(measures.lines().any(|it| it.contains(kind) && it.ends_with(" 2")), "{measures}");
    // Nothing to change is no change of a deletion.
    assert_eq!(cluster.delete(&format!("{MAPS}/none")).await.0, 200);
}

#[tokio::test]
async fn a_deletion_is_asked_about_with_the_clients_options() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    configure(&cluster, "validating", "v", vec![hook.webhook("v.example.com", json!({}))]).await;
    let one = format!("{MAPS}/one");
    let (_, made) = cluster.post(MAPS, map("one")).await;
    let kind = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
    let with = |more: Value| {
        let mut all = kind.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let given = json!({"dryRun": ["All"], "gracePeriodSeconds": 5, "propagationPolicy": "Foreground",
        "preconditions": {"uid": made["metadata"]["uid"]}});
    let (head, _) = cluster.send("DELETE", &one, &[], given.to_string()).await;
    assert_eq!(head.status, 200);
    let asked = || hook.asked.lock().last().unwrap().clone();
    assert_eq!((&asked()["options"], &asked()["dryRun"]), (&with(given), &json!(true)));
    let query = "gracePeriodSeconds=7&propagationPolicy=Background";
    assert_eq!(cluster.delete(&format!("{one}?{query}")).await.0, 200);
    let given = json!({"gracePeriodSeconds": 7, "propagationPolicy": "Background"});
    assert_eq!((&asked()["options"], &asked()["dryRun"]), (&with(given), &json!(false)));
    cluster.post(MAPS, map("two")).await;
    cluster.delete(&format!("{MAPS}?gracePeriodSeconds=9")).await;
    assert_eq!(asked()["options"], with(json!({"gracePeriodSeconds": 9})));
}

#[tokio::test]
async fn a_refusal_has_the_reason_that_the_webhook_gives() {
    let cluster = Cluster::start().await;
    let hook = Hook::start(|_| {
        Some(json!({"allowed": false, "status": {"code": 418, "reason": "TeaReason"}}))
    })
    .await;
    configure(&cluster, "validating", "v", vec![hook.webhook("v.example.com", json!({}))]).await;
    let (code, status) = cluster.post(MAPS, map("one")).await;
    assert_eq!((code.as_u16(), &status["reason"]), (418, &json!("TeaReason")));
}

#[tokio::test]
async fn a_certificate_of_strangers_is_told_of_in_gos_words() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    // Its own has the first of these names.
    for name in ["hooks", "others"] {
        let mut webhook = hook.webhook("v.example.com", json!({}));
        let other = pki::Ca::new(name).unwrap();
        webhook["clientConfig"]["caBundle"] = STANDARD.encode(other.certificate_pem()).into();
        configure(&cluster, "validating", name, vec![webhook]).await;
        let (code, status) = cluster.post(MAPS, map("one")).await;
        let why =
            "tls: failed to verify certificate: x509: certificate signed by unknown authority";
        assert_eq!(code, 500);
        assert!(status["message"].as_str().unwrap().ends_with(why), "{status}");
        let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations/{name}");
        assert_eq!(cluster.delete(&path).await.0, 200);
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_told_of_in_gos_words() {
    let cluster = Cluster::start().await;
    let hook = Hook::friendly().await;
    let mut webhook = hook.webhook("v.example.com", json!({}));
    let url = hook.url.replace("127.0.0.1", "localhost");
    webhook["clientConfig"]["url"] = url.clone().into();
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let (code, status) = cluster.post(MAPS, map("one")).await;
    let told = format!(
        "failed calling webhook \"v.example.com\": failed to call webhook: Post \
         \"{url}?timeout=10s\": tls: failed to verify certificate: x509: certificate is not valid \
         for any names, but wanted to match localhost"
    );
    assert_eq!(code, 500);
    assert!(status["message"].as_str().unwrap().ends_with(&told), "{status}");
}
