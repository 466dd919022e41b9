//! `nodestead run kubelet`, with upstream's flags.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use clap::{
    Args as ClapArgs,
    error::{Error as UsageError, ErrorKind},
};
use clock::Clock;
use k8s_openapi::api::core::v1::Taint;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use lifecycle::Scope;
use nix::sys::socket::SockaddrIn;

use crate::{config::KubeletConfiguration, kubelet::Kubelet, settings::Settings};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Flags win over the configuration file, as upstream's do.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Args {
    /// The KubeletConfiguration file (YAML or JSON).
    #[arg(long)]
    pub config: Option<String>,
    /// How to reach and authenticate to the API server.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The node's name; the host's name by default.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The node's addresses, comma-separated.
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels to register with: `a=b,c=d`.
    #[arg(long, value_delimiter = ',', value_parser = parse_label)]
    pub node_labels: Vec<(String, String)>,
    /// Taints to register with: `key=value:Effect,…`.
    #[arg(long, value_delimiter = ',', value_parser = parse_taint)]
    pub register_with_taints: Vec<Taint>,
    /// `external` when a cloud controller manager initializes the node.
    #[arg(long, default_value = "")]
    pub cloud_provider: String,
    #[arg(long)]
    pub image_credential_provider_config: Option<PathBuf>,
    #[arg(long)]
    pub image_credential_provider_bin_dir: Option<PathBuf>,
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: String,
    /// Verbosity of the log, 0 to 10.
    #[arg(long, short = 'v', default_value_t = 2)]
    pub v: u8,
    #[arg(long)]
    pub pod_manifest_path: Option<String>,
    #[arg(long)]
    pub max_pods: Option<i64>,
    #[arg(long)]
    pub cluster_dns: Option<String>,
    #[arg(long)]
    pub cluster_domain: Option<String>,
    #[arg(long)]
    pub provider_id: Option<String>,
    #[arg(long)]
    pub address: Option<String>,
    #[arg(long)]
    pub port: Option<u16>,
    #[arg(long)]
    pub cgroup_root: Option<String>,
    #[arg(long)]
    pub cgroup_driver: Option<String>,
    #[arg(long)]
    pub register_node: Option<bool>,
    #[arg(long)]
    pub resolv_conf: Option<String>,
    #[arg(long)]
    pub cert_dir: Option<String>,
    #[arg(long)]
    pub runtime_cgroups: Option<String>,
    #[arg(long)]
    pub system_cgroups: Option<String>,
    #[arg(long)]
    pub pod_infra_container_image: Option<String>,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written `key=value`")?;
    if key.is_empty() {
        return Err("a label is written `key=value`".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_taint(text: &str) -> Result<Taint, String> {
    let (front, effect) = text.rsplit_once(':').ok_or("a taint is written `key=value:Effect`")?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!("`{effect}` is no effect: NoSchedule, PreferNoSchedule or NoExecute"));
    }
    let (key, value) = front.split_once('=').unwrap_or((front, ""));
    Ok(Taint {
        key: key.to_owned(),
        value: Some(value.to_owned()).filter(|it| !it.is_empty()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

/// Runs until it is asked to stop.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let scope = Scope::new();
    let kubelet = build(&args, scope.clone()).await?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        () = kubelet.run() => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    scope.drain(Duration::from_secs(2)).await;
    Ok(())
}

/// A kubelet as the flags describe it. Its tasks belong to `scope`.
pub async fn build(args: &Args, scope: Scope) -> Result<Kubelet, BoxError> {
    let settings = settings(args)?;
    transport::tls::install_provider();
    let client = client(args.kubeconfig.as_ref()).await?;
    let channel = api_cri::connect(&settings.config.container_runtime_endpoint)?;
    Ok(Kubelet::new(settings, client, channel, Clock::system(), scope)?)
}

/// The configuration file with the flags over it.
pub fn settings(args: &Args) -> Result<Settings, BoxError> {
    let mut config = match &args.config {
        Some(path) => KubeletConfiguration::load(path)?,
        None => KubeletConfiguration::default(),
    };
    let set = |to: &mut String, from: &Option<String>| {
        if let Some(value) = from {
            to.clone_from(value);
        }
    };
    set(&mut config.container_runtime_endpoint, &args.container_runtime_endpoint);
    set(&mut config.static_pod_path, &args.pod_manifest_path);
    set(&mut config.cluster_domain, &args.cluster_domain);
    set(&mut config.provider_id, &args.provider_id);
    set(&mut config.address, &args.address);
    set(&mut config.cgroup_root, &args.cgroup_root);
    set(&mut config.cgroup_driver, &args.cgroup_driver);
    set(&mut config.resolv_conf, &args.resolv_conf);
    if let Some(list) = &args.cluster_dns {
        config.cluster_dns = list.split(',').map(str::to_owned).collect();
    }
    config.max_pods = args.max_pods.unwrap_or(config.max_pods);
    config.port = args.port.unwrap_or(config.port);
    config.register_node = args.register_node.unwrap_or(config.register_node);
    check(args, &config)?;
    let name = match &args.hostname_override {
        Some(name) => name.trim().to_lowercase(),
        None => nix::unistd::gethostname()?.to_string_lossy().trim().to_lowercase(),
    };
    let mut settings = Settings::new(config, &name);
    settings.node_ips =
        if args.node_ip.is_empty() { default_address() } else { args.node_ip.clone() };
    settings.node_labels = args.node_labels.iter().cloned().collect::<BTreeMap<_, _>>();
    settings.taints.clone_from(&args.register_with_taints);
    settings.has_external_cloud = args.cloud_provider == "external";
    settings.root_dir.clone_from(&args.root_dir);
    settings.credential_provider_config.clone_from(&args.image_credential_provider_config);
    settings.credential_provider_bin_dir.clone_from(&args.image_credential_provider_bin_dir);
    Ok(settings)
}

fn check(args: &Args, config: &KubeletConfiguration) -> Result<(), BoxError> {
    let wrong = |message: String| {
        let error: UsageError = UsageError::raw(ErrorKind::ValueValidation, message);
        Box::new(error)
    };
    if !matches!(args.cloud_provider.as_str(), "" | "external") {
        let given = &args.cloud_provider;
        return Err(wrong(format!("--cloud-provider is `external` or empty, not `{given}`\n")));
    }
    if config.cgroup_driver == "systemd" {
        tracing::warn!("the cgroup driver is cgroupfs, whatever the configuration says");
    }
    if args.image_credential_provider_config.is_some()
        != args.image_credential_provider_bin_dir.is_some()
    {
        return Err(wrong(
            "--image-credential-provider-config and --image-credential-provider-bin-dir are given both or not at all\n".to_owned(),
        ));
    }
    Ok(())
}

/// The address from which this host would reach others.
fn default_address() -> Vec<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let found = addresses.filter_map(|it| it.address?.as_sockaddr_in().map(SockaddrIn::ip));
    found.filter(|it| !it.is_loopback() && !it.is_link_local()).map(IpAddr::V4).take(1).collect()
}

async fn client(kubeconfig: Option<&PathBuf>) -> Result<Client, BoxError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(Client::try_from(config)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn flags_of_an_eks_node_are_understood() {
        let cli = Cli::try_parse_from([
            "kubelet",
            "--node-ip=192.168.0.12",
            "--hostname-override=ip-192-168-0-12.ec2.internal",
            "--cloud-provider=external",
            "--node-labels=eks.amazonaws.com/nodegroup=ng,a=b",
            "--register-with-taints=dedicated=x:NoSchedule,y:NoExecute",
            "--max-pods=29",
            "--v=2",
        ])
        .unwrap();
        let settings = settings(&cli.args).unwrap();
        assert_eq!(settings.node_labels["a"], "b");
        assert_eq!(settings.taints[1].key, "y");
        assert_eq!(settings.config.max_pods, 29);
        assert!(settings.has_external_cloud);
    }

    #[test]
    fn wrong_flags_are_wrong_usage() {
        assert!(Cli::try_parse_from(["kubelet", "--no-such-flag"]).is_err());
        assert!(Cli::try_parse_from(["kubelet", "--register-with-taints=a:Sometimes"]).is_err());
        let args = Args { cloud_provider: "aws".to_owned(), ..Args::default() };
        assert!(settings(&args).unwrap_err().downcast_ref::<UsageError>().is_some());
    }
}
