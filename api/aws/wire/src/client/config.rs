//! Where the endpoints are and which credentials to use, from the variables that all AWS tools
//! read.

use std::{collections::BTreeMap, io, path::Path, sync::Arc, time::Duration};

use clock::Clock;
use transport::Place;

use super::{Client, Config, Exchange};
use crate::{
    credentials::{self, Cached, ContainerEndpoint, InstanceRole, Provider, WebIdentity},
    service::{self, Service},
};

const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const LIMIT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 5;

/// Where services are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// `AWS_ENDPOINT_URL`
    pub all: Option<String>,
    /// `AWS_ENDPOINT_URL_<SERVICE>`, by signing name.
    pub by_service: BTreeMap<String, String>,
}

impl Endpoints {
    /// One endpoint for all services.
    pub fn single(url: impl Into<String>) -> Self {
        Self { all: Some(url.into()), by_service: BTreeMap::new() }
    }

    /// As the environment says.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|it| !it.is_empty());
        let mut by_service = BTreeMap::new();
        for (service, name) in [
            ("ec2", "EC2"),
            ("iam", "IAM"),
            ("sts", "STS"),
            ("autoscaling", "AUTO_SCALING"),
            ("eks", "EKS"),
            ("eks-auth", "EKS_AUTH"),
            ("ssm", "SSM"),
            ("ecr", "ECR"),
        ] {
            if let Some(url) = given(&format!("AWS_ENDPOINT_URL_{name}")) {
                by_service.insert(service.to_owned(), url);
            }
        }
        Self { all: given("AWS_ENDPOINT_URL"), by_service }
    }

    /// The URL of `service` in `region`.
    pub fn url(&self, service: &Service, region: &str) -> String {
        match self.by_service.get(service.name).or(self.all.as_ref()) {
            Some(url) => url.clone(),
            None => format!("https://{}", service.host_in(region)),
        }
    }
}

/// Why the environment does not make a client.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read the certificate bundle `{path}`")]
    Bundle {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// A client as the environment says: region, endpoints, certificate bundle, and the first
/// credentials of: access key, web identity, container endpoint, instance role.
pub fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
    region: Option<&str>,
    clock: Clock,
) -> Result<Client, ConfigError> {
    let given = |name: &str| variable(name).filter(|it| !it.is_empty());
    let region = region
        .map(str::to_owned)
        .or_else(|| given("AWS_REGION"))
        .or_else(|| given("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| "us-east-1".to_owned());
    let exchange = exchange(given("AWS_CA_BUNDLE").as_deref())?;
    let endpoints = Endpoints::from_environment(given);
    let credentials = Some(provider(&given, &exchange, &endpoints, &region, clock));
    let config = Config { region, endpoints, exchange, credentials, clock, attempts: ATTEMPTS };
    Ok(Client::new(config))
}

/// A machine without certificates can still use plain endpoints.
fn exchange(bundle: Option<&str>) -> Result<Exchange, ConfigError> {
    let path = match bundle {
        Some(path) => path,
        None if Path::new(SYSTEM_BUNDLE).exists() => SYSTEM_BUNDLE,
        None => return Ok(Exchange::http(Place::Here, None, LIMIT)),
    };
    let failed = |source| ConfigError::Bundle { path: path.to_owned(), source };
    let pem = std::fs::read_to_string(path).map_err(failed)?;
    let tls = transport::tls::client(&pem, None).map_err(failed)?;
    Ok(Exchange::http(Place::Here, Some(tls), LIMIT))
}

fn provider(
    given: &impl Fn(&str) -> Option<String>,
    exchange: &Exchange,
    endpoints: &Endpoints,
    region: &str,
    clock: Clock,
) -> Provider {
    if let Ok(credentials) = credentials::from_environment(given) {
        return Arc::new(credentials);
    }
    let sts = service::find("sts");
    if let (Some(role_arn), Some(token_file), Some(sts)) =
        (given("AWS_ROLE_ARN"), given("AWS_WEB_IDENTITY_TOKEN_FILE"), sts)
    {
        let identity = WebIdentity {
            endpoint: endpoints.url(sts, region),
            exchange: exchange.clone(),
            role_arn,
            token_file: token_file.into(),
            session_name: given("AWS_ROLE_SESSION_NAME")
                .unwrap_or_else(|| format!("nodestead-{}", entropy::hex(8))),
        };
        return Arc::new(Cached::new(identity, clock));
    }
    if let Some(uri) = given("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let token_file = given("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(Into::into);
        return Arc::new(Cached::new(ContainerEndpoint::new(uri, token_file), clock));
    }
    let role = match given("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        Some(endpoint) => InstanceRole::at(&endpoint),
        None => InstanceRole::new(),
    };
    Arc::new(Cached::new(role, clock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_own_endpoint_wins() {
        let endpoints = Endpoints::from_environment(|name| match name {
            "AWS_ENDPOINT_URL" => Some("http://all".to_owned()),
            "AWS_ENDPOINT_URL_STS" => Some("http://sts".to_owned()),
            _ => None,
        });
        let url = |name| endpoints.url(service::find(name).unwrap(), "us-east-1");
        assert_eq!((url("sts"), url("ec2")), ("http://sts".to_owned(), "http://all".to_owned()));
        let default = Endpoints::default();
        let ecr = service::find("ecr").unwrap();
        assert_eq!(default.url(ecr, "eu-west-1"), "https://api.ecr.eu-west-1.amazonaws.com");
    }
}
