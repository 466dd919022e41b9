//! `nodestead explain node`: how far an instance is on its way to a Ready node, and which step of the
//! chain fails: the instance, its user data, metadata, role and rights, the endpoint, the role's mapping,
//! registration, certificate, images, network, names.
//!
//! Told from what EC2, IAM, EKS and the API server say, the instance's console and its kubelet's log.

mod chain;
mod facts;

use clock::Clock;
use serde::Serialize;

use self::chain::{State, Step};
use super::{REGION_LIMIT, plain_table, within};
use crate::{
    admin::{Admin, DaemonStatus},
    cli::ExplainNode,
    clusters,
    failure::Failure,
    layout::Layout,
    region,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    cluster: String,
    instance: Option<String>,
    node: Option<String>,
    is_ready: bool,
    /// The step at which the chain breaks.
    broken: Option<&'static str>,
    chain: Vec<Step>,
}

pub(super) async fn run(args: &ExplainNode) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let asked = explain(&layout, &args.node, args.cluster.as_deref());
    let explanation = within(REGION_LIMIT, "the region", asked).await?;
    args.output.print(&explanation, rendered)
}

async fn explain(
    layout: &Layout,
    wanted: &str,
    cluster: Option<&str>,
) -> anyhow::Result<Explanation> {
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let aws = region::client(layout, &status)?;
    let of_instance = match cluster {
        Some(_) => None,
        None => facts::cluster_of(&aws, wanted).await?,
    };
    // An instance may be tagged with a cluster that is not there any more.
    let of_instance =
        of_instance.filter(|it| status.clusters.iter().any(|known| known.name == *it));
    let cluster = clusters::chosen(layout, &status, cluster.or(of_instance.as_deref()))?;
    let kubernetes = clusters::client(layout, Some(&cluster)).await?;
    let facts = facts::read(&kubernetes, &aws, &status, &cluster, wanted).await?;
    let Some(facts) = facts else {
        return Err(Failure::new(
            format!("there is no node or instance `{wanted}`"),
            "list what there is with `nodestead status` and `kubectl get nodes`",
        )
        .into());
    };
    let chain = chain::of(&facts, Clock::system().now());
    Ok(Explanation {
        cluster: facts.cluster.name,
        instance: facts.instance.map(|it| it.id),
        node: facts.known.node.and_then(|it| it.metadata.name),
        is_ready: chain.iter().any(|it| it.step == "Ready" && it.state == State::Good),
        broken: chain::broken(&chain).map(|it| it.step),
        chain,
    })
}

fn rendered(it: &Explanation) -> String {
    let what = it.node.as_ref().or(it.instance.as_ref()).cloned().unwrap_or_default();
    let broken = it.chain.iter().find(|step| step.state == State::Fails);
    let mut text = match (broken, it.is_ready) {
        (Some(step), true) => format!("{what} is Ready; step `{}` fails", step.step),
        (Some(step), false) => format!("{what} is not Ready: step `{}` fails", step.step),
        (None, true) => format!("{what} is Ready"),
        (None, false) => format!("{what} is on its way to cluster {}", it.cluster),
    };
    if let Some(step) = broken {
        text += &format!("\n  {}\n  next: {}", step.detail, step.next.as_deref().unwrap_or("-"));
    }
    let mut table = plain_table();
    table.set_header(["STEP", "RESULT", "WHY"]);
    for step in &it.chain {
        let state = match step.state {
            State::Good => "good",
            State::Fails => "fails",
            State::Unknown => "unknown",
            State::NotReached => "not reached",
        };
        table.add_row([step.step, state, &step.detail]);
    }
    format!("{text}\n\n{}\n", table.trim_fmt())
}
