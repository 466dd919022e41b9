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
mod iam;
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

use region::Region;
use rows::{Row, seconds};

fn main() -> anyhow::Result<()> {
    transport::tls::install_provider();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> anyhow::Result<()> {
    if std::env::args().skip(1).eq(["network".to_owned()]) {
        // What needs no region.
        println!("{}", rows::table(&network::rows().await?));
        return Ok(());
    }
    if std::env::args().skip(1).eq(["proxier"]) {
        // It needs no region.
        println!("{}", rows::table(&proxier::rows().await?));
        return Ok(());
    }
    if std::env::args().skip(1).eq(["iam"]) {
        // Nor do a decision and the gateway.
        println!("{}", rows::table(&iam::rows().await?));
        return Ok(());
    }
    if std::env::args().skip(1).eq(["controllers"]) {
        // It has a control plane of its own.
        println!("{}", rows::table(&controllers::rows().await?));
        return Ok(());
    }
    if std::env::args().skip(1).eq(["provisioning"]) {
        println!("{}", rows::table(&provisioning::rows()?));
        return Ok(());
    }
    let (region, took) = Region::up()?;
    let mut rows = vec![Row::new("`up` to 3 nodes Ready, once", seconds(took), "-", "8 s")];
    if is_wanted("memory") {
        measure("memory", &mut rows, memory::rows(&region));
    }
    if is_wanted("nodes") {
        measure("nodes", &mut rows, nodes::rows(&region).await);
    }
    if is_wanted("cni") {
        measure("cni", &mut rows, tokio::task::block_in_place(|| cni::rows(&region)));
    }
    if is_wanted("pods") {
        measure("pods", &mut rows, pods::rows(&region).await);
    }
    if is_wanted("identity") {
        measure("Pod Identity", &mut rows, pod_identity::rows(&region).await);
    }
    if is_wanted("services") {
        measure("services", &mut rows, services::rows(&region).await);
    }
    if is_wanted("proxier") {
        measure("proxier", &mut rows, proxier::rows().await);
    }
    if is_wanted("network") {
        measure("network", &mut rows, network::rows().await);
    }
    if is_wanted("iam") {
        measure("iam", &mut rows, iam::rows().await);
    }
    if is_wanted("provisioning") {
        measure("provisioning", &mut rows, provisioning::rows());
    }
    if is_wanted("controllers") {
        measure("controllers", &mut rows, controllers::rows().await);
    }
    if is_wanted("api") {
        measure("API server", &mut rows, api_server::rows(&region).await);
    }
    println!("{}", rows::table(&rows));
    Ok(())
}

/// `make bench BENCH="pods services"` measures those alone.
fn is_wanted(group: &str) -> bool {
    let mut wanted = std::env::args().skip(1).peekable();
    wanted.peek().is_none() || wanted.any(|it| it == group)
}

/// Adds what was measured, or a row that says why it was not.
fn measure(what: &str, rows: &mut Vec<Row>, measured: anyhow::Result<Vec<Row>>) {
    match measured {
        Ok(found) => rows.extend(found),
        Err(error) => rows.push(Row::missing(what, &error)),
    }
}
