//! What IMDS says about this instance and its interfaces.
//!
//! Only the paths that upstream reads. A leaf that is missing is a normal "none": an interface
//! without prefixes has no such leaf.

use std::{collections::BTreeSet, net::Ipv4Addr, str::FromStr};

use api_imds::{
    FetchError, ImdsClient,
    paths::{self, interface, of_interface},
};
use ipnet::{Ipv4Net, Ipv6Net};
use transport::Place;

use crate::datastore::AttachedEni;

/// What this instance is told about itself.
#[derive(Clone, Debug)]
pub struct Metadata(ImdsClient);

/// Who this instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub instance_id: String,
    pub instance_type: String,
    pub availability_zone: String,
    pub mac: String,
    pub local_ipv4: Ipv4Addr,
}

/// Why IMDS gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("failed to ask the instance metadata service for `{path}`")]
    Fetch {
        path: String,
        #[source]
        source: FetchError,
    },
    #[error("the instance metadata service has no `{path}`")]
    Missing { path: String },
    #[error("the instance metadata service's `{path}` is `{value}`")]
    Wrong { path: String, value: String },
}

impl MetadataError {
    /// Whether nobody answered at all, as may be just after boot.
    pub fn is_unreachable(&self) -> bool {
        let Self::Fetch { source, .. } = self else { return false };
        matches!(source, FetchError::Token { .. } | FetchError::Send { .. })
    }
}

impl Metadata {
    /// IMDS at `endpoint`, or at its well-known address.
    pub fn new(endpoint: Option<&str>) -> Self {
        Self(match endpoint {
            Some(endpoint) => ImdsClient::at(endpoint, Place::Here),
            None => ImdsClient::new(),
        })
    }

    pub async fn identity(&self) -> Result<Identity, MetadataError> {
        Ok(Identity {
            instance_id: self.text(paths::INSTANCE_ID).await?,
            instance_type: self.text(paths::INSTANCE_TYPE).await?,
            availability_zone: self.text(paths::AVAILABILITY_ZONE).await?,
            mac: self.text(paths::MAC).await?,
            local_ipv4: self.value(paths::LOCAL_IPV4).await?,
        })
    }

    /// All interfaces that are attached, by device number.
    pub async fn interfaces(&self) -> Result<Vec<AttachedEni>, MetadataError> {
        let macs = self.text(paths::MACS).await?;
        let mut enis = Vec::new();
        for mac in lines(&macs) {
            // One that is being detached may lose its leaves between two requests.
            match self.interface(mac).await {
                Ok(eni) => enis.push(eni),
                Err(MetadataError::Missing { path }) => {
                    tracing::debug!(mac, path, "an interface is described in part: left out");
                }
                Err(error) => return Err(error),
            }
        }
        enis.sort_by_key(|eni| eni.device_number);
        Ok(enis)
    }

    /// The VPC's CIDRs, the primary interface's view of them.
    pub async fn vpc_cidrs(&self, mac: &str) -> Result<Vec<Ipv4Net>, MetadataError> {
        self.values(&of_interface(mac, interface::VPC_CIDRS)).await
    }

    /// The IPv6 prefixes of an interface.
    pub async fn ipv6_prefixes(&self, mac: &str) -> Result<Vec<Ipv6Net>, MetadataError> {
        self.values(&of_interface(mac, interface::IPV6_PREFIX)).await
    }

    async fn interface(&self, mac: &str) -> Result<AttachedEni, MetadataError> {
        let leaf = |name: &str| of_interface(mac, name);
        let addresses: Vec<Ipv4Addr> = self.values(&leaf(interface::LOCAL_IPV4S)).await?;
        let Some(primary_address) = addresses.first().copied() else {
            return Err(MetadataError::Missing { path: leaf(interface::LOCAL_IPV4S) });
        };
        let prefixes: Vec<Ipv4Net> = self.values(&leaf(interface::IPV4_PREFIX)).await?;
        Ok(AttachedEni {
            id: self.text(&leaf(interface::INTERFACE_ID)).await?,
            mac: mac.to_owned(),
            device_number: self.value(&leaf(interface::DEVICE_NUMBER)).await?,
            primary_address,
            subnet_id: self.text(&leaf(interface::SUBNET_ID)).await?,
            subnet_cidr: self.value(&leaf(interface::SUBNET_CIDR)).await?,
            security_groups: self.values(&leaf(interface::SECURITY_GROUP_IDS)).await?,
            addresses: addresses.into_iter().collect::<BTreeSet<_>>(),
            prefixes: prefixes.into_iter().collect(),
            // IMDS does not say.
            is_trunk: false,
        })
    }

    async fn text(&self, path: &str) -> Result<String, MetadataError> {
        let found = self.find(path).await?;
        found.ok_or_else(|| MetadataError::Missing { path: path.to_owned() })
    }

    async fn value<T: FromStr>(&self, path: &str) -> Result<T, MetadataError> {
        parse(path, &self.text(path).await?)
    }

    /// The lines of a leaf; none where it is missing.
    async fn values<T: FromStr>(&self, path: &str) -> Result<Vec<T>, MetadataError> {
        let text = self.find(path).await?.unwrap_or_default();
        lines(&text).map(|line| parse(path, line)).collect()
    }

    async fn find(&self, path: &str) -> Result<Option<String>, MetadataError> {
        let failed = |source| MetadataError::Fetch { path: path.to_owned(), source };
        self.0.text(path).await.map_err(failed)
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.trim().trim_end_matches('/')).filter(|line| !line.is_empty())
}

fn parse<T: FromStr>(path: &str, value: &str) -> Result<T, MetadataError> {
    let value = value.trim();
    let wrong = |_| MetadataError::Wrong { path: path.to_owned(), value: value.to_owned() };
    value.parse().map_err(wrong)
}
