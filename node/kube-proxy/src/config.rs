//! `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`), as far as it has an effect here.

use std::{net::SocketAddr, path::Path};

use ipnet::IpNet;
use linux_nftables::Family;
use serde::Deserialize;

use crate::compile::Options;

/// The file's fields that are read. Others are upstream's business with other modes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub kind: String,
    pub client_connection: ClientConnection,
    /// May say anything: the mode is nftables. Deviation: `iptables` and `ipvs` are not obeyed.
    pub mode: String,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub hostname_override: String,
    pub node_port_addresses: Option<Vec<String>>,
    pub nftables: Nftables,
    pub iptables: Nftables,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nftables {
    pub masquerade_all: bool,
    pub masquerade_bit: Option<u32>,
}

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read `{path}`")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is not a KubeProxyConfiguration")]
    Format {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("`{field}`: `{value}` is not {wanted}")]
    Value { field: &'static str, value: String, wanted: &'static str },
}

impl Configuration {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: name.clone(), source })?;
        Self::parse(&text).map_err(|source| ConfigError::Format { path: name, source })
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let config: Self = serde_saphyr::from_str(text)?;
        if config.kind != "KubeProxyConfiguration" {
            return Err(format!("its kind is `{}`", config.kind).into());
        }
        Ok(config)
    }

    /// What shapes the rules of one family.
    pub fn options(&self, family: Family) -> Result<Options, ConfigError> {
        let settings = if self.mode == "iptables" { &self.iptables } else { &self.nftables };
        let bit = settings.masquerade_bit.unwrap_or(14);
        let masquerade_mark = 1u32.checked_shl(bit).ok_or_else(|| ConfigError::Value {
            field: "masqueradeBit",
            value: bit.to_string(),
            wanted: "below 32",
        })?;
        let cidrs = self.cluster_cidr.split(',').map(str::trim).filter(|it| !it.is_empty());
        let cidrs: Vec<IpNet> =
            cidrs.map(|it| cidr("clusterCIDR", it)).collect::<Result<_, _>>()?;
        let is_ipv4 = family == Family::Ip;
        let ports = self.node_port_addresses.as_deref().unwrap_or_default();
        // `primary` is the default; it means the node's own addresses.
        let ports = ports.iter().filter(|it| it.as_str() != "primary");
        Ok(Options {
            family,
            masquerade_mark,
            masquerade_all: settings.masquerade_all,
            cluster_cidr: cidrs.into_iter().find(|it| it.addr().is_ipv4() == is_ipv4),
            node_port_cidrs: ports
                .map(|it| cidr("nodePortAddresses", it))
                .collect::<Result<_, _>>()?,
        })
    }

    pub fn healthz(&self) -> Result<SocketAddr, ConfigError> {
        bind("healthzBindAddress", &self.healthz_bind_address, "0.0.0.0:10256")
    }

    pub fn metrics(&self) -> Result<SocketAddr, ConfigError> {
        bind("metricsBindAddress", &self.metrics_bind_address, "127.0.0.1:10249")
    }
}

fn cidr(field: &'static str, value: &str) -> Result<IpNet, ConfigError> {
    let wrong = |_| ConfigError::Value { field, value: value.to_owned(), wanted: "a CIDR" };
    value.parse().map_err(wrong)
}

/// An address without a port has the default's.
fn bind(field: &'static str, value: &str, default: &str) -> Result<SocketAddr, ConfigError> {
    let text = if value.is_empty() { default } else { value };
    let port = default.rsplit(':').next().unwrap_or_default();
    text.parse().or_else(|_| format!("{text}:{port}").parse()).map_err(|_| ConfigError::Value {
        field,
        value: value.to_owned(),
        wanted: "an address and port",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EKS: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
        kind: KubeProxyConfiguration\nbindAddress: 0.0.0.0\nclusterCIDR: \"\"\n\
        clientConnection:\n  kubeconfig: /var/lib/kube-proxy/kubeconfig\n\
        iptables:\n  masqueradeBit: 14\n  syncPeriod: 0s\nmode: nftables\n\
        metricsBindAddress: 0.0.0.0:10249\nnodePortAddresses: null\n";

    #[test]
    fn the_configuration_of_eks_is_read() {
        let config = Configuration::parse(EKS).unwrap();
        assert_eq!(config.client_connection.kubeconfig, "/var/lib/kube-proxy/kubeconfig");
        let options = config.options(Family::Ip).unwrap();
        assert_eq!((options.masquerade_mark, options.cluster_cidr), (0x4000, None));
        assert_eq!(config.metrics().unwrap().to_string(), "0.0.0.0:10249");
        assert_eq!(config.healthz().unwrap().to_string(), "0.0.0.0:10256");
    }

    #[test]
    fn wrong_values_are_named() {
        let config = Configuration { cluster_cidr: "here".into(), ..Configuration::default() };
        let error = config.options(Family::Ip).unwrap_err();
        assert_eq!(error.to_string(), "`clusterCIDR`: `here` is not a CIDR");
        assert!(Configuration::parse("kind: Pod\n").is_err());
    }
}
