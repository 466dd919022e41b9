//! `nodestead shell`: a session inside an instance, in all of its namespaces.

use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    commands::logs,
    failure::Failure,
    layout::Layout,
};

pub(crate) async fn run(args: cli::Shell) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let wanted = &args.instance;
    let found = status.instances.iter().find(|it| it.id == *wanted || it.node_name == *wanted);
    let Some(found) = found else { return Err(logs::unknown(wanted, &status).into()) };
    let Some(pid) = found.pid else {
        return Err(Failure::new(
            format!("`{wanted}` is {}", found.state),
            "start it: aws ec2 start-instances --instance-ids …",
        )
        .into());
    };
    let command = if args.command.is_empty() { vec!["/bin/sh".to_owned()] } else { args.command };
    enter(pid, &command)
}

/// Becomes `nsenter`, which joins the namespaces, root and cgroup of PID 1 and runs the command.
fn enter(pid: i32, command: &[String]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt;
    let error = std::process::Command::new("nsenter")
        .args(["--target", &pid.to_string(), "--all", "--root", "--wdns=/root", "--"])
        .args(command)
        .env_clear()
        .env("PATH", "/opt/nodestead/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("TERM", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()))
        .exec();
    Err(Failure::new(format!("cannot run nsenter ({error})"), "install util-linux").into())
}
