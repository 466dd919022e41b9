//! EKS Auth, as the agent asks it.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use aws_eks_auth::{
    AssumeRoleForPodIdentity, AssumeRoleForPodIdentityRequest, AssumeRoleForPodIdentityResponse,
};
use aws_wire::{
    CallError, Client,
    client::{Config, Endpoints, Exchange},
    credentials::{self, Cached, InstanceRole, Provider},
};
use clock::Clock;
use futures::future::BoxFuture;
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use transport::Place;

const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Upstream's limit for one attempt.
const LIMIT: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;

/// With these the token is no good any more, and what was given for it is dropped.
const FINAL: [&str; 4] = [
    "ResourceNotFoundException",
    "ExpiredTokenException",
    "InvalidTokenException",
    "AccessDeniedException",
];

/// What a pod is answered: the document of container credentials.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Issued {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub token: String,
    pub account_id: String,
    pub expiration: Timestamp,
}

/// Secrets stay out of logs.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Issued");
        out.field("access_key_id", &self.access_key_id).field("expiration", &self.expiration);
        out.finish_non_exhaustive()
    }
}

/// Why there are no credentials, as the pod is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub status: StatusCode,
    pub message: String,
    /// The token is no good any more.
    pub is_final: bool,
}

/// Gives credentials for a token.
pub trait Source: Send + Sync + 'static {
    fn issue<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, Refused>>;
}

/// See the module.
pub struct EksAuth {
    client: Client,
    cluster: String,
}

impl EksAuth {
    pub fn new(client: Client, cluster: &str) -> Self {
        Self { client, cluster: cluster.to_owned() }
    }

    async fn ask(&self, token: &str) -> Result<Issued, Refused> {
        let request = AssumeRoleForPodIdentityRequest {
            cluster_name: self.cluster.clone(),
            token: token.to_owned(),
            ..AssumeRoleForPodIdentityRequest::default()
        };
        let given = self.client.call::<AssumeRoleForPodIdentity>(request).await;
        issued(given.map_err(|error| refused(&error))?)
    }
}

impl Source for EksAuth {
    fn issue<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, Refused>> {
        Box::pin(self.ask(token))
    }
}

fn issued(given: AssumeRoleForPodIdentityResponse) -> Result<Issued, Refused> {
    let unreadable = || Refused {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: "EKS Auth gave credentials without a date of expiry".to_owned(),
        is_final: false,
    };
    let nanoseconds = given.credentials.expiration * 1e9;
    #[expect(clippy::cast_possible_truncation, reason = "a date, and checked as one")]
    let expiration = Timestamp::from_nanosecond(nanoseconds as i128).map_err(|_| unreadable())?;
    let account = given.assumed_role_user.arn.split(':').nth(4).unwrap_or_default().to_owned();
    Ok(Issued {
        access_key_id: given.credentials.access_key_id,
        secret_access_key: given.credentials.secret_access_key,
        token: given.credentials.session_token,
        account_id: account,
        expiration,
    })
}

/// EKS Auth's refusals go on to the pod as they are.
fn refused(error: &CallError) -> Refused {
    match error.fault() {
        Some(fault) => {
            let side = if fault.status.is_server_error() { "server" } else { "client" };
            Refused {
                status: fault.status,
                message: format!("({}): {}, fault: {side}", fault.code, fault.message),
                is_final: FINAL.contains(&&*fault.code),
            }
        }
        None => Refused {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: format!("failed to reach EKS Auth: {}", telemetry::chain(error)),
            is_final: false,
        },
    }
}

/// A client with the node's credentials: those of the environment, or of the instance's role.
pub fn client(
    variable: impl Fn(&str) -> Option<String>,
    region: &str,
    endpoint: Option<&str>,
    clock: Clock,
) -> io::Result<Client> {
    let given = |name: &str| variable(name).filter(|it| !it.is_empty());
    let bundle = given("AWS_CA_BUNDLE").unwrap_or_else(|| SYSTEM_BUNDLE.to_owned());
    let tls = match Path::new(&bundle).exists() {
        true => Some(transport::tls::client(&fs::read_to_string(bundle)?, None)?),
        false => None,
    };
    let mut endpoints = Endpoints::from_environment(given);
    if let Some(url) = endpoint {
        endpoints.by_service.insert("eks-auth".to_owned(), url.to_owned());
    }
    let credentials: Provider = match credentials::from_environment(given) {
        Ok(credentials) => Arc::new(credentials),
        Err(_) => Arc::new(Cached::new(
            match given("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
                Some(endpoint) => InstanceRole::at(&endpoint),
                None => InstanceRole::new(),
            },
            clock,
        )),
    };
    Ok(Client::new(Config {
        region: region.to_owned(),
        endpoints,
        exchange: Exchange::http(Place::Here, tls, LIMIT),
        credentials: Some(credentials),
        clock,
        attempts: ATTEMPTS,
    }))
}

#[cfg(test)]
mod tests {
    use aws_wire::Fault;

    use super::*;

    #[test]
    fn a_refusal_says_what_eks_auth_said() {
        let of = |code: &'static str, status| {
            let fault = Fault::new(code, "no").with_status(status);
            refused(&CallError::Service { service: "eks-auth", action: "A", fault })
        };
        let told = of("AccessDeniedException", StatusCode::BAD_REQUEST);
        assert_eq!(told.message, "(AccessDeniedException): no, fault: client");
        assert!(told.is_final);
        let told = of("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE);
        assert!(!told.is_final && told.message.ends_with("fault: server"), "{told:?}");
    }

    #[test]
    fn the_document_has_the_names_that_sdks_read() {
        let mut given = AssumeRoleForPodIdentityResponse::default();
        given.assumed_role_user.arn = "arn:aws:sts::111122223333:assumed-role/a/b".to_owned();
        given.credentials.expiration = 1_795_000_000.0;
        let issued = issued(given).unwrap();
        let text = serde_json::to_value(&issued).unwrap();
        assert_eq!(text["AccountId"], "111122223333");
        assert_eq!(text["Expiration"], "2026-11-18T11:06:40Z");
        for name in ["AccessKeyId", "SecretAccessKey", "Token"] {
            assert!(text[name].is_string(), "{name}");
        }
    }
}
