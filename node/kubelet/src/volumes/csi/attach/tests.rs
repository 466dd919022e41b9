//! Tests of waiting for an attachment: against an API server of two objects, in virtual time.

use std::sync::Arc;

use clock::Clock;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::{events::Recorder, paths::Paths, rate::Rate, volumes::csi::Parts};

/// What an API server holds: the status of the node and of the attachment, and the node's drivers.
#[derive(Clone, Default)]
struct World(Arc<Mutex<(Value, Value, Value)>>);

impl World {
    fn csi(&self) -> (Csi, tempfile::TempDir) {
        let world = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.path().to_owned();
                let state = world.0.lock().clone();
                let found = if path.ends_with("/csinodes") {
                    let body = body.collect_bytes().await?;
                    let object: Value = serde_json::from_slice(&body)?;
                    world.0.lock().2 = object.clone();
                    object
                } else if path.contains("/nodes/") {
                    json!({ "metadata": { "name": "n" }, "status": state.0 })
                } else if path.contains("/volumeattachments/") && !state.1.is_null() {
                    json!({
                        "metadata": { "name": "a" },
                        "spec": { "attacher": "d", "nodeName": "n", "source": {} },
                        "status": state.1,
                    })
                } else {
                    json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound" })
                };
                let code = if found["code"] == 404 { 404 } else { 200 };
                let body = Body::from(found.to_string().into_bytes());
                Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap())
            }
        });
        let client = kube::Client::new(service, "default");
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        let recorder = Recorder::new(client.clone(), "n", Clock::system(), Rate::new(1, 1)).0;
        let csi = Csi::new(Parts {
            client,
            recorder,
            node_name: "n".to_owned(),
            node_object: Arc::default(),
            is_reported: true,
            paths: Paths::new(&root, &format!("{root}/logs/pods")),
            metrics: Arc::default(),
        });
        (csi, folder)
    }

    fn set_node(&self, attached: &[&str]) {
        let attached: Vec<_> =
            attached.iter().map(|it| json!({ "name": it, "devicePath": "" })).collect();
        self.0.lock().0 = json!({ "volumesAttached": attached });
    }

    fn set_attachment(&self, status: Value) {
        self.0.lock().1 = status;
    }
}

fn volume() -> CsiVolume {
    CsiVolume {
        driver: "d".to_owned(),
        handle: "h".to_owned(),
        spec_name: "pv".to_owned(),
        ..CsiVolume::default()
    }
}

const NAME: &str = "kubernetes.io/csi/d^h";

