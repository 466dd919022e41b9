//! Kubeconfig files.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use transport::tls::Identity;

use crate::PkiError;

/// One cluster, one user, one context.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// The name of the cluster, its user and its context.
    pub name: String,
    /// `https://host:port`.
    pub server: String,
    pub ca_pem: String,
    /// The name to verify in the server's certificate, where it is not the URL's host.
    pub tls_server_name: Option<String>,
    pub credentials: Credentials,
}

/// How the user proves who it is.
#[derive(Clone, Debug)]
pub enum Credentials {
    Certificate(Identity),
    Token(String),
    /// An exec plugin that speaks `client.authentication.k8s.io/v1beta1`.
    Exec {
        command: String,
        args: Vec<String>,
        env: Vec<(String, String)>,
    },
}

impl Kubeconfig {
    /// Renders as YAML.
    pub fn render(&self) -> Result<String, PkiError> {
        serde_saphyr::to_string(&self.value())
            .map_err(|error| PkiError::Kubeconfig { reason: error.to_string() })
    }

    fn value(&self) -> Value {
        let mut cluster = json!({
            "server": self.server,
            "certificate-authority-data": STANDARD.encode(&self.ca_pem),
        });
        if let Some(name) = &self.tls_server_name {
            cluster["tls-server-name"] = json!(name);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "preferences": {},
            "clusters": [{"name": self.name, "cluster": cluster}],
            "users": [{"name": self.name, "user": self.credentials.value()}],
            "contexts": [{
                "name": self.name,
                "context": {"cluster": self.name, "user": self.name},
            }],
            "current-context": self.name,
        })
    }
}

impl Credentials {
    fn value(&self) -> Value {
        match self {
            Self::Certificate(identity) => json!({
                "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
                "client-key-data": STANDARD.encode(&identity.key_pem),
            }),
            Self::Token(token) => json!({"token": token}),
            Self::Exec { command, args, env } => {
                let env: Vec<Value> =
                    env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
                json!({"exec": {
                    "apiVersion": "client.authentication.k8s.io/v1beta1",
                    "command": command,
                    "args": args,
                    "env": env,
                    "interactiveMode": "Never",
                    "provideClusterInfo": false,
                }})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_reads_back_as_it_was_meant() {
        let config = Kubeconfig {
            name: "stead".into(),
            server: "https://127.0.0.1:6443".into(),
            ca_pem: "PEM\n".into(),
            tls_server_name: None,
            credentials: Credentials::Exec {
                command: "aws".into(),
                args: vec!["eks".into(), "get-token".into(), "--cluster-name: x".into()],
                env: vec![("AWS_REGION".into(), "us-east-1".into())],
            },
        };
        let read: Value = serde_saphyr::from_str(&config.render().unwrap()).unwrap();
        assert_eq!(read, config.value());
    }
}
