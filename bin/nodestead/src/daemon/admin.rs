//! The daemon's own interface on a Unix socket; see `crate::admin` for the client.

mod balancer;
mod path;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Context as _;
use clock::Clock;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use region_ec2::records::{Instance, InstanceState};
use region_ecr::ImportError;
use region_host::{Condition, Hosts};
use serde::Serialize;
use serde_json::json;
use tower::Service;
use transport::Body;

use super::{
    region::{ACCOUNT, REGION, Region},
    snapshots::{self, Imported},
    world::{self, Names},
};
use crate::{
    admin::{ClusterStatus, DaemonStatus, InstanceStatus, LoadBalancerStatus, SubnetUsage},
    commands::interrupt::{End, Interruption},
    layout::Layout,
};

/// Before a subnet's id: how many of its addresses were taken lately.
const USAGE: &str = "/v1/subnet-usage/";

/// What the daemon tells of itself.
pub(crate) struct Admin {
    pub(crate) clock: Clock,
    pub(crate) layout: Layout,
    pub(crate) region: Region,
    pub(crate) hosts: Hosts,
    pub(crate) names: Names,
    pub(crate) aws_endpoint: String,
    pub(crate) limits: Vec<String>,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AdminService(pub(crate) Arc<Admin>);

impl Service<Request<Incoming>> for AdminService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let admin = self.0.clone();
        Box::pin(async move { Ok(admin.answer(request).await) })
    }
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        match (method, path.as_str()) {
            (Method::GET, "/v1/status") => match self.status() {
                Ok(status) => answer(StatusCode::OK, &status),
                Err(error) => failed(&error),
            },
            (Method::GET, path) if path.starts_with(USAGE) => {
                let samples = self.region.ec2.usage(path.trim_start_matches(USAGE));
                let samples = samples.iter().map(|it| SubnetUsage { at: it.at, taken: it.taken });
                answer(StatusCode::OK, &samples.collect::<Vec<_>>())
            }
            (Method::GET, "/v1/path") => match path::answer(self, &query) {
                Ok(verdict) => answer(StatusCode::OK, &verdict),
                Err(error) => failed(&error),
            },
            (Method::GET, "/v1/load-balancer") => match balancer::answer(self, &query) {
                Ok(view) => answer(StatusCode::OK, &view),
                Err(error) => failed(&error),
            },
            (Method::POST, "/v1/images") => match self.load(request.into_body()).await {
                Ok(names) => answer(StatusCode::OK, &json!({"names": names})),
                Err(error) => failed(&error),
            },
            (Method::POST, "/v1/interruptions") => {
                match self.interrupt(request.into_body()).await {
                    Ok(ends) => answer(StatusCode::OK, &ends),
                    Err(error) => failed(&error),
                }
            }
            (Method::POST, "/v1/snapshots") => match self.import(request.into_body()).await {
                Ok(imported) => answer(StatusCode::OK, &imported),
                Err(error) => failed(&error),
            },
            _ => answer(StatusCode::NOT_FOUND, &json!({"error": format!("no `{path}`")})),
        }
    }

    /// An archive, from the body to a file and from there into the registry.
    async fn load(&self, mut body: Incoming) -> anyhow::Result<Vec<String>> {
        let file = tempfile::NamedTempFile::new()?;
        let mut writer = tokio::fs::File::from_std(file.reopen()?);
        while let Some(frame) = body.frame().await {
            if let Ok(chunk) = frame?.into_data() {
                tokio::io::AsyncWriteExt::write_all(&mut writer, &chunk).await?;
            }
        }
        tokio::io::AsyncWriteExt::flush(&mut writer).await?;
        let ecr = self.region.ecr.clone();
        let imported = tokio::task::spawn_blocking(move || {
            ecr.import_archive(file.reopen()?).map_err(anyhow::Error::from)
        });
        imported.await?
    }

    /// Spot Instances are taken away, as the market would.
    async fn interrupt(&self, body: Incoming) -> anyhow::Result<Vec<End>> {
        let body = transport::collect(body, 64 << 10).await?.context("the request is too long")?;
        let asked: Interruption =
            serde_json::from_slice(&body).context("the request cannot be read")?;
        let ends = self.region.ec2.interrupt(&asked.instances, asked.wait);
        let ends = ends.map_err(|fault| anyhow::anyhow!("{}", fault.message))?;
        Ok(ends.into_iter().map(|(instance, at)| End { instance, at }).collect())
    }

    /// A root file system, from its place on this machine.
    async fn import(&self, body: Incoming) -> anyhow::Result<Imported> {
        let body = transport::collect(body, 64 << 10).await?.context("the request is too long")?;
        let import = serde_json::from_slice(&body).context("the request cannot be read")?;
        snapshots::import(&self.layout, &self.region.ec2, import).await
    }

    fn status(&self) -> anyhow::Result<DaemonStatus> {
        let state = self.region.ec2.view();
        let (observed, now) = (self.hosts.observe()?, self.clock.now());
        let mut instances = Vec::new();
        for instance in state.instances.iter() {
            let primary = world::primary(&state, &instance.id);
            let address = primary.map(|it| it.primary_address);
            let found = observed.get(&instance.id).and_then(|it| it.as_ref().ok());
            let pid = found.and_then(|it| match it.condition {
                Condition::Running(identity) => Some(identity.pid),
                _ => None,
            });
            let node = address.map(|it| region_ec2::names::private_dns(REGION, it));
            instances.push(InstanceStatus {
                id: instance.id.clone(),
                state: instance.state.name().to_owned(),
                is_spot: instance.is_spot,
                status_check: instance.status_check(now).to_owned(),
                boot_id: pid.and_then(|_| self.hosts.boot_id(&instance.id)),
                booted_at: pid
                    .and_then(|_| self.hosts.booted_at(&instance.id))
                    .and_then(|it| it.try_into().ok()),
                instance_type: instance.instance_type.clone(),
                zone: instance.zone.clone(),
                private_ip: address.map(|it| it.to_string()).unwrap_or_default(),
                node_name: node.unwrap_or_default(),
                netns: self.names.instance(&instance.id),
                pid,
                folder: self.hosts.folder_of(&instance.id),
                usd_per_hour: usd_per_hour(instance),
            });
        }
        Ok(DaemonStatus {
            pid: std::process::id(),
            region: REGION.to_owned(),
            account: ACCOUNT.to_owned(),
            aws_endpoint: self.aws_endpoint.clone(),
            clusters: self.region.eks.clusters().iter().map(|it| cluster(it)).collect(),
            instances,
            load_balancers: self.load_balancers(),
            limits: self.limits.clone(),
        })
    }
}