fn driver(period: Value) -> CSIDriver {
    let it = json!({ "metadata": { "name": "d" }, "spec": { "nodeAllocatableUpdatePeriodSeconds": period } });
    serde_json::from_value(it).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_attachment_alone_is_not_enough_where_the_node_does_not_say_so() {
    let world = World::default();
    let (csi, _folder) = world.csi();
    world.set_attachment(json!({ "attached": true, "attachmentMetadata": { "slot": "7" } }));
    world.set_node(&["kubernetes.io/csi/d^other"]);
    csi.in_use.set_told([NAME.to_owned()].into());
    let (volume, object) = (volume(), driver(Value::Null));
    {
        let mut waiting = std::pin::pin!(csi.until_attached(&volume, Some(&object)));
        let early = tokio::time::timeout(Duration::from_secs(60), &mut waiting).await;
        assert!(early.is_err());
        world.set_node(&[NAME]);
        let (_in_use, data) = waiting.await.ok().unwrap();
        assert_eq!(data["slot"], "7");
    }
    assert!(csi.in_use.wanted().borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_node_ends_the_wait_at_once() {
    let world = World::default();
    let (csi, _folder) = world.csi();
    world.set_attachment(json!({ "attached": true }));
    csi.in_use.set_told([NAME.to_owned()].into());
    let (volume, object) = (volume(), driver(Value::Null));
    let mut waiting = std::pin::pin!(csi.until_attached(&volume, Some(&object)));
    let pause = Duration::from_millis(100);
    assert!(tokio::time::timeout(pause, &mut waiting).await.is_err());
    world.set_node(&[NAME]);
    csi.node_object.refresh(&csi.client, "n").await;
    assert!(tokio::time::timeout(pause, &mut waiting).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_attaches_is_told_in_upstreams_words() {
    let world = World::default();
    let (csi, _folder) = world.csi();
    let (volume, object) = (volume(), driver(Value::Null));
    let error = csi.until_attached(&volume, Some(&object)).await.err().unwrap();
    assert!(error.is_unattached());
    assert_eq!(
        error.to_string(),
        "Volume has not been added to the list of VolumesInUse in the node's volume status for volume \"pv\""
    );
    csi.in_use.set_told([NAME.to_owned()].into());
    let error = csi.until_attached(&volume, Some(&object)).await.err().unwrap();
    assert_eq!(error.to_string(), "Volume not attached according to node status for volume \"pv\"");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_room_is_told_from_one_that_waits() {
    let world = World::default();
    let (csi, _folder) = world.csi();
    csi.in_use.set_told([NAME.to_owned()].into());
    let full = json!({ "attached": false, "attachError": { "message": "full", "errorCode": 8 } });
    let cases = [
        (full.clone(), json!(10), true),
        // The driver does not say that its limits change.
        (full, Value::Null, false),
        (
            json!({ "attached": false, "attachError": { "message": "no", "errorCode": 13 } }),
            json!(10),
            false,
        ),
        (Value::Null, json!(10), false),
    ];
    for (status, period, is_full) in cases {
        world.set_attachment(status.clone());
        let object = driver(period);
        let error = csi.until_attached(&volume(), Some(&object)).await.err().unwrap();
        assert_eq!(error == AttachError::LimitExceeded, is_full, "{status} {error}");
    }
}

fn attachment(status: Value) -> Option<VolumeAttachment> {
    let it = json!({
        "metadata": { "name": "a" },
        "spec": { "attacher": "d", "nodeName": "n", "source": {} },
        "status": status,
    });
    serde_json::from_value(it).unwrap()
}

#[test]
fn an_attachment_counts_when_it_is_done_and_stays() {
    assert_eq!(state_of(None), Ok(None));
    assert_eq!(state_of(attachment(json!({ "attached": false }))), Ok(None));
    let done = json!({ "attached": true, "attachmentMetadata": { "dev": "x" } });
    assert_eq!(state_of(attachment(done.clone())).unwrap().unwrap()["dev"], "x");
    let mut going = attachment(done).unwrap();
    going.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    assert_eq!(state_of(Some(going)), Err(AttachError::Detaching));
    let failed = attachment(json!({ "attached": false, "attachError": { "message": "full" } }));
    assert_eq!(state_of(failed), Err(AttachError::Failed("full".to_owned())));
}

#[test]
fn a_volume_is_in_use_while_it_is_waited_for_or_staged() {
    let in_use = InUse::new(["old".to_owned()].into_iter());
    let names = |it: &InUse| it.wanted.borrow().iter().cloned().collect::<Vec<_>>();
    let (one, two) = (in_use.wait("new"), in_use.wait("new"));
    drop(one);
    assert_eq!(names(&in_use), ["new", "old"]);
    drop(two);
    assert_eq!(names(&in_use), ["old"]);
    in_use.set_staged("old", false);
    assert!(names(&in_use).is_empty());
}

#[tokio::test]
async fn a_full_node_has_the_scheduler_told_how_much_it_takes_now() {
    let world = World::default();
    let (csi, folder) = world.csi();
    let mut config = fake_csi::Config::new("d", &folder.path().join("s"), folder.path());
    config.max_volumes = 5;
    let driver = fake_csi::FakeCsi::start(config.clone()).unwrap();
    let channel = api_cri::connect(&config.socket.display().to_string()).unwrap();
    let known = crate::volumes::csi::Driver::new("d", config.socket, channel, Arc::default());
    csi.drivers.lock().insert("d".to_owned(), known);
    world.set_attachment(
        json!({ "attached": false, "attachError": { "message": "full", "errorCode": 8 } }),
    );
    assert!(csi.is_node_full(&volume().key()).await);
    assert_eq!(driver.count("NodeGetInfo", ""), 1);
    let told = world.0.lock().2.clone();
    assert_eq!(told["spec"]["drivers"][0]["allocatable"]["count"], 5, "{told}");
}
