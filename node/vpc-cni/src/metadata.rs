//! What IMDS says about this instance and its interfaces.
//!
//! Only the paths that upstream reads. A leaf that is missing is a normal "none": an interface
//! without prefixes has no such leaf.

use std::{collections::BTreeSet, net::Ipv4Addr, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use ipnet::Ipv4Net;
use parking_lot::Mutex;
use transport::{BoxError, HttpClient, Place};

use crate::datastore::AttachedEni;

const ENDPOINT: &str = "http://169.254.169.254";
const LIMIT: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 64 * 1024;

/// An IMDSv2 client with its session.
#[derive(Debug)]
pub struct Metadata {
    endpoint: String,
    http: HttpClient,
    token: Mutex<Option<String>>,
}

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
    Send {
        path: String,
        #[source]
        source: BoxError,
    },
    #[error("the instance metadata service answered {status} to `{path}`")]
    Status { path: String, status: StatusCode },
    #[error("the instance metadata service has no `{path}`")]
    Missing { path: String },
    #[error("the instance metadata service's `{path}` is `{value}`")]
    Wrong { path: String, value: String },
}

impl Metadata {
    /// IMDS at `endpoint`, or at its well-known address.
    pub fn new(endpoint: Option<&str>) -> Self {
        Self {
            endpoint: endpoint.unwrap_or(ENDPOINT).trim_end_matches('/').to_owned(),
            http: HttpClient::new(Place::Here, None, LIMIT),
            token: Mutex::new(None),
        }
    }

    pub async fn identity(&self) -> Result<Identity, MetadataError> {
        Ok(Identity {
            instance_id: self.text("instance-id").await?,
            instance_type: self.text("instance-type").await?,
            availability_zone: self.text("placement/availability-zone").await?,
            mac: self.text("mac").await?,
            local_ipv4: self.value("local-ipv4").await?,
        })
    }

    /// All interfaces that are attached, by device number.
    pub async fn interfaces(&self) -> Result<Vec<AttachedEni>, MetadataError> {
        let macs = self.text("network/interfaces/macs/").await?;
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
        self.values(&format!("network/interfaces/macs/{mac}/vpc-ipv4-cidr-blocks")).await
    }

    async fn interface(&self, mac: &str) -> Result<AttachedEni, MetadataError> {
        let leaf = |name: &str| format!("network/interfaces/macs/{mac}/{name}");
        let addresses: Vec<Ipv4Addr> = self.values(&leaf("local-ipv4s")).await?;
        let Some(primary_address) = addresses.first().copied() else {
            return Err(MetadataError::Missing { path: leaf("local-ipv4s") });
        };
        let prefixes: Vec<Ipv4Net> = self.values(&leaf("ipv4-prefix")).await?;
        Ok(AttachedEni {
            id: self.text(&leaf("interface-id")).await?,
            mac: mac.to_owned(),
            device_number: self.value(&leaf("device-number")).await?,
            primary_address,
            subnet_id: self.text(&leaf("subnet-id")).await?,
            subnet_cidr: self.value(&leaf("subnet-ipv4-cidr-block")).await?,
            security_groups: self.values(&leaf("security-group-ids")).await?,
            addresses: addresses.into_iter().collect::<BTreeSet<_>>(),
            prefixes: prefixes.into_iter().collect(),
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
        let mut is_fresh = false;
        loop {
            let known = self.token.lock().clone();
            let token = match known {
                Some(token) => token,
                None => {
                    is_fresh = true;
                    self.new_token().await?
                }
            };
            let url = format!("{}/latest/meta-data/{path}", self.endpoint);
            let request = Request::get(url).header("x-aws-ec2-metadata-token", token);
            let response = self.send(path, request).await?;
            match response.status() {
                StatusCode::OK => {
                    return Ok(Some(String::from_utf8_lossy(response.body()).into_owned()));
                }
                StatusCode::NOT_FOUND => return Ok(None),
                // The session ended; a new one gets the answer.
                StatusCode::UNAUTHORIZED if !is_fresh => *self.token.lock() = None,
                status => return Err(MetadataError::Status { path: path.to_owned(), status }),
            }
        }
    }

    async fn new_token(&self) -> Result<String, MetadataError> {
        let path = "api/token";
        let request = Request::put(format!("{}/latest/{path}", self.endpoint))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
        let response = self.send(path, request).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(MetadataError::Status { path: path.to_owned(), status });
        }
        let token = String::from_utf8_lossy(response.body()).into_owned();
        *self.token.lock() = Some(token.clone());
        Ok(token)
    }

    async fn send(
        &self,
        path: &str,
        request: http::request::Builder,
    ) -> Result<Response<Bytes>, MetadataError> {
        let failed = |source: BoxError| MetadataError::Send { path: path.to_owned(), source };
        let request = request.body(transport::empty()).map_err(|it| failed(it.into()))?;
        self.http.fetch(request, MAX_BODY).await.map_err(failed)
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
