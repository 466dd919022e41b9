//! The daemon's own interface, on a Unix socket in the data directory: what AWS and Kubernetes do
//! not offer (where things run on this machine, loading images, stopping).

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use region_vpc::{Step, Verdict, VpcSpec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::failure::Failure;

/// Where the region answers, and what runs on this machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DaemonStatus {
    pub(crate) pid: u32,
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) aws_endpoint: String,
    pub(crate) clusters: Vec<ClusterStatus>,
    pub(crate) instances: Vec<InstanceStatus>,
    #[serde(default)]
    pub(crate) load_balancers: Vec<LoadBalancerStatus>,
    /// What this machine could not give, in words.
    pub(crate) limits: Vec<String>,
}

impl DaemonStatus {
    /// By its id or its node's name.
    pub(crate) fn instance(&self, wanted: &str) -> Result<&InstanceStatus, Failure> {
        let found = self.named(wanted);
        found.ok_or_else(|| {
            let known: Vec<_> = self.instances.iter().map(|it| it.id.as_str()).collect();
            let next = match known.as_slice() {
                [] => "the region has no instances: see `nodestead status`".to_owned(),
                known => format!("use one of: {}", known.join(", ")),
            };
            Failure::new(format!("there is no instance `{wanted}`"), next)
        })
    }

    /// One that EC2 can take away.
    pub(crate) fn interruptible(&self, wanted: &str) -> Result<&InstanceStatus, Failure> {
        let what = match self.named(wanted) {
            Some(it) if it.is_interruptible() => return Ok(it),
            Some(it) if it.is_spot => format!("`{wanted}` is {}", it.state),
            Some(_) => format!("`{wanted}` is no Spot Instance"),
            None => format!("there is no instance `{wanted}`"),
        };
        let known = self.instances.iter().filter(|it| it.is_interruptible());
        let known: Vec<_> = known.map(|it| it.id.as_str()).collect();
        let next = match known.as_slice() {
            [] => "no Spot Instance runs: see `nodestead status`".to_owned(),
            known => format!("use one of: {}", known.join(", ")),
        };
        Err(Failure::new(what, next))
    }

    /// A name outlives its instance: of two that had it, that which is there.
    fn named(&self, wanted: &str) -> Option<&InstanceStatus> {
        let is_it = |it: &&InstanceStatus| it.id == wanted || it.node_name == wanted;
        let mut found = self.instances.iter().filter(is_it);
        let first = found.clone().next();
        found.find(|it| it.state != "terminated").or(first)
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterStatus {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) endpoint: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceStatus {
    pub(crate) id: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) is_spot: bool,
    /// Of a running one: `ok`, `initializing` while it boots again, `impaired` if it does not.
    pub(crate) status_check: String,
    /// Which boot runs, as the kernel of the instance says it.
    pub(crate) boot_id: Option<String>,
    /// When that boot began.
    pub(crate) booted_at: Option<Timestamp>,
    pub(crate) instance_type: String,
    pub(crate) zone: String,
    pub(crate) private_ip: String,
    pub(crate) node_name: String,
    pub(crate) netns: String,
    pub(crate) pid: Option<i32>,
    pub(crate) folder: PathBuf,
    /// What it costs on AWS as it is now, on demand, in US dollars per hour: a stopped one nothing.
    pub(crate) usd_per_hour: Option<f64>,
}

impl InstanceStatus {
    pub(crate) fn is_interruptible(&self) -> bool {
        self.is_spot && self.state == "running"
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadBalancerStatus {
    pub(crate) name: String,
    /// `NAMESPACE/NAME` of the Service that it was made for.
    pub(crate) service: Option<String>,
    pub(crate) dns_name: String,
    pub(crate) scheme: String,
    /// Where this machine's users reach it: `ADDRESS:PORT`, one for each listener.
    pub(crate) host_endpoints: Vec<String>,
    pub(crate) instances: usize,
    pub(crate) in_service: usize,
    /// Why it does not listen where it shall, in words.
    pub(crate) problems: Vec<String>,
}

/// A Service's load balancer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BalancerView {
    pub(crate) name: String,
    /// Each node sends to instances of all zones.
    pub(crate) is_cross_zone: bool,
    pub(crate) listeners: Vec<BalancerListener>,
    /// Its interfaces.
    pub(crate) nodes: Vec<BalancerNode>,
    pub(crate) members: Vec<BalancerMember>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BalancerListener {
    pub(crate) port: u16,
    pub(crate) protocol: String,
    pub(crate) instance_port: u16,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BalancerNode {
    pub(crate) address: Ipv4Addr,
    pub(crate) zone: String,
}

/// A registered instance that runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BalancerMember {
    pub(crate) instance: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) zone: String,
    pub(crate) is_in_service: bool,
}

/// How many addresses of a subnet were taken at a moment.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubnetUsage {
    pub(crate) at: Timestamp,
    pub(crate) taken: u32,
}

/// What a VPC's router does with a connection, by the values that its kernel has.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VpcVerdict {
    pub(crate) vpc: String,
    /// The address that it comes from.
    pub(crate) from: IpAddr,
    /// That which the interface has for itself: what leaves by it masqueraded comes from there.
    #[serde(default)]
    pub(crate) interface_address: Option<IpAddr>,
    /// What comes from elsewhere is translated.
    pub(crate) cidrs: Vec<ipnet::Ipv4Net>,
    pub(crate) is_allowed: bool,
    /// The packet arrives, and what answers it may not.
    pub(crate) arrives: bool,
    pub(crate) reason: String,
    pub(crate) steps: Vec<VpcStep>,
}

