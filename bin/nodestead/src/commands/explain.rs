//! `nodestead explain`: a subnet's addresses ([`subnet`]), a decision of IAM ([`access`]), a pod's
//! credentials ([`pod_credentials`]), a connection ([`path`]), a node's way into the cluster ([`node`]),
//! and a pod's story: what happened
//! to it, step by step, and what it waits for. For a pod without a node that is what each plug-in of the
//! scheduler says about each node ([`scheduling`]).
//!
//! The API server knows the pod and why it is not scheduled; the kubelet of its node, asked through
//! `nodes/proxy`, knows the steps. One that does not answer soon is left alone: then the story is told
//! from what the API server knows.

mod access;
mod denied;
mod known;
mod node;
mod path;
pub(crate) mod pod_credentials;
mod scheduling;
mod subnet;
mod whose;

use std::time::Duration;

use anyhow::Context;
use comfy_table::{Table, presets::NOTHING};
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use self::{denied::Denial, known::Unreachable};
use crate::{
    cli::{ExplainCommand, ExplainPod},
    clusters,
    failure::Failure,
    kubernetes,
    layout::Layout,
    progress,
};

/// How long the API server may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long everybody in the region who is asked may take together.
const REGION_LIMIT: Duration = Duration::from_secs(20);
/// How long a kubelet may take: one that is there answers at once.
const KUBELET_LIMIT: Duration = Duration::from_secs(2);

/// A pod's story.
#[derive(Debug, Serialize)]
struct Explanation {
    namespace: String,
    name: String,
    uid: String,
    phase: String,
    created: Option<Timestamp>,
    node: Option<String>,
    /// Why no node was found, in the scheduler's words.
    unscheduled: Option<String>,
    /// What speaks against each node, for a pod that has none.
    scheduling: Option<scheduling::Scheduling>,
    /// Why containers do not run.
    waiting: Vec<Waiting>,
    /// Which calls AWS denied, as far as the errors quote it.
    denied: Vec<Denial>,
    timeline: Option<Timeline>,
    /// Why there is no timeline, if the kubelet cannot be asked.
    unreachable: Option<Unreachable>,
}

#[derive(Debug, Serialize)]
struct Waiting {
    container: String,
    reason: String,
    message: String,
}

