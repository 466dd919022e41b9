//! `run ssm-agent`: the agent on an instance, with the rights of the instance's role.

use std::{fs, path::PathBuf, sync::Arc};

use api_imds::{ImdsClient, paths};
use aws_ssm::instance::UpdateInstanceInformationRequest;
use aws_wire::client::{Endpoints, from_environment};
use clock::Clock;
use lifecycle::Scope;
use transport::BoxError;

use crate::{VERSION, control::Agent, gateway::MessageGateway};

const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Sessions and commands of Systems Manager on this instance.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The root file system in which `ssm-user` is made.
    #[arg(long, default_value = "/")]
    pub root: PathBuf,
}

/// Runs until it is asked to end, or until there is nothing for it to do.
pub async fn run(args: Args) -> Result<(), BoxError> {
    let variable = |name: &str| std::env::var(name).ok();
    let imds = match variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        Some(endpoint) => ImdsClient::at(&endpoint, transport::Place::Here),
        None => ImdsClient::new(),
    };
    let identity = imds.identity_document().await?;
    let instance = imds.required(paths::INSTANCE_ID).await?;
    let (clock, scope) = (Clock::system(), Scope::new());
    let client = from_environment(variable, Some(&identity.region), clock)?;
    let endpoints = Endpoints::from_environment(variable);
    let bundle = variable("AWS_CA_BUNDLE").unwrap_or_else(|| SYSTEM_BUNDLE.to_owned());
    let pem = fs::read_to_string(bundle).ok();
    let gateway = MessageGateway::new(client, endpoints, pem.as_deref(), &instance, scope.child())?;
    let address = imds.text(paths::LOCAL_IPV4).await?;
    let facts = facts(instance, address, &args);
    let (agent, reports) = Agent::new(Arc::new(gateway), clock, scope.clone(), facts, args.root);
    let running = scope.spawn("control channel", agent.run(reports));
    tokio::select! {
        _ = running => {}
        asked = lifecycle::asked_to_end() => asked?,
    }
    scope.drain(std::time::Duration::from_secs(1)).await;
    Ok(())
}

fn facts(
    instance: String,
    address: Option<String>,
    args: &Args,
) -> UpdateInstanceInformationRequest {
    let read = |name: &str| fs::read_to_string(args.root.join(name)).unwrap_or_default();
    let release = read("etc/os-release");
    let hostname = read("proc/sys/kernel/hostname");
    let of_release = |name: &str| {
        let line = release.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
        line.map(|it| it.trim_matches('"').to_owned())
    };
    UpdateInstanceInformationRequest {
        instance_id: instance,
        agent_name: Some("amazon-ssm-agent".to_owned()),
        agent_status: Some("Active".to_owned()),
        agent_version: Some(VERSION.to_owned()),
        computer_name: Some(hostname.trim().to_owned()).filter(|it| !it.is_empty()),
        ip_address: address,
        platform_name: of_release("NAME"),
        platform_type: Some("Linux".to_owned()),
        platform_version: of_release("VERSION_ID"),
    }
}
