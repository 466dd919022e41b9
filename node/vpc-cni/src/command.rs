//! `run vpc-cni`: the `aws-node` container.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api_cni::{ConfList, backend::SOCKET};
use clock::Clock;
use controller::Recorder;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, runtime::watcher};
use lifecycle::Scope;
use linux_nftables::{Family, Nft, Transaction};
use serde_json::json;
use tower::service_fn;
use tracing::{info, warn};
use transport::{BoxError, Place};

use crate::{
    cloud::Cloud,
    cni_node,
    config::Config,
    eni_config,
    events::Events,
    files, host_ports, introspection,
    ipamd::{Ipamd, Parts},
    metadata::{Identity, Metadata, MetadataError},
    plan::Limits,
    pods::Pods,
    server,
};

/// Where nothing else is known, as nodeadm has it.
const DEFAULT_MAX_PODS: usize = 110;
const METRICS_PORT: u16 = 61678;
/// A node whose pods have no subnet by then starts again, as upstream does.
const CUSTOM_LIMIT: Duration = Duration::from_secs(60);
/// How often the agent's table is looked for.
const AGENT_POLL: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the CNI plug-in calls.
    #[arg(long, default_value = SOCKET)]
    pub socket: PathBuf,
    /// What survives a restart.
    #[arg(
        long,
        env = "AWS_VPC_K8S_CNI_BACKING_STORE",
        default_value = "/var/run/aws-node/ipam.json"
    )]
    pub checkpoint: PathBuf,
    /// The plug-in's binary in this image.
    #[arg(long, default_value = "/usr/bin/nodestead-cni")]
    pub plugin: PathBuf,
    /// The host's folder of network configurations, as mounted here.
    #[arg(long, env = "HOST_CNI_CONFDIR_PATH", default_value = "/host/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// Where the instance metadata service is.
    #[arg(long, env = "AWS_EC2_METADATA_SERVICE_ENDPOINT")]
    pub metadata_endpoint: Option<String>,
}

/// The init container's command.
pub use crate::init::{Args as InitArgs, run as run_init};

pub async fn run(args: Args) -> Result<(), BoxError> {
    transport::tls::install_provider();
    let variable = |name: &str| std::env::var(name).ok();
    let config = Config::from_environment(variable)?;
    let clock = Clock::system();
    let scope = Scope::new();
    let metadata = Metadata::new(args.metadata_endpoint.as_deref());
    let identity = identity(&metadata).await?;
    info!(instance = identity.instance_id, kind = identity.instance_type, "starting");

    let region = identity.availability_zone.trim_end_matches(char::is_alphabetic).to_owned();
    let aws = aws_wire::client::from_environment(variable, Some(&region), clock)?;
    let cloud =
        (!config.is_provisioning_disabled).then(|| Cloud::new(aws, identity.instance_id.clone()));
    let kubernetes = controller::client("amazon-vpc-cni-k8s", None, None).await;
    let events = kubernetes.as_ref().ok().map(|client| {
        let recorder = Recorder::new(client.clone(), "aws-node", clock, &scope);
        Events::new(client.clone(), recorder, config.pod_name.clone())
    });
    let limits = limits(&config, &identity);
    let pods = kubernetes.as_ref().ok().filter(|_| config.enables_pod_eni);
    let pods = pods.map(|client| Pods::watch(client.clone(), &config.node_name, &scope));
    let parts = Parts {
        config: config.clone(),
        identity,
        limits,
        metadata,
        cloud,
        events,
        pods,
        clock,
        checkpoint: args.checkpoint.clone(),
        netns: None,
    };
    let started = Ipamd::start(parts).await;
    if started.is_err() {
        // An event about the reason is on its way.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let ipamd = Arc::new(started?);
    match kubernetes {
        Ok(client) => {
            if config.is_custom_networking {
                let (ipamd, name) = (ipamd.clone(), config.node_name.clone());
                let watch = eni_config::watch(client.clone(), ipamd, name);
                drop(scope.spawn("eniconfig", watch));
            }
            if config.enables_pod_eni {
                let asking = cni_node::ask(client.clone(), ipamd.clone(), config.node_name.clone());
                drop(scope.spawn("cninode", asking));
            }
            spawn_node_watch(&scope, client, ipamd.clone(), config.node_name.clone());
        }
        Err(error) => {
            let error = telemetry::chain(&error);
            warn!(%error, "no Kubernetes API: the type's table gives the limits");
        }
    }
    let teller = ipamd.clone();
    drop(scope.spawn("tell", async move { teller.tell().await }));
    let pool = ipamd.clone();
    drop(scope.spawn("pool", async move { pool.run().await }));
    let sweeper = ipamd.clone();
    drop(scope.spawn("sweep", async move { sweeper.sweep().await }));
    // Beside the socket, as the plug-in has it.
    let records = args.socket.with_file_name("hostports");
    drop(scope.spawn("host-ports", host_ports::keep(args.plugin.clone(), records)));
    serve(&args, &config, &ipamd, &scope)?;
    tokio::select! {
        is_served = ipamd.until_custom(CUSTOM_LIMIT) => is_served?,
        asked = wait_for_signal() => return asked,
    }
    tokio::select! {
        met = meet_policies(&config) => met?,
        asked = wait_for_signal() => return asked,
    }
    publish(&args.conf_dir, &conflist(&config, &args.socket))?;
    info!("serving");
    wait_for_signal().await?;
    scope.drain(Duration::from_secs(5)).await;
    Ok(())
}

/// IMDS may need a moment after boot, or be closed to pods: the error then says which.
async fn identity(metadata: &Metadata) -> Result<Identity, MetadataError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match metadata.identity().await {
            Err(error) if error.is_unreachable() && pause < Duration::from_secs(5) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            done => return done,
        }
    }
}

