//! The client against a server in this process.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::{codec::Form, credentials::Credentials};

enum Echo {}

impl Operation for Echo {
    const SERVICE: &'static str = "autoscaling";
    const ACTION: &'static str = "Echo";
    type Request = Shape;
    type Response = Shape;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    names: Vec<String>,
    size: i64,
}

/// Answers each request with the next of `answers`.
fn client(answers: Vec<Result<Value, Fault>>) -> (Client, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let answers = Arc::new(answers);
    let server = tower::service_fn(move |request: Request<Bytes>| {
        let call = counted.fetch_add(1, Ordering::Relaxed) as usize;
        assert!(request.headers().contains_key("authorization"));
        let service = service::find("autoscaling").unwrap();
        let response = match &answers[call] {
            Ok(tree) => {
                let answer = codec::Answer::Tree(tree.clone());
                codec::encode_response(service, "Echo", &answer, "id", Form::Native)
            }
            Err(fault) => codec::encode_fault(service, fault, "id", Form::Native),
        };
        async move { Ok::<_, Infallible>(response.map(transport::full)) }
    });
    let config = Config {
        region: "us-east-1".to_owned(),
        endpoints: Endpoints::default(),
        exchange: Exchange::service(server),
        credentials: Some(Arc::new(Credentials::new("test", "test"))),
        clock: Clock::simulated(Timestamp::UNIX_EPOCH),
        attempts: 3,
    };
    (Client::new(config), calls)
}

fn shape() -> Shape {
    Shape { names: vec!["a".to_owned(), "b".to_owned()], size: 3 }
}

fn throttle() -> Fault {
    Fault::new("Throttling", "Rate exceeded")
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_is_made_again_until_it_passes() {
    let answer = json!({"Names": ["a", "b"], "Size": 3});
    let (client, calls) = client(vec![Err(throttle()), Err(throttle()), Ok(answer)]);
    assert_eq!(client.call::<Echo>(shape()).await.unwrap(), shape());
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded() {
    let (client, calls) = client((0..9).map(|_| Err(throttle())).collect());
    let error = client.call::<Echo>(shape()).await.unwrap_err();
    assert!(error.is("Throttling"), "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_repeated() {
    let denied = Fault::new("AccessDenied", "no").with_status(StatusCode::FORBIDDEN);
    let (client, calls) = client(vec![Err(denied.clone())]);
    let error = client.call::<Echo>(shape()).await.unwrap_err();
    assert_eq!(error.fault(), Some(&denied));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}
