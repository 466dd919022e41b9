//! `nodestead demo`: the guestbook, deployed and used, step by step.
//!
//! It does what a user would do with kubectl, through the same API, and prints what happened: where
//! each pod runs, which VPC address it got, how long each step took. Running it again changes
//! nothing but the guestbook, which is signed once more.

mod apply;
mod narrate;
mod waits;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use http::Request;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client,
    api::ListParams,
    runtime::wait::{Condition, await_condition},
};

use crate::{
    admin::Admin,
    cli,
    commands::image::load_one,
    failure::{Failure, Status},
    kubernetes,
    layout::Layout,
    progress::Progress,
    signals,
};

const MANIFESTS: [(&str, &str); 2] = [
    ("redis.yaml", include_str!("../../../../examples/guestbook/redis.yaml")),
    ("frontend.yaml", include_str!("../../../../examples/guestbook/frontend.yaml")),
];
const DEPLOYMENTS: [&str; 3] = ["redis-leader", "redis-follower", "guestbook"];
/// All of it, as `kubectl delete` takes it.
const REMOVED: &str = "deploy/redis-leader deploy/redis-follower deploy/guestbook svc/redis-leader svc/redis-follower \
                       svc/guestbook cm/guestbook";
const MESSAGES: &str = "/api/v1/namespaces/default/services/guestbook:http/proxy/messages";
const ROLLOUT_LIMIT: Duration = Duration::from_secs(180);
/// How long nothing is said about a rollout that waits.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: cli::Demo) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let archives = archives(&args.images.unwrap_or_else(images))?;
    let is_applied = Cell::new(false);
    match signals::unless_asked_to_end(tell(&layout, &archives, &is_applied)).await? {
        Ok(done) => done,
        Err(code) => {
            eprint!("{}", interrupted(&layout, is_applied.get()));
            Err(Status(code).into())
        }
    }
}

/// What goes on when the demo does not.
fn interrupted(layout: &Layout, is_applied: bool) -> String {
    let again = format!("`nodestead demo --data-dir {}`", layout.root().display());
    match is_applied {
        false => format!("interrupted: nothing was deployed\n  next: begin again with {again}\n"),
        true => format!(
            "interrupted: what was deployed of the guestbook goes on in the cluster\n  next: finish with {again}, \
             watch it with `kubectl get pods`, or remove it with `kubectl delete {REMOVED}`\n"
        ),
    }
}

async fn tell(
    layout: &Layout,
    archives: &[PathBuf],
    is_applied: &Cell<bool>,
) -> anyhow::Result<()> {
    let client = kubernetes::client(layout).await?;
    let mut progress = Progress::new(4 + DEPLOYMENTS.len() as u64);

    progress.step("loading images into the region's registry");
    load(layout, archives).await?;
    progress.step("applying examples/guestbook/");
    is_applied.set(true);
    for (name, manifest) in MANIFESTS {
        apply::manifest(&client, manifest).await.with_context(|| format!("applying {name}"))?;
    }
    for name in DEPLOYMENTS {
        progress.step(format!("deployment/{name} becomes available"));
        await_rollout(&client, name, &progress).await?;
    }
    // Drawn anew, so that it is this message that comes back and none of an earlier run.
    let message = format!("Hello from a worker node ({})", entropy::name_suffix(5));
    progress.step("signing the guestbook, by the API server's proxy to its Service");
    sign(&client, &message).await?;
    progress.step("reading it back from a follower");
    read_back(&client, &message).await?;
    progress.done();

    let pods = Api::<Pod>::default_namespaced(client).list(&ListParams::default()).await?;
    print!("{}", narrate::story(&pods.items, &message, layout));
    Ok(())
}

/// Where `make images` puts them.
fn images() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from);
    home.join(".cache/nodestead/images")
}

fn archives(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let missing = || {
        Failure::new(
            format!("there are no image archives in `{}`", folder.display()),
            "make them with `make images`, or name their folder with --images",
        )
    };
    let entries = std::fs::read_dir(folder).map_err(|_| missing())?;
    let mut found: Vec<_> = entries.filter_map(|it| it.ok().map(|it| it.path())).collect();
    found.retain(|path| path.extension().is_some_and(|it| it == "tar"));
    found.sort();
    if found.is_empty() { Err(missing().into()) } else { Ok(found) }
}

async fn load(layout: &Layout, archives: &[PathBuf]) -> anyhow::Result<()> {
    let admin = Admin::new(layout.admin_socket());
    for archive in archives {
        load_one(&admin, archive).await?;
    }
    Ok(())
}