/// The kubelet's `/explain/pods/NS/NAME`.
#[derive(Debug, Deserialize, Serialize)]
struct Timeline {
    uid: String,
    steps: Vec<Step>,
    forgotten: u32,
    has_ended: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Step {
    step: String,
    #[serde(default)]
    container: String,
    at: Timestamp,
    seconds: Option<f64>,
    #[serde(default)]
    detail: String,
    failure: Option<StepFailure>,
    count: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct StepFailure {
    call: String,
    error: String,
}

pub(crate) async fn run(command: ExplainCommand) -> anyhow::Result<()> {
    let args = match command {
        ExplainCommand::Pod(args) => args,
        ExplainCommand::Subnet(args) => return subnet::run(args).await,
        ExplainCommand::Node(args) => return node::run(&args).await,
        ExplainCommand::Path(args) => return path::run(&args).await,
        ExplainCommand::Access(args) => return access::run(&args).await,
        ExplainCommand::PodCredentials(args) => return pod_credentials::run(&args).await,
    };
    let client = client(&args).await?;
    let (namespace, name) = args.pod.split_once('/').unwrap_or(("default", &args.pod));
    let explanation = within(LIMIT, "the API server", explain(&client, namespace, name)).await?;
    args.output.print(&explanation, rendered)
}

/// What `who` is asked for, if it is answered in time.
async fn within<T>(
    limit: Duration,
    who: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let _shown = progress::Waiting::new("asking the region");
    tokio::time::timeout(limit, work).await.map_err(|_| {
        Failure::new(
            format!("{who} did not answer within {limit:?}"),
            "see whether it runs with `nodestead status`",
        )
    })?
}

async fn client(args: &ExplainPod) -> anyhow::Result<Client> {
    match &args.kubeconfig {
        Some(path) => kubernetes::client_of(path, "give the path of a kubeconfig").await,
        None => {
            let layout = Layout::new(&args.at.data_dir)?;
            clusters::client(&layout, args.within.cluster.as_deref()).await
        }
    }
}

async fn explain(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Explanation> {
    let pod = Api::<Pod>::namespaced(client.clone(), namespace).get_opt(name).await;
    let pod = pod.context("cannot read the pod")?.ok_or_else(|| {
        Failure::new(
            format!("there is no pod `{namespace}/{name}`"),
            format!("list what there is with `kubectl get pods -n {namespace}`"),
        )
    })?;
    let mut explanation = of_pod(&pod);
    let events = known::events(client, &pod).await;
    let told = events.iter().filter(|it| it.type_.as_deref() == Some("Warning"));
    let told: Vec<&str> = told.filter_map(|it| it.message.as_deref()).collect();
    explanation.denied = denied::denials(told.iter().copied());
    let Some(node) = explanation.node.clone() else {
        if explanation.phase == "Pending" {
            explanation.scheduling = Some(scheduling::of(client, &pod).await);
        }
        return Ok(explanation);
    };
    let asked = tokio::time::timeout(KUBELET_LIMIT, timeline(client, &node, namespace, name)).await;
    let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {KUBELET_LIMIT:?}")));
    match asked {
        // The kubelet may still tell of an earlier pod of this name.
        Ok(timeline) => explanation.timeline = timeline.filter(|it| it.uid == explanation.uid),
        Err(why) => {
            explanation.unreachable = Some(known::of(client, &pod, &node, why, &events).await);
        }
    }
    explanation.denied = denied::denials(told.into_iter().chain(errors(&explanation)));
    Ok(explanation)
}

/// Everything that is told to have failed.
fn errors(it: &Explanation) -> impl Iterator<Item = &str> {
    let steps = it.timeline.iter().flat_map(|it| &it.steps);
    let failures = steps.filter_map(|it| it.failure.as_ref()).map(|it| it.error.as_str());
    it.waiting.iter().map(|it| it.message.as_str()).chain(failures)
}

/// The kubelet's story, nothing if it has none, or why it cannot be asked.
async fn timeline(
    client: &Client,
    node: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Timeline>, String> {
    let path = format!("/api/v1/nodes/{node}/proxy/explain/pods/{namespace}/{name}");
    let request = Request::get(path).body(Vec::new()).map_err(|it| it.to_string())?;
    match client.request_text(request).await {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| format!("its answer is damaged: {error}")),
        Err(kube::Error::Api(status)) if status.code == 404 && status.reason != "NotFound" => {
            Ok(None)
        }
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => Err(telemetry::chain(&error).to_string()),
    }
}

fn of_pod(pod: &Pod) -> Explanation {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions
        .clone()
        .find(|it| it.type_ == "PodScheduled" && it.status == "False")
        .map(|it| {
            let reason = it.reason.clone().unwrap_or_default();
            format!("{reason}: {}", it.message.clone().unwrap_or_default())
        });
    let containers = [
        status.init_container_statuses.as_deref(),
        status.container_statuses.as_deref(),
        status.ephemeral_container_statuses.as_deref(),
    ];
    let metadata = pod.metadata.clone();
    Explanation {
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        phase: status.phase.clone().unwrap_or_default(),
        created: metadata.creation_timestamp.map(|it| it.0),
        node: pod.spec.as_ref().and_then(|it| it.node_name.clone()).filter(|it| !it.is_empty()),
        unscheduled,
        scheduling: None,
        waiting: containers.into_iter().flatten().flatten().filter_map(waiting).collect(),
        denied: Vec::new(),
        timeline: None,
        unreachable: None,
    }
}

fn waiting(status: &ContainerStatus) -> Option<Waiting> {
    let waiting = status.state.as_ref()?.waiting.clone()?;
    Some(Waiting {
        container: status.name.clone(),
        reason: waiting.reason.unwrap_or_default(),
        message: waiting.message.unwrap_or_default(),
    })
}

fn rendered(it: &Explanation) -> String {
    let node = it.node.as_deref().unwrap_or("no node");
    let mut text = format!("Pod {}/{} is {} on {node}\n", it.namespace, it.name, it.phase);
    if let Some(why) = &it.unscheduled {
        text += &format!("Not scheduled: {why}\n");
    }
    text += &it.scheduling.as_ref().map(scheduling::rendered).unwrap_or_default();
    for Waiting { container, reason, message } in &it.waiting {
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        text += &format!("Container {container} waits: {reason}{message}\n");
    }
    text += &denied::rendered(&it.denied);
    match (&it.timeline, &it.unreachable, &it.node) {
        (Some(timeline), _, _) => text += &table(timeline),
        (None, Some(unreachable), _) => text += &known::rendered(unreachable),
        (None, None, Some(_)) => {
            text += "The kubelet knows nothing of the pod (yet, or any more).\n";
        }
        (None, None, None) => {}
    }
    text
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn table(timeline: &Timeline) -> String {
    let mut table = plain_table();
    table.set_header(["STEP", "CONTAINER", "AFTER", "TOOK", "DETAIL"]);
    let Some(first) = timeline.steps.first().map(|it| it.at) else { return String::new() };
    for it in &timeline.steps {
        let after = it.at.duration_since(first).as_secs_f64();
        let mut detail = match &it.failure {
            Some(failure) => format!("{} failed: {}", failure.call, failure.error),
            None => it.detail.clone(),
        };
        if it.count > 1 {
            detail += &format!(" ({} times)", it.count);
        }
        table.add_row([
            it.step.clone(),
            it.container.clone(),
            seconds(after),
            it.seconds.map_or_else(|| "-".to_owned(), seconds),
            detail,
        ]);
    }
    let mut text = format!("\n{}\n", table.trim_fmt());
    if timeline.forgotten > 0 {
        text += &format!("{} steps in between were forgotten.\n", timeline.forgotten);
    }
    let ready = timeline.steps.iter().find(|it| it.step == "Ready");
    if let Some(ready) = ready {
        let took = ready.at.duration_since(first).as_secs_f64();
        text += &format!("\nReady {} after the kubelet heard of it.\n", seconds(took));
    }
    text
}

fn seconds(it: f64) -> String {
    if it < 1.0 { format!("{:.0} ms", it * 1000.0) } else { format!("{it:.2} s") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pending_pod_shows_the_schedulers_words() {
        let pod = serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "p", "uid": "1" },
            "spec": { "containers": [] },
            "status": { "phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient cpu.",
            }] },
        }))
        .unwrap();
        assert_eq!(
            rendered(&of_pod(&pod)),
            "Pod n/p is Pending on no node\n\
             Not scheduled: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.\n"
        );
    }

    #[test]
    fn steps_are_shown_with_durations_and_failures_with_their_call() {
        let timeline: Timeline = serde_json::from_value(json!({
            "uid": "1", "forgotten": 0, "has_ended": false, "steps": [
                { "step": "Received", "at": "2026-01-01T00:00:00Z", "seconds": null,
                  "failure": null, "count": 1 },
                { "step": "Sandbox", "at": "2026-01-01T00:00:00.01Z", "seconds": 0.153,
                  "failure": { "call": "RunPodSandbox", "error": "no address" }, "count": 3 },
                { "step": "Ready", "at": "2026-01-01T00:00:01.5Z", "seconds": null,
                  "failure": null, "count": 1 },
            ],
        }))
        .unwrap();
        let text = table(&timeline);
        let sandbox = text.lines().find(|it| it.trim_start().starts_with("Sandbox")).unwrap();
        let words: Vec<&str> = sandbox.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "Sandbox 10 ms 153 ms RunPodSandbox failed: no address (3 times)"
        );
        assert!(text.ends_with("Ready 1.50 s after the kubelet heard of it.\n"), "{text}");
    }
}
