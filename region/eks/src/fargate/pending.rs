//! Pods that wait for Fargate are told that nobody will run them, as `fargate-scheduler` tells what it
//! cannot run: by an event on the pod.

use std::sync::Arc;

use clock::Clock;
use controller::Recorder;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use lifecycle::Scope;

use super::{admission::SCHEDULER, selector::LABEL};

/// Tells each of them, until the scope is cancelled.
pub(crate) async fn run(client: Client, clock: Clock, scope: Scope) {
    let recorder = Recorder::new(client.clone(), SCHEDULER, clock, &scope);
    let fields = format!("spec.schedulerName={SCHEDULER},spec.nodeName=");
    let pods = Api::<Pod>::all(client);
    let pods = watcher(pods, watcher::Config::default().fields(&fields));
    let mut pods = pods.default_backoff().applied_objects().boxed();
    while let Some(next) = pods.next().await {
        let Ok(pod) = next.map(Arc::new) else { continue };
        if pod.metadata.deletion_timestamp.is_none() {
            recorder.warn(&*pod, "FailedScheduling", told(&pod));
        }
    }
}

fn told(pod: &Pod) -> String {
    let profile = pod.labels().get(LABEL).map_or("of none", String::as_str);
    format!(
        "Pod not supported on Fargate: this region runs no pods on Fargate. The Fargate profile \
         {profile} selects this pod, so that it stays Pending; without the profile, nodes run it."
    )
}
