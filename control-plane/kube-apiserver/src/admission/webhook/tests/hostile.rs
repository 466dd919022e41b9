//! Webhooks that answer without end, too slowly, too much, or in another language: none holds a request
//! for longer than its `timeoutSeconds`.

use bytes::Bytes;

use super::*;

/// What a webhook answers whatever it is asked, over TLS or not.
async fn answers(
    has_tls: bool,
    answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
) -> Hook {
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            drop(transport::collect(request.into_body(), 1 << 20).await);
            Ok::<_, Infallible>(answer())
        }
    });
    Hook::serving(has_tls, Asked::default(), service)
}

/// The answer to a create that this webhook is asked about.
async fn created(hook: &Hook) -> (u16, Value, Duration) {
    let cluster = Cluster::start().await;
    let webhook = hook.webhook("v.example.com", json!({"timeoutSeconds": 1}));
    configure(&cluster, "validating", "v", vec![webhook]).await;
    let begun = Instant::now();
    let (code, status) = cluster.post(MAPS, map("one")).await;
    let taken = begun.elapsed();
    // The others are not held up by it.
    let others = MAPS.replace("configmaps", "secrets");
    assert_eq!(cluster.post(&others, json!({"metadata": {"name": "s"}})).await.0, 201);
    (code.as_u16(), status, taken)
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_answer_that_drips_is_cut_off_at_the_limit() {
    let hook = answers(true, || {
        let (sender, chunks) = tokio::sync::mpsc::channel(1);
        let dripping = async move {
            while sender.send(Bytes::from_static(b" ")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let scope = Scope::new();
        drop(scope.spawn("drip", dripping));
        std::mem::forget(scope);
        Response::new(transport::stream(chunks))
    })
    .await;
    let (code, status, taken) = created(&hook).await;
    assert_eq!(code, 500);
    assert!(message(&status).ends_with("context deadline exceeded"), "{status}");
    assert!(taken < Duration::from_secs(4), "{taken:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let hook = answers(true, || Response::new(transport::full(vec![b' '; 32 << 20]))).await;
    let (code, status, taken) = created(&hook).await;
    assert_eq!(code, 500, "{status}");
    assert!(message(&status).contains("failed calling webhook"), "{status}");
    assert!(taken < Duration::from_secs(4), "{taken:?}");
}

#[tokio::test]
async fn what_is_no_tls_or_no_json_is_an_error_and_no_more() {
    let plain = answers(false, || Response::new(transport::full("hello"))).await;
    let (code, status, _) = created(&plain).await;
    assert_eq!(code, 500, "{status}");
    assert!(message(&status).contains("failed to call webhook: Post"), "{status}");
    for text in ["", "nonsense", "[]", "{\"response\": 7}", "{\"kind\":\"AdmissionReview\"}"] {
        let hook = answers(true, move || Response::new(transport::full(text))).await;
        let (code, status, _) = created(&hook).await;
        assert_eq!(code, 500, "{text}: {status}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let hook = answers(true, move || Response::new(transport::full(deep.clone()))).await;
    assert_eq!(created(&hook).await.0, 500);
}

#[tokio::test]
async fn one_that_shows_another_certificate_is_not_believed() {
    let hook = Hook::friendly().await;
    let other = Hook::friendly().await;
    let stolen = Hook { url: hook.url.clone(), bundle: other.bundle.clone(), ..other };
    let (code, status, _) = created(&stolen).await;
    assert_eq!(code, 500, "{status}");
    assert!(message(&status).contains("certificate"), "{status}");
    assert_eq!(hook.count(), 0);
}
