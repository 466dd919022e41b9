//! `nodestead doctor`: a live region against best practice.

mod iam;

use crate::cli::DoctorCommand;

pub(crate) async fn run(command: DoctorCommand) -> anyhow::Result<()> {
    match command {
        DoctorCommand::Iam(args) => iam::run(&args).await,
    }
}
