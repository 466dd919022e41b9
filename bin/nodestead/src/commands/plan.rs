//! `nodestead plan`: what would come of it, before anything is done.

mod amounts;
mod gather;
mod manifests;
mod nodes;
mod offered;
mod report;
mod subnets;

use crate::cli::{Plan, PlanCommand};

pub(crate) async fn run(args: Plan) -> anyhow::Result<()> {
    match args.command {
        Some(PlanCommand::Subnets(args)) => subnets::run(args).await,
        None => nodes::run(args.nodes).await,
    }
}