impl VpcVerdict {
    pub(crate) fn of(spec: &VpcSpec, from: IpAddr, verdict: &Verdict) -> Self {
        Self {
            vpc: spec.id.clone(),
            from,
            interface_address: spec.interface_address(from),
            cidrs: spec.cidrs.clone(),
            is_allowed: verdict.is_allowed,
            arrives: verdict.arrives,
            reason: verdict.reason.to_string(),
            steps: verdict.steps.iter().map(VpcStep::of).collect(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VpcStep {
    /// `source check`, `route`, `security group`, `network ACL`.
    pub(crate) hop: String,
    pub(crate) is_allowed: bool,
    pub(crate) detail: String,
}

impl VpcStep {
    fn of(step: &Step) -> Self {
        let (hop, is_allowed) = match step {
            Step::SourceCheck { .. } => ("source check", true),
            Step::Route { route, .. } => ("route", route.is_some()),
            Step::Egress { rule, .. } => ("security group egress", rule.is_some()),
            Step::Ingress { rule, .. } => ("security group ingress", rule.is_some()),
            Step::Acl { denied_by, .. } => ("network ACL", denied_by.is_none()),
        };
        Self { hop: hop.to_owned(), is_allowed, detail: step.to_string() }
    }
}

/// A client of the daemon. It dials for each request: the daemon may come and go.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    socket: PathBuf,
}

impl Admin {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Whether somebody listens: a daemon that works, or one that hangs.
    pub(crate) async fn is_listened_to(&self) -> anyhow::Result<bool> {
        match transport::unix_connect(&self.socket).await {
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(false),
                _ => Err(Failure::no_daemon(&self.socket, &error).into()),
            },
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.exchange(Method::GET, path, transport::empty()).await?;
        serde_json::from_slice(&answer).context("the daemon's answer is not what it should be")
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = transport::full(serde_json::to_vec(body)?);
        let answer = self.exchange(Method::POST, path, body).await?;
        serde_json::from_slice(&answer).context("the daemon's answer is not what it should be")
    }

    /// Sends a file's content in chunks.
    pub(crate) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        file: &Path,
    ) -> anyhow::Result<T> {
        let mut source = tokio::fs::File::open(file)
            .await
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let scope = lifecycle::Scope::new();
        let reading = scope.spawn("read", async move {
            use tokio::io::AsyncReadExt;
            loop {
                let mut chunk = vec![0; 256 * 1024];
                match source.read(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => {
                        chunk.truncate(read);
                        if sender.send(Bytes::from(chunk)).await.is_err() {
                            break;
                        }
                    }
                }
            }
        });
        let answer = self.exchange(Method::POST, path, transport::stream(receiver)).await;
        reading.abort();
        serde_json::from_slice(&answer?).context("the daemon's answer is not what it should be")
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: transport::Body,
    ) -> anyhow::Result<Bytes> {
        let stream = transport::unix_connect(&self.socket)
            .await
            .map_err(|error| anyhow::Error::new(Failure::no_daemon(&self.socket, &error)))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let scope = lifecycle::Scope::new();
        drop(scope.spawn("admin connection", connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "nodestead")
            .body(body)?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = transport::collect(body, 64 << 20).await?.context("the answer is too long")?;
        if head.status.is_server_error() {
            let what = format!("the daemon failed: {}", String::from_utf8_lossy(&body));
            return Err(Failure::new(what, "see `nodestead logs daemon`").into());
        }
        if head.status != StatusCode::OK {
            bail!("the daemon refused: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}
