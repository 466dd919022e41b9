//! What instance this is: from IMDS, and from EC2 with the role's credentials.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use api_imds::{FetchError, ImdsClient};
use aws_ec2::instance::{DescribeInstances, DescribeInstancesRequest};
use aws_wire::{CallError, Client};
use tokio::time::{Instant, sleep};
use tracing::info;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub instance_id: String,
    pub instance_type: String,
    pub region: String,
    pub zone: String,
    pub account: String,
    pub address: Ipv4Addr,
    /// The first of the primary interface, if it has any.
    pub ipv6_address: Option<Ipv6Addr>,
    /// `amazonaws.com`
    pub domain: String,
    /// As many as the kernel shows: fewer than the type's where CPU options say so.
    pub cpus: u32,
    pub has_sys_resource: bool,
    pub has_apparmor: bool,
    pub has_crun: bool,
}

/// How long EC2 may take to name an instance: upstream's budget.
const NAME_BUDGET: Duration = Duration::from_secs(600);
const NAME_PAUSE: Duration = Duration::from_secs(2);

/// The instance's name could not be learned.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    #[error("failed to describe instance `{id}`")]
    Describe {
        id: String,
        #[source]
        source: CallError,
    },
    #[error("EC2 knows no instance `{id}`")]
    Unknown { id: String },
    #[error("EC2 gave instance `{id}` no private DNS name within {NAME_BUDGET:?}")]
    Nameless { id: String },
}

/// Asks the metadata service.
pub(crate) async fn from_imds(imds: &ImdsClient) -> Result<Facts, FetchError> {
    let document = imds.identity_document().await?;
    let address = imds.required(api_imds::paths::LOCAL_IPV4).await?;
    let content = |error: std::net::AddrParseError| FetchError::Content {
        path: api_imds::paths::LOCAL_IPV4.to_owned(),
        source: error.into(),
    };
    let ipv6 = imds.text(api_imds::paths::IPV6).await?;
    Ok(Facts {
        instance_id: document.instance_id,
        instance_type: document.instance_type,
        region: document.region,
        zone: document.availability_zone,
        account: document.account_id,
        address: address.trim().parse().map_err(content)?,
        ipv6_address: ipv6.and_then(|it| it.trim().parse().ok()),
        domain: imds.required(api_imds::paths::DOMAIN).await?,
        cpus: cpus(),
        has_sys_resource: linux_process::has_sys_resource(),
        has_apparmor: std::path::Path::new("/sys/kernel/security/apparmor").exists(),
        has_crun: std::path::Path::new("/usr/bin/crun").exists(),
    })
}

fn cpus() -> u32 {
    let shown = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = shown.lines().filter(|it| it.starts_with("processor")).count();
    u32::try_from(count).unwrap_or(1).max(1)
}

/// The private DNS name, which is the node's name. EC2 may need a moment to give one.
pub(crate) async fn private_dns_name(client: &Client, id: &str) -> Result<String, NameError> {
    let deadline = Instant::now() + NAME_BUDGET;
    loop {
        let request = DescribeInstancesRequest {
            instance_ids: vec![id.to_owned()],
            ..DescribeInstancesRequest::default()
        };
        let found = client.call::<DescribeInstances>(request).await;
        let found = found.map_err(|source| NameError::Describe { id: id.to_owned(), source })?;
        let mut instances = found.reservations.into_iter().flat_map(|it| it.instances);
        let instance = instances.next().ok_or_else(|| NameError::Unknown { id: id.to_owned() })?;
        if let Some(name) = instance.private_dns_name.filter(|it| !it.is_empty()) {
            return Ok(name);
        }
        if Instant::now() >= deadline {
            return Err(NameError::Nameless { id: id.to_owned() });
        }
        info!(id, "EC2 has not named this instance yet");
        sleep(NAME_PAUSE).await;
    }
}