impl Admin {
    fn load_balancers(&self) -> Vec<LoadBalancerStatus> {
        let service = &self.region.load_balancing;
        let status = |it: Arc<region_elasticloadbalancing::records::LoadBalancer>| {
            let found = service.balancers().status(&it.name);
            let endpoint =
                |port: &u16| Some(SocketAddr::from((it.host_address?, *port)).to_string());
            LoadBalancerStatus {
                name: it.name.clone(),
                service: it.tags.get("kubernetes.io/service-name").cloned(),
                dns_name: it.dns_name.clone(),
                scheme: if it.is_internal { "internal" } else { "internet-facing" }.to_owned(),
                host_endpoints: it.listeners.keys().filter_map(endpoint).collect(),
                instances: it.instances.len(),
                in_service: found.in_service,
                problems: found.problems,
            }
        };
        service.load_balancers().into_iter().map(status).collect()
    }
}

/// EC2 bills an instance while it runs.
fn usd_per_hour(instance: &Instance) -> Option<f64> {
    match instance.state {
        InstanceState::Running => instance_types::find(&instance.instance_type)?.price,
        _ => Some(0.0),
    }
}

fn cluster(cluster: &region_eks::Cluster) -> ClusterStatus {
    ClusterStatus {
        name: cluster.name.clone(),
        status: cluster.status.name().to_owned(),
        endpoint: cluster.host_endpoint.clone().unwrap_or_default(),
    }
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(transport::full(bytes));
    *response.status_mut() = status;
    response
}

fn failed(error: &anyhow::Error) -> Response<Body> {
    let mut response = Response::new(transport::full(format!("{error:#}")));
    *response.status_mut() = status_of(error);
    response
}

/// Whether who asks can mend it.
fn status_of(error: &anyhow::Error) -> StatusCode {
    let of_archive = error.downcast_ref::<ImportError>();
    if of_archive.is_none_or(ImportError::is_of_archive) {
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    tracing::error!(error = format!("{error:#}"), "failed to take in an archive");
    StatusCode::INTERNAL_SERVER_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_fails_is_not_the_fault_of_who_asks() {
        let failed = ImportError::Read { source: std::io::Error::from_raw_os_error(5) };
        assert_eq!(status_of(&failed.into()), StatusCode::INTERNAL_SERVER_ERROR);
        let bad = ImportError::NotAnArchive;
        assert_eq!(status_of(&bad.into()), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(status_of(&anyhow::anyhow!("x")), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn an_instance_costs_something_while_it_runs() {
        let of = |state: InstanceState, instance_type: &str| {
            let instance_type = instance_type.to_owned();
            usd_per_hour(&Instance { state, instance_type, ..Instance::default() })
        };
        assert!(of(InstanceState::Running, "m5.large").is_some_and(|it| it > 0.0));
        for free in [InstanceState::Pending, InstanceState::Stopping, InstanceState::Stopped] {
            assert_eq!(of(free, "m5.large"), Some(0.0));
        }
        assert_eq!(of(InstanceState::Running, "unknown.large"), None);
    }
}
