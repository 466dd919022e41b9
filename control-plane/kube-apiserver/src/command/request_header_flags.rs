//! Upstream's `--requestheader-…` and `--proxy-client-…` flags: proxies in front, and this server as
//! one in front of those whose APIs it aggregates.

use std::{error::Error, path::PathBuf};

use pki::{Ca, Identity, Usage};

use super::{Made, read};
use crate::authn::RequestHeader;

/// As kubeadm and EKS name it.
const FRONT_PROXY: &str = "front-proxy-client";

#[derive(Clone, Debug, clap::Args)]
pub struct RequestHeaderFlags {
    /// Who signs the certificates of proxies that name their users in headers; made and kept in the
    /// data directory where neither this nor --proxy-client-cert-file is given
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of the proxies; all that the authority has signed without
    #[arg(long, value_delimiter = ',', requires = "requestheader_client_ca_file")]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Uid")]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// With which certificate aggregated servers know this one
    #[arg(long, requires = "proxy_client_key_file")]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[arg(long, requires = "proxy_client_cert_file")]
    pub proxy_client_key_file: Option<PathBuf>,
}

/// Whom this server believes, and who it is itself.
pub(super) type Fronts = (Option<RequestHeader>, Option<Identity>);

impl RequestHeaderFlags {
    /// `own` makes the authority of the data directory.
    pub(super) fn fronts(
        &self,
        made: &Made,
        own: impl FnOnce() -> Result<Ca, Box<dyn Error + Send + Sync>>,
    ) -> Result<Fronts, Box<dyn Error + Send + Sync>> {
        let identity = match (&self.proxy_client_cert_file, &self.proxy_client_key_file) {
            (Some(certificate), Some(key)) => {
                Some(Identity { certificate_pem: read(certificate)?, key_pem: read(key)? })
            }
            _ => None,
        };
        if identity.is_none() && self.requestheader_client_ca_file.is_none() {
            let ca = own()?;
            let identity = made.issue_by(&ca, FRONT_PROXY, "", &[], Usage::Client)?;
            let header = self.header(ca.certificate_pem().to_owned(), vec![FRONT_PROXY.to_owned()]);
            return Ok((Some(header), Some(identity)));
        }
        let pem = self.requestheader_client_ca_file.as_deref().map(read).transpose()?;
        let names = self.requestheader_allowed_names.clone();
        Ok((pem.map(|it| self.header(it, names)), identity))
    }

    fn header(&self, ca_pem: String, allowed_names: Vec<String>) -> RequestHeader {
        RequestHeader {
            ca_pem,
            allowed_names,
            username_headers: self.requestheader_username_headers.clone(),
            uid_headers: self.requestheader_uid_headers.clone(),
            group_headers: self.requestheader_group_headers.clone(),
            extra_headers_prefixes: self.requestheader_extra_headers_prefix.clone(),
        }
    }
}
