//! The command line, and every component as a subcommand.
//!
//! Components know each other through protocols only; which world is behind a protocol is decided
//! here and nowhere else.

use api_kube as _;

mod admin;
mod cli;
mod commands;
mod daemon;
mod failure;
mod kubernetes;
mod layout;
mod progress;
mod room;
mod run;
mod sweep;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    transport::tls::install_provider();
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(failure::report(&error)),
    }
}

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
        Command::Image { command } => block_on(1, commands::image::run(command)),
        Command::Demo(args) => block_on(1, commands::demo::run(args)),
        Command::Logs(args) => block_on(1, commands::logs::run(args)),
        Command::Explain { command } => block_on(1, commands::explain::run(command)),
        Command::Shell(args) => block_on(1, commands::shell::run(args)),
    }
}

fn block_on(threads: usize, task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?
        .block_on(task)
}
