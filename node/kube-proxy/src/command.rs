//! `run kube-proxy`: upstream's flags.
//!
//! As upstream, flags are ignored where a configuration file is given, but for
//! `--hostname-override`, `--kubeconfig` beside a file that names none, `--master` and logging.

mod flags;

use std::path::PathBuf;

use linux_nftables::{Family, Nft};
use tracing::info;
use transport::BoxError;

pub use self::flags::Flags;
use crate::{
    config::{
        Configuration,
        load::{self, ConfigError},
        validation,
    },
    host,
    ruleset::TABLE,
    run::{self, Setting},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The path to the configuration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// If set, write the default configuration values to this file and exit.
    #[arg(long)]
    pub write_config_to: Option<PathBuf>,
    /// Remove this program's tables and exit.
    #[arg(long)]
    pub cleanup: bool,
    /// Do what needs full root privileges, and exit.
    #[arg(long)]
    pub init_only: bool,
    /// Path to kubeconfig file with authorization information.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The address of the Kubernetes API server (overrides any value in kubeconfig).
    #[arg(long)]
    pub master: Option<String>,
    /// The node's name, where it is not the host's.
    #[arg(long, env = "NODE_NAME")]
    pub hostname_override: Option<String>,
    #[command(flatten)]
    pub flags: Flags,
}

pub async fn run(args: Args) -> Result<(), BoxError> {
    if let Some(path) = &args.write_config_to {
        let mut defaults = Configuration::default();
        defaults.complete();
        std::fs::write(path, serde_saphyr::to_string(&defaults)?)?;
        info!(file = %path.display(), "wrote the configuration");
        return Ok(());
    }
    let (config, text) = configuration(&args)?;
    if args.cleanup {
        return clean_up(&Nft::here());
    }
    host::set_up(&config);
    if args.init_only {
        return Ok(());
    }
    let mut given = args.flags.given();
    let paths = [("config", &args.config), ("kubeconfig", &args.kubeconfig)];
    for (flag, path) in paths {
        given.extend(path.iter().map(|it| (flag.to_owned(), it.display().to_string())));
    }
    let setting = Setting {
        kubeconfig: args.kubeconfig.clone().or_else(|| {
            let path = &config.client_connection.kubeconfig;
            (!path.is_empty()).then(|| PathBuf::from(path))
        }),
        master: args.master,
        file: args.config.map(|path| (path, text)),
        flags: given,
        config,
    };
    run::run(setting).await
}

/// Removes what this program has put into the kernel, and nothing else.
pub fn clean_up(nft: &Nft) -> Result<(), BoxError> {
    for family in [Family::Ip, Family::Ip6] {
        nft.delete_table(family, TABLE)?;
    }
    Ok(())
}

/// The configuration, complete and valid, and the file's text.
fn configuration(args: &Args) -> Result<(Configuration, String), ConfigError> {
    let (mut config, text) = match &args.config {
        Some(path) => load::read(path)?,
        None => (args.flags.configuration()?, String::new()),
    };
    args.flags.set_logging(&mut config);
    config.complete();
    if let Some(name) = &args.hostname_override {
        let name = name.trim();
        if name.is_empty() {
            return Err(ConfigError::EmptyHostname);
        }
        config.hostname_override = name.to_lowercase();
    }
    validation::check(&config)?;
    Ok((config, text))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn config(args: &[&str]) -> Result<Configuration, String> {
        let command = Command::try_parse_from([&["kube-proxy"], args].concat());
        let args = command.map_err(|it| it.to_string())?.args;
        configuration(&args).map(|(config, _)| config).map_err(|it| it.to_string())
    }

    #[test]
    fn flags_of_upstream_become_the_configuration() {
        let config = config(&[
            "--proxy-mode=nftables",
            "--cluster-cidr=10.0.0.0/16",
            "--masquerade-all",
            "--nodeport-addresses=10.0.0.0/8,192.168.0.0/16",
            "--iptables-sync-period=1m",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=2h",
            "--detect-local-mode=ClusterCIDR",
            "--feature-gates=A=true,B=false",
            "--hostname-override= Node-1 ",
            "--metrics-port=0",
            "--healthz-port=10300",
            "--bind-address-hard-fail=true",
            "-v=4",
        ])
        .unwrap();
        assert_eq!(config.hostname_override, "node-1");
        assert!(config.nftables.masquerade_all && config.bind_address_hard_fail);
        assert_eq!(config.sync_periods().0.to_string(), "1m0s");
        assert_eq!(config.conntrack.max_per_core, Some(0));
        assert_eq!(config.conntrack.tcp_established_timeout.unwrap().to_string(), "2h0m0s");
        assert_eq!(config.node_port_addresses.unwrap().len(), 2);
        assert_eq!(config.feature_gates["A"], true);
        assert_eq!(config.metrics_bind_address, "");
        assert_eq!(config.healthz_bind_address, "0.0.0.0:10300");
        assert_eq!(config.logging.verbosity, 4);
    }

    #[test]
    fn a_file_goes_before_flags_but_for_the_nodes_name() {
        let file = std::env::temp_dir().join(format!("kube-proxy-{}.yaml", std::process::id()));
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
                    mode: nftables\n";
        std::fs::write(&file, text).unwrap();
        let name = format!("--config={}", file.display());
        let config = config(&[&name, "--proxy-mode=ipvs", "--hostname-override=a", "-v=3"]);
        std::fs::remove_file(&file).unwrap();
        let config = config.unwrap();
        assert_eq!((config.mode.as_str(), config.hostname_override.as_str()), ("nftables", "a"));
        assert_eq!(config.logging.verbosity, 3);
    }

    #[test]
    fn wrong_flags_are_refused_in_upstreams_words() {
        let error = config(&["--hostname-override= "]).unwrap_err();
        assert_eq!(error, "failed complete: empty hostname-override is invalid");
        let error = config(&["--proxy-mode=userspace"]).unwrap_err();
        assert!(error.contains("must be iptables, ipvs, nftables or blank"), "{error}");
        assert!(config(&["--config=/nowhere"]).unwrap_err().contains("open /nowhere"));
    }
}
