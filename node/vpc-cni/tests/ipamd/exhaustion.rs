//! A subnet without addresses: what pods are told, and when EC2 is asked again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use api_cni::backend::Sandbox;
use clock::Clock;
use controller::Recorder;
use http::{Request, Response};
use kube::client::Body;
use lifecycle::Scope;
use parking_lot::Mutex;
use serde_json::Value;
use vpc_cni::{
    events::Events,
    ipamd::{AddError, Ipamd},
};

use crate::{Running, pass_a_minute, sandbox, support::World, until};

/// Eleven addresses: the instance's own, nine for pods, and one that is not enough for more.
const SMALL: &str = "192.168.200.0/28";

/// Has pods take all that there is.
async fn fill(ipamd: &Arc<Ipamd>) {
    until("nine addresses", || ipamd.snapshot().stock().total == 9).await;
    for number in 0..9 {
        ipamd.add(&sandbox(number)).await.unwrap();
    }
}

#[tokio::test]
async fn a_subnet_that_runs_out_fails_pods_and_pauses_the_pool() {
    let Some(world) = World::new("b", SMALL).await else { return };
    let ipamd = world.start(&[], "root").await.unwrap();
    let _running = Running::start(&ipamd);
    fill(&ipamd).await;
    let error = ipamd.add(&sandbox(9)).await.unwrap_err();
    assert!(error.to_string().contains("no available IP/Prefix addresses"), "{error}");
    let AddError::Exhausted { shortage, .. } = &error else { panic!("{error}") };
    assert_eq!(shortage.reason(), "SubnetExhausted");
    let story = ipamd.story_of(shortage).await;
    for part in ["(192.168.200.0/28, us-east-1a) has 1 of 11 addresses free", "WARM_IP_TARGET"] {
        assert!(story.contains(part), "{part}: {story}");
    }
    assert!(story.contains(&format!("Held by {}: 10 (1 interface).", world.instance)), "{story}");
    until("the pause", || ipamd.plan().reason.contains("ran out")).await;
    ipamd.delete(&sandbox(3));
    let error = ipamd.add(&sandbox(10)).await.unwrap_err();
    assert!(error.to_string().contains("no available"), "an address rests after use: {error}");
    assert_eq!(world.ec2.view().network_interfaces.len(), 1, "nothing is left behind");
}

#[tokio::test]
async fn after_a_subnet_ran_out_ec2_is_asked_again_in_two_minutes_and_not_before() {
    let Some(world) = World::new("b2", SMALL).await else { return };
    let clock = Clock::simulated(Clock::system().now());
    let ipamd = world.start_at(&[], "root", clock).await.unwrap();
    let running = Running::start(&ipamd);
    fill(&ipamd).await;
    ipamd.add(&sandbox(9)).await.unwrap_err();
    until("the pause", || ipamd.plan().reason.contains("ran out")).await;
    let asked = || {
        ["CreateNetworkInterface", "AssignPrivateIpAddresses"]
            .map(|it| world.faults.calls(it))
            .iter()
            .sum::<usize>()
    };
    let before = asked();
    drop(running);
    pass_a_minute().await;
    let running = Running::start(&ipamd);
    // Neither the pool nor a pod that needs one asks.
    ipamd.add(&sandbox(10)).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(asked(), before);
    drop(running);
    pass_a_minute().await;
    let _running = Running::start(&ipamd);
    until("it is asked for again", || asked() > before).await;
}

/// An API server that takes every event; and what it took.
fn api_server() -> (kube::Client, Arc<Mutex<Vec<Value>>>) {
    let taken = Arc::<Mutex<Vec<Value>>>::default();
    let log = taken.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let log = log.clone();
        async move {
            let bytes = request.into_body().collect_bytes().await.unwrap_or_default();
            log.lock().extend(serde_json::from_slice::<Value>(&bytes).ok());
            Ok::<_, Infallible>(Response::new(Body::from(bytes.to_vec())))
        }
    });
    (kube::Client::new(service, "default"), taken)
}

#[tokio::test]
async fn a_pod_without_an_address_has_an_event_with_the_subnet_its_holders_and_a_way_out() {
    let Some(mut world) = World::new("b3", SMALL).await else { return };
    let (client, told) = api_server();
    let scope = Scope::new();
    let recorder = Recorder::new(client.clone(), "aws-node", Clock::system(), &scope);
    world.events = Some(Events::new(client, recorder, "aws-node-1"));
    let clock = Clock::simulated(Clock::system().now());
    let ipamd = world.start_at(&[], "root", clock).await.unwrap();
    let running = Running::start(&ipamd);
    let teller = ipamd.clone();
    drop(scope.spawn("tell", async move { teller.tell().await }));
    fill(&ipamd).await;
    let pod = Sandbox { pod_uid: "uid-9".into(), ..sandbox(9) };
    let error = ipamd.add(&pod).await.unwrap_err();
    assert!(matches!(error, AddError::Exhausted { .. }), "{error}");
    until("the event", || !told.lock().is_empty()).await;
    let event = told.lock()[0].clone();
    let about = &event["involvedObject"];
    assert_eq!((&about["kind"], &about["name"]), (&"Pod".into(), &"pod-9".into()), "{event}");
    assert_eq!((&about["namespace"], &about["uid"]), (&"default".into(), &"uid-9".into()));
    assert_eq!((&event["type"], &event["reason"]), (&"Warning".into(), &"SubnetExhausted".into()));
    let message = event["message"].as_str().unwrap();
    let state = world.ec2.view();
    let subnet = &state.instances.get(&world.instance).unwrap().subnet_id;
    for part in [
        &format!("subnet {subnet} (192.168.200.0/28, us-east-1a) has 1 of 11 addresses free"),
        &format!("Held by {}: 10 (1 interface).", world.instance),
        "What helps: ",
        "kubernetes.io/role/cni=1",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // The next try is told as the same event, which is counted.
    drop(running);
    pass_a_minute().await;
    let _running = Running::start(&ipamd);
    ipamd.add(&pod).await.unwrap_err();
    until("the second one", || told.lock().len() > 1).await;
    let second = told.lock()[1].clone();
    assert_eq!(second["count"], 2, "{event} {second}");
    scope.cancel();
}