/// One that takes long says what it waits for.
async fn await_rollout(client: &Client, name: &str, progress: &Progress) -> anyhow::Result<()> {
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let mut waiting = std::pin::pin!(await_condition(deployments, name, Available));
    let deadline = tokio::time::Instant::now() + ROLLOUT_LIMIT;
    let mut told = None;
    while tokio::time::Instant::now() < deadline {
        if let Ok(available) = tokio::time::timeout(PATIENCE, &mut waiting).await {
            available.with_context(|| format!("watching deployment/{name}"))?;
            return Ok(());
        }
        let wait = wait_of(client, name).await;
        if wait.is_some() && wait != told {
            for line in wait.iter().flat_map(|it| [it.why.clone(), format!("next: {}", it.next)]) {
                progress.say(&line);
            }
            told = wait;
        }
    }
    let what = format!("deployment/{name} did not become available in {ROLLOUT_LIMIT:?}");
    match told {
        Some(wait) => bail!(Failure::new(format!("{what}: {}", wait.why), wait.next)),
        None => bail!(Failure::new(
            what,
            format!("look at `kubectl describe deployment {name}` and `kubectl get events`"),
        )),
    }
}

/// What the deployment's pods wait for, as far as the API server says so.
async fn wait_of(client: &Client, name: &str) -> Option<waits::Wait> {
    let deployment = Api::<Deployment>::default_namespaced(client.clone()).get(name).await.ok()?;
    let labels = deployment.spec?.selector.match_labels.unwrap_or_default();
    let selector: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let listed = ListParams::default().labels(&selector.join(","));
    let pods = Api::<Pod>::default_namespaced(client.clone()).list(&listed).await.ok()?;
    waits::of(&pods.items)
}

struct Available;

impl Condition<Deployment> for Available {
    fn matches_object(&self, deployment: Option<&Deployment>) -> bool {
        let Some(deployment) = deployment else { return false };
        let wanted = deployment.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1);
        let Some(status) = &deployment.status else { return false };
        status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == Some(wanted)
            && status.available_replicas == Some(wanted)
    }
}

async fn sign(client: &Client, message: &str) -> anyhow::Result<()> {
    let request = Request::post(MESSAGES)
        .header(http::header::CONTENT_TYPE, "text/plain")
        .body(message.as_bytes().to_vec())?;
    client.request_text(request).await.context("the guestbook did not take the message")?;
    Ok(())
}

/// Replication is asynchronous: asks again until the message has arrived.
async fn read_back(client: &Client, message: &str) -> anyhow::Result<()> {
    let mut page = String::new();
    for _ in 0..50 {
        page = client.request_text(Request::get(MESSAGES).body(Vec::new())?).await?;
        if page.lines().any(|line| line == message) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the followers never showed {message:?}; they answered {page:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_archives_is_refused_with_a_way_out() {
        let error = archives(Path::new("/no/such/folder")).unwrap_err();
        assert!(error.downcast_ref::<Failure>().is_some());
    }

    #[test]
    fn who_interrupts_it_is_told_what_goes_on_and_how_to_remove_it() {
        let layout = Layout::new(Path::new("/var/lib/no-such-region")).unwrap();
        let early = interrupted(&layout, false);
        assert!(early.contains("nothing was deployed") && !early.contains("delete"), "{early}");
        let late = interrupted(&layout, true);
        assert!(
            late.contains("goes on") && late.contains("nodestead demo --data-dir /var/lib/no-such")
        );
        // Whatever the manifests make.
        for (_, manifest) in MANIFESTS {
            for document in manifest.split("\n---") {
                let object: serde_json::Value = serde_saphyr::from_str(document).unwrap();
                let kind = object["kind"].as_str().unwrap_or_default();
                let short = match kind {
                    "Deployment" => "deploy",
                    "Service" => "svc",
                    "ConfigMap" => "cm",
                    other => panic!("{other}"),
                };
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let named = format!("{short}/{name}");
                assert!(
                    REMOVED.split(' ').any(|it| it == named) && late.contains(&named),
                    "{named}"
                );
            }
        }
    }

    #[test]
    fn a_rollout_is_over_only_when_its_own_generation_was_seen() {
        let deployment = |seen| {
            serde_json::from_value::<Deployment>(serde_json::json!({
                "metadata": {"generation": 2},
                "spec": {"replicas": 3, "selector": {}, "template": {}},
                "status": {"observedGeneration": seen, "updatedReplicas": 3, "availableReplicas": 3},
            }))
            .unwrap()
        };
        assert!(!Available.matches_object(Some(&deployment(1))));
        assert!(Available.matches_object(Some(&deployment(2))));
    }
}
