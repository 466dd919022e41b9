//! gRPC probes: `grpc.health.v1.Health/Check`.
//!
//! Upstream: `pkg/probe/grpc`.
//!
//! Deviation: a connection that is refused is told at once and as such;
//! upstream's client tries again until the time is over, and tells of the time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::uri::PathAndQuery;
use k8s_openapi::api::core::v1::GRPCAction;
use parking_lot::Mutex;
use tokio::{net::TcpStream, time::Instant};
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;
use transport::Place;

use super::attempt::{Answer, dial_error};
use crate::cri::code_name;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const PATH: &str = "/grpc.health.v1.Health/Check";

pub(super) async fn ask(action: &GRPCAction, ip: Option<IpAddr>, limit: Duration) -> Answer {
    let (Some(host), Ok(port)) = (ip, u16::try_from(action.port)) else {
        return Answer::Failed("the pod has no address".to_owned());
    };
    let (address, seconds) = (SocketAddr::new(host, port), limit.as_secs());
    let deadline = Instant::now() + limit;
    let stream = match Place::Here.connect(address, limit).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            return Answer::Bad(format!(
                "timeout: failed to connect service \"{address}\" within {seconds}s"
            ));
        }
        Err(error) => {
            let error = dial_error(address, &error);
            return Answer::Bad(format!(
                "error: failed to connect service at \"{address}\": {error}"
            ));
        }
    };
    let service = action.service.clone().unwrap_or_default();
    match tokio::time::timeout_at(deadline, check(stream, service)).await {
        Ok(Ok(SERVING)) => Answer::Good,
        Ok(Ok(status)) => {
            let name = match status {
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "UNKNOWN",
            };
            Answer::Bad(format!("service unhealthy (responded with \"{name}\")"))
        }
        Ok(Err(status)) if status.code() == Code::Unimplemented => Answer::Bad(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(_) => Answer::Bad(format!("timeout: health rpc did not complete within {seconds}s")),
        Ok(Err(status)) => {
            let (code, message) = (code_name(status.code()), status.message());
            Answer::Bad(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
            ))
        }
    }
}

/// Asks over this one connection.
async fn check(stream: TcpStream, service: String) -> Result<i32, Status> {
    let stream = Arc::new(Mutex::new(Some(stream)));
    let channel = api_cri::channel(move || {
        let stream = stream.lock().take();
        async move { stream.ok_or_else(|| std::io::ErrorKind::ConnectionReset.into()) }
    });
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = Request::new(HealthCheckRequest { service });
    let reply = client.unary(request, PathAndQuery::from_static(PATH), codec).await?;
    Ok(reply.into_inner().status)
}
