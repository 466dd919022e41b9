//! The subcommand's flags, named as upstream's.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::{access, init, source::Source};

/// Configure this instance as a node of a cluster.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Read the configuration, write the files of containerd and the kubelet, run user scripts.
    Init(InitArgs),
    /// Let the owner of the instance's key pair log in (what cloud-init does of it).
    Access(AccessArgs),
    /// Work with a configuration without applying it.
    Config(ConfigArgs),
}

#[derive(Clone, Debug, ClapArgs)]
struct InitArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Write below this folder instead of `/`.
    #[arg(long, default_value = "/", hide = true)]
    root: PathBuf,
}

#[derive(Clone, Debug, ClapArgs)]
struct AccessArgs {
    /// Write below this folder instead of `/`.
    #[arg(long, default_value = "/", hide = true)]
    root: PathBuf,
}

#[derive(Clone, Debug, ClapArgs)]
struct SourceArgs {
    /// `imds://user-data`, or `file://PATH` of a file or a folder. May be given again; later ones
    /// win.
    #[arg(short = 'c', long, default_value = "imds://user-data")]
    config_source: Vec<Source>,
}

#[derive(Clone, Debug, ClapArgs)]
struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is valid.
    Check(SourceArgs),
    /// Print the merged configuration.
    Dump(SourceArgs),
}

pub async fn run(args: Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match args.command {
        Command::Init(args) => {
            telemetry::init("info");
            init::init(&args.source.config_source, &args.root).await?;
        }
        Command::Access(args) => {
            telemetry::init("info");
            access::prepare(&init::imds(), &args.root).await?;
        }
        Command::Config(ConfigArgs { command: ConfigCommand::Check(args) }) => {
            init::load(&args.config_source).await?;
            println!("Configuration is valid");
        }
        Command::Config(ConfigArgs { command: ConfigCommand::Dump(args) }) => {
            let (config, _) = init::load(&args.config_source).await?;
            println!("{}", serde_json::to_string_pretty(&config)?);
        }
    }
    Ok(())
}
