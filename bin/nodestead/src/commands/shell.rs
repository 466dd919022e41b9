//! `nodestead shell`: a session inside an instance, in its namespaces and within its limits.
//!
//! **Invariant:** the process that is entered is the instance's PID 1 and no later owner of its
//! number, and what is run counts against the instance's memory and processor.
//!
//! Deviation: not a session of Systems Manager, which `aws ssm start-session` is. Root of this machine
//! enters without being asked for IAM rights, and whatever the AMI's agent would allow.

use std::process::{ExitStatus, Stdio};

use anyhow::Context;
use region_host::{ExecError, Hosts};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    admin::{Admin, DaemonStatus},
    cli,
    failure::{Failure, Status},
    layout::Layout,
};

pub(crate) async fn run(args: cli::Shell) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let wanted = &args.instance;
    let found = status.instance(wanted)?;
    let hosts = Hosts::new(&layout.instances())?;
    let streams = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
    let mut child = match hosts.exec(&found.id, &argv(args.command), streams) {
        Err(ExecError::NotRunning { .. }) => {
            return Err(Failure::new(
                format!("`{wanted}` is {}", found.state),
                "start it: aws ec2 start-instances --instance-ids …",
            )
            .into());
        }
        started => started?,
    };
    // Ctrl-C is for what runs inside: here it is heard and ignored.
    let _heard = (signal(SignalKind::interrupt())?, signal(SignalKind::quit())?);
    let ended = tokio::task::spawn_blocking(move || child.wait()).await?;
    outcome(ended.context("waiting for the program")?)
}

/// The program, with the user's terminal type, which the instance cannot know.
fn argv(command: Vec<String>) -> Vec<String> {
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    let mut argv = vec!["/usr/bin/env".to_owned(), "-C".to_owned(), "/root".to_owned()];
    argv.push(format!("TERM={terminal}"));
    argv.extend(if command.is_empty() { vec!["/bin/sh".to_owned()] } else { command });
    argv
}

/// This command ends with the code of the program.
fn outcome(ended: ExitStatus) -> anyhow::Result<()> {
    use std::os::unix::process::ExitStatusExt;
    if ended.success() {
        return Ok(());
    }
    let code = ended.code().or_else(|| ended.signal().map(|it| 128 + it)).unwrap_or(1);
    Err(Status(u8::try_from(code).unwrap_or(1)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_code_becomes_the_commands() {
        let code = |script: &str| {
            let ended = std::process::Command::new("sh").args(["-c", script]).status().unwrap();
            outcome(ended).err().map(|it| crate::failure::report(&it))
        };
        assert_eq!(code("exit 0"), None);
        assert_eq!(code("exit 7"), Some(7));
        assert_eq!(code("kill -TERM $$"), Some(143));
    }

    #[test]
    fn a_shell_is_run_where_nothing_else_was_named() {
        assert_eq!(argv(Vec::new()).last().unwrap(), "/bin/sh");
        let argv = argv(vec!["ps".to_owned(), "aux".to_owned()]);
        assert_eq!(argv[argv.len() - 2..], ["ps", "aux"]);
    }
}
