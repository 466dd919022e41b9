//! The command line, and every component as a subcommand.
//!
//! Components know each other through protocols only; which world is behind a protocol is decided
//! here and nowhere else.

use api_kube as _;

mod admin;
mod cli;
mod clusters;
mod commands;
mod daemon;
mod failure;
mod iam;
mod kubernetes;
mod layout;
mod progress;
mod region;
mod room;
mod root_key;
mod run;
mod signals;
mod sweep;

use std::{process::ExitCode, time::Duration};

use cli::Command;

fn main() -> ExitCode {
    transport::tls::install_provider();
    let cli = cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(failure::report(&error)),
    }
}

/// How long work on other threads is waited for when the task is over. It ends with the process:
/// whatever is begun here can be cut off at any line, and an instance's shutdown may take minutes.
const ENDING: Duration = Duration::from_millis(500);

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        // Components choose their runtime themselves; some must begin with a single thread.
        Command::Run(component) => component.run(),
        Command::Daemon(at) => block_on(2, daemon::run(at)),
        Command::Completion { shell } => commands::completion::print(shell),
        Command::Candidates(args) => block_on(1, commands::completion::candidates(args)),
        Command::Up(args) => block_on(1, commands::up::run(args)),
        Command::Down(args) => block_on(1, commands::down::run(args)),
        Command::Status(args) => block_on(1, commands::status::run(args)),
        Command::Env(args) => block_on(1, commands::env::run(args)),
        Command::Kubeconfig(args) => commands::kubeconfig::run(&args),
        Command::Image { command } => block_on(1, commands::image::run(command)),
        Command::Demo(args) => block_on(1, commands::demo::run(args)),
        Command::Logs(args) => block_on(1, commands::logs::run(args)),
        Command::Doctor { command } => block_on(1, commands::doctor::run(command)),
        Command::Plan(args) => block_on(1, commands::plan::run(*args)),
        Command::Explain { command } => block_on(1, commands::explain::run(command)),
        Command::Interrupt(args) => block_on(1, commands::interrupt::run(args)),
        Command::Shell(args) => block_on(1, commands::shell::run(args)),
    }
}

fn block_on(threads: usize, task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let result = runtime.block_on(task);
    runtime.shutdown_timeout(ENDING);
    result
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    #[test]
    fn work_that_blocks_does_not_keep_the_process_from_ending() {
        let (sender, receiver) = mpsc::channel::<()>();
        let begun = Instant::now();
        let ended = block_on(1, async move {
            drop(tokio::task::spawn_blocking(move || receiver.recv_timeout(ENDING * 20)));
            Ok(())
        });
        ended.unwrap();
        assert!(begun.elapsed() < ENDING * 10);
        drop(sender);
    }
}
