//! PolicyEndpoints as they come and go.

use std::{collections::BTreeSet, time::Duration};

use api_kube::policy_endpoint::PolicyEndpoint;
use controller::Key;
use futures::StreamExt;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use lifecycle::Scope;
use tokio::sync::mpsc;
use tracing::warn;

const PENDING: usize = 1024;
/// The definition may come after the agent.
const QUIET: Duration = Duration::from_secs(10);

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    Set(Box<PolicyEndpoint>),
    Gone(Key),
    /// A list is complete: what is not in it is gone.
    Listed(BTreeSet<Key>),
}

/// Starts the watch.
pub fn start(client: Client, scope: &Scope) -> mpsc::Receiver<Update> {
    let (sender, receiver) = mpsc::channel(PENDING);
    drop(scope.spawn("watch-policy-endpoints", follow(Api::all(client), sender)));
    receiver
}

async fn follow(api: Api<PolicyEndpoint>, sender: mpsc::Sender<Update>) {
    let stream = watcher(api, watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut present = BTreeSet::new();
    let mut warned: Option<tokio::time::Instant> = None;
    while let Some(event) = stream.next().await {
        let update = match event {
            Ok(event) => reduce(event, &mut present),
            Err(error) => {
                if warned.is_none_or(|it| it.elapsed() > QUIET) {
                    warn!(error = %telemetry::chain(&error), "watching PolicyEndpoints failed");
                    warned = Some(tokio::time::Instant::now());
                }
                None
            }
        };
        if let Some(update) = update
            && sender.send(update).await.is_err()
        {
            return;
        }
    }
}

fn reduce(event: watcher::Event<PolicyEndpoint>, present: &mut BTreeSet<Key>) -> Option<Update> {
    match event {
        watcher::Event::Init => {
            present.clear();
            None
        }
        watcher::Event::InitApply(endpoint) => {
            present.insert(Key::of(&endpoint));
            Some(Update::Set(Box::new(endpoint)))
        }
        watcher::Event::Apply(endpoint) => Some(Update::Set(Box::new(endpoint))),
        watcher::Event::Delete(endpoint) => Some(Update::Gone(Key::of(&endpoint))),
        watcher::Event::InitDone => Some(Update::Listed(std::mem::take(present))),
    }
}
