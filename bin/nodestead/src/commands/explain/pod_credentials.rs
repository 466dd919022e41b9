//! `nodestead explain pod-credentials`: whose AWS credentials a process in a pod gets, and why.
//!
//! Told from public facts: the pod's spec, its instance's metadata options and profile, the cluster's
//! Pod Identity associations and issuer, and roles' trust policies. What the container's image holds
//! is not known.

pub(crate) mod chain;
pub(crate) mod facts;
mod trust;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::Serialize;

use self::{
    chain::{Found, State},
    facts::Facts,
};
use super::{REGION_LIMIT, plain_table, within};
use crate::{
    admin::{Admin, DaemonStatus},
    cli::ExplainPodCredentials,
    clusters,
    failure::Failure,
    iam::Iam,
    layout::Layout,
    region,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    namespace: String,
    name: String,
    service_account: String,
    node: Option<String>,
    instance: Option<facts::Instance>,
    containers: Vec<Found>,
}

pub(super) async fn run(args: &ExplainPodCredentials) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let asked = explain(&layout, &args.pod, args.within.cluster.as_deref());
    let explanation = within(REGION_LIMIT, "the region", asked).await?;
    args.output.print(&explanation, rendered)
}

async fn explain(layout: &Layout, pod: &str, cluster: Option<&str>) -> anyhow::Result<Explanation> {
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let cluster = clusters::chosen(layout, &status, cluster)?;
    let kubernetes = clusters::client(layout, Some(&cluster)).await?;
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    let pod = Api::<Pod>::namespaced(kubernetes.clone(), namespace).get_opt(name).await;
    let pod = pod.context("cannot read the pod")?.ok_or_else(|| {
        Failure::new(
            format!("there is no pod `{namespace}/{name}`"),
            format!("list what there is with `kubectl get pods -n {namespace}`"),
        )
    })?;
    let client = region::client(layout, &status)?;
    let facts = Facts::read(&kubernetes, &client, &status, &cluster, &[&pod]).await?;
    let spec = pod.spec.clone().unwrap_or_default();
    let mut containers = chain::of_pod(&pod, &facts);
    let iam = Iam::new(client);
    for found in &mut containers {
        trust::check(&iam, &facts, namespace, found).await?;
    }
    let instance = spec.node_name.as_ref().and_then(|it| facts.instances.get(it)).cloned();
    Ok(Explanation {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        service_account: chain::service_account(&pod).to_owned(),
        node: spec.node_name,
        instance,
        containers,
    })
}

fn rendered(it: &Explanation) -> String {
    let node = it.node.as_deref().unwrap_or("no node");
    let account = &it.service_account;
    let mut text =
        format!("Pod {}/{} of service account {account} on {node}\n", it.namespace, it.name);
    for found in &it.containers {
        let whose = found.principal.as_deref().unwrap_or("nobody's");
        let works = if found.works || found.source == "none" { "" } else { ", which fail" };
        text += &format!(
            "\nContainer {} gets {whose} credentials{works} ({})\n  {}\n",
            found.container, found.source, found.why
        );
        let mut table = plain_table();
        table.set_header(["STEP", "RESULT", "WHY"]);
        for step in &found.chain {
            let state = match step.state {
                State::Used => "used",
                State::Fails => "fails",
                State::Skipped => "skipped",
                State::NotReached => "not reached",
            };
            table.add_row([step.provider, state, &step.detail]);
        }
        text += &format!("{}\n", table.trim_fmt());
    }
    text
}
