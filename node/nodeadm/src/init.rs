//! `nodeadm init`, step by step.

use std::{fs, io, path::Path};

use api_imds::{FetchError, ImdsClient};
use aws_wire::{Client, client::from_environment};
use clock::Clock;
use tracing::{info, warn};

use crate::{
    Facts, bootstrap_sh,
    endpoint::{self, EndpointError},
    facts::{self, NameError},
    files::{WriteError, below, write, write_all},
    node_config::{ConfigError, NodeConfig},
    plan::{PlanError, plan},
    scripts::{self, ScriptError},
    source::{ReadError, Source},
    sysctl,
    user_data::{Script, UserData, UserDataError},
    warm_pool,
};

/// The feature gate that makes the instance's id the node's name.
const ID_AS_NAME: &str = "InstanceIdNodeName";

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("step `user data`: failed")]
    Read {
        #[source]
        source: ReadError,
    },
    #[error("step `user data`: it cannot be understood")]
    UserData {
        #[source]
        source: UserDataError,
    },
    #[error("step `configuration`: it is not valid")]
    Config {
        #[source]
        source: ConfigError,
    },
    #[error("step `instance metadata`: failed")]
    Imds {
        #[source]
        source: FetchError,
    },
    #[error("step `AWS client`: failed")]
    Client {
        #[source]
        source: aws_wire::client::ConfigError,
    },
    #[error("step `endpoint`: failed (the node role needs eks:DescribeCluster)")]
    Endpoint {
        #[source]
        source: EndpointError,
    },
    #[error("step `node name`: failed (the node role needs ec2:DescribeInstances)")]
    Name {
        #[source]
        source: NameError,
    },
    #[error(
        "step `local storage`: `{disk}` would have to be set up, which this nodeadm does not do"
    )]
    LocalStorage { disk: String },
    #[error("step `plan`: the configuration cannot be fulfilled")]
    Plan {
        #[source]
        source: PlanError,
    },
    #[error("step `files`: failed")]
    Write {
        #[source]
        source: WriteError,
    },
    #[error("step `scripts`: failed")]
    Script {
        #[source]
        source: ScriptError,
    },
}

/// Reads and checks, changes nothing. `None`: the instance is not to be a node.
pub(crate) async fn load(
    sources: &[Source],
) -> Result<(Option<NodeConfig>, Vec<Script>), InitError> {
    let imds = imds();
    let mut data = UserData::default();
    for source in sources {
        let documents = source.read(&imds).await;
        for document in documents.map_err(|source| InitError::Read { source })? {
            let parsed = UserData::parse(&document);
            data.extend(parsed.map_err(|source| InitError::UserData { source })?);
        }
    }
    for kind in &data.ignored {
        warn!(kind, "a part of user data is of a kind that nothing here handles");
    }
    let config = NodeConfig::parse(&data.configs);
    Ok((config.map_err(|source| InitError::Config { source })?, data.scripts))
}

/// Does all of it, below `root`.
pub(crate) async fn init(sources: &[Source], root: &Path) -> Result<(), InitError> {
    let (config, scripts) = load(sources).await?;
    let facts = facts::from_imds(&imds()).await.map_err(|source| InitError::Imds { source })?;
    info!(
        instance = facts.instance_id,
        r#type = facts.instance_type,
        zone = facts.zone,
        scripts = scripts.len(),
        "configuring"
    );
    match &config {
        Some(config) => node(config, &facts, root).await?,
        None => {
            if let Some(call) = bootstrap_sh::find(&scripts) {
                println!("{}", call.explanation());
            }
        }
    }
    let path = below(root, bootstrap_sh::PATH);
    write(&path, bootstrap_sh::CONTENT.as_bytes(), 0o755)
        .map_err(|source| InitError::Write { source: WriteError { path: path.clone(), source } })?;
    scripts::run_once(root, &facts.instance_id, &scripts)
        .map_err(|source| InitError::Script { source })?;
    warm_pool::leave(&imds()).await.map_err(|source| InitError::Imds { source })
}

async fn node(config: &NodeConfig, facts: &Facts, root: &Path) -> Result<(), InitError> {
    if let Some(disk) = local_disk(root).filter(|_| config.instance.local_storage.is_some()) {
        return Err(InitError::LocalStorage { disk });
    }
    sysctl::apply(&below(root, "/proc/sys"));
    let variable = |name: &str| std::env::var(name).ok();
    let client = from_environment(variable, Some(&facts.region), Clock::system())
        .map_err(|source| InitError::Client { source })?;
    let name = node_name(config, facts, &client).await?;
    let mut config = config.clone();
    let endpoint = endpoint::reachable(&client, &config.cluster).await;
    config.cluster.api_server_endpoint =
        endpoint.map_err(|source| InitError::Endpoint { source })?;
    let config = &config;
    let plan = plan(config, facts, &name).map_err(|source| InitError::Plan { source })?;
    let failed = |source| InitError::Write { source };
    write_all(root, &plan.files).map_err(failed)?;
    for (path, content) in &plan.registries {
        let path = below(root, path);
        write(&path, content.as_bytes(), 0o644)
            .map_err(|source| failed(WriteError { path: path.clone(), source }))?;
    }
    forget_addresses(root).map_err(failed)?;
    keep(config, root).map_err(failed)?;
    info!(cluster = config.cluster.name, node = name, "wrote the configuration of the node");
    Ok(())
}

/// A disk of the instance's own; the region's instances have none.
fn local_disk(root: &Path) -> Option<String> {
    let folder = fs::read_dir(below(root, "/dev/disk/by-id")).ok()?;
    let names = folder.filter_map(|it| it.ok()?.file_name().into_string().ok());
    names.filter(|it| it.starts_with("nvme-Amazon_EC2_NVMe_Instance_Storage")).min()
}

async fn node_name(
    config: &NodeConfig,
    facts: &Facts,
    client: &Client,
) -> Result<String, InitError> {
    if config.is_enabled(ID_AS_NAME) {
        return Ok(facts.instance_id.clone());
    }
    facts::private_dns_name(client, &facts.instance_id)
        .await
        .map_err(|source| InitError::Name { source })
}

pub(crate) fn imds() -> ImdsClient {
    match std::env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => ImdsClient::at(&endpoint, transport::Place::Here),
        _ => ImdsClient::new(),
    }
}

/// Results of the CNI plug-in from before a reboot: the pods that had them are gone.
fn forget_addresses(root: &Path) -> Result<(), WriteError> {
    let path = below(root, "/var/lib/cni/results");
    match fs::remove_dir_all(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(WriteError { path, source }),
        _ => Ok(()),
    }
}

/// What was applied, for whoever looks later.
fn keep(config: &NodeConfig, root: &Path) -> Result<(), WriteError> {
    let path = below(root, "/run/eks/nodeadm/config.json");
    let content = serde_json::to_vec_pretty(config).unwrap_or_default();
    write(&path, &content, 0o600).map_err(|source| WriteError { path, source })
}
