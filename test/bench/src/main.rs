//! What things cost: a table of medians with the floor and the budget beside each.
//!
//! It brings a region of its own up (`/var/lib/nodestead-bench`), measures through the public
//! protocols, and takes it down. Floors are measured in the same run on the same machine: the bare
//! CRI calls for a pod, `nft` alone for a rule. Budgets are those of DESIGN §7.
//!
//! Every duration is that of real work seen through the API that a user sees it through; nothing is
//! extrapolated. A row that cannot be measured says why.

use api_kube as _;

mod api_server;
mod cni;
mod controllers;
mod groups;
mod iam;
mod kubernetes;
mod memory;
mod network;
mod nodes;
mod pod_identity;
mod pods;
mod provisioning;
mod proxier;
mod region;
mod rows;
mod services;

use std::time::Duration;

use anyhow::Context;
use groups::Group;
use region::Region;
use rows::{Row, median, seconds};

fn main() -> anyhow::Result<()> {
    transport::tls::install_provider();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let wanted = groups::wanted(std::env::args().skip(1))?;
    let mut rows = Vec::new();
    let region = match wanted.iter().any(|it| it.needs_region()) {
        true => Some(Region::up(if wanted.contains(&Group::Up) { UPS } else { 1 })?),
        false => None,
    };
    for (index, group) in wanted.iter().enumerate() {
        eprintln!("measuring {} ({} of {})", group.name(), index + 1, wanted.len());
        match measure(*group, region.as_ref()).await {
            Ok(found) => rows.extend(found),
            Err(error) => rows.push(Row::missing(group.name(), &error)),
        }
    }
    println!("{}", rows::table(&rows));
    Ok(())
}

/// A folder that goes with the value, on a disk: `/tmp` may be memory, where what is written through to the
/// disk costs nothing.
fn disk_folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("nodestead-bench-").tempdir_in("/var/tmp")
}

/// How often `up` is measured.
const UPS: usize = 3;

async fn measure(
    group: Group,
    region: Option<&(Region, Vec<Duration>)>,
) -> anyhow::Result<Vec<Row>> {
    let up = || region.context("a region is needed");
    let region = || up().map(|it| &it.0);
    match group {
        Group::Up => {
            let took = seconds(median(&up()?.1));
            Ok(vec![Row::new("`up` to 3 nodes Ready, nothing there before", took, "-", "8 s")])
        }
        Group::Memory => memory::rows(region()?),
        Group::Nodes => nodes::rows(region()?).await,
        Group::Cni => tokio::task::block_in_place(|| cni::rows(region()?)),
        Group::Pods => pods::rows(region()?).await,
        Group::ManyPods => pods::many(region()?).await,
        Group::PodLives => pods::lives(region()?).await,
        Group::IdlePods => pods::idle(region()?).await,
        Group::Identity => pod_identity::rows(region()?).await,
        Group::Services => services::rows(region()?).await,
        Group::Api => api_server::rows(region()?).await,
        Group::Kubernetes => kubernetes::rows().await,
        Group::Controllers => controllers::rows().await,
        Group::Proxier => proxier::rows().await,
        Group::Network => network::rows().await,
        Group::Iam => iam::rows().await,
        Group::Provisioning => provisioning::rows(),
    }
}