fn limits(config: &Config, identity: &Identity) -> Limits {
    let kind = instance_types::find(&identity.instance_type);
    let (enis, addresses) = kind.map_or((1, 2), |it| (it.enis, it.ipv4_per_eni));
    if kind.is_none() {
        warn!(kind = identity.instance_type, "an unknown instance type: one interface is assumed");
    }
    let max_enis = usize::try_from(enis).unwrap_or(1);
    let per_eni = usize::try_from(addresses).unwrap_or(1).saturating_sub(1);
    let max_pods = kind.and_then(|it| usize::try_from(it.max_pods()).ok());
    let of_primary = if config.is_custom_networking { per_eni } else { 0 };
    let max_pods = max_pods.map(|it| it.saturating_sub(of_primary));
    let max_pods = if config.targets.is_prefix_mode { None } else { max_pods };
    Limits {
        max_enis: config.max_eni.map_or(max_enis, |max| max.min(max_enis)),
        per_eni,
        max_pods: max_pods.unwrap_or(DEFAULT_MAX_PODS),
    }
}

/// Listens on the plug-in's socket and on the two ports.
fn serve(args: &Args, config: &Config, ipamd: &Arc<Ipamd>, scope: &Scope) -> Result<(), BoxError> {
    if let Some(folder) = args.socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let listener = transport::unix_listen(&args.socket)?;
    drop(scope.spawn("cni", server::serve(listener, ipamd.clone(), scope.clone())));
    if !config.is_metrics_disabled {
        let any = match config.is_ipv6 {
            true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let listener = Place::Here.listen(SocketAddr::new(any, METRICS_PORT))?;
        let ipamd = ipamd.clone();
        let service = service_fn(move |request| introspection::metrics(request, ipamd.clone()));
        drop(scope.spawn("metrics", transport::serve(listener, None, service, scope.clone())));
    }
    if !config.is_introspection_disabled {
        let address: SocketAddr = config.introspection_address.parse()?;
        let listener = Place::Here.listen(address)?;
        let ipamd = ipamd.clone();
        let service = service_fn(move |request| introspection::introspect(request, ipamd.clone()));
        let served = transport::serve(listener, None, service, scope.clone());
        drop(scope.spawn("introspection", served));
    }
    Ok(())
}

/// The node's network configuration. Nothing verifies it in CHECK, as upstream says.
fn conflist(config: &Config, socket: &Path) -> ConfList {
    let mut plugin = json!({
        "name": "aws-cni",
        "type": "aws-cni",
        "vethPrefix": config.veth_prefix,
        "mtu": config.pod_mtu.to_string(),
        "podSGEnforcingMode": config.pod_eni_mode.as_str(),
        "capabilities": { "portMappings": true },
    });
    if config.limits_bandwidth {
        plugin["capabilities"]["bandwidth"] = json!(true);
    }
    if socket != Path::new(SOCKET) {
        plugin["ipamdSocket"] = json!(socket);
    }
    ConfList {
        cni_version: "0.4.0".to_owned(),
        name: "aws-cni".to_owned(),
        disable_check: true,
        plugins: vec![plugin],
    }
}

/// Before any pod starts: without an agent, what an earlier one enforced is removed; in strict mode
/// it has to enforce already, so that no pod begins unpoliced.
async fn meet_policies(config: &Config) -> Result<(), BoxError> {
    let nft = Nft::here();
    if !config.enforces_policies {
        nft.apply_async(Transaction::delete(Family::Inet, network_policy::TABLE)).await?;
        return Ok(());
    }
    if config.is_strict {
        info!("strict mode: waiting for the network policy agent");
        while !has_policies(&nft).await {
            tokio::time::sleep(AGENT_POLL).await;
        }
    }
    Ok(())
}

/// What cannot be asked is not known to be there.
async fn has_policies(nft: &Nft) -> bool {
    let nft = nft.clone();
    let asked = move || nft.has_table(Family::Inet, network_policy::TABLE);
    match tokio::task::spawn_blocking(asked).await {
        Ok(Ok(is_there)) => is_there,
        Ok(Err(error)) => {
            warn!(error = %telemetry::chain(&error), "the agent's table was not looked up");
            false
        }
        Err(_) => false,
    }
}

/// Writes the configuration, which makes the node Ready: the very last thing.
fn publish(folder: &Path, conflist: &ConfList) -> Result<(), BoxError> {
    let text = serde_json::to_vec_pretty(conflist)?;
    Ok(files::replace(&folder.join("10-aws.conflist"), |beside| std::fs::write(beside, text))?)
}

fn spawn_node_watch(scope: &Scope, client: Client, ipamd: Arc<Ipamd>, node_name: String) {
    if node_name.is_empty() {
        warn!("MY_NODE_NAME is not set: the type's table gives the limits");
        return;
    }
    drop(scope.spawn("node", async move {
        let nodes = Api::<Node>::all(client);
        let mut states = std::pin::pin!(watcher::watch_object(nodes, &node_name));
        while let Some(state) = states.next().await {
            match state {
                Ok(Some(node)) => learn(&ipamd, &node),
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "watching the node failed");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }));
}

fn learn(ipamd: &Ipamd, node: &Node) {
    let capacity = node.status.as_ref().and_then(|it| it.capacity.as_ref());
    let max_pods = capacity.and_then(|it| it.get("pods")).and_then(|it| it.0.parse().ok());
    let is_unschedulable = node.spec.as_ref().and_then(|it| it.unschedulable).unwrap_or(false);
    let is_terminating = node.metadata.deletion_timestamp.is_some();
    ipamd.learn_node(max_pods, is_unschedulable || is_terminating);
}

async fn wait_for_signal() -> Result<(), BoxError> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(kind: &str) -> Identity {
        Identity {
            instance_id: "i-1".into(),
            instance_type: kind.into(),
            availability_zone: "us-east-1a".into(),
            mac: String::new(),
            local_ipv4: [192, 168, 0, 10].into(),
        }
    }

    #[test]
    fn limits_are_the_types_and_max_eni_only_lowers_them() {
        let config = |max: &str| {
            Config::from_environment(|name| (name == "MAX_ENI").then(|| max.to_owned())).unwrap()
        };
        let m5 = limits(&config(""), &identity("m5.large"));
        assert_eq!(m5, Limits { max_enis: 3, per_eni: 9, max_pods: 29 });
        assert_eq!(limits(&config("2"), &identity("m5.large")).max_enis, 2);
        assert_eq!(limits(&config("9"), &identity("m5.large")).max_enis, 3);
    }

    #[test]
    fn the_configuration_is_written_whole_under_upstreams_name() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::from_environment(|_| None).unwrap();
        publish(folder.path(), &conflist(&config, Path::new(SOCKET))).unwrap();
        let text = std::fs::read(folder.path().join("10-aws.conflist")).unwrap();
        let read: ConfList = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            (read.name.as_str(), read.plugins[0]["mtu"].as_str()),
            ("aws-cni", Some("9001"))
        );
        assert!(read.plugins[0].get("ipamdSocket").is_none());
        assert!(read.plugins[0]["capabilities"].get("bandwidth").is_none());
    }

    #[test]
    fn bandwidth_is_a_capability_where_it_is_turned_on_and_the_mtu_is_the_pods() {
        let set = [("ENABLE_BANDWIDTH_PLUGIN", "true"), ("POD_MTU", "1400")];
        let get =
            |name: &str| set.iter().find(|it| it.0 == name).map(|(_, value)| (*value).to_owned());
        let config = Config::from_environment(get).unwrap();
        let list = conflist(&config, Path::new(SOCKET));
        assert_eq!(list.plugins[0]["capabilities"]["bandwidth"], true);
        assert_eq!(list.plugins[0]["mtu"], "1400");
    }
}
